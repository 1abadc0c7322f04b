//! Lists of files: trees, page by page, and single paths.

use hyper::{StatusCode, header::LINK};
use lode_node::command::FailureKind;
use serde::Serialize;

use super::{
    class, date,
    files::{Entry, Files},
    json_rows, page,
    repo::{Repo, Revision},
};
use crate::{
    answer::{Answer, Problem, Response},
    dialect::X_REPO_COMMIT,
    file::{absent, ascii},
    limits::{HUB_PATHS_BYTES_MAX, HUB_PATHS_MAX, HUB_ROWS_MAX},
    reader::Reader,
    route::Request,
    target::{Target, encode_segment},
};

/// One row: a file, or a folder that the path of the file at this position is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    file: usize,
    /// Bytes of the file's path that are the folder's.
    folder: Option<usize>,
}

/// The row of a file or folder as the Hub writes it.
#[derive(Serialize)]
struct Shown<'a> {
    r#type: &'static str,
    path: &'a str,
    size: u64,
    oid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs: Option<Lfs>,
    #[serde(rename = "lastCommit", skip_serializing_if = "Option::is_none")]
    last_commit: Option<&'a LastCommit>,
}

/// What is said of a file of the LFS class.
#[derive(Serialize)]
pub(super) struct Lfs {
    oid: String,
    size: u64,
    #[serde(rename = "pointerSize")]
    pointer_size: usize,
}

/// The commit that a row is of.
#[derive(Serialize)]
struct LastCommit {
    id: String,
    title: String,
    date: String,
}

impl Lfs {
    /// The same as the Hub says it elsewhere.
    pub(super) fn of_blob(&self) -> serde_json::Value {
        serde_json::json!({
            "sha256": self.oid,
            "size": self.size,
            "pointerSize": self.pointer_size,
        })
    }
}

impl LastCommit {
    fn of(revision: &Revision) -> Self {
        Self {
            id: revision.commit.clone(),
            title: revision.title().0,
            date: date(revision.version.doc().time),
        }
    }
}

/// The git oid of a file, and what is said of it if it is of the LFS class.
pub(super) fn oids(entry: &Entry) -> (String, Option<Lfs>) {
    if !entry.lfs {
        return (entry.etag.clone(), None);
    }
    let (oid, pointer_size) = class::pointer_oid(&entry.etag, entry.size);
    let lfs = Lfs {
        oid: entry.etag.clone(),
        size: entry.size,
        pointer_size,
    };
    (oid, Some(lfs))
}

/// The rows of what is in `folder` (empty for all), and of what is in its folders if `recursive`; nothing when
/// there is no such folder.
fn rows(files: &Files, folder: &str, recursive: bool) -> Option<Vec<Row>> {
    let prefix = match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let first = files.partition(|path| path < prefix.as_str());
    let inside = |at: &usize| files.path(*at).starts_with(&prefix);
    let mut rows = Vec::new();
    // The folders that the file before is in, as the length of their paths.
    let (mut open, mut before): (Vec<usize>, &str) = (Vec::new(), "");
    for file in (first..files.len()).take_while(inside) {
        let path = files.path(file);
        while let Some(&end) = open.last() {
            if path.len() > end && path.as_bytes()[end] == b'/' && path[..end] == before[..end] {
                break;
            }
            open.pop();
        }
        let mut from = open.last().map_or(prefix.len(), |end| end + 1);
        while let Some(end) = path[from..].find('/').map(|at| from + at) {
            if recursive || open.is_empty() {
                let folder = Some(end);
                rows.push(Row { file, folder });
            }
            open.push(end);
            from = end + 1;
        }
        if (recursive || open.is_empty()) && files.entry(file).is_some() {
            rows.push(Row { file, folder: None });
        }
        before = path;
    }
    (folder.is_empty() || !rows.is_empty()).then_some(rows)
}

/// A row's text.
fn row_text(files: &Files, row: Row, last: Option<&LastCommit>, seed: &str) -> String {
    let path = files.path(row.file);
    let shown = match (row.folder, files.entry(row.file)) {
        (None, Some(entry)) => {
            let (oid, lfs) = oids(&entry);
            Shown {
                r#type: "file",
                path,
                size: entry.size,
                oid,
                lfs,
                last_commit: last,
            }
        }
        (folder, _) => {
            let path = &path[..folder.unwrap_or(path.len())];
            Shown {
                r#type: "directory",
                path,
                size: 0,
                oid: folder_oid(seed, path),
                lfs: None,
                last_commit: last,
            }
        }
    };
    serde_json::to_string(&shown).expect("a row has text keys and finite numbers")
}

/// What stands for the git tree of a folder, which nobody reads.
fn folder_oid(commit: &str, path: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("lode 2026-11-27 hub folder");
    hasher.update(commit.as_bytes());
    hasher.update(path.as_bytes());
    hasher.finalize().to_hex()[..super::commit::DIGITS].to_owned()
}

/// A list of rows, made while it is sent.
fn answer(revision: Revision, rows: Vec<Row>, expand: bool) -> Response {
    let last = expand.then(|| LastCommit::of(&revision));
    let (files, commit) = (revision.files, revision.commit);
    let header = ascii(commit.clone());
    let texts = rows
        .into_iter()
        .map(move |row| row_text(&files, row, last.as_ref(), &commit));
    let mut response = json_rows("[".to_owned(), texts, "]\n");
    response.headers_mut().insert(X_REPO_COMMIT, header);
    response
}

fn flag(target: &Target, key: &str) -> bool {
    target.query(key).is_some_and(is_true)
}

fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "")
}

/// `GET /api/models/{publisher}/{model}/tree/{rev}`
pub(super) async fn root(reader: Reader, request: Request) -> Answer {
    list(reader, request, "").await
}

/// `GET /api/models/{publisher}/{model}/tree/{rev}/{path..}`
pub(super) async fn folder(reader: Reader, request: Request) -> Answer {
    let path = request.params.get("path").to_owned();
    list(reader, request, &path).await
}

async fn list(reader: Reader, request: Request, folder: &str) -> Answer {
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let revision = repo.revision(request.params.get("rev")).await?;
    let revision = revision.linked().await?;
    let recursive = flag(&request.target, "recursive");
    let all = rows(&revision.files, folder, recursive);
    let all = all.ok_or_else(|| revision.mark(absent(folder)))?;
    let page = page::Page::asked(&request.target, HUB_ROWS_MAX)?;
    let (start, end) = page.of(all.len());
    let more = (end < all.len()).then(|| {
        // By commit, so that all pages are of one tree.
        let mut path = format!("/api/models/{}/tree/{}", repo.id(), revision.commit);
        if !folder.is_empty() {
            path = format!("{path}/{}", encode_segment(folder));
        }
        page.next(&request, &path, end)
    });
    let mut response = answer(
        revision,
        all[start..end].to_vec(),
        flag(&request.target, "expand"),
    );
    if let Some(next) = more {
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}

/// `POST /api/models/{publisher}/{model}/paths-info/{rev}`: what is known of some paths; others are left out.
pub(super) async fn paths(reader: Reader, mut request: Request) -> Answer {
    let body = request.take_body(HUB_PATHS_BYTES_MAX).await?;
    let asked = Asked::parse(&body)?;
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let revision = repo.revision(request.params.get("rev")).await?;
    let revision = revision.linked().await?;
    let files = &revision.files;
    let mut found = Vec::new();
    for path in &asked.paths {
        let path = path.trim_matches('/');
        if let Some(file) = files.find(path) {
            let folder = None;
            found.extend(files.entry(file).map(|_| Row { file, folder }));
        } else if !path.is_empty() {
            let prefix = format!("{path}/");
            let file = files.partition(|path| path < prefix.as_str());
            if file < files.len() && files.path(file).starts_with(&prefix) {
                let folder = Some(path.len());
                found.push(Row { file, folder });
            }
        }
    }
    Ok(answer(revision, found, asked.expand))
}

/// What a body of `paths-info` asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    paths: Vec<String>,
    expand: bool,
}

impl Asked {
    /// Reads JSON, which starts with a brace, or a form.
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        #[derive(serde::Deserialize)]
        struct Wire {
            #[serde(default)]
            paths: Vec<String>,
            #[serde(default)]
            expand: bool,
        }
        let asked = if body.trim_ascii_start().starts_with(b"{") {
            let wire: Wire = serde_json::from_slice(body)
                .map_err(|error| Problem::usage(format!("not a list of paths: {error}")))?;
            Self {
                paths: wire.paths,
                expand: wire.expand,
            }
        } else {
            let usage = || Problem::usage("the body is neither JSON nor a form");
            let text = std::str::from_utf8(body).map_err(|_| usage())?;
            let mut asked = Self::default();
            for pair in Target::parse_form(text, HUB_PATHS_MAX + 1).map_err(|_| usage())? {
                match pair.0.as_str() {
                    "paths" => asked.paths.push(pair.1),
                    "expand" => asked.expand = is_true(&pair.1),
                    _ => {}
                }
            }
            asked
        };
        if asked.paths.len() > HUB_PATHS_MAX {
            let message = format!("a request asks about at most {HUB_PATHS_MAX} paths");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Problem::new(status, FailureKind::Usage, message));
        }
        Ok(asked)
    }
}
