//! Who fetches what: the wanted ranges, cut into tasks, and what each peer is known to lack.
//!
//! Pure bookkeeping without I/O. A task is the part of one chunk that is still missing. A peer takes a
//! *unit* of tasks (one request), reports how far it came, and releases it; what it left goes back to
//! the queue. When the queue runs dry, an idle peer takes what a slower one still works on (end-game).
//! A board is settled when every task is done, or when nobody is left who could do one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{ChunkHash, sync::selection::Selection};

use super::{Holdings, Reason};
use crate::sync::limits::{REQUEST_PAYLOAD_BYTES_MAX, REQUEST_PAYLOAD_BYTES_MIN, REQUEST_RUNS_MAX};

/// Queue entries that are looked at to fill one request.
const LOOK_AHEAD_MAX: usize = 16_384;

/// Peers that fetch the same task at the end.
const COPIES_MAX: u8 = 2;

/// A part of one chunk.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) want: usize,
    pub(super) chunk: u32,
    pub(super) hash: ChunkHash,
    pub(super) selection: Selection,
}

/// One request's worth of tasks of one want, in order of their chunks.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) id: u64,
    pub(super) want: usize,
    pub(super) parts: Vec<Part>,
}

/// What a peer's stream should do next.
#[derive(Debug)]
pub(super) enum Take {
    /// Fetch this.
    Unit(Unit),
    /// Wait for a change.
    Wait,
    /// Stop.
    Stop,
}

/// How it ended.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// Everything is there.
    Done,
    /// These are missing, and nobody is left to ask.
    Missing(Missing),
    /// The sink failed; the error is kept elsewhere.
    Stopped,
}

/// What nobody could send.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    /// One of the chunks.
    pub(super) chunk: ChunkHash,
    /// Bytes of all.
    pub(super) bytes: u64,
    /// Whether a peer said that it lacks one of them (and not only failed).
    pub(super) lacked: bool,
}

/// What a peer still may do.
#[derive(Default)]
struct PeerState {
    dropped: Option<Reason>,
    holdings: Option<Arc<dyn Holdings>>,
    /// Chunks (by want and number) that it does not have.
    lacks: HashSet<(usize, u32)>,
    /// Chunks that it is asked for one by one, to learn whether it lacks them.
    alone: HashSet<(usize, u32)>,
}

struct Task {
    part: Part,
    copies: u8,
    done: bool,
}

struct Flight {
    peer: usize,
    tasks: Vec<usize>,
}

#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    queue: VecDeque<usize>,
    queued_bytes: u64,
    open: usize,
    flights: HashMap<u64, Flight>,
    next_unit: u64,
    peers: Vec<PeerState>,
    outcome: Option<Outcome>,
}

/// The shared bookkeeping of one fetch.
pub(super) struct Board {
    state: Mutex<State>,
    changed: Notify,
    /// Streams of one peer.
    streams: usize,
}

impl Board {
    /// A board for `parts`, none of them empty, and as many peers as `holdings` has entries.
    pub(super) fn new(
        parts: Vec<Part>,
        holdings: Vec<Option<Arc<dyn Holdings>>>,
        streams: usize,
    ) -> Self {
        let mut order: Vec<usize> = (0..parts.len()).collect();
        if holdings.iter().any(Option::is_some) {
            // Rarest first; among equals the caller's order holds.
            order.sort_by_cached_key(|&task| {
                let holds = |known: &&Option<Arc<dyn Holdings>>| {
                    known
                        .as_ref()
                        .is_none_or(|known| known.holds(&parts[task].hash))
                };
                holdings.iter().filter(holds).count()
            });
        }
        let mut state = State {
            open: parts.len(),
            queued_bytes: parts.iter().map(|part| part.selection.bytes()).sum(),
            queue: order.into(),
            tasks: parts
                .into_iter()
                .map(|part| Task {
                    part,
                    copies: 0,
                    done: false,
                })
                .collect(),
            ..State::default()
        };
        let peer = |holdings| PeerState {
            holdings,
            ..PeerState::default()
        };
        state.peers = holdings.into_iter().map(peer).collect();
        state.settle();
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            streams,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for any change; create it before looking.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Something for `peer` to fetch.
    pub(super) fn take(&self, peer: usize) -> Take {
        let mut state = self.state();
        if state.outcome.is_some() || state.peers[peer].dropped.is_some() {
            return Take::Stop;
        }
        let live = state
            .peers
            .iter()
            .filter(|peer| peer.dropped.is_none())
            .count();
        let share = state.queued_bytes / (2 * live * self.streams).max(1) as u64;
        let budget = share.clamp(REQUEST_PAYLOAD_BYTES_MIN, REQUEST_PAYLOAD_BYTES_MAX);
        let tasks = state.pick(peer, budget);
        let tasks = if tasks.is_empty() {
            state.pick_copy(peer)
        } else {
            tasks
        };
        let Some(&first) = tasks.first() else {
            return Take::Wait;
        };
        let want = state.tasks[first].part.want;
        let mut parts = Vec::with_capacity(tasks.len());
        for &task in &tasks {
            let task = &mut state.tasks[task];
            task.copies += 1;
            parts.push(task.part.clone());
        }
        let id = state.next_unit;
        state.next_unit += 1;
        state.flights.insert(id, Flight { peer, tasks });
        Take::Unit(Unit { id, want, parts })
    }

    /// Notes that a unit's parts before `part` are there, and of that one everything before `leaf`.
    /// Returns whether anything of the unit is still missing.
    pub(super) fn progress(&self, unit: u64, part: usize, leaf: u64) -> bool {
        let mut state = self.state();
        let Some(flight) = state.flights.get(&unit) else {
            return false;
        };
        let tasks = flight.tasks.clone();
        for (index, &task) in tasks.iter().enumerate().take(part + 1) {
            let task = &mut state.tasks[task];
            if task.done {
                continue;
            }
            if index == part {
                task.part.selection = task.part.selection.after(leaf);
            }
            if index < part || task.part.selection.is_empty() {
                task.done = true;
                state.open -= 1;
            }
        }
        let missing = tasks.iter().any(|&task| !state.tasks[task].done);
        if state.settle() {
            self.changed.notify_waiters();
        }
        missing
    }

    /// Gives back a unit; what is missing of it is queued again.
    pub(super) fn release(&self, unit: u64) {
        let mut state = self.state();
        let Some(flight) = state.flights.remove(&unit) else {
            return;
        };
        for task in flight.tasks.into_iter().rev() {
            let entry = &mut state.tasks[task];
            entry.copies = entry.copies.saturating_sub(1);
            if !entry.done && entry.copies == 0 {
                let bytes = entry.part.selection.bytes();
                state.queued_bytes += bytes;
                state.queue.push_front(task);
            }
        }
        state.settle();
        self.changed.notify_waiters();
    }

    /// Notes that `peer` does not have a chunk.
    pub(super) fn lacks(&self, peer: usize, want: usize, chunk: u32) {
        self.state().peers[peer].lacks.insert((want, chunk));
    }

    /// Notes that `peer` failed at a chunk among others: it is asked for it alone.
    pub(super) fn ask_alone(&self, peer: usize, want: usize, chunk: u32) {
        self.state().peers[peer].alone.insert((want, chunk));
    }

    /// Drops a peer; the first reason stays. Returns whether it was not dropped before.
    pub(super) fn drop_peer(&self, peer: usize, reason: Reason) -> bool {
        let mut state = self.state();
        let first = state.peers[peer].dropped.is_none();
        if first {
            state.peers[peer].dropped = Some(reason);
        }
        state.settle();
        self.changed.notify_waiters();
        first
    }

    /// Ends everything.
    pub(super) fn stop(&self) {
        self.state().outcome.get_or_insert(Outcome::Stopped);
        self.changed.notify_waiters();
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.state().outcome.clone()
    }

    /// Why each peer was dropped.
    pub(super) fn reasons(&self) -> Vec<Option<Reason>> {
        self.state()
            .peers
            .iter()
            .map(|peer| peer.dropped.clone())
            .collect()
    }
}

impl State {
    fn may_take(&self, peer: usize, task: usize) -> bool {
        let (peer, part) = (&self.peers[peer], &self.tasks[task].part);
        peer.dropped.is_none()
            && !peer.lacks.contains(&(part.want, part.chunk))
            && peer
                .holdings
                .as_ref()
                .is_none_or(|known| known.holds(&part.hash))
    }

    /// Takes tasks of one want from the queue, each of another chunk, up to about `budget` bytes.
    fn pick(&mut self, peer: usize, budget: u64) -> Vec<usize> {
        let (mut picked, mut passed) = (Vec::<usize>::new(), Vec::new());
        let (mut bytes, mut runs, mut chunks) = (0, 0, HashSet::new());
        while bytes < budget && passed.len() < LOOK_AHEAD_MAX {
            let Some(task) = self.queue.pop_front() else {
                break;
            };
            let part = &self.tasks[task].part;
            if self.tasks[task].done {
                self.queued_bytes = self.queued_bytes.saturating_sub(part.selection.bytes());
                continue;
            }
            let alone = self.peers[peer].alone.contains(&(part.want, part.chunk));
            let same = picked
                .first()
                .is_none_or(|&first| self.tasks[first].part.want == part.want);
            let room = picked.is_empty()
                || (!alone && runs + part.selection.runs().len() <= REQUEST_RUNS_MAX);
            if !self.may_take(peer, task) || !same || !room || chunks.contains(&part.chunk) {
                passed.push(task);
                continue;
            }
            if let Some((first, rest)) = part.selection.split(budget - bytes) {
                let part = Part {
                    selection: rest,
                    ..part.clone()
                };
                self.tasks[task].part.selection = first;
                self.tasks.push(Task {
                    part,
                    copies: 0,
                    done: false,
                });
                self.open += 1;
                self.queue.push_front(self.tasks.len() - 1);
            }
            let part = &self.tasks[task].part;
            bytes += part.selection.bytes();
            runs += part.selection.runs().len();
            chunks.insert(part.chunk);
            picked.push(task);
            if alone {
                break;
            }
        }
        for task in passed.into_iter().rev() {
            self.queue.push_front(task);
        }
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        picked.sort_by_key(|&task| self.tasks[task].part.chunk);
        picked
    }

    /// End-game: a task that another peer still works on; the last of the one with most to do.
    fn pick_copy(&self, peer: usize) -> Vec<usize> {
        let left = |flight: &Flight| -> Vec<usize> {
            let open = |task: &&usize| {
                let task = &self.tasks[**task];
                !task.done && task.copies < COPIES_MAX
            };
            let tasks = flight.tasks.iter().filter(open).copied();
            tasks.filter(|&task| self.may_take(peer, task)).collect()
        };
        let others = self.flights.values().filter(|flight| flight.peer != peer);
        let most = others.map(left).max_by_key(|tasks| {
            tasks
                .iter()
                .map(|&task| self.tasks[task].part.selection.bytes())
                .sum::<u64>()
        });
        most.and_then(|tasks| tasks.last().copied())
            .into_iter()
            .collect()
    }

    /// Sets the outcome when nothing can change any more; returns whether it just did.
    fn settle(&mut self) -> bool {
        if self.outcome.is_some() {
            return false;
        }
        if self.open == 0 {
            self.outcome = Some(Outcome::Done);
            return true;
        }
        if !self.flights.is_empty() {
            return false;
        }
        let peers = 0..self.peers.len();
        let open = || {
            self.queue
                .iter()
                .copied()
                .filter(|&task| !self.tasks[task].done)
        };
        if open().any(|task| peers.clone().any(|peer| self.may_take(peer, task))) {
            return false;
        }
        let Some(first) = open().next() else {
            return false;
        };
        let lacked = open().any(|task| {
            let part = &self.tasks[task].part;
            let knows = |peer: &PeerState| {
                peer.lacks.contains(&(part.want, part.chunk))
                    || peer
                        .holdings
                        .as_ref()
                        .is_some_and(|known| !known.holds(&part.hash))
            };
            self.peers.iter().any(knows)
        });
        self.outcome = Some(Outcome::Missing(Missing {
            chunk: self.tasks[first].part.hash,
            bytes: open()
                .map(|task| self.tasks[task].part.selection.bytes())
                .sum(),
            lacked,
        }));
        true
    }
}

#[cfg(test)]
mod tests;
