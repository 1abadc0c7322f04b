#![allow(clippy::unwrap_used)]
//! The LAN path: public bytes go over TCP, private ones never; what strangers and liars do there is bounded,
//! and where it cannot be had the fetch goes on over QUIC.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use iroh::SecretKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::{
    ChunkHash, VersionId,
    sync::{
        control::Control,
        endpoint::{Doors, Net},
        grants::{Grants, Traffic},
        hub::Hub,
        lan::{
            Lan, LanDialler, LanDoor,
            wire::{self, Status, Token},
        },
        limits::{
            LAN_CONNECTIONS_MAX, LAN_CONNECTIONS_PER_PEER_MAX, LAN_FAILURES_MAX, LAN_GREETINGS_MAX,
            LAN_TOKENS_PER_OFFER_MAX, REQUEST_BYTES_MAX,
        },
        message::LanQuery,
        provider::Provider,
        receiver::{FetchError, FetchOptions, Fetched, Peer, Reason, fetch},
        request::{BlobRequest, RangesSeq},
        selection::Selection,
        session::Session,
        source::{Access, Caller, ChunkRead, ChunkSource},
        testing::{MemChunk, MemFile, MemRefs, MemSource, loopback},
        uploads::{UploadLimits, Uploads},
    },
};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Lets everybody read everything; what is reached from public versions is written down.
#[derive(Default)]
struct Shelf(Mutex<HashMap<VersionId, Vec<ChunkHash>>>);

impl Access for Shelf {
    fn may_read(&self, _: &Caller, _: &ChunkHash) -> bool {
        true
    }

    fn is_public(&self, version: &VersionId, root: &ChunkHash) -> bool {
        let public = self.0.lock().unwrap();
        let reached = public.get(version);
        reached.is_some_and(|reached| reached.contains(root) || *root == (*version).into())
    }
}

type Change = Arc<dyn Fn(Bytes) -> io::Result<Bytes> + Send + Sync>;

/// Chunks in memory that change as they are read.
struct Changed(Arc<MemSource>, Change);

struct ChangedChunk(MemChunk, Change);

impl ChunkSource for Changed {
    fn open(&self, hash: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let chunk = self.0.chunk(hash);
        let change = Arc::clone(&self.1);
        Ok(chunk.map(|chunk| Arc::new(ChangedChunk(chunk, change)) as Arc<dyn ChunkRead>))
    }
}

impl ChunkRead for ChangedChunk {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn is_mapped(&self) -> bool {
        true
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.1(self.0.read(range)?)
    }

    fn outboard(&self) -> io::Result<Bytes> {
        self.0.outboard()
    }
}

/// A node with the LAN path.
struct LanNode {
    net: Net,
    source: Arc<MemSource>,
    shelf: Arc<Shelf>,
    traffic: Traffic,
    lan: Lan,
    door: Mutex<Option<LanDoor>>,
    _doors: Doors,
}

fn version() -> VersionId {
    VersionId::of(b"a version")
}

fn file() -> MemFile {
    MemFile::new(&[5 << 20, 3, 16 << 20, 100_000, 16_385, 4 << 20], 1)
}

impl LanNode {
    async fn start() -> Self {
        Self::changing(Ok).await
    }

    async fn changing(change: impl Fn(Bytes) -> io::Result<Bytes> + Send + Sync + 'static) -> Self {
        let (source, shelf) = (Arc::<MemSource>::default(), Arc::<Shelf>::default());
        let (grants, traffic, hub) = (Grants::default(), Traffic::default(), Hub::default());
        let chunks = Arc::new(Changed(Arc::clone(&source), Arc::new(change)));
        let access = Arc::clone(&shelf) as Arc<dyn Access>;
        let uploads = Uploads::new(UploadLimits::default(), hub.clone());
        let provider = Provider::new(chunks, access, grants.clone(), traffic.clone(), uploads);
        let door = LanDoor::open([HOST], provider.clone()).await.unwrap();
        let (lan, refs) = (door.lan(), Arc::new(MemRefs::default()));
        let control = Control::with_lan(refs, grants, hub, "test", Some(lan.clone()));
        let net = loopback().await;
        let doors = net.serve(control, provider);
        Self {
            net,
            source,
            shelf,
            traffic,
            lan,
            door: Mutex::new(Some(door)),
            _doors: doors,
        }
    }

    /// Holds a file, of a version that everybody may read.
    fn publish(&self, file: &MemFile) {
        file.add_to(&self.source, |_| true);
        let mut public = self.shelf.0.lock().unwrap();
        public.entry(version()).or_default().push(file.seq);
    }

    fn port(&self) -> SocketAddr {
        self.lan.listening()[0]
    }

    /// Tokens as a peer of its own gets them, which is at 127.0.0.1.
    fn tokens(&self, count: usize) -> Vec<Token> {
        let caller = Caller {
            id: SecretKey::generate().public(),
            capabilities: Arc::new([]),
        };
        let query = LanQuery {
            version: version(),
            connections: count as u64,
        };
        let offer = self.lan.offer(&caller, &[HOST], &query).unwrap();
        let tokens = offer.tokens.iter().map(|token| Token::from_slice(token));
        tokens.map(Option::unwrap).collect()
    }

    async fn peer(&self, asker: &Asker) -> Peer {
        let session = Session::open(&asker.net, self.net.addr(), "asker", Vec::new());
        let session = Arc::new(session.await.unwrap());
        let counters = asker.traffic.of(self.net.endpoint().id());
        Peer::new(&asker.net, self.net.addr()).over_lan(LanDialler::new(
            session,
            version(),
            counters,
        ))
    }

    async fn get(&self, file: &MemFile, asker: &Asker) -> Result<Fetched, FetchError> {
        let (want, sink) = file.want_all();
        let peers = vec![self.peer(asker).await];
        let fetched = fetch(vec![want], peers, FetchOptions::default(), Arc::new(())).await?;
        sink.check_all(file);
        Ok(fetched)
    }

    /// Bytes sent to the asker: of all, and of those over the LAN path.
    fn sent(&self, asker: &Asker) -> (u64, u64) {
        let counters = self.traffic.of(asker.net.endpoint().id());
        (counters.sent(), counters.lan_sent())
    }
}

struct Asker {
    net: Net,
    traffic: Traffic,
}

impl Asker {
    async fn start() -> Self {
        Self {
            net: loopback().await,
            traffic: Traffic::default(),
        }
    }

    fn received(&self, from: &LanNode) -> u64 {
        self.traffic.of(from.net.endpoint().id()).lan_received()
    }
}

/// Whether the other side hangs up without a word.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]).await, Ok(0) | Err(_))
}

/// A connection on which `token` was accepted.
async fn greeted(at: SocketAddr, token: &Token) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&token.greeting()).await.ok()?;
    let mut proof = [0; 32];
    stream.read_exact(&mut proof).await.ok()?;
    assert_eq!(proof, token.proof());
    Some(stream)
}

fn get(root: ChunkHash, size: u64) -> BlobRequest {
    let all = Selection::all(size);
    BlobRequest::Get {
        root,
        ranges: RangesSeq::of_selections([(0, &all)]),
    }
}

async fn answer(stream: &mut TcpStream, request: &BlobRequest) -> (Vec<u8>, Status) {
    let request = wire::write_request(request).unwrap();
    stream.write_all(&request).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.unwrap();
        match wire::record_len(length).unwrap() {
            Some(len) => {
                let start = bytes.len();
                bytes.resize(start + len, 0);
                stream.read_exact(&mut bytes[start..]).await.unwrap();
            }
            None => {
                return (
                    bytes,
                    Status::read(stream.read_u8().await.unwrap()).unwrap(),
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_version_comes_over_tcp_alone() {
    let (node, asker, file) = (LanNode::start().await, Asker::start().await, file());
    node.publish(&file);
    let fetched = node.get(&file, &asker).await.unwrap();
    let size = file.data.len() as u64;
    assert_eq!(fetched.peers[0].no_lan, None);
    assert_eq!(node.sent(&asker), (size, size));
    assert!(asker.received(&node) > size, "with proofs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_version_never_goes_over_tcp() {
    let (node, asker, file) = (LanNode::start().await, Asker::start().await, file());
    file.add_to(&node.source, |_| true);
    let fetched = node.get(&file, &asker).await.unwrap();
    assert!(fetched.peers[0].no_lan.is_some());
    assert_eq!(node.sent(&asker), (file.data.len() as u64, 0));
    assert_eq!(asker.received(&node), 0);
}

#[tokio::test]
async fn a_token_opens_one_version_as_long_as_it_is_public() {
    let node = LanNode::start().await;
    let (inside, outside) = (
        node.source.add(&b"inside"[..]),
        node.source.add(&b"outside"[..]),
    );
    let public = |reached: Vec<ChunkHash>| {
        let other = VersionId::of(b"another public version");
        *node.shelf.0.lock().unwrap() =
            HashMap::from([(version(), reached), (other, vec![outside])]);
    };
    public(vec![inside]);
    let tokens = node.tokens(1);
    let mut stream = greeted(node.port(), &tokens[0]).await.unwrap();
    let whole = |text: &[u8]| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text);
        (bytes, Status::Complete)
    };
    let nothing = (Vec::new(), Status::Absent);
    assert_eq!(answer(&mut stream, &get(inside, 6)).await, whole(b"inside"));
    assert_eq!(answer(&mut stream, &get(outside, 7)).await, nothing);
    let many = BlobRequest::GetMany {
        hashes: vec![inside, outside],
        ranges: RangesSeq::of_selections([(0, &Selection::all(6)), (1, &Selection::all(7))]),
    };
    let (bytes, status) = answer(&mut stream, &many).await;
    assert_eq!((bytes, status), (whole(b"inside").0, Status::Absent));
    node.shelf.0.lock().unwrap().remove(&version());
    assert_eq!(answer(&mut stream, &get(inside, 6)).await, nothing);
    public(vec![inside]);
    assert_eq!(answer(&mut stream, &get(inside, 6)).await, whole(b"inside"));
}

#[tokio::test]
async fn a_token_that_is_replayed_or_made_up_and_garbage_are_hung_up_on() {
    let node = LanNode::start().await;
    node.publish(&file());
    let tokens = node.tokens(2);
    let first = greeted(node.port(), &tokens[0]).await;
    assert!(first.is_some());
    assert!(greeted(node.port(), &tokens[0]).await.is_none(), "replayed");
    drop(first);
    assert!(
        greeted(node.port(), &tokens[0]).await.is_none(),
        "and again"
    );
    let made_up = Token::from_slice(&[0; 32]).unwrap();
    assert!(greeted(node.port(), &made_up).await.is_none());
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n................."[..],
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(node.port()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        assert!(is_closed(&mut stream).await);
    }
    // From another address than the one it was given to.
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind((Ipv4Addr::new(127, 0, 0, 9), 0).into())
        .unwrap();
    let mut elsewhere = socket.connect(node.port()).await.unwrap();
    elsewhere.write_all(&tokens[1].greeting()).await.unwrap();
    assert!(is_closed(&mut elsewhere).await);
    assert!(
        greeted(node.port(), &tokens[1]).await.is_none(),
        "it is used up"
    );
}

#[tokio::test]
async fn requests_that_are_too_long_or_of_other_kinds_are_hung_up_on() {
    let node = LanNode::start().await;
    node.publish(&file());
    let hash = ChunkHash::of(b"a");
    let tokens = node.tokens(4);
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes().to_vec();
    let with_length = |body: Vec<u8>| [length(body.len()), body].concat();
    let requests = [
        length(REQUEST_BYTES_MAX + 1),
        length(0),
        with_length(BlobRequest::Observe { hash }.encode()),
        with_length(BlobRequest::Push.encode()),
    ];
    for (token, request) in tokens.iter().zip(requests) {
        let mut stream = greeted(node.port(), token).await.unwrap();
        stream.write_all(&request).await.unwrap();
        assert!(is_closed(&mut stream).await, "{request:?}");
    }
}

#[tokio::test]
async fn strangers_hold_few_connections_and_not_for_long() {
    let node = LanNode::start().await;
    let from = |host: u8| {
        let at = node.port();
        async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket
                .bind((Ipv4Addr::new(127, 0, 0, host), 0).into())
                .unwrap();
            let mut stream = socket.connect(at).await.unwrap();
            // As far as a slow one comes: the magic without its end.
            stream.write_all(&wire::MAGIC[..5]).await.ok();
            stream
        }
    };
    let mut held = Vec::new();
    for host in [2, 3] {
        for _ in 0..LAN_FAILURES_MAX {
            held.push(from(host).await);
        }
        assert!(
            is_closed(&mut from(host).await).await,
            "one too many of one"
        );
    }
    assert_eq!(held.len(), LAN_GREETINGS_MAX);
    assert!(is_closed(&mut from(4).await).await, "one too many of all");
    // Those that are heard are hung up on when their time is over.
    for stream in &mut held {
        assert!(is_closed(stream).await);
    }
    node.publish(&file());
    let token = &node.tokens(1)[0];
    assert!(
        greeted(node.port(), token).await.is_some(),
        "others are heard"
    );
}

#[tokio::test]
async fn all_peers_have_only_so_many_connections() {
    let node = LanNode::start().await;
    node.publish(&file());
    let mut held = Vec::new();
    while held.len() < LAN_CONNECTIONS_MAX {
        for token in node.tokens(LAN_TOKENS_PER_OFFER_MAX) {
            held.push(greeted(node.port(), &token).await.unwrap());
        }
    }
    let mut more = greeted(node.port(), &node.tokens(1)[0]).await.unwrap();
    assert!(is_closed(&mut more).await, "one too many of all");
    held.pop();
    // Room is made when the node has noticed that one is gone.
    loop {
        let mut again = greeted(node.port(), &node.tokens(1)[0]).await.unwrap();
        let request = wire::write_request(&get(ChunkHash::of(b"a"), 1)).unwrap();
        again.write_all(&request).await.ok();
        if !is_closed(&mut again).await {
            break;
        }
    }
}

#[tokio::test]
async fn one_peer_has_only_so_many_connections() {
    let (node, asker) = (LanNode::start().await, Asker::start().await);
    node.publish(&file());
    let session = Session::open(&asker.net, node.net.addr(), "asker", Vec::new());
    let session = session.await.unwrap();
    let mut held = Vec::new();
    while held.len() <= LAN_CONNECTIONS_PER_PEER_MAX {
        let (at, offer) = session.lan(version(), 1).await.unwrap().unwrap();
        assert_eq!((at.ip(), offer.port), (HOST, node.port().port()));
        let token = Token::from_slice(&offer.tokens[0]).unwrap();
        held.push(greeted(node.port(), &token).await.unwrap());
    }
    assert!(is_closed(held.last_mut().unwrap()).await, "one too many");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lies_over_tcp_is_dropped() {
    let file = file();
    let (liar, asker) = (
        LanNode::changing(|bytes| {
            let mut bytes = bytes.to_vec();
            bytes[0] ^= u8::from(bytes.len() > 200_000);
            Ok(bytes.into())
        })
        .await,
        Asker::start().await,
    );
    liar.publish(&file);
    let FetchError::AllPeersFailed { peers, .. } = liar.get(&file, &asker).await.unwrap_err()
    else {
        panic!("it lied")
    };
    assert!(
        matches!(peers[0].dropped, Some(Reason::Lied(_))),
        "{peers:?}"
    );
    assert!(asker.received(&liar) > 0);
    let (all, over_lan) = liar.sent(&asker);
    assert_eq!(all, over_lan, "it is not asked over QUIC after that");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_port_is_closed_quic_takes_over() {
    let (node, asker, file) = (LanNode::start().await, Asker::start().await, file());
    node.publish(&file);
    drop(node.door.lock().unwrap().take());
    // The listener is gone when its task is.
    while TcpStream::connect(node.port()).await.is_ok() {}
    let fetched = node.get(&file, &asker).await.unwrap();
    let why = fetched.peers[0].no_lan.clone().unwrap();
    assert!(why.starts_with("TCP to 127.0.0.1"), "{why}");
    assert_eq!(fetched.peers[0].dropped, None);
    assert_eq!(node.sent(&asker), (file.data.len() as u64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_at_the_port_is_not_held_against_the_peer() {
    for says in [
        &b"SSH-2.0-something that is long enough for a proof\r\n"[..],
        b"",
    ] {
        let (node, asker, file) = (LanNode::start().await, Asker::start().await, file());
        node.publish(&file);
        drop(node.door.lock().unwrap().take());
        let stranger = loop {
            if let Ok(stranger) = TcpListener::bind(node.port()).await {
                break stranger;
            }
        };
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = stranger.accept().await {
                stream.write_all(says).await.ok();
                open.push(stream);
            }
        });
        let fetched = node.get(&file, &asker).await.unwrap();
        assert!(fetched.peers[0].no_lan.is_some());
        assert_eq!(fetched.peers[0].dropped, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_breaks_on_the_way_goes_on_over_quic() {
    let (broken, file) = (Arc::new(AtomicBool::new(false)), file());
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let read = Mutex::new(0);
    let node = LanNode::changing({
        let broken = Arc::clone(&broken);
        move |bytes| {
            let mut read = read.lock().unwrap();
            *read += bytes.len();
            if *read > 2 << 20 && !broken.load(Ordering::Relaxed) {
                tell.send(()).ok();
                while !broken.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            }
            Ok(bytes)
        }
    })
    .await;
    let (node, asker) = (Arc::new(node), Asker::start().await);
    node.publish(&file);
    let breaking = {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            told.recv().await;
            drop(node.door.lock().unwrap().take());
            while TcpStream::connect(node.port()).await.is_ok() {}
            broken.store(true, Ordering::Relaxed);
        })
    };
    let fetched = node.get(&file, &asker).await.unwrap();
    breaking.await.unwrap();
    let report = &fetched.peers[0];
    assert!(
        report.no_lan.is_some() && report.dropped.is_none(),
        "{report:?}"
    );
    let (all, over_lan) = node.sent(&asker);
    assert!(over_lan > 0 && all > over_lan, "{all} {over_lan}");
}
