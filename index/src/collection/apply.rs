//! What an operation does to a state: a function of both alone, the same when the log is replayed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::CollectionError;
use crate::{
    bytes::{Reader, write_sized},
    filter::Filter,
    id::PointId,
    live::StoredPoint,
    operation::{Operation, Selection},
    payload::{Payload, PayloadError},
    point::{Point, StoredVectors},
    schema::CollectionConfig,
    state::{PartKey, State},
    view::{Report, select_rows},
};

/// An operation that was checked, with the vectors of its points as they are stored.
#[derive(Debug)]
pub(super) struct Prepared {
    operation: Operation,
    vectors: Vec<StoredVectors>,
}

impl Prepared {
    /// Checks an operation before anything of it is done.
    pub(super) fn new(
        operation: Operation,
        config: &CollectionConfig,
    ) -> Result<Self, CollectionError> {
        let encode = |point: PointId, vectors| {
            StoredVectors::encode(vectors, config)
                .map_err(|source| CollectionError::Vector { point, source })
        };
        let vectors = match &operation {
            Operation::Upsert(points) => points
                .iter()
                .map(|point| encode(point.id, &point.vectors))
                .collect(),
            Operation::UpdateVectors(points) => points
                .iter()
                .map(|(id, vectors)| encode(*id, vectors))
                .collect(),
            _ => Ok(Vec::new()),
        };
        Ok(Self {
            vectors: vectors?,
            operation,
        })
    }

    /// Does the operation; how many points it was about.
    pub(super) fn apply(self, state: &mut State) -> Result<u64, CollectionError> {
        state.sequence += 1;
        let Self { operation, vectors } = self;
        match operation {
            Operation::Upsert(points) => upsert(state, points, vectors),
            Operation::Delete(of) => {
                let rows = rows_of(state, of)?;
                rows.iter().for_each(|(key, row)| state.kill(*key, *row));
                Ok(rows.len() as u64)
            }
            Operation::SetPayload { of, payload, path } => {
                let with = payload.to_json();
                let with = with.as_object().cloned().unwrap_or_default();
                change(state, of, &mut |point| {
                    let mut value = point.payload.to_json();
                    match (&path, &mut value) {
                        (Some(path), value) => path.merge(value, &with),
                        (None, serde_json::Value::Object(map)) => map.extend(with.clone()),
                        (None, _) => {}
                    }
                    point.payload = kept(&value, &point.payload)?;
                    Ok(())
                })
            }
            Operation::OverwritePayload { of, payload } => change(state, of, &mut |point| {
                point.payload = payload.clone();
                Ok(())
            }),
            Operation::DeletePayload { of, paths } => change(state, of, &mut |point| {
                let mut value = point.payload.to_json();
                paths.iter().for_each(|path| path.remove(&mut value));
                point.payload = kept(&value, &point.payload)?;
                Ok(())
            }),
            Operation::ClearPayload { of } => change(state, of, &mut |point| {
                point.payload = Payload::empty();
                Ok(())
            }),
            Operation::UpdateVectors(points) => {
                let mut count = 0;
                for ((id, _), new) in points.into_iter().zip(vectors) {
                    let of = Selection::Ids(vec![id]);
                    count += change(state, of, &mut |point| {
                        point.vectors.dense.extend(new.dense.clone());
                        point.vectors.sparse.extend(new.sparse.clone());
                        Ok(())
                    })?;
                }
                Ok(count)
            }
            Operation::DeleteVectors { of, names } => change(state, of, &mut |point| {
                for name in &names {
                    point.vectors.dense.remove(name);
                    point.vectors.sparse.remove(name);
                }
                Ok(())
            }),
            Operation::CreateIndex { path, kind } => {
                let mut config = (*state.config).clone();
                config.schema.insert(path, kind)?;
                state.config = Arc::new(config);
                Ok(0)
            }
            Operation::DeleteIndex { path } => {
                let mut config = (*state.config).clone();
                config.schema.remove(&path);
                state.config = Arc::new(config);
                Ok(0)
            }
        }
    }
}

/// The payload of changed JSON; one that grew past its bound stays as it was.
fn kept(value: &serde_json::Value, before: &Payload) -> Result<Payload, CollectionError> {
    match Payload::from_json(value) {
        Ok(payload) => Ok(payload),
        Err(PayloadError::TooLong { .. } | PayloadError::TooDeep) => Ok(before.clone()),
        Err(error) => Err(CollectionError::Replay(error.to_string())),
    }
}

fn upsert(
    state: &mut State,
    points: Vec<Point>,
    vectors: Vec<StoredVectors>,
) -> Result<u64, CollectionError> {
    let last: HashMap<PointId, usize> = points
        .iter()
        .enumerate()
        .map(|(at, point)| (point.id, at))
        .collect();
    let count = last.len() as u64;
    for (at, (point, vectors)) in points.into_iter().zip(vectors).enumerate() {
        if last[&point.id] != at {
            continue;
        }
        if let Some((key, row)) = state.find(point.id)? {
            state.kill(key, row);
        }
        let version = state.sequence;
        state.push(StoredPoint {
            id: point.id,
            version,
            payload: point.payload,
            vectors,
        });
    }
    Ok(count)
}

/// Replaces each point that is selected by a changed one.
fn change(
    state: &mut State,
    of: Selection,
    with: &mut dyn FnMut(&mut StoredPoint) -> Result<(), CollectionError>,
) -> Result<u64, CollectionError> {
    let rows = rows_of(state, of)?;
    for (key, row) in &rows {
        let mut point = state.stored(*key, *row)?;
        with(&mut point)?;
        point.version = state.sequence;
        state.kill(*key, *row);
        state.push(point);
    }
    Ok(rows.len() as u64)
}

/// The rows that are alive and selected, in an order that depends on the points alone.
fn rows_of(state: &State, of: Selection) -> Result<Vec<(PartKey, u32)>, CollectionError> {
    match of {
        Selection::Ids(ids) => {
            let ids: std::collections::BTreeSet<PointId> = ids.into_iter().collect();
            let found = ids.into_iter().filter_map(|id| state.find(id).transpose());
            Ok(found.collect::<Result<_, _>>()?)
        }
        Selection::Filter(filter) => selected(state, filter),
    }
}

fn selected(state: &State, mut filter: Filter) -> Result<Vec<(PartKey, u32)>, CollectionError> {
    filter.bind(&state.config.schema);
    let mut by_id = BTreeMap::new();
    for view in state.parts() {
        for row in select_rows(view, &filter, &mut Report::default())? {
            by_id.insert(view.part.id(row)?, (view.key, row));
        }
    }
    Ok(by_id.into_values().collect())
}

/// Appends an operation to a group.
pub(super) fn push_operation(operation: &[u8], group: &mut Vec<u8>) {
    write_sized(operation, group);
}

/// Does the operations of a group of the log.
pub(super) fn replay_group(state: &mut State, group: &[u8]) -> Result<(), CollectionError> {
    let wrong = |what: String| CollectionError::Replay(what);
    let mut reader = Reader::new(group);
    while !reader.is_at_end() {
        let bytes = reader.sized().ok_or_else(|| wrong("cut short".into()))?;
        let operation = Operation::decode(bytes).map_err(|error| wrong(error.to_string()))?;
        Prepared::new(operation, &state.config)?.apply(state)?;
    }
    Ok(())
}
