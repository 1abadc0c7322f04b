//! The bytes of files, at the Hub's addresses.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    HeaderMap, Method,
    header::{CONTENT_DISPOSITION, HeaderName},
};

use lode_node::origin::OriginReader;

use super::{
    commit,
    files::{Entry, Place},
    repo::{Repo, Revision, redirect},
    xet,
};
use crate::{
    answer::{Answer, Problem},
    body::Source,
    condition::Etag,
    content::Content,
    dialect::X_REPO_COMMIT,
    file::{absent, ascii, disposition, media_type},
    reader::Reader,
    route::{Params, Request},
    target::Target,
};

/// The size and tag of a file of the LFS class, also where the answer itself is a redirection.
const X_LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const X_LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");

/// `GET|HEAD /{publisher}/{model}/resolve/{rev}/{path..}`
///
/// A revision that may name other bytes tomorrow redirects to its commit: clients resume without saying of what.
pub(super) async fn content(reader: Reader, request: Request) -> Answer {
    let content = match request.method == Method::GET {
        true => {
            reader
                .content(
                    &request.target,
                    open(&reader, &request.target, &request.params),
                )
                .await?
        }
        // A head is known without the bytes, and does not wait for the lists by which they are found.
        false => {
            let (revision, at) = find(&reader, &request.target, &request.params).await?;
            let source: Arc<dyn Source> = Arc::new(Bytes::new());
            Arc::new(describe(&revision, at, source)?)
        }
    };
    let mut response = content.answer(&request.method, &request.headers).await?;
    if let Some(xet) = reader.xet() {
        let tag = content.etag.text();
        xet::offer(xet, &request, tag, response.headers_mut());
    }
    Ok(response)
}

async fn open(reader: &Reader, target: &Target, params: &Params) -> Result<Content, Problem> {
    let (revision, at) = find(reader, target, params).await?;
    let place = revision.files.place(at);
    let place = place.ok_or_else(|| revision.mark(absent(revision.files.path(at))))?;
    let version = &revision.version;
    let source: Arc<dyn Source> = match place {
        Place::Stored(at) if let Some(origin) = version.origin() => {
            Arc::new(OriginReader::new(Arc::clone(origin), at))
        }
        Place::Stored(at) => Arc::new(version.reader(version.tree().files()[at].clone()).await?),
        Place::Made(variant, file) => Arc::new(version.opener().reader(&variant, file).await?),
    };
    describe(&revision, at, source)
}

/// The file that an address names, by its position; or where it is found instead.
async fn find(
    reader: &Reader,
    target: &Target,
    params: &Params,
) -> Result<(Revision, usize), Problem> {
    let repo = Repo::open(reader, target, params).await?;
    let rev = params.get("rev");
    let mut revision = repo.revision(rev).await?;
    let path = params.get("path");
    let at = revision.files.find(path);
    let at = at.ok_or_else(|| revision.mark(absent(path)))?;
    if rev != revision.commit && !is_pinned(rev) {
        let name = repo.name();
        let mut segments = vec![repo.author(), &name, "resolve", &revision.commit];
        segments.extend(path.split('/'));
        return Err(revision.mark(redirect(target, &segments)));
    }
    revision.files.follow(&revision.version, Some(at)).await?;
    if let Some(xet) = reader.xet() {
        xet::prepare(xet, reader, &revision, at);
    }
    Ok((revision, at))
}

/// Whether a revision names a commit, or a variant of one.
fn is_pinned(rev: &str) -> bool {
    rev.split_once("--")
        .is_some_and(|(rev, _)| commit::is_one(rev))
}

fn describe(revision: &Revision, at: usize, source: Arc<dyn Source>) -> Result<Content, Problem> {
    let path = revision.files.path(at);
    let entry = revision.files.entry(at);
    let Entry { size, etag, lfs } = entry.ok_or_else(|| revision.mark(absent(path)))?;
    let (content_type, shown) = media_type(path);
    let etag = Etag::new(etag);
    let mut headers = HeaderMap::new();
    revision.version.mark(&mut headers);
    headers.insert(X_REPO_COMMIT, ascii(revision.commit.clone()));
    headers.insert(CONTENT_DISPOSITION, disposition(path, shown));
    if lfs {
        headers.insert(X_LINKED_SIZE, size.into());
        headers.insert(X_LINKED_ETAG, etag.header());
    }
    Ok(Content {
        len: size,
        etag,
        content_type,
        immutable: true,
        headers,
        source,
    })
}
