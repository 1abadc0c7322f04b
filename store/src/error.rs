//! What kind of thing went wrong: the one scale on which every error of this crate has a place.
//!
//! Exit codes, HTTP status and whether to try again follow from the kind, in one place of the node.

/// Kinds of error. Each error enum of this crate answers one from its `kind()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The machine failed: a disk, a file, a permission of the operating system.
    Io,
    /// Bytes that are stored or were received are not what they must be.
    Corrupt,
    /// There is no such thing here, or not yet.
    NotFound,
    /// A rule or a missing right forbids it.
    Refused,
    /// A peer misbehaved or is out of reach.
    Remote,
    /// The request itself makes no sense.
    Usage,
}
