//! The one function that says who may read what: every door asks it, with the caller and the version
//! whose bytes are asked for.
//!
//! A model is private until its publisher says otherwise. A model that the caller may not read and one
//! that is not here get the same answer, [`Grant::None`].

use std::{collections::BTreeSet, sync::Arc};

use crate::capability::Capability;
use crate::identity::glob_matches;
use crate::{PublisherId, VersionId};

/// What the access function needs to know of a home.
pub trait AccessView {
    /// Whether everyone may read the model: [`RefSet::is_public`](crate::refs::RefSet::is_public).
    fn is_public(&self, publisher: &PublisherId, model: &str) -> bool;

    /// Whether `version` is one of the model's: a signed ref record of the model names it, or the history
    /// of one that is named. Its own word for it is not enough.
    fn has_version(&self, publisher: &PublisherId, model: &str, version: &VersionId) -> bool;
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The owner of the home: the control socket, and HTTP on loopback until there is a token.
    Owner,
    /// A peer, by its node key, with the capabilities that it showed on this connection.
    Peer {
        /// The peer's node key, which the transport has verified.
        id: [u8; 32],
        /// What it showed and [`Capability::verify`] accepted.
        capabilities: Vec<Capability>,
    },
    /// A client with a token.
    Token(Arc<TokenScopes>),
    /// Anyone else.
    Anonymous,
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenScopes {
    /// The models, and what may be done with them.
    pub scopes: Vec<TokenScope>,
    /// When it ends, in seconds since 1970 UTC; none is never.
    pub expires: Option<u64>,
}

/// One scope of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenScope {
    /// Whose models; none is everyone's.
    pub publisher: Option<PublisherId>,
    /// Which models: a glob in which `*` stands for any run of characters.
    pub models: String,
    /// Whether it may change them too.
    pub write: bool,
}

/// What the caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Nothing; and whether there is something to be read stays unsaid.
    None,
    /// Read.
    Read,
    /// Read and change.
    Write,
}

impl Grant {
    /// Whether it includes reading.
    pub fn reads(self) -> bool {
        self >= Self::Read
    }
}

/// Which versions of a model a caller may know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// None.
    Nothing,
    /// These alone; refs that are at others stay unsaid.
    Only(BTreeSet<VersionId>),
    /// All of them, and all refs.
    Everything,
}

/// What `caller` may do with `root`, a version of the model, at `now` (seconds since 1970 UTC). Without
/// a root it is about the model as such: all of its refs, versions and history.
pub fn grant(
    view: &impl AccessView,
    caller: &Caller,
    root: Option<&VersionId>,
    publisher: &PublisherId,
    model: &str,
    now: u64,
) -> Grant {
    let by_caller = match caller {
        Caller::Owner => return Grant::Write,
        Caller::Anonymous => Grant::None,
        Caller::Peer { capabilities, .. } => {
            let permits = |own: &Capability| own.permits(publisher, model, root, now);
            if capabilities.iter().any(permits) {
                Grant::Read
            } else {
                Grant::None
            }
        }
        Caller::Token(token) => token.grant(publisher, model, now),
    };
    let granted = match by_caller {
        Grant::None if view.is_public(publisher, model) => Grant::Read,
        other => other,
    };
    match root {
        // whoever may read a model does not thereby read what others call a version of it
        Some(root) if granted != Grant::None && !view.has_version(publisher, model, root) => {
            Grant::None
        }
        _ => granted,
    }
}

/// Which versions of the model `caller` may know of, at `now` (seconds since 1970 UTC): for answers
/// that list refs.
pub fn visible(
    view: &impl AccessView,
    caller: &Caller,
    publisher: &PublisherId,
    model: &str,
    now: u64,
) -> Visible {
    if grant(view, caller, None, publisher, model, now).reads() {
        return Visible::Everything;
    }
    let Caller::Peer { capabilities, .. } = caller else {
        return Visible::Nothing;
    };
    let named = capabilities.iter().filter_map(|own| own.version);
    let only: BTreeSet<_> = named
        .filter(|version| grant(view, caller, Some(version), publisher, model, now).reads())
        .collect();
    if only.is_empty() {
        Visible::Nothing
    } else {
        Visible::Only(only)
    }
}

impl Visible {
    /// Whether `version` is among them.
    pub fn contains(&self, version: &VersionId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Only(versions) => versions.contains(version),
            Self::Everything => true,
        }
    }
}

impl TokenScopes {
    fn grant(&self, publisher: &PublisherId, model: &str, now: u64) -> Grant {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Grant::None;
        }
        let covering = self.scopes.iter().filter(|scope| {
            scope.publisher.is_none_or(|own| own == *publisher)
                && glob_matches(&scope.models, model)
        });
        let grants = covering.map(|scope| {
            if scope.write {
                Grant::Write
            } else {
                Grant::Read
            }
        });
        grants.max().unwrap_or(Grant::None)
    }
}

#[cfg(test)]
mod tests;
