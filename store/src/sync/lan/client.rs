//! The asking side of the LAN path: TCP connections to one peer for one version, made with tokens that the
//! peer gives over `/lode/1`.
//!
//! Only the address is dialled that the peer's own connection comes from; of the offer, only the port is
//! taken. A connection carries one answer at a time and is kept for the next when an answer was read to its end.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::{
    VersionId,
    sync::{
        grants::{Counters, LanCounted},
        limits::{LAN_CONNECT_TIMEOUT, LAN_FRESH_TIMEOUT, LAN_TOKEN_LIFETIME},
        request::BlobRequest,
        session::Session,
    },
};

use super::wire::{self, LENGTH_BYTES, Status, Token};

/// Finds the LAN path to one peer, for the bytes of one version.
#[derive(Debug, Clone)]
pub struct LanDialler {
    session: Arc<Session>,
    version: VersionId,
    counters: Arc<Counters>,
}

impl LanDialler {
    /// Asks over `session` for the bytes of `version`; what comes is noted in the peer's `counters`.
    pub fn new(session: Arc<Session>, version: VersionId, counters: Arc<Counters>) -> Self {
        Self {
            session,
            version,
            counters,
        }
    }

    /// Opens the path for up to `connections` requests at a time, and a first connection to see that it works.
    pub(in crate::sync) async fn open(&self, connections: usize) -> Result<LanLink, String> {
        let link = LanLink(Arc::new(Open {
            dialler: self.clone(),
            connections: connections.max(1),
            tokens: Mutex::default(),
            idle: Mutex::default(),
            broken: watch::Sender::new(None),
        }));
        let first = link.dial().await?;
        link.keep(first);
        Ok(link)
    }
}

/// An open LAN path. Clones are the same.
#[derive(Debug, Clone)]
pub(in crate::sync) struct LanLink(Arc<Open>);

#[derive(Debug)]
struct Open {
    dialler: LanDialler,
    connections: usize,
    tokens: Mutex<VecDeque<Usable>>,
    /// Connections without a request under way, and since when.
    idle: Mutex<Vec<(Instant, LanConnection)>>,
    /// Why it is not used any more.
    broken: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Usable {
    token: Token,
    at: SocketAddr,
    until: Instant,
}

impl LanLink {
    /// Asks on a connection that is idle, or on a new one. A failure breaks the whole path.
    pub(in crate::sync) async fn ask(
        &self,
        request: &BlobRequest,
    ) -> Result<(Self, LanConnection), String> {
        if let Some(why) = &*self.0.broken.borrow() {
            return Err(why.clone());
        }
        let asked = async {
            let mut connection = match self.idle() {
                Some(connection) => connection,
                None => self.dial().await?,
            };
            let sent = connection.ask(request).await;
            sent.map_err(|error| format!("a request could not be sent: {error}"))?;
            Ok(connection)
        };
        match asked.await {
            Ok(connection) => Ok((self.clone(), connection)),
            Err(why) => Err(self.broke(why)),
        }
    }

    /// Keeps a connection for the next request.
    pub(in crate::sync) fn keep(&self, connection: LanConnection) {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.0.connections {
            idle.push((Instant::now(), connection));
        }
    }

    /// Notes that it is not used any more; returns the first reason.
    pub(in crate::sync) fn broke(&self, why: String) -> String {
        let mut first = why.clone();
        self.0.broken.send_modify(|kept| {
            first.clone_from(kept.get_or_insert(why));
        });
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
        first
    }

    /// Waits until it is not used any more.
    pub(in crate::sync) async fn broken(&self) -> String {
        let mut broken = self.0.broken.subscribe();
        let why = broken.wait_for(Option::is_some).await;
        why.ok()
            .and_then(|why| why.clone())
            .unwrap_or_else(|| "it is closed".to_owned())
    }

    fn idle(&self) -> Option<LanConnection> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The other side closes what lies idle for long: such a one must not be taken for a broken path.
        idle.retain(|(since, _)| since.elapsed() < LAN_FRESH_TIMEOUT);
        idle.pop().map(|(_, connection)| connection)
    }

    async fn dial(&self) -> Result<LanConnection, String> {
        let usable = match self.token() {
            Some(usable) => usable,
            None => {
                self.fetch_tokens().await?;
                self.token().ok_or("the offer has no token")?
            }
        };
        let counters = &self.0.dialler.counters;
        let dialled = LanConnection::dial(usable.at, &usable.token, counters);
        match timeout(LAN_CONNECT_TIMEOUT, dialled).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(format!("TCP to {}: {error}", usable.at)),
            Err(_) => Err(format!(
                "TCP to {}: no answer within {} s",
                usable.at,
                LAN_CONNECT_TIMEOUT.as_secs()
            )),
        }
    }

    fn token(&self) -> Option<Usable> {
        let mut tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|token| token.until > Instant::now());
        tokens.pop_front()
    }

    async fn fetch_tokens(&self) -> Result<(), String> {
        let (dialler, asked) = (&self.0.dialler, Instant::now());
        let offer = dialler.session.lan(dialler.version, self.0.connections);
        let offer = offer.await.map_err(|error| error.to_string())?;
        let (mut at, offer) = offer.ok_or("the peer does not offer it")?;
        at.set_port(offer.port);
        // From when it was asked for: what is late at the other side is late here.
        let valid = Duration::from_millis(offer.valid).min(LAN_TOKEN_LIFETIME);
        let usable = |bytes: &serde_bytes::ByteBuf| {
            Some(Usable {
                token: Token::from_slice(bytes)?,
                at,
                until: asked + valid,
            })
        };
        let mut tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.extend(offer.tokens.iter().filter_map(usable));
        Ok(())
    }
}

/// One TCP connection, on which a token was accepted.
#[derive(Debug)]
pub(in crate::sync) struct LanConnection {
    stream: TcpStream,
    /// Bytes of the record under way that have not been read.
    left: usize,
    /// How the answer under way ended, once it has.
    ended: Option<Status>,
    counters: Arc<Counters>,
    _counted: LanCounted,
}

/// What a read of an answer gave.
#[derive(Debug)]
pub(in crate::sync) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// The end of the answer.
    End(Status),
}

impl LanConnection {
    async fn dial(at: SocketAddr, token: &Token, counters: &Arc<Counters>) -> io::Result<Self> {
        let mut stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&token.greeting()).await?;
        let mut proof = [0; 32];
        stream.read_exact(&mut proof).await?;
        if proof != token.proof() {
            let why = "what answers there is not the peer";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Self {
            stream,
            left: 0,
            ended: None,
            counters: Arc::clone(counters),
            _counted: LanCounted::asking(counters),
        })
    }

    async fn ask(&mut self, request: &BlobRequest) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a request over 1 MiB");
        let bytes = wire::write_request(request).ok_or_else(too_long)?;
        (self.left, self.ended) = (0, None);
        self.stream.write_all(&bytes).await
    }

    /// Reads some of the answer into `out`, which is not empty.
    pub(in crate::sync) async fn read(&mut self, out: &mut [u8]) -> io::Result<Got> {
        if let Some(status) = self.ended {
            return Ok(Got::End(status));
        }
        if self.left == 0 {
            let mut length = [0; LENGTH_BYTES];
            self.stream.read_exact(&mut length).await?;
            match wire::record_len(length).map_err(io::Error::other)? {
                Some(len) => self.left = len,
                None => {
                    let status = self.stream.read_u8().await?;
                    let status = Status::read(status).map_err(io::Error::other)?;
                    self.ended = Some(status);
                    return Ok(Got::End(status));
                }
            }
        }
        let most = out.len().min(self.left);
        match self.stream.read(&mut out[..most]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.left -= read;
                self.counters.add_lan_received(read as u64);
                Ok(Got::Bytes(read))
            }
        }
    }

    /// Whether the end of the answer was read.
    pub(in crate::sync) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether the end of the answer is what comes next: reads it.
    pub(in crate::sync) async fn ends_here(&mut self) -> bool {
        self.left == 0 && matches!(self.read(&mut [0]).await, Ok(Got::End(_)))
    }
}
