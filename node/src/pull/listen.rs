//! What the peers of a pull say of the version while it is fetched, as the receiver takes it.

use std::{sync::Arc, time::Duration};

use lode_store::{
    ChunkHash, VersionId,
    sync::{
        message::ChunkPieces,
        receiver::{EVERY_PIECE, Have, Peer},
        session::{Change, Session, SessionError, Watched},
        source::HeldMap,
    },
    tree::{ChunkList, Tree},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::plan::Planned;
use crate::EventSink;

/// Which chunk has which number in the have-map of a version: for the files that are fetched.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// By first number.
    files: Vec<(u32, Arc<ChunkList>)>,
}

impl Numbers {
    pub(crate) fn new(tree: &Tree, planned: &[Planned]) -> Self {
        let (mut files, mut first) = (Vec::new(), 0_u64);
        for file in tree.files() {
            let of = planned
                .iter()
                .find(|planned| planned.file.path == file.path);
            if let (Some(of), Ok(first)) = (of, u32::try_from(first)) {
                files.push((first, Arc::clone(&of.list)));
            }
            first += file.chunks.count;
        }
        Self { files }
    }

    /// The number of a file's first chunk.
    pub(crate) fn first_of(&self, list: &Arc<ChunkList>) -> u32 {
        let mut files = self.files.iter();
        files
            .find(|(_, other)| Arc::ptr_eq(other, list))
            .map_or(0, |(first, _)| *first)
    }

    fn hash(&self, number: u32) -> Option<ChunkHash> {
        let next = self.files.partition_point(|(first, _)| *first <= number);
        let (first, list) = self.files.get(next.checked_sub(1)?)?;
        list.hashes.get((number - first) as usize).copied()
    }

    fn each(&self, pieces: &[ChunkPieces], act: impl Fn(ChunkHash, u16)) {
        for (number, pieces) in pieces {
            if let Some(hash) = self.hash(*number) {
                act(hash, *pieces);
            }
        }
    }

    fn take_map(&self, have: &Have, map: &HeldMap) {
        if map.held() == map.count {
            return have.complete();
        }
        for (first, list) in &self.files {
            for (number, hash) in (u64::from(*first)..).zip(&list.hashes) {
                if map.holds(number) {
                    have.gained(*hash, EVERY_PIECE);
                }
            }
        }
    }
}

/// How often a peer that holds nothing of the version yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The peers of one pull that hold some of its version, each listened to as long as this lives.
#[derive(Debug)]
pub(crate) struct Recruits {
    shared: Arc<Shared>,
    /// The tasks that listen.
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    version: VersionId,
    numbers: Arc<Numbers>,
    /// Those that hold something.
    peers: watch::Sender<Vec<Peer>>,
    events: EventSink,
}

impl Recruits {
    pub(crate) fn new(version: VersionId, numbers: Arc<Numbers>, events: EventSink) -> Self {
        Self {
            shared: Arc::new(Shared {
                version,
                numbers,
                peers: watch::Sender::new(Vec::new()),
                events,
            }),
            tasks: JoinSet::new(),
        }
    }

    /// Asks these peers what they hold, and listens on; returns when each has answered once. Those that
    /// hold nothing yet are asked again from time to time.
    pub(crate) async fn enlist(&mut self, peers: impl Iterator<Item = (Arc<Session>, Peer)>) {
        let (asked, mut answered) = mpsc::channel::<()>(1);
        for (session, peer) in peers {
            let (shared, asked) = (Arc::clone(&self.shared), asked.clone());
            self.tasks.spawn(listen(shared, session, peer, asked));
        }
        drop(asked);
        // Closed once every task has given back its sender.
        answered.recv().await;
    }

    /// Those that hold something now.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.shared.peers.borrow().clone()
    }

    /// Those that hold something now, and a channel for those that come by something later; it closes when
    /// nobody is left who may.
    pub(crate) fn join(&mut self) -> (Vec<Peer>, mpsc::Receiver<Peer>, AbortOnDropHandle<()>) {
        let mut peers = self.shared.peers.subscribe();
        let known = peers.borrow_and_update().clone();
        let (send, newcomers) = mpsc::channel(1);
        let mut count = known.len();
        while self.tasks.try_join_next().is_some() {}
        let waiting = self.tasks.len() > count;
        let forward = async move {
            while waiting && peers.changed().await.is_ok() {
                let new = peers.borrow_and_update()[count..].to_vec();
                count += new.len();
                for peer in new {
                    if send.send(peer).await.is_err() {
                        return;
                    }
                }
            }
        };
        (
            known,
            newcomers,
            AbortOnDropHandle::new(tokio::spawn(forward)),
        )
    }
}

/// Asks a peer until it holds something of the version, and then listens until it says no more.
async fn listen(shared: Arc<Shared>, session: Arc<Session>, peer: Peer, asked: mpsc::Sender<()>) {
    let mut asked = Some(asked);
    let watched = loop {
        match session.watch(shared.version).await {
            Ok(Some(watched)) => break watched,
            Ok(None) | Err(SessionError::Busy { .. }) => {}
            Err(error) => {
                let peer = session.id().fmt_short();
                return shared.events.warn(format!("{peer}: {error}"));
            }
        }
        asked.take();
        tokio::time::sleep(ASK_AGAIN).await;
    };
    let (have, numbers) = (Have::none(), &shared.numbers);
    numbers.take_map(&have, &watched.held);
    numbers.each(&watched.receiving, |hash, pieces| have.gained(hash, pieces));
    numbers.each(&watched.given, |hash, pieces| have.given(hash, pieces));
    have.live(!have.is_all());
    let peer = peer.holding(Arc::clone(&have));
    shared.peers.send_modify(|peers| peers.push(peer));
    drop(asked);
    hear(watched, &have, numbers).await;
}

/// Hears what changes until the peer says no more.
async fn hear(mut watched: Watched, have: &Have, numbers: &Numbers) {
    loop {
        match watched.next().await {
            Ok(Some(Change::Gained(pieces))) => {
                numbers.each(&pieces, |hash, pieces| have.gained(hash, pieces));
            }
            Ok(Some(Change::Given(pieces))) => {
                numbers.each(&pieces, |hash, pieces| have.given(hash, pieces));
            }
            Ok(Some(Change::Choked(choked))) => have.choked(choked),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    have.choked(false);
    have.live(false);
}
