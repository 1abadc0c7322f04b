//! The native dialect: `/lode/v1`, and what every port answers.

mod about;
mod chunks;
mod collections;
mod files;
mod models;
mod tensors;
mod variants;

use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};

use crate::{
    answer::Answer,
    body::Body,
    condition::{Etag, Verdict},
    control,
    reader::{OpenVersion, Read},
    route::Route,
    scope::{Admin, Anyone, Control},
};

/// All routes of the native dialect.
pub(crate) fn routes() -> Vec<Route> {
    const MODELS: &str = "/lode/v1/models";
    const MODEL: &str = "/lode/v1/models/{publisher}/{model}";
    const REV: &str = "/lode/v1/models/{publisher}/{model}/{rev}";
    const FILES: &str = "/lode/v1/models/{publisher}/{model}/{rev}/files";
    const FILE: &str = "/lode/v1/models/{publisher}/{model}/{rev}/files/{path..}";
    const FILE_CHUNKS: &str = "/lode/v1/models/{publisher}/{model}/{rev}/chunks/{path..}";
    const TENSORS: &str = "/lode/v1/models/{publisher}/{model}/{rev}/tensors";
    const TENSOR: &str = "/lode/v1/models/{publisher}/{model}/{rev}/tensors/{name..}";
    const VARIANTS: &str = "/lode/v1/models/{publisher}/{model}/{rev}/variants";
    const CHUNK: &str = "/lode/v1/chunks/{hash}";
    const OUTBOARD: &str = "/lode/v1/chunks/{hash}/outboard";
    let mut routes = vec![
        Route::get("/", "Says what answers here")
            .scope::<Anyone>()
            .to(about::root)
            .described(about::describe_root),
        Route::get("/healthz", "Says that the process lives")
            .scope::<Anyone>()
            .to(about::health)
            .described(about::describe_health),
        Route::get("/readyz", "Says whether requests are welcome")
            .scope::<Anyone>()
            .to(about::ready)
            .described(about::describe_ready),
        Route::get("/metrics", "Figures for Prometheus")
            .scope::<Admin>()
            .to(about::metrics)
            .described(about::describe_metrics),
        Route::get("/lode/v1/openapi.json", "This document")
            .scope::<Anyone>()
            .to(about::openapi)
            .described(about::describe_openapi),
        Route::get(MODELS, "Lists the models of the home")
            .scope::<Read>()
            .to(models::list)
            .described(models::describe_list),
        Route::get(MODEL, "Shows a model with its branches and tags")
            .scope::<Read>()
            .to(models::show)
            .described(models::describe_show),
        Route::get(REV, "Shows a version")
            .scope::<Read>()
            .to(models::version)
            .described(models::describe_version),
        Route::get(FILES, "Lists the files of a version")
            .scope::<Read>()
            .to(files::list)
            .described(files::describe_list),
        Route::get(FILE, "Sends a file, or ranges of it")
            .scope::<Read>()
            .to(files::content)
            .described(files::describe_content),
        Route::get(FILE_CHUNKS, "Lists the chunks of a file")
            .scope::<Read>()
            .to(files::chunks)
            .described(files::describe_chunks),
        Route::get(TENSORS, "Lists the tensors of a version")
            .scope::<Read>()
            .to(tensors::list)
            .described(tensors::describe_list),
        Route::get(TENSOR, "Sends a tensor, rows of it, or ranges of those")
            .scope::<Read>()
            .to(tensors::content)
            .described(tensors::describe_content),
        Route::get(VARIANTS, "Lists the variants of a version with their sizes")
            .scope::<Read>()
            .to(variants::list)
            .described(variants::describe_list),
        Route::get(CHUNK, "Sends a chunk or document by its hash")
            .scope::<Read>()
            .to(chunks::content)
            .described(chunks::describe_content),
        Route::get(OUTBOARD, "Sends a chunk's hash tree")
            .scope::<Read>()
            .to(chunks::outboard)
            .described(chunks::describe_outboard),
        Route::post(
            "/lode/v1/commands",
            "Carries out one command of the program",
        )
        .scope::<Control>()
        .to(control::commands)
        .described(control::describe_commands),
    ];
    routes.extend(collections::routes());
    routes
}

/// A list of any length: `{"version","tree",KEY:[rows]}`, made while it is sent.
fn json_list(
    version: &OpenVersion,
    request: &HeaderMap,
    key: &str,
    rows: impl Iterator<Item = String> + Send + Unpin + 'static,
) -> Answer {
    let (id, tree) = (version.id(), version.doc().tree);
    let variant = version.variant().map(|at| format!("{}.", at.id));
    let etag = Etag::new(format!("{id}.{}{key}", variant.unwrap_or_default()));
    let mut response = match etag.weigh(request) {
        Verdict::NotModified => {
            let mut response = hyper::Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        _ => {
            let head = format!("{{\"version\":\"{id}\",\"tree\":\"{tree}\",\"{key}\":[\n");
            let mut response = hyper::Response::new(Body::of_rows(head, rows, "\n]}\n"));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, etag.header());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    version.mark(headers);
    Ok(response)
}
