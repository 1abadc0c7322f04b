//! A collection against a plain map: whatever is written, frozen, merged, crashed and opened again, what is read
//! is what the map says.
//!
//! The loss that these prevent: a point that is gone, comes back, or is found by what it is not.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    Dim, Dtype, Filter, Metric, Payload, Point, PointId, Report, SearchRequest, SparseVector,
    Vector, VectorParams,
    disk::sim::SimDisk,
    operation::Selection,
    schema::{FieldType, SparseParams},
    tokenizer::TextRule,
    vectors::BatchBuilder,
    view::{QueryVector, With, WithVectors},
};

mod crashes;
mod foreign;
mod model;
mod orders;
mod promises;

const DIR: &str = "/collection";

/// Uniform numbers from a seed.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % bound
    }

    fn single(&mut self) -> f32 {
        f32::from(u16::try_from(self.below(2001)).unwrap()) / 1000.0 - 1.0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

fn config() -> CollectionConfig {
    let params = |dim, metric, dtype| VectorParams {
        dim: Dim::new(dim).unwrap(),
        metric,
        dtype,
    };
    let mut config = CollectionConfig::single(params(4, Metric::Cosine, Dtype::F32));
    config
        .vectors
        .insert("image".into(), params(3, Metric::Euclid, Dtype::F16));
    config
        .sparse
        .insert("words".into(), SparseParams { idf: false });
    config
}

fn path(text: &str) -> crate::payload::PayloadPath {
    text.parse().unwrap()
}

fn schema() -> Vec<(&'static str, FieldType)> {
    vec![
        ("tag", FieldType::Keyword),
        ("n", FieldType::Integer),
        ("x", FieldType::Float),
        ("t", FieldType::Datetime),
        ("b", FieldType::Bool),
        ("text", FieldType::Text(TextRule::default())),
        ("g", FieldType::Geo),
        ("deep.l[].k", FieldType::Keyword),
    ]
}

fn point(random: &mut Random, id: PointId) -> Point {
    let mut vectors = BTreeMap::new();
    if random.below(8) > 0 {
        let mut dense: Vec<f32> = (0..4).map(|_| random.single()).collect();
        dense[0] += 3.0;
        vectors.insert(String::new(), Vector::Dense(dense));
    }
    if random.below(3) > 0 {
        let dense = (0..3).map(|_| random.single()).collect();
        vectors.insert("image".to_owned(), Vector::Dense(dense));
    }
    if random.below(3) > 0 {
        let indices: Vec<u32> = (0..12).filter(|_| random.below(3) == 0).collect();
        let values: Vec<f32> = indices.iter().map(|_| random.single()).collect();
        let sparse = SparseVector::new(&indices, &values).unwrap();
        vectors.insert("words".to_owned(), Vector::Sparse(sparse));
    }
    Point {
        id,
        vectors,
        payload: payload(random),
    }
}

fn payload(random: &mut Random) -> Payload {
    let tag = ["libs", "net", "doc", "a longer tag with spaces"];
    let words = ["fast", "search", "engine", "Graph", "über"];
    let mut map = serde_json::Map::new();
    let mut set = |key: &str, value| drop(map.insert(key.to_owned(), value));
    if random.below(4) > 0 {
        set(
            "tag",
            match random.below(6) {
                0 => json!([random.of(&tag), random.of(&tag)]),
                1 => json!(7),
                2 => json!("x".repeat(600)),
                _ => json!(random.of(&tag)),
            },
        );
    }
    if random.below(4) > 0 {
        set(
            "n",
            match random.below(8) {
                0 => json!(2.0),
                1 => json!((1u64 << 53) + random.below(3)),
                2 => json!(["no number", random.below(5)]),
                _ => json!(random.below(10)),
            },
        );
    }
    if random.below(2) > 0 {
        set("x", json!(random.single()));
        set(
            "t",
            json!(format!("2024-01-{:02}T00:00:00Z", 1 + random.below(28))),
        );
        set("b", json!(random.below(2) == 0));
    }
    if random.below(2) > 0 {
        set(
            "text",
            json!(format!("{} {}", random.of(&words), random.of(&words))),
        );
        set(
            "g",
            json!({"lon": random.single() * 100.0, "lat": random.single() * 80.0}),
        );
    }
    match random.below(6) {
        0 => set("e", json!(null)),
        1 => set("e", json!([])),
        2 => set("e", json!([1, null])),
        3 => set(
            "deep",
            json!({"l": [{"k": random.of(&tag)}, {"k": random.of(&tag), "v": 1}]}),
        ),
        _ => {}
    }
    Payload::from_json(&serde_json::Value::Object(map)).unwrap()
}

fn filters(random: &mut Random) -> serde_json::Value {
    let one = |random: &mut Random| match random.below(18) {
        0 => json!({"key": "tag", "match": {"value": "libs"}}),
        1 => json!({"key": "tag", "match": {"any": ["net", "doc", "none"]}}),
        2 => json!({"key": "tag", "match": {"except": ["net"]}}),
        3 => json!({"key": "n", "match": {"value": random.below(10)}}),
        4 => json!({"key": "n", "match": {"value": (1u64 << 53) + random.below(3)}}),
        5 => json!({"key": "n", "range": {"gte": random.below(10), "lt": 8}}),
        6 => json!({"key": "x", "range": {"gt": random.single(), "lte": 0.9}}),
        7 => json!({"key": "t", "range": {"gte": "2024-01-05", "lt": "2024-01-20T00:00:00+01:00"}}),
        8 => json!({"key": "b", "match": {"value": true}}),
        9 => {
            json!({"key": "text", "match": {"text": random.of(&["search", "GRAPH", "über fast", ""])}})
        }
        10 => {
            json!({"key": "g", "geo_radius": {"center": {"lon": 0.0, "lat": 10.0}, "radius": 4e6}})
        }
        11 => json!({"key": "g", "geo_bounding_box": {
            "top_left": {"lon": -50.0, "lat": 60.0}, "bottom_right": {"lon": 50.0, "lat": -20.0}}}),
        12 => json!({"is_empty": {"key": random.of(&["e", "tag", "n", "nothing"])}}),
        13 => json!({"is_null": {"key": random.of(&["e", "tag"])}}),
        14 => json!({"has_id": [random.below(30), random.below(30), 1_000]}),
        15 => json!({"has_vector": random.of(&["", "image", "words"])}),
        16 => json!({"nested": {"key": "deep.l", "filter": {"must": [
            {"key": "k", "match": {"value": "net"}}, {"key": "v", "match": {"value": 1}}]}}}),
        _ => json!({"key": "deep.l[].k", "match": {"value": "libs"}}),
    };
    match random.below(6) {
        0 => json!({"must": [one(random), one(random)]}),
        1 => json!({"should": [one(random), one(random)], "must_not": [one(random)]}),
        2 => json!({"must": [{"should": [one(random), one(random)]}, one(random)]}),
        3 => json!({"must_not": [one(random)]}),
        4 => json!({"min_should": {"min_count": 2, "conditions":
            [one(random), one(random), one(random)]}}),
        _ => json!({"must": [one(random)]}),
    }
}

fn any_id(random: &mut Random) -> PointId {
    match random.below(4) {
        0 => PointId::Uuid([u8::try_from(random.below(10)).unwrap(); 16]),
        _ => PointId::Number(random.below(30)),
    }
}

/// What the collection should hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    points: BTreeMap<PointId, Point>,
    config: CollectionConfig,
}

impl Model {
    fn new() -> Self {
        Self {
            points: BTreeMap::new(),
            config: config(),
        }
    }

    fn passing(&self, filter: &Filter) -> Vec<PointId> {
        let mut filter = filter.clone();
        filter.bind(&self.config.schema);
        let passes = |point: &Point| {
            filter.check(&crate::filter::Candidate {
                id: point.id,
                payload: point.payload.root(),
                has_vector: &|name| point.vectors.contains_key(name),
            })
        };
        self.points
            .values()
            .filter(|point| passes(point))
            .map(|point| point.id)
            .collect()
    }

    fn selected(&self, of: &Selection) -> Vec<PointId> {
        match of {
            Selection::Ids(ids) => ids
                .iter()
                .copied()
                .filter(|id| self.points.contains_key(id))
                .collect(),
            Selection::Filter(filter) => self.passing(filter),
        }
    }

    fn apply(&mut self, operation: &Operation) {
        let json = |payload: &Payload| payload.to_json();
        let payload = |value| Payload::from_json(&value).unwrap();
        match operation {
            Operation::Upsert(points) => {
                self.points
                    .extend(points.iter().map(|point| (point.id, point.clone())));
            }
            Operation::Delete(of) => {
                self.selected(of)
                    .iter()
                    .for_each(|id| drop(self.points.remove(id)));
            }
            Operation::SetPayload {
                of,
                payload: set,
                path: None,
            } => {
                for id in self.selected(of) {
                    let point = self.points.get_mut(&id).unwrap();
                    let mut value = json(&point.payload);
                    value
                        .as_object_mut()
                        .unwrap()
                        .extend(json(set).as_object().unwrap().clone());
                    point.payload = payload(value);
                }
            }
            Operation::OverwritePayload { of, payload: new } => {
                for id in self.selected(of) {
                    self.points.get_mut(&id).unwrap().payload = new.clone();
                }
            }
            Operation::DeletePayload { of, paths } => {
                for id in self.selected(of) {
                    let point = self.points.get_mut(&id).unwrap();
                    let mut value = json(&point.payload);
                    for path in paths {
                        value.as_object_mut().unwrap().remove(path.as_str());
                    }
                    point.payload = payload(value);
                }
            }
            Operation::ClearPayload { of } => {
                for id in self.selected(of) {
                    self.points.get_mut(&id).unwrap().payload = Payload::empty();
                }
            }
            Operation::UpdateVectors(points) => {
                for (id, vectors) in points {
                    if let Some(point) = self.points.get_mut(id) {
                        point.vectors.extend(vectors.clone());
                    }
                }
            }
            Operation::DeleteVectors { of, names } => {
                for id in self.selected(of) {
                    let point = self.points.get_mut(&id).unwrap();
                    names
                        .iter()
                        .for_each(|name| drop(point.vectors.remove(name)));
                }
            }
            Operation::CreateIndex { path, kind } => {
                self.config.schema.insert(path.clone(), *kind).unwrap();
            }
            Operation::DeleteIndex { path } => {
                self.config.schema.remove(path);
            }
            other => panic!("the model does not know {other:?}"),
        }
    }
}

fn operation(random: &mut Random) -> Operation {
    let of = match random.below(3) {
        0 => Selection::Filter(Filter::from_json(&filters(random)).unwrap()),
        _ => Selection::Ids((0..1 + random.below(4)).map(|_| any_id(random)).collect()),
    };
    match random.below(24) {
        0..10 => {
            let ids: Vec<_> = (0..1 + random.below(6)).map(|_| any_id(random)).collect();
            Operation::Upsert(ids.into_iter().map(|id| point(random, id)).collect())
        }
        10..13 => Operation::Delete(of),
        13 => Operation::SetPayload {
            of,
            payload: payload(random),
            path: None,
        },
        14 => Operation::OverwritePayload {
            of,
            payload: payload(random),
        },
        15 => Operation::DeletePayload {
            of,
            paths: vec![path("tag"), path("e")],
        },
        16 => Operation::ClearPayload { of },
        17..20 => {
            let new = point(random, 0.into()).vectors;
            Operation::UpdateVectors(vec![(any_id(random), new)])
        }
        20 => Operation::DeleteVectors {
            of,
            names: vec!["image".into(), "words".into()],
        },
        21 => Operation::DeleteIndex {
            path: path(random.of(&schema()).0),
        },
        _ => {
            let (field, kind) = *random.of(&schema());
            Operation::CreateIndex {
                path: path(field),
                kind,
            }
        }
    }
}

/// Compares everything that can be read with what the model says.
fn check(collection: &Collection, model: &Model, random: &mut Random, context: &str) {
    let view = collection.view();
    let mut report = Report::default();
    assert_eq!(view.len(), model.points.len() as u64, "{context}");
    let with = With {
        payload: true,
        vectors: WithVectors::All,
    };
    let page = view.scroll(None, 1000, &Filter::default(), &with, &mut report);
    assert_eq!(page.records.len(), model.points.len(), "{context}");
    for (record, point) in page.records.iter().zip(model.points.values()) {
        assert_eq!(record.id, point.id, "{context}");
        assert_eq!(
            record.payload.as_ref(),
            Some(&point.payload),
            "{context}: {}",
            point.id
        );
        let names: Vec<_> = record.vectors.keys().collect();
        assert_eq!(
            names,
            point.vectors.keys().collect::<Vec<_>>(),
            "{context}: {}",
            point.id
        );
    }
    for _ in 0..6 {
        let json = filters(random);
        let filter = Filter::from_json(&json).unwrap();
        let expected = model.passing(&filter);
        assert_eq!(
            view.count(&filter, &mut report),
            expected.len() as u64,
            "{context}: {json}"
        );
        let limit = usize::try_from(1 + random.below(8)).unwrap();
        let mut from = None;
        let mut ids = Vec::new();
        loop {
            let page = view.scroll(from, limit, &filter, &With::default(), &mut report);
            ids.extend(page.records.iter().map(|record| record.id));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(ids, expected, "{context}: {json}");
        check_search(&view, model, random, filter, context);
    }
    assert_eq!(report.damaged, [] as [String; 0], "{context}");
}

fn check_search(view: &View, model: &Model, random: &mut Random, filter: Filter, context: &str) {
    let passing = model.passing(&filter);
    let query = point(&mut Random(random.below(u64::MAX)), 0.into());
    for (name, vector) in query.vectors {
        let mut expected: Vec<(PointId, f32)> = Vec::new();
        let higher = name != "image";
        for id in &passing {
            let score = match (&vector, model.points[id].vectors.get(&name)) {
                (Vector::Sparse(a), Some(Vector::Sparse(b))) => a.dot(b),
                (Vector::Dense(a), Some(Vector::Dense(b))) => Some(dense_score(a, b, higher)),
                _ => None,
            };
            expected.extend(score.map(|score| (*id, score)));
        }
        expected.sort_by(|a, b| {
            if higher {
                b.1.total_cmp(&a.1)
            } else {
                a.1.total_cmp(&b.1)
            }
        });
        let limit = 5;
        let request = SearchRequest {
            vector: name.clone(),
            query: match vector {
                Vector::Dense(vector) => QueryVector::Dense(vector),
                Vector::Sparse(vector) => QueryVector::Sparse(vector),
            },
            filter: filter.clone(),
            exact: random.below(2) == 0,
            ..SearchRequest::nearest(Vec::new(), limit)
        };
        let mut report = Report::default();
        let found = view.search(&request, &mut report).unwrap();
        assert_eq!(found.len(), expected.len().min(limit), "{context}: {name}");
        for (found, (id, score)) in found.iter().zip(&expected) {
            let near = (found.score - score).abs() < 0.01;
            assert!(near, "{context}: {name}: {found:?} instead of {id} {score}");
            let own = expected.iter().find(|(id, _)| *id == found.id);
            let own = own.unwrap_or_else(|| panic!("{context}: {name}: found {}", found.id));
            assert!(
                (own.1 - found.score).abs() < 0.01,
                "{context}: {name}: {found:?}, {own:?}"
            );
        }
    }
}

fn dense_score(a: &[f32], b: &[f32], cosine: bool) -> f32 {
    let sum = |f: &dyn Fn(f32, f32) -> f32| a.iter().zip(b).map(|(a, b)| f(*a, *b)).sum::<f32>();
    let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    if cosine {
        sum(&|a, b| a * b) / (norm(a) * norm(b))
    } else {
        sum(&|a, b| (a - b) * (a - b)).sqrt()
    }
}

fn on(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn create(disk: &SimDisk) -> Collection {
    linked(Collection::create_on(on(disk), Path::new(DIR), config()).unwrap())
}

/// Few points have a graph too, so that merges put rows into its order.
fn linked(collection: Collection) -> Collection {
    collection.with_builder(Box::new(BatchBuilder::default().from_rows(2)))
}

fn reopen(disk: &SimDisk) -> Collection {
    linked(Collection::open_on(on(disk), Path::new(DIR)).unwrap())
}
