//! The first page of an overlay. All numbers are little-endian.
//!
//! ```text
//!   0   magic "SBXOVL\r\n"            32  map pages, u64
//!   8   version, u32 (1)              40  data offset, u64
//!   12  cluster size in bytes, u32    48  base size in bytes, u64
//!   16  disk size in bytes, u64       56  base sample, u32: CRC-32 of three pieces of the base
//!   24  map offset, u64 (4096)        60  CRC-32 of bytes 0 to 59
//!   64  zeroes to 4096
//! ```
//!
//! The geometry follows from disk size and cluster size alone; the offsets are there for a reader without this code, and
//! a header whose offsets do not agree is refused.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use super::map::{CLUSTERS_PER_PAGE, PAGE};

const MAGIC: [u8; 8] = *b"SBXOVL\r\n";
const VERSION: u32 = 1;
const MAP_OFFSET: u64 = PAGE as u64;
const CHECKED: usize = 60;
const SMALLEST_CLUSTER: u32 = 4 << 10;
const LARGEST_CLUSTER: u32 = 64 << 10;
/// Most pages of map: 4 MiB of memory.
const MAX_MAP_PAGES: u64 = 1024;
const DATA_ALIGN: u64 = 64 << 10;
/// Bytes of each piece of the base that goes into its sample.
const SAMPLE: u64 = 64 << 10;

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file is something else.
    #[error("it is not an overlay of ours: its magic bytes are missing")]
    Magic,
    /// It was written by another version of this code.
    #[error("it has format version {0}, but this program reads version {VERSION}")]
    Version(u32),
    /// The checksum is wrong.
    #[error("its header is damaged: the checksum does not match")]
    Checksum,
    /// The numbers contradict each other.
    #[error("its header is damaged: the geometry is impossible")]
    Geometry,
    /// The disk is larger than any overlay.
    #[error("a disk of {0} bytes is too large for an overlay")]
    TooLarge(u64),
}

/// What a base file is recognised by: its size and a checksum over its first, middle and last 64 KiB, which hold the
/// superblocks of every file system in use (with their UUIDs and dates). It tells files apart that were mixed up by
/// accident and survives a copy to another host; it is no protection against somebody who edits the base on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseIdentity {
    /// Size in bytes, cut down to whole sectors.
    pub size: u64,
    /// CRC-32 over the three pieces.
    pub sample: u32,
}

impl BaseIdentity {
    /// Takes the identity of `file`, which has `size` bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(file: &File, size: u64) -> std::io::Result<Self> {
        let piece = SAMPLE.min(size);
        let mut buf = vec![0; usize::try_from(piece).unwrap_or_default()];
        let mut crc = crc32fast::Hasher::new();
        for at in [0, (size - piece) / 2, size - piece] {
            file.read_exact_at(&mut buf, at)?;
            crc.update(&buf);
        }
        Ok(Self {
            size,
            sample: crc.finalize(),
        })
    }
}

/// The header's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    cluster_size: u32,
    /// Size of the disk in bytes.
    pub disk_size: u64,
    /// Where cluster 0 is, in bytes.
    pub data_offset: u64,
    /// What the base is recognised by.
    pub base: BaseIdentity,
}

impl Header {
    /// Chooses the geometry for a disk of `disk_size` bytes.
    ///
    /// # Errors
    /// When the disk is too large.
    pub fn for_disk(disk_size: u64, base: BaseIdentity) -> Result<Self, HeaderError> {
        let mut cluster_size = SMALLEST_CLUSTER;
        while map_pages(disk_size, cluster_size) > MAX_MAP_PAGES {
            if cluster_size == LARGEST_CLUSTER {
                return Err(HeaderError::TooLarge(disk_size));
            }
            cluster_size *= 2;
        }
        let map_end = MAP_OFFSET + map_pages(disk_size, cluster_size) * PAGE as u64;
        let data_offset = map_end.next_multiple_of(DATA_ALIGN);
        Ok(Self {
            cluster_size,
            disk_size,
            data_offset,
            base,
        })
    }

    /// Bytes in a cluster.
    pub fn cluster_size(&self) -> u64 {
        u64::from(self.cluster_size)
    }

    /// Clusters of the disk, the last one perhaps cut short.
    pub fn clusters(&self) -> u64 {
        self.disk_size.div_ceil(self.cluster_size())
    }

    /// Length of the whole file in bytes.
    pub fn file_size(&self) -> u64 {
        self.data_offset + self.clusters() * self.cluster_size()
    }

    /// Where page `index` of the map is, in bytes.
    pub fn map_page_offset(&self, index: usize) -> u64 {
        MAP_OFFSET + (index * PAGE) as u64
    }

    /// The first page of the file.
    pub fn encode(&self) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            page[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&self.cluster_size.to_le_bytes());
        put(&self.disk_size.to_le_bytes());
        put(&MAP_OFFSET.to_le_bytes());
        put(&map_pages(self.disk_size, self.cluster_size).to_le_bytes());
        put(&self.data_offset.to_le_bytes());
        put(&self.base.size.to_le_bytes());
        put(&self.base.sample.to_le_bytes());
        let crc = crc32fast::hash(&page[..CHECKED]);
        page[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads the first bytes of a file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(page: &[u8]) -> Result<Self, HeaderError> {
        if !page.starts_with(&MAGIC) {
            return Err(HeaderError::Magic);
        }
        let page: &[u8; PAGE] = page.try_into().map_err(|_| HeaderError::Geometry)?;
        let u32_at =
            |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap_or_default());
        let u64_at =
            |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap_or_default());
        if u32_at(8) != VERSION {
            return Err(HeaderError::Version(u32_at(8)));
        }
        if u32_at(CHECKED) != crc32fast::hash(&page[..CHECKED]) {
            return Err(HeaderError::Checksum);
        }
        let base = BaseIdentity {
            size: u64_at(48),
            sample: u32_at(56),
        };
        let header = Self::for_disk(u64_at(16), base).map_err(|_| HeaderError::Geometry)?;
        // The geometry has no freedom, so the only good page is the one this header would be written as.
        if header.disk_size == 0 || header.encode() != *page {
            return Err(HeaderError::Geometry);
        }
        Ok(header)
    }
}

fn map_pages(disk_size: u64, cluster_size: u32) -> u64 {
    disk_size
        .div_ceil(u64::from(cluster_size))
        .div_ceil(CLUSTERS_PER_PAGE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: BaseIdentity = BaseIdentity {
        size: 1 << 30,
        sample: 7,
    };

    #[test]
    fn a_ten_gib_disk_has_small_clusters_and_a_map_of_640_kib() {
        let header = Header::for_disk(10 << 30, BASE).unwrap();
        assert_eq!(header.cluster_size(), 4096);
        assert_eq!(header.clusters(), 2_621_440);
        assert_eq!(map_pages(10 << 30, 4096), 161);
        assert_eq!(header.data_offset, 704 << 10);
        assert_eq!(header.file_size(), (704 << 10) + (10 << 30));
    }

    #[test]
    fn clusters_grow_with_the_disk_until_it_is_too_large() {
        let cluster = |gib: u64| Header::for_disk(gib << 30, BASE).map(|h| h.cluster_size());
        assert_eq!(cluster(62), Ok(4 << 10));
        assert_eq!(cluster(64), Ok(8 << 10));
        assert_eq!(cluster(999), Ok(64 << 10));
        assert_eq!(cluster(1024), Err(HeaderError::TooLarge(1 << 40)));
        assert_eq!(
            Header::for_disk(u64::MAX, BASE),
            Err(HeaderError::TooLarge(u64::MAX))
        );
    }

    #[test]
    fn the_layout_is_pinned() {
        let page = Header::for_disk(1 << 20, BASE).unwrap().encode();
        assert_eq!(
            hex(&page[..64]),
            "5342584f564c0d0a 0100000000100000 0000100000000000 0010000000000000 \
             0100000000000000 0000010000000000 0000004000000000 07000000f6224013"
        );
        assert!(page[64..].iter().all(|&byte| byte == 0));
    }

    fn hex(bytes: &[u8]) -> String {
        let words: Vec<String> = bytes
            .chunks(8)
            .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        words.join(" ")
    }

    #[test]
    fn each_damage_has_its_sentence() {
        let good = Header::for_disk(1 << 20, BASE).unwrap().encode();
        let refused = |change: fn(&mut [u8])| {
            let mut page = good;
            change(&mut page);
            Header::decode(&page).unwrap_err()
        };
        assert_eq!(refused(|page| page[0] = b's'), HeaderError::Magic);
        assert_eq!(refused(|page| page[8] = 2), HeaderError::Version(2));
        assert_eq!(refused(|page| page[16] = 1), HeaderError::Checksum);
        assert_eq!(refused(|page| page[100] = 1), HeaderError::Geometry);
        assert_eq!(Header::decode(&good[..100]), Err(HeaderError::Geometry));
        assert_eq!(Header::decode(b""), Err(HeaderError::Magic));
    }

    #[test]
    fn impossible_geometry_with_a_good_checksum_is_refused() {
        for (at, value) in [(12, 512u32), (24, 0), (32, 9), (40, 4096)] {
            let mut page = Header::for_disk(1 << 20, BASE).unwrap().encode();
            page[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let crc = crc32fast::hash(&page[..CHECKED]);
            page[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Header::decode(&page), Err(HeaderError::Geometry));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(disk in 1..1u64 << 39, size: u64, sample: u32) {
            let header = Header::for_disk(disk, BaseIdentity { size, sample }).unwrap();
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn any_bytes_are_refused_or_read(mut page in prop::collection::vec(any::<u8>(), 0..5000)) {
            let _ = Header::decode(&page);
            if page.len() > 8 {
                page[..8].copy_from_slice(&MAGIC);
            }
            prop_assert!(Header::decode(&page).is_err());
        }
    }
}
