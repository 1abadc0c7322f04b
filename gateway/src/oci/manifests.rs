//! Manifests, by tag and by digest.

use std::sync::Arc;

use hyper::{
    HeaderMap,
    header::{HeaderValue, VARY},
};

use super::{
    CONTENT_DIGEST,
    format::{Format, Text},
    known::What,
    name::Repository,
    reference::Reference,
};
use crate::{
    answer::{Answer, Problem},
    condition::Etag,
    content::Content,
    file::ascii,
    reader::Reader,
    route::Request,
};

/// `GET|HEAD /v2/{publisher}/{model}/manifests/{reference}`
pub(super) async fn manifest(reader: Reader, request: Request) -> Answer {
    let reference: Reference = request.params.get("reference").parse()?;
    let repository = Repository::open(&reader, &request.params).await?;
    let content = match reference {
        Reference::Digest(digest) => {
            let found = repository.find(&reader, digest).await?;
            let text = found.and_then(|(_, what)| match what {
                What::Text(text) => Some(text),
                What::File { .. } => None,
            });
            let absent = || {
                let message = format!("{} has no manifest {digest} here", repository.name);
                Problem::not_found(message).code("MANIFEST_UNKNOWN")
            };
            described(text.ok_or_else(absent)?, true)
        }
        Reference::Tag(tag) => {
            let format = Format::of(&request.headers);
            let image = repository.image(&reader, &tag, format).await?;
            let (known, model) = (&reader.registry().known, &repository.model);
            let written = known.write(model, &image, format).await?;
            described(written.manifest, false)
        }
    };
    content.answer(&request.method, &request.headers).await
}

/// A text as it is sent.
pub(super) fn described(text: Text, immutable: bool) -> Content {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_DIGEST, ascii(text.digest.to_string()));
    if !immutable {
        headers.insert(VARY, HeaderValue::from_static("accept, user-agent"));
    }
    Content {
        len: text.bytes.len() as u64,
        etag: Etag::new(text.digest.to_string()),
        content_type: text.media_type,
        immutable,
        headers,
        source: Arc::new(text.bytes),
    }
}
