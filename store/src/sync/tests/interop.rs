#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
//! The crate iroh-blobs at the other end: it fetches from our provider, and our receiver from its provider.

use std::{pin::pin, sync::Arc, time::Duration};

use bao_tree::{ChunkNum, ChunkRanges, io::BaoContentItem};
use bytes::Bytes;
use futures_lite::StreamExt as _;
use iroh::{endpoint::Connection, protocol::Router};
use iroh_blobs::{
    BlobsProtocol, Hash,
    get::{fsm, request},
    protocol::{ChunkRangesExt as _, GetManyRequest, GetRequest, ObserveRequest},
    store::fs::FsStore,
};
use tempfile::TempDir;

use crate::{
    ChunkHash,
    sync::{
        endpoint::{BLOBS_ALPN, Net},
        receiver::{DocumentError, FetchError, FetchOptions, Peer, fetch, fetch_documents},
        testing::{MemFile, Node, loopback, sample},
    },
};

fn theirs(hash: &ChunkHash) -> Hash {
    Hash::from_bytes(*hash.as_bytes())
}

/// Sizes around leaves and groups.
const SIZES: [usize; 8] = [0, 1, 1024, 1025, 16_384, 16_385, 100_000, 3_000_001];

fn file(seed: u64) -> MemFile {
    MemFile::new(&[2 << 20, 3, 100_000, 16_385, 1 << 20, 1024], seed)
}

/// Our provider, and a connection of theirs to it.
async fn ours() -> (Node, Net, Connection) {
    let (node, net) = (Node::start().await, loopback().await);
    let connection = net.endpoint().connect(node.net.addr(), BLOBS_ALPN).await;
    (node, net, connection.unwrap())
}

async fn fs_store() -> (TempDir, FsStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = FsStore::load(folder.path()).await.unwrap();
    (folder, store)
}

/// Their provider over a store on disk.
struct Theirs {
    net: Net,
    store: FsStore,
    _router: Router,
    _folder: TempDir,
}

impl Theirs {
    async fn start() -> Self {
        let ((folder, store), net) = (fs_store().await, loopback().await);
        let router = Router::builder(net.endpoint().clone())
            .accept(BLOBS_ALPN, BlobsProtocol::new(&store, None))
            .spawn();
        Self {
            net,
            store,
            _router: router,
            _folder: folder,
        }
    }

    async fn add(&self, data: impl Into<Bytes>) -> ChunkHash {
        let tag = self.store.add_bytes(data).with_tag().await.unwrap();
        ChunkHash::from_bytes(*tag.hash.as_bytes())
    }

    async fn add_file(&self, file: &MemFile, which: impl Fn(usize) -> bool) {
        assert_eq!(self.add(file.list.seq_bytes()).await, file.seq);
        for index in (0..file.list.len()).filter(|index| which(*index)) {
            assert_eq!(self.add(file.chunk(index)).await, file.list.hashes[index]);
        }
    }
}

fn options() -> FetchOptions {
    FetchOptions {
        stall: Duration::from_secs(5),
        patience: Duration::ZERO,
        ..FetchOptions::default()
    }
}

/// What their decoder reads of one blob: its size, and the ranges that came with their bytes.
async fn read_blob(header: fsm::AtBlobHeader) -> (u64, Vec<(u64, Bytes)>, fsm::AtEndBlob) {
    let (mut content, size) = header.next().await.unwrap();
    let mut leaves = Vec::new();
    loop {
        match content.next().await {
            fsm::BlobContentNext::More((next, item)) => {
                if let BaoContentItem::Leaf(leaf) = item.unwrap() {
                    leaves.push((leaf.offset, leaf.data));
                }
                content = next;
            }
            fsm::BlobContentNext::Done(end) => return (size, leaves, end),
        }
    }
}

/// Panics unless `leaves` are the leaves of `data` that `wanted` names, and no others.
fn check_leaves(data: &[u8], wanted: &ChunkRanges, leaves: &[(u64, Bytes)]) {
    let mut came = ChunkRanges::empty();
    for (offset, bytes) in leaves {
        let start = *offset as usize;
        assert_eq!(bytes[..], data[start..start + bytes.len()]);
        let end = (start + bytes.len()).div_ceil(1024);
        came |= ChunkRanges::from(ChunkNum(offset / 1024)..ChunkNum(end as u64));
    }
    let all = ChunkRanges::from(ChunkNum(0)..ChunkNum((data.len().div_ceil(1024)) as u64));
    assert_eq!(came, &all & wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn iroh_blobs_gets_a_chunk_of_any_size_from_us() {
    let (node, _net, connection) = ours().await;
    let (_folder, store) = fs_store().await;
    for size in SIZES {
        let data = sample(size, size as u64);
        let hash = theirs(&node.source.add(data.clone()));
        let got = store
            .remote()
            .execute_get(connection.clone(), GetRequest::blob(hash));
        let stats = got.complete().await.unwrap();
        assert_eq!(stats.payload_bytes_read, size as u64);
        assert_eq!(store.get_bytes(hash).await.unwrap(), data, "{size} bytes");
    }
    let absent = GetRequest::blob(Hash::new(b"absent"));
    let got = store.remote().execute_get(connection, absent);
    assert!(got.complete().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn iroh_blobs_gets_ranges_inside_groups_from_us() {
    let (node, _net, connection) = ours().await;
    let data = sample(1_000_001, 7);
    let hash = theirs(&node.source.add(data.clone()));
    let lists: [&[(u64, u64)]; 5] = [
        &[(0, 1)],
        &[(3, 5), (15, 17), (400, 401)],
        &[(1, 2), (3, 4), (5, 6), (900, 977)],
        &[(16, 32)],
        &[(976, 977)],
    ];
    for list in lists {
        let wanted = list
            .iter()
            .fold(ChunkRanges::empty(), |ranges, (start, end)| {
                ranges | ChunkRanges::chunks(*start..*end)
            });
        let get = GetRequest::blob_ranges(hash, wanted.clone());
        let start = fsm::start(connection.clone(), get, Default::default());
        let next = start.next().await.unwrap().next().await.unwrap();
        let fsm::ConnectedNext::StartRoot(root) = next else {
            panic!("the root was asked for")
        };
        let (size, leaves, end) = read_blob(root.next()).await;
        assert_eq!(size, 1_000_001);
        check_leaves(&data, &wanted, &leaves);
        let fsm::EndBlobNext::Closing(closing) = end.next() else {
            panic!("nothing but the root was asked for")
        };
        // An answer that goes on would be an error here.
        closing.next().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn iroh_blobs_learns_the_verified_size_from_us() {
    let (node, _net, connection) = ours().await;
    for size in SIZES {
        let hash = theirs(&node.source.add(sample(size, size as u64)));
        let (found, _) = request::get_verified_size(&connection, &hash)
            .await
            .unwrap();
        assert_eq!(found, size as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn iroh_blobs_gets_a_hash_seq_with_its_children_from_us() {
    let (node, _net, connection) = ours().await;
    let ((_folder, store), file) = (fs_store().await, file(1));
    file.add_to(&node.source, |_| true);
    let all = GetRequest::all(theirs(&file.seq));
    let got = store.remote().execute_get(connection.clone(), all);
    got.complete().await.unwrap();
    let seq = store.get_bytes(theirs(&file.seq)).await.unwrap();
    assert_eq!(seq, file.list.seq_bytes());
    for (index, hash) in file.list.hashes.iter().enumerate() {
        let bytes = store.get_bytes(theirs(hash)).await.unwrap();
        assert_eq!(bytes, file.chunk(index), "child {index}");
    }
    // Ranges of some children, without the root.
    let wanted = [
        (0, ChunkRanges::chunks(5..7)),
        (2, ChunkRanges::all()),
        (4, ChunkRanges::chunks(1000..)),
    ];
    let get = wanted.iter().fold(GetRequest::builder(), |get, child| {
        get.child(child.0, child.1.clone())
    });
    let get = get.build(theirs(&file.seq));
    let start = fsm::start(connection, get, Default::default());
    let mut next = match start.next().await.unwrap().next().await.unwrap() {
        fsm::ConnectedNext::StartChild(child) => Ok(child),
        _ => panic!("children were asked for"),
    };
    for (number, ranges) in &wanted {
        let child = next.unwrap_or_else(|_| panic!("child {number} was asked for"));
        assert_eq!(child.offset(), number + 1);
        let hash = theirs(&file.list.hashes[*number as usize]);
        let (_, leaves, end) = read_blob(child.next(hash)).await;
        check_leaves(&file.chunk(*number as usize), ranges, &leaves);
        next = match end.next() {
            fsm::EndBlobNext::MoreChildren(child) => Ok(child),
            fsm::EndBlobNext::Closing(closing) => Err(closing),
        };
    }
    next.expect_err("no more was asked for")
        .next()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn iroh_blobs_observes_what_we_hold() {
    let (node, _net, connection) = ours().await;
    let (_folder, store) = fs_store().await;
    let held = theirs(&node.source.add(sample(100_000, 3)));
    for (hash, size, complete) in [(held, 100_000, true), (Hash::new(b"absent"), 0, false)] {
        let seen = store
            .remote()
            .observe(connection.clone(), ObserveRequest::new(hash));
        let field = pin!(seen).next().await.unwrap().unwrap();
        assert_eq!((field.size(), field.is_complete()), (size, complete));
        assert_eq!(field.ranges.is_empty(), !complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn iroh_blobs_gets_many_blobs_by_hash_from_us() {
    let (node, _net, connection) = ours().await;
    let (_folder, store) = fs_store().await;
    let blobs = SIZES.map(|size| Bytes::from(sample(size, size as u64)));
    let get = blobs.iter().fold(GetManyRequest::builder(), |get, blob| {
        let hash = theirs(&node.source.add(blob.clone()));
        get.hash(hash, ChunkRanges::all())
    });
    let got = store.remote().execute_get_many(connection, get.build());
    got.complete().await.unwrap();
    for blob in &blobs {
        assert_eq!(store.get_bytes(Hash::new(blob)).await.unwrap(), *blob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn we_get_all_children_of_a_hash_seq_from_iroh_blobs() {
    let (provider, net, file) = (Theirs::start().await, loopback().await, file(2));
    provider.add_file(&file, |_| true).await;
    let (want, sink) = file.want_all();
    let peers = vec![Peer::new(&net, provider.net.addr())];
    let fetched = fetch(vec![want], peers, options(), Arc::new(()))
        .await
        .unwrap();
    sink.check_all(&file);
    assert_eq!(fetched.bytes, file.data.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn we_get_ranges_of_children_from_iroh_blobs() {
    let (provider, net, file) = (Theirs::start().await, loopback().await, file(3));
    provider.add_file(&file, |_| true).await;
    let ranges = vec![
        (0, 5000..5001),
        (0, 1_500_000..1_600_000),
        (2, 99_999..100_000),
        (3, 0..16_385),
        (5, 1..1023),
    ];
    let (want, sink) = file.want(ranges.clone());
    let peers = vec![Peer::new(&net, provider.net.addr())];
    let fetched = fetch(vec![want], peers, options(), Arc::new(()))
        .await
        .unwrap();
    let came = sink.check(&file);
    assert_eq!(fetched.bytes, came as u64);
    // Ranges are widened to leaves, long ones to groups: no more than that comes.
    assert!(came < 1024 + 100_000 + 2 * 16_384 + 1024 + 16_385 + 1024);
    let state = sink.state.lock().unwrap();
    for (chunk, range) in ranges {
        let start: u32 = file.list.lengths[..chunk as usize].iter().sum();
        let wanted = (start + range.start) as usize..(start + range.end) as usize;
        assert!(state.1[wanted].iter().all(|came| *came), "chunk {chunk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_iroh_blobs_lacks_in_the_middle_is_named_or_comes_from_another() {
    let (provider, net, file) = (Theirs::start().await, loopback().await, file(4));
    provider.add_file(&file, |index| index != 2).await;
    let (want, sink) = file.want_all();
    let peers = vec![Peer::new(&net, provider.net.addr())];
    let error = fetch(vec![want], peers.clone(), options(), Arc::new(()))
        .await
        .unwrap_err();
    let FetchError::NoPeerHasIt { chunk, bytes, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((chunk, bytes), (file.list.hashes[2], 100_000));
    assert_eq!(sink.check(&file), file.data.len() - 100_000);
    let node = Node::start().await;
    file.add_to(&node.source, |index| index == 2);
    let (want, sink) = file.want_all();
    let peers = [peers, vec![Peer::new(&net, node.net.addr())]].concat();
    fetch(vec![want], peers, options(), Arc::new(()))
        .await
        .unwrap();
    sink.check_all(&file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_iroh_blobs_lacks_in_the_middle_is_named_or_comes_from_another() {
    let (provider, net, node) = (Theirs::start().await, loopback().await, Node::start().await);
    let documents: Vec<Bytes> = SIZES.map(|size| sample(size, 5).into()).into();
    let mut hashes: Vec<ChunkHash> = documents.iter().map(|data| ChunkHash::of(data)).collect();
    hashes.sort_unstable();
    // They are asked for in order of hash: this one is in the middle.
    let lacking = hashes[4];
    for data in &documents {
        if ChunkHash::of(data) == lacking {
            node.source.add(data.clone());
        } else {
            provider.add(data.clone()).await;
        }
    }
    let peers = [
        Peer::new(&net, provider.net.addr()),
        Peer::new(&net, node.net.addr()),
    ];
    let limit = 4_000_000;
    let error = fetch_documents(&peers[..1], &hashes, limit, &options()).await;
    assert_eq!(error, Err(DocumentError::NoPeerHasIt { hash: lacking }));
    let found = fetch_documents(&peers, &hashes, limit, &options())
        .await
        .unwrap();
    let found: Vec<ChunkHash> = found.iter().map(|data| ChunkHash::of(data)).collect();
    assert_eq!(found, hashes);
}
