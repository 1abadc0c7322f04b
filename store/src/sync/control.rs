//! The answering side of `/lode/1`: one control stream a peer, and a stream for each query.
//!
//! The first stream of a connection is the control stream. What the peer shows on it holds until the
//! connection ends, for its `/iroh-bytes/4` too. Answers come from a [`RefSource`]. The answer to a watch goes
//! on with what changes, from the [`Hub`].

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use iroh::{
    EndpointId,
    endpoint::{Connection, RecvStream, SendStream, VarInt},
    protocol::{AcceptError, ProtocolHandler},
};
use serde_bytes::ByteBuf;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};

use crate::VersionId;

use super::{
    frame::{self, FrameError},
    grants::{Grant, Grants},
    hub::{Hub, Watch},
    lan::{self, Lan, address::private_addresses},
    limits::{
        CONNECTIONS_MAX, FRAME_BYTES_MAX, PEERS_PER_FRAME_MAX, QUERIES_PER_PEER_MAX,
        REQUEST_TIMEOUT, REQUESTS_PER_CONNECTION_MAX, WATCHES_PER_CONNECTION_MAX,
    },
    message::{
        Busy, Choke, Held, Hello, Limits, Message, ORIGIN_FEATURE, OriginFiles, PROTOCOL, PeerAddr,
        Peers, Pieces, Records, Refusal, code, to_bytes,
    },
    source::{Caller, HeldMap, ModelRecords, RefSource},
};

/// Queries of all peers that are worked on at a time; beyond it the answer is Busy.
const QUERIES_MAX: usize = 256;

/// Milliseconds after which a peer that was told Busy should come back.
const RETRY_AFTER_MS: u64 = 500;

/// Bytes of records in one frame, with room for the CBOR around each.
const RECORDS_PER_FRAME_BYTES: usize = FRAME_BYTES_MAX / 2;

/// Bytes of a bitmap in one frame.
const BITS_PER_FRAME_BYTES: usize = FRAME_BYTES_MAX / 2;

/// The answering side of one node.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

struct Shared {
    source: Arc<dyn RefSource>,
    grants: Grants,
    hub: Hub,
    agent: String,
    lan: Option<Lan>,
    connections: Semaphore,
    queries: Semaphore,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("agent", &self.0.agent)
            .finish_non_exhaustive()
    }
}

/// What this code says in a hello.
pub(super) fn hello(agent: &str, capabilities: Vec<ByteBuf>) -> Hello {
    Hello {
        protocol: PROTOCOL,
        agent: agent.to_owned(),
        features: Vec::new(),
        limits: Limits {
            queries: QUERIES_PER_PEER_MAX as u64,
            requests: REQUESTS_PER_CONNECTION_MAX as u64,
        },
        capabilities,
    }
}

impl Control {
    /// Answers from `source`; what peers show goes to `grants`, and what they watch is told through `hub`.
    /// `agent` names the program in hellos.
    pub fn new(
        source: Arc<dyn RefSource>,
        grants: Grants,
        hub: Hub,
        agent: impl Into<String>,
    ) -> Self {
        Self::with_lan(source, grants, hub, agent, None)
    }

    /// The same, and offers the LAN path if there is one.
    pub fn with_lan(
        source: Arc<dyn RefSource>,
        grants: Grants,
        hub: Hub,
        agent: impl Into<String>,
        lan: Option<Lan>,
    ) -> Self {
        Self(Arc::new(Shared {
            source,
            grants,
            hub,
            agent: agent.into(),
            lan,
            connections: Semaphore::new(CONNECTIONS_MAX),
            queries: Semaphore::new(QUERIES_MAX),
        }))
    }

    fn hello(&self) -> Hello {
        let lan = self.0.lan.iter().map(|_| lan::FEATURE.to_owned());
        Hello {
            features: lan.chain([ORIGIN_FEATURE.to_owned()]).collect(),
            ..hello(&self.0.agent, Vec::new())
        }
    }

    async fn connection(&self, connection: &Connection) -> Result<(), FrameError> {
        let peer = connection.remote_id();
        let accepted = timeout(REQUEST_TIMEOUT, connection.accept_bi()).await;
        let Ok(Ok((mut send, mut recv))) = accepted else {
            return Ok(());
        };
        let hello = timeout(REQUEST_TIMEOUT, frame::receive(&mut recv)).await;
        let Ok(Ok(Some(Message::Hello(theirs)))) = hello else {
            connection.close(VarInt::from_u32(1), b"a hello comes first");
            return Ok(());
        };
        if theirs.protocol != PROTOCOL {
            let message = format!("this node speaks version {PROTOCOL} of the protocol");
            let refusal = Refusal {
                code: code::PROTOCOL,
                message,
            };
            frame::send(&mut send, &Message::Refused(refusal)).await?;
            send.finish().ok();
            // The peer hangs up once it has read why; it has as long as a query has.
            timeout(REQUEST_TIMEOUT, connection.closed()).await.ok();
            return Ok(());
        }
        let grant = self.0.grants.connected(peer);
        grant.show(to_bytes(theirs.capabilities));
        frame::send(&mut send, &Message::Hello(self.hello())).await?;
        let mut queries = JoinSet::new();
        let slots = Arc::new(Semaphore::new(QUERIES_PER_PEER_MAX));
        let watches = Arc::new(Semaphore::new(WATCHES_PER_CONNECTION_MAX));
        let control = self.control(peer, &grant, &mut send, &mut recv);
        tokio::pin!(control);
        loop {
            let slot = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, connection.accept_bi().await)
            };
            tokio::select! {
                ended = &mut control => return ended,
                (slot, stream) = slot => {
                    let (Ok(slot), Ok((send, recv))) = (slot, stream) else { return Ok(()) };
                    let this = self.clone();
                    let watches = Arc::clone(&watches);
                    let asker = PeerAddr::of_connection(connection);
                    let private = private_addresses(connection);
                    queries.spawn(async move {
                        if let Err(error) = this.query(&asker, &private, send, recv, slot, watches).await {
                            tracing::debug!(peer = %peer.fmt_short(), %error, "a query ended early");
                        }
                    });
                }
                Some(_) = queries.join_next() => {}
            }
        }
    }

    /// Reads the control stream until it ends.
    async fn control(
        &self,
        peer: EndpointId,
        grant: &Grant,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Result<(), FrameError> {
        while let Some(message) = frame::receive(recv).await? {
            match message {
                Message::Show(shown) => {
                    grant.show(to_bytes(shown.capabilities));
                    frame::send(send, &Message::Shown).await?;
                }
                Message::Peers(hint) => {
                    let caller = self.0.grants.caller(peer);
                    let source = Arc::clone(&self.0.source);
                    let take = move || source.hinted(&caller, hint.version, hint.peers);
                    tokio::task::spawn_blocking(take).await.ok();
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Answers one query; `slot` is given back when it is answered, or goes on as a watch.
    async fn query(
        &self,
        asker: &PeerAddr,
        private: &[IpAddr],
        mut send: SendStream,
        mut recv: RecvStream,
        slot: OwnedSemaphorePermit,
        watches: Arc<Semaphore>,
    ) -> Result<(), FrameError> {
        let Ok(peer) = EndpointId::from_bytes(&asker.id) else {
            return Ok(());
        };
        let Ok(permit) = self.0.queries.try_acquire() else {
            return finish(&mut send, busy()).await;
        };
        let received = timeout(REQUEST_TIMEOUT, frame::receive(&mut recv)).await;
        let query = match received {
            Ok(Ok(Some(query))) => query,
            Ok(Err(error @ (FrameError::TooLong { .. } | FrameError::Body { .. }))) => {
                return finish(&mut send, refused(code::BAD_REQUEST, &error.to_string())).await;
            }
            Ok(Err(error)) => return Err(error),
            Ok(Ok(None)) | Err(_) => return Ok(()),
        };
        if let Message::Watch(query) = query {
            let Ok(_watch) = watches.try_acquire() else {
                return finish(&mut send, busy()).await;
            };
            let Some(watch) = self
                .begin_watch(peer, asker, query.version, &mut send)
                .await?
            else {
                return Ok(());
            };
            drop((permit, slot));
            return tell(&watch, &mut send, &mut recv).await;
        }
        let caller = self.0.grants.caller(peer);
        let source = Arc::clone(&self.0.source);
        let (lan, private) = (self.0.lan.clone(), private.to_vec());
        let asker = asker.clone();
        let answer = tokio::task::spawn_blocking(move || match (query, lan) {
            (Message::Origin(query), _) => {
                let (files, peers) = source.origin(&caller, &asker, &query)?;
                let mut frames = vec![Message::OriginFiles(OriginFiles { files })];
                frames.extend(peers.chunks(PEERS_PER_FRAME_MAX).map(|peers| {
                    let (version, peers) = (None, peers.to_vec());
                    Message::Peers(Peers { version, peers })
                }));
                Some(frames)
            }
            (Message::Lan(query), Some(lan)) => {
                let offer = lan.offer(&caller, &private, &query)?;
                Some(vec![Message::LanOffer(offer)])
            }
            (query, _) => answer(&*source, &caller, query),
        })
        .await;
        match answer {
            Ok(Some(messages)) => {
                for message in messages {
                    frame::send(&mut send, &message).await?;
                }
                finish(&mut send, Message::End).await
            }
            Ok(None) => finish(&mut send, refused(code::NOT_FOUND, "not found")).await,
            Err(_) => finish(&mut send, refused(code::INTERNAL, "the query failed")).await,
        }
    }

    /// Says what is held at this moment; every change from then on is in the watch.
    async fn begin_watch(
        &self,
        peer: EndpointId,
        asker: &PeerAddr,
        version: VersionId,
        send: &mut SendStream,
    ) -> Result<Option<Watch>, FrameError> {
        let asker = asker.clone();
        let caller = self.0.grants.caller(peer);
        let (source, hub) = (Arc::clone(&self.0.source), self.0.hub.clone());
        let look = move || {
            let files = source.files(&caller, &version)?;
            // The watch comes first: what changes while the map is made is said twice, not never.
            let mut met = source.peers(&caller, &version);
            met.retain(|met| met.id != asker.id);
            let watch = hub.watch(peer, asker, version, &files);
            let receiving = source.receiving(&version);
            Some((watch, source.held(&caller, &version)?, receiving, met))
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let Ok(Some((watch, held, receiving, met))) = looked else {
            finish(send, refused(code::NOT_FOUND, "not found")).await?;
            return Ok(None);
        };
        for frame in held_frames(&held) {
            frame::send(send, &frame).await?;
        }
        for pieces in Pieces::frames(&receiving) {
            frame::send(send, &Message::Gained(pieces)).await?;
        }
        for pieces in Pieces::frames(&watch.given_lately()) {
            frame::send(send, &Message::Given(pieces)).await?;
        }
        for frame in peers_frames(version, &met) {
            frame::send(send, &frame).await?;
        }
        frame::send(send, &Message::End).await?;
        Ok(Some(watch))
    }
}

/// Tells a watcher what changes, until it hangs up or falls too far behind.
async fn tell(
    watch: &Watch,
    send: &mut SendStream,
    recv: &mut RecvStream,
) -> Result<(), FrameError> {
    loop {
        let told = tokio::select! {
            told = watch.next() => told,
            // The asking side says nothing more: whatever comes is its end.
            _ = recv.read_chunk(1) => return Ok(()),
            _ = send.stopped() => return Ok(()),
        };
        if told.overrun {
            return finish(send, busy()).await;
        }
        if let Some(choked) = told.choked {
            frame::send(send, &Message::Choke(Choke { choked })).await?;
        }
        for frame in peers_frames(watch.version(), &told.peers) {
            frame::send(send, &frame).await?;
        }
        let list = |map: BTreeMap<u32, u16>| map.into_iter().collect::<Vec<_>>();
        for pieces in Pieces::frames(&list(told.gained)) {
            frame::send(send, &Message::Gained(pieces)).await?;
        }
        for pieces in Pieces::frames(&list(told.given)) {
            frame::send(send, &Message::Given(pieces)).await?;
        }
    }
}

fn busy() -> Message {
    Message::Busy(Busy {
        retry_after: RETRY_AFTER_MS,
    })
}

fn refused(code: u64, message: &str) -> Message {
    Message::Refused(Refusal {
        code,
        message: message.to_owned(),
    })
}

async fn finish(send: &mut SendStream, message: Message) -> Result<(), FrameError> {
    frame::send(send, &message).await?;
    send.finish().ok();
    Ok(())
}

/// The frames that answer a query, without the last; nothing when it is absent or refused.
fn answer(source: &dyn RefSource, caller: &Caller, query: Message) -> Option<Vec<Message>> {
    match query {
        Message::Refs(query) => source
            .refs(caller, &query.publisher, &query.model)
            .map(record_frames),
        Message::Have(query) => source
            .held(caller, &query.version)
            .map(|held| held_frames(&held)),
        Message::WhoHas(query) => {
            let peers = source.peers(caller, &query.version);
            Some(peers_frames(query.version, &peers).collect())
        }
        _ => None,
    }
}

fn peers_frames(version: VersionId, peers: &[PeerAddr]) -> impl Iterator<Item = Message> + '_ {
    peers.chunks(PEERS_PER_FRAME_MAX).map(move |peers| {
        Message::Peers(Peers {
            version: Some(version),
            peers: peers.to_vec(),
        })
    })
}

fn record_frames(records: ModelRecords) -> Vec<Message> {
    let mut frames = Vec::new();
    type Frame = fn(Records) -> Message;
    let kinds = [
        (records.identities, Message::Identities as Frame),
        (records.refs, Message::RefRecords),
        (records.signatures, Message::Signatures),
    ];
    for (records, frame) in kinds {
        let (mut list, mut room) = (Vec::new(), RECORDS_PER_FRAME_BYTES);
        for record in records {
            let parts = record.len().div_ceil(RECORDS_PER_FRAME_BYTES).max(1);
            if record.len() > room && !list.is_empty() {
                frames.push(frame(Records {
                    records: std::mem::take(&mut list),
                    partial: false,
                }));
                room = RECORDS_PER_FRAME_BYTES;
            }
            // A record that is longer than a frame goes over several.
            for part in 0..parts {
                let end = record.len().min((part + 1) * RECORDS_PER_FRAME_BYTES);
                let bytes = &record[part * RECORDS_PER_FRAME_BYTES..end];
                if part + 1 < parts {
                    let records = vec![ByteBuf::from(bytes)];
                    frames.push(frame(Records {
                        records,
                        partial: true,
                    }));
                } else {
                    room = room.saturating_sub(bytes.len() + 8);
                    list.push(ByteBuf::from(bytes));
                }
            }
        }
        if !list.is_empty() {
            frames.push(frame(Records {
                records: list,
                partial: false,
            }));
        }
    }
    frames
}

fn held_frames(held: &HeldMap) -> Vec<Message> {
    if held.bits.is_empty() {
        return vec![Message::Held(Held {
            count: held.count,
            start: 0,
            bits: None,
        })];
    }
    let mut start = 0;
    let mut frame = |bits: &[u8]| {
        let frame = Held {
            count: held.count,
            start,
            bits: Some(ByteBuf::from(bits)),
        };
        start += bits.len() as u64 * 8;
        Message::Held(frame)
    };
    held.bits
        .chunks(BITS_PER_FRAME_BYTES)
        .map(&mut frame)
        .collect()
}

impl ProtocolHandler for Control {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let Ok(_permit) = self.0.connections.try_acquire() else {
            connection.close(VarInt::from_u32(2), b"too many connections");
            return Ok(());
        };
        if let Err(error) = self.connection(&connection).await {
            let peer = connection.remote_id();
            tracing::debug!(peer = %peer.fmt_short(), %error, "a peer's control stream failed");
            connection.close(VarInt::from_u32(1), b"bad frame");
        }
        Ok(())
    }
}
