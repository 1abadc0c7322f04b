//! Files that are offered by Xet too, where that is switched on: what their heads say, and the tokens to read them with.
//!
//! A file is offered once its outline is made, which the first request for it starts: until then, and by clients that know
//! no Xet, it is read at its address. Lists never name hashes of Xet, though they could: clients keep
//! lists for ever, and would not find their files any more once Xet is switched off.

use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue, LINK},
};
use serde_json::json;

use super::{
    files::Place,
    repo::{Repo, Revision},
};
use crate::{
    answer::{self, Answer, Problem, Response},
    dialect::X_REPO_COMMIT,
    file::ascii,
    intake::{Grant, What},
    reader::Reader,
    route::Request,
    target::encode_segment,
    upstream,
    xet::read::{READS, XetReads},
};

/// The hash of a file as Xet computes it.
const XET_HASH: HeaderName = HeaderName::from_static("x-xet-hash");
const CAS_URL: HeaderName = HeaderName::from_static("x-xet-cas-url");
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-xet-access-token");
const TOKEN_EXPIRATION: HeaderName = HeaderName::from_static("x-xet-token-expiration");

/// A token and where it is shown, as old and new clients read them.
pub(in crate::hub) fn token(url: String, grant: &Grant, token: String) -> Response {
    let shown = json!({ "casUrl": url, "exp": grant.expires(), "accessToken": token });
    let mut response = answer::json(StatusCode::OK, &shown);
    let headers = response.headers_mut();
    headers.insert(CAS_URL, text(url));
    headers.insert(ACCESS_TOKEN, text(token));
    headers.insert(TOKEN_EXPIRATION, HeaderValue::from(grant.expires()));
    response
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("made of visible characters")
}

/// `GET /api/models/{publisher}/{model}/xet-read-token/{rev}`
pub(super) async fn read_token(reader: Reader, request: Request) -> Answer {
    let repo = Repo::open(&reader, &request.target, &request.params).await?;
    let revision = repo.revision(request.params.get("rev")).await?;
    let xet = reader.xet();
    let xet =
        xet.ok_or_else(|| revision.mark(Problem::not_found("nothing is read by Xet here")))?;
    revision.version.all_here()?;
    let what = What::Files {
        version: revision.version.id(),
        whose: reader.behalf(),
    };
    let (grant, sealed) = xet.grant(repo.model(), what);
    let url = format!("{}{READS}", request.base());
    let mut response = token(url, &grant, sealed);
    let commit = ascii(revision.commit.clone());
    response.headers_mut().insert(X_REPO_COMMIT, commit);
    Ok(response)
}

/// Has the outline of a large file made that is asked for, if it is stored here.
pub(super) fn prepare(xet: &XetReads, reader: &Reader, revision: &Revision, at: usize) {
    let version = &revision.version;
    let lfs = revision.files.entry(at).is_some_and(|entry| entry.lfs);
    if let Some(Place::Stored(at)) = revision.files.place(at)
        && lfs
        && version.origin().is_none()
    {
        xet.prepare(reader.reads(), &version.tree().files()[at]);
    }
}

/// Says in the head of a file that it can be read by Xet, if it can. `tag` is its SHA-256, or what stands for it.
pub(super) fn offer(xet: &XetReads, request: &Request, tag: &str, headers: &mut HeaderMap) {
    // What another hub says of a file that is on its way is no file of this node yet.
    if headers.contains_key(upstream::VERIFIED) {
        return;
    }
    let Some(hash) = xet.hash_of(tag) else {
        return;
    };
    let commit = headers
        .get(X_REPO_COMMIT)
        .and_then(|commit| commit.to_str().ok());
    let Some(commit) = commit else {
        return;
    };
    let base = request.base();
    let name = |key| encode_segment(request.params.get(key));
    let (publisher, model) = (name("publisher"), name("model"));
    let links = format!(
        "<{base}/api/models/{publisher}/{model}/xet-read-token/{commit}>; rel=\"xet-auth\", \
         <{base}{READS}/v1/reconstructions/{hash}>; rel=\"xet-reconstruction-info\""
    );
    // A name of this node that no header can carry is no name that a client could go to.
    if let Ok(links) = HeaderValue::try_from(links) {
        headers.insert(LINK, links);
        headers.insert(XET_HASH, text(hash.to_string()));
    }
}
