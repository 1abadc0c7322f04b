//! Every bound of what peers may send or ask, with its unit.

use std::time::Duration;

/// Bytes of a chunk group: what is verified at a time.
pub const GROUP_BYTES: u64 = 16 << 10;

/// Bytes of a leaf of a BLAKE3 tree: the finest granularity of a request.
pub const LEAF_BYTES: u64 = 1 << 10;

/// Bytes of a piece: the unit in which verified bytes reach a sink.
pub const PIECE_BYTES: u64 = 1 << 20;

/// Bytes of the body of one frame of `/lode/1`: 64 KiB.
pub const FRAME_BYTES_MAX: usize = 64 << 10;

/// Frames of one answer on a query stream, so that an answer stays under 64 MiB.
pub const ANSWER_FRAMES_MAX: usize = 1024;

/// Records in one answer to a refs query.
pub const ANSWER_RECORDS_MAX: usize = 100_000;

/// Bytes of one record in such an answer: 1 MiB.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Queries of one peer that are worked on at a time; more wait in the transport.
pub const QUERIES_PER_PEER_MAX: usize = 16;

/// Blob requests of one connection that are worked on at a time; more wait in the transport.
pub const REQUESTS_PER_CONNECTION_MAX: usize = 64;

/// Blob requests of all peers that are read, wait or are worked on.
pub const REQUESTS_MAX: usize = 1024;

/// Blob requests of all peers that are answered at a time, however fast the upload is.
pub const UPLOADS_MAX: usize = 256;

/// Blob requests that are answered at a time, however slow the upload is.
pub const UPLOADS_MIN: usize = 2;

/// Blob requests that are answered at a time before it is known how fast the upload is.
pub const UPLOADS_AT_FIRST: usize = 8;

/// Bytes a second that each request should get: a slow upload answers fewer requests at a time, so that
/// pieces get done.
pub const UPLOAD_BYTES_PER_SECOND: u64 = 2 << 20;

/// After so long in the queue, a peer is told that it waits.
pub const CHOKE_AFTER: Duration = Duration::from_secs(1);

/// Observers that one connection may hold open.
pub const OBSERVERS_PER_CONNECTION_MAX: usize = 16;

/// Connections that peers hold to this node, per protocol.
pub const CONNECTIONS_MAX: usize = 1024;

/// Capabilities that one peer may show on a connection.
pub const CAPABILITIES_PER_PEER_MAX: usize = 64;

/// Bytes of one capability (a signed record).
pub const CAPABILITY_BYTES_MAX: usize = 16 << 10;

/// Peers named in one frame.
pub const PEERS_PER_FRAME_MAX: usize = 64;

/// Files of a model of another hub that one query asks about.
pub const ORIGIN_FILES_PER_FRAME_MAX: usize = 256;

/// Addresses of one peer that are believed.
pub const ADDRESSES_PER_PEER_MAX: usize = 16;

/// Bytes of one address or relay URL.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Bytes of the text of an error that a peer reports.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Features that a hello may name, and bytes of each.
pub const FEATURES_MAX: usize = 64;

/// Chunks whose pieces one frame may name.
pub const PIECES_PER_FRAME_MAX: usize = 8192;

/// Versions that one connection may watch.
pub const WATCHES_PER_CONNECTION_MAX: usize = 64;

/// Chunks whose changes wait for a watcher that does not read; beyond them the watch ends.
pub const WATCH_PENDING_MAX: usize = 1 << 20;

/// Nodes of the local network that are remembered.
pub const NEIGHBOURS_MAX: usize = 256;

/// Peers of one version that a node remembers, to name them to others.
pub const MET_PER_VERSION_MAX: usize = 64;

/// Versions of which a node remembers peers.
pub const MET_VERSIONS_MAX: usize = 1024;

/// How long a peer of a version is named after it was last seen.
pub const MET_TIME: Duration = Duration::from_secs(3600);

/// Chunks that one have-map may speak of: 64 Mi, at 1 bit each 8 MiB.
pub const HELD_CHUNKS_MAX: u64 = 64 << 20;

/// Bytes that are prepared at once for a stream from bytes that are mapped.
pub const BATCH_MAPPED_BYTES: usize = 1 << 20;

/// Bytes that are prepared at once for a stream from bytes that are read and hashed.
pub const BATCH_READ_BYTES: usize = 256 << 10;

/// Bytes of payload that one request asks for: 32 MiB.
pub const REQUEST_PAYLOAD_BYTES_MAX: u64 = 32 << 20;

/// Bytes of the smallest share of a request when work runs out.
pub const REQUEST_PAYLOAD_BYTES_MIN: u64 = 1 << 20;

/// Peers of one fetch; more are not taken in.
pub const SWARM_PEERS_MAX: usize = 64;

/// Bytes a second under which a peer is dropped, as long as there are others: 4 KiB.
pub const SLOW_BYTES_PER_SECOND: u64 = 4 << 10;

/// Bytes a second of a peer for each of its connections, above which it gets another one: a connection is
/// encrypted by one thread at a time, which does 300 to 500 MB/s.
pub const FAST_BYTES_PER_SECOND: u64 = 200_000_000;

/// Connections for bytes to one peer.
pub const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// Bytes of the first request to a peer, before its speed is known.
pub const REQUEST_FIRST_BYTES: u64 = 2 << 20;

/// Runs of leaves in one request, so that its encoding stays far under the protocol's 1 MiB.
pub const REQUEST_RUNS_MAX: usize = 16_384;

/// Bytes of one blob request: that of the protocol.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Bytes above which a request counts as large.
pub const REQUEST_SMALL_BYTES: usize = 64 << 10;

/// Large requests that are read or answered at a time.
pub const LARGE_REQUESTS_MAX: usize = 16;

/// Blobs that one request names by hash.
pub const REQUEST_BLOBS_MAX: usize = 32_768;

/// Ends of ranges in one request.
pub const REQUEST_BOUNDARIES_MAX: usize = 65_536;

/// Bytes of a download that are between the network and the sink at a time: 64 MiB.
pub const DOWNLOAD_BUFFER_BYTES_MAX: usize = 64 << 20;

/// Bytes of the largest document that is fetched whole into memory: 64 MiB.
pub const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// Documents that one request asks for.
pub const DOCUMENTS_PER_REQUEST_MAX: usize = 1024;

/// Time in which a peer must have sent its request after it opened a stream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Time in which a peer must take a batch that was sent to it.
pub const TAKE_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes that a stream may be ahead of its reader. Larger windows end connections in noq 1.4, which
/// takes at most 1024 gaps a stream: a gap is a packet that was lost beside one that came, each of 1200 bytes
/// before a larger size is found, headers among them.
pub const STREAM_WINDOW_BYTES: u32 = 2_300_000;

/// Bytes that a connection keeps until the other side has confirmed them.
pub const SEND_WINDOW_BYTES: u64 = 24 << 20;

/// Streams that a peer may have open on one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// Bytes on the wire that are read and verified at once: a piece with the pairs above it.
pub const PLAN_BYTES: usize = (1 << 20) + (16 << 10);

/// The same where they go to memory, and are verified on a thread that serves others too: four groups.
pub const PLAN_QUICK_BYTES: usize = 64 << 10;

/// Tokens that one query for the LAN path asks for, and that one offer gives.
pub const LAN_TOKENS_PER_OFFER_MAX: usize = 16;

/// Tokens of one peer that wait to be presented.
pub const LAN_TOKENS_PER_PEER_MAX: usize = 64;

/// Tokens of all peers that wait to be presented.
pub const LAN_TOKENS_MAX: usize = 4096;

/// Time in which a token must be presented.
pub const LAN_TOKEN_LIFETIME: Duration = Duration::from_secs(30);

/// Time in which a TCP connection must have presented its token, however slowly it sends.
pub const LAN_GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// TCP connections that have not presented a token yet; more are closed.
pub const LAN_GREETINGS_MAX: usize = 64;

/// TCP connections of all peers.
pub const LAN_CONNECTIONS_MAX: usize = 256;

/// TCP connections of one peer.
pub const LAN_CONNECTIONS_PER_PEER_MAX: usize = 16;

/// Connections of one address that have not presented a good token, within [`LAN_FAILURES_WINDOW`]; more
/// are closed unread.
pub const LAN_FAILURES_MAX: u32 = 32;

/// Time over which failures are counted.
pub const LAN_FAILURES_WINDOW: Duration = Duration::from_secs(10);

/// Addresses whose failures are counted at a time; with more, strangers are turned away.
pub const LAN_ADDRESSES_MAX: usize = 1024;

/// Time for which a TCP connection may wait for its next request.
pub const LAN_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after which the asking side no longer uses a connection that lay idle.
pub const LAN_FRESH_TIMEOUT: Duration = Duration::from_secs(20);

/// Time in which a TCP connection must be made and its token be accepted; else the fetch takes QUIC.
pub const LAN_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of one record of an answer over TCP: a batch, whose last item may go over its limit.
pub const LAN_RECORD_BYTES_MAX: usize = 2 << 20;
