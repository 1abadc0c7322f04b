//! Where the chunks of xorbs lie, once their files are stored: what is remembered for three weeks.
//!
//! Each shard that was taken makes one file `uploads/maps/N`, written and synced before the client hears of it:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LODEXMAP` |
//! | 8 | count of xorbs, u64; all numbers are little-endian |
//! | per xorb: 16, 32 | inbox, name of the xorb |
//! | 4, 4 | count of chunks `n`, count of segments `m`, u32 |
//! | 4 x `n` | lengths of the chunks in bytes, u32 |
//! | 48 x `m` | first chunk u32, one behind the last u32, SHA-256 of the file 32, offset in it u64 |
//! | 32 | BLAKE3 of all before |
//!
//! A file is never changed. Its time of modification says when its xorbs were last named.

use std::{
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

use super::{InboxId, limits};

const MAGIC: [u8; 8] = *b"LODEXMAP";
const HEAD_BYTES: usize = 16;
const XORB_HEAD_BYTES: usize = 56;
const SEGMENT_BYTES: usize = 48;
const HASH_BYTES: usize = 32;
/// Segments of one xorb: more than chunks would be needless.
const SEGMENTS_MAX: usize = limits::XORB_CHUNKS_MAX;

/// Chunks of a xorb that lie one after the other in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) chunks: Range<u32>,
    /// The file, by its SHA-256.
    pub(super) sha256: [u8; 32],
    /// Where the first of them begins in it.
    pub(super) offset: u64,
}

/// A xorb of which chunks lie in files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mapped {
    /// Bytes of each chunk.
    pub(super) lengths: Vec<u32>,
    pub(super) segments: Vec<Segment>,
}

impl Mapped {
    /// The segment that holds a chunk.
    pub(super) fn segment_of(&self, chunk: u32) -> Option<&Segment> {
        self.segments
            .iter()
            .find(|segment| segment.chunks.contains(&chunk))
    }

    /// Notes where chunks lie, unless that is known of all of them.
    pub(super) fn add(&mut self, segment: Segment) {
        let known = |chunk| self.segment_of(chunk).is_some();
        if !segment.chunks.clone().all(known) && self.segments.len() < SEGMENTS_MAX {
            self.segments.push(segment);
        }
    }

    /// Whether it is known of every chunk where it lies.
    pub(super) fn is_covered(&self) -> bool {
        let mut ranges: Vec<_> = self.segments.iter().map(|s| s.chunks.clone()).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let end = ranges
            .into_iter()
            .fold(0, |end, range| match range.start <= end {
                true => range.end.max(end),
                false => end,
            });
        end as usize == self.lengths.len()
    }

    /// Bytes of chunks.
    pub(super) fn len_of(&self, chunks: Range<u32>) -> Option<u64> {
        let lengths = self
            .lengths
            .get(chunks.start as usize..chunks.end as usize)?;
        Some(lengths.iter().map(|len| u64::from(*len)).sum())
    }

    /// The chunk that holds the byte `offset` of those from chunk `first` on, and where in it.
    pub(super) fn chunk_at(&self, first: u32, mut offset: u64) -> Option<(u32, u64)> {
        for (chunk, len) in (first..).zip(self.lengths.get(first as usize..)?) {
            match offset.checked_sub(u64::from(*len)) {
                Some(behind) => offset = behind,
                None => return Some((chunk, offset)),
            }
        }
        None
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        let count = |len: usize| u32::try_from(len).expect("at most 8192").to_le_bytes();
        out.extend_from_slice(&count(self.lengths.len()));
        out.extend_from_slice(&count(self.segments.len()));
        for len in &self.lengths {
            out.extend_from_slice(&len.to_le_bytes());
        }
        for segment in &self.segments {
            out.extend_from_slice(&segment.chunks.start.to_le_bytes());
            out.extend_from_slice(&segment.chunks.end.to_le_bytes());
            out.extend_from_slice(&segment.sha256);
            out.extend_from_slice(&segment.offset.to_le_bytes());
        }
    }

    /// Reads one; and how many bytes it took.
    fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let chunks = u32_at(bytes, 0)? as usize;
        let segments = u32_at(bytes, 4)? as usize;
        if chunks > limits::XORB_CHUNKS_MAX || segments > SEGMENTS_MAX {
            return None;
        }
        let (lengths_end, end) = (8 + 4 * chunks, 8 + 4 * chunks + SEGMENT_BYTES * segments);
        let lengths = bytes.get(8..lengths_end)?.as_chunks::<4>().0;
        let lengths = lengths.iter().map(|len| u32::from_le_bytes(*len)).collect();
        let segments = bytes.get(lengths_end..end)?.as_chunks::<SEGMENT_BYTES>().0;
        let segments = segments.iter().map(|bytes| {
            let chunks = u32_at(bytes, 0)?..u32_at(bytes, 4)?;
            let sha256 = *bytes[8..40].first_chunk::<32>()?;
            let offset = u64::from_le_bytes(*bytes[40..].first_chunk::<8>()?);
            (chunks.end as usize <= limits::XORB_CHUNKS_MAX).then_some(Segment {
                chunks,
                sha256,
                offset,
            })
        });
        let segments = segments.collect::<Option<Vec<_>>>()?;
        Some((Self { lengths, segments }, end))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A xorb of an inbox.
pub(super) type Key = (InboxId, [u8; 32]);

/// Where in a map file a xorb is: offset and length in bytes.
pub(super) type At = (u64, u32);

/// Writes a map file, durable when this returns. Gives where each xorb is in it.
pub(super) fn write(path: &Path, xorbs: &[(Key, Mapped)]) -> io::Result<Vec<(Key, At)>> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(xorbs.len() as u64).to_le_bytes());
    let mut places = Vec::with_capacity(xorbs.len());
    for (key, mapped) in xorbs {
        out.extend_from_slice(&key.0.0);
        out.extend_from_slice(&key.1);
        let at = out.len();
        mapped.encode_into(&mut out);
        let len = u32::try_from(out.len() - at).map_err(io::Error::other)?;
        places.push((*key, (at as u64, len)));
    }
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&out)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()?;
    Ok(places)
}

/// Looks through a map file: where each xorb is, and each file that is named.
pub(super) fn scan(path: &Path, each: &mut dyn FnMut(Key, At, &Mapped)) -> io::Result<()> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "not a whole map of xorbs");
    if fs::metadata(path)?.len() > limits::MAP_BYTES_MAX {
        return Err(broken());
    }
    let bytes = fs::read(path)?;
    parse(&bytes, each).ok_or_else(broken)
}

/// As [`scan`], of the bytes of a map file. Nothing is told of one that is not whole.
pub(super) fn parse(bytes: &[u8], each: &mut dyn FnMut(Key, At, &Mapped)) -> Option<()> {
    let (body, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
    if blake3::hash(body).as_bytes() != hash || !body.starts_with(&MAGIC) {
        return None;
    }
    let count = u64::from_le_bytes(*body.get(8..)?.first_chunk()?);
    let mut at = HEAD_BYTES;
    for _ in 0..count {
        let inbox = InboxId(*body.get(at..)?.first_chunk()?);
        let name = *body.get(at + 16..)?.first_chunk()?;
        at += XORB_HEAD_BYTES - 8;
        let (mapped, len) = Mapped::decode(body.get(at..)?)?;
        each(
            (inbox, name),
            (at as u64, u32::try_from(len).ok()?),
            &mapped,
        );
        at += len;
    }
    (at == body.len()).then_some(())
}

/// Reads one xorb of a map file.
pub(super) fn read(path: &Path, at: At) -> io::Result<Mapped> {
    let mut bytes = vec![0; at.1 as usize];
    File::open(path)?.read_exact_at(&mut bytes, at.0)?;
    let decoded = Mapped::decode(&bytes).map(|(mapped, _)| mapped);
    decoded.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a map of a xorb"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn segment(chunks: Range<u32>, offset: u64) -> Segment {
        let sha256 = [7; 32];
        Segment {
            chunks,
            sha256,
            offset,
        }
    }

    #[test]
    fn a_map_is_read_back_and_any_other_byte_makes_it_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("maps/1");
        let mapped = Mapped {
            lengths: vec![10, 20, 30],
            segments: vec![segment(0..2, 5), segment(2..3, 900)],
        };
        let xorbs = [
            ((InboxId([1; 16]), [2; 32]), mapped.clone()),
            ((InboxId([3; 16]), [4; 32]), Mapped::default()),
        ];
        let places = write(&path, &xorbs).unwrap();
        assert_eq!(read(&path, places[0].1).unwrap(), mapped);
        let mut seen = Vec::new();
        scan(&path, &mut |key, at, mapped| {
            seen.push((key, at, mapped.clone()))
        })
        .unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].0, seen[0].1), places[0]);
        assert_eq!(seen[0].2, mapped);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(parse(&other, &mut |_, _, _| {}).is_none(), "byte {at}");
            assert!(
                parse(&whole[..at], &mut |_, _, _| {}).is_none(),
                "{at} bytes"
            );
        }
    }

    #[test]
    fn a_xorb_is_covered_when_every_chunk_is() {
        let mut mapped = Mapped {
            lengths: vec![1; 10],
            segments: Vec::new(),
        };
        mapped.add(segment(4..8, 0));
        mapped.add(segment(0..4, 0));
        assert!(!mapped.is_covered());
        mapped.add(segment(1..7, 0));
        assert_eq!(mapped.segments.len(), 2, "all of it was known");
        mapped.add(segment(6..10, 0));
        assert!(mapped.is_covered());
        assert_eq!(mapped.len_of(2..5), Some(3));
        assert_eq!(mapped.len_of(8..11), None);
    }

    #[test]
    fn a_byte_is_found_in_its_chunk() {
        let mapped = Mapped {
            lengths: vec![10, 0, 20, 30],
            segments: Vec::new(),
        };
        assert_eq!(mapped.chunk_at(0, 9), Some((0, 9)));
        assert_eq!(mapped.chunk_at(0, 10), Some((2, 0)));
        assert_eq!(mapped.chunk_at(1, 49), Some((3, 29)));
        assert_eq!(mapped.chunk_at(1, 50), None);
        assert_eq!(mapped.chunk_at(5, 0), None);
    }
}
