//! What users and documents call things: publishers, models, refs, versions, variants and files.
//!
//! `NAME` is `alias/model` or `KEY/model`; then `[@REV][:VARIANT]`; then `/FILE`. A `REV` is a branch,
//! a tag, or a version id's prefix of 8 hex digits or more; refs are never all hex digits, so the two
//! cannot be confused. Text comes from command lines, addresses and peers.

mod check;
mod parse;

pub use check::{
    check_alias, check_model, check_origin_model, check_ref_name, check_variant, fold_model,
};
pub use parse::{FileName, Name, NameRev, PublisherName, Rev, VersionPrefix};

use crate::ErrorKind;
use crate::limits::VERSION_PREFIX_DIGITS_MIN;
use crate::limits::{ALIAS_BYTES_MAX, MODEL_BYTES_MAX, REF_NAME_BYTES_MAX, VARIANT_BYTES_MAX};
use crate::tree::PathError;

/// Aliases that no publisher can have: they start addresses of the gateway.
pub const RESERVED_ALIASES: [&str; 20] = [
    "api",
    "v1",
    "v2",
    "lode",
    "xet",
    "collections",
    "aliases",
    "snapshots",
    "cluster",
    "telemetry",
    "issues",
    "metrics",
    "healthz",
    "readyz",
    "livez",
    "ui",
    "datasets",
    "spaces",
    "kernels",
    "docs",
];

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is no `/` between publisher and model.
    #[error("{found:?} is not a name: write PUBLISHER/MODEL, for example acme/tiny")]
    NoModel {
        /// What was found.
        found: String,
    },
    /// A name of a model was expected, more follows.
    #[error("{found:?} is not expected after the name: write PUBLISHER/MODEL{form}")]
    Unexpected {
        /// What follows.
        found: String,
        /// What may follow.
        form: &'static str,
    },
    /// The publisher is neither an alias nor a key.
    #[error(
        "{found:?} is not a publisher: write an alias (a-z, 0-9 and -, at most {ALIAS_BYTES_MAX}) or a key (64 hex digits)"
    )]
    Publisher {
        /// What was found.
        found: String,
    },
    /// The alias is one that addresses of the gateway start with.
    #[error("the alias {found:?} is reserved: choose another one")]
    ReservedAlias {
        /// The alias.
        found: String,
    },
    /// The model's name is not one.
    #[error(
        "{found:?} is not a model's name: write A-Z, a-z, 0-9, `.`, `_` and -, at most {MODEL_BYTES_MAX}, not `.` or `..`"
    )]
    Model {
        /// What was found.
        found: String,
    },
    /// The name of a branch or tag is not one.
    #[error(
        "{found:?} is not a name of a branch or tag: {why} (at most {REF_NAME_BYTES_MAX} of A-Z, a-z, 0-9, `.`, `_`, + and -)"
    )]
    Ref {
        /// What was found.
        found: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The prefix of a version's id is too short, or too long.
    #[error(
        "{found:?} is not a version: write {VERSION_PREFIX_DIGITS_MIN} to 64 of its hex digits"
    )]
    VersionPrefix {
        /// What was found.
        found: String,
    },
    /// The name of a variant is not one.
    #[error(
        "{found:?} is not a variant: write A-Z, a-z, 0-9, `.`, `_` and -, at most {VARIANT_BYTES_MAX}"
    )]
    Variant {
        /// What was found.
        found: String,
    },
    /// There is no `/FILE`.
    #[error("{found:?} names no file: write PUBLISHER/MODEL[@REV]/FILE")]
    NoFile {
        /// What was found.
        found: String,
    },
    /// The file's path is not one.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl NameError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

#[cfg(test)]
mod tests;
