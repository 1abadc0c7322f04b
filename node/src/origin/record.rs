//! What this home notes of models of other hubs, in its local keys.
//!
//! | key | value |
//! |---|---|
//! | `origin/PUBLISHER/MODEL` | DAG-CBOR: host and organisation, and whether everyone may read it there |
//! | `origin-at/PUBLISHER/MODEL/COMMIT` | the origin version, 32 bytes |
//! | `origin-ref/PUBLISHER/MODEL/REV` | the commit that a branch or tag was at when the hub was last asked, 40 digits |
//! | `origin-file/PUBLISHER/MODEL/DIGEST` | a version of the model with this file, 32 bytes |
//!
//! A note is believed only while the version that it names is kept.

use lode_store::{
    PublisherId, Store, VersionId, local,
    log::Record,
    manifest::VersionBytes,
    store::{ReadError, WriteError},
    tree::{File, Mode, Tree},
};
use serde::{Deserialize, Serialize};

use super::{
    document::{self, Repository},
    listing::{CommitId, Digest},
};

/// A model of another hub, as this home knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    namespace: String,
    organisation: String,
    /// Whether everyone may read it there.
    public: bool,
}

fn key(kind: &str, publisher: &PublisherId, model: &str, rest: &str) -> String {
    match rest {
        "" => format!("{kind}/{publisher}/{model}"),
        rest => format!("{kind}/{publisher}/{model}/{rest}"),
    }
}

fn entry(store: &Store, publisher: &PublisherId, model: &str) -> Option<Entry> {
    let value = store
        .local_get(&key("origin", publisher, model, ""))
        .ok()??;
    serde_ipld_dagcbor::from_slice(&value).ok()
}

/// The model of another hub with these coordinates, if this home knows one.
pub(crate) fn repository(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
) -> Option<Repository> {
    let Entry {
        namespace,
        organisation,
        ..
    } = entry(store, publisher, model)?;
    Repository::new(&namespace, &organisation, model).ok()
}

/// Whether it is a model of another hub that everyone may read there.
pub(crate) fn is_public(store: &Store, publisher: &PublisherId, model: &str) -> bool {
    entry(store, publisher, model).is_some_and(|entry| entry.public)
}

/// The models of other hubs of which something is here.
pub(crate) fn all(store: &Store) -> Result<Vec<Repository>, ReadError> {
    let mut found = Vec::new();
    for (key, value) in store.local_prefix("origin/")? {
        let name = key.rsplit_once('/').map(|(_, name)| name.to_owned());
        let entry: Option<Entry> = serde_ipld_dagcbor::from_slice(&value).ok();
        if let (Some(name), Some(entry)) = (name, entry)
            && let Ok(repository) = Repository::new(&entry.namespace, &entry.organisation, &name)
        {
            found.push(repository);
        }
    }
    Ok(found)
}

/// Notes a model of another hub.
pub(super) fn note(store: &Store, repository: &Repository, public: bool) -> Result<(), WriteError> {
    let (publisher, model) = (repository.publisher(), repository.name());
    let new = Entry {
        namespace: repository.namespace().to_owned(),
        organisation: repository.organisation().to_owned(),
        public,
    };
    if entry(store, &publisher, model).as_ref() == Some(&new) {
        return Ok(());
    }
    let value = serde_ipld_dagcbor::to_vec(&new).expect("texts and a flag can be encoded");
    store.local_set(&key("origin", &publisher, model, ""), &value)
}

fn is_kept(store: &Store, version: &VersionId) -> bool {
    store
        .local_get(&local::keep_key(version))
        .is_ok_and(|kept| kept.is_some())
}

/// Whether a version is kept here and is of this model of another hub: only this home makes such versions.
pub(crate) fn has_version(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
    version: &VersionId,
) -> bool {
    let document = || {
        let bytes = store.document(&(*version).into()).ok()??;
        VersionBytes::decode_as(*version, bytes).ok()
    };
    is_kept(store, version)
        && document().is_some_and(|document| {
            document.doc.publisher.is_none()
                && document::whose(&document.doc) == Some((*publisher, model))
        })
}

/// The version of a commit.
pub(crate) fn at(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
    commit: CommitId,
) -> Option<VersionId> {
    let key = key("origin-at", publisher, model, &commit.to_string());
    let id = VersionId::try_from(store.local_get(&key).ok()??.as_ref()).ok()?;
    is_kept(store, &id).then_some(id)
}

/// The commits of a model that are here, each with its version.
pub(crate) fn commits(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
) -> Result<Vec<(CommitId, VersionId)>, ReadError> {
    let prefix = format!("{}/", key("origin-at", publisher, model, ""));
    let notes = store.local_prefix(&prefix)?.into_iter();
    let read = |(key, value): (String, bytes::Bytes)| {
        let commit = CommitId::parse(key.strip_prefix(&prefix)?)?;
        let id = VersionId::try_from(value.as_ref()).ok()?;
        is_kept(store, &id).then_some((commit, id))
    };
    Ok(notes.filter_map(read).collect())
}

/// The branches and tags of a model as the hub last said, each with the commit.
pub(crate) fn refs(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
) -> Result<Vec<(String, CommitId)>, ReadError> {
    let prefix = format!("{}/", key("origin-ref", publisher, model, ""));
    let notes = store.local_prefix(&prefix)?.into_iter();
    let read = |(key, value): (String, bytes::Bytes)| {
        let commit = CommitId::parse(std::str::from_utf8(&value).ok()?)?;
        Some((key.strip_prefix(&prefix)?.to_owned(), commit))
    };
    Ok(notes.filter_map(read).collect())
}

/// Notes which commit a branch or tag is at.
pub(super) fn note_ref(
    store: &Store,
    repository: &Repository,
    rev: &str,
    commit: CommitId,
) -> Result<(), WriteError> {
    let key = key(
        "origin-ref",
        &repository.publisher(),
        repository.name(),
        rev,
    );
    let text = commit.to_string();
    let known = store.local_get(&key).ok().flatten();
    if known.is_some_and(|known| known.as_ref() == text.as_bytes()) {
        return Ok(());
    }
    store.local_set(&key, text.as_bytes())
}

/// A file of a model by what it hashes to, and a version that has it.
pub(crate) fn file(
    store: &Store,
    repository: &Repository,
    digest: Digest,
) -> Option<(File, VersionId)> {
    let key = key(
        "origin-file",
        &repository.publisher(),
        repository.name(),
        &digest.to_string(),
    );
    let id = VersionId::try_from(store.local_get(&key).ok()??.as_ref()).ok()?;
    if !is_kept(store, &id) {
        return None;
    }
    let document = VersionBytes::decode_as(id, store.document(&id.into()).ok()??).ok()?;
    let tree = Tree::decode(&store.document(&document.doc.tree.into()).ok()??).ok()?;
    let found = tree.files().iter().find(|file| matches(file, digest))?;
    Some((found.clone(), id))
}

/// Whether a file's bytes hash to `digest`.
pub(super) fn matches(file: &File, digest: Digest) -> bool {
    file.mode != Mode::Link
        && match digest {
            Digest::Sha256(sha256) => file.sha256 == sha256,
            Digest::Git(git) => file.git == Some(git),
        }
}

/// The record that a version of the model has this file.
pub(super) fn file_record(
    repository: &Repository,
    digest: Digest,
    version: VersionId,
) -> Result<Record, WriteError> {
    let key = key(
        "origin-file",
        &repository.publisher(),
        repository.name(),
        &digest.to_string(),
    );
    Record::local_set(&key, version.as_bytes())
}

/// The record that a commit is this version.
pub(super) fn commit_record(
    repository: &Repository,
    commit: CommitId,
    version: VersionId,
) -> Result<Record, WriteError> {
    let key = key(
        "origin-at",
        &repository.publisher(),
        repository.name(),
        &commit.to_string(),
    );
    Record::local_set(&key, version.as_bytes())
}
