//! The dialect of OCI's registries, for clients that pull: `oras`, Docker, Podman, ModelPack's and Ollama (docs/oci.md).
//!
//! A model is a repository, its branches and tags are tags, and so are its variants. Manifests are made when they are
//! asked for, of what a version says of its files: the same bytes on every node, so that a digest names them anywhere.
//! A blob is a file by its SHA-256, or one of the short texts that a manifest needs.

mod blobs;
mod facts;
mod format;
mod image;
mod known;
mod making;
mod manifests;
mod name;
pub mod reference;
mod tags;

use std::sync::Arc;

use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue},
};
use lode_node::command::FailureKind;
use lode_store::access::Caller;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Answer, Problem},
    control::Backend,
    reader::{Read, Reader},
    route::{Request, Route},
    scope::{Anyone, Lobby},
};
use known::Known;
use making::Making;

/// The digest of the bytes that are sent.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// What all addresses of the dialect say.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What the dialect remembers and makes.
#[derive(Debug)]
pub(crate) struct Registry {
    known: Known,
    making: Arc<Making>,
}

impl Registry {
    pub(crate) fn new(backend: Arc<dyn Backend>, stopping: CancellationToken) -> Self {
        Self {
            known: Known::default(),
            making: Arc::new(Making::new(backend, stopping)),
        }
    }
}

/// All routes of the dialect.
pub(crate) fn routes() -> Vec<Route> {
    const MANIFEST: &str = "/v2/{publisher}/{model}/manifests/{reference}";
    const BLOB: &str = "/v2/{publisher}/{model}/blobs/{digest}";
    const TAGS: &str = "/v2/{publisher}/{model}/tags/list";
    const UPLOADS: &str = "/v2/{publisher}/{model}/blobs/uploads/";
    vec![
        Route::get("/v2/", "Says that this is a registry")
            .scope::<Read>()
            .to(version),
        Route::get("/v2", "Says that this is a registry")
            .scope::<Read>()
            .to(version),
        Route::get(MANIFEST, "Sends a manifest")
            .scope::<Read>()
            .to(manifests::manifest),
        Route::get(BLOB, "Sends a blob, or ranges of it")
            .scope::<Read>()
            .to(blobs::blob),
        Route::get(TAGS, "Lists tags")
            .scope::<Read>()
            .to(tags::list),
        Route::post(UPLOADS, "Refuses an upload")
            .scope::<Anyone>()
            .to(no_uploads),
    ]
}

/// Marks an answer of the dialect as one.
pub(crate) fn mark(headers: &mut HeaderMap) {
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
}

/// `GET /v2/`: by the answer clients find out whether to send what they have to show.
async fn version(reader: Reader, _: Request) -> Answer {
    match reader.caller() {
        Caller::Anonymous => Err(Problem::unauthorized(
            "what is not public needs a token of this node",
        )),
        _ => Ok(answer::json(StatusCode::OK, &json!({}))),
    }
}

/// `POST /v2/{publisher}/{model}/blobs/uploads/`
async fn no_uploads(_: Lobby, _: Request) -> Answer {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let message = "nothing is pushed to a node through this address";
    Err(Problem::new(status, FailureKind::Usage, message)
        .advise("use `lode push`, or `hf upload` with HF_ENDPOINT")
        .code("UNSUPPORTED"))
}
