#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
//! Sources and sinks in memory, for tests.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    sync::{Arc, Mutex},
};

use bao_tree::{BlockSize, io::outboard::PreOrderMemOutboard};
use bytes::Bytes;

use iroh::SecretKey;

use super::{
    control::Control,
    endpoint::{Doors, EndpointOptions, Net},
    grants::{Grants, Traffic},
    hub::{Hub, VersionFiles},
    message::{ChunkPieces, PeerAddr},
    provider::Provider,
    receiver::Want,
    source::{Access, Caller, ChunkRead, ChunkSource, HeldMap, ModelRecords, RefSource},
    uploads::{UploadLimits, Uploads},
};
use crate::{
    ChunkHash, PublisherId, VersionId,
    piece::{Parent, PieceSink},
    tree::ChunkList,
};

/// `size` bytes that differ for each seed.
pub fn sample(size: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; size];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

#[derive(Debug, Clone)]
pub struct MemChunk {
    pub data: Bytes,
    pub outboard: Bytes,
}

impl MemChunk {
    pub fn new(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let outboard = PreOrderMemOutboard::create(&data, BlockSize::from_chunk_log(4));
        Self {
            data,
            outboard: outboard.data.into(),
        }
    }
}

impl ChunkRead for MemChunk {
    fn size(&self) -> u64 {
        self.data.len() as u64
    }

    fn is_mapped(&self) -> bool {
        true
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let at = |at: u64| usize::try_from(at).unwrap();
        Ok(self.data.slice(at(range.start)..at(range.end)))
    }

    fn outboard(&self) -> io::Result<Bytes> {
        Ok(self.outboard.clone())
    }
}

#[derive(Debug, Default)]
pub struct MemSource {
    chunks: Mutex<HashMap<ChunkHash, MemChunk>>,
}

impl MemSource {
    pub fn add(&self, data: impl Into<Bytes>) -> ChunkHash {
        let chunk = MemChunk::new(data);
        let hash = ChunkHash::of(&chunk.data);
        self.chunks.lock().unwrap().insert(hash, chunk);
        hash
    }
}

impl MemSource {
    pub fn chunk(&self, hash: &ChunkHash) -> Option<MemChunk> {
        self.chunks.lock().unwrap().get(hash).cloned()
    }
}

impl ChunkSource for MemSource {
    fn open(&self, hash: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let chunk = self.chunks.lock().unwrap().get(hash).cloned();
        Ok(chunk.map(|chunk| Arc::new(chunk) as Arc<dyn ChunkRead>))
    }
}

/// Lets everybody read everything.
#[derive(Debug)]
pub struct Open;

impl Access for Open {
    fn may_read(&self, _: &Caller, _: &ChunkHash) -> bool {
        true
    }
}

/// Lets only a peer read that shows the capability `open sesame`, but what is public.
#[derive(Debug, Default)]
pub struct Private {
    pub public: Vec<ChunkHash>,
}

impl Access for Private {
    fn may_read(&self, caller: &Caller, root: &ChunkHash) -> bool {
        self.public.contains(root)
            || caller
                .capabilities
                .iter()
                .any(|shown| shown == "open sesame")
    }
}

/// Records of any model whose name is `tiny`.
#[derive(Debug, Default)]
pub struct MemRefs {
    pub records: ModelRecords,
    pub held: Option<HeldMap>,
    pub peers: Vec<PeerAddr>,
    pub hints: Mutex<Vec<PeerAddr>>,
    pub files: Option<VersionFiles>,
    pub receiving: Vec<ChunkPieces>,
}

impl RefSource for MemRefs {
    fn refs(&self, caller: &Caller, _: &PublisherId, model: &str) -> Option<ModelRecords> {
        let shown = caller
            .capabilities
            .iter()
            .any(|shown| shown == "open sesame");
        (model == "tiny" || (model == "secret" && shown)).then(|| self.records.clone())
    }

    fn held(&self, _: &Caller, _: &VersionId) -> Option<HeldMap> {
        self.held.clone()
    }

    fn files(&self, _: &Caller, _: &VersionId) -> Option<VersionFiles> {
        self.files.clone()
    }

    fn receiving(&self, _: &VersionId) -> Vec<ChunkPieces> {
        self.receiving.clone()
    }

    fn peers(&self, _: &Caller, _: &VersionId) -> Vec<PeerAddr> {
        self.peers.clone()
    }

    fn hinted(&self, _: &Caller, _: Option<VersionId>, peers: Vec<PeerAddr>) {
        self.hints.lock().unwrap().extend(peers);
    }
}

/// A node on loopback.
pub struct Node {
    pub net: Net,
    pub source: Arc<MemSource>,
    pub grants: Grants,
    pub traffic: Traffic,
    pub refs: Arc<MemRefs>,
    pub hub: Hub,
    /// Open as long as this is.
    _doors: Doors,
}

impl Node {
    pub async fn start() -> Self {
        Self::with(Arc::new(Open), MemRefs::default()).await
    }

    pub async fn with(access: Arc<dyn Access>, refs: MemRefs) -> Self {
        Self::on(loopback().await, access, refs)
    }

    /// A node at `net`.
    pub fn on(net: Net, access: Arc<dyn Access>, refs: MemRefs) -> Self {
        let source = Arc::new(MemSource::default());
        let chunks = Arc::clone(&source) as Arc<dyn ChunkSource>;
        let mut node = Self::answering(net, chunks, access, refs, UploadLimits::default());
        node.source = source;
        node
    }

    /// A node that answers from `chunks` instead of its own source.
    pub async fn serving(
        chunks: Arc<dyn ChunkSource>,
        access: Arc<dyn Access>,
        refs: MemRefs,
        limits: UploadLimits,
    ) -> Self {
        Self::answering(loopback().await, chunks, access, refs, limits)
    }

    fn answering(
        net: Net,
        chunks: Arc<dyn ChunkSource>,
        access: Arc<dyn Access>,
        refs: MemRefs,
        limits: UploadLimits,
    ) -> Self {
        let hub = Hub::default();
        let (grants, traffic) = (Grants::default(), Traffic::default());
        let refs = Arc::new(refs);
        let provider = Provider::new(
            chunks,
            access,
            grants.clone(),
            traffic.clone(),
            Uploads::new(limits, hub.clone()),
        );
        let doors = net.serve(
            Control::new(refs.clone(), grants.clone(), hub.clone(), "test"),
            provider,
        );
        Self {
            net,
            source: Arc::default(),
            grants,
            traffic,
            refs,
            hub,
            _doors: doors,
        }
    }
}

pub async fn loopback() -> Net {
    Net::bind(&EndpointOptions::loopback(SecretKey::generate()))
        .await
        .unwrap()
}

/// A file of several chunks.
#[derive(Debug, Clone)]
pub struct MemFile {
    pub data: Bytes,
    pub list: Arc<ChunkList>,
    pub seq: ChunkHash,
}

impl MemFile {
    pub fn new(lengths: &[u32], seed: u64) -> Self {
        let size = lengths.iter().map(|length| *length as usize).sum();
        let data = Bytes::from(sample(size, seed));
        let mut list = ChunkList {
            hashes: Vec::new(),
            lengths: lengths.to_vec(),
        };
        let mut at = 0;
        for length in lengths {
            list.hashes
                .push(ChunkHash::of(&data[at..at + *length as usize]));
            at += *length as usize;
        }
        let seq = ChunkHash::of(&list.seq_bytes());
        Self {
            data,
            list: Arc::new(list),
            seq,
        }
    }

    /// The bytes of chunk `index`.
    pub fn chunk(&self, index: usize) -> Bytes {
        let start: usize = self.list.lengths[..index]
            .iter()
            .map(|length| *length as usize)
            .sum();
        self.data
            .slice(start..start + self.list.lengths[index] as usize)
    }

    /// Puts the HashSeq and the chunks that `which` names into a source.
    pub fn add_to(&self, source: &MemSource, which: impl Fn(usize) -> bool) {
        source.add(self.list.seq_bytes());
        (0..self.list.len())
            .filter(|index| which(*index))
            .for_each(|index| {
                source.add(self.chunk(index));
            });
    }

    /// All of it, and a file in memory to receive it.
    pub fn want_all(&self) -> (Want, Arc<MemSink>) {
        let lengths = self.list.lengths.iter().enumerate();
        self.want(
            lengths
                .map(|(index, length)| (u32::try_from(index).unwrap(), 0..*length))
                .collect(),
        )
    }

    pub fn want(&self, ranges: Vec<(u32, Range<u32>)>) -> (Want, Arc<MemSink>) {
        let sink = Arc::new(MemSink::new(self));
        let (seq, list) = (self.seq, Arc::clone(&self.list));
        (
            Want {
                seq,
                list,
                ranges,
                sink: sink.clone(),
                passed_on: true,
            },
            sink,
        )
    }
}

/// A file in memory.
pub struct MemSink {
    starts: Vec<usize>,
    lengths: Vec<u32>,
    pub state: Mutex<(Vec<u8>, Vec<bool>)>,
    /// Outboards, chunk by chunk.
    pub outboards: Mutex<Vec<Vec<u8>>>,
}

impl MemSink {
    fn new(file: &MemFile) -> Self {
        let lengths = file.list.lengths.clone();
        let mut at = 0;
        let start = |length: &u32| {
            at += *length as usize;
            at - *length as usize
        };
        let starts = lengths.iter().map(start).collect();
        let size = file.data.len();
        let groups = |length: &u32| vec![0; (length.div_ceil(16384).max(1) as usize - 1) * 64];
        let outboards = Mutex::new(lengths.iter().map(groups).collect());
        Self {
            starts,
            lengths,
            state: Mutex::new((vec![0; size], vec![false; size])),
            outboards,
        }
    }

    /// Panics unless all that was received is as in `file`; returns how many bytes that are.
    pub fn check(&self, file: &MemFile) -> usize {
        let state = self.state.lock().unwrap();
        let came = (0..file.data.len()).filter(|at| state.1[*at]);
        came.inspect(|at| assert_eq!(state.0[*at], file.data[*at], "byte {at}"))
            .count()
    }

    /// Panics unless the whole file is there, with its outboards.
    pub fn check_all(&self, file: &MemFile) {
        assert_eq!(self.check(file), file.data.len());
        for (index, outboard) in self.outboards.lock().unwrap().iter().enumerate() {
            assert_eq!(
                outboard,
                &MemChunk::new(file.chunk(index)).outboard,
                "chunk {index}"
            );
        }
    }
}

impl PieceSink for MemSink {
    fn store(&self, chunk: u32, offset: u32, data: &[u8], parents: &[Parent]) -> io::Result<()> {
        let chunk = chunk as usize;
        assert!(offset as usize + data.len() <= self.lengths[chunk] as usize);
        let start = self.starts[chunk] + offset as usize;
        let mut state = self.state.lock().unwrap();
        state.0[start..start + data.len()].copy_from_slice(data);
        state.1[start..start + data.len()].fill(true);
        let mut outboards = self.outboards.lock().unwrap();
        for (index, pair) in parents {
            let at = *index as usize * 64;
            outboards[chunk][at..at + 64].copy_from_slice(pair);
        }
        Ok(())
    }
}
