//! The node's place on the network: one iroh endpoint, one UDP port, and the protocols behind it.
//!
//! Offline, nothing is sent but to addresses that were given: no relay, no lookup, no port mapping.
//! Windows stay under what noq takes (see [`STREAM_WINDOW_BYTES`]); throughput comes from streams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use iroh::{
    Endpoint, EndpointAddr, RelayMap, RelayMode, RelayUrl, SecretKey,
    address_lookup::MemoryLookup,
    endpoint::{BindError, PortmapperConfig, QuicTransportConfig, VarInt, presets},
    protocol::Router,
};

use super::{
    control::Control,
    limits::{SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX},
    neighbours::Neighbours,
    provider::Provider,
};

/// The protocol for refs, have-maps and peers.
pub const ALPN: &[u8] = b"/lode/1";

/// The protocol for bytes: that of iroh-blobs.
pub const BLOBS_ALPN: &[u8] = b"/iroh-bytes/4";

/// Which relays and lookups a node uses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relays {
    /// None, and no lookups: nothing is sent but to addresses that were given.
    Offline,
    /// The public relays and lookups of iroh.
    Default,
    /// These relays, and no lookups.
    Custom(Vec<RelayUrl>),
}

/// How to bind.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// The node key.
    pub secret: SecretKey,
    /// Addresses to listen on; without one, every address of the machine.
    pub listen: Option<IpAddr>,
    /// The UDP port, 0 for any. When it is taken and was not asked for by `fixed_port`, another is used.
    pub port: u16,
    /// Whether a taken port is an error.
    pub fixed_port: bool,
    /// Relays and lookups.
    pub relays: Relays,
    /// Whether nodes of the local network are sought, and told of this one, by multicast DNS.
    pub mdns: bool,
}

impl EndpointOptions {
    /// Loopback only, any port, offline: what tests and the demo use.
    pub fn loopback(secret: SecretKey) -> Self {
        Self {
            secret,
            listen: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: 0,
            fixed_port: false,
            relays: Relays::Offline,
            mdns: false,
        }
    }
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The address and port cannot be used.
    #[error("cannot listen on UDP port {port}: {source}")]
    Bind {
        /// The port that was asked for.
        port: u16,
        /// What iroh said.
        source: Box<BindError>,
    },
    /// The local network cannot be searched.
    #[error("multicast DNS cannot be used: {0}")]
    Mdns(String),
    /// The address cannot be listened on.
    #[error("{listen} is no address to listen on")]
    Address {
        /// The address.
        listen: SocketAddr,
    },
}

/// A bound endpoint that does not answer yet.
#[derive(Debug, Clone)]
pub struct Net {
    endpoint: Endpoint,
    known: MemoryLookup,
    neighbours: Option<Neighbours>,
}

impl Net {
    /// Binds. Keep [`port`](Self::port) and pass it the next time, so that tickets outlive restarts.
    ///
    /// # Errors
    /// When no address can be bound.
    pub async fn bind(options: &EndpointOptions) -> Result<Self, EndpointError> {
        match Self::bind_port(options, options.port).await {
            Err(EndpointError::Bind { .. }) if options.port != 0 && !options.fixed_port => {
                tracing::info!(port = options.port, "UDP port is taken, using another");
                Self::bind_port(options, 0).await
            }
            result => result,
        }
    }

    async fn bind_port(options: &EndpointOptions, port: u16) -> Result<Self, EndpointError> {
        let known = MemoryLookup::new();
        let builder = match &options.relays {
            Relays::Default => Endpoint::builder(presets::N0),
            Relays::Custom(urls) => Endpoint::builder(presets::Minimal).relay_mode(
                RelayMode::Custom(urls.iter().cloned().collect::<RelayMap>()),
            ),
            Relays::Offline => Endpoint::builder(presets::Minimal)
                .relay_mode(RelayMode::Disabled)
                .portmapper_config(PortmapperConfig::Disabled),
        };
        let mut builder = builder
            .secret_key(options.secret.clone())
            .address_lookup(known.clone())
            .transport_config(transport())
            .clear_ip_transports();
        let listen: &[IpAddr] = match &options.listen {
            Some(address) => std::slice::from_ref(address),
            None => &[
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ],
        };
        for address in listen {
            let listen = SocketAddr::new(*address, port);
            builder = builder
                .bind_addr(listen)
                .map_err(|_| EndpointError::Address { listen })?;
        }
        let endpoint = builder.bind().await.map_err(|source| EndpointError::Bind {
            port,
            source: Box::new(source),
        })?;
        let neighbours = options
            .mdns
            .then(|| Neighbours::start(&endpoint).map_err(EndpointError::Mdns))
            .transpose()?;
        Ok(Self {
            endpoint,
            known,
            neighbours,
        })
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The UDP port that is in use.
    pub fn port(&self) -> u16 {
        self.endpoint
            .bound_sockets()
            .first()
            .map_or(0, SocketAddr::port)
    }

    /// Where this node can be reached, as far as it knows; loopback and listening addresses included.
    pub fn addr(&self) -> EndpointAddr {
        let mut addr = self.endpoint.addr();
        for socket in self.endpoint.bound_sockets() {
            if !socket.ip().is_unspecified() {
                addr = addr.with_ip_addr(socket);
            }
        }
        addr
    }

    /// The nodes of the local network, if they are sought.
    pub fn neighbours(&self) -> Option<&Neighbours> {
        self.neighbours.as_ref()
    }

    /// Remembers where a peer can be reached.
    pub fn know(&self, addr: EndpointAddr) {
        self.known.add_endpoint_info(addr);
    }

    /// Starts to answer both protocols.
    pub fn serve(&self, control: Control, provider: Provider) -> Doors {
        let router = Router::builder(self.endpoint.clone())
            .accept(ALPN, control)
            .accept(BLOBS_ALPN, provider)
            .spawn();
        Doors { router }
    }

    /// Closes the endpoint: says goodbye to every peer. [`Doors::close`] does it too.
    pub async fn close(&self) {
        self.endpoint.close().await;
    }
}

/// The protocols that a node answers, until they are closed or dropped.
#[derive(Debug)]
#[must_use = "the doors close when this is dropped"]
pub struct Doors {
    router: Router,
}

impl Doors {
    /// Stops answering and closes the endpoint.
    pub async fn close(self) {
        if let Err(error) = self.router.shutdown().await {
            tracing::warn!(%error, "an accept loop ended badly");
        }
    }
}

fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_PER_CONNECTION_MAX))
        .build()
}
