//! How files are to be sent, and files that need not be.

use hyper::StatusCode;
use lode_store::tree::Mode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{model, parse, sha256};
use crate::{
    answer::{Answer, Problem, json},
    hub::class::is_lfs,
    intake::carry_out,
    limits::{PREUPLOAD_BYTES_MAX, UPLOAD_FILES_MAX},
    route::Request,
    writer::Writer,
};

/// `POST /api/{kind}/{publisher}/{model}/preupload/{rev}`
///
/// Clients leave files alone whose `oid` is that of what they would send.
pub(super) async fn preupload(writer: Writer, mut request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Asked {
        files: Vec<AskedFile>,
    }
    #[derive(Deserialize)]
    struct AskedFile {
        path: String,
        size: u64,
    }
    model(&writer, &request.params).await?;
    let body = request.take_body(PREUPLOAD_BYTES_MAX).await?;
    let asked: Asked = parse(&body)?;
    if asked.files.len() > UPLOAD_FILES_MAX {
        let message = format!("at most {UPLOAD_FILES_MAX} files are asked for at a time");
        return Err(Problem::usage(message));
    }
    let version = writer.reader().version(&request.params).await?;
    let tree = version.tree();
    let row = |file: AskedFile| {
        let large = is_lfs(&file.path, file.size);
        let known = tree
            .file(&file.path)
            .filter(|known| known.mode != Mode::Link);
        let oid = known.and_then(|known| match (large, &known.git) {
            (true, _) => Some(data_encoding::HEXLOWER.encode(&known.sha256)),
            (false, Some(git)) => Some(data_encoding::HEXLOWER.encode(git)),
            (false, None) => None,
        });
        let mode = if large { "lfs" } else { "regular" };
        let mut row = json!({ "path": file.path, "uploadMode": mode, "shouldIgnore": false });
        if let Some(oid) = oid {
            row["oid"] = json!(oid);
        }
        row
    };
    let files: Vec<Value> = asked.files.into_iter().map(row).collect();
    Ok(json(StatusCode::OK, &json!({ "files": files })))
}

/// `POST /api/{kind}/{publisher}/{model}/lfs-files/duplicate`: of the model that has them.
pub(super) async fn duplicate(writer: Writer, mut request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Asked {
        target: Target,
        files: Vec<AskedFile>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct AskedFile {
        sha256: String,
    }
    super::check_kind(request.params.get("kind"))?;
    let source = writer.reader().model(&request.params).await?;
    let body = request.take_body(PREUPLOAD_BYTES_MAX).await?;
    let asked: Asked = parse(&body)?;
    if asked.files.len() > UPLOAD_FILES_MAX {
        let message = format!("at most {UPLOAD_FILES_MAX} files are copied at a time");
        return Err(Problem::usage(message));
    }
    let (publisher, name) = asked
        .target
        .name
        .split_once('/')
        .ok_or_else(|| Problem::usage("a model is named PUBLISHER/MODEL"))?;
    let target = writer.model(publisher, name).await?.name().clone();
    let uploads = writer.uploads()?;
    let from = lode_node::upload::Inbox::new(source.at().publisher, &source.at().model);
    let hashes: Vec<(String, [u8; 32])> = asked
        .files
        .into_iter()
        .map(|file| Ok((file.sha256.clone(), sha256(&file.sha256)?)))
        .collect::<Result<_, Problem>>()?;
    let failed = carry_out(move || {
        let inbox = uploads.inbox(&target)?;
        let mut failed = Vec::new();
        for (shown, sha256) in hashes {
            if let Err(error) = uploads.duplicate(&inbox, &from, &sha256) {
                failed.push(json!({ "sha256": shown, "error": error.to_string() }));
            }
        }
        Ok(failed)
    });
    let failed = failed.await?;
    Ok(json(StatusCode::OK, &json!({ "failed": failed })))
}
