//! Reading and deleting points by id, by filter, or in order.

use lode_index::{
    Filter, PointId, Report, Vector,
    operation::{Operation, Selection},
    view::{Record, With, WithVectors},
};
use serde_json::{Map, Value, json};

use super::{Collections, usage};
use crate::{
    EventSink,
    collections::limits::POINTS_READ_MAX,
    command::{CollectionPoints, CollectionSelect, Failure, Outcome, PointRow},
};

/// A filter in its short form, or as JSON in Qdrant's grammar; all points without one.
pub(super) fn filter(text: Option<&str>) -> Result<Filter, Failure> {
    let Some(text) = text else {
        return Ok(Filter::default());
    };
    if text.trim_start().starts_with('{') {
        let json: Value = serde_json::from_str(text).map_err(usage)?;
        return Filter::from_json(&json).map_err(usage);
    }
    text.parse().map_err(usage)
}

/// Says what of an answer is missing, since a part could not be read.
pub(super) fn warn_of_damage(report: &Report, events: &EventSink) {
    for part in &report.damaged {
        events.warn(format!("points of a damaged part are missing: {part}"));
    }
}

pub(super) fn row(record: Record, score: Option<f32>, with_vectors: bool) -> PointRow {
    let payload = match record.payload.map(|payload| payload.to_json()) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let vector = |vector: Vector| match vector {
        Vector::Dense(numbers) => json!(numbers),
        Vector::Sparse(sparse) => {
            json!({"indices": sparse.indices(), "values": sparse.values()})
        }
    };
    let vectors = record
        .vectors
        .into_iter()
        .map(|(name, value)| (name, vector(value)));
    PointRow {
        id: record.id.to_json(),
        score,
        payload,
        vectors: with_vectors.then(|| vectors.collect()),
    }
}

pub(super) fn with(vectors: bool) -> With {
    With {
        payload: true,
        vectors: match vectors {
            true => WithVectors::All,
            false => WithVectors::None,
        },
    }
}

/// `lode collection points`.
pub(super) fn read(
    collections: &Collections,
    request: &CollectionPoints,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    if limit > POINTS_READ_MAX || request.ids.len() > POINTS_READ_MAX {
        return Err(usage(format!(
            "at most {POINTS_READ_MAX} points are read at once"
        )));
    }
    let open = collections.open_named(&request.name)?;
    let view = open.view();
    let with = with(request.with_vectors);
    if !request.ids.is_empty() {
        let records = view.retrieve(&ids(&request.ids)?, &with).map_err(|error| {
            Failure::new(crate::command::FailureKind::Corrupt, error.to_string())
        })?;
        let points = records
            .into_iter()
            .map(|record| row(record, None, request.with_vectors));
        let (points, next) = (points.collect(), None);
        return Ok(Outcome::Points { points, next });
    }
    let from = request
        .from
        .as_deref()
        .map(|text| text.parse().map_err(usage))
        .transpose()?;
    let mut report = Report::default();
    let page = view.scroll(
        from,
        limit,
        &filter(request.filter.as_deref())?,
        &with,
        &mut report,
    );
    warn_of_damage(&report, events);
    let points = page
        .records
        .into_iter()
        .map(|record| row(record, None, request.with_vectors));
    Ok(Outcome::Points {
        points: points.collect(),
        next: page.next.map(|id| id.to_string()),
    })
}

fn ids(texts: &[String]) -> Result<Vec<PointId>, Failure> {
    texts
        .iter()
        .map(|text| text.parse().map_err(usage))
        .collect()
}

/// `lode collection delete-points`.
pub(super) fn delete(
    collections: &Collections,
    request: &CollectionSelect,
) -> Result<Outcome, Failure> {
    let of = match (&request.ids[..], &request.filter) {
        ([], None) => return Err(usage("name points by their ids, or by a filter")),
        ([], Some(text)) => match filter(Some(text))? {
            all if all.is_empty() => return Err(usage("an empty filter would delete every point")),
            some => Selection::Filter(some),
        },
        (some, None) => Selection::Ids(ids(some)?),
        (_, Some(_)) => return Err(usage("points are deleted by ids or by a filter, not both")),
    };
    let open = collections.open_named(&request.name)?;
    let points = open.apply(Operation::Delete(of))?.points;
    Ok(Outcome::PointsChanged { points })
}
