#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value, json};

use super::*;
use crate::limits::{
    QDRANT_CHANGES_MAX, QDRANT_EXAMPLES_MAX, QDRANT_MMR_CANDIDATES_MAX, QDRANT_PAYLOAD_BYTES_MAX,
    QDRANT_PREFETCH_DEPTH_MAX, QDRANT_QUERIES_MAX, QDRANT_VALUE_BYTES_MAX,
};

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn status<T>(result: Result<T, Problem>) -> u16 {
    result.map_or_else(|problem| problem.status().as_u16(), |_| 200)
}

fn query_status(value: &Value) -> u16 {
    status(ask::query(&map(value)))
}

#[test]
fn every_form_of_a_point_is_read() {
    use lode_index::{PointId, SparseVector, Vector};
    let body = json!({"points": [
        {"id": 1, "vector": [1, 2.5], "payload": {"a": [1, null]}},
        {"id": "550e8400e29b41d4a716446655440000", "vector": {"": [1.0], "s": {"indices": [3, 1], "values": [0.5, 2]}}},
        {"id": 3, "vector": {}, "payload": null},
    ]});
    let points = points::upsert(body.to_string().as_bytes()).unwrap();
    assert_eq!(points[0].id, PointId::Number(1));
    assert_eq!(points[0].vectors[""], Vector::Dense(vec![1.0, 2.5]));
    assert_eq!(points[0].payload.to_json(), json!({"a": [1, null]}));
    assert_eq!(
        points[1].id.to_string(),
        "550e8400-e29b-41d4-a716-446655440000"
    );
    let sparse = SparseVector::new(&[1, 3], &[2.0, 0.5]).unwrap();
    assert_eq!(points[1].vectors["s"], Vector::Sparse(sparse));
    assert!(points[2].vectors.is_empty() && points[2].payload.is_empty());
    let batch = json!({"batch": {
        "ids": [1, 2],
        "vectors": {"": [[1], [2]], "s": [null, {"indices": [1], "values": [1]}]},
        "payloads": [{"a": 1}, null],
    }});
    let points = points::upsert(batch.to_string().as_bytes()).unwrap();
    assert_eq!(points[1].vectors.len(), 2);
    assert_eq!(points[0].vectors.len(), 1);
    assert_eq!(points[0].payload.to_json(), json!({"a": 1}));
}

#[test]
fn what_is_no_point_is_refused() {
    let refused = |body: &str| {
        let problem = points::upsert(body.as_bytes()).unwrap_err();
        assert_eq!(problem.status().as_u16(), 400, "{body}");
    };
    for point in [
        r#"{"id": -1, "vector": [1]}"#,
        r#"{"id": 1.5, "vector": [1]}"#,
        r#"{"id": "7", "vector": [1]}"#,
        r#"{"id": "not-a-uuid", "vector": [1]}"#,
        r#"{"vector": [1]}"#,
        r#"{"id": 1, "vector": ["x"]}"#,
        r#"{"id": 1, "vector": [NaN]}"#,
        r#"{"id": 1, "vector": [1e999]}"#,
        r#"{"id": 1, "vector": [[1], [2]]}"#,
        r#"{"id": 1, "vector": {"text": {"text": "t", "model": "m"}}}"#,
        r#"{"id": 1, "vector": {"s": {"indices": [1, 1], "values": [1, 2]}}}"#,
        r#"{"id": 1, "vector": {"s": {"indices": [1], "values": []}}}"#,
        r#"{"id": 1, "vector": {"s": {"indices": [-1], "values": [1]}}}"#,
        r#"{"id": 1, "vector": [1], "payload": []}"#,
        r#"{"id": 1, "vector": [1], "other": 1}"#,
    ] {
        refused(&format!(r#"{{"points": [{point}]}}"#));
    }
    refused("");
    refused("[]");
    refused("{}");
    refused(r#"{"points": [], "batch": {"ids": [], "vectors": []}}"#);
    refused(r#"{"points": [], "shard_key": "a"}"#);
    refused(r#"{"points": [], "update_mode": "insert_only"}"#);
    refused(r#"{"batch": {"ids": [1, 2], "vectors": [[1]]}}"#);
    refused(r#"{"batch": {"ids": [1], "vectors": [[1]], "payloads": [{}, {}]}}"#);
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    refused(&format!(
        r#"{{"points": [{{"id": 1, "payload": {{"a": {deep}}}}}]}}"#
    ));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    refused(&format!(
        r#"{{"points": [{{"id": 1, "payload": {{"a": {deep}}}}}]}}"#
    ));
}

#[test]
fn every_form_of_a_query_is_read() {
    for query in [
        json!({}),
        json!({"query": [1.0, 2.0]}),
        json!({"query": 7}),
        json!({"query": "550e8400-e29b-41d4-a716-446655440000", "using": "v"}),
        json!({"query": {"nearest": [1.0]}, "params": {"hnsw_ef": 64, "exact": true, "quantization": {"rescore": true}}}),
        json!({"query": {"nearest": 3}}),
        json!({"query": {"indices": [1], "values": [0.5]}, "using": "s"}),
        json!({"query": {"nearest": [1], "mmr": {"diversity": 0.3, "candidates_limit": 50}}}),
        json!({"query": {"recommend": {"positive": [1, [0.5]], "negative": [2]}}}),
        json!({"query": {"recommend": {"negative": [2], "strategy": "best_score"}}}),
        json!({"query": {"discover": {"target": 1, "context": [{"positive": [1], "negative": 2}]}}}),
        json!({"query": {"discover": {"target": [0.5], "context": {"positive": [1], "negative": 2}}}}),
        json!({"query": {"discover": {"target": [0.5], "context": null}}}),
        json!({"query": {"context": {"positive": {"indices": [1], "values": [1]}, "negative": 2}}}),
        json!({"query": {"order_by": "a.b[]"}}),
        json!({"query": {"order_by": {"key": "a", "direction": "desc", "start_from": "2024-01-01T00:00:00Z"}}}),
        json!({"query": {"order_by": {"key": "a", "start_from": 1.5}}, "prefetch": {"query": [1]}}),
        json!({"query": {"sample": "random"}, "filter": {"must": []}}),
        json!({"prefetch": {"query": [1]}, "query": {"fusion": "dbsf"}}),
        json!({"prefetch": [{"query": [1], "limit": 20}, {"query": {"indices": [], "values": []}, "using": "s"}],
            "query": {"rrf": {"k": 60, "weights": [1, 0.5]}}, "limit": 5, "offset": 2, "score_threshold": 0.1}),
        json!({"prefetch": [{"prefetch": [{"query": [1]}], "query": [2]}], "query": [3],
            "with_payload": {"exclude": ["a.b"]}, "with_vector": ["v"], "filter": {"must": []}, "lookup_from": null}),
    ] {
        assert_eq!(query_status(&query), 200, "{query}");
    }
}

#[test]
fn what_is_no_query_or_not_done_is_refused_and_never_passed_over() {
    for (query, code) in [
        (json!({"query": {"fusion": "rrf"}}), 400),
        (
            json!({"query": {"fusion": "other"}, "prefetch": {"query": [1]}}),
            400,
        ),
        (json!({"prefetch": [{"query": [1]}]}), 400),
        (json!({"query": {"discover": {"context": []}}}), 400),
        (
            json!({"query": {"discover": {"target": 1, "context": {"positive": 1}}}}),
            400,
        ),
        (json!({"query": {"discover": {"target": [[1]]}}}), 400),
        (json!({"query": {"context": []}}), 400),
        (
            json!({"query": {"context": [{"positive": 1, "negative": 2, "other": 3}]}}),
            400,
        ),
        (json!({"query": {"order_by": {"direction": "asc"}}}), 400),
        (
            json!({"query": {"order_by": {"key": "a", "direction": "up"}}}),
            400,
        ),
        (
            json!({"query": {"order_by": {"key": "a", "start_from": "no date"}}}),
            400,
        ),
        (json!({"query": {"order_by": "a..b"}}), 400),
        (json!({"query": {"sample": "other"}}), 400),
        (
            json!({"query": {"formula": {}}, "prefetch": {"query": [1]}}),
            400,
        ),
        (json!({"query": {"nearest": [[1], [2]]}}), 400),
        (json!({"query": {"text": "t", "model": "m"}}), 400),
        (json!({"query": {"nearest": [1], "other": 1}}), 400),
        (
            json!({"query": [1], "lookup_from": {"collection": "c"}}),
            400,
        ),
        (json!({"query": [1], "shard_key": "a"}), 400),
        (json!({"query": [1], "params": {"other": 1}}), 400),
        (json!({"query": [1], "limit": 0}), 422),
        (json!({"query": [1], "limit": -1}), 400),
        (json!({"query": [1], "params": {"hnsw_ef": 0}}), 422),
        (
            json!({"query": {"nearest": [1], "mmr": {"diversity": 1.5}}}),
            422,
        ),
        (json!({"query": {"recommend": {"positive": []}}}), 400),
        (json!({"query": {"recommend": {"negative": [1]}}}), 400),
        (
            json!({"query": [1], "filter": {"must": [{"key": "a", "match": {"regex": "(a+)+$"}}]}}),
            400,
        ),
        (
            json!({"query": [1], "filter": {"must": [{"key": "a"}]}}),
            400,
        ),
        (json!({"query": [1], "filter": {"other": []}}), 400),
        (
            json!({"query": {"rrf": {"weights": [1]}}, "prefetch": []}),
            400,
        ),
        (
            json!({"query": {"rrf": {"weights": [1]}}, "prefetch": [{"query": [1]}, {"query": [1]}]}),
            400,
        ),
        (json!({"query": [1], "with_payload": "a"}), 400),
        (json!({"query": {"indices": [1, 1], "values": [1, 2]}}), 422),
    ] {
        assert_eq!(query_status(&query), code, "{query}");
    }
}

#[test]
fn a_filter_of_a_hundred_thousand_clauses_is_refused() {
    let clause = json!({"key": "a", "match": {"value": 1}});
    let filter = json!({"must": vec![clause; 100_000]});
    assert_eq!(query_status(&json!({"query": [1], "filter": filter})), 400);
    let mut nested = json!({"must": []});
    for _ in 0..100 {
        nested = json!({"must": [nested]});
    }
    assert_eq!(query_status(&json!({"query": [1], "filter": nested})), 400);
}

#[test]
fn one_query_more_than_a_bound_is_refused() {
    let prefetches = |count: usize| json!({"query": {"fusion": "rrf"}, "prefetch": vec![json!({"query": [1]}); count]});
    assert_eq!(query_status(&prefetches(QDRANT_QUERIES_MAX - 1)), 200);
    assert_eq!(query_status(&prefetches(QDRANT_QUERIES_MAX)), 400);
    let batch = |count: usize| {
        status(ask::queries(&map(
            &json!({"searches": vec![json!({"query": [1]}); count]}),
        )))
    };
    assert_eq!(batch(QDRANT_QUERIES_MAX), 200);
    assert_eq!(batch(QDRANT_QUERIES_MAX + 1), 400);
    let nested = |depth: usize| {
        let mut query = json!({"query": [1]});
        for _ in 0..depth {
            query = json!({"query": [1], "prefetch": query});
        }
        query_status(&query)
    };
    assert_eq!(nested(QDRANT_PREFETCH_DEPTH_MAX), 200);
    assert_eq!(nested(QDRANT_PREFETCH_DEPTH_MAX + 1), 400);
    let mmr = |count: usize| {
        query_status(&json!({"query": {"nearest": [1], "mmr": {"candidates_limit": count}}}))
    };
    assert_eq!(mmr(QDRANT_MMR_CANDIDATES_MAX), 200);
    assert_eq!(mmr(QDRANT_MMR_CANDIDATES_MAX + 1), 422);
    let examples =
        |count: usize| query_status(&json!({"query": {"recommend": {"positive": vec![1; count]}}}));
    assert_eq!(examples(QDRANT_EXAMPLES_MAX), 200);
    assert_eq!(examples(QDRANT_EXAMPLES_MAX + 1), 400);
    let pair = json!({"positive": 1, "negative": 2});
    let pairs = |count: usize| query_status(&json!({"query": {"context": vec![&pair; count]}}));
    assert_eq!(pairs(QDRANT_EXAMPLES_MAX), 200);
    assert_eq!(pairs(QDRANT_EXAMPLES_MAX + 1), 400);
    let changes = |count: usize| {
        let body = json!({"operations": vec![json!({"delete": {"points": [1]}}); count]});
        status(change::changes(body.to_string().as_bytes()))
    };
    assert_eq!(changes(QDRANT_CHANGES_MAX), 200);
    assert_eq!(changes(QDRANT_CHANGES_MAX + 1), 400);
}

#[test]
fn values_take_no_more_memory_than_they_may() {
    let list = |items: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(items - 1));
    // 32 bytes a value; the object, its key and the list take some
    let most = QDRANT_VALUE_BYTES_MAX / 32 - 6;
    assert_eq!(status(json::object(list(most).as_bytes())), 200);
    assert_eq!(status(json::object(list(most + 1).as_bytes())), 400);
    let payload = |items: usize| {
        let body = format!("{{\"points\":[{{\"id\":1,\"payload\":{}}}]}}", list(items));
        status(points::upsert(body.as_bytes()))
    };
    // as it is kept, a small number takes 9 bytes: that bound comes first, the other for values that take none
    assert_eq!(payload(1_000_000), 200);
    let nulls = |items: usize| {
        let list = format!("[{}null]", "null,".repeat(items - 1));
        let body = format!("{{\"points\":[{{\"id\":1,\"payload\":{{\"a\":{list}}}}}]}}");
        status(points::upsert(body.as_bytes()))
    };
    let most = QDRANT_PAYLOAD_BYTES_MAX / 32 - 6;
    assert_eq!(nulls(most), 200);
    assert_eq!(nulls(most + 1), 400);
}

#[test]
fn changes_are_read_and_those_that_are_none_refused() {
    let good = json!({"operations": [
        {"upsert": {"points": [{"id": 1, "vector": [1]}]}},
        {"upsert": {"batch": {"ids": [1], "vectors": [[1]]}}},
        {"delete": {"filter": {}}},
        {"set_payload": {"payload": {"a": 1}, "points": [1], "key": "b"}},
        {"overwrite_payload": {"payload": {"a": 1}, "filter": {}}},
        {"delete_payload": {"keys": ["a"], "points": [1]}},
        {"clear_payload": {"points": [1]}},
        {"update_vectors": {"points": [{"id": 1, "vector": {"v": [1]}}]}},
        {"delete_vectors": {"vector": ["v"], "points": [1]}},
    ]});
    assert_eq!(
        change::changes(good.to_string().as_bytes()).unwrap().len(),
        9
    );
    for bad in [
        json!({"other": {"points": [1]}}),
        json!({"delete": {}}),
        json!({"delete": {"points": [1], "filter": {}}}),
        json!({"delete": {"points": ["x"]}}),
        json!({"delete": []}),
        json!({}),
        json!({"delete": {"points": [1]}, "clear_payload": {"points": [1]}}),
        json!({"set_payload": {"points": [1]}}),
        json!({"set_payload": {"payload": 1, "points": [1]}}),
        json!({"set_payload": {"payload": {}, "points": [1], "key": "a["}}),
        json!({"delete_vectors": {"points": [1]}}),
    ] {
        let body = json!({"operations": [bad]});
        assert_eq!(
            status(change::changes(body.to_string().as_bytes())),
            400,
            "{body}"
        );
    }
}

#[test]
fn a_collection_that_cannot_be_is_refused_with_qdrants_status() {
    let made = |value: Value| status(config::create(&map(&value)));
    assert_eq!(
        made(json!({"vectors": {"size": 4, "distance": "Cosine", "on_disk": true}})),
        200
    );
    assert_eq!(
        made(
            json!({"vectors": {"": {"size": 4, "distance": "Dot", "datatype": "float16"}}, "sparse_vectors": {}})
        ),
        200
    );
    assert_eq!(
        made(json!({"sparse_vectors": {"s": {"modifier": "idf", "index": {"on_disk": false}}}})),
        200
    );
    assert_eq!(made(json!({})), 200);
    assert_eq!(
        made(
            json!({"vectors": {"size": 4, "distance": "Cosine"}, "hnsw_config": {"m": 8}, "shard_number": 2})
        ),
        200
    );
    for (value, code) in [
        (json!({"vectors": {"size": 0, "distance": "Cosine"}}), 422),
        (
            json!({"vectors": {"size": 65_537, "distance": "Cosine"}}),
            422,
        ),
        (json!({"vectors": {"size": 4}}), 400),
        (json!({"vectors": {"size": 4, "distance": "Hamming"}}), 400),
        (
            json!({"vectors": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}}),
            400,
        ),
        (
            json!({"vectors": {"size": 4, "distance": "Dot"}, "sharding_method": "custom"}),
            400,
        ),
        (
            json!({"vectors": {"size": 4, "distance": "Dot"}, "init_from": {"collection": "c"}}),
            400,
        ),
        (
            json!({"vectors": {"size": 4, "distance": "Dot"}, "metadata": {"a": 1}}),
            400,
        ),
        (json!({"vectors": []}), 400),
        (json!({"vectors": {"a": 1}}), 400),
        (json!({"sparse_vectors": {"s": {"modifier": "other"}}}), 400),
    ] {
        assert_eq!(made(value.clone()), code, "{value}");
    }
    let index = |value: Value| status(config::index(&map(&value)));
    assert_eq!(
        index(json!({"field_name": "a", "field_schema": "keyword"})),
        200
    );
    assert_eq!(
        index(
            json!({"field_name": "a", "field_schema": {"type": "text", "tokenizer": "prefix", "lowercase": false}})
        ),
        200
    );
    assert_eq!(
        index(
            json!({"field_name": "a", "field_schema": {"type": "integer", "lookup": true, "range": false}})
        ),
        200
    );
    for value in [
        json!({"field_name": "a"}),
        json!({"field_schema": "keyword"}),
        json!({"field_name": "a", "field_schema": "other"}),
        json!({"field_name": "a", "field_schema": {"type": "text", "tokenizer": "multilingual"}}),
        json!({"field_name": "a", "field_schema": {"type": "text", "phrase_matching": true}}),
        json!({"field_name": "a", "field_schema": {"type": "text", "stemmer": {"type": "snowball"}}}),
    ] {
        assert_eq!(index(value.clone()), 400, "{value}");
    }
}

#[test]
fn payloads_are_cut_to_what_is_asked_for() {
    use lode_index::Payload;
    let payload = json!({"a": {"b": 1, "c": 2}, "aa": {"b": 3}, "a.b": 4, "l": [{"b": 5, "c": 6}]});
    let payload = Payload::from_json(&payload).unwrap();
    let cut = |with: Value| show::WithPayload::read(&with).unwrap().cut(&payload);
    assert_eq!(cut(json!(["a.b"])), Some(json!({"a": {"b": 1}})));
    assert_eq!(
        cut(json!(["\"a.b\"", "l[].c"])),
        Some(json!({"a.b": 4, "l": [{"c": 6}]}))
    );
    assert_eq!(
        cut(json!({"exclude": ["a", "l[].b"]})),
        Some(json!({"aa": {"b": 3}, "a.b": 4, "l": [{"c": 6}]}))
    );
    assert_eq!(cut(json!({"include": []})), Some(json!({})));
    assert_eq!(cut(json!(false)), None);
    assert!(show::WithPayload::read(&json!({"include": [], "exclude": []})).is_err());
}
