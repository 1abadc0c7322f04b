//! Collections made of versions: those of others that were pulled, which are read and not changed, and new ones that
//! go on from a version.
//!
//! Nothing is searched before it was checked in full (`lode_index::Collection::check`): signatures say who made a
//! segment, not that it is right. A graph that finds too little is made anew. Segments are linked, not copied, where
//! they are files of their own in the store.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use lode_index::{
    Collection, CollectionError,
    limits::{HEAD_BYTES_MAX, SEGMENTS_MAX},
};
use lode_store::{
    ByteRange, PublisherId, VersionId,
    manifest::Kind,
    name::NameRev,
    tree::{File, Mode, Tree},
};

use super::{
    CollectionAt, Collections, CollectionsError, command,
    stage::Stage,
    version::{self, HEAD, Noted},
};
use crate::{
    EventSink, Node,
    command::{CollectionRestore, Failure, FailureKind, Outcome, Pull, Pulled},
    resolve,
};

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 4 << 20;

/// What a pull brought: a collection of it, if it was a version of one and is here in full.
pub(crate) fn after_pull(
    node: &Node,
    request: &Pull,
    pulled: &Pulled,
    events: &EventSink,
) -> Result<(), Failure> {
    let parts = !request.include.is_empty()
        || !request.tensors.is_empty()
        || !request.slice.is_empty()
        || request.rows.is_some();
    if parts || request.dry_run || request.to.is_some() {
        return Ok(());
    }
    let id: VersionId = pulled
        .version
        .parse()
        .map_err(|_| Failure::failed("a version without an id"))?;
    let document = resolve::document(node, id)?.doc;
    let (Kind::Collection, Some(publisher)) = (document.kind, document.publisher) else {
        return Ok(());
    };
    take(node, publisher, &document.model, id, &pulled.name, events)
}

/// Makes the collection that is searched of a version, in place of that of an earlier one.
fn take(
    node: &Node,
    publisher: PublisherId,
    model: &str,
    id: VersionId,
    shown: &str,
    events: &EventSink,
) -> Result<(), Failure> {
    let collections = node.collections();
    let existing = collections.table()?.find(publisher, model);
    if let Some(at) = &existing {
        if collections.may_sign(&publisher, model)? {
            events.note(format!(
                "the collection of this home stays as it is; `lode collection restore {shown} --to NAME` makes one of the version"
            ));
            return Ok(());
        }
        let same = version::noted(node, at)?.is_some_and(|noted| noted.version == id);
        if same && collections.open(at).is_ok() {
            return Ok(());
        }
    }
    let tree = resolve::tree(node, id)?;
    let made = make(&collections, &tree, events)?;
    let public = node.store().ref_set(&publisher, model)?.is_public();
    let points = made.points;
    install(
        &collections,
        existing.as_ref(),
        made,
        (publisher, model, public),
        id,
    )?;
    events.note(format!(
        "{points} points are searched by `lode search {shown}`"
    ));
    Ok(())
}

/// `lode collection restore`.
pub(super) fn restore(
    node: &Node,
    request: &CollectionRestore,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    events.start("restore", &request.name);
    let name: NameRev = request.name.parse()?;
    let found = resolve::version(node, &name)?;
    if resolve::document(node, found.id)?.doc.kind != Kind::Collection {
        return Err(Failure::usage(format!(
            "{name} is no version of a collection"
        )));
    }
    let collections = node.collections();
    let to = request.to.clone().unwrap_or_else(|| name.name.to_string());
    let (publisher, short) = collections.claim(&to)?;
    let existing = collections.table()?.find(publisher, &short);
    if existing.is_some() && !request.force {
        let failure = Failure::from(CollectionsError::Exists { name: to });
        return Err(failure.advise("name another with --to, or replace it with --force"));
    }
    let made = make(&collections, &*resolve::tree(node, found.id)?, events)?;
    let at = install(
        &collections,
        existing.as_ref(),
        made,
        (publisher, &short, false),
        found.id,
    )?;
    command::shown(&collections, &at)
}

/// Removes the copy of a model's versions that was searched, when the model goes.
pub(crate) fn forget(node: &Node, publisher: PublisherId, model: &str) -> Result<(), Failure> {
    let collections = node.collections();
    let Some(at) = collections.table()?.find(publisher, model) else {
        return Ok(());
    };
    if collections.may_sign(&publisher, model)? {
        return Ok(());
    }
    collections.delete(&at)?;
    version::forget_notes(node, &at)
}

/// A collection that was checked and has no name yet.
struct Made {
    stage: Stage,
    points: u64,
    sequence: u64,
}

/// Makes and checks a collection of the files of a version.
fn make(collections: &Collections, tree: &Tree, events: &EventSink) -> Result<Made, Failure> {
    let stage = Stage::new(&collections.state().folder)?;
    let data = stage.data();
    write(&collections.node, tree, &data, events)?;
    let corrupt = |error: CollectionError| {
        Failure::new(
            FailureKind::Corrupt,
            format!("the version is not searched: {error}"),
        )
        .advise("its publisher signed what no Lode writes: do not trust it")
    };
    events.progress("check", 0, 0, 0);
    let index = Collection::open(&data).map_err(corrupt)?;
    let checked = index.check().map_err(corrupt)?;
    if !checked.weak.is_empty() {
        events.note(format!(
            "a graph finds {:.0} % of what is nearest: it is made anew",
            checked.recall * 100.0
        ));
        index.rebuild(&checked.weak).map_err(corrupt)?;
    }
    Ok(Made {
        points: checked.points,
        sequence: index.view().sequence(),
        stage,
    })
}

fn install(
    collections: &Collections,
    existing: Option<&CollectionAt>,
    made: Made,
    (publisher, name, public): (PublisherId, &str, bool),
    version: VersionId,
) -> Result<CollectionAt, Failure> {
    if let Some(at) = existing {
        collections.delete(at)?;
        version::forget_notes(&collections.node, at)?;
    }
    let data = made.stage.data();
    let at = collections.install(publisher, name, public, &mut |place| {
        fs::rename(&data, place).map_err(CollectionsError::io(place))
    })?;
    let sequence = made.sequence;
    version::note(&collections.node, &at, Noted { version, sequence })?;
    Ok(at)
}

/// Writes the files of a version to a folder that is not there yet, the head last.
fn write(node: &Node, tree: &Tree, dir: &Path, events: &EventSink) -> Result<(), Failure> {
    let wrong = |what: String| {
        Failure::new(
            FailureKind::Corrupt,
            format!("the version is no collection: {what}"),
        )
    };
    let (heads, segments): (Vec<&File>, Vec<&File>) =
        tree.files().iter().partition(|file| file.path == HEAD);
    let [head] = heads[..] else {
        return Err(wrong("it has no head".to_owned()));
    };
    if head.size > HEAD_BYTES_MAX || segments.len() > SEGMENTS_MAX {
        return Err(wrong("it is larger than one can be".to_owned()));
    }
    if let Some(other) = segments.iter().find(|file| !is_segment(file)) {
        return Err(wrong(format!("{:?} is no segment of one", other.path)));
    }
    fs::create_dir(dir).map_err(CollectionsError::io(dir))?;
    let (mut done, total) = (0, tree.size());
    for file in segments.into_iter().chain([head]) {
        let path = dir.join(&file.path);
        write_file(node, file, &path, &mut |bytes| {
            done += bytes;
            events.progress("write", done, total, 0);
            !events.is_cancelled()
        })?;
    }
    let folder = fs::File::open(dir).and_then(|folder| folder.sync_all());
    Ok(folder.map_err(CollectionsError::io(dir))?)
}

fn is_segment(file: &File) -> bool {
    let digits = file.path.strip_suffix(".seg").unwrap_or_default();
    let numbered = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    numbered && file.mode == Mode::File
}

/// Links a file of the store, or writes its bytes. `go_on` is told what was written and may end it.
fn write_file(
    node: &Node,
    file: &File,
    path: &Path,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), Failure> {
    let reader = node.reads().file(file)?;
    let whole = ByteRange {
        start: 0,
        end: file.size,
    };
    reader.check_held(whole)?;
    let chunks: Vec<_> = reader.chunks(whole).map(|chunk| chunk.hash).collect();
    if file.path != HEAD
        && let Some(place) = node.store().place_of_file(file.size, &chunks)?
        && !place.outside
        && fs::hard_link(&place.path, path).is_ok()
    {
        go_on(file.size);
        return Ok(());
    }
    let io = |error: io::Error| Failure::from(CollectionsError::io(path)(error));
    let mut out = fs::File::create_new(path).map_err(io)?;
    let mut start = 0;
    while start < file.size {
        let end = file.size.min(start + COPY_BYTES);
        let bytes = reader.read_all(ByteRange { start, end })?;
        out.write_all(&bytes).map_err(io)?;
        if !go_on(end - start) {
            return Err(Failure::cancelled());
        }
        start = end;
    }
    out.sync_all().map_err(io)
}
