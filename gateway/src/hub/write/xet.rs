//! Where clients send xorbs.

use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use lode_node::command::FailureKind;
use serde_json::json;

use super::model;
use crate::{
    answer::{Answer, Problem, json},
    intake::{Grant, What, carry_out},
    route::Request,
    writer::Writer,
};

const CAS_URL: HeaderName = HeaderName::from_static("x-xet-cas-url");
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-xet-access-token");
const TOKEN_EXPIRATION: HeaderName = HeaderName::from_static("x-xet-token-expiration");

/// `GET /api/{kind}/{publisher}/{model}/xet-write-token/{rev}`
///
/// The address has the epoch in it: clients keep apart what they know of stores with other addresses.
pub(super) async fn write_token(writer: Writer, request: Request) -> Answer {
    if request.target.query("create_pr").is_some() {
        let message = "there are no pull requests here: commit to a branch instead";
        let status = StatusCode::NOT_IMPLEMENTED;
        return Err(Problem::new(status, FailureKind::Refused, message));
    }
    let name = model(&writer, &request.params).await?.name().clone();
    let uploads = writer.uploads()?;
    let (inbox, epoch) = carry_out(move || Ok((uploads.inbox(&name)?, uploads.epoch()?))).await?;
    let grant = Grant::new(&inbox, What::Xet);
    let token = writer.seal(&grant);
    let base = request.base();
    let url = format!("{base}/xet/{epoch:016x}{}", inbox.id());
    let shown = json!({ "casUrl": url, "exp": grant.expires(), "accessToken": token });
    let mut response = json(StatusCode::OK, &shown);
    let text = |value: String| HeaderValue::try_from(value).expect("made of visible characters");
    let headers = response.headers_mut();
    headers.insert(CAS_URL, text(url));
    headers.insert(ACCESS_TOKEN, text(token));
    headers.insert(TOKEN_EXPIRATION, HeaderValue::from(grant.expires()));
    Ok(response)
}
