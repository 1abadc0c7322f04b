//! Reading shards, as clients upload them: which chunks of which xorbs files are made of.
//!
//! | rows of 48 bytes | what |
//! |---|---|
//! | head | 32 bytes of tag, version u64 = 2, bytes of the footer u64 |
//! | a file | hash 32, flags u32, count of segments `n` u32, 8 unused |
//! | `n` segments | xorb 32, flags u32, bytes u32, first chunk u32, one behind the last u32 |
//! | `n` if flag 31 | hashes of the segments, which are not needed where the whole is checked |
//! | 1 if flag 30 | SHA-256 of the file 32 (each eight bytes reversed), 16 unused |
//! | end of files | 32 bytes of 0xff, 16 unused |
//!
//! The list of xorbs and a footer may follow, and say nothing that is not computed from the xorbs themselves.
//! All numbers are little-endian.

use std::io::{self, Read};

use lode_node::upload::{Assembly, Piece};

use super::hash::XetHash;
use crate::limits::{SHARD_FILES_MAX, SHARD_SEGMENTS_MAX};

const ROW_BYTES: usize = 48;
const VERSION: u64 = 2;
const TAG: [u8; 32] = [
    b'H', b'F', b'R', b'e', b'p', b'o', b'M', b'e', b't', b'a', b'D', b'a', b't', b'a', 0, 85, 105,
    103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169,
];
const HAS_HASHES: u32 = 1 << 31;
const HAS_SHA256: u32 = 1 << 30;

/// Why bytes are not a shard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// They cannot be read, or break off.
    #[error("the shard breaks off: {0}")]
    Io(#[from] io::Error),
    /// They start otherwise.
    #[error("the bytes are not a shard of version {VERSION}")]
    NotAShard,
    /// It lists more than is taken.
    #[error("the shard lists more than {SHARD_FILES_MAX} files or {SHARD_SEGMENTS_MAX} segments")]
    TooLarge,
    /// A segment has no chunks.
    #[error("a segment of the shard ends before it starts")]
    Segment,
}

/// Reads the files of a shard.
///
/// Memory: 56 bytes a segment, at most [`SHARD_SEGMENTS_MAX`] of them.
///
/// # Errors
/// [`ShardError`].
pub fn read(source: &mut impl Read) -> Result<Vec<Assembly>, ShardError> {
    let head = row(source)?;
    if head[..32] != TAG || u64_at(&head, 32) != VERSION {
        return Err(ShardError::NotAShard);
    }
    let mut files = Vec::new();
    let mut segments = 0;
    loop {
        let file = row(source)?;
        if file[..32] == [0xff; 32] {
            return Ok(files);
        }
        let (flags, count) = (u32_at(&file, 32), u32_at(&file, 36) as usize);
        segments += count;
        if files.len() == SHARD_FILES_MAX || segments > SHARD_SEGMENTS_MAX {
            return Err(ShardError::TooLarge);
        }
        // Grows as rows come: the count is only what the client claims.
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push(piece(&row(source)?)?);
        }
        if flags & HAS_HASHES != 0 {
            for _ in 0..count {
                row(source)?;
            }
        }
        let sha256 = match flags & HAS_SHA256 != 0 {
            true => Some(hash_at(&row(source)?).in_text_order()),
            false => None,
        };
        files.push(Assembly { sha256, pieces });
    }
}

fn piece(row: &[u8; ROW_BYTES]) -> Result<Piece, ShardError> {
    let chunks = u32_at(row, 40)..u32_at(row, 44);
    if chunks.is_empty() {
        return Err(ShardError::Segment);
    }
    Ok(Piece {
        xorb: *hash_at(row).as_bytes(),
        chunks,
        len: u64::from(u32_at(row, 36)),
    })
}

fn row(source: &mut impl Read) -> Result<[u8; ROW_BYTES], io::Error> {
    let mut row = [0; ROW_BYTES];
    source.read_exact(&mut row)?;
    Ok(row)
}

fn hash_at(row: &[u8; ROW_BYTES]) -> XetHash {
    XetHash::from_bytes(*row.first_chunk().expect("a row is longer"))
}

fn u32_at(row: &[u8; ROW_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(*row[at..].first_chunk().expect("inside of a row"))
}

fn u64_at(row: &[u8; ROW_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(*row[at..].first_chunk().expect("inside of a row"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    /// A shard as clients write it.
    fn shard(files: &[Assembly]) -> Vec<u8> {
        let mut out = TAG.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        for file in files {
            let flags = HAS_HASHES | if file.sha256.is_some() { HAS_SHA256 } else { 0 };
            let count = u32::try_from(file.pieces.len()).unwrap();
            out.extend_from_slice(&[7; 32]);
            out.extend_from_slice(&flags.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            out.extend_from_slice(&[0; 8]);
            for piece in &file.pieces {
                out.extend_from_slice(&piece.xorb);
                let len = u32::try_from(piece.len).unwrap();
                for number in [0, len, piece.chunks.start, piece.chunks.end] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
            out.extend(std::iter::repeat_n(9, ROW_BYTES * file.pieces.len()));
            if let Some(sha256) = file.sha256 {
                out.extend_from_slice(&XetHash::from_bytes(sha256).in_text_order());
                out.extend_from_slice(&[0; 16]);
            }
        }
        out.extend_from_slice(&[0xff; 32]);
        out.extend_from_slice(&[0; 16]);
        out
    }

    fn file(pieces: u32) -> Assembly {
        let piece = |at: u32| Piece {
            xorb: [5; 32],
            chunks: at..at + 3,
            len: 70_000,
        };
        Assembly {
            sha256: Some(std::array::from_fn(|at| at as u8)),
            pieces: (0..pieces).map(piece).collect(),
        }
    }

    #[test]
    fn files_are_read_back() {
        let plain = Assembly {
            sha256: None,
            ..file(1)
        };
        let files = vec![file(2), plain, file(0)];
        let bytes = shard(&files);
        assert_eq!(read(&mut &bytes[..]).unwrap(), files);
        // What follows is not needed.
        let more = [&bytes[..], b"xorbs"].concat();
        assert_eq!(read(&mut &more[..]).unwrap(), files);
    }

    #[test]
    fn what_breaks_off_or_lies_is_refused() {
        let bytes = shard(&[file(2)]);
        for end in 0..bytes.len() {
            assert!(read(&mut &bytes[..end]).is_err(), "{end} bytes");
        }
        let mut other = bytes.clone();
        other[0] ^= 1;
        assert!(matches!(read(&mut &other[..]), Err(ShardError::NotAShard)));
        let mut backwards = file(1);
        backwards.pieces[0].chunks.end = 0;
        let backwards = shard(&[backwards]);
        assert!(matches!(
            read(&mut &backwards[..]),
            Err(ShardError::Segment)
        ));
        // A count that nothing follows takes no memory.
        let mut claims = bytes;
        claims[48 + 36..48 + 40].copy_from_slice(&(SHARD_SEGMENTS_MAX as u32).to_le_bytes());
        let refused = read(&mut &claims[..]);
        assert!(matches!(
            refused,
            Err(ShardError::Io(_) | ShardError::Segment)
        ));
        claims[48 + 36..48 + 40].copy_from_slice(&(SHARD_SEGMENTS_MAX as u32 + 1).to_le_bytes());
        assert!(matches!(read(&mut &claims[..]), Err(ShardError::TooLarge)));
    }

    #[test]
    fn more_files_than_a_shard_may_have_are_refused() {
        let mut files = vec![file(0); SHARD_FILES_MAX];
        assert!(read(&mut &shard(&files)[..]).is_ok());
        files.push(file(0));
        let more = shard(&files);
        assert!(matches!(read(&mut &more[..]), Err(ShardError::TooLarge)));
    }
}
