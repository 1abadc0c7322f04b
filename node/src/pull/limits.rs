//! Bounds of the peers of a pull.

use std::time::Duration;

/// Peers of the address book that are asked when no ticket names any.
pub(super) const PEERS_ASKED_MAX: usize = 64;

/// How long the first node of the local network is waited for.
pub(super) const NEIGHBOURS_TIME: Duration = Duration::from_secs(5);

/// Peers that others named and that one pull dials.
pub(super) const NAMED_MAX: usize = 64;

/// Of these, those that one peer named: what it makes up leaves room for what others know.
pub(super) const NAMED_PER_PEER_MAX: usize = 32;

/// Named peers that one pull dials at a time.
pub(super) const DIALS_AT_A_TIME: usize = 16;

/// How long a named peer may take to answer.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
