//! Large files by Git LFS: asked for by their SHA-256, sent to sealed addresses, whole or in parts.

use hyper::{
    StatusCode,
    header::{AUTHORIZATION, ETAG, HeaderValue},
};
use lode_node::upload::UploadError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{cut, parse, sha256};
use crate::{
    answer::{Answer, Problem, plain},
    intake::{BodyReader, Grant, Intake, UPLOADS, What, carry_out, with_body},
    limits::{
        LFS_PART_BYTES, LFS_PARTS_MAX, PREUPLOAD_BYTES_MAX, UPLOAD_FILES_MAX, UPLOAD_JSON_BYTES_MAX,
    },
    route::{Params, Request},
    writer::{Writable, Writer},
};

#[derive(Deserialize)]
struct Object {
    oid: String,
    size: u64,
}

/// The model that an address of Git LFS names: `{publisher}/{model}.git`.
async fn model(writer: &Writer, params: &Params) -> Result<Writable, Problem> {
    let repo = params.get("repo");
    let model = repo.strip_suffix(".git").unwrap_or(repo);
    writer.model(params.get("publisher"), model).await
}

fn lfs_json(status: StatusCode, value: &Value) -> crate::answer::Response {
    let bytes = value.to_string().into_bytes();
    plain(status, "application/vnd.git-lfs+json", bytes.into())
}

/// `POST /{publisher}/{model}.git/info/lfs/objects/batch`
pub(super) async fn batch(writer: Writer, mut request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Asked {
        operation: String,
        #[serde(default)]
        transfers: Vec<String>,
        objects: Vec<Object>,
        hash_algo: Option<String>,
    }
    let name = model(&writer, &request.params).await?.name().clone();
    let body = request.take_body(PREUPLOAD_BYTES_MAX).await?;
    let asked: Asked = parse(&body)?;
    if asked.operation != "upload" || asked.hash_algo.is_some_and(|algo| algo != "sha256") {
        return Err(Problem::usage("files are uploaded here, by their SHA-256"));
    }
    if asked.objects.len() > UPLOAD_FILES_MAX {
        let message = format!("at most {UPLOAD_FILES_MAX} files are asked for at a time");
        return Err(Problem::usage(message));
    }
    let hashes: Vec<[u8; 32]> = asked
        .objects
        .iter()
        .map(|object| sha256(&object.oid))
        .collect::<Result<_, _>>()?;
    let uploads = writer.uploads()?;
    let shown = name.clone();
    let (inbox, held) = carry_out(move || {
        let inbox = uploads.inbox(&name)?;
        let held = hashes.iter().map(|sha256| uploads.has(&inbox, sha256));
        let held = held.collect::<Result<Vec<_>, _>>()?;
        Ok((inbox, held))
    })
    .await?;
    let offered = |transfer: &str| asked.transfers.iter().any(|offer| offer == transfer);
    let base = request.base();
    let address = |what: What| {
        let text = writer.seal(&Grant::new(&inbox, what));
        format!("{base}{UPLOADS}{text}")
    };
    let long = asked
        .objects
        .iter()
        .any(|object| object.size > LFS_PART_BYTES);
    let transfer = match () {
        // Some clients send large files in no other way.
        () if offered("xet") => "xet",
        () if offered("multipart") && long => "multipart",
        () => "basic",
    };
    let row = |(object, held): (&Object, bool)| {
        let mut row = json!({ "oid": object.oid, "size": object.size });
        if held {
            return row;
        }
        let (oid, size) = (object.oid.to_ascii_lowercase(), object.size);
        let upload = match transfer {
            "xet" => json!({ "href": format!("{base}/api/models/{shown}/xet-write-token/main") }),
            "multipart" if size > LFS_PART_BYTES => {
                let part = LFS_PART_BYTES.max(size.div_ceil(LFS_PARTS_MAX));
                let parts = size.div_ceil(part);
                let mut header = json!({ "chunk_size": part.to_string() });
                for number in 0..parts {
                    let offset = number * part;
                    let what = What::Part {
                        sha256: oid.clone(),
                        size,
                        offset,
                        len: part.min(size - offset),
                    };
                    header[(number + 1).to_string()] = json!(address(what));
                }
                let complete = What::Complete {
                    sha256: oid,
                    parts,
                    part,
                };
                json!({ "href": address(complete), "header": header })
            }
            _ => json!({ "href": address(What::File { sha256: oid, size }), "header": {} }),
        };
        let verify = format!("{base}/{shown}.git/info/lfs/objects/verify");
        row["authenticated"] = json!(true);
        row["actions"] = json!({ "upload": upload });
        if transfer != "xet" {
            let token = request.headers.get(AUTHORIZATION);
            let token = token.and_then(|value| value.to_str().ok());
            let header = token.map_or(json!({}), |token| json!({ "Authorization": token }));
            row["actions"]["verify"] = json!({ "href": verify, "header": header });
        }
        row
    };
    let objects: Vec<Value> = asked.objects.iter().zip(held).map(row).collect();
    let answer = json!({ "transfer": transfer, "objects": objects, "hash_algo": "sha256" });
    Ok(lfs_json(StatusCode::OK, &answer))
}

/// `POST /{publisher}/{model}.git/info/lfs/objects/verify`
pub(super) async fn verify(writer: Writer, mut request: Request) -> Answer {
    let name = model(&writer, &request.params).await?.name().clone();
    let body = request.take_body(UPLOAD_JSON_BYTES_MAX).await?;
    let asked: Object = parse(&body)?;
    let hash = sha256(&asked.oid)?;
    let uploads = writer.uploads()?;
    let held = carry_out(move || uploads.has(&uploads.inbox(&name)?, &hash)).await?;
    match held {
        true => Ok(lfs_json(StatusCode::OK, &json!({}))),
        false => Err(Problem::not_found(format!(
            "no file of SHA-256 {} has come",
            cut(&asked.oid)
        ))
        .code("EntryNotFound")),
    }
}

/// `PUT /lode/v1/uploads/{grant}`
pub(super) async fn put(intake: Intake, request: Request) -> Answer {
    let (grant, inbox, uploads) = intake.open(request.params.get("grant"))?;
    let tag = match grant.what {
        What::File { sha256: oid, size } => {
            let hash = sha256(&oid)?;
            with_body(request.body, move |body| {
                let mut incoming = uploads.begin_file(hash, size)?;
                copy(body, &mut incoming)?;
                Ok(uploads.finish_file(&inbox, incoming)?)
            })
            .await?;
            oid
        }
        What::Part {
            sha256: oid,
            size,
            offset,
            len,
        } => {
            let hash = sha256(&oid)?;
            with_body(request.body, move |body| {
                Ok(uploads.put_part(&inbox, hash, size, offset, len, body)?)
            })
            .await?;
            part_tag(&oid, offset)
        }
        What::Complete { .. } | What::Xet | What::Files { .. } | What::Xorb { .. } => {
            return Err(Problem::usage("no bytes are sent here"));
        }
    };
    let mut response = plain(StatusCode::OK, "text/plain", bytes::Bytes::new());
    let tag = HeaderValue::try_from(format!("\"{tag}\"")).expect("made of hex digits");
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

fn copy(body: &mut BodyReader, to: &mut impl std::io::Write) -> Result<(), Problem> {
    std::io::copy(body, to).map_err(|source| UploadError::Body { source })?;
    Ok(())
}

/// `POST /lode/v1/uploads/{grant}`
pub(super) async fn complete(intake: Intake, mut request: Request) -> Answer {
    #[derive(Deserialize)]
    struct Asked {
        parts: Vec<AskedPart>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct AskedPart {
        part_number: u64,
        etag: String,
    }
    let (grant, inbox, uploads) = intake.open(request.params.get("grant"))?;
    let What::Complete {
        sha256: oid,
        parts,
        part,
    } = grant.what
    else {
        return Err(Problem::usage("a file is completed elsewhere"));
    };
    let body = request.take_body(PREUPLOAD_BYTES_MAX).await?;
    let asked: Asked = parse(&body)?;
    let mut numbers: Vec<u64> = asked.parts.iter().map(|part| part.part_number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if !numbers.iter().copied().eq(1..=parts) {
        let message = format!("{} of {parts} parts are named", numbers.len());
        return Err(Problem::usage(message));
    }
    let came = |named: &AskedPart| {
        let tag = part_tag(&oid, (named.part_number - 1) * part);
        named.etag.trim_matches('"') == tag
    };
    if !asked.parts.iter().all(came) {
        return Err(Problem::usage("a part is named that did not come"));
    }
    let hash = sha256(&oid)?;
    carry_out(move || uploads.finish_parts(&inbox, hash)).await?;
    Ok(lfs_json(StatusCode::OK, &json!({ "oid": oid })))
}

/// Names a part that came. The whole is checked when it is complete.
fn part_tag(oid: &str, offset: u64) -> String {
    let hash = blake3::hash(format!("{oid} {offset}").as_bytes());
    data_encoding::HEXLOWER.encode(&hash.as_bytes()[..16])
}
