//! A small HTTP client over any stream: one connection, one request.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

/// A response whose connection lives as long as it does.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    connection: JoinHandle<()>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Exchange {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The body, when it arrives whole.
    pub(crate) async fn bytes(&mut self) -> Result<Bytes, hyper::Error> {
        Ok(self.response.body_mut().collect().await?.to_bytes())
    }

    pub(crate) async fn json(&mut self) -> serde_json::Value {
        let bytes = self.bytes().await.unwrap();
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&bytes)))
    }
}

pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Exchange {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let response = sender.send_request(request).await.unwrap();
    Exchange {
        response,
        connection,
    }
}

/// A request with the headers that a client of this machine sends.
pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        builder = builder.header("host", "localhost");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into())).unwrap()
}

pub(crate) async fn over_socket(
    socket: &Path,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Exchange {
    let stream = lode_gateway::control::connect(socket).await.unwrap();
    exchange(stream, request(method, path, headers, body)).await
}

pub(crate) async fn over_http(
    address: std::net::SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Exchange {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    exchange(stream, request(method, path, headers, "")).await
}
