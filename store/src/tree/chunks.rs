//! The chunks of a file: their hashes and lengths, in two documents that are sent like chunks.

use bytes::Bytes;

use super::TreeError;
use crate::ChunkHash;
use crate::limits::{CHUNK_BYTES_MAX, FILE_CHUNKS_MAX};
use crate::{ByteRange, ErrorKind};

/// What a file says about its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkListRef {
    /// The cut rule that made them. Readers trust the lengths, and do not need to know the rule.
    pub rule: String,
    /// How many there are.
    pub count: u64,
    /// The BLAKE3 of the HashSeq: `count` x 32 bytes.
    pub seq: ChunkHash,
    /// The BLAKE3 of the lengths: `count` x 4 bytes, little-endian.
    pub lengths: ChunkHash,
}

impl ChunkListRef {
    /// Checks that `count` chunks of 1 byte to 16 MiB can hold `size` bytes.
    pub(super) fn check(&self, path: &str, size: u64) -> Result<(), TreeError> {
        let refuse = |why| TreeError::Chunks {
            path: path.to_owned(),
            why,
        };
        if self.count > FILE_CHUNKS_MAX {
            return Err(refuse("it has more chunks than a file may have"));
        }
        if self.count > size || size > self.count * CHUNK_BYTES_MAX {
            return Err(refuse("so many chunks cannot hold its size"));
        }
        let empty = ChunkHash::of(b"");
        if (self.count == 0) != (self.seq == empty) || (self.count == 0) != (self.lengths == empty)
        {
            return Err(refuse(
                "no chunks, and lists that are not empty, or the other way round",
            ));
        }
        Ok(())
    }
}

/// The chunks of a file, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkList {
    /// The BLAKE3 of each chunk.
    pub hashes: Vec<ChunkHash>,
    /// The length of each chunk in bytes: 1 to 16 MiB.
    pub lengths: Vec<u32>,
}

/// Why two documents are not the chunk list that a file names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkListError {
    /// A document is not the one that is named.
    #[error("the {which} list hashes to {found}, the file names {expected}: fetch it again")]
    WrongDocument {
        /// Which of the two.
        which: &'static str,
        /// The hash that the file names.
        expected: ChunkHash,
        /// The hash of the bytes.
        found: ChunkHash,
    },
    /// A document has another length than the count of chunks says.
    #[error("the {which} list of {count} chunks has {found} bytes instead of {expected}")]
    WrongLength {
        /// Which of the two.
        which: &'static str,
        /// How many chunks the file names.
        count: u64,
        /// How long the document must be.
        expected: u64,
        /// How long it is.
        found: u64,
    },
    /// A chunk is empty or over 16 MiB.
    #[error("chunk {index} has {length} bytes; 1 to {CHUNK_BYTES_MAX} are permitted")]
    ChunkLength {
        /// Which chunk.
        index: usize,
        /// Its length in bytes.
        length: u32,
    },
    /// The lengths do not add up to the size of the file.
    #[error("the chunks add up to {found} bytes, the file has {expected}")]
    WrongSize {
        /// The size of the file in bytes.
        expected: u64,
        /// The sum of the lengths in bytes.
        found: u64,
    },
}

impl ChunkListError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

impl ChunkList {
    /// Reads the two documents that `list` names, of a file of `size` bytes.
    ///
    /// # Errors
    /// When either is not the one that is named, or lengths are out of bounds or do not add up.
    pub fn from_documents(
        list: &ChunkListRef,
        size: u64,
        seq: &[u8],
        lengths: &[u8],
    ) -> Result<Self, ChunkListError> {
        let documents = [
            ("hash", seq, list.seq, 32),
            ("length", lengths, list.lengths, 4),
        ];
        for (which, bytes, expected, width) in documents {
            let (found_len, expected_len) = (bytes.len() as u64, list.count.saturating_mul(width));
            if found_len != expected_len {
                return Err(ChunkListError::WrongLength {
                    which,
                    count: list.count,
                    expected: expected_len,
                    found: found_len,
                });
            }
            let found = ChunkHash::of(bytes);
            if found != expected {
                return Err(ChunkListError::WrongDocument {
                    which,
                    expected,
                    found,
                });
            }
        }
        let (hashes, _) = seq.as_chunks::<32>();
        let (lengths, _) = lengths.as_chunks::<4>();
        let list = Self {
            hashes: hashes
                .iter()
                .map(|hash| ChunkHash::from_bytes(*hash))
                .collect(),
            lengths: lengths
                .iter()
                .map(|length| u32::from_le_bytes(*length))
                .collect(),
        };
        list.check(size)?;
        Ok(list)
    }

    fn check(&self, size: u64) -> Result<(), ChunkListError> {
        let mut found = 0;
        for (index, &length) in self.lengths.iter().enumerate() {
            if length == 0 || u64::from(length) > CHUNK_BYTES_MAX {
                return Err(ChunkListError::ChunkLength { index, length });
            }
            found += u64::from(length);
        }
        if found != size {
            return Err(ChunkListError::WrongSize {
                expected: size,
                found,
            });
        }
        Ok(())
    }

    /// How many chunks there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none: the file is empty.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The sum of the lengths: the size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.lengths.iter().map(|length| u64::from(*length)).sum()
    }

    /// The HashSeq: the hashes one after another.
    pub fn seq_bytes(&self) -> Bytes {
        self.hashes
            .iter()
            .flat_map(|hash| *hash.as_bytes())
            .collect()
    }

    /// The lengths one after another, 4 bytes each, little-endian.
    pub fn length_bytes(&self) -> Bytes {
        self.lengths
            .iter()
            .flat_map(|length| length.to_le_bytes())
            .collect()
    }

    /// How a file names this list, which the cut rule `rule` made.
    pub fn reference(&self, rule: &str) -> ChunkListRef {
        assert_eq!(
            self.hashes.len(),
            self.lengths.len(),
            "a length for each hash"
        );
        ChunkListRef {
            rule: rule.to_owned(),
            count: self.hashes.len() as u64,
            seq: ChunkHash::of(&self.seq_bytes()),
            lengths: ChunkHash::of(&self.length_bytes()),
        }
    }

    /// Hash and place in the file of each chunk.
    pub fn iter(&self) -> impl Iterator<Item = (ChunkHash, ByteRange)> + '_ {
        let mut start = 0;
        self.hashes
            .iter()
            .zip(&self.lengths)
            .map(move |(hash, length)| {
                let range = ByteRange {
                    start,
                    end: start + u64::from(*length),
                };
                start = range.end;
                (*hash, range)
            })
    }
}
