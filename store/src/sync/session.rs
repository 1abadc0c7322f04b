//! The asking side of `/lode/1`: a connection to one peer, on which capabilities hold and queries go.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use iroh::{
    EndpointAddr, EndpointId, TransportAddr,
    endpoint::{Connection, RecvStream, SendStream, VarInt},
};
use serde_bytes::ByteBuf;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::timeout,
};

use crate::{PublisherId, VersionId};

use super::{
    control::hello,
    endpoint::{ALPN, Net},
    frame::{self, FrameError},
    lan::{self, address::private_peer},
    limits::{
        ANSWER_FRAMES_MAX, ANSWER_RECORDS_MAX, FRAME_BYTES_MAX, HELD_CHUNKS_MAX,
        LAN_TOKENS_PER_OFFER_MAX, PEERS_PER_FRAME_MAX, RECORD_BYTES_MAX, REQUEST_TIMEOUT,
    },
    message::{
        Capabilities, ChunkPieces, Hello, LanOffer, LanQuery, Message, ORIGIN_FEATURE, OriginFile,
        OriginQuery, PROTOCOL, PeerAddr, Peers, Records, RefsQuery, VersionQuery, code,
    },
    source::{HeldMap, ModelRecords},
};

/// Bytes of capabilities that go into one frame.
const SHOWN_PER_FRAME_BYTES: usize = FRAME_BYTES_MAX / 2;

/// Hints that wait to be taken; more are dropped.
const HINTS_MAX: usize = 64;

/// Why a peer cannot be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It cannot be reached.
    #[error("cannot reach {peer}: {why}")]
    Connect {
        /// The peer.
        peer: String,
        /// What iroh said.
        why: String,
    },
    /// It does not answer.
    #[error("the peer did not answer in time")]
    Timeout,
    /// It speaks another version of the protocol.
    #[error("the peer speaks another version of the protocol: {0}")]
    Protocol(String),
    /// It asks to come back later.
    #[error("the peer is busy, try again in {} ms", retry_after.as_millis())]
    Busy {
        /// When.
        retry_after: Duration,
    },
    /// It refused a query, other than by not having what was asked for.
    #[error("the peer refused: {message} (code {code})")]
    Refused {
        /// Why, for programs.
        code: u64,
        /// Why, for people.
        message: String,
    },
    /// Its answer is against the protocol.
    #[error("the peer's answer cannot be used: {0}")]
    Answer(&'static str),
    /// A frame cannot be read, or the connection failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A connection to one peer. Dropping it ends it, and with it what was shown.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    hello: Hello,
    control: Mutex<ControlStream>,
    hints: Mutex<mpsc::Receiver<Peers>>,
    reader: JoinHandle<()>,
}

#[derive(Debug)]
struct ControlStream {
    send: SendStream,
    shown: mpsc::Receiver<()>,
}

impl Session {
    /// Connects, says hello and shows `capabilities`; they are in force when this returns.
    ///
    /// # Errors
    /// When the peer cannot be reached or speaks another protocol.
    pub async fn open(
        net: &Net,
        addr: impl Into<EndpointAddr>,
        agent: &str,
        capabilities: Vec<Bytes>,
    ) -> Result<Self, SessionError> {
        let addr = addr.into();
        let peer = addr.id.fmt_short().to_string();
        let connect = timeout(REQUEST_TIMEOUT, net.endpoint().connect(addr, ALPN)).await;
        let connection = connect
            .map_err(|_| SessionError::Connect {
                peer: peer.clone(),
                why: "timed out".to_owned(),
            })?
            .map_err(|error| SessionError::Connect {
                peer,
                why: error.to_string(),
            })?;
        let opened = connection.open_bi().await;
        let (mut send, mut recv) = opened
            .map_err(std::io::Error::from)
            .map_err(FrameError::from)?;
        let mut parts = capability_frames(capabilities).into_iter();
        let first = parts.next().unwrap_or_default();
        frame::send(&mut send, &Message::Hello(hello(agent, first))).await?;
        let answer = timeout(REQUEST_TIMEOUT, frame::receive(&mut recv)).await;
        let hello = match answer.map_err(|_| SessionError::Timeout)?? {
            Some(Message::Hello(hello)) if hello.protocol == PROTOCOL => hello,
            Some(Message::Hello(hello)) => {
                return Err(SessionError::Protocol(format!(
                    "version {}",
                    hello.protocol
                )));
            }
            Some(Message::Refused(refusal)) => return Err(SessionError::Protocol(refusal.message)),
            _ => return Err(SessionError::Answer("it does not begin with a hello")),
        };
        let (shown_tx, shown) = mpsc::channel(HINTS_MAX);
        let (hints_tx, hints) = mpsc::channel(HINTS_MAX);
        let reader = tokio::spawn(read_control(recv, shown_tx, hints_tx));
        let control = Mutex::new(ControlStream { send, shown });
        let session = Self {
            connection,
            hello,
            control,
            hints: Mutex::new(hints),
            reader,
        };
        for part in parts {
            session.show_frame(part).await?;
        }
        Ok(session)
    }

    /// The peer's node key.
    pub fn id(&self) -> EndpointId {
        self.connection.remote_id()
    }

    /// Where the peer is connected from at this moment.
    pub fn addr(&self) -> PeerAddr {
        PeerAddr::of_connection(&self.connection)
    }

    /// Whether the peer is on this machine.
    pub fn is_loopback(&self) -> bool {
        let paths = self.connection.paths();
        paths.iter().any(|path| match path.remote_addr() {
            TransportAddr::Ip(address) => address.ip().is_loopback(),
            _ => false,
        })
    }

    /// What the peer said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Shows more capabilities; they are in force when this returns.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn show(&self, capabilities: Vec<Bytes>) -> Result<(), SessionError> {
        for part in capability_frames(capabilities) {
            self.show_frame(part).await?;
        }
        Ok(())
    }

    async fn show_frame(&self, capabilities: Vec<ByteBuf>) -> Result<(), SessionError> {
        let mut control = self.control.lock().await;
        frame::send(
            &mut control.send,
            &Message::Show(Capabilities { capabilities }),
        )
        .await?;
        let shown = timeout(REQUEST_TIMEOUT, control.shown.recv()).await;
        shown
            .map_err(|_| SessionError::Timeout)?
            .ok_or(SessionError::Answer("it hung up"))
    }

    /// Names other peers of a version to this one.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn hint(
        &self,
        version: Option<VersionId>,
        peers: &[PeerAddr],
    ) -> Result<(), SessionError> {
        let mut control = self.control.lock().await;
        for peers in peers.chunks(PEERS_PER_FRAME_MAX) {
            let hint = Peers {
                version,
                peers: peers.to_vec(),
            };
            frame::send(&mut control.send, &Message::Peers(hint)).await?;
        }
        Ok(())
    }

    /// The next peers that this one names of its own accord; nothing when the connection has ended.
    pub async fn hinted(&self) -> Option<Peers> {
        self.hints.lock().await.recv().await
    }

    /// Asks for the records of a model; nothing when it is absent or private.
    ///
    /// # Errors
    /// When the peer does not answer, or not as the protocol says.
    pub async fn refs(
        &self,
        publisher: PublisherId,
        model: &str,
    ) -> Result<Option<ModelRecords>, SessionError> {
        let query = Message::Refs(RefsQuery {
            publisher,
            model: model.to_owned(),
        });
        let Some(frames) = self.query(&query).await? else {
            return Ok(None);
        };
        let mut lists: [RecordList; 3] = Default::default();
        for frame in frames {
            match frame {
                Message::Identities(records) => lists[0].take(records)?,
                Message::RefRecords(records) => lists[1].take(records)?,
                Message::Signatures(records) => lists[2].take(records)?,
                _ => {}
            }
        }
        let [identities, refs, signatures] = lists;
        Ok(Some(ModelRecords {
            identities: identities.list,
            refs: refs.list,
            signatures: signatures.list,
        }))
    }

    /// Asks which chunks of a version are held; nothing when it is absent or private.
    ///
    /// # Errors
    /// When the peer does not answer, or not as the protocol says.
    pub async fn held(&self, version: VersionId) -> Result<Option<HeldMap>, SessionError> {
        let query = Message::Have(VersionQuery { version });
        self.query(&query).await?.map(held_map).transpose()
    }

    /// Asks which chunks of a version are held and goes on to hear what changes; nothing when it is
    /// absent or private.
    ///
    /// # Errors
    /// When the peer does not answer, or not as the protocol says.
    pub async fn watch(&self, version: VersionId) -> Result<Option<Watched>, SessionError> {
        let (send, mut recv) = self.ask(&Message::Watch(VersionQuery { version })).await?;
        let Some(frames) = answer(&mut recv).await? else {
            return Ok(None);
        };
        let (mut receiving, mut given, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for frame in &frames {
            match frame {
                Message::Gained(pieces) => receiving.extend(pieces.entries()),
                Message::Given(pieces) => given.extend(pieces.entries()),
                Message::Peers(named) => peers.extend_from_slice(&named.peers),
                _ => {}
            }
        }
        let held = held_map(frames)?;
        Ok(Some(Watched {
            held,
            receiving,
            given,
            peers,
            recv,
            _send: send,
        }))
    }

    /// Asks for other peers of a version.
    ///
    /// # Errors
    /// When the peer does not answer, or not as the protocol says.
    pub async fn peers(&self, version: VersionId) -> Result<Vec<PeerAddr>, SessionError> {
        let frames = self
            .query(&Message::WhoHas(VersionQuery { version }))
            .await?;
        let peers = frames
            .into_iter()
            .flatten()
            .filter_map(|frame| match frame {
                Message::Peers(peers) => Some(peers.peers),
                _ => None,
            });
        Ok(peers.flatten().collect())
    }

    /// Asks how far the peer is with files of a model of another hub, and says that we want them: the answer in the
    /// order of `files`, and who else wants some; nothing when it knows no such model.
    ///
    /// # Errors
    /// When the peer does not answer, or not as the protocol says.
    pub async fn origin(
        &self,
        publisher: PublisherId,
        model: &str,
        files: Vec<ByteBuf>,
    ) -> Result<Option<(Vec<OriginFile>, Vec<PeerAddr>)>, SessionError> {
        if !self
            .hello
            .features
            .iter()
            .any(|known| known == ORIGIN_FEATURE)
        {
            return Ok(None);
        }
        let asked = files.len();
        let query = Message::Origin(OriginQuery {
            publisher,
            model: model.to_owned(),
            files,
        });
        let Some(frames) = self.query(&query).await? else {
            return Ok(None);
        };
        let (mut found, mut peers) = (Vec::new(), Vec::new());
        for frame in frames {
            match frame {
                Message::OriginFiles(answer) => found.extend(answer.files),
                Message::Peers(named) => peers.extend(named.peers),
                _ => {}
            }
        }
        if found.len() != asked {
            return Err(SessionError::Answer("it speaks of other files"));
        }
        Ok(Some((found, peers)))
    }

    /// Asks for the LAN path to a version, for so many TCP connections: an offer, and the address that this
    /// connection goes to; nothing when the peer has none for us or is not in our own network.
    ///
    /// # Errors
    /// When the peer does not answer, or not as the protocol says.
    pub async fn lan(
        &self,
        version: VersionId,
        connections: usize,
    ) -> Result<Option<(SocketAddr, LanOffer)>, SessionError> {
        let Some(peer) = private_peer(&self.connection) else {
            return Ok(None);
        };
        if !self
            .hello
            .features
            .iter()
            .any(|known| known == lan::FEATURE)
        {
            return Ok(None);
        }
        let connections = connections.min(LAN_TOKENS_PER_OFFER_MAX) as u64;
        let query = Message::Lan(LanQuery {
            version,
            connections,
        });
        let Some(frames) = self.query(&query).await? else {
            return Ok(None);
        };
        let offer = frames.into_iter().find_map(|frame| match frame {
            Message::LanOffer(offer) => Some(offer),
            _ => None,
        });
        let offer = offer.ok_or(SessionError::Answer("no offer"))?;
        Ok(Some((peer, offer)))
    }

    /// Sends a query and reads its answer up to the end; nothing when the answer is "not found".
    async fn query(&self, query: &Message) -> Result<Option<Vec<Message>>, SessionError> {
        let (mut send, mut recv) = self.ask(query).await?;
        send.finish().ok();
        answer(&mut recv).await
    }

    async fn ask(&self, query: &Message) -> Result<(SendStream, RecvStream), SessionError> {
        let opened = self.connection.open_bi().await;
        let (mut send, recv) = opened
            .map_err(std::io::Error::from)
            .map_err(FrameError::from)?;
        frame::send(&mut send, query).await?;
        Ok((send, recv))
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"done");
    }
}

/// Reads an answer up to its end; nothing when it is "not found".
async fn answer(recv: &mut RecvStream) -> Result<Option<Vec<Message>>, SessionError> {
    let mut frames = Vec::new();
    loop {
        let received = timeout(REQUEST_TIMEOUT, frame::receive(recv)).await;
        match received.map_err(|_| SessionError::Timeout)?? {
            Some(Message::End) => return Ok(Some(frames)),
            Some(Message::Refused(refusal)) if refusal.code == code::NOT_FOUND => {
                return Ok(None);
            }
            Some(Message::Refused(refusal)) => {
                let (code, message) = (refusal.code, refusal.message);
                return Err(SessionError::Refused { code, message });
            }
            Some(Message::Busy(busy)) => {
                let retry_after = Duration::from_millis(busy.retry_after);
                return Err(SessionError::Busy { retry_after });
            }
            Some(frame) if frames.len() < ANSWER_FRAMES_MAX => frames.push(frame),
            Some(_) => return Err(SessionError::Answer("too many frames")),
            None => return Err(SessionError::Answer("it ends early")),
        }
    }
}

/// The have-map that these frames are parts of.
fn held_map(frames: Vec<Message>) -> Result<HeldMap, SessionError> {
    let mut map: Option<(u64, BytesMut)> = None;
    for frame in frames {
        let Message::Held(held) = frame else { continue };
        let Some(bits) = held.bits else {
            return Ok(HeldMap::all(held.count));
        };
        if held.count > HELD_CHUNKS_MAX {
            return Err(SessionError::Answer("a have-map that is too long"));
        }
        let (count, known) = map.get_or_insert((held.count, BytesMut::new()));
        if *count != held.count || held.start != known.len() as u64 * 8 {
            return Err(SessionError::Answer("a have-map with a gap"));
        }
        known.extend_from_slice(&bits);
    }
    let (count, bits) = map.ok_or(SessionError::Answer("no have-map"))?;
    if bits.len() as u64 != count.div_ceil(8) {
        return Err(SessionError::Answer("a have-map that is too short"));
    }
    Ok(HeldMap {
        count,
        bits: bits.freeze(),
    })
}

/// A version that is watched at a peer. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watched {
    /// What was held at the beginning.
    pub held: HeldMap,
    /// Pieces that were held of chunks that were being received.
    pub receiving: Vec<ChunkPieces>,
    /// Pieces that were on their way to others.
    pub given: Vec<ChunkPieces>,
    /// Other peers that it names.
    pub peers: Vec<PeerAddr>,
    recv: RecvStream,
    _send: SendStream,
}

/// What changed at a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It holds these pieces now.
    Gained(Vec<ChunkPieces>),
    /// It sent these pieces to another peer.
    Given(Vec<ChunkPieces>),
    /// Whether our requests wait.
    Choked(bool),
    /// It names other peers.
    Peers(Vec<PeerAddr>),
}

impl Watched {
    /// The next change; nothing when the peer has ended the watch.
    ///
    /// # Errors
    /// When a frame cannot be read.
    pub async fn next(&mut self) -> Result<Option<Change>, SessionError> {
        loop {
            return Ok(Some(match frame::receive(&mut self.recv).await? {
                Some(Message::Gained(pieces)) => Change::Gained(pieces.entries().collect()),
                Some(Message::Given(pieces)) => Change::Given(pieces.entries().collect()),
                Some(Message::Choke(choke)) => Change::Choked(choke.choked),
                Some(Message::Peers(named)) => Change::Peers(named.peers),
                Some(Message::Busy(_)) | None => return Ok(None),
                Some(_) => continue,
            }));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
        self.close();
    }
}

/// Records of one kind, as they come together from frames.
#[derive(Default)]
struct RecordList {
    list: Vec<Bytes>,
    /// The beginning of a record that goes on in the next frame.
    begun: BytesMut,
}

impl RecordList {
    fn take(&mut self, records: Records) -> Result<(), SessionError> {
        let last = records.records.len().wrapping_sub(1);
        for (index, record) in records.records.into_iter().enumerate() {
            if self.list.len() >= ANSWER_RECORDS_MAX {
                return Err(SessionError::Answer("too many records"));
            }
            if self.begun.len() + record.len() > RECORD_BYTES_MAX {
                return Err(SessionError::Answer("a record that is too long"));
            }
            if self.begun.is_empty() && !(records.partial && index == last) {
                self.list.push(record.into_vec().into());
                continue;
            }
            self.begun.extend_from_slice(&record);
            if !(records.partial && index == last) {
                self.list.push(self.begun.split().freeze());
            }
        }
        Ok(())
    }
}

/// Capabilities in as few frames as they fit; at least the first frame may be empty.
fn capability_frames(capabilities: Vec<Bytes>) -> Vec<Vec<ByteBuf>> {
    let mut frames: Vec<Vec<ByteBuf>> = Vec::new();
    let mut room = 0;
    for capability in capabilities {
        if capability.len() + 8 > room {
            frames.push(Vec::new());
            room = SHOWN_PER_FRAME_BYTES;
        }
        room = room.saturating_sub(capability.len() + 8);
        if let Some(last) = frames.last_mut() {
            last.push(ByteBuf::from(capability.to_vec()));
        }
    }
    frames
}

async fn read_control(mut recv: RecvStream, shown: mpsc::Sender<()>, hints: mpsc::Sender<Peers>) {
    while let Ok(Some(message)) = frame::receive(&mut recv).await {
        match message {
            Message::Shown => {
                shown.try_send(()).ok();
            }
            Message::Peers(peers) => {
                hints.try_send(peers).ok();
            }
            _ => {}
        }
    }
}
