//! Where each byte of guest memory lies: in which layer, or nowhere because it is zero.
//!
//! ```text
//!   place      0        64 KiB      1 MiB                 8 MiB
//!   extents    │ layer 0 │  (none)   │ layer 0 │ layer 1 │ zero │ …        none: zero in every layer
//! ```
//!
//! The table of a diff is that of its parent with the changed pages laid over: restoring reads one table, however long the
//! chain. `Zero` is said outright where a page became zero above a layer that has other bytes there.
//!
//! In the state file an extent is 24 bytes, little-endian: place u64, length u64, layer u32 (0xffff_ffff: zero), u32 zero.

use crate::memory::PAGE;

/// Bytes of an extent in the state file.
const ENCODED: usize = 24;
const ZERO: u32 = u32::MAX;

/// Where the bytes of an extent are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this layer, at their place.
    Layer(u32),
    /// Nowhere: zeroes.
    Zero,
}

/// A run of pages with one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Place of the first byte.
    pub at: u64,
    /// Bytes.
    pub len: u64,
    /// Where they are.
    pub source: Source,
}

impl Extent {
    fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtentsError {
    /// The length is not that of a list of extents.
    #[error("the list of memory extents is cut short")]
    Length,
    /// An extent is empty, not made of whole pages, out of order or overlapping.
    #[error("the list of memory extents is damaged at entry {0}")]
    Entry(usize),
}

/// Extents in ascending order, without overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// All extents.
    pub fn as_slice(&self) -> &[Extent] {
        &self.0
    }

    /// Appends a run behind all others; joins it to the last one when it continues that.
    pub fn push(&mut self, extent: Extent) {
        if extent.len == 0 {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.end() == extent.at && last.source == extent.source => {
                last.len += extent.len;
            }
            _ => self.0.push(extent),
        }
    }

    /// This table with `over` laid over it.
    pub fn overlaid(&self, over: &Self) -> Self {
        let mut result = Self::default();
        let mut below = self.0.iter().copied().peekable();
        let mut rest: Option<Extent> = None;
        for above in &over.0 {
            // What lies before the upper extent stays, what lies under it goes, what sticks out behind it waits.
            while let Some(lower) = rest
                .take()
                .or_else(|| below.next_if(|e| e.at < above.end()))
            {
                if lower.at < above.at {
                    let end = lower.end().min(above.at);
                    result.push(Extent {
                        len: end - lower.at,
                        ..lower
                    });
                }
                if lower.end() > above.end() {
                    let at = lower.at.max(above.end());
                    let tail = Extent {
                        at,
                        len: lower.end() - at,
                        ..lower
                    };
                    rest = Some(tail);
                    break;
                }
            }
            result.push(*above);
        }
        rest.into_iter().chain(below).for_each(|e| result.push(e));
        result
    }

    /// Bytes whose source is `source`.
    pub fn bytes_in(&self, source: Source) -> u64 {
        let of = self.0.iter().filter(|extent| extent.source == source);
        of.map(|extent| extent.len).sum()
    }

    /// Whether all extents lie in `size` bytes of memory and in one of `layers` layers.
    pub fn fit(&self, size: u64, layers: usize) -> bool {
        let layer = |source| match source {
            Source::Zero => true,
            Source::Layer(layer) => usize::try_from(layer).is_ok_and(|layer| layer < layers),
        };
        self.0.last().is_none_or(|last| last.end() <= size)
            && self.0.iter().all(|extent| layer(extent.source))
    }

    /// The bytes for the state file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * ENCODED);
        for extent in &self.0 {
            let layer = match extent.source {
                Source::Layer(layer) => layer,
                Source::Zero => ZERO,
            };
            bytes.extend_from_slice(&extent.at.to_le_bytes());
            bytes.extend_from_slice(&extent.len.to_le_bytes());
            bytes.extend_from_slice(&layer.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes
    }

    /// Reads the bytes of the state file.
    ///
    /// # Errors
    /// See [`ExtentsError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ExtentsError> {
        if !bytes.len().is_multiple_of(ENCODED) {
            return Err(ExtentsError::Length);
        }
        let mut list: Vec<Extent> = Vec::with_capacity(bytes.len() / ENCODED);
        for (index, entry) in bytes.chunks_exact(ENCODED).enumerate() {
            let word =
                |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap_or_default());
            let (at, len, layer) = (word(0), word(8), word(16));
            let behind = list.last().map_or(0, Extent::end);
            let whole = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
            let layer = u32::try_from(layer).map_err(|_| ExtentsError::Entry(index))?;
            if !whole || at < behind || at.checked_add(len).is_none() {
                return Err(ExtentsError::Entry(index));
            }
            let source = match layer {
                ZERO => Source::Zero,
                layer => Source::Layer(layer),
            };
            list.push(Extent { at, len, source });
        }
        Ok(Self(list))
    }
}

impl FromIterator<Extent> for Extents {
    /// Of extents in ascending order.
    fn from_iter<I: IntoIterator<Item = Extent>>(extents: I) -> Self {
        let mut result = Self::default();
        extents.into_iter().for_each(|extent| result.push(extent));
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: usize = 40;

    /// One source per page; None is a hole.
    fn table(pages: &[Option<Source>]) -> Extents {
        let mut extents = Extents::default();
        for (page, source) in (0u64..).zip(pages) {
            if let Some(source) = *source {
                extents.push(Extent {
                    at: page * PAGE,
                    len: PAGE,
                    source,
                });
            }
        }
        extents
    }

    fn pages_of(extents: &Extents) -> Vec<Option<Source>> {
        let mut pages = vec![None; PAGES];
        for extent in extents.as_slice() {
            let page = |at: u64| usize::try_from(at / PAGE).unwrap();
            for page in &mut pages[page(extent.at)..page(extent.end())] {
                assert_eq!(*page, None, "no overlap");
                *page = Some(extent.source);
            }
        }
        pages
    }

    fn source() -> impl Strategy<Value = Option<Source>> {
        prop_oneof![
            Just(None),
            Just(Some(Source::Zero)),
            (0u32..3).prop_map(|layer| Some(Source::Layer(layer))),
        ]
    }

    fn any_pages() -> impl Strategy<Value = Vec<Option<Source>>> {
        prop::collection::vec(source(), PAGES)
    }

    proptest! {
        #[test]
        fn laying_over_is_page_by_page(chain in prop::collection::vec(any_pages(), 1..6)) {
            let mut model = vec![None; PAGES];
            let mut extents = Extents::default();
            for pages in &chain {
                extents = extents.overlaid(&table(pages));
                for (old, new) in model.iter_mut().zip(pages) {
                    *old = new.or(*old);
                }
                prop_assert_eq!(pages_of(&extents), model.clone());
            }
            prop_assert_eq!(&Extents::decode(&extents.encode()).unwrap(), &extents);
            prop_assert_eq!(table(&model), extents);
        }

        #[test]
        fn any_bytes_are_refused_or_in_order(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..240)) {
            if let Ok(extents) = Extents::decode(&bytes) {
                for pair in extents.as_slice().windows(2) {
                    prop_assert!(pair[0].end() <= pair[1].at);
                }
            }
        }
    }

    #[test]
    fn damage_is_named() {
        let extents = table(&[Some(Source::Layer(0)), None, Some(Source::Zero)]);
        let good = extents.encode();
        assert_eq!(Extents::decode(&good[1..]), Err(ExtentsError::Length));
        let refused = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Extents::decode(&bytes)
        };
        assert_eq!(refused(0, 1), Err(ExtentsError::Entry(0)));
        assert_eq!(refused(24 + 1, 0), Err(ExtentsError::Entry(1)), "overlap");
        assert!(extents.fit(3 * PAGE, 1));
        assert!(!extents.fit(2 * PAGE, 1), "beyond memory");
        assert!(!extents.fit(3 * PAGE, 0), "no such layer");
    }
}
