//! `lode search`: the nearest points, by a vector or by a point's.

use lode_index::{
    PointId, Report, SearchRequest, SparseVector, Vector,
    view::{QueryVector, View, With, WithVectors},
};
use serde_json::Value;

use super::{
    Collections, check_made,
    points::{filter, row, warn_of_damage, with},
    usage,
};
use crate::{
    EventSink,
    collections::limits::POINTS_READ_MAX,
    command::{CollectionSearch, Failure, FailureKind, Outcome},
};

/// Finds the nearest points.
pub(super) fn search(
    collections: &Collections,
    request: &CollectionSearch,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    let open = collections.open_named(&request.name)?;
    check_made(
        &open,
        &request.using,
        request.embedder.as_deref(),
        request.metric.as_deref(),
    )?;
    let view = open.view();
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (query, like) = match (&request.vector, &request.like) {
        (Some(vector), None) => (vector_of(vector)?, None),
        (None, Some(id)) => {
            let id: PointId = id.parse().map_err(usage)?;
            (vector_of_point(&view, id, &request.using)?, Some(id))
        }
        _ => {
            return Err(usage(
                "search by a vector or by a point: --vector or --like",
            ));
        }
    };
    let limit = number(request.limit);
    if limit > POINTS_READ_MAX {
        return Err(usage(format!(
            "at most {POINTS_READ_MAX} points are found at once"
        )));
    }
    let search = SearchRequest {
        vector: request.using.clone(),
        query,
        filter: filter(request.filter.as_deref())?,
        // the point itself is its own nearest
        limit: limit.saturating_add(usize::from(like.is_some())),
        offset: number(request.offset),
        breadth: request.breadth.map(number),
        exact: request.exact,
        threshold: request.threshold,
    };
    let mut report = Report::default();
    let found = view
        .search_with(&search, &with(request.with_vectors), &mut report)
        .map_err(usage)?;
    warn_of_damage(&report, events);
    let others = found
        .into_iter()
        .filter(|(record, _)| Some(record.id) != like);
    let points = others
        .take(limit)
        .map(|(record, score)| row(record, Some(score), request.with_vectors));
    Ok(Outcome::Points {
        points: points.collect(),
        next: None,
    })
}

/// A vector as JSON: numbers, or dimensions and their values.
fn vector_of(value: &Value) -> Result<QueryVector, Failure> {
    let wrong = || usage("a vector is a list of numbers, or {\"indices\": [..], \"values\": [..]}");
    #[expect(clippy::cast_possible_truncation, reason = "vectors are singles")]
    let numbers = |value: &Value| -> Option<Vec<f32>> {
        let numbers = value.as_array()?.iter();
        numbers
            .map(|number| Some(number.as_f64()? as f32))
            .collect()
    };
    match value {
        Value::Array(_) => numbers(value).map(QueryVector::Dense).ok_or_else(wrong),
        Value::Object(map) => {
            let indices: Vec<u32> = map
                .get("indices")
                .and_then(|indices| serde_json::from_value(indices.clone()).ok())
                .ok_or_else(wrong)?;
            let values = map.get("values").and_then(numbers).ok_or_else(wrong)?;
            let sparse = SparseVector::new(&indices, &values).map_err(usage)?;
            Ok(QueryVector::Sparse(sparse))
        }
        _ => Err(wrong()),
    }
}

fn vector_of_point(view: &View, id: PointId, using: &str) -> Result<QueryVector, Failure> {
    let with = With {
        payload: false,
        vectors: WithVectors::Named(vec![using.to_owned()]),
    };
    let found = view
        .retrieve(&[id], &with)
        .map_err(|error| Failure::new(FailureKind::Corrupt, error.to_string()))?;
    let mut record = found
        .into_iter()
        .next()
        .ok_or_else(|| Failure::not_found(format!("there is no point {id}")))?;
    match record.vectors.remove(using) {
        Some(Vector::Dense(numbers)) => Ok(QueryVector::Dense(numbers)),
        Some(Vector::Sparse(sparse)) => Ok(QueryVector::Sparse(sparse)),
        None => Err(Failure::not_found(format!(
            "point {id} has no vector {using:?}"
        ))),
    }
}
