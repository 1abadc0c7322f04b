//! Handlers that change points. Whatever `wait` says, a change is done and durable when it is answered.

use std::{cell::Cell, collections::BTreeSet, fmt, time::Instant};

use lode_index::{
    Payload, PointId,
    operation::{Operation, Selection},
    payload::PayloadPath,
};
use lode_node::collections::CollectionsError;
use serde::{
    Deserialize,
    de::{self, Deserializer, MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

use super::{
    blocking,
    body::{As, take},
    done,
    json::{self, Bounded, Fields, format_error, point_ids, texts},
    not_supported, points,
    run::{damaged, no_vector, wrong_dim},
    wrong_input,
};
use crate::{
    answer::{Answer, Problem},
    collections::Writable,
    limits::{QDRANT_CHANGES_MAX, QDRANT_VALUE_BYTES_MAX},
    route::Request,
    writer::Writer,
};

/// Does what a body asks for.
async fn with(
    writer: Writer,
    mut request: Request,
    what: As,
    read: impl FnOnce(&[u8]) -> Result<Operation, Problem> + Send + 'static,
) -> Answer {
    let started = Instant::now();
    let name = request.params.get("collection").to_owned();
    let wait = waits(&request);
    let body = take(&mut request, what).await?;
    blocking(move || {
        let collection = writer.collection(&name)?;
        let operation = read(&body.bytes)?;
        let result = apply(&collection, operation, wait)?;
        done(started, &result)
    })
    .await
}

/// Whether the client says that it waits: the answer says then that all is done.
fn waits(request: &Request) -> bool {
    request.target.query("wait") == Some("true")
}

/// Does an operation, and says so as Qdrant does.
fn apply(collection: &Writable, operation: Operation, wait: bool) -> Result<Value, Problem> {
    let ids = named(&operation);
    if ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(wrong_input("Empty update request"));
    }
    if let Operation::DeleteVectors { names, .. } = &operation {
        let view = collection.readable().view();
        let config = view.config();
        let known = |name: &&String| {
            !config.vectors.contains_key(*name) && !config.sparse.contains_key(*name)
        };
        if let Some(name) = names.iter().find(known) {
            return Err(no_vector(name));
        }
    }
    let must_exist = !matches!(operation, Operation::Upsert(_) | Operation::Delete(_));
    let applied = collection.apply(operation).map_err(engine_problem)?;
    if let Some(ids) = ids.filter(|_| must_exist) {
        let distinct: BTreeSet<PointId> = ids.iter().copied().collect();
        if applied.points < distinct.len() as u64 {
            missing(collection, &ids)?;
        }
    }
    let status = if wait { "completed" } else { "acknowledged" };
    Ok(json!({ "operation_id": applied.sequence, "status": status }))
}

/// The points that an operation names.
fn named(operation: &Operation) -> Option<Vec<PointId>> {
    match operation {
        Operation::Upsert(points) => Some(points.iter().map(|point| point.id).collect()),
        Operation::UpdateVectors(points) => Some(points.iter().map(|(id, _)| *id).collect()),
        Operation::Delete(of)
        | Operation::SetPayload { of, .. }
        | Operation::OverwritePayload { of, .. }
        | Operation::DeletePayload { of, .. }
        | Operation::ClearPayload { of }
        | Operation::DeleteVectors { of, .. } => match of {
            Selection::Ids(ids) => Some(ids.clone()),
            Selection::Filter(_) => None,
        },
        _ => None,
    }
}

/// 404 for the first point that is not there. What was asked of the others is done: so it is with Qdrant.
fn missing(collection: &Writable, ids: &[PointId]) -> Result<(), Problem> {
    let view = collection.readable().view();
    for id in ids {
        let found = view
            .retrieve(&[*id], &lode_index::view::With::default())
            .map_err(damaged)?;
        if found.is_empty() {
            return Err(Problem::not_found(format!(
                "Not found: No point with id {id} found"
            )));
        }
    }
    Ok(())
}

/// What the engine says of points, in Qdrant's words where it has some.
pub(super) fn engine_problem(error: CollectionsError) -> Problem {
    use lode_index::{CollectionError, point::VectorError, vectors};
    let CollectionsError::Index {
        source: CollectionError::Vector { point, source },
        ..
    } = &error
    else {
        return error.into();
    };
    match source {
        VectorError::Unknown { name } => no_vector(name),
        VectorError::Dense {
            source: vectors::VectorError::Dim { expected, found },
            ..
        } => wrong_dim(*expected, *found),
        source => wrong_input(format!("point {point}: {source}")),
    }
}

/// `PUT /collections/{collection}/points`
pub(super) async fn upsert(writer: Writer, request: Request) -> Answer {
    with(writer, request, As::Points, |body| {
        Ok(Operation::Upsert(points::upsert(body)?))
    })
    .await
}

/// `PUT /collections/{collection}/points/vectors`
pub(super) async fn update_vectors(writer: Writer, request: Request) -> Answer {
    with(writer, request, As::Points, |body| {
        Ok(Operation::UpdateVectors(points::updates(body)?))
    })
    .await
}

/// `POST /collections/{collection}/points/delete`
pub(super) async fn delete(writer: Writer, request: Request) -> Answer {
    other(writer, request, "delete").await
}

/// `POST /collections/{collection}/points/payload`
pub(super) async fn set_payload(writer: Writer, request: Request) -> Answer {
    other(writer, request, "set_payload").await
}

/// `PUT /collections/{collection}/points/payload`
pub(super) async fn overwrite_payload(writer: Writer, request: Request) -> Answer {
    other(writer, request, "overwrite_payload").await
}

/// `POST /collections/{collection}/points/payload/delete`
pub(super) async fn delete_payload(writer: Writer, request: Request) -> Answer {
    other(writer, request, "delete_payload").await
}

/// `POST /collections/{collection}/points/payload/clear`
pub(super) async fn clear_payload(writer: Writer, request: Request) -> Answer {
    other(writer, request, "clear_payload").await
}

/// `POST /collections/{collection}/points/vectors/delete`
pub(super) async fn delete_vectors(writer: Writer, request: Request) -> Answer {
    other(writer, request, "delete_vectors").await
}

async fn other(writer: Writer, request: Request, kind: &'static str) -> Answer {
    with(writer, request, As::Values, move |body| {
        change(kind, &json::object(body)?)
    })
    .await
}

/// `POST /collections/{collection}/points/batch`
pub(super) async fn batch(writer: Writer, mut request: Request) -> Answer {
    let started = Instant::now();
    let name = request.params.get("collection").to_owned();
    let wait = waits(&request);
    let body = take(&mut request, As::Values).await?;
    blocking(move || {
        let collection = writer.collection(&name)?;
        let operations = changes(&body.bytes)?;
        drop(body);
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(apply(&collection, operation, wait)?);
        }
        done(started, &results)
    })
    .await
}

/// The changes of a batch.
///
/// # Errors
/// 400 for what is not of the grammar, not done, or past a bound; then nothing of it is done.
pub fn changes(bytes: &[u8]) -> Result<Vec<Operation>, Problem> {
    let body: Batch = serde_json::from_slice(bytes).map_err(format_error)?;
    if body.operations.len() > QDRANT_CHANGES_MAX {
        return Err(wrong_input(format!(
            "more than {QDRANT_CHANGES_MAX} operations in one batch"
        )));
    }
    let operation = |change| match change {
        Change::Upsert(body) => Ok(Operation::Upsert(body.into_points()?)),
        Change::Update(body) => Ok(Operation::UpdateVectors(body.into_updates()?)),
        Change::Other(kind, value) => match &value {
            Value::Object(map) => self::change(&kind, map),
            _ => Err(format_error("an operation is no object")),
        },
    };
    body.operations.into_iter().map(operation).collect()
}

/// The change of a kind that a body is.
///
/// # Errors
/// As [`changes`].
pub fn change(kind: &str, body: &Map<String, Value>) -> Result<Operation, Problem> {
    let mut fields = Fields::new(body);
    let operation = match kind {
        "delete" | "delete_points" => Operation::Delete(selection(&mut fields)?),
        "clear_payload" => Operation::ClearPayload {
            of: selection(&mut fields)?,
        },
        "set_payload" => Operation::SetPayload {
            payload: payload(&mut fields)?,
            path: fields.text("key")?.map(path).transpose()?,
            of: selection(&mut fields)?,
        },
        "overwrite_payload" => Operation::OverwritePayload {
            payload: payload(&mut fields)?,
            of: selection(&mut fields)?,
        },
        "delete_payload" => {
            let keys = fields.list("keys")?;
            let keys = keys.ok_or_else(|| format_error("missing field `keys`"))?;
            let paths = texts(keys, "keys")?;
            Operation::DeletePayload {
                paths: paths
                    .iter()
                    .map(|key| path(key))
                    .collect::<Result<_, _>>()?,
                of: selection(&mut fields)?,
            }
        }
        "delete_vectors" => {
            let names = fields.list("vector")?;
            let names = names.ok_or_else(|| format_error("missing field `vector`"))?;
            Operation::DeleteVectors {
                names: texts(names, "vector")?,
                of: selection(&mut fields)?,
            }
        }
        _ => {
            let kind: String = kind.chars().take(100).collect();
            return Err(not_supported(&format!("the operation `{kind}`")));
        }
    };
    fields.end()?;
    Ok(operation)
}

/// Points by ids or by a filter.
fn selection(fields: &mut Fields<'_>) -> Result<Selection, Problem> {
    let ids = fields
        .list("points")?
        .map(|ids| point_ids(ids))
        .transpose()?;
    match (ids, fields.filter("filter")?) {
        (Some(ids), None) => Ok(Selection::Ids(ids)),
        (None, Some(filter)) => Ok(Selection::Filter(filter)),
        _ => Err(format_error("expected one of `points` and `filter`")),
    }
}

fn payload(fields: &mut Fields<'_>) -> Result<Payload, Problem> {
    Payload::from_json(fields.need("payload")?).map_err(format_error)
}

fn path(text: &str) -> Result<PayloadPath, Problem> {
    text.parse().map_err(format_error)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    operations: Vec<Change>,
}

/// One change of a batch. Points are read as such; all else is small.
enum Change {
    Upsert(points::Body),
    Update(points::UpdatesBody),
    Other(String, Value),
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Changes;
        impl<'de> Visitor<'de> for Changes {
            type Value = Change;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the name of an operation as its only key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Change, A::Error> {
                let key: Option<String> = entries.next_key()?;
                let change = match key.as_deref() {
                    None => return Err(de::Error::custom("an operation without a name")),
                    Some("upsert") => Change::Upsert(entries.next_value()?),
                    Some("update_vectors") => Change::Update(entries.next_value()?),
                    Some(other) => {
                        let left = Cell::new(QDRANT_VALUE_BYTES_MAX);
                        let value = entries.next_value_seed(Bounded(&left))?;
                        Change::Other(other.to_owned(), value)
                    }
                };
                match entries.next_key::<String>()? {
                    None => Ok(change),
                    Some(_) => Err(de::Error::custom("an operation has one name")),
                }
            }
        }
        deserializer.deserialize_map(Changes)
    }
}
