//! Where clients send xorbs.

use hyper::StatusCode;
use lode_node::command::FailureKind;

use super::model;
use crate::{
    answer::{Answer, Problem},
    hub::xet::token,
    intake::{Grant, What, carry_out},
    route::Request,
    writer::Writer,
};

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
    let sealed = writer.seal(&grant);
    let url = format!("{}/xet/{epoch:016x}{}", request.base(), inbox.id());
    Ok(token(url, &grant, sealed))
}
