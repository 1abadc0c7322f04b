//! Which tasks a peer gets: in order, or the rarest first; and at the end, what others hold up.

use std::time::Duration;

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

/// A rest that others will have sent in this time is not asked of a peer that sent it to one already.
const SOON: Duration = Duration::from_secs(2);

/// A request that brings nothing for so long, or would go on for so long, is held up.
const HELD_UP: Duration = Duration::from_secs(1);

impl State {
    /// Bytes of the next request to a peer: by its speed, and smaller as work runs out.
    pub(super) fn budget(&self, peer: usize, streams: usize) -> u64 {
        let live = self.peers.iter().filter(|peer| peer.dropped.is_none());
        let share = self.queued_bytes / (2 * live.count() * streams).max(1) as u64;
        let known = self.peers[peer].speed.stream();
        let by_speed = known.map_or(REQUEST_FIRST_BYTES, |bytes| bytes / REQUESTS_A_SECOND);
        share
            .min(by_speed)
            .clamp(REQUEST_PAYLOAD_BYTES_MIN, REQUEST_PAYLOAD_BYTES_MAX)
    }

    /// Takes queued tasks of one want, up to about `budget` bytes, in order of their chunks.
    pub(super) fn pick(&mut self, peer: usize, budget: u64, now: Instant) -> Vec<usize> {
        let spare = !self.is_coming_soon(peer, now);
        let Some(first) = self.first(peer, spare) else {
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

    /// How much others need a task from somebody else: whether the peer has sent it to one of them, and how
    /// many hold it.
    fn class(&self, peer: usize, task: usize) -> (bool, u16) {
        (self.peers[peer].given.has(task), self.rarity[task])
    }

    /// The task to begin with: the first; in a swarm, the rarest, by chance among equals. What the peer
    /// has sent to others comes last, and only when it is `spare`.
    fn first(&mut self, peer: usize, spare: bool) -> Option<usize> {
        let start = if self.swarm && !self.tasks.is_empty() {
            self.random.random_range(0..self.tasks.len())
        } else {
            0
        };
        let state = &self.peers[peer];
        let mut candidates = self
            .queued
            .both(state.holds.as_ref(), start)
            .filter(|&task| spare || !state.given.has(task));
        if !self.swarm {
            return candidates.next();
        }
        let candidates = candidates.take(CANDIDATES_MAX);
        candidates.min_by_key(|&task| self.class(peer, task))
    }

    /// Whether the others will have sent the rest soon, so that a peer that has sent it to one of them needs not.
    fn is_coming_soon(&self, peer: usize, now: Instant) -> bool {
        let others = self.peers.iter().enumerate();
        let rate: f64 = others
            .filter(|(index, other)| *index != peer && other.dropped.is_none())
            .map(|(_, other)| other.speed.rate(now))
            .sum();
        rate * SOON.as_secs_f64() >= self.open_bytes as f64
    }

    /// End-game: a task that another peer holds up, the last of those that take longest.
    pub(super) fn pick_copy(&self, peer: usize, now: Instant) -> Option<usize> {
        let own = self.peers[peer].speed.stream();
        let spare = !self.is_coming_soon(peer, now);
        let copyable = |flight: &Flight| {
            let open = |task: &&usize| {
                let entry = &self.tasks[**task];
                let given = self.peers[peer].given.has(**task);
                !entry.done
                    && entry.copies < COPIES_MAX
                    && self.may_take(peer, **task)
                    && (spare || !given)
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
