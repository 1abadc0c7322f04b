//! From the errors of the parts to the one [`Failure`] that callers see: kind, message, advice.

use lode_store::ErrorKind;

use crate::command::{Failure, FailureKind};

impl Failure {
    /// A failure of `kind` that says `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            advice: None,
        }
    }

    /// No such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(FailureKind::NotFound, message)
    }

    /// A rule forbids it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, message)
    }

    /// The request makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// A failure of the machine or of the program.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Failed, message)
    }

    /// The caller asked to stop.
    pub fn cancelled() -> Self {
        Self::failed("stopped").advise("run the same command again: it goes on where it stopped")
    }
}

/// The kind that a caller sees for a kind of the store.
pub(crate) fn kind_of(kind: ErrorKind) -> FailureKind {
    match kind {
        ErrorKind::Corrupt => FailureKind::Corrupt,
        ErrorKind::NotFound => FailureKind::NotFound,
        ErrorKind::Refused => FailureKind::Refused,
        ErrorKind::Remote => FailureKind::NoPeer,
        ErrorKind::Usage => FailureKind::Usage,
        _ => FailureKind::Failed,
    }
}

/// Makes `From` for errors that know their kind.
macro_rules! failure_from {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let kind = kind_of(error.kind());
                Failure::new(kind, chain(&error))
            }
        })+
    };
}
failure_from! {
    lode_store::capability::CapabilityError,
    lode_store::document::DocumentError,
    lode_store::download::DownloadError,
    lode_store::gc::GcError,
    lode_store::identity::IdentityError,
    lode_store::import::ImportError,
    lode_store::manifest::VersionError,
    lode_store::name::NameError,
    lode_store::refs::RefError,
    lode_store::scrub::ScrubError,
    lode_store::signature::SignatureError,
    lode_store::store::ApplyError,
    lode_store::store::ReadError,
    lode_store::store::WriteError,
    lode_store::ticket::TicketError,
    lode_store::tree::ChunkListError,
    lode_store::tree::TreeError,
    crate::keys::KeyError,
    crate::tokens::TokenError,
}

impl From<lode_store::index::IndexError> for Failure {
    fn from(error: lode_store::index::IndexError) -> Self {
        Self::failed(chain(&error))
    }
}

impl From<lode_store::store::OpenError> for Failure {
    fn from(error: lode_store::store::OpenError) -> Self {
        Self::new(kind_of(error.kind()), chain(&error))
    }
}

/// An error and its causes in one line; a cause that its parent repeats is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
