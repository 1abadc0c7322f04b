//! Reads in an order of their own: by a payload field, at random, by a score of the caller's.

use std::collections::BTreeSet;

use super::*;
use crate::{
    datetime::parse_datetime,
    view::{OrderRequest, OrderValue},
};

/// Values that are hard to keep apart: integers past what floats tell apart, floats beside them, and no numbers at all.
fn value(random: &mut Random) -> serde_json::Value {
    let large = (1i64 << 53) + i64::try_from(random.below(4)).unwrap();
    match random.below(12) {
        0 => json!(large),
        1 => json!(-large),
        2 => json!(u64::MAX - random.below(3)),
        3 => json!(f64::from(random.single())),
        4 => json!(random.below(4)),
        5 => json!([random.below(4), random.below(4), 0.5]),
        6 => json!(format!("2024-02-0{}", 1 + random.below(4))),
        7 => json!(["2024-02-01", "no date", 3]),
        8 => json!("no date"),
        9 => json!(null),
        10 => json!(9_007_199_254_740_992.0),
        _ => json!({"n": 1}),
    }
}

/// What a value of a field counts as, where only numbers, only points in time, or both count.
fn placed(value: &serde_json::Value, (numbers, times): (bool, bool)) -> Option<OrderValue> {
    if let Some(text) = value.as_str() {
        let micros = parse_datetime(text).filter(|_| times)?;
        return Some(OrderValue::Integer(micros.into()));
    }
    let number = value.as_number().filter(|_| numbers)?;
    Some(match (number.as_i64(), number.as_u64()) {
        (Some(integer), _) => OrderValue::Integer(integer.into()),
        (None, Some(integer)) => OrderValue::Integer(integer.into()),
        (None, None) => OrderValue::Float(number.as_f64().unwrap()),
    })
}

#[test]
fn the_order_of_a_field_is_that_of_its_values_with_an_index_and_without() {
    for seed in 0..24 {
        let random = &mut Random(seed);
        let collection = create(&SimDisk::new(seed));
        let indexed = *random.of(&[
            None,
            Some(FieldType::Integer),
            Some(FieldType::Float),
            Some(FieldType::Datetime),
            Some(FieldType::Keyword),
        ]);
        if let Some(kind) = indexed {
            let path = path("v");
            collection
                .apply(Operation::CreateIndex { path, kind })
                .unwrap();
        }
        let counts = match indexed {
            Some(FieldType::Integer | FieldType::Float) => (true, false),
            Some(FieldType::Datetime) => (false, true),
            _ => (true, true),
        };
        let mut model: BTreeMap<PointId, serde_json::Value> = BTreeMap::new();
        for round in 0..60 {
            let id = PointId::from(random.below(40));
            if random.below(4) == 0 {
                let of = Selection::Ids(vec![id]);
                collection.apply(Operation::Delete(of)).unwrap();
                model.remove(&id);
            } else {
                let payload = json!({"v": value(random), "even": random.below(2) == 0});
                let point = Point {
                    id,
                    vectors: BTreeMap::new(),
                    payload: Payload::from_json(&payload).unwrap(),
                };
                collection.apply(Operation::Upsert(vec![point])).unwrap();
                model.insert(id, payload);
            }
            if random.below(12) == 0 {
                collection.freeze().unwrap();
            }
            if round % 3 > 0 {
                continue;
            }
            let even = random.below(2) == 0;
            let filter = match even {
                true => "even = true".parse().unwrap(),
                false => Filter::default(),
            };
            let from = match random.below(3) {
                0 => placed(&value(random), counts),
                _ => None,
            };
            let request = OrderRequest {
                path: path("v"),
                descending: random.below(2) == 0,
                from,
                filter,
                limit: usize::try_from(1 + random.below(30)).unwrap(),
            };
            let mut wanted: BTreeSet<(OrderValue, PointId)> = BTreeSet::new();
            for (id, payload) in &model {
                if even && payload["even"] != json!(true) {
                    continue;
                }
                let values = match &payload["v"] {
                    serde_json::Value::Array(values) => values.clone(),
                    value => vec![value.clone()],
                };
                let values = values.iter().filter_map(|value| placed(value, counts));
                wanted.extend(values.map(|value| (value, *id)));
            }
            let mut wanted: Vec<(OrderValue, PointId)> = wanted.into_iter().collect();
            if request.descending {
                wanted.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            }
            wanted.retain(|(value, _)| match (request.from, request.descending) {
                (None, _) => true,
                (Some(from), true) => *value <= from,
                (Some(from), false) => *value >= from,
            });
            wanted.truncate(request.limit);
            let mut report = Report::default();
            let found = collection.view().ordered(&request, &mut report);
            let found: Vec<_> = found.iter().map(|(id, at)| (*at, *id)).collect();
            assert_eq!(found, wanted, "seed {seed}, {indexed:?}, {request:?}");
            assert_eq!(report.damaged, Vec::<String>::new());
        }
    }
}

#[test]
fn an_index_of_the_field_saves_looking_at_every_payload() {
    let collection = create(&SimDisk::new(1));
    let index = Operation::CreateIndex {
        path: path("n"),
        kind: FieldType::Integer,
    };
    collection.apply(index).unwrap();
    let points = (0..500u64).map(|id| Point {
        id: id.into(),
        vectors: BTreeMap::new(),
        payload: Payload::from_json(&json!({"n": 1000 - id})).unwrap(),
    });
    collection
        .apply(Operation::Upsert(points.collect()))
        .unwrap();
    collection.freeze().unwrap();
    let request = OrderRequest {
        path: path("n"),
        descending: false,
        from: Some(OrderValue::Integer(600)),
        filter: Filter::default(),
        limit: 3,
    };
    let mut report = Report::default();
    let view = collection.view();
    let found = view.ordered(&request, &mut report);
    let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [400.into(), 399.into(), 398.into()]);
    assert_eq!(report.indexed, 1);
    assert!(report.scanned <= 4, "{report:?}");
}

#[test]
fn a_sample_is_of_points_that_pass_each_as_likely_as_any_other() {
    let collection = create(&SimDisk::new(1));
    let upsert = |ids: std::ops::Range<u64>| {
        let points = ids.map(|id| Point {
            id: id.into(),
            vectors: BTreeMap::new(),
            payload: Payload::from_json(&json!({"even": id % 2 == 0})).unwrap(),
        });
        collection
            .apply(Operation::Upsert(points.collect()))
            .unwrap();
    };
    upsert(0..12);
    collection.freeze().unwrap();
    upsert(12..20);
    let gone = Selection::Ids(vec![0.into(), 13.into()]);
    collection.apply(Operation::Delete(gone)).unwrap();
    let view = collection.view();
    let random = &mut Random(7);
    let mut counts: BTreeMap<PointId, u32> = BTreeMap::new();
    let even: Filter = "even = true".parse().unwrap();
    for _ in 0..3000 {
        let found = view.sample(3, &even, &mut |n| random.below(n), &mut Report::default());
        assert_eq!(found.len(), 3);
        let distinct: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!(distinct.len(), 3);
        found
            .into_iter()
            .for_each(|id| *counts.entry(id).or_default() += 1);
    }
    // nine even points are left: each is drawn a third of the time
    let wanted: Vec<PointId> = (1..10u64).map(|half| (half * 2).into()).collect();
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), wanted);
    assert!(
        counts.values().all(|n| (850..1150).contains(n)),
        "{counts:?}"
    );
    let all = view.sample(
        100,
        &Filter::default(),
        &mut |n| n - 1,
        &mut Report::default(),
    );
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 18);
}

#[test]
fn points_are_ranked_by_any_score_of_their_vectors() {
    let collection = create(&SimDisk::new(1));
    let random = &mut Random(3);
    let mut scores: Vec<(f32, PointId)> = Vec::new();
    for id in 0..60u64 {
        let point = point(random, id.into());
        if let Some(Vector::Dense(vector)) = point.vectors.get("image") {
            // as they are kept: in half precision
            let sum = vector.iter().map(|x| x.abs()).sum::<f32>();
            scores.push((sum, id.into()));
        }
        collection.apply(Operation::Upsert(vec![point])).unwrap();
        if id == 30 {
            collection.freeze().unwrap();
        }
    }
    let view = collection.view();
    let score = |vector: &Vector| match vector {
        Vector::Dense(vector) => vector.iter().map(|x| x.abs()).sum::<f32>(),
        Vector::Sparse(_) => unreachable!(),
    };
    let report = &mut Report::default();
    let found = view.rank("image", &Filter::default(), 1000, &score, report);
    assert_eq!(found.len(), scores.len());
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    for point in &found {
        let (sum, _) = scores.iter().find(|(_, id)| *id == point.id).unwrap();
        assert!((sum - point.score).abs() < 0.01, "{point:?} {sum}");
    }
    let some = Filter::from_json(&json!({"must": [{"has_id": [1, 2, 3, 4]}]})).unwrap();
    let few = view.rank("image", &some, 2, &score, report);
    let wanted: Vec<_> = found
        .iter()
        .filter(|point| (1..5u64).any(|id| point.id == id.into()))
        .take(2)
        .collect();
    assert_eq!(few.iter().collect::<Vec<_>>(), wanted);
    assert_eq!(view.rank("none", &some, 2, &score, report), []);
}
