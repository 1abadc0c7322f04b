//! Handlers of collections as such: lists, configuration, payload indexes.

use std::time::Instant;

use hyper::StatusCode;
use lode_index::{Filter, filter::Condition, operation::Operation, view::Report};
use lode_node::command::FailureKind;
use serde_json::{Map, Value, json};

use super::{
    blocking,
    body::{As, take},
    change::engine_problem,
    config, done,
    json::{self, format_error},
    run::noted,
};
use crate::{
    answer::{Answer, Problem},
    reader::Reader,
    route::Request,
    writer::Writer,
};

/// `GET /collections`
pub(super) async fn list(reader: Reader, _: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let mut rows = Vec::new();
        for at in reader.collections()? {
            rows.push(json!({ "name": reader.collection_name(&at)? }));
        }
        done(started, &json!({ "collections": rows }))
    })
    .await
}

/// `GET /collections/{collection}/exists`
pub(super) async fn exists(reader: Reader, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let name = request.params.get("collection");
        let exists = match reader.find_collection(name) {
            Ok(_) => true,
            Err(problem) if problem.kind() == FailureKind::NotFound => false,
            Err(problem) => return Err(problem),
        };
        done(started, &json!({ "exists": exists }))
    })
    .await
}

/// `GET /collections/{collection}`
pub(super) async fn show(reader: Reader, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let collection = reader.collection(request.params.get("collection"))?;
        let view = collection.view();
        let mut report = Report::default();
        let mut schema = Map::new();
        for (path, kind) in view.config().schema.iter() {
            let with = Filter {
                must_not: vec![Condition::IsEmpty(path.clone())],
                ..Filter::default()
            };
            let points = view.count(&with, &mut report);
            schema.insert(path.to_string(), config::shown_index(kind, points));
        }
        noted(&report);
        let damaged = view.damaged().first().map(|damaged| damaged.what.clone());
        let (status, optimizer) = match damaged.or(collection.trouble()) {
            Some(what) => ("red", json!({ "error": what })),
            None => ("green", json!("ok")),
        };
        let shown = json!({
            "status": status,
            "optimizer_status": optimizer,
            "indexed_vectors_count": view.indexed_vectors(),
            "points_count": view.len(),
            "segments_count": view.segments() + 1,
            "config": config::shown(view.config()),
            "payload_schema": schema,
        });
        done(started, &shown)
    })
    .await
}

/// `PUT /collections/{collection}`
pub(super) async fn create(writer: Writer, mut request: Request) -> Answer {
    let started = Instant::now();
    let name = request.params.get("collection").to_owned();
    let body = take(&mut request, As::Values).await?;
    blocking(move || {
        let config = config::create(&json::object(&body.bytes)?)?;
        let made = writer.create_collection(&name, config, false);
        made.map_err(|problem| match problem.status() {
            StatusCode::CONFLICT => Problem::new(
                StatusCode::CONFLICT,
                FailureKind::Refused,
                format!("Wrong input: Collection `{name}` already exists!"),
            ),
            _ => problem,
        })?;
        done(started, &true)
    })
    .await
}

/// `PATCH /collections/{collection}`
pub(super) async fn update(writer: Writer, mut request: Request) -> Answer {
    let started = Instant::now();
    let name = request.params.get("collection").to_owned();
    let body = take(&mut request, As::Values).await?;
    blocking(move || {
        writer.collection(&name)?;
        config::update(&json::object(&body.bytes)?)?;
        done(started, &true)
    })
    .await
}

/// `DELETE /collections/{collection}`
pub(super) async fn delete(writer: Writer, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        // one that is not there is no failure to Qdrant; whether it may be seen is not told either
        let deleted = match writer.delete_collection(request.params.get("collection")) {
            Ok(()) => true,
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => false,
            Err(problem) => return Err(problem),
        };
        done(started, &deleted)
    })
    .await
}

/// `PUT /collections/{collection}/index`
pub(super) async fn create_index(writer: Writer, mut request: Request) -> Answer {
    let started = Instant::now();
    let name = request.params.get("collection").to_owned();
    let body = take(&mut request, As::Values).await?;
    blocking(move || {
        let collection = writer.collection(&name)?;
        let (field, kind) = config::index(&json::object(&body.bytes)?)?;
        let path = field.parse().map_err(format_error)?;
        let applied = collection
            .apply(Operation::CreateIndex { path, kind })
            .map_err(engine_problem)?;
        done(started, &completed(applied.sequence))
    })
    .await
}

/// `DELETE /collections/{collection}/index/{field}`
pub(super) async fn delete_index(writer: Writer, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let collection = writer.collection(request.params.get("collection"))?;
        let path = request.params.get("field").parse().map_err(format_error)?;
        let applied = collection
            .apply(Operation::DeleteIndex { path })
            .map_err(engine_problem)?;
        done(started, &completed(applied.sequence))
    })
    .await
}

fn completed(sequence: u64) -> Value {
    json!({ "operation_id": sequence, "status": "completed" })
}
