//! Blobs, by digest: files from the home or from peers, and the texts that manifests name.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, header::LOCATION};

use super::{
    CONTENT_DIGEST, image, known::What, manifests::described, name::Repository, reference::Digest,
};
use crate::{
    answer::{Answer, Problem},
    body::Source,
    condition::Etag,
    content::Content,
    file::ascii,
    reader::Reader,
    route::{Params, Request},
};

/// `GET|HEAD /v2/{publisher}/{model}/blobs/{digest}`
pub(super) async fn blob(reader: Reader, request: Request) -> Answer {
    let digest: Digest = request.params.get("digest").parse()?;
    let with_bytes = request.method == Method::GET;
    let open = open(&reader, &request.params, digest, with_bytes);
    let content = match with_bytes {
        true => reader.content(&request.target, open).await?,
        // A head is known without the bytes, and does not wait for the lists by which they are found.
        false => Arc::new(open.await?),
    };
    let mut response = content.answer(&request.method, &request.headers).await?;
    if response.status().is_success() {
        // Ollama before 0.5 goes where it is sent, even when it is not.
        let at = format!(
            "/v2/{}/{}",
            request.params.get("publisher"),
            request.params.get("model")
        );
        let location = format!("{}/blobs/{digest}", crate::file::encode_path(&at));
        response.headers_mut().insert(LOCATION, ascii(location));
    }
    Ok(response)
}

async fn open(
    reader: &Reader,
    params: &Params,
    digest: Digest,
    with_bytes: bool,
) -> Result<Content, Problem> {
    let repository = Repository::open(reader, params).await?;
    let found = repository.find(reader, digest).await?;
    let absent = || {
        let message = format!("{} has no blob {digest} here", repository.name);
        Problem::not_found(message).code("BLOB_UNKNOWN")
    };
    let (version, what) = found.ok_or_else(absent)?;
    let (size, at) = match what {
        What::Text(text) => return Ok(described(text, true)),
        What::File { size, at } => (size, at),
    };
    let source: Arc<dyn Source> = match with_bytes {
        true => image::source(&repository.model, &version, at).await?,
        false => Arc::new(Bytes::new()),
    };
    let mut headers = HeaderMap::new();
    version.mark(&mut headers);
    headers.insert(CONTENT_DIGEST, ascii(digest.to_string()));
    Ok(Content {
        len: size,
        etag: Etag::new(digest.to_string()),
        content_type: "application/octet-stream",
        immutable: true,
        headers,
        source,
    })
}
