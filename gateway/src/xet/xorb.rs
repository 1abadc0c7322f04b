//! Reading xorbs: chunks one after the other, each with a head of eight bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 0 |
//! | 3 | bytes of the packed chunk, little-endian |
//! | 1 | scheme: 0 as it is, 1 LZ4 frame, 2 byte planes of four in an LZ4 frame |
//! | 3 | bytes of the chunk, little-endian |
//!
//! A chunk is decoded only as far as its head says, and a head says at most [`XORB_CHUNK_BYTES_MAX`]: memory does
//! not follow what a client claims.

use std::io::{self, Read};

use lode_node::upload::limits::{XORB_BYTES_MAX, XORB_CHUNK_BYTES_MAX, XORB_CHUNKS_MAX};
use lz4_flex::frame::FrameDecoder;

use super::hash::{Leaf, XetHash, root};

/// Bytes of what stands before a chunk.
pub(super) const HEAD_BYTES: usize = 8;

/// Why bytes are not a xorb.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XorbError {
    /// They cannot be read, or break off inside a chunk.
    #[error("the xorb breaks off: {0}")]
    Io(#[from] io::Error),
    /// A chunk's head makes no sense.
    #[error("chunk {chunk} of the xorb has {what}")]
    Head {
        /// Which chunk.
        chunk: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A chunk is not what its head says.
    #[error("chunk {chunk} of the xorb cannot be unpacked to {len} bytes")]
    Packed {
        /// Which chunk.
        chunk: usize,
        /// Bytes that its head says.
        len: usize,
    },
    /// There are too many chunks, or bytes in them.
    #[error("the xorb has more than {XORB_CHUNKS_MAX} chunks, or {XORB_BYTES_MAX} bytes")]
    TooLarge,
}

/// Reads a xorb chunk by chunk.
#[derive(Debug)]
pub struct XorbReader<R> {
    source: R,
    packed: Vec<u8>,
    planes: Vec<u8>,
    chunk: Vec<u8>,
    leaves: Vec<Leaf>,
    len: u64,
}

impl<R: Read> XorbReader<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self {
            source,
            packed: Vec::new(),
            planes: Vec::new(),
            chunk: Vec::new(),
            leaves: Vec::new(),
            len: 0,
        }
    }

    /// The next chunk's bytes; nothing at the end.
    ///
    /// # Errors
    /// [`XorbError`]; nothing can be read after one.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>, XorbError> {
        let number = self.leaves.len();
        let wrong = |what| XorbError::Head {
            chunk: number,
            what,
        };
        let Some(head) = self.head()? else {
            return Ok(None);
        };
        let [version, p0, p1, p2, scheme, l0, l1, l2] = head;
        let packed_len = u32::from_le_bytes([p0, p1, p2, 0]) as usize;
        let len = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
        if version != 0 {
            return Err(wrong("an unknown version"));
        }
        if len == 0 || len > XORB_CHUNK_BYTES_MAX {
            return Err(wrong("no bytes, or more than 128 KiB"));
        }
        // Clients keep a chunk as it is where packing makes it longer; the reference allows twice its length.
        if packed_len > 2 * XORB_CHUNK_BYTES_MAX {
            return Err(wrong("more packed bytes than a chunk can need"));
        }
        self.len += len as u64;
        if number == XORB_CHUNKS_MAX || self.len > XORB_BYTES_MAX {
            return Err(XorbError::TooLarge);
        }
        self.packed.resize(packed_len, 0);
        self.source.read_exact(&mut self.packed)?;
        let unpacked = match scheme {
            0 => {
                std::mem::swap(&mut self.chunk, &mut self.packed);
                self.chunk.len() == len
            }
            1 => unpack(&self.packed, len, &mut self.chunk),
            2 => {
                let unpacked = unpack(&self.packed, len, &mut self.planes);
                if unpacked {
                    join_planes(&self.planes, &mut self.chunk);
                }
                unpacked
            }
            _ => return Err(wrong("an unknown scheme")),
        };
        if !unpacked {
            return Err(XorbError::Packed { chunk: number, len });
        }
        self.leaves
            .push((XetHash::of_chunk(&self.chunk), len as u64));
        Ok(Some(&self.chunk))
    }

    /// The next head; nothing where the xorb ends.
    fn head(&mut self) -> Result<Option<[u8; HEAD_BYTES]>, io::Error> {
        let mut head = [0; HEAD_BYTES];
        let mut read = 0;
        while read < HEAD_BYTES {
            match self.source.read(&mut head[read..]) {
                Ok(0) if read == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(head))
    }

    /// The hash that names what was read.
    pub fn finish(self) -> XetHash {
        root(self.leaves)
    }
}

/// Unpacks an LZ4 frame of exactly `len` bytes.
fn unpack(packed: &[u8], len: usize, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut frame = FrameDecoder::new(packed).take(len as u64 + 1);
    frame.read_to_end(out).is_ok() && out.len() == len
}

/// Puts bytes back together of which every fourth lies with its like: first all firsts, then all seconds.
fn join_planes(planes: &[u8], out: &mut Vec<u8>) {
    out.resize(planes.len(), 0);
    let mut rest = planes;
    for first in 0..4 {
        let len = (planes.len() + 3 - first) / 4;
        let (plane, after) = rest.split_at(len);
        for (to, byte) in out.iter_mut().skip(first).step_by(4).zip(plane) {
            *to = *byte;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use lz4_flex::frame::FrameEncoder;
    use std::io::Write as _;

    fn lz4(data: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::new(Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn split_planes(data: &[u8]) -> Vec<u8> {
        let plane = |first| data.iter().copied().skip(first).step_by(4);
        (0..4).flat_map(plane).collect()
    }

    fn chunk(scheme: u8, packed: &[u8], len: usize) -> Vec<u8> {
        let mut out = vec![0];
        out.extend_from_slice(&(packed.len() as u32).to_le_bytes()[..3]);
        out.push(scheme);
        out.extend_from_slice(&(len as u32).to_le_bytes()[..3]);
        out.extend_from_slice(packed);
        out
    }

    fn read(xorb: &[u8]) -> Result<(Vec<Vec<u8>>, XetHash), XorbError> {
        let mut reader = XorbReader::new(xorb);
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            chunks.push(chunk.to_vec());
        }
        Ok((chunks, reader.finish()))
    }

    #[test]
    fn chunks_of_every_scheme_are_read_back() {
        for len in [1, 2, 3, 4, 5, 1023, XORB_CHUNK_BYTES_MAX] {
            let data: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
            let xorb = [
                chunk(0, &data, len),
                chunk(1, &lz4(&data), len),
                chunk(2, &lz4(&split_planes(&data)), len),
            ]
            .concat();
            let (chunks, name) = read(&xorb).unwrap();
            assert!(chunks.iter().all(|chunk| *chunk == data), "{len} bytes");
            let leaf = (XetHash::of_chunk(&data), len as u64);
            assert_eq!(name, root(vec![leaf; 3]));
        }
    }

    #[test]
    fn a_head_that_lies_is_refused_before_memory_is_taken_for_it() {
        let data = vec![0; 100_000];
        let small = lz4(&data);
        let packed = |len| {
            let mut wrong = chunk(1, &small, data.len());
            wrong[5..8].copy_from_slice(&(len as u32).to_le_bytes()[..3]);
            wrong
        };
        assert!(read(&packed(data.len())).is_ok());
        for len in [data.len() - 1, data.len() + 1] {
            assert!(matches!(read(&packed(len)), Err(XorbError::Packed { .. })));
        }
        for len in [0, XORB_CHUNK_BYTES_MAX + 1] {
            assert!(matches!(read(&packed(len)), Err(XorbError::Head { .. })));
        }
        // Bytes that are many times what the head says.
        let bomb = lz4(&vec![0; 64 << 20]);
        assert!(bomb.len() > 2 * XORB_CHUNK_BYTES_MAX || read(&chunk(1, &bomb, 1000)).is_err());
        let long = chunk(
            0,
            &vec![1; 2 * XORB_CHUNK_BYTES_MAX + 1],
            XORB_CHUNK_BYTES_MAX,
        );
        assert!(matches!(read(&long), Err(XorbError::Head { .. })));
        let mut version = chunk(0, b"a", 1);
        version[0] = 1;
        assert!(matches!(read(&version), Err(XorbError::Head { .. })));
        assert!(matches!(
            read(&chunk(3, b"a", 1)),
            Err(XorbError::Head { .. })
        ));
        assert!(matches!(
            read(&chunk(0, b"ab", 3)),
            Err(XorbError::Packed { .. })
        ));
    }

    #[test]
    fn a_xorb_that_breaks_off_is_refused_wherever() {
        let xorb = [chunk(0, b"hello", 5), chunk(0, b"there", 5)].concat();
        for end in 0..xorb.len() {
            let whole = end == 0 || end == 13;
            assert_eq!(read(&xorb[..end]).is_ok(), whole, "{end} bytes");
        }
    }

    #[test]
    fn more_chunks_or_bytes_than_a_xorb_may_have_are_refused() {
        let many = |count| chunk(0, b"a", 1).repeat(count);
        assert!(read(&many(XORB_CHUNKS_MAX)).is_ok());
        assert!(matches!(
            read(&many(XORB_CHUNKS_MAX + 1)),
            Err(XorbError::TooLarge)
        ));
        let zeros = vec![0; XORB_CHUNK_BYTES_MAX];
        let full = usize::try_from(XORB_BYTES_MAX).unwrap() / zeros.len();
        let long = chunk(1, &lz4(&zeros), zeros.len()).repeat(full);
        assert!(read(&long).is_ok());
        let longer = [long, chunk(0, b"a", 1)].concat();
        assert!(matches!(read(&longer), Err(XorbError::TooLarge)));
    }
}
