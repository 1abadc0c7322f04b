//! Models of another hub: looked up there by commit, checked against its hashes, kept as *origin versions*.
//!
//! Invariant: a file is stored, shared and named by a version only once all of its bytes hash to what the hub
//! says. A version of an origin has no publisher, and its bytes follow from host, repository, commit and files
//! alone (docs/format/origin.md): whoever imports a commit gives it the same id.
//!
//! Such a model has coordinates like any other, a publisher id and a name. The id is derived from host and
//! organisation, no keys belong to it, and so nobody can sign refs under it.

mod address;
mod bring;
mod client;
mod document;
mod error;
pub mod limits;
pub mod listing;
mod origins;
mod peers;
mod pull;
mod read;
pub(crate) mod record;
mod spool;

pub use bring::Origin;
pub use client::Upstream;
pub use document::{Repository, classes, commit};
pub use error::OriginError;
pub use origins::Origins;
pub use read::OriginReader;
pub use spool::{Spool, Using};

pub(crate) use document::whose;
pub(crate) use origins::State;
pub(crate) use pull::{named, pull};
pub(crate) use spool::Stage;

/// The hub that is meant when none is named.
pub const DEFAULT_URL: &str = "https://huggingface.co";

/// How names of models of another hub begin: `hf:ORG/MODEL`.
pub const PREFIX: &str = "hf:";

/// What was done with other hubs since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Requests that were sent to hubs.
    pub requests: u64,
    /// Bytes that hubs sent.
    pub bytes: u64,
    /// Files that came from hubs or peers and whose hash held.
    pub files: u64,
    /// Files whose hash did not hold.
    pub wrong: u64,
    /// Bytes of such files that peers sent.
    pub from_peers: u64,
}
