//! One file that is being hashed: which of its bytes are read, cut, hashed and digested so far.
//!
//! The file is taken in *units*: runs of whole chunks that fit a buffer, numbered from 0. Units are
//! claimed in order, filled and hashed by any thread, and digested in order. So every claimed unit is
//! digested without another buffer being needed, and the pool cannot run dry for good.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ChunkHash,
    cut::{CDC_1, CdcCutter},
    sidecar::Pins,
};

use super::{FileHashes, Handle, HashOptions, Plan, buffers::BUFFER_BYTES, digests::Digests};

/// Most bytes that several chunks of one unit have together.
const UNIT_BYTES: u64 = 4 * 1024 * 1024;

/// Fresh bytes of a unit that is cut by content. With an open chunk of up to 4 MiB before them they
/// fit a buffer.
const CONTENT_UNIT_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of a unit, hashed and waiting for their turn.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) buffer: Vec<u8>,
    pub(super) len: usize,
}

/// Where the cuts come from.
enum Cutting {
    Known {
        rule: &'static str,
        lengths: Vec<u32>,
    },
    Content {
        state: Option<Content>,
    },
}

/// State of cutting by content, with whoever reads next.
#[derive(Debug)]
pub(super) struct Content {
    cutter: CdcCutter,
    /// Bytes of the open chunk.
    carry: Vec<u8>,
}

/// What a thread has to read.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) unit: u64,
    /// Where the unit starts in the file, and its first chunk's number.
    pub(super) start: u64,
    pub(super) first_chunk: u32,
    pub(super) handle: Arc<Handle>,
    pub(super) work: ClaimWork,
}

#[derive(Debug)]
pub(super) enum ClaimWork {
    /// Read these chunks.
    Known { lengths: Vec<u32> },
    /// Read `fresh` bytes after the carried ones and cut; `last` when the file ends with them.
    Content {
        state: Content,
        fresh: usize,
        last: bool,
    },
}

/// A file that is being hashed.
pub(super) struct Lane {
    pub(super) handle: Arc<Handle>,
    pub(super) pins: Pins,
    pub(super) recent: bool,
    cutting: Cutting,
    /// Chunks that were claimed, their hashes filled in as they come.
    hashes: Vec<ChunkHash>,
    lengths: Vec<u32>,
    /// Bytes that are claimed, from the start; for content, the start of the open chunk.
    claimed: u64,
    next_unit: u64,
    /// Units that are claimed and not digested.
    outstanding: usize,
    /// A content claim is out: the next one needs its carry.
    cutting_now: bool,
    ready: BTreeMap<u64, Unit>,
    next_digest: u64,
    /// Absent while a thread digests a unit.
    digests: Option<Digests>,
}

impl Lane {
    pub(super) fn new(
        handle: Handle,
        pins: Pins,
        recent: bool,
        plan: Plan,
        options: &HashOptions,
    ) -> Self {
        let cutting = match plan {
            Plan::Known(cuts) => {
                debug_assert_eq!(
                    cuts.lengths.iter().map(|l| u64::from(*l)).sum::<u64>(),
                    pins.len
                );
                Cutting::Known {
                    rule: cuts.rule,
                    lengths: cuts.lengths,
                }
            }
            Plan::Content => Cutting::Content {
                state: Some(Content {
                    cutter: CdcCutter::new(),
                    carry: Vec::new(),
                }),
            },
        };
        Self {
            handle: Arc::new(handle),
            pins,
            recent,
            cutting,
            hashes: Vec::new(),
            lengths: Vec::new(),
            claimed: 0,
            next_unit: 0,
            outstanding: 0,
            cutting_now: false,
            ready: BTreeMap::new(),
            next_digest: 0,
            digests: Some(Digests::new(pins.len, options)),
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether there is something left to claim now.
    pub(super) fn can_claim(&self) -> bool {
        !self.cutting_now && self.claimed < self.pins.len
    }

    /// Whether every byte was digested.
    pub(super) fn is_done(&self) -> bool {
        self.claimed == self.pins.len && self.outstanding == 0 && !self.cutting_now
    }

    /// Claims the next unit; [`can_claim`](Self::can_claim) must hold.
    pub(super) fn claim(&mut self) -> Claim {
        let (unit, start) = (self.next_unit, self.claimed);
        let first_chunk = u32::try_from(self.lengths.len()).expect("fewer than 2^32 chunks");
        self.next_unit += 1;
        self.outstanding += 1;
        let work = match &mut self.cutting {
            Cutting::Known { lengths, .. } => {
                let rest = &lengths[self.lengths.len()..];
                let mut bytes = 0;
                let mut count = 0;
                for length in rest {
                    bytes += u64::from(*length);
                    if count > 0 && bytes > UNIT_BYTES {
                        break;
                    }
                    count += 1;
                }
                let lengths = rest[..count].to_vec();
                self.claimed += lengths.iter().map(|length| u64::from(*length)).sum::<u64>();
                self.lengths.extend_from_slice(&lengths);
                self.hashes
                    .resize(self.lengths.len(), ChunkHash::from_bytes([0; 32]));
                ClaimWork::Known { lengths }
            }
            Cutting::Content { state } => {
                let state = state.take().expect("cutting_now is false");
                self.cutting_now = true;
                let left = self.pins.len - start - state.carry.len() as u64;
                let fresh = left.min(CONTENT_UNIT_BYTES);
                ClaimWork::Content {
                    state,
                    fresh: usize::try_from(fresh).expect("at most 8 MiB"),
                    last: fresh == left,
                }
            }
        };
        Claim {
            unit,
            start,
            first_chunk,
            handle: Arc::clone(&self.handle),
            work,
        }
    }

    /// Takes back the state of a content claim, with the chunks that it cut.
    pub(super) fn cut(&mut self, content: Content, lengths: &[u32]) {
        self.claimed += lengths.iter().map(|length| u64::from(*length)).sum::<u64>();
        self.lengths.extend_from_slice(lengths);
        self.hashes
            .resize(self.lengths.len(), ChunkHash::from_bytes([0; 32]));
        self.cutting = Cutting::Content {
            state: Some(content),
        };
        self.cutting_now = false;
    }

    /// Takes a unit with the hashes of its chunks.
    pub(super) fn hashed(&mut self, unit: u64, first: u32, hashes: &[ChunkHash], bytes: Unit) {
        let first = first as usize;
        self.hashes[first..first + hashes.len()].copy_from_slice(hashes);
        self.ready.insert(unit, bytes);
    }

    /// The next unit to digest, if it is ready and no other thread is at it.
    pub(super) fn next_to_digest(&mut self) -> Option<(Digests, Unit)> {
        self.digests.as_ref()?;
        let unit = self.ready.remove(&self.next_digest)?;
        self.digests.take().map(|digests| (digests, unit))
    }

    /// Takes the digests back after a unit.
    pub(super) fn digested(&mut self, digests: Digests) {
        self.digests = Some(digests);
        self.next_digest += 1;
        self.outstanding -= 1;
    }

    /// What came out; [`is_done`](Self::is_done) must hold.
    pub(super) fn finish(self) -> FileHashes {
        let finished = self.digests.expect("no thread is at it").finish();
        let rule = match self.cutting {
            Cutting::Known { rule, .. } => rule,
            Cutting::Content { .. } => CDC_1,
        };
        FileHashes {
            rule,
            chunks: self.hashes,
            lengths: self.lengths,
            sha256: finished.sha256,
            git: finished.git,
            root: finished.root,
            pins: self.pins,
            recent: self.recent,
        }
    }
}

impl Content {
    /// Puts the carried bytes at the start of `buffer`; says how many.
    pub(super) fn prepare(&self, buffer: &mut [u8]) -> usize {
        buffer[..self.carry.len()].copy_from_slice(&self.carry);
        self.carry.len()
    }

    /// Cuts `filled` bytes, of which the carried ones were seen before; keeps the open chunk.
    pub(super) fn cut(&mut self, filled: &[u8], last: bool) -> Vec<u32> {
        debug_assert!(filled.len() <= BUFFER_BYTES);
        let mut lengths = self.cutter.push(&filled[self.carry.len()..]);
        if last {
            lengths.extend(std::mem::take(&mut self.cutter).finish());
        }
        let cut: usize = lengths.iter().map(|length| *length as usize).sum();
        self.carry.clear();
        self.carry.extend_from_slice(&filled[cut..]);
        lengths
    }
}
