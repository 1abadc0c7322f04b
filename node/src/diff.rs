//! `lode diff`: what changed between two versions, in files, tensors and values.

use std::collections::{BTreeMap, HashSet};

use lode_store::{
    ChunkHash, VersionId,
    name::NameRev,
    tree::{File, Tree},
};
use lode_tensors::{ByteRange, Difference, difference};

use crate::{
    EventSink, Node,
    command::{Diff, DiffRow, Failure, Outcome},
    models,
    read::TensorAt,
    resolve,
};

/// Bytes of two tensors that are compared at a time: a multiple of every block size in use.
const COMPARE_BYTES: u64 = 3 << 20;

/// One side of a comparison.
struct Side {
    id: VersionId,
    tree: std::sync::Arc<Tree>,
    tensors: BTreeMap<String, (String, TensorAt)>,
}

impl Side {
    fn open(node: &Node, name: &str) -> Result<Self, Failure> {
        let found = resolve::version(node, &name.parse::<NameRev>()?)?;
        let version = resolve::document(node, found.id)?;
        let tree = node.reads().tree(version.doc.tree)?;
        let layout = node.reads().layout(version.doc.tree)?;
        let mut tensors = BTreeMap::new();
        for file in layout.files() {
            for tensor in &file.tensors {
                tensors.insert(tensor.name.clone(), (file.path.clone(), tensor.clone()));
            }
        }
        Ok(Self {
            id: found.id,
            tree,
            tensors,
        })
    }

    fn chunks(&self, node: &Node) -> Result<HashSet<ChunkHash>, Failure> {
        let mut chunks = HashSet::new();
        models::for_chunks(node, &self.tree, |hash, _| {
            chunks.insert(hash);
        })?;
        Ok(chunks)
    }

    fn file(&self, path: &str) -> Result<&File, Failure> {
        self.tree
            .file(path)
            .ok_or_else(|| Failure::not_found(format!("the version has no file {path:?}")))
    }
}

/// Carries out a comparison. Blocks.
pub(crate) fn diff(
    node: &Node,
    from: &str,
    to: &str,
    stats: bool,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    events.start("diff", to);
    let (from, to) = (Side::open(node, from)?, Side::open(node, to)?);
    let chunks_from = from.chunks(node)?;
    let mut size_new = 0;
    let mut counted = HashSet::new();
    models::for_chunks(node, &to.tree, |hash, length| {
        if !chunks_from.contains(&hash) && counted.insert(hash) {
            size_new += u64::from(length);
        }
    })?;
    Ok(Outcome::Diff(Box::new(Diff {
        files: files(node, &from, &to, &chunks_from)?,
        tensors: tensors(node, &from, &to, stats, events)?,
        from: from.id.to_hex(),
        to: to.id.to_hex(),
        size_new,
    })))
}

fn files(
    node: &Node,
    from: &Side,
    to: &Side,
    chunks_from: &HashSet<ChunkHash>,
) -> Result<Vec<DiffRow>, Failure> {
    let paths: BTreeMap<&str, ()> = from
        .tree
        .files()
        .iter()
        .chain(to.tree.files())
        .map(|file| (file.path.as_str(), ()))
        .collect();
    let mut rows = Vec::new();
    for path in paths.into_keys() {
        match (from.tree.file(path), to.tree.file(path)) {
            (Some(before), None) => rows.push(row("removed", path, before.size, 0, before.size)),
            (None, Some(after)) => rows.push(row("added", path, 0, after.size, after.size)),
            (Some(before), Some(after)) if before != after => {
                let changed = match node.reads().file(after) {
                    Ok(reader) => reader
                        .chunks(ByteRange {
                            start: 0,
                            end: after.size,
                        })
                        .filter(|chunk| !chunks_from.contains(&chunk.hash))
                        .map(|chunk| u64::from(chunk.length))
                        .sum(),
                    Err(_) => after.size,
                };
                let mut row = row("changed", path, before.size, after.size, changed);
                if before.mode != after.mode {
                    row.detail = Some(format!(
                        "{} -> {}",
                        before.mode.as_str(),
                        after.mode.as_str()
                    ));
                }
                rows.push(row);
            }
            _ => {}
        }
    }
    Ok(rows)
}

fn row(change: &str, name: &str, size_from: u64, size_to: u64, size_changed: u64) -> DiffRow {
    DiffRow {
        change: change.to_owned(),
        name: name.to_owned(),
        size_from,
        size_to,
        size_changed,
        detail: None,
        max_abs: None,
        mean_abs: None,
    }
}

fn tensors(
    node: &Node,
    from: &Side,
    to: &Side,
    stats: bool,
    events: &EventSink,
) -> Result<Vec<DiffRow>, Failure> {
    let names: BTreeMap<&str, ()> = from
        .tensors
        .keys()
        .chain(to.tensors.keys())
        .map(|name| (name.as_str(), ()))
        .collect();
    let total: u64 = to
        .tensors
        .values()
        .map(|(_, tensor)| tensor.range.len())
        .sum();
    let (mut rows, mut done) = (Vec::new(), 0);
    for name in names.into_keys() {
        if events.is_cancelled() {
            return Err(Failure::cancelled());
        }
        let size = |side: &(String, TensorAt)| side.1.range.len();
        match (from.tensors.get(name), to.tensors.get(name)) {
            (Some(before), None) => rows.push(row("removed", name, size(before), 0, size(before))),
            (None, Some(after)) => rows.push(row("added", name, 0, size(after), size(after))),
            (Some(before), Some(after)) => {
                if let Some(row) = changed(node, (from, before), (to, after), stats)? {
                    rows.push(row);
                }
                done += size(after);
                events.progress("compare", done, total, 0);
            }
            (None, None) => {}
        }
    }
    Ok(rows)
}

/// The row of a tensor that both sides have, if it differs.
fn changed(
    node: &Node,
    (from, (from_path, before)): (&Side, &(String, TensorAt)),
    (to, (to_path, after)): (&Side, &(String, TensorAt)),
    stats: bool,
) -> Result<Option<DiffRow>, Failure> {
    let same_kind = before.dtype == after.dtype && before.shape == after.shape;
    let readers = (
        node.reads().file(from.file(from_path)?)?,
        node.reads().file(to.file(to_path)?)?,
    );
    // Equal chunks at equal places are equal bytes; only what is left is read.
    let chunks =
        |reader: &crate::read::FileReader, range: ByteRange| -> Vec<(ChunkHash, i128, u32)> {
            reader
                .chunks(range)
                .map(|chunk| {
                    (
                        chunk.hash,
                        i128::from(chunk.offset) - i128::from(range.start),
                        chunk.length,
                    )
                })
                .collect()
        };
    if same_kind && chunks(&readers.0, before.range) == chunks(&readers.1, after.range) {
        return Ok(None);
    }
    let mut row = row(
        "changed",
        &after.name,
        before.range.len(),
        after.range.len(),
        after.range.len(),
    );
    if !same_kind {
        row.detail = Some(format!(
            "{} {:?} -> {} {:?}",
            before.dtype, before.shape, after.dtype, after.shape
        ));
    }
    if before.shape != after.shape || before.range.len() != after.range.len() {
        return Ok(Some(row));
    }
    let mut sum = Difference::default();
    let (mut at, mut differing) = (0, 0);
    while at < after.range.len() {
        let end = (at + COMPARE_BYTES).min(after.range.len());
        let part = |range: ByteRange| ByteRange {
            start: range.start + at,
            end: range.start + end,
        };
        let (Ok(a), Ok(b)) = (
            readers.0.read_all(part(before.range)),
            readers.1.read_all(part(after.range)),
        ) else {
            // Not held: the row stands without figures.
            return Ok(Some(row));
        };
        differing += a.iter().zip(&b).filter(|(a, b)| a != b).count() as u64;
        if stats && let Some(part) = difference((before.dtype, &a), (after.dtype, &b)) {
            sum.merge(&part);
        }
        at = end;
    }
    if differing == 0 && same_kind {
        return Ok(None);
    }
    row.size_changed = differing;
    if stats && sum.compared > 0 {
        row.max_abs = Some(sum.largest);
        row.mean_abs = Some(sum.mean());
    }
    Ok(Some(row))
}
