//! Files of a version: the list, each file's bytes, and the chunks that it is made of.

use std::sync::Arc;

use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_DISPOSITION, HeaderName},
};
use lode_tensors::ByteRange;
use serde::Serialize;
use utoipa::ToSchema;

use super::{json_list, variants};
use crate::{
    answer::{Answer, Problem, json},
    condition::Etag,
    content::Content,
    describe::{Description, count, schema},
    file::{absent, ascii, disposition, encode_path, hex, media_type},
    limits::CHUNK_ROWS_MAX,
    reader::Reader,
    route::{Params, Request},
};

/// Where a link points to.
const LINK: HeaderName = HeaderName::from_static("lode-link");
/// The hash of the list of a file's chunk hashes.
const SEQ: HeaderName = HeaderName::from_static("lode-seq");
/// A digest of the whole file (RFC 9530), whatever range is sent.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// One row of a file list.
#[derive(Serialize, ToSchema)]
#[schema(as = File)]
struct FileRow<'a> {
    path: &'a str,
    /// `file`, `exec` or `link`.
    mode: &'static str,
    /// Bytes.
    size: u64,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// Its id in git, of files of at most 10 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-f]{40}$")]
    git: Option<String>,
    /// How it was cut into chunks.
    rule: &'a str,
    /// How many chunks.
    chunks: u64,
    /// Hash of the list of its chunks' hashes.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    seq: String,
    /// BLAKE3 of the whole file, if it was pushed with `--file-roots`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-f]{64}$")]
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

pub(super) fn describe_list() -> Description {
    let kinds = [schema::<FileRow<'_>>(), schema::<variants::FileRow<'_>>()];
    Description::rows(
        "files",
        &kinds,
        "The files; those of a variant say whether they are made.",
    )
    .of_version()
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
    let (open, link) = version.find(path).await?;
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

pub(super) fn describe_content() -> Description {
    Description::bytes(true, "The file.")
        .of_version()
        .sends("Repr-Digest", "SHA-256 of the whole file (RFC 9530).")
        .sends("Content-Disposition", "The file's own name.")
        .sends("Lode-Seq", "Hash of the list of the file's chunk hashes.")
        .sends("Lode-Link", "Where a link led, when the path is one.")
}

/// One row of a chunk list.
#[derive(Serialize, ToSchema)]
#[schema(as = Chunk)]
struct ChunkRow {
    /// Its place in the file.
    index: u64,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    hash: String,
    /// Its first byte in the file.
    offset: u64,
    /// Bytes.
    length: u32,
}

/// The chunks of a part of a file.
#[derive(Serialize, ToSchema)]
struct ChunkList {
    path: String,
    /// Bytes of the file.
    size: u64,
    /// Hash of the list of all its chunks' hashes.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    seq: String,
    /// How many chunks it has.
    count: u64,
    chunks: Vec<ChunkRow>,
    /// The offset to ask for next; nothing when this is the last of them.
    #[schema(required)]
    next: Option<u64>,
}

/// `GET /lode/v1/models/{publisher}/{model}/{rev}/chunks/{path..}`
pub(super) async fn chunks(reader: Reader, request: Request) -> Answer {
    let version = reader.version(&request.params).await?;
    if version.variant().is_some() {
        return Err(Problem::not_found(
            "the files of a variant are made on demand and have no chunks",
        )
        .advise("leave out the `:VARIANT`: the chunks are those of the version's own files"));
    }
    let (open, _) = version.find(request.params.get("path")).await?;
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
    let list = ChunkList {
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

pub(super) fn describe_chunks() -> Description {
    Description::json::<ChunkList>("Up to 10,000 chunks that hold the bytes asked for.")
        .of_version()
        .query("start", "First byte; 0 if absent.", count())
        .query(
            "end",
            "The byte after the last; the file's end if absent.",
            count(),
        )
}
