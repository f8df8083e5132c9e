//! Which clusters an overlay holds: two bits each, kept as the pages that stand in the file.
//!
//! ```text
//!   page:  4,092 bytes of states, four clusters a byte, the lowest bits first │ CRC-32 of them
//!   state: 00 Base   01 Zero   10 Data   11 never written: damage
//! ```
//!
//! A page of zeroes alone, its checksum included, stands for Base throughout: a fresh map is a hole in the file, and in
//! memory untouched pages of a zeroed allocation, which cost nothing.

/// Bytes in a page of the map.
pub const PAGE: usize = 4096;
/// Clusters that a page speaks of.
pub const CLUSTERS_PER_PAGE: u64 = STATES as u64 * 4;
const STATES: usize = PAGE - 4;

/// Why a map is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The checksum of a page is wrong.
    #[error("page {0} of its map is damaged: the checksum does not match")]
    Checksum(usize),
    /// A state that is never written.
    #[error("page {0} of its map is damaged: it holds an impossible state")]
    State(usize),
}

/// Where the bytes of a cluster are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// In the base file.
    Base = 0,
    /// Nowhere: it reads as zeroes.
    Zero = 1,
    /// In the overlay.
    Data = 2,
}

/// The states of all clusters.
#[derive(Debug)]
pub struct Map {
    pages: Vec<u8>,
    dirty: Vec<bool>,
    data_clusters: u64,
    zero_clusters: u64,
    clusters: u64,
}

impl Map {
    /// A map of `clusters` clusters that are all in the base.
    pub fn new(clusters: u64) -> Self {
        let pages = usize::try_from(clusters.div_ceil(CLUSTERS_PER_PAGE)).unwrap_or(usize::MAX);
        Self {
            pages: vec![0; pages.saturating_mul(PAGE)],
            dirty: vec![false; pages],
            data_clusters: 0,
            zero_clusters: 0,
            clusters,
        }
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.dirty.len()
    }

    /// Whether all clusters are in the base.
    pub fn is_fresh(&self) -> bool {
        self.data_clusters == 0 && self.zero_clusters == 0
    }

    /// Clusters whose state is Data.
    pub fn data_clusters(&self) -> u64 {
        self.data_clusters
    }

    /// State of a cluster; one beyond the disk is in the base.
    pub fn get(&self, cluster: u64) -> State {
        let (byte, shift) = place(cluster);
        match self.pages.get(byte).map_or(0, |states| states >> shift & 3) {
            1 => State::Zero,
            2 => State::Data,
            // 3 is refused when a page is loaded and never set.
            _ => State::Base,
        }
    }

    /// Changes the state of a cluster.
    pub fn set(&mut self, cluster: u64, state: State) {
        let old = self.get(cluster);
        if old == state || cluster >= self.clusters {
            return;
        }
        let (byte, shift) = place(cluster);
        self.pages[byte] = self.pages[byte] & !(3 << shift) | (state as u8) << shift;
        self.dirty[byte / PAGE] = true;
        match old {
            State::Data => self.data_clusters -= 1,
            State::Zero => self.zero_clusters -= 1,
            State::Base => {}
        }
        match state {
            State::Data => self.data_clusters += 1,
            State::Zero => self.zero_clusters += 1,
            State::Base => {}
        }
    }

    /// State of `cluster`, and how many clusters from there on, at most `most`, share it.
    pub fn run(&self, cluster: u64, most: u64) -> (State, u64) {
        let state = self.get(cluster);
        let same = (1..most).take_while(|&next| self.get(cluster + next) == state);
        (state, 1 + same.count() as u64)
    }

    /// Takes over a page as it was read from the file.
    ///
    /// # Errors
    /// When the page is damaged.
    pub fn load_page(&mut self, index: usize, page: &[u8; PAGE]) -> Result<(), MapError> {
        if page.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        let (states, crc) = page.split_at(STATES);
        if crc32fast::hash(states).to_le_bytes() != *crc {
            return Err(MapError::Checksum(index));
        }
        let (mut data, mut zero) = (0, 0);
        for states in states {
            let (low, high) = (states & 0x55, states >> 1 & 0x55);
            if low & high != 0 {
                return Err(MapError::State(index));
            }
            data += u64::from(high.count_ones());
            zero += u64::from(low.count_ones());
        }
        let beyond = (index as u64 + 1) * CLUSTERS_PER_PAGE;
        self.pages[index * PAGE..(index + 1) * PAGE].copy_from_slice(page);
        if (self.clusters..beyond).any(|cluster| self.get(cluster) != State::Base) {
            return Err(MapError::State(index));
        }
        self.data_clusters += data;
        self.zero_clusters += zero;
        Ok(())
    }

    /// The next page at or after `from` that changed since it was last taken, with its checksum.
    pub fn next_dirty(&mut self, from: usize) -> Option<(usize, &[u8])> {
        let index = from + self.dirty.get(from..)?.iter().position(|&dirty| dirty)?;
        let page = &mut self.pages[index * PAGE..(index + 1) * PAGE];
        let crc = crc32fast::hash(&page[..STATES]);
        page[STATES..].copy_from_slice(&crc.to_le_bytes());
        Some((index, page))
    }

    /// Notes that page `index` is in the file as it is here.
    pub fn mark_clean(&mut self, index: usize) {
        self.dirty[index] = false;
    }
}

/// Byte in `Map::pages` and shift in it.
fn place(cluster: u64) -> (usize, u32) {
    let page = usize::try_from(cluster / CLUSTERS_PER_PAGE).unwrap_or(usize::MAX / PAGE / 2);
    let within = cluster % CLUSTERS_PER_PAGE;
    let byte = page * PAGE + usize::try_from(within / 4).unwrap_or_default();
    (byte, u32::try_from(within % 4).unwrap_or_default() * 2)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const CLUSTERS: u64 = CLUSTERS_PER_PAGE * 2 + 10;

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Base), Just(State::Zero), Just(State::Data)]
    }

    fn saved(map: &mut Map) -> Vec<(usize, [u8; PAGE])> {
        let mut pages = Vec::new();
        while let Some((index, page)) = map.next_dirty(0) {
            pages.push((index, page.try_into().unwrap()));
            map.mark_clean(index);
        }
        pages
    }

    #[test]
    fn runs_end_where_the_state_changes() {
        let mut map = Map::new(CLUSTERS);
        for cluster in CLUSTERS_PER_PAGE - 2..CLUSTERS_PER_PAGE + 3 {
            map.set(cluster, State::Data);
        }
        assert_eq!(map.run(0, u64::MAX), (State::Base, CLUSTERS_PER_PAGE - 2));
        assert_eq!(map.run(CLUSTERS_PER_PAGE - 2, 100), (State::Data, 5));
        assert_eq!(map.run(CLUSTERS_PER_PAGE - 1, 2), (State::Data, 2));
        assert_eq!(map.data_clusters(), 5);
    }

    #[test]
    fn damage_is_named() {
        let mut map = Map::new(CLUSTERS);
        map.set(5, State::Zero);
        let (_, good) = saved(&mut map)[0];

        let mut flipped = good;
        flipped[1] ^= 0x10;
        assert_eq!(
            Map::new(CLUSTERS).load_page(0, &flipped),
            Err(MapError::Checksum(0))
        );

        let mut impossible = good;
        impossible[7] = 0b0000_1100;
        let crc = crc32fast::hash(&impossible[..STATES]);
        impossible[STATES..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(
            Map::new(CLUSTERS).load_page(0, &impossible),
            Err(MapError::State(0))
        );

        assert_eq!(
            Map::new(5).load_page(0, &good),
            Err(MapError::State(0)),
            "beyond the disk"
        );
        assert_eq!(Map::new(6).load_page(0, &good), Ok(()));
    }

    #[test]
    fn a_fresh_map_has_nothing_to_save() {
        assert!(Map::new(CLUSTERS).next_dirty(0).is_none());
        assert!(Map::new(CLUSTERS).next_dirty(99).is_none());
    }

    #[test]
    fn clusters_beyond_the_disk_stay_in_the_base() {
        let mut map = Map::new(6);
        for cluster in [6, 100, CLUSTERS_PER_PAGE, u64::MAX] {
            map.set(cluster, State::Data);
            assert_eq!(map.get(cluster), State::Base);
        }
        assert_eq!(map.data_clusters(), 0);
    }

    proptest! {
        #[test]
        fn it_is_a_table_of_states_and_survives_the_file(
            changes in prop::collection::vec((0..CLUSTERS, states()), 0..200),
        ) {
            let mut map = Map::new(CLUSTERS);
            let mut model = HashMap::new();
            for &(cluster, state) in &changes {
                map.set(cluster, state);
                model.insert(cluster, state);
            }
            let mut loaded = Map::new(CLUSTERS);
            for (index, page) in saved(&mut map) {
                loaded.load_page(index, &page).unwrap();
            }
            prop_assert!(map.next_dirty(0).is_none());
            let data = model.values().filter(|&&state| state == State::Data).count() as u64;
            for map in [&map, &loaded] {
                prop_assert_eq!(map.data_clusters(), data);
                for (&cluster, &state) in &model {
                    prop_assert_eq!(map.get(cluster), state);
                }
            }
        }
    }
}
