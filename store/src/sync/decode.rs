//! Verifies the bytes of `/iroh-bytes/4` and hands them on, in pieces.
//!
//! The wanted blobs of a request, with their sizes, foretell the exact number of bytes of its response. The
//! network side asks a [`Planner`] for parts of about a piece and reads that many bytes in bulk; a thread
//! that may block hands them to a [`Decoder`]: pairs top-down, then groups, then the target. Nothing
//! reaches the target unverified.

use std::{io, ops::Range, sync::Arc};

use crate::{ChunkHash, piece::Parent};

use super::{
    limits::PIECE_BYTES,
    selection::Selection,
    walk::{Expected, Item, PAIR_BYTES, Walk},
};

/// Bytes of the size in front of each blob.
const HEADER_BYTES: usize = 8;

/// One blob that a request asks for.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    /// Its hash.
    pub(super) hash: ChunkHash,
    /// What of it.
    pub(super) selection: Selection,
}

/// Where verified bytes go: a piece of blob number `blob` of the request.
pub(super) trait Target: Send {
    /// Takes verified bytes from `offset` on, and the outboard's pairs that came with them.
    fn piece(
        &mut self,
        blob: usize,
        offset: u64,
        data: &[u8],
        parents: &[Parent],
    ) -> io::Result<()>;
}

/// Why decoding stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes of a blob do not match its hash, or its size is another.
    Wrong {
        /// Which blob of the request.
        blob: usize,
    },
    /// The sink failed.
    Sink(io::Error),
}

#[derive(Debug, Clone)]
enum Step {
    Header { blob: usize },
    Item { blob: usize, item: Item },
}

/// The next part of a response: what it consists of, and how many bytes that is.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    /// Bytes on the wire.
    pub(super) bytes: usize,
}

/// Foresees the response to one request, part by part.
#[derive(Debug)]
pub(super) struct Planner {
    blobs: Arc<[Blob]>,
    /// The blob whose items come next, and its walk once its header was planned.
    next: (usize, Option<Walk>),
}

impl Planner {
    /// The response that consists of `blobs`, in order; none of them is empty of selection.
    pub(super) fn new(blobs: Arc<[Blob]>) -> Self {
        Self {
            blobs,
            next: (0, None),
        }
    }

    /// The next part, of at most about `limit` bytes, which ends with a piece where it can; none at the end.
    pub(super) fn plan(&mut self, limit: usize) -> Option<Plan> {
        let mut plan = Plan {
            steps: Vec::new(),
            bytes: 0,
        };
        while let Some(blob) = self.blobs.get(self.next.0) {
            let index = self.next.0;
            let Some(walk) = &mut self.next.1 else {
                if plan.bytes >= limit {
                    break;
                }
                self.next.1 = Some(Walk::new(blob.selection.clone()));
                plan.steps.push(Step::Header { blob: index });
                plan.bytes += HEADER_BYTES;
                continue;
            };
            let Some(item) = walk.next() else {
                self.next = (index + 1, None);
                continue;
            };
            plan.bytes += usize::try_from(item.wire_bytes()).expect("an item is at most a group");
            let piece_ends = matches!(&item, Item::Data { range, .. }
                if range.end.is_multiple_of(PIECE_BYTES));
            plan.steps.push(Step::Item { blob: index, item });
            if plan.bytes >= limit || (piece_ends && plan.bytes * 2 >= limit) {
                break;
            }
        }
        (!plan.steps.is_empty()).then_some(plan)
    }
}

/// Verifies the response to one request, part by part.
#[derive(Debug)]
pub(super) struct Decoder {
    blobs: Arc<[Blob]>,
    expected: Expected,
    /// Verified pairs of the outboard that wait for their bytes.
    parents: Vec<Parent>,
}

impl Decoder {
    /// The response that consists of `blobs`, in order.
    pub(super) fn new(blobs: Arc<[Blob]>) -> Self {
        Self {
            blobs,
            expected: Expected::new([0; 32]),
            parents: Vec::new(),
        }
    }

    /// Verifies the bytes of `plan`, the next in order, and hands them to `target`.
    ///
    /// `wire` may be cut short where the provider stopped: what is whole is used, also in front of a
    /// fault. It is scratch space afterwards. Returns the blob at which the bytes ran out, if they did.
    pub(super) fn decode(
        &mut self,
        plan: &Plan,
        wire: &mut [u8],
        target: &mut dyn Target,
    ) -> Result<Option<usize>, Fault> {
        let mut run = Run::default();
        let end = self.steps(plan, wire, &mut run, target);
        if !matches!(end, Err(Fault::Sink(_))) {
            self.flush(&mut run, wire, target)?;
        }
        end
    }

    fn steps(
        &mut self,
        plan: &Plan,
        wire: &mut [u8],
        run: &mut Run,
        target: &mut dyn Target,
    ) -> Result<Option<usize>, Fault> {
        let mut at = 0;
        for step in &plan.steps {
            match step {
                Step::Header { blob } => {
                    let Some(header) = wire[at..].first_chunk::<HEADER_BYTES>() else {
                        return Ok(Some(*blob));
                    };
                    let wanted = &self.blobs[*blob];
                    if u64::from_le_bytes(*header) != wanted.selection.size() {
                        return Err(Fault::Wrong { blob: *blob });
                    }
                    self.expected = Expected::new(*wanted.hash.as_bytes());
                    at += HEADER_BYTES;
                }
                Step::Item {
                    blob,
                    item:
                        Item::Pair {
                            index,
                            root,
                            left,
                            right,
                            ..
                        },
                } => {
                    let Some(pair) = wire[at..].first_chunk::<PAIR_BYTES>().copied() else {
                        return Ok(Some(*blob));
                    };
                    if !self.expected.pair(&pair, *root, *left, *right) {
                        return Err(Fault::Wrong { blob: *blob });
                    }
                    if *blob != run.blob {
                        self.flush(run, wire, target)?;
                    }
                    if let Some(index) = index.and_then(|index| u32::try_from(index).ok()) {
                        self.parents.push((index, pair));
                    }
                    at += PAIR_BYTES;
                }
                Step::Item {
                    blob,
                    item: Item::Data { range, root },
                } => {
                    let len = usize::try_from(range.end - range.start).expect("at most a group");
                    let Some(data) = wire.get(at..at + len) else {
                        return Ok(Some(*blob));
                    };
                    if !self.expected.data(range.start, data, *root) {
                        return Err(Fault::Wrong { blob: *blob });
                    }
                    let follows = run.offset + run.place.len() as u64 == range.start;
                    if *blob != run.blob || !follows || range.start.is_multiple_of(PIECE_BYTES) {
                        self.flush(run, wire, target)?;
                    }
                    if run.started {
                        wire.copy_within(at..at + len, run.place.end);
                        run.place.end += len;
                    } else {
                        let place = at..at + len;
                        *run = Run {
                            started: true,
                            blob: *blob,
                            offset: range.start,
                            place,
                        };
                    }
                    at += len;
                }
            }
        }
        Ok(None)
    }

    /// Hands on what was gathered; pairs wait for the first bytes under them.
    fn flush(&mut self, run: &mut Run, wire: &[u8], target: &mut dyn Target) -> Result<(), Fault> {
        if run.started {
            let data = &wire[run.place.clone()];
            target
                .piece(run.blob, run.offset, data, &self.parents)
                .map_err(Fault::Sink)?;
            self.parents.clear();
            run.started = false;
        }
        Ok(())
    }
}

/// Verified bytes of one blob that follow one another, moved together in the wire buffer.
#[derive(Debug, Default)]
struct Run {
    /// Whether there are any; an empty blob has none, and is one.
    started: bool,
    blob: usize,
    /// Byte of the blob at which it starts.
    offset: u64,
    /// Where it stands in the wire buffer.
    place: Range<usize>,
}

#[cfg(test)]
mod tests;
