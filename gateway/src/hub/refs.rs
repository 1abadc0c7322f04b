//! Branches, tags and commits, and what changed between two of them.

use std::collections::BTreeMap;

use hyper::{
    StatusCode,
    header::{HeaderName, LINK},
};
use lode_node::read::RefKind;
use serde_json::{Value, json};

use super::{
    date,
    files::{Entry, Files},
    page,
    repo::{Repo, title},
    tree,
};
use crate::{
    answer::{Answer, Problem, json as answer_json, plain},
    limits::HUB_PAGE_MAX,
    reader::Reader,
    route::Request,
};

/// How many rows there are on all pages.
const X_TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// `GET /api/models/{publisher}/{model}/refs`
pub(super) async fn list(reader: Reader, request: Request) -> Answer {
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let (mut branches, mut tags) = (Vec::new(), Vec::new());
    for (at, commit) in repo.refs().await? {
        let (rows, kind) = match at.kind {
            RefKind::Branch => (&mut branches, "heads"),
            RefKind::Tag => (&mut tags, "tags"),
        };
        let full = format!("refs/{kind}/{}", at.name);
        rows.push(json!({ "name": at.name, "ref": full, "targetCommit": commit }));
    }
    let mut shown = json!({ "branches": branches, "converts": [], "tags": tags });
    if request.target.query("include_prs").is_some() {
        shown["pullRequests"] = json!([]);
    }
    Ok(answer_json(StatusCode::OK, &shown))
}

/// `GET /api/models/{publisher}/{model}/commits/{rev}`: a revision and what came before it, as far as it is here.
pub(super) async fn commits(reader: Reader, request: Request) -> Answer {
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let revision = repo.revision(request.params.get("rev")).await?;
    let history = revision.version.history().await?;
    let page = page::Page::asked(&request.target, HUB_PAGE_MAX)?;
    let (start, end) = page.of(history.len());
    let formatted = request
        .target
        .queries("expand[]")
        .any(|key| key == "formatted");
    let mut rows = Vec::new();
    for (at, id) in history[start..end].iter().enumerate() {
        let (commit, parent);
        let version = match start + at {
            0 => {
                commit = Some(revision.commit.clone());
                &revision.version
            }
            _ => {
                commit = repo.commit(*id).await;
                parent = repo.model().version(*id, Vec::new()).await;
                let Ok(version) = &parent else { continue };
                version
            }
        };
        let Some(commit) = commit else { continue };
        let (title, message) = title(version);
        let author = version.doc().author.as_deref().unwrap_or(repo.author());
        let mut row = json!({
            "id": commit,
            "title": title,
            "message": message,
            "authors": [{ "user": author, "avatar": "" }],
            "date": date(version.doc().time),
        });
        if formatted {
            row["formatted"] = json!({ "title": escaped(&title), "message": escaped(&message) });
        }
        rows.push(row);
    }
    let mut response = answer_json(StatusCode::OK, &Value::Array(rows));
    let headers = response.headers_mut();
    headers.insert(X_TOTAL_COUNT, history.len().into());
    if end < history.len() {
        let path = format!("/api/models/{}/commits/{}", repo.id(), revision.commit);
        headers.insert(LINK, page.next(&request, &path, end));
    }
    Ok(response)
}

/// Text that a page may show.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// `GET /api/models/{publisher}/{model}/compare/{revs}`: what changed from one revision to another (`v1..main`),
/// a line for each file as `git diff --raw` writes it.
pub(super) async fn compare(reader: Reader, request: Request) -> Answer {
    let revs = request.params.get("revs");
    let split = revs.split_once("...").or_else(|| revs.split_once(".."));
    let Some((from, to)) = split.filter(|(from, to)| !from.is_empty() && !to.is_empty()) else {
        return Err(Problem::usage("two revisions are compared as FROM..TO"));
    };
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let (from, to) = (repo.revision(from).await?, repo.revision(to).await?);
    let (from, to) = (from.linked().await?, to.linked().await?);
    let text = raw_diff(&from.files, &to.files);
    Ok(plain(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        text.into(),
    ))
}

/// Lines of files that are added (`A`), deleted (`D`) or changed (`M`), by path.
fn raw_diff(from: &Files, to: &Files) -> String {
    fn entries(files: &Files) -> BTreeMap<&str, Entry> {
        let of = |at| Some((files.path(at), files.entry(at)?));
        (0..files.len()).filter_map(of).collect()
    }
    const NONE: &str = "0000000000000000000000000000000000000000";
    let (from, to) = (entries(from), entries(to));
    let oid = |entry: Option<&Entry>| entry.map_or(NONE.to_owned(), |entry| tree::oids(entry).0);
    let mode = |entry: Option<&Entry>| if entry.is_some() { "100644" } else { "000000" };
    let mut text = String::new();
    let paths: std::collections::BTreeSet<&str> = from.keys().chain(to.keys()).copied().collect();
    for path in paths {
        let (old, new) = (from.get(path), to.get(path));
        let change = match (old, new) {
            (None, _) => 'A',
            (_, None) => 'D',
            (old, new) if old != new => 'M',
            _ => continue,
        };
        let (modes, oids) = ([mode(old), mode(new)], [oid(old), oid(new)]);
        let [old, new] = oids;
        text.push_str(&format!(
            ":{} {} {old} {new} {change}\t{path}\n",
            modes[0], modes[1]
        ));
    }
    text
}
