//! Files of a version: the list, each file's bytes, and the chunks that it is made of.

use std::sync::Arc;

use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_DISPOSITION, HeaderName, HeaderValue},
};
use lode_store::tree::Mode;
use lode_tensors::ByteRange;
use serde::Serialize;

use super::{hex, json_list, variants};
use crate::{
    answer::{Answer, Problem, json},
    condition::Etag,
    content::Content,
    limits::CHUNK_ROWS_MAX,
    reader::{OpenVersion, Reader},
    route::{Params, Request},
    stored::OpenFile,
    target::encode_segment,
};

/// Where a link points to.
const LINK: HeaderName = HeaderName::from_static("lode-link");
/// The hash of the list of a file's chunk hashes.
const SEQ: HeaderName = HeaderName::from_static("lode-seq");
/// A digest of the whole file (RFC 9530), whatever range is sent.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// One row of a file list.
#[derive(Serialize)]
struct FileRow<'a> {
    path: &'a str,
    mode: &'static str,
    size: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<String>,
    rule: &'a str,
    chunks: u64,
    seq: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
}

/// `GET /lode/v1/models/{publisher}/{model}/{rev}/files`
pub(super) async fn list(reader: Reader, request: Request) -> Answer {
    let version = reader.version(&request.params).await?;
    if let Some(variant) = version.variant() {
        let rows = variants::rows(Arc::clone(variant));
        return json_list(&version, &request.headers, "files", rows);
    }
    let tree = Arc::clone(version.tree());
    let rows = (0..tree.files().len()).map(move |at| {
        let file = &tree.files()[at];
        let row = FileRow {
            path: &file.path,
            mode: file.mode.as_str(),
            size: file.size,
            sha256: hex(&file.sha256),
            git: file.git.as_ref().map(|git| hex(git)),
            rule: &file.chunks.rule,
            chunks: file.chunks.count,
            seq: file.chunks.seq.to_hex(),
            root: file.root.map(|root| root.to_hex()),
        };
        serde_json::to_string(&row).expect("a row has text keys and finite numbers")
    });
    json_list(&version, &request.headers, "files", rows)
}

/// `GET|HEAD /lode/v1/models/{publisher}/{model}/{rev}/files/{path..}`
pub(super) async fn content(reader: Reader, request: Request) -> Answer {
    let content = reader.content(&request.target, open(&reader, &request.params));
    content
        .await?
        .answer(&request.method, &request.headers)
        .await
}

async fn open(reader: &Reader, params: &Params) -> Result<Content, Problem> {
    let version = reader.version(params).await?;
    let (rev, path) = (params.get("rev"), params.get("path"));
    if let Some(variant) = version.variant() {
        let (at, file) = variant.file(path).ok_or_else(|| absent(path))?;
        if file.same_as(version.tree()).is_none() {
            let headers = HeaderMap::new();
            return variants::content(&version, variant, at, None, rev, headers).await;
        }
    }
    let (open, link) = find(&version, path).await?;
    let file = open.file();
    let mut headers = HeaderMap::new();
    version.mark(&mut headers);
    headers.insert(SEQ, ascii(file.seq().to_hex()));
    let digest = data_encoding::BASE64.encode(file.sha256());
    headers.insert(REPR_DIGEST, ascii(format!("sha-256=:{digest}:")));
    if let Some(link) = link {
        headers.insert(LINK, ascii(encode_path(&link)));
    }
    let (content_type, shown) = media_type(file.path());
    headers.insert(CONTENT_DISPOSITION, disposition(file.path(), shown));
    Ok(Content {
        len: file.len(),
        etag: Etag::new(hex(file.sha256())),
        content_type,
        immutable: version.is_pinned_by(rev),
        headers,
        source: Arc::new(open),
    })
}

/// One row of a chunk list.
#[derive(Serialize)]
struct ChunkRow {
    index: u64,
    hash: String,
    offset: u64,
    length: u32,
}

/// `GET /lode/v1/models/{publisher}/{model}/{rev}/chunks/{path..}`
pub(super) async fn chunks(reader: Reader, request: Request) -> Answer {
    #[derive(Serialize)]
    struct List {
        path: String,
        size: u64,
        seq: String,
        count: u64,
        chunks: Vec<ChunkRow>,
        /// The offset to ask for next; nothing when this is the last of them.
        next: Option<u64>,
    }
    let version = reader.version(&request.params).await?;
    if version.variant().is_some() {
        return Err(Problem::not_found(
            "the files of a variant are made on demand and have no chunks",
        )
        .advise("leave out the `:VARIANT`: the chunks are those of the version's own files"));
    }
    let (open, _) = find(&version, request.params.get("path")).await?;
    let file = open.file();
    let bound = |key: &str, absent: u64| match request.target.query(key) {
        None => Ok(absent),
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| Problem::usage(format!("{key} is a number of bytes, not {text:?}"))),
    };
    let (start, end) = (bound("start", 0)?, bound("end", file.len())?);
    let range = ByteRange::new(start, end.min(file.len()).max(start))
        .ok_or_else(|| Problem::usage("start comes after end"))?;
    let mut rows: Vec<ChunkRow> = file
        .chunks(range)
        .take(CHUNK_ROWS_MAX + 1)
        .map(|chunk| ChunkRow {
            index: chunk.index,
            hash: chunk.hash.to_hex(),
            offset: chunk.offset,
            length: chunk.length,
        })
        .collect();
    let next = (rows.len() > CHUNK_ROWS_MAX).then(|| rows.pop()).flatten();
    let list = List {
        path: file.path().to_owned(),
        size: file.len(),
        seq: file.seq().to_hex(),
        count: file.chunk_count() as u64,
        chunks: rows,
        next: next.map(|chunk| chunk.offset),
    };
    let mut response = json(StatusCode::OK, &list);
    version.mark(response.headers_mut());
    Ok(response)
}

fn absent(path: &str) -> Problem {
    Problem::not_found(format!("there is no file {path:?} in this version"))
        .advise("its files are listed at ../files")
}

/// The most links that lead from one to the next.
const LINKS_MAX: usize = 16;

/// The file at `path`, and, when links lead there, where they lead.
async fn find(version: &OpenVersion, path: &str) -> Result<(OpenFile, Option<String>), Problem> {
    let mut path = path.to_owned();
    let mut links = 0;
    loop {
        let Some(file) = version.tree().file(&path) else {
            return Err(absent(&path));
        };
        let reader = version.reader(file.clone()).await?;
        if file.mode != Mode::Link {
            return Ok((reader, (links > 0).then_some(path)));
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Problem::not_found("links lead in a circle"));
        }
        let target = reader.read_all().await?;
        path = follow(&path, &target)
            .ok_or_else(|| Problem::not_found(format!("the link {path:?} leads nowhere")))?;
    }
}

/// Where a link at `path` with this target leads, from the root of the version.
fn follow(path: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The media type for a name, and whether a browser may show it.
///
/// Only types that cannot run in a browser: a model's files are not ours.
pub(super) fn media_type(path: &str) -> (&'static str, bool) {
    let extension = path
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("json") => ("application/json", true),
        Some("txt" | "md" | "jinja" | "py" | "yaml" | "yml" | "toml") => {
            ("text/plain; charset=utf-8", true)
        }
        _ => ("application/octet-stream", false),
    }
}

/// `Content-Disposition` (RFC 6266) with the file's own name.
pub(super) fn disposition(path: &str, shown: bool) -> HeaderValue {
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-+ ".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let kind = if shown { "inline" } else { "attachment" };
    ascii(format!(
        "{kind}; filename=\"{plain}\"; filename*=UTF-8''{}",
        encode_segment(name)
    ))
}

fn encode_path(path: &str) -> String {
    path.split('/')
        .map(encode_segment)
        .collect::<Vec<_>>()
        .join("/")
}

/// A header's value that is made of visible ASCII characters and spaces.
pub(super) fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of visible ASCII characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_version_alone() {
        let follow = |path: &str, target: &str| follow(path, target.as_bytes());
        assert_eq!(
            follow("link", "config.json").as_deref(),
            Some("config.json")
        );
        assert_eq!(follow("a/b/link", "../c/./d").as_deref(), Some("a/c/d"));
        assert_eq!(follow("a/link", "../../etc/passwd"), None);
        assert_eq!(super::follow("a", b"\xff"), None);
    }

    #[test]
    fn names_of_any_script_are_kept() {
        let value = disposition("a/naïve \"模\".txt", true);
        let expected = "inline; filename=\"na_ve ___.txt\"; \
                        filename*=UTF-8''na%C3%AFve%20%22%E6%A8%A1%22.txt";
        assert_eq!(value.to_str().expect("ascii"), expected);
        let (kind, shown) = media_type("page.HTML");
        assert_eq!((kind, shown), ("application/octet-stream", false));
    }
}
