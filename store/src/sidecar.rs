//! The sidecar of a container: which chunks it holds, where, and their outboards.
//!
//! docs/format/containers.md draws its bytes: a header of 128 bytes, the outboards, the chunk table
//! (64 bytes a chunk), the path of an outside file, and a BLAKE3 over header, table and path. The
//! outboards need no checksum: each leads to the hash of its chunk, and is checked when it is used. They
//! come before the table so that they can be written while the container is.
//!
//! A [`Sidecar`] exists only when the checksum held and every entry lies inside its container; memory is
//! that of one piece of the table, whatever its length.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::{
    ChunkHash,
    container::ContainerId,
    disk::{Disk, DiskFile, sim::SimDisk},
    limits::{CHUNK_BYTES_MAX, CONTAINER_CHUNKS_MAX, FRAME_BYTES, OUTSIDE_PATH_BYTES_MAX},
    outboard,
};

/// Bytes of the header; the outboards start here.
pub const HEADER_BYTES: u64 = HEADER_LEN as u64;
/// The same, as a length in memory.
pub(crate) const HEADER_LEN: usize = 128;
/// Bytes of an entry of the chunk table.
pub const ENTRY_BYTES: u64 = ENTRY_LEN as u64;
const ENTRY_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"lodeside";
const FORMAT: u32 = 1;
const CHECK_BYTES: u64 = CHECK_LEN as u64;
const CHECK_LEN: usize = 32;
const NO_OUTBOARD: u64 = u64::MAX;
/// Entries that are read at once.
const ENTRIES_READ: usize = 1024;

/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ContainerKind {
    /// One model file, byte for byte.
    Whole = 0,
    /// Chunks one after the other.
    Pack = 1,
    /// A file that the user owns; only its sidecar is in the home.
    Outside = 2,
}

impl ContainerKind {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Whole, Self::Pack, Self::Outside]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// How a chunk's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Encoding {
    /// As they are.
    Plain = 0,
    /// In zstd frames of 256 KiB.
    Zstd = 1,
    /// Byte planes in zstd frames of 256 KiB.
    PlanesZstd = 2,
}

impl Encoding {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Plain, Self::Zstd, Self::PlanesZstd]
            .into_iter()
            .find(|e| *e as u8 == number)
    }
}

/// One chunk of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// The chunk.
    pub hash: ChunkHash,
    /// Byte of the container at which it starts.
    pub offset: u64,
    /// Bytes that it takes there.
    pub stored_len: u32,
    /// Bytes of the chunk itself.
    pub plain_len: u32,
    /// How the one becomes the other.
    pub encoding: Encoding,
    /// Byte of the outboards at which its outboard starts; none for a chunk of one group.
    pub outboard: Option<u64>,
}

impl ChunkEntry {
    /// An entry of a chunk that is stored as it is.
    pub fn plain(hash: ChunkHash, offset: u64, len: u32, outboard: Option<u64>) -> Self {
        let encoding = Encoding::Plain;
        Self {
            hash,
            offset,
            stored_len: len,
            plain_len: len,
            encoding,
            outboard,
        }
    }

    fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut out = [0; ENTRY_LEN];
        out[..32].copy_from_slice(self.hash.as_bytes());
        out[32..40].copy_from_slice(&self.offset.to_le_bytes());
        out[40..44].copy_from_slice(&self.stored_len.to_le_bytes());
        out[44..48].copy_from_slice(&self.plain_len.to_le_bytes());
        out[48..56].copy_from_slice(&self.outboard.unwrap_or(NO_OUTBOARD).to_le_bytes());
        out[56] = self.encoding as u8;
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let outboard = long(bytes, 48);
        if bytes[57..64] != [0; 7] {
            return Err("reserved bytes of an entry are set");
        }
        Ok(Self {
            hash: ChunkHash::try_from(&bytes[..32]).expect("32 bytes"),
            offset: long(bytes, 32),
            stored_len: short(bytes, 40),
            plain_len: short(bytes, 44),
            encoding: Encoding::from_number(bytes[56]).ok_or("an unknown encoding")?,
            outboard: (outboard != NO_OUTBOARD).then_some(outboard),
        })
    }

    fn check(&self, header: &Header) -> Result<(), &'static str> {
        let end = self.offset.checked_add(u64::from(self.stored_len));
        let plain = self.encoding == Encoding::Plain;
        if end.is_none_or(|end| end > header.len) {
            Err("an entry ends behind its container")
        } else if u64::from(self.plain_len) > CHUNK_BYTES_MAX {
            Err("an entry is longer than a chunk may be")
        } else if plain && self.stored_len != self.plain_len {
            Err("a plain entry of two lengths")
        } else if !plain && header.kind != ContainerKind::Pack {
            Err("an encoded entry outside a pack")
        } else if u64::from(self.stored_len) > stored_max(self.plain_len) {
            Err("an entry's stored length is too large")
        } else if let Some(at) = self.outboard {
            let end = at.checked_add(u64::from(outboard::size(self.plain_len)));
            if end.is_none_or(|end| end > header.outboards_len) {
                Err("an outboard ends behind the outboards")
            } else {
                Ok(())
            }
        } else {
            Ok(())
        }
    }
}

/// The most bytes that an encoding may take for `plain_len` bytes.
pub(crate) fn stored_max(plain_len: u32) -> u64 {
    let frames = u64::from(plain_len.div_ceil(FRAME_BYTES));
    u64::from(plain_len) + frames * 2048 + 16
}

/// What a file looked like when its bytes were hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pins {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub len: u64,
    /// Time of last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of last change of data or attributes, nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl From<crate::disk::Stat> for Pins {
    fn from(stat: crate::disk::Stat) -> Self {
        Self {
            device: stat.device,
            inode: stat.inode,
            len: stat.len,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
        }
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The container.
    pub id: ContainerId,
    /// What it is.
    pub kind: ContainerKind,
    /// Bytes of the container.
    pub len: u64,
    /// Its time of last modification when it was sealed or hashed, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Outside files: time of last change; else 0.
    pub ctime_ns: i64,
    /// Outside files: device number; else 0.
    pub device: u64,
    /// Outside files: inode number; else 0.
    pub inode: u64,
    /// Bytes of all outboards.
    pub outboards_len: u64,
    /// Chunks in the table.
    pub chunks: u32,
    /// Outside files: bytes of the path; else 0.
    pub path_len: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12] = self.kind as u8;
        out[16..24].copy_from_slice(&self.id.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.len.to_le_bytes());
        out[32..40].copy_from_slice(&self.mtime_ns.to_le_bytes());
        out[40..48].copy_from_slice(&self.ctime_ns.to_le_bytes());
        out[48..56].copy_from_slice(&self.device.to_le_bytes());
        out[56..64].copy_from_slice(&self.inode.to_le_bytes());
        out[64..72].copy_from_slice(&self.outboards_len.to_le_bytes());
        out[72..76].copy_from_slice(&self.chunks.to_le_bytes());
        out[76..80].copy_from_slice(&self.path_len.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, &'static str> {
        if bytes[..8] != *MAGIC {
            return Err("this is no sidecar");
        }
        if short(bytes, 8) != FORMAT {
            return Err("a sidecar of another format");
        }
        let kind = ContainerKind::from_number(bytes[12]).ok_or("an unknown kind of container")?;
        if bytes[13..16] != [0; 3] || bytes[80..] != [0; 48] {
            return Err("reserved bytes of the header are set");
        }
        let header = Self {
            id: ContainerId(long(bytes, 16)),
            kind,
            len: long(bytes, 24),
            mtime_ns: i64::from_le_bytes(eight(bytes, 32)),
            ctime_ns: i64::from_le_bytes(eight(bytes, 40)),
            device: long(bytes, 48),
            inode: long(bytes, 56),
            outboards_len: long(bytes, 64),
            chunks: short(bytes, 72),
            path_len: short(bytes, 76),
        };
        if header.chunks > CONTAINER_CHUNKS_MAX {
            return Err("more chunks than a container may have");
        }
        if header.path_len as usize > OUTSIDE_PATH_BYTES_MAX {
            return Err("a path longer than a path may be");
        }
        if (header.path_len > 0) != (kind == ContainerKind::Outside) {
            return Err("a path where none belongs, or none where one does");
        }
        Ok(header)
    }

    /// What an outside file looked like.
    pub fn pins(&self) -> Pins {
        Pins {
            device: self.device,
            inode: self.inode,
            len: self.len,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
        }
    }

    fn table_at(&self) -> Option<u64> {
        HEADER_BYTES.checked_add(self.outboards_len)
    }

    fn file_len(&self) -> Option<u64> {
        let table = u64::from(self.chunks) * ENTRY_BYTES;
        self.table_at()?
            .checked_add(table + u64::from(self.path_len) + CHECK_BYTES)
    }
}

/// Why a sidecar was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SidecarError {
    /// Its bytes are not those that were written.
    #[error("the sidecar is damaged: {0}")]
    Damaged(&'static str),
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A sidecar whose checksum held.
#[derive(Debug, Clone)]
pub struct Sidecar {
    file: Arc<dyn DiskFile>,
    header: Header,
    path: Option<PathBuf>,
}

impl Sidecar {
    /// Reads and checks a sidecar; the outboards are not read.
    ///
    /// # Errors
    /// [`SidecarError::Damaged`] when any byte but those of outboards is wrong.
    pub fn open(file: Arc<dyn DiskFile>) -> Result<Self, SidecarError> {
        let damaged = SidecarError::Damaged;
        let len = file.stat()?.len;
        let mut bytes = [0; HEADER_LEN];
        if len < HEADER_BYTES + CHECK_BYTES {
            return Err(damaged("it is cut short"));
        }
        file.read_exact_at(&mut bytes, 0)?;
        let header = Header::decode(&bytes).map_err(damaged)?;
        if header.file_len() != Some(len) {
            return Err(damaged("its length"));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes);
        let mut sidecar = Self {
            file,
            header,
            path: None,
        };
        sidecar.walk(|_, bytes| {
            hasher.update(bytes);
            Ok::<_, SidecarError>(())
        })?;
        let at = len - CHECK_BYTES - u64::from(header.path_len);
        let path = sidecar.file.read_vec_at(at, header.path_len as usize)?;
        hasher.update(&path);
        let check = sidecar.file.read_vec_at(len - CHECK_BYTES, CHECK_LEN)?;
        if hasher.finalize().as_bytes()[..] != check[..] {
            return Err(damaged("its checksum"));
        }
        if !path.is_empty() {
            sidecar.path = Some(os_path(path));
        }
        Ok(sidecar)
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The path of an outside file.
    pub fn path(&self) -> Option<&std::path::Path> {
        self.path.as_deref()
    }

    /// Calls `each` for every entry of the table, in its order.
    ///
    /// # Errors
    /// [`SidecarError`], or what `each` returns.
    pub fn entries<E: From<SidecarError>>(
        &self,
        each: &mut dyn FnMut(ChunkEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk(|entry, _| each(entry))
    }

    /// Reads the outboard of an entry, unchecked; none if it has none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn outboard(&self, entry: &ChunkEntry) -> io::Result<Option<Bytes>> {
        let Some(at) = entry.outboard else {
            return Ok(None);
        };
        let len = outboard::size(entry.plain_len) as usize;
        Ok(Some(self.file.read_vec_at(HEADER_BYTES + at, len)?.into()))
    }

    /// Reads the outboards' bytes in pieces.
    fn walk<E: From<SidecarError>>(
        &self,
        mut each: impl FnMut(ChunkEntry, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = HEADER_BYTES + self.header.outboards_len;
        let mut left = u64::from(self.header.chunks);
        while left > 0 {
            let count = left.min(ENTRIES_READ as u64);
            let len = usize::try_from(count * ENTRY_BYTES).expect("64 KiB");
            let bytes = self.file.read_vec_at(at, len).map_err(SidecarError::Io)?;
            for bytes in bytes.chunks_exact(ENTRY_LEN) {
                let entry = ChunkEntry::decode(bytes).map_err(SidecarError::Damaged)?;
                entry.check(&self.header).map_err(SidecarError::Damaged)?;
                each(entry, bytes)?;
            }
            at += count * ENTRY_BYTES;
            left -= count;
        }
        Ok(())
    }
}

/// A sidecar that is being written: outboards in any order, then the rest at once.
#[derive(Debug)]
pub struct SidecarWriter {
    file: Arc<dyn DiskFile>,
}

impl SidecarWriter {
    /// Begins a sidecar in a file that is empty, or goes on with one that was begun.
    pub fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file }
    }

    /// Writes bytes of the outboards, at a position counted from the first outboard.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_outboard_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, HEADER_BYTES + offset)
    }

    /// Reads back bytes of the outboards.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_outboard_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.file.read_vec_at(HEADER_BYTES + offset, len)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes header, table, path and checksum, and syncs. `header.chunks` and `header.path_len` are
    /// set from what is given.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when an entry does not lie in the container, and what the file
    /// system says.
    pub fn finish(
        &self,
        mut header: Header,
        table: &mut dyn ExactSizeIterator<Item = ChunkEntry>,
        path: &[u8],
    ) -> io::Result<Header> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        header.chunks = u32::try_from(table.len())
            .ok()
            .filter(|count| *count <= CONTAINER_CHUNKS_MAX)
            .ok_or_else(|| invalid("more chunks than a container may have"))?;
        header.path_len = u32::try_from(path.len())
            .ok()
            .filter(|len| *len as usize <= OUTSIDE_PATH_BYTES_MAX)
            .ok_or_else(|| invalid("a path longer than a path may be"))?;
        let bytes = header.encode();
        Header::decode(&bytes).map_err(invalid)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes);
        self.file.write_at(&bytes, 0)?;
        let mut at = header.table_at().ok_or_else(|| invalid("too long"))?;
        let mut buffer = Vec::new();
        let mut put = |data: &[u8], last: bool| {
            buffer.extend_from_slice(data);
            if last || buffer.len() >= ENTRIES_READ * ENTRY_LEN {
                self.file.write_at(&buffer, at)?;
                at += buffer.len() as u64;
                buffer.clear();
            }
            Ok::<_, io::Error>(())
        };
        for entry in table {
            entry.check(&header).map_err(invalid)?;
            let bytes = entry.encode();
            hasher.update(&bytes);
            put(&bytes, false)?;
        }
        hasher.update(path);
        put(path, false)?;
        put(hasher.finalize().as_bytes(), true)?;
        self.file.set_len(at)?;
        self.file.sync_all()?;
        Ok(header)
    }
}

/// Opens a sidecar from its bytes and reads all of its table: the entry for fuzzing.
///
/// # Errors
/// As [`Sidecar::open`].
pub fn parse_bytes(bytes: &[u8]) -> Result<(Header, Vec<ChunkEntry>), SidecarError> {
    let disk = SimDisk::new(0);
    let file = disk.create(std::path::Path::new("/side"))?;
    file.write_at(bytes, 0)?;
    let sidecar = Sidecar::open(file)?;
    let mut table = Vec::new();
    sidecar.entries(&mut |entry| {
        sidecar.outboard(&entry)?;
        table.push(entry);
        Ok::<_, SidecarError>(())
    })?;
    Ok((*sidecar.header(), table))
}

pub(crate) fn os_path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec(bytes).into()
}

fn eight(bytes: &[u8], at: usize) -> [u8; 8] {
    bytes[at..at + 8].try_into().expect("eight bytes")
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(eight(bytes, at))
}

fn short(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use std::path::Path;

    use super::*;

    fn header(kind: ContainerKind, len: u64, outboards_len: u64) -> Header {
        Header {
            id: ContainerId(0x1234),
            kind,
            len,
            mtime_ns: -5,
            ctime_ns: 6,
            device: 7,
            inode: 8,
            outboards_len,
            chunks: 0,
            path_len: 0,
        }
    }

    fn bytes_of(kind: ContainerKind, path: &[u8], table: &[ChunkEntry]) -> io::Result<Vec<u8>> {
        let disk = SimDisk::new(0);
        let file = disk.create(Path::new("/s")).unwrap();
        let writer = SidecarWriter::new(file.clone());
        writer.write_outboard_at(0, &[3; 128])?;
        writer.finish(header(kind, 100_000, 128), &mut table.iter().copied(), path)?;
        Ok(file.map().unwrap().to_vec())
    }

    fn sample() -> [ChunkEntry; 2] {
        [
            ChunkEntry::plain(ChunkHash::of(b"a"), 0, 40_000, Some(0)),
            ChunkEntry::plain(ChunkHash::of(b"b"), 40_000, 7, None),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_every_wrong_bit_but_those_of_outboards_is_found() {
        let bytes = bytes_of(ContainerKind::Outside, b"/models/x", &sample()).unwrap();
        let (header, table) = parse_bytes(&bytes).unwrap();
        assert_eq!(
            (header.chunks, header.path_len, header.mtime_ns),
            (2, 9, -5)
        );
        assert_eq!(table, sample());
        for bit in (0..bytes.len() * 8).filter(|bit| !(128 * 8..256 * 8).contains(bit)) {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(parse_bytes(&wrong), Err(SidecarError::Damaged(_))),
                "bit {bit}"
            );
        }
        for len in 0..bytes.len() {
            assert!(parse_bytes(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn entries_outside_of_their_container_are_not_written() {
        let far = ChunkEntry::plain(ChunkHash::of(b"a"), 99_999, 2, None);
        let big = ChunkEntry::plain(ChunkHash::of(b"a"), 0, CHUNK_BYTES_MAX as u32 + 1, None);
        let hash_tree = ChunkEntry::plain(ChunkHash::of(b"a"), 0, 70_000, Some(0));
        let encoded = ChunkEntry {
            encoding: Encoding::Zstd,
            ..sample()[1]
        };
        for wrong in [far, big, hash_tree, encoded] {
            let error = bytes_of(ContainerKind::Whole, b"", &[wrong]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong:?}");
        }
        bytes_of(ContainerKind::Pack, b"", &[encoded]).unwrap();
    }

    #[test]
    fn counts_and_paths_over_their_limit_are_refused_before_they_are_read() {
        let mut bytes = bytes_of(ContainerKind::Whole, b"", &sample()).unwrap();
        bytes[72..76].copy_from_slice(&(CONTAINER_CHUNKS_MAX + 1).to_le_bytes());
        assert!(
            parse_bytes(&bytes)
                .unwrap_err()
                .to_string()
                .contains("more chunks")
        );
        let path = vec![b'p'; OUTSIDE_PATH_BYTES_MAX];
        bytes_of(ContainerKind::Outside, &path, &sample()).unwrap();
        let path = vec![b'p'; OUTSIDE_PATH_BYTES_MAX + 1];
        assert!(bytes_of(ContainerKind::Outside, &path, &sample()).is_err());
    }
}
