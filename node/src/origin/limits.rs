//! Bounds of what is taken from another hub, each with its unit.

use std::time::Duration;

/// Redirections that one request follows.
pub const REDIRECTS_MAX: usize = 5;

/// Bytes of the description of a repository: 16 MiB, for it may list every file.
pub const INFO_BYTES_MAX: usize = 16 << 20;

/// Bytes of one page of a list of files, or of commits: 16 MiB.
pub const PAGE_BYTES_MAX: usize = 16 << 20;

/// Pages of the list of files of one commit.
pub const PAGES_MAX: usize = 1000;

/// Bytes of a token for another hub.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Bytes of an address, also of one that an answer names.
pub const URL_BYTES_MAX: usize = 8192;

/// Bytes of the name of a branch or tag of another hub.
pub const REV_BYTES_MAX: usize = 256;

/// Times that one request is tried: after a cut connection, or when the hub asks to come back.
pub const TRIES_MAX: u32 = 6;

/// Times in a row that a transfer of a file may end without a new byte.
pub const BARREN_TRIES_MAX: u32 = 6;

/// The first pause before a request is tried again; it doubles.
pub const PAUSE: Duration = Duration::from_millis(250);

/// The longest pause that a hub may ask for (`Retry-After`) and get.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// Time to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without a byte after which a connection counts as cut.
pub const STALL: Duration = Duration::from_secs(30);

/// Files that one node fetches from another hub at a time.
pub const FILES_AT_A_TIME: usize = 4;

/// Commits whose lists of files are remembered.
pub const COMMITS_MAX: usize = 32;

/// How long it is remembered which commit a branch is at.
pub const REF_AGE_MAX: Duration = Duration::from_secs(15);

/// Files of which it is remembered that peers had wrong bytes.
pub const DISTRUSTED_MAX: usize = 1024;

/// Branches that are remembered.
pub const REFS_MAX: usize = 1024;

/// Bytes at the end of a file that no reader gets before the file's hash holds: 64 KiB.
pub const HELD_BACK_BYTES: u64 = 64 << 10;

/// Bytes that a read may lie ahead of what has come, and still wait for it: 16 MiB. What lies farther is
/// asked for by itself.
pub const AHEAD_BYTES_MAX: u64 = 16 << 20;

/// Bytes of one range that passes through to a reader: 4 MiB.
pub const PASS_BYTES_MAX: u64 = 4 << 20;

/// Files of which one query to a peer asks.
pub const FILES_PER_QUERY_MAX: usize = lode_store::sync::limits::ORIGIN_FILES_PER_FRAME_MAX;

/// Peers that are asked for the files of a commit.
pub const PEERS_ASKED_MAX: usize = 32;

/// Time between two looks at what peers have.
pub const POLL: Duration = Duration::from_millis(300);

/// How long a peer that asked for a file counts as one that wants it.
pub const INTEREST: Duration = Duration::from_secs(4);

/// How long another node's fetch of a file is waited for while it brings nothing new.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a file that are asked of the hub for a reader who waits while another node fetches the file: 64 KiB.
pub const DRIP_BYTES: u64 = 64 << 10;

/// How often such a reader gets some of them.
pub const DRIP_EVERY: Duration = Duration::from_secs(3);

/// How many bytes.
pub const DRIP_STEP_BYTES: u64 = 1 << 10;

/// Age after which what was left of a fetch is deleted at start: seven days.
pub const LEFT_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
