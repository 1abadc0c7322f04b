//! Models as a whole.

use hyper::StatusCode;
use lode_node::{
    command::FailureKind,
    upload::{Created, NewModel},
};
use lode_store::manifest::Kind;
use serde::Deserialize;
use serde_json::json;

use super::{model, parse};
use crate::{
    answer::{Answer, Problem, json},
    intake::carry_out,
    limits::UPLOAD_JSON_BYTES_MAX,
    route::Request,
    writer::{Writable, Writer},
};

/// What names a model in a body.
#[derive(Deserialize)]
struct Named {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    private: Option<bool>,
    visibility: Option<String>,
}

impl Named {
    /// Whether everyone may read it, if that is said.
    fn public(&self) -> Option<bool> {
        let said = self.visibility.as_deref().map(|said| said == "public");
        said.or_else(|| self.private.map(|private| !private))
    }

    fn kind(&self) -> Result<Kind, Problem> {
        match self.kind.as_deref().unwrap_or("model") {
            "model" => Ok(Kind::Model),
            "dataset" => Ok(Kind::Dataset),
            other => Err(Problem::usage(format!(
                "a home holds models and data sets, no {:?}",
                super::cut(other)
            ))),
        }
    }

    async fn writable(&self, writer: &Writer) -> Result<Writable, Problem> {
        let (publisher, model) = match (&self.organization, self.name.split_once('/')) {
            (Some(organization), _) => (organization.as_str(), self.name.as_str()),
            (None, Some((publisher, model))) => (publisher, model),
            (None, None) => {
                let message = "a model is named PUBLISHER/MODEL";
                return Err(Problem::usage(message));
            }
        };
        writer.model(publisher, model).await
    }
}

/// `POST /api/repos/create`
pub(super) async fn create(writer: Writer, mut request: Request) -> Answer {
    let body = request.take_body(UPLOAD_JSON_BYTES_MAX).await?;
    let named: Named = parse(&body)?;
    let (kind, public) = (named.kind()?, named.public() == Some(true));
    let name = named.writable(&writer).await?.name().clone();
    let uploads = writer.uploads()?;
    let prefix = match kind {
        Kind::Dataset => "datasets/",
        _ => "",
    };
    let publisher = name.publisher.to_string();
    let mut shown = name.model.clone();
    let created = carry_out(move || uploads.create(&NewModel { name, kind, public })).await?;
    let status = match created {
        Created::New => StatusCode::OK,
        Created::Known { model } => {
            shown = model;
            StatusCode::CONFLICT
        }
    };
    let base = request.base();
    let id = format!("{publisher}/{shown}");
    let url = format!("{base}/{prefix}{id}");
    let mut answer = json!({ "url": url, "name": id, "id": id });
    if status == StatusCode::CONFLICT {
        answer["error"] = json!(format!("You already created this model repo: {id}"));
    }
    Ok(json(status, &answer))
}

/// `DELETE /api/repos/delete`
pub(super) async fn delete(writer: Writer, mut request: Request) -> Answer {
    let body = request.take_body(UPLOAD_JSON_BYTES_MAX).await?;
    let named: Named = parse(&body)?;
    let name = named.writable(&writer).await?.name().clone();
    let uploads = writer.uploads()?;
    carry_out(move || uploads.delete(&name)).await?;
    Ok(json(StatusCode::OK, &json!({})))
}

/// `PUT /api/{kind}/{publisher}/{model}/settings`
pub(super) async fn settings(writer: Writer, mut request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Asked {
        private: Option<bool>,
        visibility: Option<String>,
        gated: Option<serde_json::Value>,
    }
    let body = request.take_body(UPLOAD_JSON_BYTES_MAX).await?;
    let asked: Asked = parse(&body)?;
    if asked.gated.is_some_and(|gated| gated != json!(false)) {
        return Err(unsupported("models are public or private here, not gated"));
    }
    let name = model(&writer, &request.params).await?.name().clone();
    let said = asked.visibility.map(|said| said == "public");
    let public = said.or(asked.private.map(|private| !private));
    if let Some(public) = public {
        let uploads = writer.uploads()?;
        carry_out(move || uploads.set_public(&name, public)).await?;
    }
    Ok(json(
        StatusCode::OK,
        &json!({ "private": public.map(|public| !public) }),
    ))
}

/// `POST /api/{kind}/{publisher}/{model}/discussions`
pub(super) async fn discussions(writer: Writer, request: Request) -> Answer {
    model(&writer, &request.params).await?;
    Err(unsupported(
        "there are no pull requests here: commit to a branch instead",
    ))
}

fn unsupported(message: &str) -> Problem {
    Problem::new(StatusCode::NOT_IMPLEMENTED, FailureKind::Refused, message)
}

/// `POST /api/validate-yaml`
///
/// What a model card says is free text to Lode.
pub(super) async fn validate_yaml(_: Writer, mut request: Request) -> Answer {
    request.take_body(UPLOAD_JSON_BYTES_MAX).await?;
    Ok(json(
        StatusCode::OK,
        &json!({ "errors": [], "warnings": [] }),
    ))
}
