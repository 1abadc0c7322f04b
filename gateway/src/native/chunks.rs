//! Chunks by their hash, and the outboards by which a client checks any range of them itself.

use std::sync::Arc;

use hyper::HeaderMap;
use lode_store::ChunkHash;

use crate::{
    answer::{Answer, Problem},
    body::Source,
    condition::Etag,
    content::Content,
    describe::Description,
    reader::{OpenChunk, Reader},
    route::Request,
};

fn hash(request: &Request) -> Result<ChunkHash, Problem> {
    request
        .params
        .get("hash")
        .parse()
        .map_err(|_| Problem::usage("a chunk is named by the 64 hex digits of its BLAKE3"))
}

/// `GET|HEAD /lode/v1/chunks/{hash}`
pub(super) async fn content(reader: Reader, request: Request) -> Answer {
    let hash = hash(&request)?;
    let chunk = reader.chunk(hash).await?;
    let (len, source): (u64, Arc<dyn Source>) = match chunk {
        OpenChunk::Held(chunk) => (u64::from(chunk.len()), Arc::new(chunk)),
        OpenChunk::Fetched(bytes) => (bytes.len() as u64, Arc::new(bytes)),
    };
    let content = Content {
        len,
        etag: Etag::new(hash.to_hex()),
        content_type: "application/octet-stream",
        immutable: true,
        headers: HeaderMap::new(),
        source,
    };
    content.answer(&request.method, &request.headers).await
}

pub(super) fn describe_content() -> Description {
    Description::bytes(false, "The chunk, or the document.")
}

/// `GET|HEAD /lode/v1/chunks/{hash}/outboard`
pub(super) async fn outboard(reader: Reader, request: Request) -> Answer {
    let hash = hash(&request)?;
    let outboard = reader.outboard(hash).await?;
    let content = Content {
        len: outboard.len() as u64,
        etag: Etag::new(format!("{hash}.outboard")),
        content_type: "application/octet-stream",
        immutable: true,
        headers: HeaderMap::new(),
        source: Arc::new(outboard),
    };
    content.answer(&request.method, &request.headers).await
}

pub(super) fn describe_outboard() -> Description {
    Description::bytes(
        false,
        "The inner nodes of the chunk's hash tree over groups of 16 KiB, in pre-order.",
    )
}
