//! Who is told of whom: peers of a version are named to its readers, and what lets us read a private model is
//! shown to nobody who could not have it anyway.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use iroh::SecretKey;
use lode_node::{
    Node, NodeOptions,
    command::{Command, Outcome},
};
use lode_store::{
    ChunkHash, PublisherId, VersionId,
    sync::{
        control::Control,
        endpoint::{Doors, EndpointOptions, Net},
        grants::{Grants, Traffic},
        hub::{Hub, VersionFiles},
        message::PeerAddr,
        provider::Provider,
        session::Session,
        source::{Access, Caller, ChunkRead, ChunkSource, HeldMap, ModelRecords, RefSource},
        uploads::{UploadLimits, Uploads},
    },
    ticket::Ticket,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::common::{TestNode, assert_same, node, options};

/// A folder with one file of random-looking bytes.
fn folder(name: &str, size: usize) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("model");
    fs::create_dir(&root).unwrap();
    write(&root, name, size);
    (dir, root)
}

fn write(root: &Path, name: &str, size: usize) {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    fs::write(root.join(name), bytes).unwrap();
}

/// A node that sends no more than so many bytes a second.
fn slow(bytes_per_second: u64) -> TestNode {
    let home = tempfile::tempdir().unwrap();
    let mut options: NodeOptions = options();
    options.network.upload = Some(bytes_per_second);
    TestNode {
        node: Node::open(home.path(), options).unwrap(),
        home,
    }
}

/// What this node is shown by another at this moment.
async fn shown(to: &TestNode, by: &TestNode) -> Vec<Bytes> {
    let by = by.node.network().await.unwrap().id();
    let grants = to.node.network().await.unwrap().grants();
    grants.caller(by).capabilities.to_vec()
}

async fn is_connected(from: &TestNode, to: &TestNode) -> bool {
    let to = to.node.network().await.unwrap().id().to_string();
    let Outcome::Peers { peers } = from.run(Command::Peers).await.unwrap() else {
        panic!("peers answers peers")
    };
    peers.iter().any(|peer| peer.node == to && peer.connected)
}

/// A peer that answers as it likes.
struct Rogue {
    net: Net,
    _doors: Doors,
}

/// Says that it holds every version, names another peer, and keeps what it is shown.
struct Lies {
    names: Vec<PeerAddr>,
    shown: mpsc::UnboundedSender<Vec<Bytes>>,
}

impl RefSource for Lies {
    fn refs(&self, _: &Caller, _: &PublisherId, _: &str) -> Option<ModelRecords> {
        None
    }

    fn held(&self, caller: &Caller, _: &VersionId) -> Option<HeldMap> {
        self.shown.send(caller.capabilities.to_vec()).ok();
        Some(HeldMap::all(1))
    }

    fn files(&self, _: &Caller, _: &VersionId) -> Option<VersionFiles> {
        Some(vec![(ChunkHash::of(b"a file"), 1)])
    }

    fn peers(&self, _: &Caller, _: &VersionId) -> Vec<PeerAddr> {
        self.names.clone()
    }

    fn hinted(&self, _: &Caller, _: Option<VersionId>, _: Vec<PeerAddr>) {}
}

/// Holds nothing and lets nobody read it.
struct Nothing;

impl ChunkSource for Nothing {
    fn open(&self, _: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        Ok(None)
    }
}

impl Access for Nothing {
    fn may_read(&self, _: &Caller, _: &ChunkHash) -> bool {
        false
    }
}

impl Rogue {
    async fn start(names: Vec<PeerAddr>) -> (Self, mpsc::UnboundedReceiver<Vec<Bytes>>) {
        let (tell, shown) = mpsc::unbounded_channel();
        let options = EndpointOptions::loopback(SecretKey::generate());
        let net = Net::bind(&options).await.unwrap();
        let lies = Arc::new(Lies { names, shown: tell });
        let grants = Grants::default();
        let uploads = Uploads::new(UploadLimits::default(), Hub::default());
        let control = Control::new(lies, grants.clone(), Hub::default(), "rogue");
        let chunks = Arc::new(Nothing);
        let provider = Provider::new(chunks.clone(), chunks, grants, Traffic::default(), uploads);
        let doors = net.serve(control, provider);
        (Self { net, _doors: doors }, shown)
    }

    fn addr(&self) -> PeerAddr {
        PeerAddr::of(&self.net.addr())
    }

    /// A ticket like `ticket`, without its capability, with the address of this peer.
    fn in_ticket(&self, ticket: &str) -> String {
        let mut ticket: Ticket = ticket.parse().unwrap();
        let addr = self.net.addr();
        ticket.capability = None;
        ticket.addrs = vec![lode_store::ticket::PeerAddr {
            id: *addr.id.as_bytes(),
            ip: addr.ip_addrs().copied().collect(),
            relay: Vec::new(),
        }];
        ticket.to_text().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_peer_of_other_models_is_not_shown_what_opens_a_private_one() {
    let (publisher, stranger, puller) = (node(), node(), node());
    let (_secret, secret) = folder("secret.bin", 1 << 20);
    let (_open, open) = folder("open.bin", 1 << 20);
    publisher.push(&secret, "acme/secret").await.unwrap();
    stranger
        .push_with(&open, "other/open", |push| push.public = true)
        .await
        .unwrap();
    let ticket = publisher.share("acme/secret").await;
    puller
        .pull("acme/secret", Some(&ticket), None, |_| ())
        .await
        .unwrap();
    let ticket = stranger.share("other/open").await;
    puller
        .pull("other/open", Some(&ticket), None, |_| ())
        .await
        .unwrap();

    // Both are in the address book now, and both are asked.
    write(&secret, "more.bin", 1 << 20);
    publisher.push(&secret, "acme/secret").await.unwrap();
    let pulled = puller.pull("acme/secret", None, None, |_| ()).await;
    assert!(pulled.unwrap().size_fetched >= 1 << 20);
    assert!(is_connected(&puller, &stranger).await);
    assert_eq!(shown(&publisher, &puller).await.len(), 1, "and shown once");
    assert!(shown(&stranger, &puller).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_a_stranger_names_is_asked_without_what_opens_a_private_model() {
    let (publisher, puller) = (slow(1 << 20), node());
    let (dir, root) = folder("small.bin", 1000);
    publisher.push(&root, "acme/secret").await.unwrap();
    let ticket = publisher.share("acme/secret").await;
    puller
        .pull("acme/secret", Some(&ticket), None, |_| ())
        .await
        .unwrap();

    let (trap, mut shown_trap) = Rogue::start(Vec::new()).await;
    let (namer, mut shown_namer) = Rogue::start(vec![trap.addr()]).await;
    let ticket = namer.in_ticket(&ticket);
    puller.run(Command::PeersAdd { ticket }).await.unwrap();
    write(&root, "large.bin", 3 << 20);
    publisher.push(&root, "acme/secret").await.unwrap();
    let out = dir.path().join("out");
    let pull = puller.pull("acme/secret", None, Some(&out), |_| ());
    let asked = async {
        let namer = shown_namer.recv().await.unwrap();
        (namer, shown_trap.recv().await.unwrap())
    };
    let (pulled, (namer, trap)) = tokio::join!(pull, asked);
    pulled.unwrap();
    assert_same(&root, &out);
    assert!(namer.is_empty() && trap.is_empty(), "neither saw anything");
    assert_eq!(shown(&publisher, &puller).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_private_version_find_each_other_and_others_do_not_find_them() {
    let publisher = slow(4 << 20);
    let (a, b) = (node(), node());
    let (dir, root) = folder("weights.bin", 12 << 20);
    let pushed = publisher.push(&root, "acme/secret").await.unwrap();
    let ticket = publisher.share("acme/secret").await;
    let (to_a, to_b) = (dir.path().join("a"), dir.path().join("b"));
    let pull_a = a.pull("acme/secret", Some(&ticket), Some(&to_a), |_| ());
    let pull_b = b.pull("acme/secret", Some(&ticket), Some(&to_b), |_| ());
    let (pulled_a, pulled_b) = tokio::join!(pull_a, pull_b);
    pulled_a.unwrap();
    pulled_b.unwrap();
    assert_same(&root, &to_a);
    assert_same(&root, &to_b);
    let between = a.sent(Some(&b)).await + b.sent(Some(&a)).await;
    assert!(between > 0, "they knew only the publisher");

    let version: VersionId = pushed.version.parse().unwrap();
    let ticket: Ticket = ticket.parse().unwrap();
    let capability = Bytes::from(ticket.capability.unwrap().encode());
    let at = publisher.node.network().await.unwrap().ticket_addr();
    let at = PeerAddr {
        id: at.id,
        ip: at.ip.iter().map(ToString::to_string).collect(),
        relay: Vec::new(),
    };
    let at = at.to_endpoint_addr().unwrap();
    let net = || EndpointOptions::loopback(SecretKey::generate());
    let (one, two) = (net(), net());
    let (one, two) = (
        Net::bind(&one).await.unwrap(),
        Net::bind(&two).await.unwrap(),
    );
    let stranger = Session::open(&one, at.clone(), "stranger", Vec::new()).await;
    let stranger = stranger.unwrap();
    assert!(stranger.peers(version).await.unwrap().is_empty());
    assert!(stranger.watch(version).await.unwrap().is_none());
    let reader = Session::open(&two, at, "reader", vec![capability]).await;
    let reader = reader.unwrap();
    let named = async || {
        let named = reader.peers(version).await.unwrap();
        named.iter().map(|peer| peer.id).collect::<Vec<_>>()
    };
    let id_of = async |node: &TestNode| *node.node.network().await.unwrap().id().as_bytes();
    let (a_id, b_id) = (id_of(&a).await, id_of(&b).await);
    let both = named().await;
    assert!(both.contains(&a_id) && both.contains(&b_id));
    // Who is gone proves no more that it may read.
    a.node.shutdown().await;
    while named().await.contains(&a_id) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(named().await.contains(&b_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_without_a_ticket_asks_peers_that_were_useful_before() {
    let publisher = slow(4 << 20);
    let (a, b) = (node(), node());
    let (dir, root) = folder("weights.bin", 12 << 20);
    publisher
        .push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = publisher.share("acme/tiny").await;
    let (to_a, to_b) = (dir.path().join("a"), dir.path().join("b"));
    let pull_a = a.pull("acme/tiny", Some(&ticket), Some(&to_a), |_| ());
    let pull_b = b.pull("acme/tiny", Some(&ticket), Some(&to_b), |_| ());
    let (pulled_a, pulled_b) = tokio::join!(pull_a, pull_b);
    pulled_a.unwrap();
    pulled_b.unwrap();
    // One of them got bytes from the other, and keeps it in its book.
    let (getter, giver, got) = if a.sent(Some(&b)).await > 0 {
        (&b, &a, to_b)
    } else {
        assert!(b.sent(Some(&a)).await > 0);
        (&a, &b, to_a)
    };
    publisher.node.shutdown().await;
    fs::remove_dir_all(got).unwrap();
    let before = giver.sent(Some(getter)).await;
    let again = dir.path().join("again");
    let pulled = getter
        .pull("acme/tiny", None, Some(&again), |_| ())
        .await
        .unwrap();
    assert_eq!(pulled.providers, 1);
    assert_same(&root, &again);
    assert!(giver.sent(Some(getter)).await - before >= 12 << 20);
}
