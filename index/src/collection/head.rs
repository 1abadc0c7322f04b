//! The head of a collection: its configuration, its segments and their dead rows at the floor
//! (docs/format/collection.md). It is replaced as a whole, never changed.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::{
    bytes::{Reader, write_sized, write_varint},
    limits::SEGMENTS_MAX,
    schema::CollectionConfig,
};

/// The name of the file.
pub(super) const HEAD_NAME: &str = "head";

const MAGIC: [u8; 8] = *b"lode col";
const FORMAT: u32 = 1;

/// Bytes of the checksum at the end.
const CHECKSUM_BYTES: usize = 32;

/// Why bytes are no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Other first bytes.
    #[error("not the head of a collection")]
    NotAHead,
    /// Another layout.
    #[error("format {0}; this version of Lode reads format {FORMAT}")]
    Format(u32),
    /// Not what was written.
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// What a head says.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub(crate) config: CollectionConfig,
    pub(crate) sequence: u64,
    pub(crate) log: u64,
    pub(crate) next_segment: u64,
    pub(crate) segments: BTreeMap<u64, HeadSegment>,
}

/// A segment as the head names it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeadSegment {
    /// The id of its bytes.
    pub(crate) id: [u8; 32],
    pub(crate) dead: RoaringBitmap,
}

impl Head {
    /// The segments that it names: their files, and the ids of their bytes.
    pub fn segments(&self) -> impl Iterator<Item = (String, [u8; 32])> {
        let named = |(number, segment): (&u64, &HeadSegment)| {
            (super::open::segment_name(*number), segment.id)
        };
        self.segments.iter().map(named)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [self.sequence, self.log, self.next_segment] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        write_sized(self.config.to_json().to_string().as_bytes(), &mut out);
        write_varint(self.segments.len() as u64, &mut out);
        for (number, segment) in &self.segments {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&segment.id);
            let mut dead = Vec::new();
            segment
                .dead
                .serialize_into(&mut dead)
                .expect("a vector takes every byte");
            write_sized(&dead, &mut out);
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }
}

/// Reads the bytes of a head.
///
/// # Errors
/// [`HeadError`] for anything else.
pub fn read_head(bytes: &[u8]) -> Result<Head, HeadError> {
    if bytes.get(..8) != Some(&MAGIC[..]) {
        return Err(HeadError::NotAHead);
    }
    let short = HeadError::Damaged("cut short");
    let body = bytes
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .ok_or(short.clone())?;
    let (body, sum) = bytes.split_at(body);
    let mut reader = Reader::new(body.get(8..).ok_or(short.clone())?);
    let format = reader.u32().ok_or(short)?;
    if format != FORMAT {
        return Err(HeadError::Format(format));
    }
    if blake3::hash(body).as_bytes() != sum {
        return Err(HeadError::Damaged("checksum"));
    }
    let head = read_body(&mut reader).ok_or(HeadError::Damaged("a part of it"))?;
    reader
        .is_at_end()
        .then_some(head)
        .ok_or(HeadError::Damaged("bytes behind it"))
}

fn read_body(reader: &mut Reader<'_>) -> Option<Head> {
    let (sequence, log, next_segment) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let config = serde_json::from_slice(reader.sized()?).ok()?;
    let config = CollectionConfig::from_json(&config).ok()?;
    let count = reader.count(41)?;
    let mut segments = BTreeMap::new();
    for _ in 0..count {
        let number = reader.u64()?;
        let id = reader.array()?;
        let dead = RoaringBitmap::deserialize_from(reader.sized()?).ok()?;
        let segment = HeadSegment { id, dead };
        if number >= next_segment || segments.insert(number, segment).is_some() {
            return None;
        }
    }
    (count <= SEGMENTS_MAX).then_some(Head {
        config,
        sequence,
        log,
        next_segment,
        segments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(segments: u64) -> Head {
        let segment = HeadSegment {
            id: [7; 32],
            dead: [1, 5, 70_000].into_iter().collect(),
        };
        Head {
            config: CollectionConfig::default(),
            sequence: 9,
            log: 3,
            next_segment: segments,
            segments: (0..segments)
                .map(|number| (number, segment.clone()))
                .collect(),
        }
    }

    #[test]
    fn a_head_reads_back_and_any_changed_byte_is_refused() {
        let head = head(3);
        let bytes = head.to_bytes();
        assert_eq!(read_head(&bytes), Ok(head));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read_head(&changed).is_err(), "byte {at}");
            assert!(read_head(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn more_segments_than_there_may_be_are_refused() {
        let max = SEGMENTS_MAX as u64;
        assert!(read_head(&head(max).to_bytes()).is_ok());
        assert!(read_head(&head(max + 1).to_bytes()).is_err());
    }
}
