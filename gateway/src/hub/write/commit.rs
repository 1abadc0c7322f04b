//! Commits: lines of JSON, read one by one, of any number and length together.

use std::io::{BufRead, BufReader, Read, Write as _};

use hyper::StatusCode;
use lode_node::{
    command::FailureKind,
    upload::{
        UploadError, Uploads,
        commit::{Change, Commit},
        limits::CHANGES_MAX,
    },
};
use lode_store::name::Name;
use serde::Deserialize;
use serde_json::json;

use super::{commit_id, cut, model, parse, sha256, short_rev};
use crate::{
    answer::{Answer, Problem, json},
    intake::with_body,
    limits::COMMIT_LINE_BYTES_MAX,
    route::Request,
    writer::Writer,
};

/// One line.
#[derive(Deserialize)]
#[serde(tag = "key", content = "value")]
enum Line<'a> {
    #[serde(rename = "header", rename_all = "camelCase")]
    Header {
        summary: String,
        #[serde(default)]
        description: String,
        parent_commit: Option<String>,
    },
    #[serde(rename = "file")]
    File {
        #[serde(borrow)]
        content: std::borrow::Cow<'a, str>,
        path: String,
        encoding: Option<String>,
    },
    #[serde(rename = "lfsFile")]
    LfsFile {
        path: String,
        algo: Option<String>,
        oid: String,
        size: Option<u64>,
    },
    #[serde(rename = "deletedFile")]
    DeletedFile { path: String },
    #[serde(rename = "deletedFolder")]
    DeletedFolder { path: String },
}

/// `POST /api/{kind}/{publisher}/{model}/commit/{rev}`
pub(super) async fn commit(writer: Writer, request: Request) -> Answer {
    if request
        .target
        .query("create_pr")
        .is_some_and(|value| value == "1")
    {
        let message = "there are no pull requests here: commit to a branch instead";
        let status = StatusCode::NOT_IMPLEMENTED;
        return Err(Problem::new(status, FailureKind::Refused, message));
    }
    let name = model(&writer, &request.params).await?.name().clone();
    let base = request.base();
    let branch = short_rev(request.params.get("rev")).to_owned();
    let uploads = writer.uploads()?;
    let shown = name.to_string();
    let committed = with_body(request.body, move |body| {
        // A model that is not there is said before anything is received.
        uploads.inbox(&name)?;
        let commit = read(&uploads, name, branch, body)?;
        Ok(uploads.commit(commit)?)
    });
    let id = commit_id(committed.await?.version);
    let prefix = match request.params.get("kind") {
        "datasets" => "datasets/",
        _ => "",
    };
    let answer = json!({
        "success": true,
        "commitOid": id,
        "commitUrl": format!("{base}/{prefix}{shown}/commit/{id}"),
        "hookOutput": "",
        "pullRequestUrl": null,
    });
    Ok(json(StatusCode::OK, &answer))
}

/// Reads a commit. Content goes to files as it comes; one line is in memory at a time.
fn read(
    uploads: &Uploads,
    name: Name,
    branch: String,
    body: &mut impl Read,
) -> Result<Commit, Problem> {
    let mut commit = Commit {
        name,
        branch,
        parent: None,
        message: String::new(),
        changes: Vec::new(),
        inline: uploads.begin_commit()?,
    };
    let mut headed = false;
    let mut body = BufReader::new(body);
    let mut line = Vec::new();
    while next_line(&mut body, &mut line)? {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let change = match parse(&line)? {
            Line::Header {
                summary,
                description,
                parent_commit,
            } => {
                if headed {
                    return Err(Problem::usage("a commit has one header"));
                }
                headed = true;
                commit.message = match description.is_empty() {
                    true => summary,
                    false => format!("{summary}\n\n{description}"),
                };
                commit.parent = parent_commit
                    .map(|parent| checked_parent(&parent))
                    .transpose()?;
                continue;
            }
            Line::File {
                content,
                path,
                encoding,
            } => {
                let mut file = commit.inline.begin()?;
                let bytes = match encoding.as_deref() {
                    Some("base64") | None => data_encoding::BASE64
                        .decode(content.as_bytes())
                        .map_err(|error| {
                            Problem::usage(format!("the content of {}: {error}", cut(&path)))
                        })?,
                    Some("utf-8") => content.into_owned().into_bytes(),
                    Some(other) => {
                        let message = format!("content is in base64, not in {}", cut(other));
                        return Err(Problem::usage(message));
                    }
                };
                file.write_all(&bytes)
                    .map_err(|source| UploadError::Body { source })?;
                let number = file.number();
                Change::Inline { path, number }
            }
            Line::LfsFile {
                path,
                algo,
                oid,
                size,
            } => {
                if algo.is_some_and(|algo| algo != "sha256") {
                    return Err(Problem::usage("files are named by their SHA-256"));
                }
                let sha256 = sha256(&oid)?;
                Change::Uploaded { path, sha256, size }
            }
            Line::DeletedFile { path } => Change::DeleteFile { path },
            Line::DeletedFolder { path } => Change::DeleteFolder { path },
        };
        if !headed {
            return Err(Problem::usage("a commit starts with its header"));
        }
        if commit.changes.len() == CHANGES_MAX {
            return Err(Problem::from(UploadError::TooLarge {
                what: "changes of a commit",
                max: CHANGES_MAX as u64,
            }));
        }
        commit.changes.push(change);
    }
    match headed {
        true => Ok(commit),
        false => Err(Problem::usage("a commit starts with its header")),
    }
}

/// A commit id, or the start of one that is long enough to mean one.
fn checked_parent(parent: &str) -> Result<String, Problem> {
    let hex = parent.bytes().all(|byte| byte.is_ascii_hexdigit());
    match hex && (7..=64).contains(&parent.len()) {
        true => Ok(parent.to_owned()),
        false => Err(Problem::usage(format!("{:?} is no commit", cut(parent)))),
    }
}

/// Reads the next line; whether there was one.
fn next_line(body: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Problem> {
    line.clear();
    let mut limited = body.take(COMMIT_LINE_BYTES_MAX + 1);
    let read = limited
        .read_until(b'\n', line)
        .map_err(|source| UploadError::Body { source })?;
    if line.len() as u64 > COMMIT_LINE_BYTES_MAX {
        let message = "a file is longer than a commit can hold: upload it before";
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(Problem::new(status, FailureKind::Usage, message));
    }
    Ok(read > 0)
}
