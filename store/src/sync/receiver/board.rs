//! Who fetches what: the wanted ranges, cut into pieces of 1 MiB, and what each peer holds of them.
//!
//! Pure bookkeeping without I/O. A task is what is still missing of one piece. A peer takes a *unit*
//! of tasks (one request), reports how far it came, and releases it; what it left is queued again. As
//! long as every peer has everything, tasks go out in order. As soon as one has only a part, or sends to others too,
//! it is a swarm: the rarest piece first, and by chance among equals. When the queue runs dry, an idle
//! peer takes what a slower one holds up (end-game). A board is settled when every task is done, or when
//! nobody is left who could do one and nobody may still come by one.

mod bits;
mod pick;
mod speed;

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rand::{SeedableRng, rngs::SmallRng};
use tokio::{sync::Notify, time::Instant};

use crate::{
    ChunkHash,
    sync::{limits::LEAF_BYTES, selection::Selection},
};

use super::{Reason, have::News};
use bits::Bits;
use speed::Speed;

/// Leaves of a piece.
const PIECE_LEAVES: u64 = crate::sync::limits::PIECE_BYTES / LEAF_BYTES;

/// A part of one chunk.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) want: usize,
    pub(super) chunk: u32,
    pub(super) hash: ChunkHash,
    pub(super) selection: Selection,
    /// Whether those who receive it pass it on before they have all.
    pub(super) passed_on: bool,
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
    /// Wait for a change, or a moment.
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
    /// Whether a peer lacks one of them (and not only failed).
    pub(super) lacked: bool,
}

/// What a peer still may do.
struct PeerState {
    dropped: Option<Reason>,
    /// The tasks that it holds; none when it holds all of them.
    holds: Option<Bits>,
    /// Tasks that it has sent to others, and when that was heard.
    given: HashMap<usize, Instant>,
    /// Since when the other peers are behind with their work for us.
    others_behind: Option<Instant>,
    /// Whether it lets us wait.
    choked: bool,
    /// Whether it may still come by more.
    live: bool,
    /// Chunks (by want and number) that it is asked for one by one, to learn whether it lacks them.
    alone: HashSet<(usize, u32)>,
    speed: Speed,
}

struct Task {
    part: Part,
    copies: u8,
    done: bool,
}

struct Flight {
    peer: usize,
    tasks: Vec<usize>,
    /// The chunk of each part of the request.
    chunks: Vec<u32>,
    began: Instant,
    /// When something last came.
    moved: Instant,
    /// Bytes that came.
    came: u64,
    /// Whether its peer was known to have sent all of it to others when it began.
    deliberate: bool,
}

struct State {
    /// Sorted by want, chunk and piece.
    tasks: Vec<Task>,
    /// Tasks that are not done and that nobody works on.
    queued: Bits,
    queued_bytes: u64,
    /// Bytes that are not done.
    open_bytes: u64,
    open: usize,
    /// Where the tasks of a chunk are.
    places: HashMap<ChunkHash, Vec<std::ops::Range<usize>>>,
    /// For each task, how many peers that do not hold everything hold it.
    holders: Vec<u16>,
    /// For each task, how many peers have sent it to others, who will hold it soon.
    promised: Vec<u16>,
    flights: HashMap<u64, Flight>,
    next_unit: u64,
    peers: Vec<PeerState>,
    /// Whether pieces are chosen by rarity and chance.
    swarm: bool,
    /// Whether peers may still join.
    joinable: bool,
    random: SmallRng,
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
    /// A board for `parts`, none of them empty, in order of want and chunk. Peers join it; until it is
    /// [closed](Self::close), it waits for more.
    pub(super) fn new(parts: Vec<Part>, streams: usize, seed: u64) -> Self {
        let mut tasks = Vec::with_capacity(parts.len());
        let mut places: HashMap<ChunkHash, Vec<_>> = HashMap::new();
        for part in parts {
            let first = tasks.len();
            let (want, chunk, hash) = (part.want, part.chunk, part.hash);
            let passed_on = part.passed_on;
            for selection in part.selection.pieces(PIECE_LEAVES) {
                let part = Part {
                    want,
                    chunk,
                    hash,
                    selection,
                    passed_on,
                };
                tasks.push(Task {
                    part,
                    copies: 0,
                    done: false,
                });
            }
            places.entry(hash).or_default().push(first..tasks.len());
        }
        let bytes = tasks.iter().map(|task| task.part.selection.bytes()).sum();
        let mut state = State {
            queued: Bits::all(tasks.len()),
            queued_bytes: bytes,
            open_bytes: bytes,
            open: tasks.len(),
            places,
            holders: vec![0; tasks.len()],
            promised: vec![0; tasks.len()],
            tasks,
            flights: HashMap::new(),
            next_unit: 0,
            peers: Vec::new(),
            swarm: false,
            joinable: true,
            random: SmallRng::seed_from_u64(seed),
            outcome: None,
        };
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

    /// Adds a peer that holds everything, until [`news`](Self::news) tells otherwise; returns its number.
    pub(super) fn join(&self, known: Option<News>) -> usize {
        let mut state = self.state();
        let len = state.tasks.len();
        state.peers.push(PeerState {
            dropped: None,
            holds: None,
            given: HashMap::new(),
            others_behind: None,
            choked: false,
            live: false,
            alone: HashSet::new(),
            speed: Speed::default(),
        });
        let peer = state.peers.len() - 1;
        if let Some(known) = known {
            if !known.all {
                state.peers[peer].holds = Some(Bits::none(len));
                state.swarm = true;
            }
            state.hear(peer, known);
        }
        drop(state);
        self.changed.notify_waiters();
        peer
    }

    /// No peer joins any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.joinable = false;
        state.settle();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Takes in what a peer says of itself.
    pub(super) fn news(&self, peer: usize, news: News) {
        let mut state = self.state();
        state.hear(peer, news);
        state.settle();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Something for `peer` to fetch.
    pub(super) fn take(&self, peer: usize, now: Instant) -> Take {
        let mut state = self.state();
        if state.outcome.is_some() || state.peers[peer].dropped.is_some() {
            return Take::Stop;
        }
        // A peer of unknown speed gets one request: its answer says how many more, and how large.
        let unknown = state.peers[peer].speed.stream().is_none();
        let busy = || state.flights.values().any(|flight| flight.peer == peer);
        if state.peers[peer].choked || (unknown && busy()) {
            return Take::Wait;
        }
        let budget = state.budget(peer, self.streams);
        let mut tasks = state.pick(peer, budget, now);
        if tasks.is_empty() {
            tasks.extend(state.pick_copy(peer, now));
        }
        let Some(&first) = tasks.first() else {
            return Take::Wait;
        };
        let want = state.tasks[first].part.want;
        let mut parts: Vec<Part> = Vec::with_capacity(tasks.len());
        for &task in &tasks {
            state.begin(task);
            let part = &state.tasks[task].part;
            match parts.last_mut().filter(|last| last.chunk == part.chunk) {
                Some(last) => last.selection.append(&part.selection),
                None => parts.push(part.clone()),
            }
        }
        let id = state.next_unit;
        state.next_unit += 1;
        let given = &state.peers[peer].given;
        let flight = Flight {
            peer,
            deliberate: tasks.iter().all(|task| given.contains_key(task)),
            tasks,
            chunks: parts.iter().map(|part| part.chunk).collect(),
            began: now,
            moved: now,
            came: 0,
        };
        state.flights.insert(id, flight);
        Take::Unit(Unit { id, want, parts })
    }

    /// Notes that a unit's parts before `part` are there, and of that one everything before `leaf`.
    /// Returns whether anything of the unit is still missing.
    pub(super) fn progress(&self, unit: u64, part: usize, leaf: u64, now: Instant) -> bool {
        let mut state = self.state();
        let Some(mut flight) = state.flights.remove(&unit) else {
            return false;
        };
        let reached = flight.chunks.get(part).copied().unwrap_or(u32::MAX);
        let mut missing = false;
        for &task in &flight.tasks {
            let chunk = state.tasks[task].part.chunk;
            if state.tasks[task].done || chunk > reached {
                missing |= !state.tasks[task].done;
                continue;
            }
            let before = state.tasks[task].part.selection.bytes();
            if chunk == reached {
                let part = &mut state.tasks[task].part;
                part.selection = part.selection.after(leaf);
            }
            let rest = state.tasks[task].part.selection.bytes();
            let done = chunk < reached || state.tasks[task].part.selection.is_empty();
            let new = if done { before } else { before - rest };
            flight.came += new;
            state.open_bytes = state.open_bytes.saturating_sub(new);
            if done {
                state.tasks[task].done = true;
                state.open -= 1;
            }
            missing |= !done;
        }
        flight.moved = now;
        let came = flight.came;
        let (peer, began) = (flight.peer, flight.began);
        state.peers[peer].speed.unit(came, now - began);
        state.flights.insert(unit, flight);
        let settled = state.settle();
        drop(state);
        if settled {
            self.changed.notify_waiters();
        }
        missing
    }

    /// Notes verified bytes of a peer.
    pub(super) fn received(&self, peer: usize, bytes: u64, now: Instant) {
        self.state().peers[peer].speed.received(bytes, now);
    }

    /// Gives back a unit; what is missing of it is queued again.
    pub(super) fn release(&self, unit: u64) {
        let mut state = self.state();
        let Some(flight) = state.flights.remove(&unit) else {
            return;
        };
        for task in flight.tasks {
            state.end(task);
        }
        state.settle();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Notes that `peer` does not have a chunk.
    pub(super) fn lacks(&self, peer: usize, want: usize, chunk: u32) {
        let mut state = self.state();
        let first = state
            .tasks
            .partition_point(|task| (task.part.want, task.part.chunk) < (want, chunk));
        for task in first..state.tasks.len() {
            let part = &state.tasks[task].part;
            if (part.want, part.chunk) != (want, chunk) {
                break;
            }
            state.lose(peer, task);
        }
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
            state.uncount(peer);
        }
        state.settle();
        drop(state);
        self.changed.notify_waiters();
        first
    }

    /// Whether a unit of which nothing came yet is better let go: its peer has sent all of it to somebody
    /// else, and has other work for us, or the others are about to send it.
    pub(super) fn is_given_away(&self, unit: u64, now: Instant) -> bool {
        let state = self.state();
        let Some(flight) = state.flights.get(&unit) else {
            return false;
        };
        if flight.came > 0 || flight.deliberate {
            return false;
        }
        let peer = flight.peer;
        let given = |task: usize| state.peers[peer].given.contains_key(&task);
        let other = || {
            let mut queued = state.queued.both(state.peers[peer].holds.as_ref(), 0);
            queued.any(|task| !given(task))
        };
        let mut tasks = flight.tasks.iter();
        tasks.all(|&task| given(task) && (other() || !state.may_ask(peer, task, now)))
    }

    /// Whether more than one peer is asked.
    pub(super) fn has_others(&self, peer: usize) -> bool {
        let state = self.state();
        let mut peers = state.peers.iter().enumerate();
        peers.any(|(index, other)| index != peer && other.dropped.is_none())
    }

    /// Whether some peer may still come by more.
    pub(super) fn has_live(&self) -> bool {
        let state = self.state();
        let mut peers = state.peers.iter();
        peers.any(|peer| peer.dropped.is_none() && peer.live)
    }

    /// Whether `peer` lets us wait.
    pub(super) fn is_choked(&self, peer: usize) -> bool {
        self.state().peers[peer].choked
    }

    /// Ends everything.
    pub(super) fn stop(&self) {
        self.state().outcome.get_or_insert(Outcome::Stopped);
        self.changed.notify_waiters();
    }

    /// Gives up waiting for peers that may still come by what is missing, unless somebody is at work.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        if state.flights.is_empty() {
            state.joinable = false;
            state.peers.iter_mut().for_each(|peer| peer.live = false);
            state.settle();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.state().outcome.clone()
    }

    /// Bytes that are not there yet.
    pub(super) fn open_bytes(&self) -> u64 {
        self.state().open_bytes
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
    fn hear(&mut self, peer: usize, news: News) {
        self.peers[peer].choked = news.choked;
        self.peers[peer].live = news.live;
        if news.all && self.peers[peer].holds.is_some() {
            self.uncount(peer);
            self.peers[peer].holds = None;
        }
        for (hash, pieces) in news.gained {
            self.each_piece(&hash, pieces, |state, task| {
                if let Some(holds) = &mut state.peers[peer].holds
                    && holds.set(task)
                {
                    state.holders[task] = state.holders[task].saturating_add(1);
                }
            });
        }
        // Only who holds everything gives each piece once before any twice.
        let given = if self.peers[peer].holds.is_none() {
            news.given
        } else {
            HashMap::new()
        };
        for (hash, pieces) in given {
            self.swarm = true;
            let now = Instant::now();
            self.each_piece(&hash, pieces, |state, task| {
                if state.tasks[task].part.passed_on
                    && state.peers[peer].given.insert(task, now).is_none()
                {
                    state.promised[task] = state.promised[task].saturating_add(1);
                }
            });
        }
    }

    /// Calls `act` for each task that is one of these pieces of a chunk.
    fn each_piece(&mut self, hash: &ChunkHash, pieces: u16, act: impl Fn(&mut Self, usize)) {
        for range in self.places.get(hash).cloned().unwrap_or_default() {
            for task in range {
                let runs = self.tasks[task].part.selection.runs();
                let piece = runs.first().map_or(0, |run| run.start / PIECE_LEAVES);
                if pieces >> piece.min(15) & 1 == 1 && !self.tasks[task].done {
                    act(self, task);
                }
            }
        }
    }

    /// Notes that a peer does not hold a task.
    fn lose(&mut self, peer: usize, task: usize) {
        let len = self.tasks.len();
        if self.peers[peer].holds.is_none() {
            self.peers[peer].holds = Some(Bits::all(len));
            for holders in &mut self.holders {
                *holders = holders.saturating_add(1);
            }
        }
        if let Some(holds) = &mut self.peers[peer].holds
            && holds.clear(task)
        {
            self.holders[task] = self.holders[task].saturating_sub(1);
        }
    }

    /// Takes a peer out of the holders of tasks.
    fn uncount(&mut self, peer: usize) {
        if let Some(holds) = self.peers[peer].holds.take() {
            for task in holds.iter() {
                self.holders[task] = self.holders[task].saturating_sub(1);
            }
            self.peers[peer].holds = Some(Bits::none(self.tasks.len()));
        }
    }

    fn may_take(&self, peer: usize, task: usize) -> bool {
        let peer = &self.peers[peer];
        peer.dropped.is_none() && peer.holds.as_ref().is_none_or(|holds| holds.has(task))
    }

    fn begin(&mut self, task: usize) {
        if self.queued.clear(task) {
            let bytes = self.tasks[task].part.selection.bytes();
            self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        }
        self.tasks[task].copies += 1;
    }

    fn end(&mut self, task: usize) {
        let entry = &mut self.tasks[task];
        entry.copies = entry.copies.saturating_sub(1);
        if !entry.done && entry.copies == 0 {
            self.queued_bytes += entry.part.selection.bytes();
            self.queued.set(task);
        }
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
        let live = |peer: &PeerState| peer.dropped.is_none() && peer.live;
        if !self.flights.is_empty() || self.joinable || self.peers.iter().any(live) {
            return false;
        }
        let able = |peer: &PeerState| {
            peer.dropped.is_none() && self.queued.both(peer.holds.as_ref(), 0).next().is_some()
        };
        if self.peers.iter().any(able) {
            return false;
        }
        let Some(first) = self.queued.iter().next() else {
            return false;
        };
        let lacks = |peer: &PeerState| {
            peer.dropped.is_none() && peer.holds.as_ref().is_some_and(|holds| !holds.has(first))
        };
        self.outcome = Some(Outcome::Missing(Missing {
            chunk: self.tasks[first].part.hash,
            bytes: self.open_bytes,
            lacked: self.peers.iter().any(lacks),
        }));
        true
    }
}

#[cfg(test)]
mod tests;
