//! Bounds on what a client can make the gateway do or hold.

use std::time::Duration;

/// Longest path with query that is looked at, in bytes.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Most segments of a path.
pub const SEGMENTS_MAX: usize = 128;

/// Most `key=value` pairs of a query.
pub const QUERY_PAIRS_MAX: usize = 32;

/// Most ranges in one `Range` header. More are refused as a whole, since each costs a read and a
/// part header whatever its length.
pub const RANGES_MAX: usize = 64;

/// Most entity tags in one `If-Match` or `If-None-Match` header.
pub const ETAGS_MAX: usize = 64;

/// Most bytes of a body that are read from the store at once. A response holds two such steps: the
/// one being sent and the one being read.
pub const STEP_BYTES: u64 = 512 * 1024;

/// The same while many bodies are on their way.
pub const SHORT_STEP_BYTES: u64 = 64 * 1024;

/// Most bytes of a body that are sent before other connections have their turn.
pub const TURN_BYTES: u64 = 1024 * 1024;

/// Memory for the steps of all bodies together.
pub const BODY_ROOM_BYTES: u64 = 128 * 1024 * 1024;

/// Longest time that a body waits for its part of that.
pub const PLACE_TIMEOUT: Duration = Duration::from_secs(20);

/// Most bytes of a body that are read, and checked, on a thread that answers other requests too; and only
/// when they are in memory.
pub const AT_HAND_BYTES_MAX: u64 = 64 * 1024;

/// Most addresses whose content is remembered; the keys are at most [`TARGET_BYTES_MAX`] long.
pub const CONTENTS_KEPT_MAX: usize = 512;

/// How long it is remembered if nothing in the home changes. That a version is in use is noted anew, then.
pub const CONTENTS_KEPT_AGE_MAX: Duration = Duration::from_secs(60);

/// Most bytes of a JSON list that are built before they are sent.
pub const JSON_STEP_BYTES: usize = 64 * 1024;

/// Most chunks in one answer of a file's chunk list; `next` continues.
pub const CHUNK_ROWS_MAX: usize = 10_000;

/// Longest command, in bytes of JSON.
pub const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// Most HTTP connections at a time; further ones wait in the kernel's queue. An idle one takes some 20 KiB.
pub const CONNECTIONS_MAX: usize = 8192;

/// Longest text that is looked at as a token, in bytes. Tokens have 39.
pub const CREDENTIAL_BYTES_MAX: usize = 256;

/// Requests a second by one token, unless the owner says otherwise.
pub const TOKEN_REQUESTS_PER_SECOND: u32 = 1000;

/// Requests a second from one address without a token, unless the owner says otherwise.
pub const ANONYMOUS_REQUESTS_PER_SECOND: u32 = 100;

/// Seconds of its rate that a token or an address may use at once, after it was quiet for as long.
pub const BURST_SECONDS: u64 = 10;

/// Requests without a token that one with something that is no token counts for.
pub const WRONG_TOKEN_COST: u64 = 10;

/// Buckets that addresses share, of 8 bytes each.
pub const ADDRESS_BUCKETS: usize = 64 * 1024;

/// Most HTTP connections at a time from one address of another machine.
pub const ADDRESS_CONNECTIONS_MAX: usize = 512;

/// Longest time that a client may take to begin TLS.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest file of certificates, or of a key, in bytes.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Most control connections at a time.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;

/// Bytes that a connection buffers of a request's head.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most headers of a request.
pub const HEADERS_MAX: usize = 100;

/// Longest time from the end of an answer, or from connecting, until the head of the next request is whole. So
/// it bounds how long a connection may be idle, too.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time that a client may take none of the bytes that wait for it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest time that open requests get to finish when the gateway stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What `Retry-After` says when bytes are not held now, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Longest text of a failure that a header repeats, in bytes.
pub const ERROR_HEADER_BYTES_MAX: usize = 256;

/// Most rows in one page of a list of the Hub's dialect. llama.cpp reads the first page of a tree alone.
pub const HUB_ROWS_MAX: usize = 10_000;

/// Most models in one page of the Hub's list, and most commits.
pub const HUB_PAGE_MAX: usize = 1000;

/// Most paths that one request asks about.
pub const HUB_PATHS_MAX: usize = 10_000;

/// Most bytes of such a request's body.
pub const HUB_PATHS_BYTES_MAX: usize = 1024 * 1024;

/// Most links of a version that are followed to list where they lead. Further ones are left out.
pub const HUB_LINKS_MAX: usize = 256;

/// How long figures about the store are served again before they are taken anew.
pub const STORE_FIGURES_AGE_MAX: Duration = Duration::from_secs(5);

/// Longest JSON body of a request that changes a model, in bytes.
pub const UPLOAD_JSON_BYTES_MAX: usize = 1024 * 1024;

/// Longest JSON body that lists files to be uploaded, in bytes.
pub const PREUPLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most files that one such list names.
pub const UPLOAD_FILES_MAX: usize = 2_000;

/// Longest line of a commit, in bytes: a file of 10 MiB in base64, with its path. Longer files are uploaded
/// ahead of it.
pub const COMMIT_LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Files longer than this are sent in parts of it, in bytes.
pub const LFS_PART_BYTES: u64 = 64 * 1024 * 1024;

/// Most parts of a file; parts of very long files are longer instead.
pub const LFS_PARTS_MAX: u64 = 10_000;

/// Most files of a shard.
pub const SHARD_FILES_MAX: usize = 100_000;

/// Most segments of all files of a shard; each takes 56 bytes of memory.
pub const SHARD_SEGMENTS_MAX: usize = 1_000_000;

/// Most bytes of a shard that are read beside its files.
pub const SHARD_REST_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// How long an address or token for uploads is good.
pub const GRANT_AGE_MAX: Duration = Duration::from_secs(6 * 3600);

/// Longest text of one, in characters.
pub const GRANT_BYTES_MAX: usize = 2 * 1024;

/// How long a token or address for reading by Xet is good. Clients ask for another one.
pub const XET_READ_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// Longest file that is read by Xet, in bytes: 256 GiB. Its outline takes some 16 MiB, 128 MiB at the most.
pub const XET_FILE_BYTES_MAX: u64 = 1 << 38;

/// Files whose outlines are made, or wait for it, or could not be made a moment ago.
pub const XET_MAKING_MAX: usize = 1024;

/// How long an outline that could not be made is not tried again.
pub const XET_MAKING_RETRY: Duration = Duration::from_secs(30);

/// Outlines in a home.
pub const XET_OUTLINES_MAX: usize = 100_000;

/// Memory for outlines that were read a moment ago, in bytes.
pub const XET_OUTLINES_BYTES_MAX: usize = 64 << 20;

/// How often is looked for outlines whose files left the home.
pub const XET_SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Pieces of a body that wait for the thread that reads it.
pub const BODY_FRAMES_WAITING: usize = 4;

/// Longest time that a client may send nothing of a body.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Most bytes of a body that are read and thrown away after it was refused.
pub const BODY_UNREAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most characters of a registry's tag, as OCI's specification says.
pub const OCI_TAG_CHARS_MAX: usize = 128;

/// Most tags in one page of a list.
pub const OCI_TAGS_MAX: usize = 1000;

/// Most branches and tags whose variants a list of tags names too.
pub const OCI_TAGS_REFS_MAX: usize = 64;

/// Most files of one manifest. Registries' clients take manifests of up to 4 MiB.
pub const OCI_LAYERS_MAX: usize = 4096;

/// Bytes of what is remembered of manifests: their own, and where the blobs that they name come from.
pub const OCI_KNOWN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most versions of a model that are looked through for a blob of which nothing is remembered.
pub const OCI_VERSIONS_SEARCHED_MAX: usize = 256;

/// Most versions whose manifests and variants are looked through for it.
pub const OCI_MANIFESTS_SEARCHED_MAX: usize = 16;

/// Variants that are made at once because clients of registries asked for them.
pub const OCI_MADE_AT_ONCE: usize = 1;

/// Most of them, with those that wait for their turn.
pub const OCI_MAKING_MAX: usize = 16;

/// How long a variant that could not be made is not tried again.
pub const OCI_MAKING_RETRY: Duration = Duration::from_secs(30);

/// Longest body of a request in Qdrant's dialect, in bytes: 32 MiB, as Qdrant has it.
pub const QDRANT_BODY_BYTES_MAX: usize = 32 << 20;

/// Most bytes of such a body that are read and thrown away after it was refused: 128 MiB.
pub const QDRANT_UNREAD_BYTES_MAX: usize = 128 << 20;

/// Memory for such bodies, and what they become, all together: 512 MiB.
pub const QDRANT_ROOM_BYTES: usize = 512 << 20;

/// Memory that the values of one such body may take when they are not points: 64 MiB.
pub const QDRANT_VALUE_BYTES_MAX: usize = 64 << 20;

/// Memory that the payload of one point may take while it is read: 64 MiB.
pub const QDRANT_PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Queries of one request in Qdrant's dialect, prefetches among them.
pub const QDRANT_QUERIES_MAX: usize = 256;

/// Prefetches inside one another.
pub const QDRANT_PREFETCH_DEPTH_MAX: usize = 8;

/// Changes of one batch in Qdrant's dialect.
pub const QDRANT_CHANGES_MAX: usize = 1024;

/// Examples of one recommendation.
pub const QDRANT_EXAMPLES_MAX: usize = 1024;

/// Candidates among which diverse ones are chosen: each is compared with each.
pub const QDRANT_MMR_CANDIDATES_MAX: usize = 4096;

/// Bytes of the points of one answer in Qdrant's dialect, with payloads and vectors: 64 MiB.
pub const QDRANT_ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long a client waits for the first bytes of a file of another hub before the head of the answer is sent: after it,
/// a failure can only cut the body.
pub const UPSTREAM_FIRST_WAIT: Duration = Duration::from_secs(4);

/// Bytes of what is asked of a collection in the native dialect, points aside: a vector of any length, and a filter. As much as a command has.
pub const COLLECTION_ASK_BYTES_MAX: usize = COMMAND_BYTES_MAX;
