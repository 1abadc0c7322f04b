//! What one peer holds of what is fetched, and what it says of itself while it is asked: kept by who
//! listens to the peer, read by the board.
//!
//! A piece is a bit of a chunk's mask: bit `n` stands for the bytes `n` MiB to `(n + 1)` MiB. Changes that
//! nobody took yet are merged, so memory is bounded by the chunks of the version.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::ChunkHash;

/// Every piece of a chunk.
pub const EVERY_PIECE: u16 = u16::MAX;

/// What a peer is known to hold. What it does not hold is not asked of it.
#[derive(Debug)]
pub struct Have {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    all: bool,
    /// Whether changes are still to come.
    live: bool,
    choked: bool,
    pieces: HashMap<ChunkHash, u16>,
    given: HashMap<ChunkHash, u16>,
    news: News,
}

/// What changed since it was last asked.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The peer holds everything now.
    pub(super) all: bool,
    /// Pieces that it holds.
    pub(super) gained: HashMap<ChunkHash, u16>,
    /// Pieces that it has sent to others.
    pub(super) given: HashMap<ChunkHash, u16>,
    /// Whether it lets us wait.
    pub(super) choked: bool,
    /// Whether more changes may come.
    pub(super) live: bool,
}

impl Have {
    /// A peer that holds everything.
    pub fn all() -> Arc<Self> {
        let have = Self::none();
        have.complete();
        have
    }

    /// A peer of which nothing is known yet.
    pub fn none() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A peer that holds these chunks.
    pub fn chunks(chunks: impl IntoIterator<Item = ChunkHash>) -> Arc<Self> {
        let have = Self::none();
        for chunk in chunks {
            have.gained(chunk, EVERY_PIECE);
        }
        have
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer holds these pieces of a chunk.
    pub fn gained(&self, chunk: ChunkHash, pieces: u16) {
        let mut state = self.state();
        *state.pieces.entry(chunk).or_default() |= pieces;
        *state.news.gained.entry(chunk).or_default() |= pieces;
        drop(state);
        self.changed.notify_one();
    }

    /// The peer has sent these pieces of a chunk to somebody else.
    pub fn given(&self, chunk: ChunkHash, pieces: u16) {
        let mut state = self.state();
        *state.given.entry(chunk).or_default() |= pieces;
        *state.news.given.entry(chunk).or_default() |= pieces;
        drop(state);
        self.changed.notify_one();
    }

    /// The peer holds everything.
    pub fn complete(&self) {
        let mut state = self.state();
        (state.all, state.news.all) = (true, true);
        drop(state);
        self.changed.notify_one();
    }

    /// Whether the peer lets us wait.
    pub fn choked(&self, choked: bool) {
        let mut state = self.state();
        (state.choked, state.news.choked) = (choked, choked);
        drop(state);
        self.changed.notify_one();
    }

    /// Whether more changes may come.
    pub fn live(&self, live: bool) {
        let mut state = self.state();
        (state.live, state.news.live) = (live, live);
        drop(state);
        self.changed.notify_one();
    }

    /// Whether the peer holds everything.
    pub fn is_all(&self) -> bool {
        self.state().all
    }

    /// All that is known, as news.
    pub(super) fn known(&self) -> News {
        let mut state = self.state();
        let (choked, live) = (state.choked, state.live);
        state.news = News {
            choked,
            live,
            ..News::default()
        };
        News {
            all: state.all,
            gained: state.pieces.clone(),
            given: state.given.clone(),
            choked,
            live,
        }
    }

    /// Waits for news.
    pub(super) async fn news(&self) -> News {
        self.changed.notified().await;
        let mut state = self.state();
        let (choked, live) = (state.choked, state.live);
        std::mem::replace(
            &mut state.news,
            News {
                choked,
                live,
                ..News::default()
            },
        )
    }
}
