//! From what people and addresses say to versions: publishers, models, branches, tags and prefixes.

use std::{collections::BTreeSet, sync::Arc};

use lode_store::{
    PublisherId, VersionId,
    name::{PublisherName, Rev, VersionPrefix},
    refs::{RefName, RefSet, RefState},
};

use super::{ReadError, Reads};
use crate::origin::{self, record};

/// Local keys of the names that this home gives to publishers.
const ALIAS_PREFIX: &str = "alias/";
/// Local keys of the versions that this home keeps.
const KEEP_PREFIX: &str = "keep/";

/// A model of this home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelAt {
    /// What this home calls its publisher.
    pub alias: Option<String>,
    /// Its publisher.
    pub publisher: PublisherId,
    /// Its name.
    pub model: String,
}

/// Whether a ref is a branch or a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefKind {
    /// It moves with pushes.
    Branch,
    /// It stays.
    Tag,
}

/// A branch or tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefAt {
    /// Which of them.
    pub kind: RefKind,
    /// Its name, without the kind.
    pub name: String,
    /// The version that is served for it.
    pub version: Option<VersionId>,
    /// What signers say that disagree; empty when they do not.
    pub fork: Vec<VersionId>,
}

/// What a rev named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The version.
    pub version: VersionId,
    /// The versions that signers disagree about, when the rev is a ref that forked.
    pub fork: Vec<VersionId>,
}

impl ModelAt {
    /// `alias/model`, or `KEY/model` without an alias.
    pub fn name(&self) -> String {
        match &self.alias {
            Some(alias) => format!("{alias}/{}", self.model),
            None => format!("{}/{}", self.publisher, self.model),
        }
    }
}

impl RefKind {
    /// `branch` or `tag`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Tag => "tag",
        }
    }
}

impl RefAt {
    fn new(full: &str, state: &RefState) -> Option<Self> {
        let (kind, name) = match RefName::parse(full).ok()? {
            RefName::Branch(name) => (RefKind::Branch, name),
            RefName::Tag(name) => (RefKind::Tag, name),
            RefName::Variant(_) | RefName::Public => return None,
        };
        let (version, fork) = (state.served(), fork(state));
        Some(Self {
            kind,
            name: name.to_owned(),
            version,
            fork,
        })
    }
}

fn fork(state: &RefState) -> Vec<VersionId> {
    match state {
        RefState::Fork { candidates, .. } => candidates
            .iter()
            .filter_map(|candidate| candidate.version)
            .collect(),
        _ => Vec::new(),
    }
}

impl Reads {
    /// The publisher that this home calls so, or whose key it is.
    ///
    /// # Errors
    /// An alias that is not bound here.
    pub fn publisher(&self, name: &PublisherName) -> Result<PublisherId, ReadError> {
        let alias = match name {
            PublisherName::Key(key) => return Ok(*key),
            PublisherName::Alias(alias) => alias,
        };
        let absent = || ReadError::Absent {
            what: format!("publisher {alias:?} in this home"),
        };
        let bytes = self
            .store()
            .local_get(&format!("{ALIAS_PREFIX}{alias}"))?
            .ok_or_else(absent)?;
        PublisherId::try_from(bytes.as_ref()).map_err(|error| ReadError::Corrupt {
            what: format!("the alias {alias:?}: {error}"),
        })
    }

    /// What this home calls publishers, by alias.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn aliases(&self) -> Result<Vec<(String, PublisherId)>, ReadError> {
        let bound = self
            .store()
            .local_prefix(ALIAS_PREFIX)?
            .into_iter()
            .filter_map(|(key, value)| {
                let alias = key.strip_prefix(ALIAS_PREFIX)?.to_owned();
                Some((alias, PublisherId::try_from(value.as_ref()).ok()?))
            });
        Ok(bound.collect())
    }

    /// The models of this home, those with an alias first, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn models(&self) -> Result<Vec<ModelAt>, ReadError> {
        let aliases = self.aliases()?;
        let mut models: Vec<ModelAt> = self
            .store()
            .models()?
            .into_iter()
            .filter(|(publisher, model)| self.is_here(publisher, model))
            .map(|(publisher, model)| {
                let alias = aliases.iter().find(|(_, bound)| *bound == publisher);
                ModelAt {
                    alias: alias.map(|(alias, _)| alias.clone()),
                    publisher,
                    model,
                }
            })
            .collect();
        for origin in record::all(self.store())? {
            let (publisher, model) = (origin.publisher(), origin.name().to_owned());
            if self.is_origin_here(&publisher, &model)? {
                models.push(ModelAt {
                    alias: Some(format!("{}{}", origin::PREFIX, origin.organisation())),
                    publisher,
                    model,
                });
            }
        }
        models.sort_by(|a, b| (a.alias.is_none(), a).cmp(&(b.alias.is_none(), b)));
        Ok(models)
    }

    /// Whether a model is more than what is left of one that was removed.
    fn is_here(&self, publisher: &PublisherId, model: &str) -> bool {
        let gone = self.store().local_get(&format!("gone/{publisher}/{model}"));
        let refs = self.store().ref_set(publisher, model);
        !gone.is_ok_and(|gone| gone.is_some())
            && refs.is_ok_and(|refs| refs.iter().next().is_some())
    }

    /// Whether a commit of a model of another hub is here, and was not removed.
    fn is_origin_here(&self, publisher: &PublisherId, model: &str) -> Result<bool, ReadError> {
        let gone = self
            .store()
            .local_get(&format!("gone/{publisher}/{model}"))?;
        Ok(gone.is_none() && !record::commits(self.store(), publisher, model)?.is_empty())
    }

    /// The branches of a model of another hub as it last said them, as far as their commits are here; else its
    /// commits.
    fn origin_refs(&self, publisher: &PublisherId, model: &str) -> Result<Vec<RefAt>, ReadError> {
        let commits = record::commits(self.store(), publisher, model)?;
        let named = |kind, name: String, version| RefAt {
            kind,
            name,
            version: Some(version),
            fork: Vec::new(),
        };
        let mut refs = Vec::new();
        for (name, commit) in record::refs(self.store(), publisher, model)? {
            let at = commits.iter().find(|(known, _)| *known == commit);
            refs.extend(at.map(|(_, version)| named(RefKind::Branch, name, *version)));
        }
        if refs.is_empty() {
            let commits = commits.into_iter();
            refs.extend(commits.map(|(commit, id)| named(RefKind::Tag, commit.to_string(), id)));
        }
        Ok(refs)
    }

    /// The model of this publisher and name, when this home knows it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn model(&self, publisher: PublisherId, model: &str) -> Result<ModelAt, ReadError> {
        let absent = || ReadError::Absent {
            what: format!("model {publisher}/{model}"),
        };
        let known = self.models()?;
        known
            .into_iter()
            .find(|at| at.publisher == publisher && at.model == model)
            .ok_or_else(absent)
    }

    /// The branches and tags of a model, branches first, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn refs(&self, publisher: PublisherId, model: &str) -> Result<Vec<RefAt>, ReadError> {
        let set = self.ref_set(publisher, model)?;
        let mut refs: Vec<RefAt> = set
            .iter()
            .filter_map(|(full, state)| RefAt::new(full, &state))
            .collect();
        refs.extend(self.origin_refs(&publisher, model)?);
        refs.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(refs)
    }

    /// Whether everyone may read the model.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_public(&self, publisher: PublisherId, model: &str) -> Result<bool, ReadError> {
        let public = self.ref_set(publisher, model)?.is_public();
        Ok(public || record::is_public(self.store(), &publisher, model))
    }

    /// The version that a branch, a tag or a prefix names.
    ///
    /// # Errors
    /// There is none, or a prefix names several.
    pub fn resolve(
        &self,
        publisher: PublisherId,
        model: &str,
        rev: &Rev,
    ) -> Result<Resolved, ReadError> {
        let absent = || ReadError::Absent {
            what: format!("branch, tag or version {rev} of {model}"),
        };
        let of_origin = |found: &dyn Fn(&str) -> bool| -> Result<Option<Resolved>, ReadError> {
            let refs = self.origin_refs(&publisher, model)?.into_iter();
            let named = refs.filter(|at| found(&at.name)).find_map(|at| at.version);
            let resolved = |version| Resolved {
                version,
                fork: Vec::new(),
            };
            Ok(named.map(resolved))
        };
        match rev {
            Rev::Ref(name) => {
                if let Some(found) = of_origin(&|known| known == name)? {
                    return Ok(found);
                }
                let set = self.ref_set(publisher, model)?;
                let (_, state) = set.resolve_short(name).ok_or_else(absent)?;
                let version = state.served().ok_or_else(absent)?;
                Ok(Resolved {
                    version,
                    fork: fork(&state),
                })
            }
            Rev::Version(prefix) => {
                let commits = record::commits(self.store(), &publisher, model)?;
                let mut commits = commits
                    .into_iter()
                    .filter(|(commit, _)| commit.to_string().starts_with(prefix.as_str()));
                if let (Some((_, version)), None) = (commits.next(), commits.next()) {
                    return Ok(Resolved {
                        version,
                        fork: Vec::new(),
                    });
                }
                let version = match prefix.full() {
                    Some(id) => Some(id).filter(|id| self.belongs(*id, publisher, model)),
                    None => self.by_prefix(publisher, model, prefix)?,
                };
                Ok(Resolved {
                    version: version.ok_or_else(absent)?,
                    fork: Vec::new(),
                })
            }
        }
    }

    /// The versions of a model that this home knows of: those that refs named, those that are kept,
    /// and their parents.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn versions(
        &self,
        publisher: PublisherId,
        model: &str,
    ) -> Result<BTreeSet<VersionId>, ReadError> {
        let mut roots = self.ref_set(publisher, model)?.versions();
        for (key, _) in self.store().local_prefix(KEEP_PREFIX)? {
            let id = key
                .strip_prefix(KEEP_PREFIX)
                .and_then(|hex| hex.parse().ok());
            roots.extend(id.filter(|id| self.belongs(*id, publisher, model)));
        }
        Ok(self.history(roots))
    }

    fn by_prefix(
        &self,
        publisher: PublisherId,
        model: &str,
        prefix: &VersionPrefix,
    ) -> Result<Option<VersionId>, ReadError> {
        let all = self.versions(publisher, model)?;
        let mut matching = all.into_iter().filter(|id| prefix.matches(id));
        match (matching.next(), matching.next()) {
            (found, None) => Ok(found),
            (_, Some(_)) => Err(ReadError::Usage {
                what: format!(
                    "{prefix} is the start of several versions of {model}: write more of it"
                ),
            }),
        }
    }

    /// Whether a version is held and is one of this model.
    fn belongs(&self, id: VersionId, publisher: PublisherId, model: &str) -> bool {
        self.version(id)
            .is_ok_and(|version| origin::whose(&version.doc) == Some((publisher, model)))
    }

    fn ref_set(&self, publisher: PublisherId, model: &str) -> Result<Arc<RefSet>, ReadError> {
        Ok(self.store().ref_set(&publisher, model)?)
    }
}
