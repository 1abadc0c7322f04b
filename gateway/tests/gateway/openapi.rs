//! The OpenAPI document against the table of routes: every native route is in it with every parameter, and
//! nothing else is. That answers look as it says is what schemathesis holds (`scripts/clients_openapi.py`).

use crate::client;
use std::collections::BTreeSet;

use crate::guarded::Guarded;
use hyper::Method;
use lode_gateway::{dialect::Dialect, policy::Policy};
use lode_store::ChunkHash;
use serde_json::Value;

async fn document(node: &Guarded) -> Value {
    let path = "/lode/v1/openapi.json";
    let mut answer = client::over_http(node.http, Method::GET, path, &[]).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json().await
}

/// The parameters of an operation in one place: `path`, `query` or `header`.
fn parameters<'d>(operation: &'d Value, place: &str) -> BTreeSet<&'d str> {
    let all = operation["parameters"].as_array();
    let all = all.map_or(&[][..], |all| all);
    let names = all
        .iter()
        .filter(|parameter| parameter["in"] == place)
        .map(|parameter| {
            assert!(parameter["description"].is_string(), "{parameter}");
            assert!(parameter["schema"]["type"].is_string(), "{parameter}");
            parameter["name"].as_str().unwrap()
        });
    names.collect()
}

/// All `$ref`s in a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(at)) = map.get("$ref") {
                found.insert(at.clone());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_native_route_is_in_the_document_and_nothing_else() {
    let node = Guarded::start(Policy::default()).await;
    let document = document(&node).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["x-lode-scope"].as_str().unwrap();
            documented.insert((method.to_uppercase(), path.clone(), scope.to_owned()));
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
    }
    let mut routes = BTreeSet::new();
    for (method, pattern, scope) in node.routes() {
        if Dialect::of(&pattern) != Dialect::Native || pattern.starts_with("/lode/v1/uploads/") {
            continue;
        }
        let path = pattern.replace("..}", "}");
        if method == "GET" {
            routes.insert(("HEAD".to_owned(), path.clone(), scope.clone()));
        }
        routes.insert((method, path, scope));
    }
    assert!(routes.len() >= 33, "{routes:?}");
    assert_eq!(documented, routes);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_says_what_it_takes_and_what_it_answers() {
    let node = Guarded::start(Policy::default()).await;
    let document = document(&node).await;
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let said = format!("{method} {path}: {operation:#}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap()),
                "{said}"
            );
            let names = path.split('/').filter_map(|part| part.strip_prefix('{'));
            let names: BTreeSet<&str> = names.map(|name| name.trim_end_matches('}')).collect();
            assert_eq!(parameters(operation, "path"), names, "{said}");
            let answers = operation["responses"].as_object().unwrap();
            let has = |status: &str| answers.contains_key(status);
            let good = answers.keys().any(|status| status.starts_with('2'));
            assert!(good, "not described: {said}");
            assert!(
                has("400") && has("403") && has("429") && has("500"),
                "{said}"
            );
            let scope = operation["x-lode-scope"].as_str().unwrap();
            assert_eq!(has("401"), scope != "anyone", "{said}");
            if scope == "read" || scope == "write" {
                assert!(has("404") && has("503"), "{said}");
            }
            if has("503") {
                let after = &answers["503"]["headers"]["Retry-After"];
                assert!(after.is_object(), "{said}");
            }
            if has("206") {
                assert!(has("416") && has("412") && has("304"), "{said}");
                assert!(parameters(operation, "header").contains("Range"), "{said}");
            }
            for (status, answer) in answers {
                let body = answer.get("content").is_some();
                let none = method == "head" || matches!(&status[..], "304" | "431" | "204");
                assert_eq!(body, !none, "{status} of {said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_schema_that_is_named_is_there_and_every_one_there_is_used() {
    let node = Guarded::start(Policy::default()).await;
    let document = document(&node).await;
    let mut named = BTreeSet::new();
    references(&document, &mut named);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let there = schemas
        .keys()
        .map(|name| format!("#/components/schemas/{name}"));
    assert_eq!(named, there.collect());
    for name in [
        "Problem", "Model", "Version", "File", "Tensor", "Variant", "Chunk", "Command",
    ] {
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_knows_no_peer_says_at_once_that_something_is_absent_however_often() {
    let node = Guarded::start(Policy::default()).await;
    for at in 0..64_u8 {
        let hash = ChunkHash::of(&[at]);
        for path in [
            format!("/lode/v1/chunks/{hash}"),
            format!("/lode/v1/models/{hash}/absent/main"),
        ] {
            let answer = client::over_http(node.http, Method::GET, &path, &[]).await;
            assert_eq!(answer.status(), 404, "{path}");
        }
    }
    assert_eq!(node.node.fetcher().figures().lookups, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_the_document_does_not_know_is_refused() {
    let node = Guarded::start(Policy::default()).await;
    let document = document(&node).await;
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let operation = &item["get"];
        if operation.is_null() {
            continue;
        }
        let filled = path
            .replace("{publisher}", "acme")
            .replace("{model}", "open")
            .replace("{rev}", "main")
            .replace("{path}", "a.txt")
            .replace("{name}", "x")
            .replace("{hash}", &"0".repeat(64));
        let get = async |query: &str| {
            let path = format!("{filled}?{query}");
            let mut answer = client::over_http(node.http, Method::GET, &path, &[]).await;
            let body = answer.bytes().await.unwrap();
            (answer.status(), String::from_utf8_lossy(&body).into_owned())
        };
        let (status, body) = get("unheard=1").await;
        assert!(
            status == 400 && body.contains("no parameter"),
            "{path}: {status} {body}"
        );
        for name in parameters(operation, "query") {
            let (_, body) = get(&format!("{name}=")).await;
            assert!(!body.contains("no parameter"), "{path}: {body}");
            let (status, body) = get(&format!("{name}=&{name}=")).await;
            assert!(
                status == 400 && body.contains("twice"),
                "{path}: {status} {body}"
            );
        }
        asked += 1;
    }
    assert!(asked >= 16, "{asked}");
}
