#![allow(clippy::unwrap_used)]
//! Watching a version: what is held and what changes, and serving what is still being received.

use std::{io, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    ChunkHash, VersionId,
    sync::{
        limits::WATCHES_PER_CONNECTION_MAX,
        receiver::{FetchError, FetchOptions, Have, Peer, fetch},
        session::{Change, Session, SessionError},
        source::{ChunkRead, ChunkSource, HeldMap},
        testing::{MemChunk, MemFile, MemRefs, MemSource, Node, Open, loopback},
        uploads::UploadLimits,
    },
};

fn refs(file: &MemFile) -> MemRefs {
    let count = u32::try_from(file.list.len()).unwrap();
    MemRefs {
        held: Some(HeldMap::of((0..count).map(|chunk| chunk == 1))),
        files: Some(vec![(file.seq, count)]),
        receiving: vec![(2, 0b101)],
        ..MemRefs::default()
    }
}

fn file() -> MemFile {
    MemFile::new(&[4 << 20, 100, 3 << 20], 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_what_is_held_and_each_change() {
    let file = file();
    let node = Node::with(Arc::new(Open), refs(&file)).await;
    let net = loopback().await;
    let session = Session::open(&net, node.net.addr(), "test", Vec::new())
        .await
        .unwrap();
    let version = VersionId::of(b"version");
    let mut watched = session.watch(version).await.unwrap().unwrap();
    assert_eq!((watched.held.count, watched.held.held()), (3, 1));
    assert_eq!(watched.receiving, [(2, 0b101)]);
    node.hub.gained(&file.seq, 0, 0b10);
    assert_eq!(
        watched.next().await.unwrap(),
        Some(Change::Gained(vec![(0, 0b10)]))
    );
    assert_eq!(node.hub.watchers(&version), [net.endpoint().id()]);
    drop(watched);
    while !node.hub.watchers(&version).is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_are_told_which_pieces_a_peer_is_sent() {
    let file = file();
    let node = Node::with(Arc::new(Open), refs(&file)).await;
    file.add_to(&node.source, |_| true);
    let (one, other) = (loopback().await, loopback().await);
    let session = Session::open(&other, node.net.addr(), "test", Vec::new())
        .await
        .unwrap();
    let mut watched = session.watch(VersionId::of(b"v")).await.unwrap().unwrap();
    let (want, _) = file.want(vec![(0, 1 << 20..3 << 20), (2, 0..100)]);
    let peers = vec![Peer::new(&one, node.net.addr())];
    fetch(vec![want], peers, FetchOptions::default(), Arc::new(()))
        .await
        .unwrap();
    let mut given = [0_u16; 3];
    while given != [0b110, 0, 0b1] {
        let Some(Change::Given(pieces)) = watched.next().await.unwrap() else {
            panic!("the watch ends")
        };
        pieces
            .iter()
            .for_each(|(chunk, pieces)| given[*chunk as usize] |= pieces);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_watches_than_a_connection_may_have_are_busy() {
    let file = file();
    let node = Node::with(Arc::new(Open), refs(&file)).await;
    let net = loopback().await;
    let session = Session::open(&net, node.net.addr(), "test", Vec::new())
        .await
        .unwrap();
    let version = VersionId::of(b"version");
    let mut watches = Vec::new();
    for _ in 0..WATCHES_PER_CONNECTION_MAX {
        watches.push(session.watch(version).await.unwrap().unwrap());
    }
    let one_more = session.watch(version).await;
    assert!(
        matches!(one_more, Err(SessionError::Busy { .. })),
        "{one_more:?}"
    );
    // They take no place of a query.
    assert!(session.held(version).await.unwrap().is_some());
}

/// A chunk of which some ranges are there, in a place that nobody has checked.
struct Half {
    chunk: MemChunk,
    held: Vec<Range<u64>>,
    wrong: bool,
}

impl ChunkRead for Half {
    fn size(&self) -> u64 {
        self.chunk.size()
    }

    fn is_mapped(&self) -> bool {
        false
    }

    fn is_verified(&self) -> bool {
        false
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mut bytes = self.chunk.read(range)?.to_vec();
        bytes[5] ^= u8::from(self.wrong);
        Ok(bytes.into())
    }

    fn outboard(&self) -> io::Result<Bytes> {
        self.chunk.outboard()
    }

    fn held(&self) -> Vec<Range<u64>> {
        self.held.clone()
    }
}

struct HalfSource {
    inner: MemSource,
    hash: ChunkHash,
    wrong: bool,
}

impl ChunkSource for HalfSource {
    fn open(&self, hash: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let Some(chunk) = self.inner.chunk(hash) else {
            return Ok(None);
        };
        if *hash != self.hash {
            return Ok(Some(Arc::new(chunk)));
        }
        Ok(Some(Arc::new(Half {
            chunk,
            held: vec![0..1 << 20, 2 << 20..4 << 20],
            wrong: self.wrong,
        })))
    }
}

async fn half(file: &MemFile, wrong: bool) -> Node {
    let inner = MemSource::default();
    file.add_to(&inner, |_| true);
    let hash = file.list.hashes[0];
    let source = HalfSource { inner, hash, wrong };
    Node::serving(
        Arc::new(source),
        Arc::new(Open),
        MemRefs::default(),
        UploadLimits::default(),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_of_a_chunk_is_sent_and_the_rest_is_absent() {
    let file = file();
    let (node, net) = (half(&file, false).await, loopback().await);
    let get = async |ranges| {
        let (want, sink) = file.want(ranges);
        let peers = vec![Peer::new(&net, node.net.addr())];
        let fetched = fetch(vec![want], peers, FetchOptions::default(), Arc::new(())).await;
        fetched.map(|_| sink.check(&file))
    };
    assert_eq!(
        get(vec![(0, 0..1 << 20), (0, 2 << 20..4 << 20)])
            .await
            .unwrap(),
        3 << 20
    );
    let missing = get(vec![(0, 1 << 20..2 << 20)]).await;
    assert!(
        matches!(missing, Err(FetchError::NoPeerHasIt { .. })),
        "{missing:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_somebody_changed_while_they_were_received_do_not_leave() {
    let file = file();
    let (node, net) = (half(&file, true).await, loopback().await);
    let (want, sink) = file.want(vec![(0, 0..1 << 20)]);
    let have = Have::none();
    have.gained(file.list.hashes[0], 0b1);
    let peers = vec![Peer::new(&net, node.net.addr()).holding(have)];
    let fetched = fetch(vec![want], peers, FetchOptions::default(), Arc::new(())).await;
    assert!(
        matches!(fetched, Err(FetchError::NoPeerHasIt { .. })),
        "it is no lie: {fetched:?}"
    );
    assert_eq!(sink.check(&file), 0);
}
