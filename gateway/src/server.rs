//! Listening: HTTP on loopback and the Unix socket in the home, until told to stop.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lode_node::tokens::Tokens;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    control::{self, Backend},
    crowd::Crowd,
    gateway::Gateway,
    guard::{Door, Http},
    limits::{
        CONTROL_CONNECTIONS_MAX, DRAIN_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX, HEAD_TIMEOUT,
        WRITE_TIMEOUT,
    },
    policy::Policy,
    stall::Stall,
    tls::Tls,
};

/// Where to listen.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The HTTP address, on loopback; port 0 takes a free one. No HTTP when absent.
    pub http: Option<SocketAddr>,
    /// The control socket.
    pub socket: PathBuf,
    /// Who is let in over HTTP.
    pub policy: Policy,
    /// What HTTP is encrypted with, if it is.
    pub tls: Option<Arc<Tls>>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Without a token, whoever reaches an address is taken for the owner.
    #[error(
        "HTTP on {address} would let everyone who reaches it read and change this home: there is no token yet"
    )]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The HTTP address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Http {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot listen on {}: {source}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A gateway that listens.
#[derive(Debug)]
pub struct Running {
    /// The HTTP address, with the port that was taken.
    pub http: Option<SocketAddr>,
    stopped: JoinHandle<()>,
}

impl Running {
    /// Waits until the gateway has stopped: its open requests done or cut off, its socket gone.
    pub async fn stopped(self) {
        if let Err(error) = self.stopped.await {
            tracing::error!(%error, "the gateway broke off");
        }
    }
}

/// Binds what `options` name, and answers until `shutdown`. Then open requests get
/// [`DRAIN_TIMEOUT`], and commands are cancelled.
///
/// # Errors
/// An address that is not loopback, or one that cannot be bound.
pub async fn serve(
    backend: impl Backend,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> Result<Running, ServeError> {
    let rule = backend.tokens().is_some_and(Tokens::rule);
    let http = match options.http {
        None => None,
        Some(address) if !address.ip().is_loopback() && !rule && !options.policy.insecure_open => {
            return Err(ServeError::NotLoopback { address });
        }
        Some(address) => {
            let failed = |source| ServeError::Http { address, source };
            Some(TcpListener::bind(address).await.map_err(failed)?)
        }
    };
    let path = options.socket;
    let failed = |source| ServeError::Socket {
        path: path.clone(),
        source,
    };
    let control = control::listen(&path).map_err(failed)?;
    let address = http
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    let stopping = shutdown.child_token();
    let gateway = Arc::new(Gateway::new(Arc::new(backend), options.policy, stopping));
    let http = http.map(|listener| (listener, options.tls));
    let stopped = tokio::spawn(run(gateway, http, control, path, shutdown));
    Ok(Running {
        http: address,
        stopped,
    })
}

async fn run(
    gateway: Arc<Gateway>,
    http: Option<(TcpListener, Option<Arc<Tls>>)>,
    control: UnixListener,
    path: PathBuf,
    shutdown: CancellationToken,
) {
    let control = accept_control(Arc::clone(&gateway), control, shutdown.clone());
    let http = async {
        match http {
            Some((listener, tls)) => accept_http(gateway, listener, tls, shutdown.clone()).await,
            None => shutdown.cancelled().await,
        }
    };
    tokio::join!(control, http);
    remove_socket(&path);
}

fn remove_socket(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "the control socket stays behind");
    }
}

async fn accept_http(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(gateway.policy().connections_max));
    let crowd = Arc::new(Crowd::default());
    let loopback = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    let mut connections = JoinSet::new();
    while let Some(permit) = place(&places, &mut connections, &shutdown).await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(guest) = crowd.enter(peer.ip()) else {
                    tracing::debug!(%peer, "an address has too many connections");
                    continue;
                };
                // Answers are whole when they are written; waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                let stream = Stall::new(stream, WRITE_TIMEOUT);
                let door = Door::Http(Http {
                    peer: peer.ip(),
                    loopback,
                    tls: tls.is_some(),
                });
                let acceptor = tls.as_ref().map(|tls| tls.acceptor());
                let (gateway, shutdown) = (Arc::clone(&gateway), shutdown.clone());
                connections.spawn(async move {
                    let _held = (permit, guest);
                    match acceptor {
                        None => connection(gateway, stream, door, shutdown).await,
                        Some(acceptor) => {
                            if let Some(stream) = shake_hands(acceptor, stream).await {
                                connection(gateway, stream, door, shutdown).await;
                            }
                        }
                    }
                });
            }
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    drain(connections).await;
}

/// Begins TLS; nothing when the client does not in time.
async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: TlsAcceptor,
    stream: S,
) -> Option<TlsStream<S>> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a client did not begin TLS");
            None
        }
        Err(_) => {
            tracing::debug!("a client took too long to begin TLS");
            None
        }
    }
}

async fn accept_control(
    gateway: Arc<Gateway>,
    listener: UnixListener,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let owner = rustix::process::getuid().as_raw();
    while let Some(permit) = place(&places, &mut connections, &shutdown).await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == owner => {
                    let task =
                        connection(Arc::clone(&gateway), stream, Door::Socket, shutdown.clone());
                    connections.spawn(async move {
                        task.await;
                        drop(permit);
                    });
                }
                Ok(peer) => {
                    tracing::warn!(uid = peer.uid(), "another user's process was turned away")
                }
                Err(error) => {
                    tracing::warn!(%error, "a process without credentials was turned away")
                }
            },
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    drain(connections).await;
}

/// Waits for a free place, and forgets connections that have ended. Nothing once stopping.
async fn place(
    places: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Option<tokio::sync::OwnedSemaphorePermit> {
    while connections.try_join_next().is_some() {}
    tokio::select! {
        permit = Arc::clone(places).acquire_owned() => permit.ok(),
        () = shutdown.cancelled() => None,
    }
}

/// Out of descriptors, mostly: waits for some to come free instead of spinning.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn drain(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
        tracing::info!(open = connections.len(), "connections were cut off");
        connections.shutdown().await;
    }
}

async fn connection(
    gateway: Arc<Gateway>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    door: Door,
    shutdown: CancellationToken,
) {
    let _counted = gateway.metrics().connection();
    let service = service_fn(|request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, std::convert::Infallible>(gateway.answer(door, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        // At most HEADERS_MAX headers, which is its default: a number said here costs an allocation a request.
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Mostly clients that left; what failed on this side was logged where it failed.
        tracing::debug!(%error, "a connection ended early");
    }
}
