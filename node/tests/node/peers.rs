//! Who is told of whom: peers of a version are named to its readers, and what lets us read a private model is
//! shown to nobody who could not have it anyway.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
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
