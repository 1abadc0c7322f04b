//! Branches and tags.

use hyper::StatusCode;
use lode_node::upload::RefKind;
use serde::Deserialize;
use serde_json::json;

use super::{BRANCH, TAG, model, parse, short_rev};
use crate::{
    answer::{Answer, json},
    intake::carry_out,
    limits::UPLOAD_JSON_BYTES_MAX,
    route::Request,
    writer::Writer,
};

/// `POST /api/{kind}/{publisher}/{model}/branch/{rev}`
pub(super) async fn create_branch(writer: Writer, mut request: Request) -> Answer {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Asked {
        starting_point: Option<String>,
    }
    let body = request.take_body(UPLOAD_JSON_BYTES_MAX).await?;
    let asked: Asked = match body.is_empty() {
        true => Asked::default(),
        false => parse(&body)?,
    };
    let start = asked.starting_point;
    create(writer, request, BRANCH, None, start).await
}

/// `POST /api/{kind}/{publisher}/{model}/tag/{rev}`
pub(super) async fn create_tag(writer: Writer, mut request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Asked {
        tag: String,
    }
    let body = request.take_body(UPLOAD_JSON_BYTES_MAX).await?;
    let asked: Asked = parse(&body)?;
    let at = request.params.get("rev").to_owned();
    create(writer, request, TAG, Some(asked.tag), Some(at)).await
}

async fn create(
    writer: Writer,
    request: Request,
    kind: RefKind,
    name: Option<String>,
    at: Option<String>,
) -> Answer {
    let model = model(&writer, &request.params).await?.name().clone();
    let uploads = writer.uploads()?;
    let name = name.unwrap_or_else(|| request.params.get("rev").to_owned());
    carry_out(move || {
        uploads.create_ref(&model, kind, short_rev(&name), at.as_deref().map(short_rev))
    })
    .await?;
    Ok(json(StatusCode::OK, &json!({})))
}

/// `DELETE /api/{kind}/{publisher}/{model}/branch/{rev}`
pub(super) async fn delete_branch(writer: Writer, request: Request) -> Answer {
    delete(writer, request, BRANCH).await
}

/// `DELETE /api/{kind}/{publisher}/{model}/tag/{rev}`
pub(super) async fn delete_tag(writer: Writer, request: Request) -> Answer {
    delete(writer, request, TAG).await
}

async fn delete(writer: Writer, request: Request, kind: RefKind) -> Answer {
    let model = model(&writer, &request.params).await?.name().clone();
    let uploads = writer.uploads()?;
    let name = request.params.get("rev").to_owned();
    carry_out(move || uploads.delete_ref(&model, kind, short_rev(&name))).await?;
    Ok(json(StatusCode::OK, &json!({})))
}
