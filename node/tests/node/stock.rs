//! A stock iroh-blobs peer, with its own store, takes whole files and whole versions from a node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use iroh::{
    Endpoint, EndpointAddr, RelayMode,
    endpoint::{Connection, presets},
};
use iroh_blobs::{
    ALPN, Hash, HashAndFormat,
    api::blobs::Bitfield,
    format::collection::Collection,
    protocol::{ChunkRanges, ChunkRangesExt, GetRequest},
    store::fs::FsStore,
};
use lode_node::command::{Command, Shown};
use lode_store::{
    ChunkHash, VersionId,
    local::{self, Keep},
    manifest::VersionBytes,
    tree::Tree,
};
use tempfile::TempDir;

use crate::common::{TestNode, model, node};

/// A peer that knows nothing of Lode.
struct Stock {
    store: FsStore,
    endpoint: Endpoint,
    connection: Connection,
    _dir: TempDir,
}

impl Stock {
    async fn of(node: &TestNode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::load(dir.path()).await.unwrap();
        let endpoint = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .bind()
            .await
            .unwrap();
        let ticket = node.node.network().await.unwrap().ticket_addr();
        let mut address = EndpointAddr::new(iroh::EndpointId::from_bytes(&ticket.id).unwrap());
        for ip in ticket.ip {
            address = address.with_ip_addr(ip);
        }
        let connection = endpoint.connect(address, ALPN).await.unwrap();
        Self {
            store,
            endpoint,
            connection,
            _dir: dir,
        }
    }

    async fn fetch(&self, what: impl Into<HashAndFormat>) -> Result<(), String> {
        let fetched = self
            .store
            .remote()
            .fetch(self.connection.clone(), what.into());
        fetched
            .await
            .map(drop)
            .map_err(|error| format!("{error:?}"))
    }

    async fn close(self) {
        self.connection.close(0u32.into(), b"done");
        self.endpoint.close().await;
        self.store.shutdown().await.unwrap();
    }
}

/// The small model, and a file of several segments of its tree.
fn folder() -> (TempDir, PathBuf) {
    let (dir, root) = model(1.0);
    let mut bytes = vec![0; (33 << 20) + 12_345];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    fs::write(root.join("large.bin"), bytes).unwrap();
    (dir, root)
}

fn root_of(shown: &Shown, path: &str) -> Hash {
    let file = shown.files.iter().find(|file| file.path == path).unwrap();
    file.root.as_deref().unwrap().parse().unwrap()
}

async fn pushed(node: &TestNode, root: &Path, public: bool, in_place: bool) -> Shown {
    let push = node.push_with(root, "acme/tiny", |push| {
        push.public = public;
        push.in_place = in_place;
        push.file_roots = true;
    });
    push.await.unwrap();
    node.show("acme/tiny").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_peer_fetches_a_file_by_its_root_as_one_blob() {
    let (_dir, root) = folder();
    let a = node();
    let shown = pushed(&a, &root, true, false).await;
    let stock = Stock::of(&a).await;
    for file in shown.files.iter().filter(|file| file.path != "link.json") {
        let bytes = fs::read(root.join(&file.path)).unwrap();
        let hash = root_of(&shown, &file.path);
        assert_eq!(hash, Hash::new(&bytes));
        stock.fetch(hash).await.unwrap();
        assert!(
            stock.store.get_bytes(hash).await.unwrap() == bytes,
            "{}",
            file.path
        );
    }
    stock.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_peer_fetches_a_range_of_a_file_by_its_root() {
    let (_dir, root) = folder();
    let a = node();
    let shown = pushed(&a, &root, true, false).await;
    let bytes = fs::read(root.join("large.bin")).unwrap();
    let hash = root_of(&shown, "large.bin");
    let stock = Stock::of(&a).await;
    // across the border of two segments and of several chunks
    let (start, end) = ((14 << 20) + 1024, (19 << 20) + 3072);
    let ranges = ChunkRanges::bytes(start..end);
    let request = GetRequest::blob_ranges(hash, ranges.clone());
    stock
        .store
        .remote()
        .execute_get(stock.connection.clone(), request)
        .await
        .unwrap();
    let held: Bitfield = stock.store.observe(hash).await.unwrap();
    assert!(held.ranges.is_superset(&ranges));
    assert!(!held.is_complete());
    let exported = stock.store.export_ranges(hash, start..end);
    let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
    assert!(exported.concatenate().await.unwrap() == bytes[range]);
    stock.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_peer_fetches_a_version_as_a_collection() {
    let (_dir, root) = folder();
    let a = node();
    let shown = pushed(&a, &root, true, false).await;
    let stock = Stock::of(&a).await;
    let hash: Hash = shown.collection.as_deref().unwrap().parse().unwrap();
    stock.fetch(HashAndFormat::hash_seq(hash)).await.unwrap();
    let collection = Collection::load(hash, &*stock.store).await.unwrap();
    let mut names: Vec<String> = Vec::new();
    for (name, hash) in collection {
        let bytes = stock.store.get_bytes(hash).await.unwrap();
        assert!(bytes == fs::read(root.join(&name)).unwrap(), "{name}");
        names.push(name);
    }
    let files = shown.files.iter().map(|file| file.path.clone());
    let files: Vec<String> = files.filter(|path| path != "link.json").collect();
    assert_eq!(names, files);
    stock.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_versions_roots_and_collection_are_absent_for_a_stranger() {
    let (_dir, root) = folder();
    let a = node();
    let shown = pushed(&a, &root, false, false).await;
    let stock = Stock::of(&a).await;
    let collection: Hash = shown.collection.as_deref().unwrap().parse().unwrap();
    let absent = Hash::new(b"what nobody has");
    let mut asked = vec![absent, collection];
    asked.extend(["large.bin", "config.json"].map(|path| root_of(&shown, path)));
    let mut answers = Vec::new();
    for hash in asked {
        let answer = stock.fetch(hash).await.unwrap_err();
        answers.push(answer.replace(&hash.to_string(), "HASH"));
        let held: Bitfield = stock.store.observe(hash).await.unwrap();
        assert!(held.ranges.is_empty());
    }
    answers.dedup();
    assert_eq!(
        answers.len(),
        1,
        "private and absent answer alike: {answers:?}"
    );
    stock
        .fetch(HashAndFormat::hash_seq(collection))
        .await
        .unwrap_err();
    stock.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_on_disk_is_not_served_wrong() {
    let (_dir, root) = folder();
    let a = node();
    let shown = pushed(&a, &root, true, true).await;
    let right = fs::read(root.join("large.bin")).unwrap();
    let hash = root_of(&shown, "large.bin");
    let mut wrong = right.clone();
    wrong[20 << 20] ^= 1;
    fs::write(root.join("large.bin"), &wrong).unwrap();
    let stock = Stock::of(&a).await;
    stock.fetch(hash).await.unwrap_err();
    let held: Bitfield = stock.store.observe(hash).await.unwrap();
    assert!(held.ranges.is_empty());
    // the others are still there
    stock
        .fetch(root_of(&shown, "model.safetensors"))
        .await
        .unwrap();
    // pushed again, it is another file; the first one's bytes are nowhere
    let again = pushed(&a, &root, true, true).await;
    stock.fetch(root_of(&again, "large.bin")).await.unwrap();
    let got = stock.store.get_bytes(root_of(&again, "large.bin")).await;
    assert!(got.unwrap() == wrong);
    stock.fetch(hash).await.unwrap_err();
    stock.close().await;
}

/// What this prevents: a public version whose tree claims the hashes of a private model as roots of its
/// own files, so that a stranger who knows them gets the bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_only_claimed_opens_no_other_models_bytes() {
    let (dir, root) = folder();
    let a = node();
    let secret = pushed(&a, &root, false, false).await;
    let hashes = ["large.bin", "config.json"].map(|path| root_of(&secret, path));
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    let large = fs::read(root.join("large.bin")).unwrap();
    fs::write(open.join("a.bin"), &large[1..]).unwrap();
    fs::write(open.join("b.json"), "{}").unwrap();
    let push = a.push_with(&open, "acme/open", |push| {
        push.public = true;
        push.file_roots = true;
    });
    let version: VersionId = push.await.unwrap().version.parse().unwrap();

    let store = a.node.store();
    let document = |hash: ChunkHash| store.document(&hash).unwrap().unwrap();
    let honest = VersionBytes::decode_as(version, document(version.into())).unwrap();
    let mut files = Tree::decode(&document(honest.doc.tree.into()))
        .unwrap()
        .into_files();
    for (file, hash) in files.iter_mut().zip(&hashes) {
        file.root = Some(ChunkHash::from_bytes(*hash.as_bytes()));
    }
    let forged = Tree::new(files).unwrap();
    let collection = Hash::from_bytes(*forged.collection().unwrap().hash().as_bytes());
    let (tree, bytes) = forged.encode_with_id();
    let mut doc = honest.doc.clone();
    (doc.tree, doc.parents) = (tree, vec![version]);
    let forged = doc.encode().unwrap();
    let id = VersionId::of(&forged);
    store.put_documents(&[bytes, forged]).unwrap();
    let keep = Keep::now(true).encode();
    store.local_set(&local::keep_key(&id), &keep).unwrap();
    a.run(Command::Tag {
        name: format!("acme/open@{}", id.to_hex()),
        tag: "forged".to_owned(),
        force: false,
    })
    .await
    .unwrap();

    let stock = Stock::of(&a).await;
    // it is a version like any other
    stock.fetch(Hash::from_bytes(*id.as_bytes())).await.unwrap();
    stock.fetch(collection).await.unwrap();
    for hash in hashes {
        stock.fetch(hash).await.unwrap_err();
    }
    stock
        .fetch(HashAndFormat::hash_seq(collection))
        .await
        .unwrap_err();
    for hash in hashes {
        let held: Bitfield = stock.store.observe(hash).await.unwrap();
        assert!(held.ranges.is_empty());
    }
    stock.close().await;
}
