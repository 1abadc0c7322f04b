//! The answering side of the LAN path: TCP listeners beside the endpoint's UDP sockets.
//!
//! A connection that presents no good token at once is closed unread. What is answered is asked of the
//! [`Provider`] with the peer to which the token was given, in the scope of the version that it names.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use iroh::EndpointId;
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::{
    ChunkHash,
    sync::{
        answer::{Answer, Ended, Then},
        grants::{Counters, LanCounted},
        limits::{
            LAN_CONNECTIONS_MAX, LAN_CONNECTIONS_PER_PEER_MAX, LAN_GREETING_TIMEOUT,
            LAN_GREETINGS_MAX, LAN_IDLE_TIMEOUT, LAN_TOKEN_LIFETIME, REQUEST_TIMEOUT, TAKE_TIMEOUT,
        },
        message::{LanOffer, LanQuery},
        provider::Provider,
        source::Caller,
    },
};

use super::{
    address::is_private,
    token::{Admitted, Failures, Tokens},
    wire::{self, GREETING_BYTES, LENGTH_BYTES, Status},
};

/// Time to wait after a connection could not be accepted, for example since there are too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The LAN path of one node, as it is offered to peers.
#[derive(Clone)]
pub struct Lan(Arc<Shared>);

struct Shared {
    provider: Provider,
    listening: Vec<SocketAddr>,
    tokens: Tokens,
    failures: Failures,
    greetings: Semaphore,
    connections: Semaphore,
}

impl std::fmt::Debug for Lan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lan")
            .field("listening", &self.0.listening)
            .finish_non_exhaustive()
    }
}

/// The listeners of the LAN path, until they are dropped.
#[derive(Debug)]
#[must_use = "the listeners close when this is dropped"]
pub struct LanDoor {
    lan: Lan,
    _accepting: JoinSet<()>,
}

impl LanDoor {
    /// Listens on a free TCP port of each of `addresses`, and answers from `provider`.
    ///
    /// # Errors
    /// When none of them can be listened on.
    pub async fn open(
        addresses: impl IntoIterator<Item = IpAddr>,
        provider: Provider,
    ) -> io::Result<Self> {
        let (mut listeners, mut listening) = (Vec::new(), Vec::new());
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            let bound = TcpListener::bind((address, 0)).await;
            match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((addr, listener)) => {
                    listening.push(addr);
                    listeners.push(listener);
                }
                Err(error) => failed = error,
            }
        }
        if listeners.is_empty() {
            return Err(failed);
        }
        let lan = Lan(Arc::new(Shared {
            provider,
            listening,
            tokens: Tokens::new(),
            failures: Failures::new(Instant::now()),
            greetings: Semaphore::new(LAN_GREETINGS_MAX),
            connections: Semaphore::new(LAN_CONNECTIONS_MAX),
        }));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(lan.clone().accept(listener));
        }
        Ok(Self {
            lan,
            _accepting: accepting,
        })
    }

    /// What offers it: for [`Control::with_lan`](crate::sync::control::Control::with_lan).
    pub fn lan(&self) -> Lan {
        self.lan.clone()
    }
}

impl Lan {
    /// The addresses and TCP ports that are listened on.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.0.listening
    }

    /// An offer to a peer that is seen at `from`, private addresses; nothing unless everybody may read the
    /// version. May block.
    pub(in crate::sync) fn offer(
        &self,
        caller: &Caller,
        from: &[IpAddr],
        query: &LanQuery,
    ) -> Option<LanOffer> {
        let first = from.first()?;
        let of_family = |addr: &&SocketAddr| addr.is_ipv4() == first.is_ipv4();
        let port = self.0.listening.iter().find(of_family)?.port();
        let root = ChunkHash::from(query.version);
        let access = self.0.provider.access();
        if !access.is_public(&query.version, &root) || !access.may_read(caller, &root) {
            return None;
        }
        let admitted = Admitted {
            peer: caller.id,
            version: query.version,
        };
        let count = usize::try_from(query.connections).unwrap_or(usize::MAX);
        let tokens = self.0.tokens.give(admitted, from, count, Instant::now());
        let offer = LanOffer {
            port,
            valid: u64::try_from(LAN_TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX),
            tokens: tokens
                .iter()
                .map(|token| ByteBuf::from(token.as_bytes().to_vec()))
                .collect(),
        };
        (!offer.tokens.is_empty()).then_some(offer)
    }

    async fn accept(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a TCP connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let from = from.ip().to_canonical();
            if is_private(from) && self.0.failures.begin(from, Instant::now()) {
                let this = self.clone();
                connections.spawn(async move {
                    if let Err(error) = this.connection(stream, from).await {
                        tracing::debug!(%from, %error, "a connection of the LAN path ended");
                    }
                });
            }
            while connections.try_join_next().is_some() {}
        }
    }

    async fn connection(&self, mut stream: TcpStream, from: IpAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let admitted = self.greet(&mut stream, from).await?;
        self.0.failures.was_good(from);
        let too_many = || io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections");
        let _permit = self.0.connections.try_acquire().map_err(|_| too_many())?;
        let counters = self.0.provider.counters(admitted.peer);
        let _counted =
            LanCounted::answering(&counters, LAN_CONNECTIONS_PER_PEER_MAX).ok_or_else(too_many)?;
        let (provider, peer) = (&self.0.provider, admitted.peer);
        loop {
            let mut length = [0; LENGTH_BYTES];
            match timeout(LAN_IDLE_TIMEOUT, stream.read_exact(&mut length)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
            let len = wire::request_len(length).map_err(io::Error::other)?;
            let _large = provider.large_permit(len).await?;
            let mut bytes = vec![0; len];
            timeout(REQUEST_TIMEOUT, stream.read_exact(&mut bytes))
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??;
            let request = wire::read_request(&bytes).map_err(io::Error::other)?;
            drop(bytes);
            let _request = provider.request_permit().await?;
            counters.add_request();
            let version = Some(admitted.version);
            let admitting = provider.admit(peer, version, request, gone(&stream));
            let Some((answer, slot)) = admitting.await else {
                return Ok(());
            };
            let (status, bytes) = self.send(&mut stream, peer, answer, &counters).await?;
            take_within(stream.write_all(&status.end())).await?;
            if let Some(slot) = slot {
                slot.done(bytes);
            }
        }
    }

    /// Takes the token that a connection presents, and answers that it is good.
    async fn greet(&self, stream: &mut TcpStream, from: IpAddr) -> io::Result<Admitted> {
        let busy = || io::Error::new(io::ErrorKind::QuotaExceeded, "too many greetings");
        let _permit = self.0.greetings.try_acquire().map_err(|_| busy())?;
        let mut greeting = [0; GREETING_BYTES];
        timeout(LAN_GREETING_TIMEOUT, stream.read_exact(&mut greeting))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let token = wire::read_greeting(&greeting).map_err(io::Error::other)?;
        let admitted = self.0.tokens.take(&token, from, Instant::now());
        let refused = || io::Error::new(io::ErrorKind::PermissionDenied, "no such token");
        let admitted = admitted.ok_or_else(refused)?;
        stream.write_all(&token.proof()).await?;
        Ok(admitted)
    }

    /// Sends an answer, a record a batch, preparing one while the one before leaves; returns how it ended, and its
    /// bytes.
    async fn send(
        &self,
        stream: &mut TcpStream,
        peer: EndpointId,
        answer: Box<Answer>,
        counters: &Counters,
    ) -> io::Result<(Status, u64)> {
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
            let batch_len = batch.len();
            let len = u32::try_from(batch_len).map_err(io::Error::other)?;
            if len > 0 {
                let length = len.to_le_bytes();
                let segments = batch.into_segments();
                let mut slices = Vec::with_capacity(segments.len() + 1);
                slices.push(IoSlice::new(&length));
                slices.extend(segments.iter().map(|segment| IoSlice::new(segment)));
                self.0.provider.pass(peer, batch_len).await;
                take_within(write_all(stream, &mut slices)).await?;
                counters.add_sent(payload, u64::from(len));
                counters.add_lan_sent(payload);
                sent += u64::from(len);
            }
            match (next, ended) {
                (Some(next), _) => ahead = next,
                (None, Some(Ended::Absent)) => return Ok((Status::Absent, sent)),
                (None, Some(Ended::Broken(error))) => {
                    tracing::debug!(%error, "an answer of the LAN path ends early");
                    return Ok((Status::Broken, sent));
                }
                (None, _) => return Ok((Status::Complete, sent)),
            }
        }
    }
}

/// Waits until the other side hangs up; whatever else it sends is left where it is.
async fn gone(stream: &TcpStream) {
    if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
        std::future::pending::<()>().await;
    }
}

/// Writes all of `slices` from where they are.
async fn write_all(stream: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match stream.write_vectored(slices).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut slices, written),
        }
    }
    Ok(())
}

/// A peer takes what it is sent in time, or the connection ends.
async fn take_within(sending: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(TAKE_TIMEOUT, sending)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}
