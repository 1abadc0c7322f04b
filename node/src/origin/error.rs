//! What can go wrong with another hub.

use std::time::Duration;

use crate::{
    command::{Failure, FailureKind},
    failure::chain,
};

/// Why something is not had from another hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// An address that is none.
    #[error("{url:?} is no address of a hub: {why}")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// It lies in a network that is not public.
    #[error("{host} is at no public address")]
    Private {
        /// The name or number.
        host: String,
    },
    /// A redirection that is not followed.
    #[error("a redirection of {from} is not followed: {why}")]
    Redirect {
        /// Who redirects.
        from: String,
        /// Why not.
        why: String,
    },
    /// There is no such thing there, or not for us.
    #[error("{hub} has no {what}, or does not show it to us")]
    Absent {
        /// The hub.
        hub: String,
        /// What was asked for.
        what: String,
    },
    /// The hub wants to know who asks.
    #[error(
        "{hub} does not give {what}: it wants a token, or other terms to be accepted ({status})"
    )]
    Denied {
        /// The hub.
        hub: String,
        /// What was asked for.
        what: String,
        /// Its status.
        status: u16,
    },
    /// The hub asks to come back, later than is waited for.
    #[error("{hub} asks to come back in {} s", .after.as_secs())]
    Busy {
        /// The hub.
        hub: String,
        /// When.
        after: Duration,
    },
    /// The hub cannot be reached, or answers with a failure.
    #[error("{hub} failed: {why}")]
    Away {
        /// The hub.
        hub: String,
        /// How.
        why: String,
    },
    /// An answer is not what it must be.
    #[error("{hub} says something impossible of {what}: {why}")]
    Answer {
        /// The hub.
        hub: String,
        /// Of what.
        what: String,
        /// Why it cannot be.
        why: String,
    },
    /// A file is not what the hub says it is.
    #[error("{path} is not what {hub} says that it is: {why}; nothing of it is kept")]
    Wrong {
        /// The hub.
        hub: String,
        /// The file.
        path: String,
        /// What differs.
        why: String,
    },
}

impl From<OriginError> for Failure {
    fn from(error: OriginError) -> Self {
        use OriginError as E;
        let (kind, advice) = match &error {
            E::Address { .. } => (FailureKind::Usage, None),
            E::Private { .. } => (
                FailureKind::Refused,
                Some(
                    "add --upstream-private if this hub, and where it redirects to, may be in a private network or on this machine",
                ),
            ),
            E::Redirect { .. } => (FailureKind::Refused, None),
            E::Absent { .. } => (
                FailureKind::NotFound,
                Some("check its name; for a private model name a token with --upstream-token-file"),
            ),
            E::Denied { .. } => (
                FailureKind::Refused,
                Some(
                    "accept its terms there if it has any, and name a file with your token: --upstream-token-file",
                ),
            ),
            E::Busy { .. } => (FailureKind::NoPeer, Some("a later run goes on from here")),
            E::Away { .. } => (FailureKind::NoPeer, Some("a later run goes on from here")),
            E::Answer { .. } | E::Wrong { .. } => (
                FailureKind::Corrupt,
                Some("nothing that is wrong was stored; ask whoever runs that hub"),
            ),
        };
        let failure = Self::new(kind, chain(&error));
        match advice {
            Some(advice) => failure.advise(advice),
            None => failure,
        }
    }
}
