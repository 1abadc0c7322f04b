//! Handlers that read points: queries, pages of points, points by id, counts and facets.

use std::time::Instant;

use lode_index::{
    Filter,
    view::{FacetRequest, Report},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    ask::{self, Ask, Shown},
    body::{As, take},
    done, invalid,
    json::{self, Fields, format_error, point_id, point_ids},
    reading,
    run::{Asked, STEP_POINTS, damaged, noted},
    show::{PointJson, Room},
    wrong_input,
};
use crate::{
    answer::{Answer, Problem},
    collections::Readable,
    reader::Reader,
    route::Request,
};

/// Reads the body and a collection, and does `work` with both.
async fn with(
    reader: Reader,
    mut request: Request,
    work: impl FnOnce(&Readable, &Map<String, Value>, Instant) -> Answer + Send + 'static,
) -> Answer {
    let started = Instant::now();
    let name = request.params.get("collection").to_owned();
    let body = take(&mut request, As::Values).await?;
    reading(move || {
        let collection = reader.collection(&name)?;
        let map = json::object(&body.bytes)?;
        work(&collection, &map, started)
    })
    .await
}

#[derive(Serialize)]
struct Points {
    points: Vec<PointJson>,
}

/// `POST /collections/{collection}/points/query`
pub(super) async fn query(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let (ask, shown) = ask::query(body)?;
        let points = answer_one(collection, &ask, &shown, &mut Room::default())?;
        done(started, &Points { points })
    })
    .await
}

fn answer_one(
    collection: &Readable,
    ask: &Ask,
    shown: &Shown,
    room: &mut Room,
) -> Result<Vec<PointJson>, Problem> {
    let view = collection.view();
    Asked { view: &view }.points(ask, shown, room)
}

/// `POST /collections/{collection}/points/query/batch`
pub(super) async fn query_batch(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let mut room = Room::default();
        let mut answers = Vec::new();
        for (ask, shown) in ask::queries(body)? {
            let points = answer_one(collection, &ask, &shown, &mut room)?;
            answers.push(Points { points });
        }
        done(started, &answers)
    })
    .await
}

/// `POST /collections/{collection}/points/query/groups`
pub(super) async fn query_groups(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let groups = ask::groups(body)?;
        let view = collection.view();
        let found = Asked { view: &view }.groups(&groups)?;
        let group = |(id, hits): (Value, Vec<PointJson>)| json!({ "id": id, "hits": hits });
        let groups: Vec<Value> = found.into_iter().map(group).collect();
        done(started, &json!({ "groups": groups }))
    })
    .await
}

/// `POST /collections/{collection}/points/search`
pub(super) async fn search(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let (ask, shown) = ask::search(body)?;
        let points = answer_one(collection, &ask, &shown, &mut Room::default())?;
        done(started, &points)
    })
    .await
}

/// `POST /collections/{collection}/points/search/batch`
pub(super) async fn search_batch(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let mut room = Room::default();
        let mut answers = Vec::new();
        for (ask, shown) in ask::searches(body)? {
            answers.push(answer_one(collection, &ask, &shown, &mut room)?);
        }
        done(started, &answers)
    })
    .await
}

/// `POST /collections/{collection}/points/scroll`
pub(super) async fn scroll(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let mut fields = Fields::new(body);
        let from = fields.get("offset").map(point_id).transpose()?;
        let limit = fields.count("limit")?.unwrap_or(10);
        let filter = fields.filter("filter")?.unwrap_or_default();
        let order = fields.get("order_by").map(ask::order_by).transpose()?;
        let shown = ask::shown(&mut fields, true)?;
        fields.end()?;
        if limit > lode_index::limits::RESULTS_MAX {
            let max = lode_index::limits::RESULTS_MAX;
            return Err(invalid(format!(
                "limit: value {limit} invalid, must be {max} or lower"
            )));
        }
        let view = collection.view();
        let (mut room, mut points) = (Room::default(), Vec::new());
        if let Some(order) = order {
            if from.is_some() {
                return Err(wrong_input(
                    "`offset` and `order_by` are not for one scroll: go on with `start_from`",
                ));
            }
            let asked = Asked { view: &view };
            let found = asked.ordered(&filter, &order, (0, limit), &shown, &mut room)?;
            points.extend(found.into_iter().map(PointJson::without_score));
            let page = json!({ "points": points, "next_page_offset": null });
            return done(started, &page);
        }
        let mut next = from;
        // in steps, so that what is too much for one answer is known before it is in memory
        loop {
            let mut report = Report::default();
            let step = (limit - points.len()).min(STEP_POINTS);
            let page = view.scroll(next, step, &filter, &shown.with(), &mut report);
            noted(&report);
            for record in page.records {
                room.take(&record)?;
                points.push(shown.point(record, None));
            }
            next = page.next;
            if next.is_none() || points.len() >= limit {
                break;
            }
        }
        let next = next.map(lode_index::PointId::to_json);
        done(
            started,
            &json!({ "points": points, "next_page_offset": next }),
        )
    })
    .await
}

/// `POST /collections/{collection}/points`
pub(super) async fn retrieve(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let mut fields = Fields::new(body);
        let ids = fields.list("ids")?;
        let ids = point_ids(ids.ok_or_else(|| format_error("missing field `ids`"))?)?;
        let shown = ask::shown(&mut fields, true)?;
        fields.end()?;
        let view = collection.view();
        let (mut room, mut points) = (Room::default(), Vec::new());
        for ids in ids.chunks(STEP_POINTS) {
            for record in view.retrieve(ids, &shown.with()).map_err(damaged)? {
                room.take(&record)?;
                points.push(shown.point(record, None));
            }
        }
        done(started, &points)
    })
    .await
}

/// `GET /collections/{collection}/points/{id}`
pub(super) async fn point(reader: Reader, request: Request) -> Answer {
    let started = Instant::now();
    reading(move || {
        let collection = reader.collection(request.params.get("collection"))?;
        let text = request.params.get("id");
        let id = text.parse().map_err(wrong_input)?;
        let shown = Shown {
            payload: super::show::WithPayload::All,
            vectors: lode_index::view::WithVectors::All,
        };
        let view = collection.view();
        let record = view.retrieve(&[id], &shown.with()).map_err(damaged)?.pop();
        let record = record.ok_or_else(|| {
            Problem::not_found(format!("Not found: Point with id {id} does not exists!"))
        })?;
        done(started, &shown.point(record, None))
    })
    .await
}

/// `POST /collections/{collection}/points/count`
pub(super) async fn count(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let mut fields = Fields::new(body);
        let filter = fields.filter("filter")?.unwrap_or_default();
        // counts are always exact
        fields.bool("exact")?;
        fields.end()?;
        let mut report = Report::default();
        let count = collection.view().count(&filter, &mut report);
        noted(&report);
        done(started, &json!({ "count": count }))
    })
    .await
}

/// `POST /collections/{collection}/facet`
pub(super) async fn facet(reader: Reader, request: Request) -> Answer {
    with(reader, request, |collection, body, started| {
        let mut fields = Fields::new(body);
        let key = fields.text("key")?;
        let key = key.ok_or_else(|| format_error("missing field `key`"))?;
        let request = FacetRequest {
            path: key.parse().map_err(format_error)?,
            filter: fields.filter("filter")?.unwrap_or_else(Filter::default),
            limit: fields.count("limit")?.unwrap_or(10),
        };
        fields.bool("exact")?;
        fields.end()?;
        let mut report = Report::default();
        let hits = collection.view().facet(&request, &mut report);
        noted(&report);
        let hit = |hit: &lode_index::view::FacetHit| json!({ "value": hit.value.to_json(), "count": hit.count });
        let hits: Vec<Value> = hits.iter().map(hit).collect();
        done(started, &json!({ "hits": hits }))
    })
    .await
}
