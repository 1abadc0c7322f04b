//! Chunks on disk, manifests, identities, refs, collection of garbage, and their sync between peers.

mod hash;
pub mod piece;
pub mod walk;

pub use hash::{ChunkHash, HashParseError, PublisherId, RecordId, TreeId, VersionId};
