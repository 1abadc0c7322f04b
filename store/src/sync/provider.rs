//! Answers `/iroh-bytes/4`: the wire of iroh-blobs, over our own places.
//!
//! Get, GetMany and Observe are answered, Push is refused. A request names a root; the access function
//! decides on it, and what is refused looks like what is absent: the answer ends before that blob. Batches are
//! prepared on threads that may block, one ahead of the network, and hold no more than two a stream.

use std::{io, sync::Arc};

use bytes::Bytes;
use iroh::{
    EndpointId,
    endpoint::{Connection, RecvStream, SendStream, VarInt},
    protocol::{AcceptError, ProtocolHandler},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
    time::timeout,
};

use crate::{ChunkHash, VersionId};

use super::{
    answer::{Answer, Asked, Ended, Then},
    grants::{Counters, Grants, Traffic},
    limits::{
        CONNECTIONS_MAX, LARGE_REQUESTS_MAX, LEAF_BYTES, OBSERVERS_PER_CONNECTION_MAX,
        REQUEST_BYTES_MAX, REQUEST_SMALL_BYTES, REQUEST_TIMEOUT, REQUESTS_MAX,
        REQUESTS_PER_CONNECTION_MAX, TAKE_TIMEOUT,
    },
    request::{BlobRequest, RangesSeq, encode_observed},
    source::{Access, Caller, ChunkRead, ChunkSource},
    uploads::{Slot, Uploads},
};

/// Chunks of one request that others are told of.
const ANNOUNCED_CHUNKS_MAX: usize = 4096;

/// Ends a stream: this is not permitted.
const ERR_PERMISSION: VarInt = VarInt::from_u32(1);

/// Ends a stream or connection: there are too many.
const ERR_LIMIT: VarInt = VarInt::from_u32(2);

/// Ends a stream: bytes could not be read.
const ERR_INTERNAL: VarInt = VarInt::from_u32(3);

/// The provider of one node.
#[derive(Clone)]
pub struct Provider(Arc<Shared>);

struct Shared {
    source: Arc<dyn ChunkSource>,
    access: Arc<dyn Access>,
    grants: Grants,
    traffic: Traffic,
    uploads: Uploads,
    requests: Semaphore,
    large: Semaphore,
    connections: Semaphore,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").finish_non_exhaustive()
    }
}

impl Provider {
    /// A provider of what `source` holds, to whom `access` lets.
    pub fn new(
        source: Arc<dyn ChunkSource>,
        access: Arc<dyn Access>,
        grants: Grants,
        traffic: Traffic,
        uploads: Uploads,
    ) -> Self {
        Self(Arc::new(Shared {
            source,
            access,
            grants,
            traffic,
            uploads,
            requests: Semaphore::new(REQUESTS_MAX),
            large: Semaphore::new(LARGE_REQUESTS_MAX),
            connections: Semaphore::new(CONNECTIONS_MAX),
        }))
    }

    /// The answer to a Get or GetMany of a peer, once its turn has come, with its place among those that are
    /// answered; nothing for other requests, or when it is `gone` before.
    ///
    /// With a `version` it is one that leaves unencrypted: only for what is reached from it, while it is public.
    pub(super) async fn admit(
        &self,
        peer: EndpointId,
        version: Option<VersionId>,
        request: BlobRequest,
        gone: impl Future<Output = ()>,
    ) -> Option<(Box<Answer>, Option<Slot>)> {
        let (asked, ranges) = match request {
            BlobRequest::Get { root, ranges } => (Asked::Tree(root), ranges),
            BlobRequest::GetMany { hashes, ranges } => (Asked::Many(hashes), ranges),
            BlobRequest::Observe { .. } | BlobRequest::Push => return None,
        };
        if let Asked::Tree(seq) = &asked {
            self.announce(peer, seq, &ranges);
        }
        let slot = match &asked {
            // Documents are small, and others wait for them.
            Asked::Tree(_) if ranges.is_root_alone() => None,
            _ => tokio::select! {
                slot = self.0.uploads.admit(peer) => Some(slot),
                () = gone => return None,
            },
        };
        let caller = self.0.grants.caller(peer);
        let (source, mut access) = (Arc::clone(&self.0.source), Arc::clone(&self.0.access));
        if let Some(version) = version {
            access = Arc::new(InTheOpen { access, version });
        }
        let mut answer = Box::new(Answer::new(source, access, caller, asked, ranges));
        answer.limit(self.0.uploads.step());
        Some((answer, slot))
    }

    /// What peers may read.
    pub(super) fn access(&self) -> &dyn Access {
        &*self.0.access
    }

    /// What went to a peer.
    pub(super) fn counters(&self, peer: EndpointId) -> Arc<Counters> {
        self.0.traffic.of(peer)
    }

    /// Waits until `bytes` may leave for a peer.
    pub(super) async fn pass(&self, peer: EndpointId, bytes: usize) {
        self.0.uploads.pass(peer, bytes).await;
    }

    /// Waits until there is room for one more request.
    pub(super) async fn request_permit(&self) -> io::Result<SemaphorePermit<'_>> {
        self.0.requests.acquire().await.map_err(io::Error::other)
    }

    /// Waits until a request of `bytes` may be read: a large one holds a permit until it is answered.
    pub(super) async fn large_permit(
        &self,
        bytes: usize,
    ) -> io::Result<Option<SemaphorePermit<'_>>> {
        if bytes <= REQUEST_SMALL_BYTES {
            return Ok(None);
        }
        self.0
            .large
            .acquire()
            .await
            .map(Some)
            .map_err(io::Error::other)
    }

    async fn stream(
        &self,
        connection: &Connection,
        send: SendStream,
        recv: RecvStream,
        observers: &Semaphore,
    ) {
        let peer = connection.remote_id();
        let outcome = self.answer(peer, send, recv, observers).await;
        if let Err(error) = outcome {
            tracing::debug!(peer = %peer.fmt_short(), %error, "a blob request ended early");
        }
    }

    async fn answer(
        &self,
        peer: EndpointId,
        mut send: SendStream,
        mut recv: RecvStream,
        observers: &Semaphore,
    ) -> io::Result<()> {
        let read = timeout(REQUEST_TIMEOUT, self.read_request(&mut recv));
        let (bytes, _large) = read.await.map_err(|_| io::ErrorKind::TimedOut)??;
        let request = BlobRequest::decode(&bytes).map_err(io::Error::other)?;
        drop(bytes);
        self.0.traffic.of(peer).add_request();
        match request {
            BlobRequest::Observe { hash } => {
                let Ok(_permit) = observers.try_acquire() else {
                    return Ok(send.reset(ERR_LIMIT)?);
                };
                let caller = self.0.grants.caller(peer);
                return self.observe(caller, send, hash).await;
            }
            BlobRequest::Push => {
                recv.stop(ERR_PERMISSION).ok();
                return Ok(send.reset(ERR_PERMISSION)?);
            }
            BlobRequest::Get { .. } | BlobRequest::GetMany { .. } => {}
        }
        let gone = async {
            // It does not want to wait.
            send.stopped().await.ok();
        };
        let Some((answer, slot)) = self.admit(peer, None, request, gone).await else {
            return Ok(());
        };
        let bytes = self.send(peer, &mut send, answer).await?;
        if let Some(slot) = slot {
            // What was handed over may wait to be sent: the slot is free when the peer has it.
            timeout(TAKE_TIMEOUT, send.stopped()).await.ok();
            slot.done(bytes);
        }
        Ok(())
    }

    /// Tells those that watch a file what is about to be sent of it, so that they ask for other pieces.
    fn announce(&self, peer: EndpointId, seq: &ChunkHash, ranges: &RangesSeq) {
        let hub = self.0.uploads.hub();
        if !ranges.is_root_alone() && hub.is_watched(seq) {
            hub.given(peer, seq, &ranges.pieces(ANNOUNCED_CHUNKS_MAX));
        }
    }

    /// Reads a request to its end; a large one holds a permit until it is answered.
    async fn read_request(
        &self,
        recv: &mut RecvStream,
    ) -> io::Result<(Vec<u8>, Option<SemaphorePermit<'_>>)> {
        let (mut bytes, mut large) = (Vec::new(), None);
        while let Some(part) = recv.read_chunk(REQUEST_SMALL_BYTES).await? {
            bytes.extend_from_slice(&part);
            if bytes.first() == Some(&BlobRequest::PUSH) {
                break;
            }
            if bytes.len() > REQUEST_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a request over 1 MiB",
                ));
            }
            if bytes.len() > REQUEST_SMALL_BYTES && large.is_none() {
                large = Some(self.0.large.acquire().await.map_err(io::Error::other)?);
            }
        }
        Ok((bytes, large))
    }

    /// Sends an answer batch by batch, preparing one while the one before leaves; returns its bytes.
    async fn send(
        &self,
        peer: EndpointId,
        send: &mut SendStream,
        answer: Box<Answer>,
    ) -> io::Result<u64> {
        let counters = self.0.traffic.of(peer);
        let mut sent = 0;
        let mut ahead = tokio::task::spawn_blocking(move || answer.next());
        loop {
            let (batch, then) = ahead.await.map_err(io::Error::other)?;
            let (next, ended) = match then {
                Then::More(answer) => (
                    Some(tokio::task::spawn_blocking(move || answer.next())),
                    None,
                ),
                Then::End(ended) => (None, Some(ended)),
            };
            let payload = batch.payload;
            let mut segments = batch.into_segments();
            let wire = segments.iter().map(Bytes::len).sum();
            if !segments.is_empty() {
                self.0.uploads.pass(peer, wire).await;
                match timeout(TAKE_TIMEOUT, send.write_all_chunks(&mut segments)).await {
                    Ok(taken) => taken?,
                    Err(_) => {
                        send.reset(ERR_LIMIT)?;
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                counters.add_sent(payload, wire as u64);
                sent += wire as u64;
            }
            match (next, ended) {
                (Some(next), _) => ahead = next,
                (None, Some(Ended::Broken(error))) => {
                    send.reset(ERR_INTERNAL)?;
                    return Err(error);
                }
                (None, _) => {
                    send.finish()?;
                    return Ok(sent);
                }
            }
        }
    }

    /// Says what is held of a blob, and keeps the stream until the peer lets go.
    async fn observe(
        &self,
        caller: Caller,
        mut send: SendStream,
        hash: ChunkHash,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        let look = move || {
            let permitted = shared.access.may_read(&caller, &hash);
            let reader = if permitted {
                shared.source.open_for(&caller, None, &hash).ok().flatten()
            } else {
                None
            };
            reader.map_or_else(|| encode_observed(0, &[]), |reader| observed(&*reader))
        };
        let frame = tokio::task::spawn_blocking(look)
            .await
            .map_err(io::Error::other)?;
        send.write_chunk(frame.into()).await?;
        send.stopped().await?;
        Ok(())
    }
}

/// What leaves unencrypted: only what is reached from a version that everybody may read.
struct InTheOpen {
    access: Arc<dyn Access>,
    version: VersionId,
}

impl Access for InTheOpen {
    fn may_read(&self, caller: &Caller, root: &ChunkHash) -> bool {
        self.access.is_public(&self.version, root) && self.access.may_read(caller, root)
    }
}

fn observed(reader: &dyn ChunkRead) -> Vec<u8> {
    let size = reader.size();
    let mut boundaries: Vec<u64> = Vec::new();
    for held in reader.held() {
        let start = held.start.div_ceil(LEAF_BYTES);
        let end = if held.end >= size {
            size.div_ceil(LEAF_BYTES)
        } else {
            held.end / LEAF_BYTES
        };
        if boundaries.last() == Some(&start) {
            boundaries.pop();
        } else if start < end {
            boundaries.push(start);
        }
        if start < end {
            boundaries.push(end);
        }
    }
    encode_observed(size, &boundaries)
}

impl ProtocolHandler for Provider {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let Ok(_permit) = self.0.connections.try_acquire() else {
            connection.close(ERR_LIMIT, b"too many connections");
            return Ok(());
        };
        let slots = Arc::new(Semaphore::new(REQUESTS_PER_CONNECTION_MAX));
        let observers = Arc::new(Semaphore::new(OBSERVERS_PER_CONNECTION_MAX));
        let mut streams = JoinSet::new();
        loop {
            // A stream is accepted only when there is room to answer it: the transport holds the rest.
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .map_err(AcceptError::from_err)?;
            let Ok((send, recv)) = connection.accept_bi().await else {
                break;
            };
            let (this, connection) = (self.clone(), connection.clone());
            let observers = Arc::clone(&observers);
            streams.spawn(async move {
                let _slot = slot;
                let Ok(_permit) = this.0.requests.acquire().await else {
                    return;
                };
                this.stream(&connection, send, recv, &observers).await;
            });
            while streams.try_join_next().is_some() {}
        }
        Ok(())
    }
}
