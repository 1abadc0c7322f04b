//! The routes that take xorbs and shards. All others of the protocol answer 404, and clients go on without.

use std::io;

use hyper::StatusCode;
use lode_node::{
    command::FailureKind,
    upload::{Inbox, UploadError, Uploads},
};
use serde_json::json;

use super::{
    hash::XetHash,
    shard::{self, ShardError},
    xorb::{XorbError, XorbReader},
};
use crate::{
    answer::{Answer, Problem, json},
    intake::{BodyReader, Granted, Intake, What, bearer, with_body},
    route::{Request, Route},
};

/// The routes of the storage.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post("/xet/{epoch}/v1/xorbs/{prefix}/{hash}", "Takes a xorb")
            .scope::<Granted>()
            .to(put_xorb),
        Route::post("/xet/{epoch}/v1/shards", "Takes a shard")
            .scope::<Granted>()
            .to(put_shard),
        Route::post("/xet/{epoch}/v2/shards", "Takes no shard")
            .scope::<Granted>()
            .to(refuse_shard),
    ]
}

fn open(intake: &Intake, request: &Request) -> Result<(Inbox, Uploads), Problem> {
    let token = bearer(&request.headers);
    let status = StatusCode::UNAUTHORIZED;
    let missing = || {
        Problem::new(
            status,
            FailureKind::Refused,
            "send the token of this storage",
        )
    };
    match intake.open(token.ok_or_else(missing)?)? {
        (grant, inbox, uploads) if grant.what == What::Xet => Ok((inbox, uploads)),
        _ => Err(Problem::refused("this token is for something else")),
    }
}

/// `POST /xet/{epoch}/v1/xorbs/{prefix}/{hash}`
async fn put_xorb(intake: Intake, request: Request) -> Answer {
    let (inbox, uploads) = open(&intake, &request)?;
    let name = XetHash::parse(request.params.get("hash"))
        .ok_or_else(|| Problem::usage("a xorb is named by 64 hex digits"))?;
    let inserted = with_body(request.body, move |body| {
        if uploads.has_xorb(&inbox, name.as_bytes()) {
            io::copy(body, &mut io::sink()).map_err(|source| UploadError::Body { source })?;
            return Ok(false);
        }
        let mut new = uploads.begin_xorb()?;
        let mut reader = XorbReader::new(body);
        while let Some(chunk) = reader.next_chunk()? {
            new.add(chunk)?;
        }
        let found = reader.finish();
        if found != name {
            return Err(Problem::from(UploadError::Digest {
                expected: name.to_string(),
                found: found.to_string(),
            }));
        }
        uploads.finish_xorb(&inbox, name.as_bytes(), new)?;
        Ok(true)
    });
    let inserted = inserted.await?;
    Ok(json(StatusCode::OK, &json!({ "was_inserted": inserted })))
}

/// `POST /xet/{epoch}/v1/shards`
///
/// Its files are made and stored before it is answered.
async fn put_shard(intake: Intake, request: Request) -> Answer {
    let (inbox, uploads) = open(&intake, &request)?;
    with_body(request.body, move |body| {
        let _turn = uploads.turn();
        let files = shard::read(body)?;
        drain(body)?;
        Ok(uploads.assemble(&inbox, files)?)
    })
    .await?;
    Ok(json(StatusCode::OK, &json!({ "result": 1 })))
}

/// `POST /xet/{epoch}/v2/shards`
///
/// Clients ask here first, and go on to version 1 where they hear of 404. They hear of nothing while they send: an
/// answer before the whole shard was read breaks the connection, and they try again after a while that grows
/// from three seconds on.
async fn refuse_shard(intake: Intake, request: Request) -> Answer {
    open(&intake, &request)?;
    with_body(request.body, drain).await?;
    Err(Problem::not_found("shards are taken by version 1"))
}

/// Reads what is left of a shard: the answer comes after the request.
fn drain(body: &mut BodyReader) -> Result<(), Problem> {
    use io::Read as _;
    let mut rest = body.take(crate::limits::SHARD_REST_BYTES_MAX);
    io::copy(&mut rest, &mut io::sink()).map_err(|source| UploadError::Body { source })?;
    Ok(())
}

impl From<XorbError> for Problem {
    fn from(error: XorbError) -> Self {
        match error {
            XorbError::TooLarge => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Self::new(status, FailureKind::Usage, error.to_string())
            }
            error => Self::usage(error.to_string()),
        }
    }
}

impl From<ShardError> for Problem {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::TooLarge => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Self::new(status, FailureKind::Usage, error.to_string())
            }
            error => Self::usage(error.to_string()),
        }
    }
}
