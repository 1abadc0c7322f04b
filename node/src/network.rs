//! The node among others: its endpoint, the doors that it opens, and the sessions that it holds.
//!
//! Bound on first use. The UDP port is kept in the home's file `port`, so that tickets outlive
//! restarts.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use iroh::{EndpointAddr, EndpointId, RelayUrl, SecretKey};
use lode_store::sync::{
    control::Control,
    endpoint::{Doors, EndpointOptions, Net, Relays},
    grants::{Grants, Traffic},
    hub::Hub,
    lan::LanDoor,
    lanes::Lanes,
    message::PeerAddr,
    provider::Provider,
    rate::Rate,
    session::{Session, SessionError},
    uploads::{UploadLimits, Uploads},
};
use tokio::sync::Mutex;

use crate::{
    Node, book,
    command::{Failure, PeerRow},
    doors::StoreDoors,
    keys::{self, KeyKind},
    receiving::Receiving,
};

/// What the program says of itself to peers.
pub(crate) const AGENT: &str = concat!("lode/", env!("CARGO_PKG_VERSION"));

/// How the node meets others.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Sends nothing but to addresses that were given.
    pub offline: bool,
    /// Relays to use instead of the public ones.
    pub relays: Vec<String>,
    /// Seeks nodes of the local network by multicast DNS, and tells them of this one.
    pub mdns: bool,
    /// Address and UDP port to listen on; every address and the home's own port when absent.
    pub listen: Option<SocketAddr>,
    /// Bytes a second that are sent to all peers together.
    pub upload: Option<u64>,
    /// Bytes a second that are sent to each peer.
    pub upload_peer: Option<u64>,
    /// Bytes a second that all downloads together take.
    pub download: Option<u64>,
    /// Whether bytes of public models go over plain TCP between private addresses.
    pub lan: bool,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            offline: false,
            relays: Vec::new(),
            mdns: false,
            listen: None,
            upload: None,
            upload_peer: None,
            download: None,
            lan: true,
        }
    }
}

/// How long the endpoint has to tell peers that the node is leaving. It says so once, at once; what it would
/// wait for beyond that is an answer, also of peers that were named and are gone.
const GOODBYE_TIME: std::time::Duration = std::time::Duration::from_millis(150);

/// The endpoint with its doors.
#[derive(Debug)]
pub struct Network {
    net: Net,
    doors: Mutex<Option<Doors>>,
    lan: Mutex<Option<LanDoor>>,
    grants: Grants,
    traffic: Traffic,
    hub: Hub,
    receiving: Receiving,
    lanes: Arc<Lanes>,
    download_rate: Option<Arc<Rate>>,
    sessions: Mutex<HashMap<EndpointId, Arc<Session>>>,
}

impl Network {
    /// Binds the endpoint and opens the doors of `node`.
    pub(crate) async fn start(node: &Node) -> Result<Self, Failure> {
        let options = &node.options().network;
        let secret = SecretKey::from_bytes(&keys::load_or_create(node.home(), KeyKind::Node)?);
        let port_file = node.home().join("port");
        let relays = relays(options)?;
        let net = Net::bind(&EndpointOptions {
            secret,
            listen: options.listen.map(|address| address.ip()),
            port: match options.listen {
                Some(address) if address.port() != 0 => address.port(),
                _ => read_port(&port_file),
            },
            fixed_port: options.listen.is_some_and(|address| address.port() != 0),
            relays,
            mdns: options.mdns,
        })
        .await
        .map_err(|error| {
            Failure::failed(crate::failure::chain(&error))
                .advise("choose another address or port with `--listen ADDR:PORT`")
        })?;
        write_port(&port_file, net.port());
        let (grants, traffic) = (Grants::default(), Traffic::default());
        let (hub, receiving) = (Hub::default(), Receiving::default());
        let source = Arc::new(StoreDoors::new(
            node.store().clone(),
            receiving.clone(),
            hub.clone(),
            grants.clone(),
            Arc::clone(node.origin_state()),
        ));
        let limits = UploadLimits {
            total: options.upload,
            peer: options.upload_peer,
        };
        let uploads = Uploads::new(limits, hub.clone());
        let provider = Provider::new(
            source.clone(),
            source.clone(),
            grants.clone(),
            traffic.clone(),
            uploads,
        );
        let lan = if options.lan {
            open_lan(&net, provider.clone()).await
        } else {
            None
        };
        let offered = lan.as_ref().map(LanDoor::lan);
        let control = Control::with_lan(source, grants.clone(), hub.clone(), AGENT, offered);
        let doors = net.serve(control, provider);
        for peer in book::list(node)? {
            if let Some(address) = peer.to_endpoint_addr() {
                net.know(address);
            }
        }
        Ok(Self {
            net,
            doors: Mutex::new(Some(doors)),
            lan: Mutex::new(lan),
            grants,
            traffic,
            hub,
            receiving,
            lanes: Arc::default(),
            download_rate: options.download.map(|rate| Arc::new(Rate::new(rate))),
            sessions: Mutex::default(),
        })
    }

    /// The endpoint.
    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// Where this node can be reached, as a ticket says it.
    pub fn ticket_addr(&self) -> lode_store::ticket::PeerAddr {
        let address = self.net.addr();
        lode_store::ticket::PeerAddr {
            id: *address.id.as_bytes(),
            ip: address.ip_addrs().copied().collect(),
            relay: address.relay_urls().map(ToString::to_string).collect(),
        }
    }

    /// The counters of all peers.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Who watches what.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The files that are being received.
    pub(crate) fn receiving(&self) -> &Receiving {
        &self.receiving
    }

    /// Lets what somebody waits for overtake.
    pub(crate) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// The limit on all downloads together.
    pub(crate) fn download_rate(&self) -> Option<&Arc<Rate>> {
        self.download_rate.as_ref()
    }

    /// What peers have shown.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// This node's key.
    pub fn id(&self) -> EndpointId {
        self.net.endpoint().id()
    }

    /// A session with the peer at `address`, an open one if there is; the address is remembered.
    pub(crate) async fn session(
        &self,
        address: EndpointAddr,
        capabilities: Vec<Bytes>,
    ) -> Result<Arc<Session>, Failure> {
        self.net.know(address.clone());
        self.session_at(address, capabilities).await
    }

    /// The same for an address that somebody else says: it is tried, and not remembered.
    pub(crate) async fn session_at(
        &self,
        address: EndpointAddr,
        capabilities: Vec<Bytes>,
    ) -> Result<Arc<Session>, Failure> {
        let open = self
            .sessions
            .lock()
            .await
            .get(&address.id)
            .filter(|open| !open.is_closed())
            .cloned();
        let failed = |error: SessionError| {
            Failure::new(
                crate::command::FailureKind::NoPeer,
                crate::failure::chain(&error),
            )
        };
        if let Some(session) = open {
            session.show(capabilities).await.map_err(failed)?;
            return Ok(session);
        }
        let id = address.id;
        let session = Arc::new(
            Session::open(&self.net, address, AGENT, capabilities)
                .await
                .map_err(failed)?,
        );
        let mut sessions = self.sessions.lock().await;
        sessions.retain(|_, open| !open.is_closed());
        sessions.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Where these peers are connected to now, in their order; those without a session are left out.
    pub(crate) async fn whereabouts(
        &self,
        peers: impl IntoIterator<Item = EndpointId>,
    ) -> Vec<PeerAddr> {
        let sessions = self.sessions.lock().await;
        let open = peers.into_iter().filter_map(|peer| sessions.get(&peer));
        let open = open.map(|session| session.addr());
        open.filter(PeerAddr::is_reachable).collect()
    }

    /// Received and sent bytes a second, over the last seconds.
    pub(crate) fn rates(&self) -> (u64, u64) {
        let all = self.traffic.all();
        all.iter().fold((0, 0), |(received, sent), (_, counters)| {
            let (out, into) = counters.rates();
            (received + into, sent + out)
        })
    }

    /// The rows of `lode peers`: the address book, and what was exchanged since start.
    pub(crate) async fn peer_rows(&self, book: Vec<PeerAddr>) -> Vec<PeerRow> {
        let mut rows: HashMap<[u8; 32], PeerRow> = book
            .into_iter()
            .map(|peer| (peer.id, peer_row(&peer)))
            .collect();
        let mut on_lan = HashSet::new();
        for (id, counters) in self.traffic.all() {
            let row = rows.entry(*id.as_bytes()).or_insert_with(|| {
                peer_row(&PeerAddr {
                    id: *id.as_bytes(),
                    ip: Vec::new(),
                    relay: Vec::new(),
                })
            });
            if counters.is_on_lan() {
                on_lan.insert(id);
            }
            (row.received, row.sent) = (counters.received(), counters.sent());
            (row.rate_sent, row.rate_received) = counters.rates();
            row.dropped = counters.dropped();
        }
        for (id, session) in self.sessions.lock().await.iter() {
            if let Some(row) = rows.get_mut(id.as_bytes()) {
                row.connected = !session.is_closed();
            }
        }
        for row in rows.values_mut() {
            if let Ok(id) = row.node.parse::<EndpointId>() {
                row.path = if on_lan.contains(&id) {
                    Some("lan".to_owned())
                } else {
                    self.path_kind(id).await
                };
                row.connected |= row.path.is_some();
            }
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by(|a, b| {
            b.connected
                .cmp(&a.connected)
                .then_with(|| a.node.cmp(&b.node))
        });
        rows
    }

    /// `direct` or `relayed`, when there is an open path.
    async fn path_kind(&self, id: EndpointId) -> Option<String> {
        let info = self.net.endpoint().remote_info(id).await?;
        let mut kind = None;
        for address in info.addrs() {
            if matches!(address.usage(), iroh::endpoint::TransportAddrUsage::Active) {
                if address.addr().is_ip() {
                    return Some("direct".to_owned());
                }
                kind = Some("relayed".to_owned());
            }
        }
        kind
    }

    /// Says goodbye to every peer.
    pub(crate) async fn shutdown(&self) {
        self.sessions.lock().await.clear();
        drop(self.lan.lock().await.take());
        if let Some(doors) = self.doors.lock().await.take()
            && tokio::time::timeout(GOODBYE_TIME, doors.close())
                .await
                .is_err()
        {
            // Whoever does not answer, such as a peer that was named and is gone, is not waited for.
            tracing::debug!("the endpoint did not close in time");
        }
    }
}

/// A peer of a ticket as the network takes it.
pub(crate) fn from_ticket(peer: &lode_store::ticket::PeerAddr) -> PeerAddr {
    PeerAddr {
        id: peer.id,
        ip: peer.ip.iter().map(ToString::to_string).collect(),
        relay: peer.relay.clone(),
    }
}

pub(crate) fn peer_row(peer: &PeerAddr) -> PeerRow {
    PeerRow {
        node: data_encoding::HEXLOWER.encode(&peer.id),
        addresses: peer.ip.iter().chain(&peer.relay).cloned().collect(),
        connected: false,
        path: None,
        received: 0,
        sent: 0,
        rate_received: 0,
        rate_sent: 0,
        dropped: None,
    }
}

/// Listens for the LAN path where the endpoint listens; without it bytes go over QUIC as ever.
async fn open_lan(net: &Net, provider: Provider) -> Option<LanDoor> {
    let mut addresses: Vec<_> = net.endpoint().bound_sockets();
    addresses.sort_unstable();
    let addresses = addresses.iter().map(SocketAddr::ip);
    match LanDoor::open(addresses, provider).await {
        Ok(door) => Some(door),
        Err(error) => {
            tracing::warn!(%error, "no TCP port to listen on: no LAN path");
            None
        }
    }
}

fn relays(options: &NetworkOptions) -> Result<Relays, Failure> {
    if options.offline {
        return Ok(Relays::Offline);
    }
    if options.relays.is_empty() {
        return Ok(Relays::Default);
    }
    let urls: Result<Vec<RelayUrl>, Failure> = options
        .relays
        .iter()
        .map(|text| {
            text.parse().map_err(|error| {
                Failure::usage(format!("{text:?} is no relay URL: {error}"))
                    .advise("give one like https://relay.example.org")
            })
        })
        .collect();
    Ok(Relays::Custom(urls?))
}

fn read_port(path: &Path) -> u16 {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Notes the port for the next start. Losing it costs a new port, no more.
fn write_port(path: &PathBuf, port: u16) {
    if read_port(path) != port
        && let Err(error) = std::fs::write(path, format!("{port}\n"))
    {
        tracing::warn!(%error, path = %path.display(), "the UDP port could not be noted");
    }
}
