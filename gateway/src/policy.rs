//! Who is let in over HTTP, and how much of it: what the owner decided when the node was started.

use crate::limits::{ANONYMOUS_REQUESTS_PER_SECOND, CONNECTIONS_MAX, TOKEN_REQUESTS_PER_SECOND};

/// What holds at every HTTP address of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whoever reaches an address that is not loopback acts as the owner until there is a token.
    pub insecure_open: bool,
    /// Public models are read without a token, once tokens rule.
    pub anonymous: bool,
    /// Further names that this machine is called by, in lower case and without a port.
    pub hosts: Vec<String>,
    /// Other sites whose pages may read.
    pub cors: Cors,
    /// Requests a second by one token, over time; none is without a limit.
    pub token_rate: Option<u32>,
    /// Requests a second from one address without a token, over time; none is without a limit.
    pub anonymous_rate: Option<u32>,
    /// Connections at a time; further ones wait.
    pub connections_max: usize,
    /// Large files are offered by Xet too.
    pub xet_reads: bool,
}

/// Other sites whose pages may read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cors {
    /// None.
    #[default]
    Nobody,
    /// Those of these origins: `https://example.org`.
    Origins(Vec<String>),
    /// All.
    Anyone,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            insecure_open: false,
            anonymous: true,
            hosts: Vec::new(),
            cors: Cors::Nobody,
            token_rate: Some(TOKEN_REQUESTS_PER_SECOND),
            anonymous_rate: Some(ANONYMOUS_REQUESTS_PER_SECOND),
            connections_max: CONNECTIONS_MAX,
            xet_reads: false,
        }
    }
}

impl Cors {
    /// Whether pages of `origin` may read.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Origins(origins) => origins.iter().any(|own| own == origin),
            Self::Anyone => true,
        }
    }
}
