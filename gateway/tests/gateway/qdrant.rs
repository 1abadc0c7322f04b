//! Qdrant's dialect over HTTP: what its clients send, what they must not, and who may. The clients themselves are run
//! by scripts/clients_qdrant.py.

use crate::client;
use crate::guarded::Guarded;
use hyper::Method;
use lode_gateway::{limits::QDRANT_BODY_BYTES_MAX, policy::Policy};
use serde_json::{Value, json};

mod names;

/// A node that the owner asks.
struct Asked {
    node: Guarded,
    token: Option<String>,
}

impl Asked {
    async fn start() -> Self {
        Self {
            node: Guarded::start(Policy::default()).await,
            token: None,
        }
    }

    async fn raw(&self, method: &str, path: &str, body: impl Into<bytes::Bytes>) -> (u16, Value) {
        let headers: Vec<(&str, &str)> = self
            .token
            .iter()
            .map(|token| ("api-key", token.as_str()))
            .collect();
        let stream = tokio::net::TcpStream::connect(self.node.http)
            .await
            .unwrap();
        let request = client::request(method.parse::<Method>().unwrap(), path, &headers, body);
        let mut exchange = client::exchange(stream, request).await;
        (exchange.status(), exchange.json().await)
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.raw(method, path, body.to_string()).await
    }

    /// What is answered to a request that is done.
    async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        assert_eq!(answer["status"], "ok");
        assert!(answer["time"].is_number());
        answer["result"].clone()
    }

    /// The status and message of a request that is refused.
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.ask(method, path, body).await;
        let error = answer["status"]["error"].as_str();
        (
            status,
            error
                .unwrap_or_else(|| panic!("{method} {path}: {status} {answer}"))
                .to_owned(),
        )
    }

    async fn collection(&self, name: &str, distance: &str) {
        let body = json!({"vectors": {"size": 2, "distance": distance}});
        let made = self
            .done("PUT", &format!("/collections/{name}"), body)
            .await;
        assert_eq!(made, true);
    }
}

fn ids(points: &Value) -> Vec<u64> {
    let points = points.as_array().unwrap().iter();
    points.map(|point| point["id"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_written_found_changed_and_deleted() {
    let node = Asked::start().await;
    node.collection("docs", "Euclid").await;
    let points: Vec<Value> = (1..=5)
        .map(|id| json!({"id": id, "vector": [id, 0], "payload": {"n": id, "tag": if id % 2 == 0 { "even" } else { "odd" }}}))
        .collect();
    let result = node
        .done(
            "PUT",
            "/collections/docs/points?wait=true",
            json!({"points": points}),
        )
        .await;
    assert_eq!(result["status"], "completed");
    assert!(result["operation_id"].is_u64());
    let query = json!({"query": [0.0, 0.0], "limit": 2, "filter": {"must": [{"key": "tag", "match": {"value": "even"}}]}, "with_payload": ["n"], "with_vector": true});
    let found = node
        .done("POST", "/collections/docs/points/query", query)
        .await;
    assert_eq!(ids(&found["points"]), [2, 4]);
    let first = &found["points"][0];
    assert_eq!(
        (&first["score"], &first["payload"], &first["vector"]),
        (&json!(2.0), &json!({"n": 2}), &json!([2.0, 0.0]))
    );
    let found = node
        .done(
            "POST",
            "/collections/docs/points/query",
            json!({"query": 3, "limit": 2}),
        )
        .await;
    assert_eq!(ids(&found["points"]).len(), 2);
    assert!(
        !ids(&found["points"]).contains(&3),
        "the point itself is not found"
    );

    let page = node
        .done(
            "POST",
            "/collections/docs/points/scroll",
            json!({"limit": 3}),
        )
        .await;
    assert_eq!(
        (ids(&page["points"]), &page["next_page_offset"]),
        (vec![1, 2, 3], &json!(4))
    );
    let page = node
        .done(
            "POST",
            "/collections/docs/points/scroll",
            json!({"limit": 3, "offset": 4}),
        )
        .await;
    assert_eq!(
        (ids(&page["points"]), &page["next_page_offset"]),
        (vec![4, 5], &Value::Null)
    );

    node.done(
        "POST",
        "/collections/docs/points/payload",
        json!({"payload": {"x": true}, "points": [1]}),
    )
    .await;
    node.done(
        "PUT",
        "/collections/docs/points/vectors",
        json!({"points": [{"id": 1, "vector": [9, 9]}]}),
    )
    .await;
    let point = node
        .done("GET", "/collections/docs/points/1", Value::Null)
        .await;
    assert_eq!(
        (&point["payload"]["x"], &point["vector"]),
        (&json!(true), &json!([9.0, 9.0]))
    );
    node.done(
        "POST",
        "/collections/docs/points/delete",
        json!({"filter": {"must_not": [{"has_id": [1, 2]}]}}),
    )
    .await;
    let count = node
        .done(
            "POST",
            "/collections/docs/points/count",
            json!({"exact": true}),
        )
        .await;
    assert_eq!(count["count"], 2);
    let (status, message) = node
        .refused(
            "POST",
            "/collections/docs/points/payload",
            json!({"payload": {"y": 1}, "points": [1, 77]}),
        )
        .await;
    assert_eq!(status, 404);
    assert!(message.contains("No point with id 77 found"), "{message}");
    let found = node
        .done(
            "POST",
            "/collections/docs/points",
            json!({"ids": [77, 1], "with_payload": true}),
        )
        .await;
    assert_eq!(
        found[0]["payload"]["y"], 1,
        "the others are changed all the same"
    );

    let facet = node
        .done("POST", "/collections/docs/facet", json!({"key": "tag"}))
        .await;
    assert_eq!(
        facet["hits"],
        json!([{"value": "even", "count": 1}, {"value": "odd", "count": 1}])
    );
    let groups = node
        .done(
            "POST",
            "/collections/docs/points/query/groups",
            json!({"query": [0, 0], "group_by": "tag", "limit": 5, "group_size": 1}),
        )
        .await;
    assert_eq!(groups["groups"].as_array().unwrap().len(), 2);
    let info = node.done("GET", "/collections/docs", Value::Null).await;
    assert_eq!(
        (&info["status"], &info["points_count"]),
        (&json!("green"), &json!(2))
    );
    assert_eq!(
        info["config"]["params"]["vectors"],
        json!({"size": 2, "distance": "Euclid"})
    );
    assert_eq!(
        node.done("DELETE", "/collections/docs", Value::Null).await,
        true
    );
    assert_eq!(
        node.done("DELETE", "/collections/docs", Value::Null).await,
        false
    );
    assert_eq!(
        node.done("GET", "/collections/docs/exists", Value::Null)
            .await["exists"],
        false
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_answered_with_qdrants_status() {
    let node = Asked::start().await;
    node.collection("docs", "Cosine").await;
    let points = "/collections/docs/points";
    for (method, path, body, status, said) in [
        (
            "GET",
            "/collections/none",
            json!(null),
            404,
            "Not found: Collection `none` doesn't exist!",
        ),
        (
            "POST",
            "/collections/none/points/query",
            json!({"query": [1]}),
            404,
            "doesn't exist!",
        ),
        (
            "PUT",
            "/collections/docs",
            json!({"vectors": {"size": 2, "distance": "Cosine"}}),
            409,
            "already exists!",
        ),
        (
            "PUT",
            "/collections/DOCS",
            json!({"vectors": {"size": 2, "distance": "Cosine"}}),
            409,
            "already exists!",
        ),
        (
            "PUT",
            "/collections/a%20b",
            json!({"vectors": {"size": 2, "distance": "Cosine"}}),
            400,
            "name",
        ),
        (
            "PUT",
            points,
            json!({"points": [{"id": 1, "vector": [1, 2, 3]}]}),
            400,
            "Wrong input: Vector dimension error: expected dim: 2, got 3",
        ),
        (
            "PUT",
            points,
            json!({"points": [{"id": 1, "vector": {"other": [1, 2]}}]}),
            400,
            "Wrong input: Not existing vector name error: other",
        ),
        (
            "PUT",
            points,
            json!({"points": [{"id": 1, "vector": {"": {"indices": [1], "values": [1]}}}]}),
            400,
            "is dense",
        ),
        (
            "PUT",
            points,
            json!({"points": [{"id": 1, "vector": [0, 0]}]}),
            400,
            "zero",
        ),
        (
            "PUT",
            points,
            json!({"points": [{"id": 1, "vector": [1e39, 0]}]}),
            400,
            "finite",
        ),
        (
            "PUT",
            points,
            json!({"points": []}),
            400,
            "Empty update request",
        ),
        (
            "PUT",
            points,
            json!({"points": [{"id": -1, "vector": [1, 2]}]}),
            400,
            "Format error in JSON body",
        ),
        (
            "POST",
            "/collections/docs/points/query",
            json!({"query": [1, 2, 3]}),
            400,
            "expected dim: 2, got 3",
        ),
        (
            "POST",
            "/collections/docs/points/query",
            json!({"query": [1, 2], "using": "other"}),
            400,
            "Not existing vector name error: other",
        ),
        (
            "POST",
            "/collections/docs/points/query",
            json!({"query": 7}),
            404,
            "No point with id 7 found",
        ),
        (
            "POST",
            "/collections/docs/points/query",
            json!({"query": [1, 2], "limit": 65_537}),
            400,
            "65536",
        ),
        (
            "POST",
            "/collections/docs/points/scroll",
            json!({"order_by": "a", "offset": 7}),
            400,
            "start_from",
        ),
        (
            "POST",
            "/collections/docs/points/scroll",
            json!({"limit": 65_537}),
            422,
            "limit",
        ),
        (
            "POST",
            "/collections/docs/points/delete",
            json!({"points": []}),
            400,
            "Empty update request",
        ),
        (
            "POST",
            "/collections/docs/points/vectors/delete",
            json!({"points": [1], "vector": ["other"]}),
            400,
            "other",
        ),
        (
            "GET",
            "/collections/docs/points/7",
            json!(null),
            404,
            "Not found",
        ),
        (
            "GET",
            "/collections/docs/points/x",
            json!(null),
            400,
            "Wrong input",
        ),
        (
            "POST",
            "/collections/aliases",
            json!({"actions": [{"create_alias": {"alias_name": "a", "collection_name": "none"}}]}),
            404,
            "none",
        ),
        (
            "POST",
            "/collections/docs/points/discover",
            json!({}),
            400,
            "not supported",
        ),
        (
            "GET",
            "/collections/none/snapshots",
            json!(null),
            404,
            "doesn't exist!",
        ),
        (
            "GET",
            "/collections/docs/snapshots/none.snapshot",
            json!(null),
            404,
            "no snapshot none.snapshot",
        ),
        (
            "DELETE",
            "/collections/docs/snapshots/..%2Fdata",
            json!(null),
            404,
            "no snapshot",
        ),
        (
            "PUT",
            "/collections/docs/snapshots/recover",
            json!({"location": "file:///etc/passwd"}),
            400,
            "must name a snapshot of this node",
        ),
        (
            "PUT",
            "/collections/docs/snapshots/recover",
            json!({"location": "http://192.0.2.1/collections/docs/snapshots/a.snapshot"}),
            400,
            "must name a snapshot of this node",
        ),
        (
            "PUT",
            "/collections/docs/snapshots/recover",
            json!({"location": "none.snapshot"}),
            404,
            "no snapshot none.snapshot",
        ),
        (
            "POST",
            "/collections/docs/snapshots/upload",
            json!({}),
            400,
            "not supported",
        ),
        (
            "POST",
            "/collections/docs/other",
            json!({}),
            404,
            "nothing at this address",
        ),
    ] {
        let (found, message) = node.refused(method, path, body.clone()).await;
        assert_eq!(found, status, "{method} {path} {body}: {message}");
        assert!(message.contains(said), "{method} {path} {body}: {message}");
    }
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{\"points\":[{\"id\":1,\"vector\":[NaN,1]}]}",
    ] {
        let (status, answer) = node.raw("PUT", points, body).await;
        assert_eq!(status, 400, "{answer}");
    }
    assert_eq!(
        node.done("POST", "/collections/docs/points/count", json!({}))
            .await["count"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_taken_up_to_its_limit() {
    let node = Asked::start().await;
    node.collection("docs", "Dot").await;
    let body = |len: usize| {
        let head = r#"{"points":[{"id":1,"vector":[1,2]}]}"#;
        format!("{head}{}", " ".repeat(len - head.len()))
    };
    let (status, answer) = node
        .raw(
            "PUT",
            "/collections/docs/points",
            body(QDRANT_BODY_BYTES_MAX),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = node
        .raw(
            "PUT",
            "/collections/docs/points",
            body(QDRANT_BODY_BYTES_MAX + 1),
        )
        .await;
    assert_eq!(status, 400);
    let message = answer["status"]["error"].as_str().unwrap();
    assert!(
        message.contains("larger than allowed (limit: 33554432 bytes)"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_holds_no_more_than_it_may() {
    let node = Asked::start().await;
    node.collection("docs", "Dot").await;
    // 10 MiB each: what is counted of a payload is twice its bytes, so that three fit and four do not
    for id in 1..=4 {
        let payload = json!({"text": "x".repeat(10 << 20)});
        let points = json!({"points": [{"id": id, "vector": [1, id], "payload": payload}]});
        node.done("PUT", "/collections/docs/points", points).await;
    }
    let three = node
        .done(
            "POST",
            "/collections/docs/points/scroll",
            json!({"limit": 3}),
        )
        .await;
    assert_eq!(ids(&three["points"]), [1, 2, 3]);
    let (status, message) = node
        .refused(
            "POST",
            "/collections/docs/points/scroll",
            json!({"limit": 4}),
        )
        .await;
    assert_eq!(status, 400);
    assert!(message.contains("ask for fewer points"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_listed_in_the_order_of_a_field_at_random_and_by_pairs() {
    let node = Asked::start().await;
    node.collection("docs", "Dot").await;
    let points: Vec<Value> = (1..=6)
        .map(|id| json!({"id": id, "vector": [id, 7 - id], "payload": {"n": [10 - id, 20], "t": format!("2024-01-0{id}")}}))
        .collect();
    node.done("PUT", "/collections/docs/points", json!({"points": points}))
        .await;
    let scroll = "/collections/docs/points/scroll";
    let order =
        json!({"order_by": {"key": "n", "start_from": 5}, "limit": 4, "with_payload": false});
    let page = node.done("POST", scroll, order).await;
    assert_eq!(ids(&page["points"]), [5, 4, 3, 2]);
    assert_eq!(
        page["points"][0],
        json!({"id": 5, "order_value": 5}),
        "no score"
    );
    assert_eq!(page["next_page_offset"], Value::Null);
    let order = json!({"order_by": {"key": "t", "direction": "desc", "start_from": "2024-01-03T12:00:00Z"}});
    let page = node.done("POST", scroll, order).await;
    assert_eq!(ids(&page["points"]), [3, 2, 1]);
    assert_eq!(page["points"][0]["order_value"], 1_704_240_000_000_000_u64);
    let query = "/collections/docs/points/query";
    let few = json!({"query": [1, 0], "limit": 3});
    let order = json!({"prefetch": few, "query": {"order_by": "n"}, "limit": 2, "offset": 1});
    let found = node.done("POST", query, order).await;
    assert_eq!(ids(&found["points"]), [5, 4]);
    assert_eq!(found["points"][0]["score"], 1.0);
    let sample = json!({"query": {"sample": "random"}, "limit": 4, "filter": {"must_not": [{"has_id": [1]}]}});
    let found = node.done("POST", query, sample).await;
    let mut found = ids(&found["points"]);
    found.sort_unstable();
    found.dedup();
    assert!(found.len() == 4 && found[0] > 1, "{found:?}");
    let pairs = json!([{"positive": 1, "negative": 6}]);
    let discover = json!({"query": {"discover": {"target": [1, 0], "context": pairs}}, "limit": 3});
    let found = node.done("POST", query, discover).await;
    // nearer to 1 than to 6 are 2 and 3; of those 3 has more of what is wanted
    assert_eq!(ids(&found["points"]), [3, 2, 5]);
    let context = json!({"query": {"context": pairs}, "limit": 10});
    let found = node.done("POST", query, context).await;
    let mut right = ids(&found["points"]);
    right.truncate(2);
    right.sort_unstable();
    assert_eq!(right, [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_says_which_version_of_the_interface_it_speaks() {
    let node = Asked::start().await;
    let (status, answer) = node.raw("GET", "/", "").await;
    assert_eq!(status, 200);
    assert_eq!(answer["version"], "1.20.0");
    assert!(answer["title"].as_str().unwrap().contains("lode"));
    assert_eq!(answer["name"], "lode");
}
