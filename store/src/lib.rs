//! Chunks on disk, manifests, identities, refs, collection of garbage, and their sync between peers.

pub mod access;
pub mod capability;
pub mod container;
pub mod cut;
pub mod disk;
pub mod document;
pub mod download;
mod error;
pub mod gc;
mod hash;
pub mod hashing;
pub mod identity;
pub mod import;
pub mod index;
pub mod limits;
pub mod local;
pub mod log;
pub mod manifest;
pub mod name;
pub mod outboard;
pub mod piece;
pub mod quota;
pub mod refs;
pub mod root;
pub mod scrub;
pub mod sidecar;
pub mod signature;
pub mod store;
pub mod sync;
pub mod ticket;
pub mod tree;
pub mod walk;

pub use error::ErrorKind;
pub use hash::{ChunkHash, HashParseError, PublisherId, RecordId, TreeId, VersionId};
pub use lode_tensors::ByteRange;
pub use store::{ChunkReader, Store};
