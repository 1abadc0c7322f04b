//! What the Hub says of a repository, and its list of them.

use std::sync::Arc;

use hyper::{StatusCode, header::LINK};
use lode_store::manifest::Kind;
use serde_json::{Map, Value, json};

use super::{
    date,
    files::Files,
    json_rows, page,
    repo::{Repo, Revision},
    tree,
};
use crate::{
    answer::{Answer, Response, json as answer_json},
    limits::{HUB_PAGE_MAX, HUB_ROWS_MAX},
    reader::Reader,
    route::Request,
};

/// What a client asks to be told.
#[derive(Debug, Default)]
struct Wish {
    /// Sizes and hashes of files.
    blobs: bool,
    /// What was found by scanners.
    security: bool,
    /// These properties alone.
    expand: Vec<String>,
}

impl Wish {
    fn of(request: &Request) -> Self {
        let target = &request.target;
        let flag = |key: &str| {
            target
                .query(key)
                .is_some_and(|text| !matches!(text, "false" | "False" | "0"))
        };
        let expand = target.queries("expand").chain(target.queries("expand[]"));
        Self {
            blobs: flag("blobs"),
            security: flag("securityStatus"),
            expand: expand.map(str::to_owned).collect(),
        }
    }

    fn wants(&self, key: &str) -> bool {
        self.expand.is_empty() || self.expand.iter().any(|wanted| wanted == key)
    }
}

/// `GET /api/models/{publisher}/{model}`
pub(super) async fn model(reader: Reader, request: Request) -> Answer {
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let revision = repo.head().await?.linked().await?;
    Ok(answer(&repo, revision, &Wish::of(&request)))
}

/// `GET /api/models/{publisher}/{model}/revision/{rev}`
pub(super) async fn revision(reader: Reader, request: Request) -> Answer {
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let revision = repo.revision(request.params.get("rev")).await?;
    let revision = revision.linked().await?;
    Ok(answer(&repo, revision, &Wish::of(&request)))
}

/// All about a revision; its files, of which there may be many, are written while it is sent.
fn answer(repo: &Repo, revision: Revision, wish: &Wish) -> Response {
    let mut facts = facts(repo, &revision);
    if wish.security {
        // Nothing is scanned here.
        let status = json!({ "scansDone": false, "filesWithIssues": [] });
        facts.insert("securityRepoStatus".to_owned(), status);
    }
    facts.retain(|key, _| matches!(key.as_str(), "_id" | "id") || wish.wants(key));
    if !wish.wants("siblings") {
        return answer_json(StatusCode::OK, &Value::Object(facts));
    }
    let mut head = Value::Object(facts).to_string();
    head.truncate(head.len() - 1);
    head.push_str(",\"siblings\":[\n");
    json_rows(head, siblings(revision.files, wish.blobs), "\n]}\n")
}

/// The files as a repository's description lists them.
fn siblings(files: Files, blobs: bool) -> impl Iterator<Item = String> + Send + Unpin + 'static {
    (0..files.len()).filter_map(move |at| {
        let entry = files.entry(at)?;
        let mut row = json!({ "rfilename": files.path(at) });
        if blobs {
            let (oid, lfs) = tree::oids(&entry);
            row["size"] = entry.size.into();
            row["blobId"] = oid.into();
            if let Some(lfs) = lfs {
                row["lfs"] = lfs.of_blob();
            }
        }
        Some(row.to_string())
    })
}

fn facts(repo: &Repo, revision: &Revision) -> Map<String, Value> {
    let (doc, id) = (revision.version.doc(), repo.id());
    let key = format!("{}/{}", repo.model().at().publisher, repo.name());
    let time = date(doc.time);
    let mut tags = tags(&revision.files);
    let mut card = Map::new();
    if let Some(license) = &doc.links.license {
        tags.push(format!("license:{license}"));
        card.insert("license".to_owned(), license.as_str().into());
    }
    let size: u64 = (0..revision.files.len())
        .filter_map(|at| revision.files.entry(at))
        .map(|entry| entry.size)
        .sum();
    let facts = json!({
        "_id": blake3::hash(key.as_bytes()).to_hex()[..24],
        "id": id,
        "modelId": id,
        "author": repo.author(),
        "sha": revision.commit,
        "lastModified": time,
        "createdAt": time,
        "private": !revision.version.model().is_public(),
        "gated": false,
        "disabled": false,
        "downloads": 0,
        "likes": 0,
        "tags": tags,
        "cardData": card,
        "usedStorage": size,
        "spaces": [],
    });
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

/// The formats that are among the files.
fn tags(files: &Files) -> Vec<String> {
    const FORMATS: [&str; 3] = ["safetensors", "gguf", "onnx"];
    let of = |path: &str| {
        let extension = path.rsplit_once('.')?.1;
        FORMATS
            .iter()
            .position(|format| extension.eq_ignore_ascii_case(format))
    };
    let mut found = [false; FORMATS.len()];
    for at in 0..files.len() {
        if let Some(format) = of(files.path(at)) {
            found[format] = true;
        }
    }
    let found = FORMATS.iter().zip(found).filter(|(_, found)| *found);
    found.map(|(format, _)| (*format).to_owned()).collect()
}

/// `GET /api/models`: models of the home, those changed last first.
pub(super) async fn list(reader: Reader, request: Request) -> Answer {
    let target = &request.target;
    let author = target.query("author").map(str::to_ascii_lowercase);
    let search = target.query("search").map(str::to_ascii_lowercase);
    let filters: Vec<&str> = target
        .queries("filter")
        .flat_map(|filter| filter.split(','))
        .collect();
    let full = target
        .query("full")
        .is_some_and(|text| !text.eq_ignore_ascii_case("false"));
    let mut found = Vec::new();
    for model in reader.models().await? {
        let repo = Repo::of(&reader, model);
        let id = repo.id().to_ascii_lowercase();
        if author
            .as_ref()
            .is_some_and(|author| repo.author() != author)
            || search.as_ref().is_some_and(|search| !id.contains(search))
        {
            continue;
        }
        // A model whose documents are not here is listed once they are.
        let Some(revision) = repo.head_here().await else {
            continue;
        };
        if revision.version.doc().kind != Kind::Model {
            continue;
        }
        let facts = facts(&repo, &revision);
        let has = |filter: &&str| tagged(&facts, filter);
        if filters.iter().all(has) {
            found.push((facts, Arc::new(revision.files)));
        }
    }
    sort(&mut found, target.query("sort"), target.query("direction"));
    let page = page::Page::asked(target, HUB_PAGE_MAX)?;
    let (start, mut end) = page.of(found.len());
    // Pages of models with very many files are shorter.
    let mut files = 0;
    for (at, (_, listed)) in found[start..end].iter().enumerate().filter(|_| full) {
        files += listed.len();
        if files > HUB_ROWS_MAX && at > 0 {
            end = start + at;
            break;
        }
    }
    let next = (end < found.len()).then(|| page.next(&request, "/api/models", end));
    let rows: Vec<Value> = found
        .drain(start..end)
        .map(|(mut facts, files)| {
            if full {
                let names = (0..files.len()).map(|at| json!({ "rfilename": files.path(at) }));
                facts.insert("siblings".to_owned(), names.collect());
            }
            Value::Object(facts)
        })
        .collect();
    let mut response = answer_json(StatusCode::OK, &rows);
    if let Some(next) = next {
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}

fn tagged(facts: &Map<String, Value>, filter: &str) -> bool {
    let tags = facts["tags"].as_array().into_iter().flatten();
    tags.filter_map(Value::as_str)
        .any(|tag| tag.eq_ignore_ascii_case(filter))
}

type Listed = (Map<String, Value>, Arc<Files>);

/// By a property, the largest first; by name where there is no other difference.
fn sort(found: &mut [Listed], by: Option<&str>, direction: Option<&str>) {
    let by = match by {
        Some("createdAt" | "created_at") => "createdAt",
        Some("id" | "modelId") => "id",
        // Nobody counts downloads or likes here: all are equal.
        _ => "lastModified",
    };
    let text = |(facts, _): &Listed, key: &str| facts[key].as_str().unwrap_or_default().to_owned();
    found.sort_by_cached_key(|listed| text(listed, "id"));
    match (by, direction) {
        ("id", Some("-1")) => found.reverse(),
        ("id", _) => {}
        (by, Some("1")) => found.sort_by_cached_key(|listed| text(listed, by)),
        (by, _) => found.sort_by_cached_key(|listed| std::cmp::Reverse(text(listed, by))),
    }
}
