#![allow(clippy::unwrap_used)]
//! Peers that mean harm, or are broken: what they say, and what they send, holds up nobody for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use iroh::{
    EndpointAddr,
    endpoint::{Connection, RecvStream, SendStream, VarInt},
};
use tokio::{sync::watch, task::JoinSet};

use super::fetch::Counting;
use crate::sync::{
    endpoint::{BLOBS_ALPN, Net},
    receiver::{FetchError, FetchOptions, Fetched, Have, Peer, Reason, Want, fetch},
    testing::{MemFile, Node, loopback},
};

/// What a peer does with a good answer to a request; it ends by closing the connection or the stream.
#[derive(Clone, Copy)]
enum Manner {
    /// Passes on so many bytes, waits until the receiver has stored any, and hangs up, all of the connection.
    HangUp(usize),
    /// Passes on a byte, waits, and passes on the next.
    Drip(Duration),
    /// Reads the request and says nothing.
    Silence,
}

/// A peer with its own key that answers with what a good node says, in its own manner.
struct Proxy {
    net: Net,
    connections: Arc<AtomicU32>,
    _client: Net,
    _task: JoinSet<()>,
}

impl Proxy {
    /// `stored` changes when the receiver stores something.
    async fn start(good: &Node, manner: Manner, stored: &watch::Receiver<u64>) -> Self {
        let (net, client) = (loopback().await, loopback().await);
        let behind = client
            .endpoint()
            .connect(good.net.addr(), BLOBS_ALPN)
            .await
            .unwrap();
        net.endpoint().set_alpns(vec![BLOBS_ALPN.to_vec()]);
        let connections = Arc::new(AtomicU32::new(0));
        let (endpoint, count) = (net.endpoint().clone(), Arc::clone(&connections));
        let (mut task, stored) = (JoinSet::new(), stored.clone());
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else {
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(connection, behind.clone(), manner, stored.clone()));
            }
        });
        Self {
            net,
            connections,
            _client: client,
            _task: task,
        }
    }

    fn addr(&self) -> EndpointAddr {
        self.net.addr()
    }
}

async fn serve(
    connection: Connection,
    behind: Connection,
    manner: Manner,
    stored: watch::Receiver<u64>,
) {
    let mut streams = JoinSet::new();
    while let Ok((send, recv)) = connection.accept_bi().await {
        streams.spawn(answer(
            connection.clone(),
            behind.clone(),
            (send, recv),
            manner,
            stored.clone(),
        ));
    }
}

/// Passes a request on and its answer back; gives up quietly when either side goes.
async fn answer(
    connection: Connection,
    behind: Connection,
    (mut send, mut recv): (SendStream, RecvStream),
    manner: Manner,
    mut stored: watch::Receiver<u64>,
) -> Option<()> {
    let request = recv.read_to_end(1 << 20).await.ok()?;
    let (mut ask, mut from) = behind.open_bi().await.ok()?;
    ask.write_all(&request).await.ok()?;
    ask.finish().ok()?;
    match manner {
        Manner::HangUp(bytes) => {
            let mut left = bytes;
            stored.mark_unchanged();
            while let Some(part) = from.read_chunk(left.min(64 << 10)).await.ok()? {
                left -= part.len();
                send.write_chunk(part).await.ok()?;
                if left == 0 {
                    // What was written must be read, or nothing ever is. Nobody stores when nobody waits for it.
                    tokio::select! {
                        _ = stored.changed() => {}
                        _ = connection.closed() => {}
                    }
                    connection.close(VarInt::from_u32(0), b"enough");
                    return None;
                }
            }
            send.finish().ok()
        }
        Manner::Drip(wait) => {
            while let Some(part) = from.read_chunk(1).await.ok()? {
                send.write_chunk(part).await.ok()?;
                tokio::time::sleep(wait).await;
            }
            send.finish().ok()
        }
        Manner::Silence => send.stopped().await.ok().map(drop),
    }
}

fn options() -> FetchOptions {
    FetchOptions {
        stall: Duration::from_secs(1),
        ..FetchOptions::default()
    }
}

async fn get(want: Want, peers: Vec<Peer>) -> Result<Fetched, FetchError> {
    fetch(vec![want], peers, options(), Arc::new(())).await
}

async fn holder(file: &MemFile) -> Node {
    let node = Node::start().await;
    file.add_to(&node.source, |_| true);
    node
}

/// Fetches a file from a peer of this manner, which is the first, and from a good one. Returns also how often the
/// first was connected to.
async fn get_beside_a_good_one(file: &MemFile, manner: Manner) -> (Fetched, u32) {
    let (net, good) = (loopback().await, holder(file).await);
    let proxy = Proxy::start(&good, manner, &watch::channel(0).1).await;
    let (want, sink) = file.want_all();
    let peers = vec![
        Peer::new(&net, proxy.addr()),
        Peer::new(&net, good.net.addr()),
    ];
    let fetched = get(want, peers).await.unwrap();
    sink.check_all(file);
    (fetched, proxy.connections.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hangs_up_within_each_piece_is_used_as_long_as_it_sends_any() {
    let file = MemFile::new(&[6 << 20, 2 << 20], 31);
    let (net, good) = (loopback().await, holder(&file).await);
    let (mut want, sink) = file.want_all();
    let (counter, stored) = watch::channel(0);
    want.sink = Arc::new(Counting {
        inner: sink.clone(),
        stored: counter,
    });
    let proxy = Proxy::start(&good, Manner::HangUp(700_000), &stored).await;
    let fetched = get(want, vec![Peer::new(&net, proxy.addr())]).await;
    let fetched = fetched.unwrap();
    sink.check_all(&file);
    assert_eq!(fetched.bytes, 8 << 20, "a piece was fetched twice");
    assert!(proxy.connections.load(Ordering::Relaxed) > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hangs_up_before_the_first_byte_is_dropped() {
    let file = MemFile::new(&[2 << 20], 32);
    let (fetched, connections) = get_beside_a_good_one(&file, Manner::HangUp(8)).await;
    assert_eq!(fetched.peers[0].bytes, 0);
    assert!(connections <= 2, "dialled {connections} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_a_byte_at_a_time_holds_up_nobody() {
    let file = MemFile::new(&[16 << 20, 16 << 20], 33);
    let drip = Manner::Drip(Duration::from_millis(300));
    let (fetched, _) = get_beside_a_good_one(&file, drip).await;
    assert_eq!((fetched.peers[0].bytes, fetched.bytes), (0, 32 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_requests_and_sends_nothing_is_dropped_as_stalled() {
    let file = MemFile::new(&[3 << 20], 34);
    let (net, good) = (loopback().await, holder(&file).await);
    let proxy = Proxy::start(&good, Manner::Silence, &watch::channel(0).1).await;
    let (want, _sink) = file.want_all();
    let error = get(want, vec![Peer::new(&net, proxy.addr())]).await;
    let FetchError::AllPeersFailed { peers, bytes } = error.unwrap_err() else {
        panic!("nobody else could be asked");
    };
    assert_eq!(peers[0].dropped, Some(Reason::Stalled(options().stall)));
    assert_eq!(bytes, 3 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_have_map_that_claims_too_much_costs_a_few_requests() {
    let file = MemFile::new(&[4 << 20, 4 << 20, 4 << 20, 100], 35);
    let (net, good) = (loopback().await, holder(&file).await);
    let empty = Node::start().await;
    // It holds the list of the chunks, and none of them.
    file.add_to(&empty.source, |_| false);
    let (want, sink) = file.want_all();
    let peers = vec![
        Peer::new(&net, empty.net.addr()).holding(Have::all()),
        Peer::new(&net, good.net.addr()),
    ];
    let fetched = get(want, peers).await.unwrap();
    sink.check_all(&file);
    assert_eq!(
        (fetched.peers[0].bytes, fetched.bytes),
        (0, (12 << 20) + 100)
    );
    assert!(
        fetched.peers[0].requests <= 8,
        "{} requests for four chunks that it lacks",
        fetched.peers[0].requests
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_have_map_that_claims_nothing_is_believed() {
    let file = MemFile::new(&[4 << 20], 36);
    let (net, good) = (loopback().await, holder(&file).await);
    let (want, sink) = file.want_all();
    let shy = holder(&file).await;
    let peers = vec![
        Peer::new(&net, shy.net.addr()).holding(Have::chunks([])),
        Peer::new(&net, good.net.addr()),
    ];
    let fetched = get(want, peers).await.unwrap();
    sink.check_all(&file);
    assert_eq!(fetched.peers[0].requests, 0);
}
