//! Bounds on collections of a home.

/// Most collections of a home.
pub const COLLECTIONS_MAX: usize = 100_000;

/// Collections that stay open while nobody uses them. Those in use are not counted out: more may be open.
pub const OPEN_MAX: usize = 512;

/// Seconds after which a collection that nobody uses is closed.
pub const IDLE_SECONDS: u64 = 600;

/// Bytes of vectors and payloads that open collections together keep in memory: past it the largest are frozen.
pub const LIVE_BYTES_MAX: u64 = 512 << 20;

/// Memory of one merge of segments: 512 MiB. It says how large the segments are that merges make.
pub const MERGE_BYTES_MAX: u64 = 512 << 20;

/// Bytes of what is kept about a collection beside its data.
pub const ABOUT_BYTES_MAX: u64 = 4096;

/// Snapshots of a collection: each keeps segments that it has given up since.
pub const SNAPSHOTS_MAX: usize = 32;

/// Aliases of all collections.
pub const ALIASES_MAX: usize = 10_000;

/// Bytes of the file of aliases: 4 MiB.
pub const ALIASES_BYTES_MAX: u64 = 4 << 20;

/// Points of one answer to the command line: an answer is a line of JSON.
pub const POINTS_READ_MAX: usize = 10_000;
