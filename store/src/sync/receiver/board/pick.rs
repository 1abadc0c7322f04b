//! Which tasks a peer gets: in order, or the rarest first; and at the end, what others hold up.

use std::{collections::HashSet, time::Duration};

use rand::RngExt;
use tokio::time::Instant;

use super::{Flight, State};
use crate::sync::limits::{
    REQUEST_FIRST_BYTES, REQUEST_PAYLOAD_BYTES_MAX, REQUEST_PAYLOAD_BYTES_MIN, REQUEST_RUNS_MAX,
};

/// Tasks among which the rarest is sought.
const CANDIDATES_MAX: usize = 4096;

/// Tasks in front of a task that are passed over to fill one request.
const PASSED_MAX: usize = 16_384;

/// Peers that fetch the same task at the end.
const COPIES_MAX: u8 = 2;

/// Requests that a stream should make in a second.
const REQUESTS_A_SECOND: u64 = 2;

/// Peers are behind that need longer than this for what they could send.
const BEHIND: Duration = Duration::from_secs(30);

/// How long they must be so before they are not counted on.
const BEHIND_FOR: Duration = Duration::from_secs(10);

/// What a peer has sent to others should come through them in this time, and thrice that of a piece.
const OVERDUE: Duration = Duration::from_secs(5);

/// Time that a piece takes from a peer of unknown speed.
const PIECE_UNKNOWN: Duration = Duration::from_secs(10);

/// A request that brings nothing for so long, or would go on for so long, is held up.
const HELD_UP: Duration = Duration::from_secs(1);

impl State {
    /// Bytes of the next request to a peer: by its speed, and smaller as work runs out.
    pub(super) fn budget(&self, peer: usize, streams: usize) -> u64 {
        let live = self.peers.iter().filter(|peer| peer.dropped.is_none());
        let share = self.queued_bytes / (2 * live.count() * streams).max(1) as u64;
        let known = self.peers[peer].speed.stream();
        let by_speed = match known {
            Some(bytes) => bytes / REQUESTS_A_SECOND,
            None if self.swarm => REQUEST_PAYLOAD_BYTES_MIN,
            None => REQUEST_FIRST_BYTES,
        };
        share
            .min(by_speed)
            .clamp(REQUEST_PAYLOAD_BYTES_MIN, REQUEST_PAYLOAD_BYTES_MAX)
    }

    /// Takes queued tasks of one want, up to about `budget` bytes, in order of their chunks.
    pub(super) fn pick(&mut self, peer: usize, budget: u64, now: Instant) -> Vec<usize> {
        let behind = self.are_others_behind(peer, now);
        let since = &mut self.peers[peer].others_behind;
        *since = behind.then(|| since.unwrap_or(now));
        let Some(first) = self.first(peer, now) else {
            return Vec::new();
        };
        let part = &self.tasks[first].part;
        let (want, chunk) = (part.want, part.chunk);
        let alone = self.peers[peer].alone.contains(&(want, chunk));
        let class = self.class(peer, first);
        let (mut picked, mut passed) = (vec![first], 0);
        let (mut bytes, mut runs) = (part.selection.bytes(), part.selection.runs().len());
        for task in first + 1..self.tasks.len() {
            let part = &self.tasks[task].part;
            if bytes >= budget || passed > PASSED_MAX || part.want != want {
                break;
            }
            if alone && part.chunk != chunk {
                break;
            }
            let other = part.chunk != chunk && self.peers[peer].alone.contains(&(want, part.chunk));
            let fits = runs + part.selection.runs().len() <= REQUEST_RUNS_MAX;
            let may = self.queued.has(task) && self.may_take(peer, task);
            if !may || other || !fits || (self.swarm && self.class(peer, task) > class) {
                passed += 1;
                continue;
            }
            bytes += part.selection.bytes();
            runs += part.selection.runs().len();
            picked.push(task);
        }
        picked
    }

    /// In which order tasks are asked of a peer: those that it gave to nobody first, then by how many hold
    /// them or will soon.
    fn class(&self, peer: usize, task: usize) -> (bool, u16) {
        let given = self.peers[peer].given.contains_key(&task);
        (
            given,
            self.holders[task].saturating_add(self.promised[task]),
        )
    }

    /// The task to begin with: the first; in a swarm, the rarest, by chance among equals.
    fn first(&mut self, peer: usize, now: Instant) -> Option<usize> {
        let start = if self.swarm && !self.tasks.is_empty() {
            self.random.random_range(0..self.tasks.len())
        } else {
            0
        };
        let holds = self.peers[peer].holds.as_ref();
        let mut candidates = self.queued.both(holds, start);
        if !self.swarm {
            return candidates.next();
        }
        let best = candidates
            .take(CANDIDATES_MAX)
            .min_by_key(|&task| self.class(peer, task))?;
        if !self.class(peer, best).0 {
            return Some(best);
        }
        let candidates = self.queued.both(holds, start).take(CANDIDATES_MAX);
        candidates
            .filter(|&task| self.may_ask(peer, task, now))
            .min_by_key(|&task| self.class(peer, task))
    }

    /// Whether a task may be asked of a peer although that has sent it to others: when those who hold it
    /// have been behind with their work for us for long, or when it should have come through long ago.
    pub(super) fn may_ask(&self, peer: usize, task: usize, now: Instant) -> bool {
        let state = &self.peers[peer];
        let Some(given) = state.given.get(&task) else {
            return true;
        };
        let others = self.peers.iter().enumerate();
        let whole = others
            .filter(|(index, other)| *index != peer && other.dropped.is_none())
            .any(|(_, other)| other.holds.is_none());
        if whole || self.holders[task] > 0 {
            let since = state.others_behind;
            return since.is_some_and(|since| now.saturating_duration_since(since) > BEHIND_FOR);
        }
        let bytes = REQUEST_PAYLOAD_BYTES_MIN as f64;
        let piece = state.speed.stream().map_or(PIECE_UNKNOWN, |rate| {
            Duration::from_secs_f64((bytes / rate.max(1) as f64).min(60.0))
        });
        now.saturating_duration_since(*given) > OVERDUE + 3 * piece
    }

    /// Whether the peers but this one have all the work that they can do for us, and need long for it.
    fn are_others_behind(&self, peer: usize, now: Instant) -> bool {
        let others = || {
            let others = self.peers.iter().enumerate();
            others.filter(|(index, other)| *index != peer && other.dropped.is_none())
        };
        let mut idle: HashSet<usize> = others()
            .filter(|(_, other)| !other.choked)
            .map(|(index, _)| index)
            .collect();
        for flight in self.flights.values() {
            idle.remove(&flight.peer);
        }
        let whole = others().any(|(_, other)| other.holds.is_none());
        let queued = self.queued.iter().take(CANDIDATES_MAX);
        let mut bytes = 0;
        for task in queued.filter(|&task| whole || self.holders[task] > 0) {
            if idle.iter().any(|&other| self.may_take(other, task)) {
                return false;
            }
            bytes += self.tasks[task].part.selection.bytes();
        }
        let rate: f64 = others().map(|(_, other)| other.speed.rate(now)).sum();
        bytes as f64 > rate * BEHIND.as_secs_f64()
    }

    /// End-game: a task that another peer holds up, the last of those that take longest.
    pub(super) fn pick_copy(&self, peer: usize, now: Instant) -> Option<usize> {
        let own = self.peers[peer].speed.stream();
        let copyable = |flight: &Flight| {
            let open = |task: &&usize| {
                let entry = &self.tasks[**task];
                !entry.done
                    && entry.copies < COPIES_MAX
                    && self.may_take(peer, **task)
                    && self.may_ask(peer, **task, now)
            };
            flight.tasks.iter().rev().find(open).copied()
        };
        let others = self.flights.values().filter(|flight| flight.peer != peer);
        let held_up = others.filter_map(|flight| {
            let left = self.left(flight, now);
            let bytes = self.open_bytes_of(flight) as f64;
            let mine = own.map_or(Duration::ZERO, |rate| {
                Duration::from_secs_f64((bytes / rate.max(1) as f64).min(1e6))
            });
            (left > HELD_UP + 2 * mine).then_some((left, flight))
        });
        let mut held_up: Vec<(Duration, &Flight)> = held_up.collect();
        held_up.sort_by_key(|(left, _)| std::cmp::Reverse(*left));
        held_up.into_iter().find_map(|(_, flight)| copyable(flight))
    }

    fn open_bytes_of(&self, flight: &Flight) -> u64 {
        let open = flight.tasks.iter().filter(|task| !self.tasks[**task].done);
        open.map(|&task| self.tasks[task].part.selection.bytes())
            .sum()
    }

    /// How long a flight will go on, as far as it can be told.
    fn left(&self, flight: &Flight, now: Instant) -> Duration {
        let still = now.saturating_duration_since(flight.moved);
        let took = now.saturating_duration_since(flight.began).as_secs_f64();
        let rate = flight.came as f64 / took.max(1e-3);
        let foreseen = if flight.came == 0 {
            still
        } else {
            Duration::from_secs_f64((self.open_bytes_of(flight) as f64 / rate.max(1.0)).min(1e6))
        };
        foreseen.max(still)
    }
}
