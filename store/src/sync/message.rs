//! What peers say on `/lode/1`, as values; [`frame`](super::frame) makes bytes of them.
//!
//! Bodies are DAG-CBOR maps. Keys that are not known are skipped, so that later versions may add some.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr, endpoint::Connection};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{PublisherId, VersionId};

use super::{
    lan::wire::TOKEN_BYTES,
    limits::{
        ADDRESS_BYTES_MAX, ADDRESSES_PER_PEER_MAX, CAPABILITIES_PER_PEER_MAX, CAPABILITY_BYTES_MAX,
        FEATURES_MAX, LAN_TOKENS_PER_OFFER_MAX, MESSAGE_BYTES_MAX, ORIGIN_FILES_PER_FRAME_MAX,
        PEERS_PER_FRAME_MAX,
    },
};

/// The version of the protocol that this code speaks.
pub const PROTOCOL: u64 = 1;

/// The feature of a node that answers [`OriginQuery`].
pub const ORIGIN_FEATURE: &str = "origin/1";

/// The first thing that either side says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the protocol: 1.
    #[serde(rename = "lode")]
    pub protocol: u64,
    /// The program and its version, for people.
    pub agent: String,
    /// What else the sender understands.
    pub features: Vec<String>,
    /// What it takes at a time.
    pub limits: Limits,
    /// Capabilities that it shows: signed records.
    #[serde(rename = "caps")]
    pub capabilities: Vec<ByteBuf>,
}

/// What a peer takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Queries in flight.
    pub queries: u64,
    /// Blob requests in flight on one connection.
    pub requests: u64,
}

/// Capabilities shown later on, and the answer that they are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Signed records.
    #[serde(rename = "caps")]
    pub capabilities: Vec<ByteBuf>,
}

/// Asks for the records of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefsQuery {
    /// Whose model.
    pub publisher: PublisherId,
    /// Its name.
    pub model: String,
}

/// Asks which chunks of a version are held, or who else holds some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionQuery {
    /// The version.
    pub version: VersionId,
}

/// Asks for the LAN path to a public version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanQuery {
    /// The version.
    pub version: VersionId,
    /// For how many TCP connections.
    pub connections: u64,
}

/// Asks how far a node is with files of a model of another hub, and says that the asker wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginQuery {
    /// What stands for the publisher of the model.
    pub publisher: PublisherId,
    /// Its name.
    pub model: String,
    /// What the files hash to: SHA-256 (32 bytes) or git SHA-1 (20 bytes).
    pub files: Vec<ByteBuf>,
}

/// How far a node is with the files of an [`OriginQuery`], in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginFiles {
    /// Each of them.
    pub files: Vec<OriginFile>,
}

/// How far a node is with one file of a model of another hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginFile {
    /// A version of the node that holds it: then all of it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// Whether the node wants it.
    pub wanted: bool,
    /// How many bytes it has, if it is the one that fetches it from the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetching: Option<u64>,
}

/// Offers the LAN path: a TCP port at the address that this connection comes from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanOffer {
    /// The port.
    pub port: u16,
    /// For how many milliseconds from now the tokens may be presented.
    pub valid: u64,
    /// What to present, a token a connection.
    pub tokens: Vec<ByteBuf>,
}

impl fmt::Debug for LanOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanOffer")
            .field("port", &self.port)
            .field("valid", &self.valid)
            .field("tokens", &self.tokens.len())
            .finish()
    }
}

/// Signed records of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Their bytes.
    pub records: Vec<ByteBuf>,
    /// Whether the last of them goes on with the first of the next frame of this type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Part of a have-map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Chunks of the version.
    pub count: u64,
    /// The first chunk that `bits` speaks of, a multiple of 8.
    pub start: u64,
    /// A bit a chunk, lowest first; absent when every chunk of the version is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<ByteBuf>,
}

/// Pieces of chunks of the watched version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// Entries of 6 bytes: the chunk's number in the version (u32) and a bit for each of its pieces (u16),
    /// little-endian.
    pub pieces: ByteBuf,
}

/// Bytes of an entry of [`Pieces`].
const PIECES_ENTRY_BYTES: usize = 6;

/// The pieces of one chunk: its number in the version, and a bit for each piece.
pub type ChunkPieces = (u32, u16);

impl Pieces {
    /// Frames that name all of `list`.
    pub fn frames(list: &[ChunkPieces]) -> impl Iterator<Item = Self> + '_ {
        let per_frame = super::limits::PIECES_PER_FRAME_MAX;
        list.chunks(per_frame).map(|list| {
            let entry = |(chunk, pieces): &ChunkPieces| {
                let mut entry = [0; PIECES_ENTRY_BYTES];
                entry[..4].copy_from_slice(&chunk.to_le_bytes());
                entry[4..].copy_from_slice(&pieces.to_le_bytes());
                entry
            };
            Self {
                pieces: ByteBuf::from(list.iter().flat_map(entry).collect::<Vec<u8>>()),
            }
        })
    }

    /// Its entries.
    pub fn entries(&self) -> impl Iterator<Item = ChunkPieces> + '_ {
        self.pieces.chunks_exact(PIECES_ENTRY_BYTES).map(|entry| {
            let chunk = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            (chunk, u16::from_le_bytes([entry[4], entry[5]]))
        })
    }
}

/// Says whether requests of the other side wait their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choke {
    /// Whether they do: until it is false again, none should be made, and none is late.
    pub choked: bool,
}

/// Names other peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// The version of which they hold chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// Them.
    pub peers: Vec<PeerAddr>,
}

/// Asks to come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// In how many milliseconds.
    pub retry_after: u64,
}

/// Says that a query failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, for programs.
    pub code: u64,
    /// Why, for people.
    pub message: String,
}

/// The codes of a [`Refusal`].
pub mod code {
    /// Absent, or private.
    pub const NOT_FOUND: u64 = 1;
    /// The query cannot be read.
    pub const BAD_REQUEST: u64 = 2;
    /// The peer speaks no version of the protocol that the other side speaks.
    pub const PROTOCOL: u64 = 3;
    /// A fault of the peer's own.
    pub const INTERNAL: u64 = 4;
}

/// Where a peer can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddr {
    /// Its node key.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 32],
    /// Addresses, `1.2.3.4:5` or `[::1]:5`.
    pub ip: Vec<String>,
    /// Relay URLs.
    pub relay: Vec<String>,
}

impl PeerAddr {
    /// What an endpoint knows of itself or of another.
    pub fn of(addr: &EndpointAddr) -> Self {
        Self {
            id: *addr.id.as_bytes(),
            ip: addr
                .ip_addrs()
                .map(ToString::to_string)
                .take(ADDRESSES_PER_PEER_MAX)
                .collect(),
            relay: addr
                .relay_urls()
                .map(ToString::to_string)
                .take(ADDRESSES_PER_PEER_MAX)
                .collect(),
        }
    }

    /// A peer where it is connected from at this moment.
    pub fn of_connection(connection: &Connection) -> Self {
        let (mut ip, mut relay) = (Vec::new(), Vec::new());
        for path in connection.paths().iter().take(ADDRESSES_PER_PEER_MAX) {
            match path.remote_addr() {
                TransportAddr::Ip(address) => ip.push(address.to_string()),
                TransportAddr::Relay(url) => relay.push(url.to_string()),
                _ => {}
            }
        }
        Self {
            id: *connection.remote_id().as_bytes(),
            ip,
            relay,
        }
    }

    /// The same peer without addresses that nobody can be at, without loopback ones and without relays that are
    /// not public; these stay if `loopback`: who names it is on this machine, too.
    #[must_use]
    pub fn plausible(mut self, loopback: bool) -> Self {
        let plausible = |at: &SocketAddr| {
            // An IPv4 address may come as an IPv6 one.
            let ip = at.ip().to_canonical();
            at.port() != 0 && is_somewhere(&ip) && (loopback || !ip.is_loopback())
        };
        self.ip
            .retain(|ip| ip.parse::<SocketAddr>().is_ok_and(|ip| plausible(&ip)));
        self.relay
            .retain(|url| url.parse().is_ok_and(|url| loopback || is_public(&url)));
        self
    }

    /// Whether it says any address.
    pub fn is_reachable(&self) -> bool {
        !self.ip.is_empty() || !self.relay.is_empty()
    }

    /// The address as iroh takes it: parts that cannot be read are left out; none when the key is no key.
    pub fn to_endpoint_addr(&self) -> Option<EndpointAddr> {
        let id = EndpointId::from_bytes(&self.id).ok()?;
        let ip = self
            .ip
            .iter()
            .filter_map(|ip| ip.parse::<SocketAddr>().ok())
            .map(TransportAddr::Ip);
        let relay = self
            .relay
            .iter()
            .filter_map(|url| url.parse::<RelayUrl>().ok());
        let addrs = ip
            .chain(relay.map(TransportAddr::Relay))
            .take(2 * ADDRESSES_PER_PEER_MAX);
        Some(EndpointAddr::from_parts(id, addrs))
    }

    fn is_bounded(&self) -> bool {
        let bounded = |list: &[String]| {
            list.len() <= ADDRESSES_PER_PEER_MAX
                && list.iter().all(|text| text.len() <= ADDRESS_BYTES_MAX)
        };
        bounded(&self.ip) && bounded(&self.relay)
    }
}

fn is_somewhere(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_multicast()
}

/// Whether a relay can be one for everybody: a name or a public address, over TLS. Others would make us ask for
/// something in our own network on behalf of a stranger.
fn is_public(relay: &RelayUrl) -> bool {
    let Some(host) = relay.host_str().filter(|_| relay.scheme() == "https") else {
        return false;
    };
    let host = host.trim_end_matches('.');
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            is_somewhere(&ip.into()) && !ip.is_private() && !ip.is_loopback() && !ip.is_link_local()
        }
        Ok(IpAddr::V6(ip)) => {
            is_somewhere(&ip.into())
                && !ip.is_loopback()
                && !ip.is_unique_local()
                && !ip.is_unicast_link_local()
        }
        // A name without a dot is one of the local network.
        Err(_) => host.contains('.') && !host.ends_with(".localhost") && !host.ends_with(".local"),
    }
}

/// Everything that travels on `/lode/1`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// First on the control stream, both ways.
    Hello(Hello),
    /// Shows more capabilities, on the control stream.
    Show(Capabilities),
    /// Says that the capabilities shown are in force.
    Shown,
    /// Names peers: a hint on the control stream, an answer on a query stream.
    Peers(Peers),
    /// A query for a model's records.
    Refs(RefsQuery),
    /// A query for a version's have-map.
    Have(VersionQuery),
    /// A query for other peers of a version.
    WhoHas(VersionQuery),
    /// A query for a version's have-map and all that changes in it, until the stream ends.
    Watch(VersionQuery),
    /// A query for the LAN path.
    Lan(LanQuery),
    /// A query for files of a model of another hub.
    Origin(OriginQuery),
    /// Part of an answer: how far the node is with such files.
    OriginFiles(OriginFiles),
    /// Part of an answer: identity records.
    Identities(Records),
    /// Part of an answer: ref records.
    RefRecords(Records),
    /// Part of an answer: version signatures.
    Signatures(Records),
    /// Part of an answer: a have-map.
    Held(Held),
    /// Part of an answer: pieces that are held of chunks that are being received.
    Gained(Pieces),
    /// Part of an answer: pieces that were sent to another peer.
    Given(Pieces),
    /// Part of an answer: whether requests wait.
    Choke(Choke),
    /// Part of an answer: the LAN path.
    LanOffer(LanOffer),
    /// The answer is complete; of a watch, what was held at its beginning.
    End,
    /// Come back later.
    Busy(Busy),
    /// The query failed.
    Refused(Refusal),
}

impl Message {
    /// Whether every list and text in it is within its bound.
    pub(super) fn is_bounded(&self) -> bool {
        let capabilities = |list: &[ByteBuf]| {
            list.len() <= CAPABILITIES_PER_PEER_MAX
                && list.iter().all(|bytes| bytes.len() <= CAPABILITY_BYTES_MAX)
        };
        match self {
            Self::Hello(hello) => {
                hello.agent.len() <= MESSAGE_BYTES_MAX
                    && hello.features.len() <= FEATURES_MAX
                    && hello
                        .features
                        .iter()
                        .all(|text| text.len() <= MESSAGE_BYTES_MAX)
                    && capabilities(&hello.capabilities)
            }
            Self::Show(shown) => capabilities(&shown.capabilities),
            Self::Peers(peers) => {
                peers.peers.len() <= PEERS_PER_FRAME_MAX
                    && peers.peers.iter().all(PeerAddr::is_bounded)
            }
            Self::Refs(query) => query.model.len() <= MESSAGE_BYTES_MAX,
            Self::Origin(query) => {
                query.model.len() <= MESSAGE_BYTES_MAX
                    && query.files.len() <= ORIGIN_FILES_PER_FRAME_MAX
                    && query.files.iter().all(|file| matches!(file.len(), 20 | 32))
            }
            Self::OriginFiles(answer) => answer.files.len() <= ORIGIN_FILES_PER_FRAME_MAX,
            Self::Held(held) => {
                let bits = held.bits.as_ref().map_or(0, |bits| bits.len() as u64 * 8);
                held.count <= super::limits::HELD_CHUNKS_MAX
                    && held.start.is_multiple_of(8)
                    && held.start <= held.count
                    && bits <= (held.count - held.start).next_multiple_of(8)
            }
            Self::Gained(pieces) | Self::Given(pieces) => {
                let bytes = pieces.pieces.len();
                bytes.is_multiple_of(PIECES_ENTRY_BYTES)
                    && bytes / PIECES_ENTRY_BYTES <= super::limits::PIECES_PER_FRAME_MAX
            }
            Self::LanOffer(offer) => {
                offer.tokens.len() <= LAN_TOKENS_PER_OFFER_MAX
                    && offer.tokens.iter().all(|token| token.len() == TOKEN_BYTES)
            }
            Self::Refused(refusal) => refusal.message.len() <= MESSAGE_BYTES_MAX,
            _ => true,
        }
    }
}

/// Bytes of records, shared.
pub(super) fn to_bytes(list: Vec<ByteBuf>) -> impl Iterator<Item = Bytes> {
    list.into_iter().map(|bytes| Bytes::from(bytes.into_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_believed_to_be_only_where_one_can_be() {
        let named = |ip: &[&str]| PeerAddr {
            id: [1; 32],
            ip: ip.iter().map(ToString::to_string).collect(),
            relay: Vec::new(),
        };
        let odd = named(&[
            "0.0.0.0:5",
            "[::]:5",
            "10.0.0.1:0",
            "224.0.0.1:5",
            "[ff02::1]:5",
            "255.255.255.255:5",
            "[::ffff:0.0.0.0]:5",
            "nonsense",
        ]);
        assert!(!odd.plausible(true).is_reachable());
        let good = named(&["10.0.0.1:5", "127.0.0.1:5", "[::1]:6"]);
        assert_eq!(good.clone().plausible(false).ip, ["10.0.0.1:5"]);
        assert_eq!(good.plausible(true).ip.len(), 3);
        let mapped = named(&["[::ffff:127.0.0.1]:5"]);
        assert!(!mapped.clone().plausible(false).is_reachable());
        assert!(mapped.plausible(true).is_reachable());
    }

    #[test]
    fn a_stranger_cannot_name_a_relay_in_our_own_network() {
        let by = |relay: &str| PeerAddr {
            id: [1; 32],
            ip: Vec::new(),
            relay: vec![relay.to_owned()],
        };
        for relay in [
            "http://relay.example.org",
            "https://localhost",
            "https://a.localhost",
            "https://router",
            "https://printer.local.",
            "https://127.0.0.1",
            "https://192.168.1.1:8443",
            "https://169.254.169.254",
            "https://[::1]",
            "https://[fd00::1]",
            "https://[fe80::1]",
            "https://[::ffff:10.0.0.1]",
            "https://0.0.0.0",
            "nonsense",
        ] {
            assert!(!by(relay).plausible(false).is_reachable(), "{relay}");
        }
        for relay in [
            "https://relay.example.org.",
            "https://192.0.2.1",
            "https://[2001:db8::1]",
        ] {
            assert!(by(relay).plausible(false).is_reachable(), "{relay}");
        }
        assert!(by("http://127.0.0.1:3340").plausible(true).is_reachable());
    }
}
