//! The uncompressed kernel inside a bzImage, which a PVH boot needs.
//!
//! ```text
//! bzImage:  setup sectors (512 × (setup_sects + 1) bytes) │ protected-mode code
//!           header 0x1f1 setup_sects · 0x202 "HdrS" · 0x206 version
//!                  0x248 payload_offset · 0x24c payload_length   (from protected-mode start)
//! payload:  compressed ELF │ its uncompressed size (4 bytes, little endian)
//! ```
//!
//! Source: Linux, `Documentation/arch/x86/boot.rst` (payload fields since protocol 2.08).

use anyhow::{Context, Result, bail, ensure};

/// What a payload is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// gzip, `1f 8b`.
    Gzip,
    /// xz, `fd 37 7a 58 5a 00`.
    Xz,
    /// zstd, `28 b5 2f fd`.
    Zstd,
}

/// A bzImage's payload, without the size that follows it.
///
/// # Errors
/// When `image` is no bzImage of protocol 2.08 or newer, its fields point outside of it, or
/// the packing is none of [`Packing`].
pub fn payload(image: &[u8]) -> Result<(Packing, &[u8])> {
    ensure!(
        image.get(0x202..0x206) == Some(b"HdrS"),
        "not a bzImage: no 'HdrS' at 0x202"
    );
    let version = u16::from_le_bytes(field(image, 0x206)?);
    ensure!(
        version >= 0x208,
        "boot protocol {version:#x} is older than 2.08"
    );
    let sectors = match image[0x1f1] {
        0 => 4, // The oldest images mean four.
        n => usize::from(n),
    };
    let offset = usize::try_from(u32::from_le_bytes(field(image, 0x248)?))?;
    let length = usize::try_from(u32::from_le_bytes(field(image, 0x24c)?))?;
    let start = (sectors + 1) * 512 + offset;
    let packed = image
        .get(start..start + length)
        .with_context(|| format!("payload {start:#x}+{length:#x} lies outside of the image"))?;
    let packing = match packed {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        _ => bail!("payload is packed with something other than gzip, xz or zstd"),
    };
    // gzip's own trailer is that size; the others have it appended.
    let end = if packing == Packing::Gzip {
        length
    } else {
        length - 4
    };
    Ok((packing, &packed[..end]))
}

fn field<const N: usize>(image: &[u8], at: usize) -> Result<[u8; N]> {
    image
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("the image ends before {at:#x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(offset: u32, length: u32, body: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(body);
        image
    }

    #[test]
    fn finds_a_zstd_payload() {
        let image = image(2, 9, b"xx\x28\xb5\x2f\xfd!\x01\0\0\0");
        assert_eq!(
            payload(&image).unwrap(),
            (Packing::Zstd, &b"\x28\xb5\x2f\xfd!"[..])
        );
    }

    #[test]
    fn a_field_that_points_outside_is_refused() {
        let error = payload(&image(2, 900, b"xx\x28\xb5\x2f\xfd"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "payload 0x402+0x384 lies outside of the image");
    }

    #[test]
    fn something_else_is_refused() {
        assert!(payload(b"\x7fELF").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = payload(&bytes);
            if bytes.len() > 0x208 {
                bytes[0x202..0x206].copy_from_slice(b"HdrS");
                bytes[0x207] = 2;
                bytes[0x206] = 0x0f;
                let _ = payload(&bytes);
            }
        }
    }
}
