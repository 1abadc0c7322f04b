#![allow(clippy::unwrap_used)]
//! The receiver: several peers, failing ones, lying ones, and none.

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use iroh::EndpointId;
use tokio::sync::watch;

use crate::{
    ChunkHash,
    piece::{Parent, PieceSink},
    sync::{
        control::Control,
        endpoint::{Doors, Net},
        grants::{Grants, Traffic},
        hub::Hub,
        provider::Provider,
        receiver::{
            DocumentError, FetchError, FetchOptions, Fetched, Have, Peer, Progress, Reason, Want,
            fetch, fetch_documents,
        },
        source::{ChunkRead, ChunkSource},
        testing::{MemChunk, MemFile, MemRefs, MemSource, Node, Open, loopback, sample},
        uploads::{UploadLimits, Uploads},
    },
};

fn file(seed: u64) -> MemFile {
    let mut lengths = vec![5 << 20, 3, 16 << 20, 100_000, 1, 16_384, 16_385, 4 << 20];
    lengths.extend((0..200).map(|at| 1000 + at * 37));
    MemFile::new(&lengths, seed)
}

fn options() -> FetchOptions {
    FetchOptions {
        stall: Duration::from_secs(5),
        ..FetchOptions::default()
    }
}

async fn get(net: &Net, want: Want, nodes: &[&Net]) -> Result<Fetched, FetchError> {
    let peers = nodes
        .iter()
        .map(|node| Peer::new(net, node.addr()))
        .collect();
    fetch(vec![want], peers, options(), Arc::new(())).await
}

/// A node whose chunks are read through `wrap`.
struct Odd {
    net: Net,
    _doors: Doors,
}

type Wrap = Arc<dyn Fn(MemChunk, Range<u64>) -> io::Result<Bytes> + Send + Sync>;

struct OddSource {
    inner: MemSource,
    wrap: Wrap,
}

struct OddChunk {
    chunk: MemChunk,
    wrap: Wrap,
}

impl ChunkSource for OddSource {
    fn open(&self, hash: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let chunk = self.inner.chunk(hash);
        let wrap = Arc::clone(&self.wrap);
        Ok(chunk.map(|chunk| Arc::new(OddChunk { chunk, wrap }) as Arc<dyn ChunkRead>))
    }
}

impl ChunkRead for OddChunk {
    fn size(&self) -> u64 {
        self.chunk.size()
    }

    fn is_mapped(&self) -> bool {
        false
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        (self.wrap)(self.chunk.clone(), range)
    }

    fn outboard(&self) -> io::Result<Bytes> {
        self.chunk.outboard()
    }
}

impl Odd {
    async fn start(
        file: &MemFile,
        wrap: impl Fn(MemChunk, Range<u64>) -> io::Result<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let inner = MemSource::default();
        file.add_to(&inner, |_| true);
        let source = Arc::new(OddSource {
            inner,
            wrap: Arc::new(wrap),
        });
        let net = loopback().await;
        let grants = Grants::default();
        let control = Control::new(
            Arc::new(MemRefs::default()),
            grants.clone(),
            Hub::default(),
            "odd",
        );
        let uploads = Uploads::new(UploadLimits::default(), Hub::default());
        let provider = Provider::new(source, Arc::new(Open), grants, Traffic::default(), uploads);
        let doors = net.serve(control, provider);
        Self { net, _doors: doors }
    }
}

/// Notes what it hears.
#[derive(Default)]
struct Heard {
    bytes: AtomicU64,
    dropped: Mutex<Vec<(EndpointId, Reason)>>,
}

impl Progress for Heard {
    fn received(&self, _: EndpointId, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn dropped(&self, peer: EndpointId, reason: &Reason) {
        self.dropped.lock().unwrap().push((peer, reason.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_whole_with_its_outboards_from_one_peer() {
    let (node, file, net) = (Node::start().await, file(1), loopback().await);
    file.add_to(&node.source, |_| true);
    let (want, sink) = file.want_all();
    let heard = Arc::new(Heard::default());
    let peers = vec![Peer::new(&net, node.net.addr())];
    let fetched = fetch(vec![want], peers, options(), heard.clone())
        .await
        .unwrap();
    sink.check_all(&file);
    assert_eq!(fetched.bytes, file.data.len() as u64);
    assert_eq!(heard.bytes.load(Ordering::Relaxed), fetched.bytes);
    let counters = node.traffic.of(net.endpoint().id());
    assert!(counters.sent() >= fetched.bytes && counters.requests() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_peers_share_the_work() {
    let (file, net) = (file(2), loopback().await);
    let nodes = [
        Node::start().await,
        Node::start().await,
        Node::start().await,
    ];
    nodes
        .iter()
        .for_each(|node| file.add_to(&node.source, |_| true));
    let (want, sink) = file.want_all();
    let nets: Vec<&Net> = nodes.iter().map(|node| &node.net).collect();
    let fetched = get(&net, want, &nets).await.unwrap();
    sink.check_all(&file);
    assert!(
        fetched
            .peers
            .iter()
            .all(|peer| peer.bytes > 0 && peer.dropped.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ranges_that_are_wanted_come() {
    let (node, file, net) = (Node::start().await, file(3), loopback().await);
    file.add_to(&node.source, |_| true);
    // Columns of 1000 bytes, far apart, and one longer run.
    let mut ranges: Vec<(u32, Range<u32>)> = (0..100)
        .map(|row| (2, row * 50_000..row * 50_000 + 1000))
        .collect();
    ranges.push((0, 1 << 20..3 << 20));
    ranges.push((150, 5..9));
    let (want, sink) = file.want(ranges.clone());
    let fetched = get(&net, want, &[&node.net]).await.unwrap();
    sink.check(&file);
    let state = sink.state.lock().unwrap();
    for (chunk, range) in ranges {
        let start: usize = file.list.lengths[..chunk as usize]
            .iter()
            .map(|l| *l as usize)
            .sum();
        assert!(
            state.1[start + range.start as usize..start + range.end as usize]
                .iter()
                .all(|c| *c)
        );
    }
    assert!(
        fetched.bytes <= (2 << 20) + 100 * 2048 + 10_000,
        "{} bytes",
        fetched.bytes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_peer_is_dropped_by_name_and_others_fill_in() {
    let (file, net) = (file(4), loopback().await);
    let honest = Node::start().await;
    file.add_to(&honest.source, |_| true);
    let liar = Odd::start(&file, |chunk, range| {
        let mut bytes = chunk.read(range.clone())?.to_vec();
        if chunk.data.len() == 16 << 20 && range.start >= 4 << 20 {
            bytes[77] ^= 1;
        }
        Ok(bytes.into())
    });
    let liar = liar.await;
    let (want, sink) = file.want_all();
    let heard = Arc::new(Heard::default());
    let peers = vec![
        Peer::new(&net, liar.net.addr()),
        Peer::new(&net, honest.net.addr()),
    ];
    let fetched = fetch(vec![want], peers, options(), heard.clone())
        .await
        .unwrap();
    sink.check_all(&file);
    assert_eq!(
        fetched.peers[0].dropped,
        Some(Reason::Lied(file.list.hashes[2]))
    );
    assert_eq!(fetched.peers[1].dropped, None);
    let dropped = heard.dropped.lock().unwrap().clone();
    assert_eq!(
        dropped,
        [(liar.net.endpoint().id(), Reason::Lied(file.list.hashes[2]))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_a_lying_peer_leaves_what_was_verified_and_a_clear_error() {
    let (file, net) = (MemFile::new(&[8 << 20], 5), loopback().await);
    let liar = Odd::start(&file, |chunk, range| {
        let mut bytes = chunk.read(range.clone())?.to_vec();
        if range.start >= 6 << 20 {
            bytes[0] ^= 1;
        }
        Ok(bytes.into())
    });
    let liar = liar.await;
    let (want, sink) = file.want_all();
    let peers = vec![Peer::new(&net, liar.net.addr())];
    let one = FetchOptions {
        streams: 1,
        ..options()
    };
    let error = fetch(vec![want], peers, one, Arc::new(()))
        .await
        .unwrap_err();
    let FetchError::AllPeersFailed { peers, bytes } = &error else {
        panic!("{error}")
    };
    assert_eq!(peers[0].dropped, Some(Reason::Lied(file.list.hashes[0])));
    assert!(
        error.to_string().contains("sent wrong bytes for chunk"),
        "{error}"
    );
    let kept = sink.check(&file);
    assert_eq!(kept as u64 + bytes, file.data.len() as u64);
    assert!(kept > 0 && kept <= 6 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dying_peer_held_up_goes_to_another() {
    let (file, net) = (file(6), loopback().await);
    let good = Node::start().await;
    file.add_to(&good.source, |_| true);
    // It dies, without a goodbye, once it has sent some megabytes.
    let sent = Arc::new(AtomicU64::new(0));
    let (kill, mut killed) = tokio::sync::mpsc::unbounded_channel();
    let dying = Odd::start(&file, move |chunk, range| {
        let bytes = range.end - range.start;
        if sent.fetch_add(bytes, Ordering::Relaxed) > 3 << 20 {
            kill.send(()).ok();
        }
        chunk.read(range)
    });
    let dying = dying.await;
    let addr = dying.net.addr();
    let peers = vec![Peer::new(&net, addr), Peer::new(&net, good.net.addr())];
    let killer = tokio::spawn(async move {
        killed.recv().await;
        dying.net.close().await;
    });
    let (want, sink) = file.want_all();
    let fetched = fetch(vec![want], peers, options(), Arc::new(()))
        .await
        .unwrap();
    sink.check_all(&file);
    assert!(fetched.peers[1].bytes > 0);
    killer.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalling_peer_is_given_up() {
    let (file, net) = (
        MemFile::new(&[3 << 20, 3 << 20, 3 << 20, 3 << 20], 7),
        loopback().await,
    );
    let good = Node::start().await;
    file.add_to(&good.source, |_| true);
    let (gate, open) = std::sync::mpsc::channel::<()>();
    let open = Mutex::new(open);
    let stalling = Odd::start(&file, move |chunk, range| {
        if chunk.data.len() == 3 << 20 {
            // Blocks until the test is over.
            open.lock().unwrap().recv().ok();
        }
        chunk.read(range)
    });
    let stalling = stalling.await;
    let short = FetchOptions {
        stall: Duration::from_millis(200),
        ..options()
    };
    let (want, _sink) = file.want_all();
    let peers = vec![Peer::new(&net, stalling.net.addr())];
    let error = fetch(vec![want], peers, short.clone(), Arc::new(()))
        .await
        .unwrap_err();
    let FetchError::AllPeersFailed { peers, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(peers[0].dropped, Some(Reason::Stalled(short.stall)));
    let (want, sink) = file.want_all();
    let peers = vec![
        Peer::new(&net, stalling.net.addr()),
        Peer::new(&net, good.net.addr()),
    ];
    fetch(vec![want], peers, short, Arc::new(())).await.unwrap();
    sink.check_all(&file);
    drop(gate);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_hold_parts_make_a_whole_together() {
    let (file, net) = (file(8), loopback().await);
    let (even, odd) = (Node::start().await, Node::start().await);
    file.add_to(&even.source, |chunk| chunk % 2 == 0);
    file.add_to(&odd.source, |chunk| chunk % 2 == 1);
    let (want, sink) = file.want_all();
    let fetched = get(&net, want, &[&even.net, &odd.net]).await.unwrap();
    sink.check_all(&file);
    assert_eq!(fetched.bytes, file.data.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_not_asked_for_what_it_is_known_to_lack() {
    let (file, net) = (file(9), loopback().await);
    let (even, odd) = (Node::start().await, Node::start().await);
    file.add_to(&even.source, |chunk| chunk % 2 == 0);
    file.add_to(&odd.source, |chunk| chunk % 2 == 1);
    let held = |rest: usize| {
        let hashes = file.list.hashes.iter().enumerate();
        let held = hashes.filter(|(at, _)| at % 2 == rest);
        Have::chunks(held.map(|(_, hash)| *hash))
    };
    let peers = vec![
        Peer::new(&net, even.net.addr()).holding(held(0)),
        Peer::new(&net, odd.net.addr()).holding(held(1)),
    ];
    let (want, sink) = file.want_all();
    let fetched = fetch(vec![want], peers, options(), Arc::new(()))
        .await
        .unwrap();
    sink.check_all(&file);
    let requests: u64 = fetched.peers.iter().map(|peer| peer.requests).sum();
    assert!(requests < 60, "{requests} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_peer_has_is_named_and_the_rest_comes() {
    let (file, net) = (file(10), loopback().await);
    let nodes = [Node::start().await, Node::start().await];
    nodes
        .iter()
        .for_each(|node| file.add_to(&node.source, |chunk| chunk != 3));
    let (want, sink) = file.want_all();
    let error = get(&net, want, &[&nodes[0].net, &nodes[1].net])
        .await
        .unwrap_err();
    let FetchError::NoPeerHasIt { chunk, bytes, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((chunk, bytes), (file.list.hashes[3], 100_000));
    assert_eq!(sink.check(&file), file.data.len() - 100_000);
    // A file of which nobody has even the HashSeq.
    let (want, _) = MemFile::new(&[5, 6], 11).want_all();
    let error = get(&net, want, &[&nodes[0].net]).await.unwrap_err();
    assert!(
        matches!(error, FetchError::NoPeerHasIt { bytes: 11, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_peer_or_with_a_bad_want_the_error_says_so() {
    let (file, net) = (file(12), loopback().await);
    let (want, _) = file.want_all();
    let error = get(&net, want, &[]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "every peer failed ({} bytes are missing): there is none",
            file.data.len()
        )
    );
    for range in [(0, 0..(5 << 20) + 1), (9999, 0..1)] {
        let (want, _) = file.want(vec![range]);
        assert!(matches!(
            get(&net, want, &[]).await,
            Err(FetchError::BadWant { .. })
        ));
    }
    let (want, _) = file.want(vec![(0, 5..5)]);
    assert_eq!(get(&net, want, &[]).await.unwrap().bytes, 0);
}

struct Full;

impl PieceSink for Full {
    fn store(&self, _: u32, _: u32, _: &[u8], _: &[Parent]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_fetch_with_its_own_error() {
    let (node, file, net) = (Node::start().await, file(13), loopback().await);
    file.add_to(&node.source, |_| true);
    let (mut want, _) = file.want_all();
    want.sink = Arc::new(Full);
    let error = get(&net, want, &[&node.net]).await.unwrap_err();
    let FetchError::Sink(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

/// A sink that tells how often something was stored.
pub(super) struct Counting {
    pub(super) inner: Arc<dyn PieceSink>,
    pub(super) stored: watch::Sender<u64>,
}

impl PieceSink for Counting {
    fn store(&self, chunk: u32, offset: u32, data: &[u8], parents: &[Parent]) -> io::Result<()> {
        self.inner.store(chunk, offset, data, parents)?;
        self.stored.send_modify(|count| *count += 1);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_dropped_stores_nothing_more() {
    let (node, file, net) = (Node::start().await, file(14), loopback().await);
    file.add_to(&node.source, |_| true);
    let (mut want, sink) = file.want_all();
    let (counter, stored) = watch::channel(0);
    want.sink = Arc::new(Counting {
        inner: sink.clone(),
        stored: counter,
    });
    {
        let peers = vec![Peer::new(&net, node.net.addr())];
        let fetch = fetch(vec![want], peers, options(), Arc::new(()));
        tokio::pin!(fetch);
        while *stored.borrow() == 0 {
            tokio::select! {
                biased;
                _ = &mut fetch => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let at_drop = *stored.borrow();
    let (again, _) = file.want_all();
    get(&net, again, &[&node.net]).await.unwrap();
    assert_eq!(*stored.borrow(), at_drop);
    sink.check(&file);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_held() {
    let (node, net) = (Node::start().await, loopback().await);
    let file = MemFile::new(&[1 << 20, 1 << 20], 15);
    file.add_to(&node.source, |_| true);
    let (want, sink) = file.want_all();
    let peers = vec![Peer::new(&net, node.net.addr())];
    let slow = FetchOptions {
        rate: Some(2 << 20),
        ..options()
    };
    let start = std::time::Instant::now();
    fetch(vec![want], peers, slow, Arc::new(())).await.unwrap();
    sink.check_all(&file);
    assert!(
        start.elapsed() >= Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_whole_from_whoever_has_each() {
    let net = loopback().await;
    let (first, second) = (Node::start().await, Node::start().await);
    let documents: Vec<Bytes> = (0..3000)
        .map(|at| sample(if at == 7 { 3_000_000 } else { at * 3 }, 5).into())
        .collect();
    let mut hashes = Vec::new();
    for (at, document) in documents.iter().enumerate() {
        let node = if at % 3 == 0 { &first } else { &second };
        hashes.push(node.source.add(document.clone()));
    }
    let peers = [
        Peer::new(&net, first.net.addr()),
        Peer::new(&net, second.net.addr()),
    ];
    let got = fetch_documents(&peers, &hashes[..300], 4 << 20, &options())
        .await
        .unwrap();
    assert_eq!(got, documents[..300]);
    let got = fetch_documents(&peers[1..], &[hashes[301], hashes[1]], 4 << 20, &options()).await;
    assert_eq!(got.unwrap(), [documents[301].clone(), documents[1].clone()]);
    let error = fetch_documents(&peers[..1], &hashes[..2], 4 << 20, &options()).await;
    assert_eq!(error, Err(DocumentError::NoPeerHasIt { hash: hashes[1] }));
    let error = fetch_documents(&peers, &[hashes[7]], 2_999_999, &options()).await;
    let (hash, size, limit) = (hashes[7], 3_000_000, 2_999_999);
    assert_eq!(error, Err(DocumentError::TooLong { hash, size, limit }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_a_wrong_byte_is_refused() {
    let (file, net) = (MemFile::new(&[100_000], 16), loopback().await);
    let liar = Odd::start(&file, |chunk, range| {
        let mut bytes = chunk.read(range)?.to_vec();
        bytes[0] ^= 1;
        Ok(bytes.into())
    });
    let liar = liar.await;
    let peers = [Peer::new(&net, liar.net.addr())];
    let hash = file.list.hashes[0];
    let error = fetch_documents(&peers, &[hash], 1 << 20, &options()).await;
    let reasons = vec![Reason::Lied(hash)];
    assert_eq!(error, Err(DocumentError::AllPeersFailed { hash, reasons }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_peer_gets_more_connections_and_every_byte_still_comes_once() {
    let (file, net) = (MemFile::new(&[16 << 20; 12], 21), loopback().await);
    let node = Node::start().await;
    file.add_to(&node.source, |_| true);
    let (want, sink) = file.want_all();
    let fast = FetchOptions {
        fast: 1 << 20,
        // Slow enough that it is looked at several times.
        rate: Some(48 << 20),
        ..options()
    };
    let peer = Peer::new(&net, node.net.addr());
    let fetched = fetch(vec![want], vec![peer.clone()], fast, Arc::new(())).await;
    sink.check_all(&file);
    assert_eq!(fetched.unwrap().bytes, 192 << 20);
    assert!(peer.connections().await > 1, "one connection did it all");
}
