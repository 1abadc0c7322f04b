//! The bytes of a log file: a header, then groups, each with a checksum that also covers where it stands.

use crate::limits::LOG_GROUP_BYTES_MAX;

const MAGIC: [u8; 8] = *b"lode wal";
const GROUP_MAGIC: [u8; 4] = *b"grp\n";
const FORMAT: u32 = 1;

/// Magic 8, format 4, zero 4, number 8, nonce 8, checksum 16.
const HEADER_BYTES: usize = 48;

/// Magic 4, length 4, offset 8, checksum 16.
const GROUP_HEAD_BYTES: usize = 32;

/// Bytes around a group, at most.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + GROUP_HEAD_BYTES;

const CHECKSUM_BYTES: usize = 16;

/// Where a log file is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// First byte of it.
    pub offset: usize,
    /// What is wrong.
    pub what: &'static str,
}

pub(super) fn header(number: u64, nonce: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..32].copy_from_slice(&nonce.to_le_bytes());
    let hash = blake3::hash(&bytes[..32]);
    bytes[32..].copy_from_slice(&hash.as_bytes()[..CHECKSUM_BYTES]);
    bytes
}

/// Appends a group that will stand at `offset` of the file.
pub(super) fn push(group: &[u8], nonce: u64, offset: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&GROUP_MAGIC);
    let len = u32::try_from(group.len()).expect("bounded by the caller");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&checksum(group, nonce, offset));
    out.extend_from_slice(group);
}

fn checksum(group: &[u8], nonce: u64, offset: u64) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&nonce.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(group);
    let hash = hasher.finalize();
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// The groups of a log file, from first to last; after damage, none.
#[derive(Debug)]
pub struct Groups<'a> {
    bytes: &'a [u8],
    /// End of the last good group; 0 without a good header.
    end: usize,
    nonce: u64,
    number: u64,
    done: bool,
}

/// Reads the bytes of the log file of a number.
pub fn read_groups(bytes: &[u8], number: u64) -> Groups<'_> {
    Groups {
        bytes,
        end: 0,
        nonce: 0,
        number,
        done: false,
    }
}

impl<'a> Groups<'a> {
    /// Where what is good ends: the length of the file without its torn tail.
    pub fn end(&self) -> usize {
        self.end
    }

    /// What tells this file from others of its number.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    fn read_header(&mut self) -> Result<(), Damage> {
        let damage = |what| Err(Damage { offset: 0, what });
        let good = self.bytes.first_chunk::<HEADER_BYTES>().filter(|head| {
            let (head, sum) = head.split_at(32);
            blake3::hash(head).as_bytes()[..CHECKSUM_BYTES] == *sum && head[..8] == MAGIC
        });
        let Some(head) = good else {
            // the header and the first group are synced as one: a header that is torn has nothing behind it
            // that was acknowledged, but only a file no longer than both could be torn so
            return match self.any_group_from(0) {
                true => damage("the header"),
                false => Ok(()),
            };
        };
        if head[8..12] != FORMAT.to_le_bytes() {
            return damage("another format than this version of Lode reads");
        }
        if head[16..24] != self.number.to_le_bytes() {
            return damage("the file of another number");
        }
        self.nonce = u64::from_le_bytes(head[24..32].try_into().expect("8 bytes"));
        self.end = HEADER_BYTES;
        Ok(())
    }

    /// The group that begins at a byte.
    fn group_at(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.bytes.get(at..)?;
        let head = rest.first_chunk::<GROUP_HEAD_BYTES>()?;
        let len = u32::from_le_bytes(head[4..8].try_into().expect("4 bytes")) as usize;
        if head[..4] != GROUP_MAGIC
            || head[8..16] != (at as u64).to_le_bytes()
            || len > LOG_GROUP_BYTES_MAX
        {
            return None;
        }
        let group = rest.get(GROUP_HEAD_BYTES..GROUP_HEAD_BYTES + len)?;
        (head[16..] == checksum(group, self.nonce, at as u64)).then_some(group)
    }

    /// Whether the head of a group that says that it stands where it stands comes at or after a byte. After a
    /// lost header the nonce is unknown, and with it the checksum; a head in its place is proof enough.
    fn any_group_from(&self, from: usize) -> bool {
        (from..self.bytes.len().saturating_sub(GROUP_HEAD_BYTES - 1)).any(|at| {
            self.bytes[at..at + 4] == GROUP_MAGIC
                && self.bytes[at + 8..at + 16] == (at as u64).to_le_bytes()
                && (self.end > 0 || at > HEADER_BYTES)
                && (self.end == 0 || self.group_at(at).is_some())
        })
    }
}

impl<'a> Iterator for Groups<'a> {
    type Item = Result<&'a [u8], Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.end == 0
            && let Err(damage) = self.read_header()
        {
            self.done = true;
            return Some(Err(damage));
        }
        if self.end > 0
            && let Some(group) = self.group_at(self.end)
        {
            self.end += GROUP_HEAD_BYTES + group.len();
            return Some(Ok(group));
        }
        self.done = true;
        if self.end > 0 && self.end < self.bytes.len() && self.any_group_from(self.end + 1) {
            let damage = Damage {
                offset: self.end,
                what: "a group that was acknowledged",
            };
            return Some(Err(damage));
        }
        None
    }
}
