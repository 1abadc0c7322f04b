//! What a node says of itself: that it lives, what it speaks, and its figures.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;

use crate::{
    answer::{Answer, Problem, json, plain},
    control::PROGRAM,
    qdrant,
    route::Request,
    scope::{Desk, Lobby},
};

/// `GET /`
pub(super) async fn root(_: Lobby, _: Request) -> Answer {
    let about = json!({
        // what clients of Qdrant compare with theirs: the interface that is spoken on /collections
        "title": "lode, which speaks Qdrant's REST interface",
        "version": qdrant::VERSION,
        "commit": null,
        "name": "lode",
        "program": PROGRAM,
        "models": "/lode/v1/models",
        "openapi": "/lode/v1/openapi.json",
    });
    Ok(json(StatusCode::OK, &about))
}

/// `GET /healthz`
pub(super) async fn health(_: Lobby, _: Request) -> Answer {
    Ok(plain(
        StatusCode::OK,
        "text/plain",
        Bytes::from_static(b"ok\n"),
    ))
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

/// `GET /metrics`
pub(super) async fn metrics(desk: Desk, _: Request) -> Answer {
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    Ok(plain(
        StatusCode::OK,
        PROMETHEUS,
        desk.figures().await.into(),
    ))
}

/// `GET /lode/v1/openapi.json`
pub(super) async fn openapi(lobby: Lobby, _: Request) -> Answer {
    Ok(json(StatusCode::OK, &lobby.openapi()))
}
