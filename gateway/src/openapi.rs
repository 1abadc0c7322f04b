//! The OpenAPI document of the native dialect, made from the table of routes so that it cannot lack one.
//! The other dialects are their clients' own, and documented where those are.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::{
    dialect::Dialect,
    route::{Route, Routes},
};

/// The document for these routes.
pub(crate) fn document(routes: &Routes) -> Value {
    let mut paths = Map::new();
    // Sealed addresses for uploads are the Hub's, which alone gives them out.
    let native = |route: &&Route| {
        let pattern = route.pattern();
        Dialect::of(pattern) == Dialect::Native && !pattern.starts_with("/lode/v1/uploads/")
    };
    for route in routes.iter().filter(native) {
        let path = route.pattern().replace("..}", "}");
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        let operation = operation(route);
        match route.method() == Method::GET {
            true => {
                methods["head"] = operation.clone();
                methods["get"] = operation;
            }
            false => methods[route.method().as_str().to_ascii_lowercase()] = operation,
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lode",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Models, versions, files, tensors and chunks of a node.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["error"],
                    "properties": { "error": {
                        "type": "object",
                        "required": ["kind", "message"],
                        "properties": {
                            "kind": { "enum": ["failed", "usage", "not_found", "refused", "corrupt", "no_peer"] },
                            "message": { "type": "string" },
                            "advice": { "type": ["string", "null"] },
                        },
                    }},
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let parameters: Vec<Value> = route
        .names()
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        })
        .collect();
    json!({
        "summary": route.about(),
        "x-lode-scope": route.scope(),
        "parameters": parameters,
        "responses": {
            "2XX": { "description": "The answer." },
            "default": {
                "description": "What went wrong.",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            },
        },
    })
}
