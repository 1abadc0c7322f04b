//! Branches, tags and publicness of a model: signed records that anyone can put together in any order
//! and get the same answer.
//!
//! Ref names are `heads/NAME`, `tags/NAME`, `variants/NAME` and `access/public`. A record names the records that it
//! supersedes; by the same signer, a later sequence supersedes an earlier one. What no other record
//! supersedes is in force. Two such records that disagree are a fork, and the last record that all of
//! them supersede stays served. Two different records of one signer with one sequence are
//! equivocation: both are kept as proof, and neither counts. Clocks order nothing.
//!
//! Invariant: [`RefSet`] answers from the set of records and the identity log alone. Bytes come from
//! peers and from the record log.

mod check;
mod make;
mod record;
mod resolve;
mod set;

pub use check::{PUBLIC_REF, RefName, check_ref};
pub use record::RefRecord;
pub use resolve::{Candidate, HistoryEntry, RefState, Weight};
pub use set::{Applied, Equivocation, RefSet};

use crate::document::DocumentError;
use crate::identity::AuthError;
use crate::name::NameError;
use crate::signature::KeyId;
use crate::{ErrorKind, PublisherId, RecordId};

/// Why a ref record is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefError {
    /// The bytes are not a record of this kind.
    #[error("the ref record cannot be read: {0}")]
    Document(#[from] DocumentError),
    /// A name in it is not one.
    #[error("the ref record is refused: {0}")]
    Name(#[from] NameError),
    /// The ref is none of the kinds that are known.
    #[error(
        "the ref {found:?} is of no kind that this Lode knows (heads/NAME, tags/NAME, variants/NAME, access/public): update Lode"
    )]
    UnknownRef {
        /// The ref.
        found: String,
    },
    /// It is about another model.
    #[error(
        "the ref record is about {found_publisher}/{found_model}, not about {publisher}/{model}: forged, or mixed up by the peer it came from"
    )]
    WrongModel {
        /// The publisher that it should be about.
        publisher: PublisherId,
        /// The model that it should be about.
        model: String,
        /// The publisher that it is about.
        found_publisher: PublisherId,
        /// The model that it is about.
        found_model: String,
    },
    /// The identity log is another publisher's.
    #[error("the identity log is that of {found}, the refs are those of {expected}")]
    WrongIdentity {
        /// Whose refs they are.
        expected: PublisherId,
        /// Whose log was given.
        found: PublisherId,
    },
    /// Its signer may not sign it, or did not.
    #[error("the ref record is refused: {0}")]
    Auth(#[from] AuthError),
    /// The same signer signed another record with this sequence.
    #[error(
        "the key {signer} signed two different records with sequence {seq}: both are kept as proof, neither counts; set the ref again, and end that key if it is not yours"
    )]
    Equivocation {
        /// Who signed both.
        signer: KeyId,
        /// The sequence.
        seq: u64,
        /// The record that was there.
        first: RecordId,
        /// The other one.
        second: RecordId,
    },
    /// The same signer signed a later record of this ref, which does not build on this one.
    #[error(
        "the record {seq} of {name:?} by {signer} is older than its record {known}: kept, without effect"
    )]
    OlderSequence {
        /// The ref.
        name: String,
        /// Who signed.
        signer: KeyId,
        /// Its sequence.
        seq: u64,
        /// The later sequence that is known.
        known: u64,
    },
    /// There are as many records as may be.
    #[error("the model has {max} ref records already: publish under another name")]
    TooManyRecords {
        /// The limit.
        max: usize,
    },
    /// The signer has no sequence left.
    #[error("the key {signer} has used up its sequences: let the publisher delegate to a new key")]
    NoSequenceLeft {
        /// Who signs.
        signer: KeyId,
    },
}

impl RefError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Document(err) => err.kind(),
            Self::Auth(err) => err.kind(),
            Self::WrongIdentity { .. } => ErrorKind::Usage,
            _ => ErrorKind::Refused,
        }
    }

    /// Whether the record was kept although it is refused, and belongs in the record log: as proof, or
    /// so that all who have seen it agree on what came before.
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Equivocation { .. } | Self::OlderSequence { .. })
    }
}

#[cfg(test)]
mod tests;
