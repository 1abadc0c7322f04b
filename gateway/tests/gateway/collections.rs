//! Collections in the native dialect over HTTP: what the command line does, and who may. The matrix test asks each
//! route as everyone.

use crate::client;
use crate::guarded::Guarded;
use hyper::Method;
use lode_gateway::{limits::COLLECTION_ASK_BYTES_MAX, policy::Policy};
use lode_node::tokens::Power;
use serde_json::{Value, json};

async fn raw(
    node: &Guarded,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: impl Into<bytes::Bytes>,
) -> (u16, Value) {
    let headers: Vec<(&str, &str)> = token.iter().map(|token| ("api-key", *token)).collect();
    let path = format!("/lode/v1/collections{path}");
    let stream = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let request = client::request(method.parse::<Method>().unwrap(), &path, &headers, body);
    let mut exchange = client::exchange(stream, request).await;
    (exchange.status(), exchange.json().await)
}

async fn done(node: &Guarded, method: &str, path: &str, body: Value) -> Value {
    let (status, answer) = raw(node, None, method, path, body.to_string()).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_made_filled_searched_and_committed_over_http() {
    let node = Guarded::start(Policy::default()).await;
    let config = json!({"vectors": {"": {"size": 2, "metric": "euclid", "dtype": "f32"}},
        "indexes": {"tag": "keyword"}});
    let made = done(&node, "PUT", "/docs", config.clone()).await;
    assert_eq!(made["dense"][""]["metric"], "euclid");
    let (status, answer) = raw(&node, None, "PUT", "/docs", config.to_string()).await;
    assert_eq!((status, &answer["error"]["kind"]), (409, &json!("refused")));
    let points: Vec<Value> = (1..=5)
        .map(|id| json!({"id": id, "vector": [id, 0], "payload": {"tag": if id % 2 == 0 { "even" } else { "odd" }}}))
        .collect();
    let set = done(&node, "POST", "/docs/points", json!({ "points": points })).await;
    assert_eq!(set["points"], 5);
    let search = json!({"vector": [0, 0], "filter": "tag = \"even\"", "limit": 1});
    let found = done(&node, "POST", "/docs/search", search).await;
    assert_eq!(
        found["points"],
        json!([{"id": 2, "score": 2.0, "payload": {"tag": "even"}}])
    );
    let filter = json!({"must": [{"key": "tag", "match": {"value": "odd"}}]});
    let search = json!({"vector": [0, 0], "filter": filter});
    assert_eq!(
        done(&node, "POST", "/docs/search", search).await["points"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let read = done(&node, "POST", "/docs/points/read", json!({"limit": 2})).await;
    assert_eq!(read["next"], "3");
    let gone = done(&node, "POST", "/docs/points/delete", json!({"ids": ["5"]})).await;
    assert_eq!(gone["points"], 1);
    let (status, _) = raw(&node, None, "DELETE", "/docs", "").await;
    assert_eq!(status, 403, "its points are in no version");
    for force in ["", "yes", "1"] {
        let path = format!("/docs?force={force}");
        let (status, _) = raw(&node, None, "DELETE", &path, "").await;
        assert_eq!(status, 400, "{path}");
    }
    let pushed = done(
        &node,
        "POST",
        "/docs/commit",
        json!({"message": "m", "tag": "v1"}),
    )
    .await;
    assert_eq!(pushed["changed"], true);
    let shown = done(&node, "GET", "/docs", Value::Null).await;
    assert_eq!(
        (&shown["points"], &shown["changed"]),
        (&json!(4), &json!(false))
    );
    assert_eq!(shown["version"], pushed["version"]);
    let all = done(&node, "GET", "", Value::Null).await;
    assert_eq!(all["collections"].as_array().unwrap().len(), 3);
    done(&node, "DELETE", "/docs", Value::Null).await;
    assert_eq!(raw(&node, None, "GET", "/docs", "").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_wrong_or_too_long_are_refused() {
    let node = Guarded::start(Policy::default()).await;
    for body in [
        "[]",
        "{",
        r#"{"vector": "x"}"#,
        r#"{"vector": [1]}"#,
        r#"{"filter": "tag ="}"#,
        r#"{"limit": 10001, "vector": [1, 2]}"#,
    ] {
        let (status, answer) = raw(&node, None, "POST", "/mine%2Fhidden/search", body).await;
        assert_eq!(
            (status, &answer["error"]["kind"]),
            (400, &json!("usage")),
            "{body}: {answer}"
        );
    }
    let long = |bytes: usize| {
        format!(
            "{:<width$}",
            r#"{"vector": [1, 2]}"#,
            width = bytes.min(60_000)
        ) + &" ".repeat(bytes.saturating_sub(60_000))
    };
    let ask = async |bytes| {
        raw(&node, None, "POST", "/mine%2Fhidden/search", long(bytes))
            .await
            .0
    };
    assert_eq!(ask(COLLECTION_ASK_BYTES_MAX).await, 200);
    assert_eq!(ask(COLLECTION_ASK_BYTES_MAX + 1).await, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_nothing_public() {
    let node = Guarded::start(Policy::default()).await;
    let token = node.token(Power::Write, &["mine/*"], None);
    let body = json!({"message": "m", "public": true}).to_string();
    let (status, _) = raw(&node, Some(&token), "POST", "/mine%2Fhidden/commit", body).await;
    assert_eq!(status, 403);
    let body = json!({"message": "m"}).to_string();
    let (status, answer) = raw(&node, Some(&token), "POST", "/mine%2Fhidden/commit", body).await;
    assert_eq!((status, &answer["changed"]), (200, &json!(true)));
    let (status, _) = raw(&node, Some(&token), "POST", "/acme%2Fhidden/commit", "").await;
    assert_eq!(status, 404);
}
