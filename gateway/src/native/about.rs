//! What a node says of itself: that it lives, what it speaks, and its figures.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    answer::{Answer, Problem, json, plain},
    control::PROGRAM,
    describe::Description,
    qdrant,
    route::Request,
    scope::{Desk, Lobby},
};

/// Media type of figures.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What answers here.
#[derive(Serialize, ToSchema)]
struct About {
    /// For clients of Qdrant, as are the next two.
    title: &'static str,
    /// The interface that is spoken on `/collections`.
    version: &'static str,
    #[schema(required)]
    commit: Option<&'static str>,
    /// `lode`.
    name: &'static str,
    /// Its version.
    program: &'static str,
    /// Where models are listed.
    models: &'static str,
    /// Where the OpenAPI document is.
    openapi: &'static str,
}

/// `GET /`
pub(super) async fn root(_: Lobby, _: Request) -> Answer {
    let about = About {
        title: "lode, which speaks Qdrant's REST interface",
        version: qdrant::VERSION,
        commit: None,
        name: "lode",
        program: PROGRAM,
        models: "/lode/v1/models",
        openapi: "/lode/v1/openapi.json",
    };
    Ok(json(StatusCode::OK, &about))
}

pub(super) fn describe_root() -> Description {
    Description::json::<About>("What answers here, and where to go on.")
}

/// `GET /healthz`
pub(super) async fn health(_: Lobby, _: Request) -> Answer {
    Ok(plain(
        StatusCode::OK,
        "text/plain",
        Bytes::from_static(b"ok\n"),
    ))
}

pub(super) fn describe_health() -> Description {
    Description::text("text/plain", "`ok`: the process lives.")
}

/// `GET /readyz`
pub(super) async fn ready(lobby: Lobby, _: Request) -> Answer {
    match lobby.is_ready() {
        true => Ok(plain(
            StatusCode::OK,
            "text/plain",
            Bytes::from_static(b"ready\n"),
        )),
        false => Err(Problem::stopping()),
    }
}

pub(super) fn describe_ready() -> Description {
    Description::text("text/plain", "`ready`: requests are welcome.")
        .problem(503, "The node is stopping.")
        .header(503, "Retry-After", "Seconds to wait before asking again.")
}

/// `GET /metrics`
pub(super) async fn metrics(desk: Desk, _: Request) -> Answer {
    Ok(plain(
        StatusCode::OK,
        PROMETHEUS,
        desk.figures().await.into(),
    ))
}

pub(super) fn describe_metrics() -> Description {
    Description::text(PROMETHEUS, "Figures, as Prometheus reads them.")
}

/// `GET /lode/v1/openapi.json`
pub(super) async fn openapi(lobby: Lobby, _: Request) -> Answer {
    Ok(plain(StatusCode::OK, "application/json", lobby.openapi()))
}

pub(super) fn describe_openapi() -> Description {
    Description::json::<serde_json::Value>("This document.")
}
