//! Reads a tensor over HTTP, as any program would.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest body that is taken, bytes: more than any tensor of the demonstration's model.
const BODY_BYTES_MAX: usize = 32 << 20;

/// An answer: its body, and the headers that describe a tensor.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: hyper::HeaderMap,
    pub(super) body: Bytes,
}

/// Gets `path` from the HTTP server at `address`.
///
/// # Errors
/// No connection, or an answer other than 200.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("no HTTP at {address}"))?;
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = requests.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("GET {path}: {error}"))?
        .to_bytes();
    connection.abort();
    ensure!(
        head.status == 200,
        "GET {path}: {} {}",
        head.status,
        String::from_utf8_lossy(&body)
    );
    Ok(Answer {
        headers: head.headers,
        body,
    })
}
