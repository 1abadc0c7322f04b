//! Versions of collections: what a collection holds at one moment, signed, in the store beside the models.
//!
//! A version's files are the head and the segments of a snapshot. Segments are immutable, so nothing is copied: a
//! large one becomes a container of the store under a second name of the same file, and one that the version
//! before has as well is not even read. What the version was that a collection was last made a version of, or made
//! from, is noted under the local key `collection/FOLDER`.

use std::{collections::BTreeMap, fs};

use lode_index::collection::{Snapshot, read_head};
use lode_store::{
    ByteRange, PublisherId, TreeId, VersionId,
    identity::Operation,
    import::{ImportOptions, import},
    local,
    manifest::{Kind, Links, Version},
    name::check_ref_name,
    refs::{PUBLIC_REF, RefState},
    store::Protection,
    tree::{File, Tree},
};

use super::{
    CollectionAt, CollectionsError, OpenCollection,
    command::{compact, engine, publisher_name, writable},
    stage::Stage,
};
use crate::{
    EventSink, Node, check,
    command::{CollectionCommit, Failure, Outcome, Pushed},
    publisher::{self, Signer, now},
    push::{self, Importing},
    resolve,
};

/// The file of a version that says which segments there are.
pub(super) const HEAD: &str = "head";

/// How many points a version has, among its annotations.
const POINTS: &str = "points";

/// The version that a collection was last made into, or made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) version: VersionId,
    /// The collection's last operation then.
    pub(super) sequence: u64,
}

fn folder(at: &CollectionAt) -> String {
    let name = at.slot.dir.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn note_key(at: &CollectionAt) -> String {
    format!("collection/{}", folder(at))
}

/// The local key of how far a file was read into a collection.
pub(super) fn import_key(at: &CollectionAt, file: &str) -> String {
    format!("import/{}/{file}", folder(at))
}

/// What is noted of a collection.
pub(super) fn noted(node: &Node, at: &CollectionAt) -> Result<Option<Noted>, Failure> {
    let value = node.store().local_get(&note_key(at))?;
    Ok(value.and_then(|value| {
        let (version, sequence) = value.split_first_chunk::<32>()?;
        Some(Noted {
            version: VersionId::from_bytes(*version),
            sequence: u64::from_le_bytes(sequence.try_into().ok()?),
        })
    }))
}

pub(super) fn note(node: &Node, at: &CollectionAt, noted: Noted) -> Result<(), Failure> {
    let mut value = noted.version.as_bytes().to_vec();
    value.extend_from_slice(&noted.sequence.to_le_bytes());
    Ok(node.store().local_set(&note_key(at), &value)?)
}

/// Lets go what is noted of a collection that is no more.
pub(super) fn forget_notes(node: &Node, at: &CollectionAt) -> Result<(), Failure> {
    let store = node.store();
    if store.local_get(&note_key(at))?.is_some() {
        store.local_delete(&note_key(at))?;
    }
    for (key, _) in store.local_prefix(&import_key(at, ""))? {
        store.local_delete(&key)?;
    }
    Ok(())
}

/// The version that a branch of the collection is at; a name that is a model's is refused.
fn head_of(
    node: &Node,
    publisher: &PublisherId,
    at: &CollectionAt,
    heads: &str,
) -> Result<Option<VersionId>, Failure> {
    let refs = node.store().ref_set(publisher, &at.name)?;
    let head = refs.resolve(heads).served();
    if let Some(head) = head
        && resolve::document(node, head)?.doc.kind != Kind::Collection
    {
        return Err(Failure::refused(format!(
            "the versions of {} are not those of a collection",
            at.name
        ))
        .advise("`lode collection restore` and `create` make one under another name"));
    }
    Ok(head)
}

/// `lode collection commit`.
pub(super) fn commit(
    node: &Node,
    request: &CollectionCommit,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    events.start("commit", &request.name);
    let branch = request.branch.as_deref().unwrap_or("main");
    check_ref_name(branch)?;
    if let Some(tag) = &request.tag {
        check_ref_name(tag)?;
    }
    let collections = node.collections();
    let at = collections.find(&request.name)?;
    let open = writable(&collections, &request.name)?;
    let signer = publisher::signer(node, &publisher_name(&at), Operation::Push, &at.name)?;
    let heads = format!("heads/{branch}");
    let head = head_of(node, &at.publisher, &at, &heads)?;
    let tag = request.tag.as_ref().map(|tag| format!("tags/{tag}"));
    let refs = node.store().ref_set(&at.publisher, &at.name)?;
    if request.compact {
        compact(&open, events)?;
    }
    let stored = store(node, &open, head, events)?;
    let unchanged = match head {
        Some(head) => resolve::document(node, head)?.doc.tree == stored.tree,
        None => false,
    };
    // a tag that exists stays where it is
    let tagged = tag.as_ref().and_then(|tag| match refs.resolve(tag) {
        RefState::Absent => None,
        state => state.served(),
    });
    if tagged.is_some() && !(unchanged && tagged == head) {
        let tag = request.tag.as_deref().unwrap_or_default();
        return Err(Failure::refused(format!(
            "the tag {tag:?} of {} is at another version already",
            request.name
        ))
        .advise(format!(
            "commit without it, then move it with `lode tag {} {tag} --force`",
            request.name
        )));
    }
    let version = match head {
        Some(head) if unchanged => head,
        _ => {
            let parents = head.into_iter().collect();
            let made = sign(
                node,
                &at,
                &signer,
                &open,
                &stored,
                parents,
                &request.message,
            )?;
            signer.move_ref(node, &at.name, &heads, Some(made))?;
            made
        }
    };
    if let Some(tag) = &tag
        && tagged != Some(version)
    {
        signer.move_ref(node, &at.name, tag, Some(version))?;
    }
    if request.public {
        collections.set_public(&at, true)?;
        if !refs.is_public() {
            signer.move_ref(node, &at.name, PUBLIC_REF, Some(version))?;
        }
    }
    resolve::is_back(node, &at.publisher, &at.name)?;
    let sequence = stored.snapshot.sequence;
    note(node, &at, Noted { version, sequence })?;
    let shown = collections.full_name(&at)?;
    let reference = request
        .tag
        .as_deref()
        .or((branch != "main").then_some(branch));
    Ok(Outcome::Pushed(Pushed {
        name: reference.map_or_else(|| shown.clone(), |reference| format!("{shown}@{reference}")),
        version: version.to_hex(),
        changed: !unchanged,
        files: stored.snapshot.files.len() as u64,
        tensors: 0,
        tensors_new: 0,
        size: stored.snapshot.files.iter().map(|file| file.bytes).sum(),
        size_new: stored.size_new,
    }))
}

/// A snapshot that is in the store.
struct Stored {
    snapshot: Snapshot,
    tree: TreeId,
    size_new: u64,
    /// Keeps it from being collected until a version names it.
    _guard: Protection,
}

/// Takes a snapshot and stores it. Segments that the version before has are taken from there.
fn store(
    node: &Node,
    open: &OpenCollection,
    before: Option<VersionId>,
    events: &EventSink,
) -> Result<Stored, Failure> {
    let stage = Stage::new(&open.state.folder)?;
    let data = stage.data();
    events.progress("snapshot", 0, 0, 0);
    let snapshot = open.engine().snapshot_to(&data).map_err(engine(open))?;
    let before = before.map(|before| segments_of(node, before)).transpose()?;
    let before = before.unwrap_or_default();
    let mut files = Vec::new();
    for file in &snapshot.files {
        let known = file
            .segment
            .and_then(|id| before.get(&(file.name.clone(), *id.as_bytes())));
        let Some(known) = known.filter(|known| known.size == file.bytes) else {
            continue;
        };
        let path = data.join(&file.name);
        fs::remove_file(&path).map_err(CollectionsError::io(&path))?;
        files.push(known.clone());
    }
    let options = ImportOptions {
        adopt: true,
        ..ImportOptions::default()
    };
    let sink = Importing {
        events,
        phase: "commit",
    };
    let imported = import(node.store(), &data, &options, &sink)?;
    files.extend(node.reads().tree(imported.tree)?.files().iter().cloned());
    let (tree, bytes) = Tree::new(files)?.encode_with_id();
    for document in node.store().put_documents(&[bytes])? {
        imported.guard.add(&document);
    }
    Ok(Stored {
        snapshot,
        tree,
        size_new: imported.size_new,
        _guard: imported.guard,
    })
}

/// The segments of a version that are here in full, by their file's name and id.
fn segments_of(
    node: &Node,
    version: VersionId,
) -> Result<BTreeMap<(String, [u8; 32]), File>, Failure> {
    let tree = resolve::tree(node, version)?;
    let Some(head) = tree.file(HEAD) else {
        return Ok(BTreeMap::new());
    };
    let reader = node.reads().file(head)?;
    if reader.bytes_held()? < head.size {
        return Ok(BTreeMap::new());
    }
    let head = reader.read_all(ByteRange {
        start: 0,
        end: head.size,
    })?;
    let Ok(head) = read_head(&head) else {
        return Ok(BTreeMap::new());
    };
    let mut segments = BTreeMap::new();
    for (name, id) in head.segments() {
        if let Some(file) = tree.file(&name)
            && node.reads().file(file)?.bytes_held()? == file.size
        {
            segments.insert((name, id), file.clone());
        }
    }
    Ok(segments)
}

fn sign(
    node: &Node,
    at: &CollectionAt,
    signer: &Signer,
    open: &OpenCollection,
    stored: &Stored,
    parents: Vec<VersionId>,
    message: &str,
) -> Result<VersionId, Failure> {
    let view = open.view();
    let embedder = view.config().embedder.as_ref();
    let embedder = embedder
        .map(serde_ipld_dagcbor::to_vec)
        .transpose()
        .map_err(|error| Failure::failed(format!("the embedder is not written: {error}")))?;
    // what it was made from, if that is not a version of its own
    let base = match noted(node, at)? {
        Some(noted) if parents.is_empty() => match resolve::document(node, noted.version) {
            Ok(from) if (from.doc.publisher, &from.doc.model) != (Some(at.publisher), &at.name) => {
                vec![noted.version]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let version = Version {
        kind: Kind::Collection,
        publisher: Some(signer.publisher),
        model: at.name.clone(),
        tree: stored.tree,
        parents,
        author: None,
        time: now(),
        message: message.to_owned(),
        links: Links {
            base,
            embedder: embedder.map(Into::into),
            annotations: [(POINTS.to_owned(), view.len().to_string())].into(),
            ..Links::default()
        },
    };
    push::sign(node, signer, &version)
}

/// `lode collection purge`: of all that the home holds of a collection, what is there now is left alone.
pub(super) fn purge(node: &Node, name: &str, events: &EventSink) -> Result<Outcome, Failure> {
    events.start("purge", name);
    let collections = node.collections();
    let at = collections.find(name)?;
    let open = writable(&collections, name)?;
    collections.delete_snapshots(&at)?;
    compact(&open, events)?;
    if head_of(node, &at.publisher, &at, "heads/main")?.is_none() {
        return check::gc(node, false, events);
    }
    let signer = publisher::signer(node, &publisher_name(&at), Operation::Push, &at.name)?;
    let old = node.reads().versions(at.publisher, &at.name)?;
    let stored = store(node, &open, None, events)?;
    // without a parent: what is purged is not named any more
    let version = sign(node, &at, &signer, &open, &stored, Vec::new(), "purge")?;
    let refs = node.store().ref_set(&at.publisher, &at.name)?;
    let names: Vec<String> = refs
        .iter()
        .filter(|(_, state)| *state != RefState::Absent)
        .map(|(full, _)| full.to_owned())
        .collect();
    for full in names {
        let (operation, to) = match full.as_str() {
            "heads/main" => (Operation::Push, Some(version)),
            PUBLIC_REF => continue,
            tag if tag.starts_with("tags/") => (Operation::Tag, None),
            _ => (Operation::Branch, None),
        };
        publisher::signer(node, &publisher_name(&at), operation, &at.name)?
            .move_ref(node, &at.name, &full, to)?;
    }
    for id in old.into_iter().filter(|id| *id != version) {
        for key in [local::keep_key(&id), local::pin_key(&id)] {
            if node.store().local_get(&key)?.is_some() {
                node.store().local_delete(&key)?;
            }
        }
    }
    let sequence = stored.snapshot.sequence;
    note(node, &at, Noted { version, sequence })?;
    drop(stored);
    check::gc(node, false, events)
}
