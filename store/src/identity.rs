//! Publishers: who may sign for one, by a log of records that anyone can check from its first.
//!
//! A publisher's id is the BLAKE3 of the first record's body, so the id vouches for the first keys, and
//! each record vouches for the next: keys change to ones that were committed to beforehand, delegates
//! get operations on some models, and keys end with the last record of theirs that counts. Clocks order
//! nothing: the log is a chain of hashes.
//!
//! Invariant: which records are in force depends on the set of records alone, not on the order in
//! which they came (see [`IdentityLog`]). Bytes come from peers and from the record log.

mod chain;
mod check;
mod glob;
mod log;
mod make;
mod record;

pub use chain::{End, Standing};
pub use check::{AuthError, Claim, VersionSigner};
pub use glob::{check_glob, matches as glob_matches};
pub use log::{Applied, IdentityLog};
pub use make::{create, next_commitment};
pub use record::{Delegation, Ended, IdentityOp, IdentityRecord, KeySet, Operation};

use crate::document::DocumentError;
use crate::signature::KeyId;
use crate::{ErrorKind, PublisherId, RecordId};

/// Why an identity record is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The bytes are not a record of this kind.
    #[error("the identity record cannot be read: {0}")]
    Document(#[from] DocumentError),
    /// It does something that is not known.
    #[error("the identity record does {found:?}, which this Lode does not know: update Lode")]
    UnknownOp {
        /// What it does.
        found: String,
    },
    /// The first record is not one that creates an identity.
    #[error(
        "an identity log must start with the record that creates it: fetch it again from the start"
    )]
    NotACreation,
    /// The first record is another publisher's.
    #[error("the identity log is that of {found}, not of {expected}: fetch it from another peer")]
    WrongPublisher {
        /// Whose log it is.
        expected: PublisherId,
        /// Whose log was offered.
        found: PublisherId,
    },
    /// The record before it is not there.
    #[error(
        "the identity record {seq} follows {prev}, which is not here: fetch the log from the start"
    )]
    MissingPrevious {
        /// The record's sequence.
        seq: u64,
        /// The record that it follows.
        prev: RecordId,
    },
    /// Its sequence is not one more than that of the record before it.
    #[error("the identity record has sequence {found} where {expected} belongs")]
    WrongSequence {
        /// What belongs.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// Too few of the keys that may sign it did.
    #[error(
        "the identity record {seq} has {found} right signatures of keys that may sign it, {needed} are needed: forged, or signed by keys that are not this publisher's"
    )]
    NotSigned {
        /// The record's sequence.
        seq: u64,
        /// How many right ones there are.
        found: usize,
        /// How many are needed.
        needed: u64,
    },
    /// The new keys are not those that were committed to.
    #[error(
        "the identity record {seq} rotates to keys that were not committed to: forged, or made with another next key"
    )]
    WrongNextKeys {
        /// The record's sequence.
        seq: u64,
    },
    /// A key signs as a delegate that may not delegate.
    #[error(
        "the key {by} may not delegate for this publisher: let the publisher's own key sign it"
    )]
    NotADelegator {
        /// Who signs.
        by: KeyId,
    },
    /// A delegate gives more than it has.
    #[error(
        "the delegate {by} gives {what} that it does not have itself: let the publisher's own key sign it"
    )]
    Wider {
        /// Who delegates.
        by: KeyId,
        /// What is wider.
        what: &'static str,
    },
    /// A key that has, or had, a part in this identity cannot get this one.
    #[error("the key {key} {why}: use a new key")]
    KeyInUse {
        /// The key.
        key: KeyId,
        /// Why not.
        why: &'static str,
    },
    /// A key that is to end has no part in this identity, or cannot be ended so.
    #[error("the key {key} cannot be revoked: {why}")]
    NotRevocable {
        /// The key.
        key: KeyId,
        /// Why not.
        why: &'static str,
    },
    /// The log has as many records as it may have.
    #[error("the identity log has {max} records already: rotate the keys, or make a new identity")]
    TooManyRecords {
        /// The limit.
        max: usize,
    },
    /// Rivals keep the log from going on.
    #[error(
        "the identity has rival records after {head}: nothing more is accepted until its next key signs a rotation"
    )]
    Forked {
        /// The last record that is in force.
        head: RecordId,
    },
}

impl IdentityError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Document(err) => err.kind(),
            Self::MissingPrevious { .. } => ErrorKind::NotFound,
            Self::NotACreation | Self::WrongSequence { .. } | Self::WrongPublisher { .. } => {
                ErrorKind::Corrupt
            }
            _ => ErrorKind::Refused,
        }
    }
}

#[cfg(test)]
mod tests;
