//! Bounds of what is fetched on demand: memory, peers, and how often they are asked.

use std::time::Duration;

/// Bytes of verified chunks that are kept in memory until they are in the store, or nobody asks again.
pub const CACHE_BYTES_MAX: usize = 64 << 20;

/// Bytes that all readers together have asked peers for and that are not here yet.
pub const FLIGHT_BYTES_MAX: u64 = 32 << 20;

/// Bytes of whole chunks that wait for the store. New fetches wait while there are more.
pub const KEEP_BYTES_MAX: u64 = 32 << 20;

/// Bytes that a reader asks for at once when it begins.
pub const AHEAD_BYTES_FIRST: u64 = 1 << 20;

/// Bytes that a reader asks for at once when it has read on for a while. The window doubles each time
/// half of it was read, and never reaches past what the client asked for.
pub const AHEAD_BYTES_MAX: u64 = 16 << 20;

/// Bytes above which one fetch uses several streams a peer.
pub const ONE_STREAM_BYTES_MAX: u64 = 1 << 20;

/// Peers that are asked for one version.
pub const PEERS_ASKED_MAX: usize = 16;

/// How long peers get to answer before those that did are worked with.
pub const MEET_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the others get once those that answered have everything that is wanted.
pub const MEET_GRACE: Duration = Duration::from_millis(150);

/// How long a peer that was not reached is left aside, unless nobody else is there.
pub const AWAY: Duration = Duration::from_secs(30);

/// How long a peer that sent wrong bytes of a version is not asked for it on demand.
pub const LIED: Duration = Duration::from_secs(600);

/// How old what peers said to hold may be before they are asked again.
pub const MAP_AGE_MAX: Duration = Duration::from_secs(10);

/// The same when it does not cover what is needed.
pub const MAP_AGE_MIN: Duration = Duration::from_secs(1);

/// Versions whose peers are remembered.
pub const VERSIONS_REMEMBERED_MAX: usize = 256;

/// A stream on which nothing comes for so long is given up.
pub const STALL: Duration = Duration::from_secs(6);

/// How long looking for a model, or a chunk by its hash, among peers may take.
pub const LOOK_TIMEOUT: Duration = Duration::from_secs(8);

/// How long it is remembered that no peer has something.
pub const ABSENT_AGE_MAX: Duration = Duration::from_secs(5);

/// Things of which is remembered that no peer has them.
pub const ABSENT_MAX: usize = 4096;

/// Searches among peers that run at a time.
pub const LOOKS_AT_A_TIME: usize = 4;

/// Searches among peers that begin in one second. More are told to come back.
pub const LOOKS_PER_SECOND_MAX: u32 = 16;

/// Headers of files of tensors that are fetched at a time.
pub const HEADERS_AT_A_TIME: usize = 8;

/// Times that one read is tried with peers that were met anew.
pub const TRIES_MAX: u32 = 2;

/// How long complete chunks are gathered before they go to the store.
pub const KEEP_LINGER: Duration = Duration::from_millis(100);
