//! Compressed chunks of packs: zstd frames of 256 KiB, over the bytes or over their planes.
//!
//! Stored bytes (docs/format/containers.md): a byte with the width of an element (1 for encoding 1; 2 or
//! 4 for encoding 2), then a u32 with the compressed length of each frame, then the frames. Frame `i`
//! holds bytes `i * 256 KiB..` of the chunk; with planes, first byte 0 of every element, then byte 1, and
//! so on, and bytes left over at the end as they are. The chunk's hash is over plain bytes.

use std::ops::Range;

use crate::{
    limits::FRAME_BYTES,
    sidecar::{Encoding, stored_max},
};

/// zstd level: packs are written while a push waits.
const LEVEL: i32 = 1;

/// A chunk is stored encoded when that saves at least an eighth.
fn worth_it(stored: usize, plain: usize) -> bool {
    stored + plain / 8 <= plain
}

/// Encodes a chunk the way that makes its first frame smallest; none if nothing helps.
pub(crate) fn encode(plain: &[u8]) -> Option<(Encoding, Vec<u8>)> {
    let first = &plain[..plain.len().min(FRAME_BYTES as usize)];
    let sizes =
        [1u8, 2, 4].map(|width| (frame(first, width).map_or(usize::MAX, |f| f.len()), width));
    let (size, width) = sizes.into_iter().min().expect("three widths");
    if !worth_it(size, first.len()) {
        return None;
    }
    let mut frames = Vec::new();
    let mut out = vec![width];
    for bytes in plain.chunks(FRAME_BYTES as usize) {
        let frame = frame(bytes, width)?;
        out.extend_from_slice(&u32::try_from(frame.len()).ok()?.to_le_bytes());
        frames.extend_from_slice(&frame);
    }
    out.append(&mut frames);
    let fits = out.len() as u64 <= stored_max(u32::try_from(plain.len()).ok()?);
    let encoding = if width == 1 {
        Encoding::Zstd
    } else {
        Encoding::PlanesZstd
    };
    (fits && worth_it(out.len(), plain.len())).then_some((encoding, out))
}

fn frame(plain: &[u8], width: u8) -> Option<Vec<u8>> {
    let bytes = if width == 1 {
        plain.to_vec()
    } else {
        split(plain, width as usize)
    };
    zstd::bulk::compress(&bytes, LEVEL).ok()
}

/// Decodes a range of a chunk of `plain_len` bytes; takes the frames that it needs apart.
///
/// # Errors
/// What is wrong with the stored bytes.
pub(crate) fn decode(
    encoding: Encoding,
    stored: &[u8],
    plain_len: u32,
    range: Range<u32>,
) -> Result<Vec<u8>, &'static str> {
    let width = *stored.first().ok_or("an empty encoded chunk")?;
    let fits = match encoding {
        Encoding::Zstd => width == 1,
        Encoding::PlanesZstd => width == 2 || width == 4,
        Encoding::Plain => false,
    };
    if !fits {
        return Err("a width that does not belong to the encoding");
    }
    let count = plain_len.div_ceil(FRAME_BYTES) as usize;
    let (lengths, mut frames) = stored[1..]
        .split_at_checked(count * 4)
        .ok_or("fewer frames than the chunk has")?;
    let mut out = Vec::with_capacity(range.len());
    for (number, len) in lengths.chunks_exact(4).enumerate() {
        let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
        let (frame, rest) = frames.split_at_checked(len).ok_or("a frame is cut short")?;
        frames = rest;
        let number = u32::try_from(number).expect("at most as many frames as the chunk has");
        let start = number * FRAME_BYTES;
        let end = (start + FRAME_BYTES).min(plain_len);
        let wanted = range.start.max(start)..range.end.min(end);
        if wanted.start >= wanted.end {
            continue;
        }
        let plain_frame = (end - start) as usize;
        let bytes = zstd::bulk::decompress(frame, plain_frame).map_err(|_| "a frame is damaged")?;
        if bytes.len() != plain_frame {
            return Err("a frame of another length");
        }
        let plain = if width == 1 {
            bytes
        } else {
            join(&bytes, width as usize)
        };
        out.extend_from_slice(
            &plain[(wanted.start - start) as usize..(wanted.end - start) as usize],
        );
    }
    Ok(out)
}

/// Byte 0 of every element, then byte 1, ..., then what is left over.
fn split(bytes: &[u8], width: usize) -> Vec<u8> {
    let (whole, rest) = bytes.split_at(bytes.len() / width * width);
    let mut out = Vec::with_capacity(bytes.len());
    for plane in 0..width {
        out.extend(whole.iter().skip(plane).step_by(width));
    }
    out.extend_from_slice(rest);
    out
}

/// The inverse of [`split`].
fn join(bytes: &[u8], width: usize) -> Vec<u8> {
    let elements = bytes.len() / width;
    let mut out = vec![0; bytes.len()];
    for plane in 0..width {
        let from = &bytes[plane * elements..(plane + 1) * elements];
        for (to, byte) in out[plane..].iter_mut().step_by(width).zip(from) {
            *to = *byte;
        }
    }
    out[elements * width..].copy_from_slice(&bytes[elements * width..]);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use super::*;

    /// Like BF16 weights: the high byte repeats itself, the low one does not.
    fn weights(len: usize) -> Vec<u8> {
        let mut noise = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for at in (1..len).step_by(2) {
            noise[at] = 0x3c + noise[at] % 3;
        }
        noise
    }

    #[test]
    fn every_range_of_an_encoded_chunk_is_what_was_put_in() {
        for (plain, expected) in [
            (vec![7; 1_000_000], Encoding::Zstd),
            (weights(700_001), Encoding::PlanesZstd),
            (weights(262_144), Encoding::PlanesZstd),
        ] {
            let len = plain.len() as u32;
            let (encoding, stored) = encode(&plain).unwrap();
            assert_eq!(encoding, expected);
            assert!(stored.len() < plain.len() * 7 / 8);
            for range in [0..len, 0..1, len - 1..len, 262_143..len.min(262_145), 5..5] {
                let part = decode(encoding, &stored, len, range.clone()).unwrap();
                assert_eq!(
                    part,
                    plain[range.start as usize..range.end as usize],
                    "{range:?}"
                );
            }
        }
    }

    #[test]
    fn noise_stays_as_it_is() {
        let mut noise = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(encode(&noise).is_none());
        assert!(encode(&[]).is_none());
    }

    #[test]
    fn damaged_frames_are_errors_and_never_more_bytes_than_the_chunk_has() {
        let plain = weights(600_000);
        let (encoding, stored) = encode(&plain).unwrap();
        for at in (0..16).chain((16..stored.len()).step_by(40_001)) {
            let mut wrong = stored.clone();
            wrong[at] ^= 0x10;
            if let Ok(bytes) = decode(encoding, &wrong, 600_000, 0..600_000) {
                assert_eq!(bytes.len(), 600_000);
            }
        }
        for len in 0..100 {
            assert!(decode(encoding, &stored[..len], 600_000, 0..600_000).is_err());
        }
    }
}
