//! Chunks on disk, manifests, identities, refs, collection of garbage, and their sync between peers.

pub mod cut;
pub mod document;
mod error;
mod hash;
pub mod identity;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod piece;
pub mod refs;
pub mod signature;
pub mod tree;
pub mod walk;

pub use hash::{ChunkHash, HashParseError, PublisherId, RecordId, TreeId, VersionId};

pub use error::ErrorKind;
pub use lode_tensors::ByteRange;
