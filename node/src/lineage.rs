//! `lode lineage`: what a version was made from, and what was made from it.

use std::collections::{HashMap, HashSet};

use lode_store::{ChunkHash, VersionId, name::NameRev};

use crate::{
    Node,
    command::{Failure, LineageRow, Outcome},
    models, publisher, resolve,
};

/// Rows at most: lineages are looked at by people.
const ROWS_MAX: usize = 1000;

/// Carries out the command. Blocks.
pub(crate) fn lineage(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let found = resolve::version(node, &name.parse::<NameRev>()?)?;
    let own = chunks(node, found.id);
    let mut rows = Vec::new();
    let mut seen = HashSet::new();
    let mut todo = vec![(0, "self", found.id)];
    while let Some((depth, relation, id)) = todo.pop() {
        if !seen.insert(id) || rows.len() == ROWS_MAX {
            continue;
        }
        rows.push(row(node, depth, relation, id, &own)?);
        if let Ok(version) = resolve::document(node, id) {
            todo.extend(
                version
                    .doc
                    .links
                    .base
                    .iter()
                    .map(|base| (depth + 1, "base", *base)),
            );
            todo.extend(
                version
                    .doc
                    .parents
                    .iter()
                    .rev()
                    .map(|parent| (depth + 1, "parent", *parent)),
            );
        }
    }
    let mut below = vec![(0, found.id)];
    let kept = resolve::kept(node)?;
    while let Some((depth, of)) = below.pop() {
        for id in &kept {
            let Ok(version) = resolve::document(node, *id) else {
                continue;
            };
            let relation = if version.doc.links.base.contains(&of) {
                "derived"
            } else if version.doc.parents.contains(&of) {
                "child"
            } else {
                continue;
            };
            if seen.insert(*id) && rows.len() < ROWS_MAX {
                rows.push(row(node, depth - 1, relation, *id, &own)?);
                below.push((depth - 1, *id));
            }
        }
    }
    rows.sort_by_key(|row| row.depth);
    Ok(Outcome::Lineage { rows })
}

fn row(
    node: &Node,
    depth: i32,
    relation: &str,
    id: VersionId,
    own: &Option<HashMap<ChunkHash, u64>>,
) -> Result<LineageRow, Failure> {
    let name = match resolve::document(node, id) {
        Ok(version) => match version.doc.publisher {
            Some(publisher) => Some(publisher::shown_name(node, &publisher, &version.doc.model)?),
            None => Some(version.doc.model),
        },
        Err(_) => None,
    };
    let shared = match (own, chunks(node, id)) {
        (Some(own), Some(other)) => share(own, &other),
        _ => None,
    };
    Ok(LineageRow {
        depth,
        relation: relation.to_owned(),
        version: id.to_hex(),
        name,
        shared,
    })
}

/// The part of `own` bytes that `other` has too.
#[allow(clippy::cast_precision_loss, reason = "a share for people")]
fn share(own: &HashMap<ChunkHash, u64>, other: &HashMap<ChunkHash, u64>) -> Option<f64> {
    let total: u64 = own.values().sum();
    let shared: u64 = own
        .iter()
        .filter(|(hash, _)| other.contains_key(*hash))
        .map(|(_, n)| n)
        .sum();
    (total > 0).then(|| shared as f64 / total as f64)
}

fn chunks(node: &Node, id: VersionId) -> Option<HashMap<ChunkHash, u64>> {
    let tree = resolve::tree(node, id).ok()?;
    let mut chunks = HashMap::new();
    models::for_chunks(node, &tree, |hash, length| {
        chunks.insert(hash, u64::from(length));
    })
    .ok()?;
    Some(chunks)
}
