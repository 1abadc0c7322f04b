//! A peer whose bytes flow as a test lets them: over real endpoints, from a real store.

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use iroh::SecretKey;
use lode_node::Node;
use lode_store::{
    ChunkHash, ChunkReader, PublisherId, Store, VersionId,
    manifest::VersionBytes,
    sync::{
        control::Control,
        endpoint::{Doors, EndpointOptions, Net},
        grants::{Grants, Traffic},
        hub::Hub,
        message::PeerAddr,
        provider::Provider,
        source::{Access, Caller, ChunkRead, ChunkSource, HeldMap, ModelRecords, RefSource},
        uploads::{UploadLimits, Uploads},
    },
    tree::Tree,
};

/// Chunks of so many bytes pass the gate; smaller ones, and documents, flow freely.
const GATED_BYTES: u64 = 64 << 10;

/// How many more bytes may leave.
#[derive(Default)]
pub(crate) struct Gate {
    bytes: Mutex<u64>,
    changed: Condvar,
    sent: AtomicU64,
    lies: AtomicBool,
}

impl Gate {
    /// Lets so many bytes pass from now on.
    pub(crate) fn let_pass(&self, bytes: u64) {
        *self.bytes.lock().unwrap() = bytes;
        self.changed.notify_all();
    }

    pub(crate) fn open(&self) {
        self.let_pass(u64::MAX);
    }

    /// Bytes of large chunks that were read to be sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    fn pass(&self, bytes: u64) {
        let mut left = self.bytes.lock().unwrap();
        while *left == 0 {
            left = self.changed.wait(left).unwrap();
        }
        *left = left.saturating_sub(bytes);
        self.sent.fetch_add(bytes, Ordering::SeqCst);
    }
}

/// The peer.
pub(crate) struct Origin {
    pub(crate) gate: Arc<Gate>,
    pub(crate) net: Net,
    doors: Option<Doors>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.gate.open();
    }
}

impl Origin {
    /// Serves all of a store to everyone, the gate open.
    pub(crate) async fn start(store: &Store) -> Self {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::SeqCst).to_le_bytes());
        secret[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        let options = EndpointOptions::loopback(SecretKey::from_bytes(&secret));
        let net = Net::bind(&options).await.unwrap();
        let gate = Arc::new(Gate::default());
        gate.open();
        let view = Arc::new(View {
            store: store.clone(),
            gate: Arc::clone(&gate),
        });
        let (grants, traffic) = (Grants::default(), Traffic::default());
        let uploads = Uploads::new(UploadLimits::default(), Hub::default());
        let control = Control::new(view.clone(), grants.clone(), Hub::default(), "origin");
        let provider = Provider::new(view.clone(), view, grants, traffic, uploads);
        let doors = Some(net.serve(control, provider));
        Self { gate, net, doors }
    }

    /// Makes bytes wrong from now on.
    pub(crate) fn lie(&self) {
        self.gate.lies.store(true, Ordering::SeqCst);
    }

    /// Puts this peer in a node's address book.
    pub(crate) fn known_to(&self, node: &Node) {
        let peer = PeerAddr::of(&self.net.addr());
        let key = format!("peer/{}", data_encoding::HEXLOWER.encode(&peer.id));
        let value = serde_ipld_dagcbor::to_vec(&peer).unwrap();
        node.store().local_set(&key, &value).unwrap();
    }

    /// Leaves, with what is under way cut off.
    pub(crate) async fn leave(&mut self) {
        self.net.endpoint().close().await;
        self.gate.open();
        if let Some(doors) = self.doors.take() {
            doors.close().await;
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

struct View {
    store: Store,
    gate: Arc<Gate>,
}

struct Gated {
    chunk: ChunkReader,
    gate: Arc<Gate>,
}

impl ChunkSource for View {
    fn open(&self, hash: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let chunk = self.store.chunk(hash).map_err(io::Error::other)?;
        Ok(chunk.map(|chunk| {
            let gate = Arc::clone(&self.gate);
            Arc::new(Gated { chunk, gate }) as Arc<dyn ChunkRead>
        }))
    }
}

impl ChunkRead for Gated {
    fn size(&self) -> u64 {
        u64::from(self.chunk.len())
    }

    fn is_mapped(&self) -> bool {
        false
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let bytes = self
            .chunk
            .read(range.start as u32..range.end as u32)
            .map_err(io::Error::other)?;
        if self.size() <= GATED_BYTES {
            return Ok(bytes);
        }
        self.gate.pass(bytes.len() as u64);
        if !self.gate.lies.load(Ordering::SeqCst) {
            return Ok(bytes);
        }
        let mut wrong = bytes.to_vec();
        let at = wrong.len() / 2;
        wrong[at] ^= 1;
        Ok(wrong.into())
    }

    fn outboard(&self) -> io::Result<Bytes> {
        self.chunk.outboard().map_err(io::Error::other)
    }
}

impl Access for View {
    fn may_read(&self, _: &Caller, _: &ChunkHash) -> bool {
        true
    }
}

impl RefSource for View {
    fn refs(&self, _: &Caller, publisher: &PublisherId, model: &str) -> Option<ModelRecords> {
        let log = self.store.identity(publisher).unwrap()?;
        let refs = self.store.ref_set(publisher, model).unwrap();
        let refs: Vec<Bytes> = refs
            .records()
            .into_iter()
            .map(|signed| signed.encode().into())
            .collect();
        (!refs.is_empty()).then(|| ModelRecords {
            identities: log
                .records()
                .into_iter()
                .map(|signed| signed.encode().into())
                .collect(),
            refs,
            signatures: Vec::new(),
        })
    }

    fn held(&self, _: &Caller, version: &VersionId) -> Option<HeldMap> {
        let bytes = self.store.document(&(*version).into()).unwrap()?;
        let version = VersionBytes::decode_as(*version, bytes).unwrap();
        let tree = self.store.document(&version.doc.tree.into()).unwrap()?;
        let tree = Tree::decode(&tree).unwrap();
        Some(HeldMap::all(
            tree.files().iter().map(|file| file.chunks.count).sum(),
        ))
    }

    fn peers(&self, _: &Caller, _: &VersionId) -> Vec<PeerAddr> {
        Vec::new()
    }

    fn hinted(&self, _: &Caller, _: Option<VersionId>, _: Vec<PeerAddr>) {}
}
