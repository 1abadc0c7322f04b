//! Bounds on connections and heads: what passes them by one is refused or waits, and harms nobody else.

use std::net::SocketAddr;

use crate::client::over_http;
use hyper::Method;
use lode_gateway::{
    Running, ServeOptions,
    control::{Backend, Run},
    limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX},
    policy::Policy,
    serve,
};
use lode_node::{EventSink, command::Command, read::Reads};
use lode_store::{Store, store::Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// Connections at a time; the usual number takes more open files than a test may have.
const CONNECTIONS: usize = 64;

/// Serves an empty home; takes no commands.
struct Home(Reads);

impl Backend for Home {
    fn run(&self, _: Command, _: EventSink) -> Run<'_> {
        unreachable!("no command is sent")
    }

    fn reads(&self) -> &Reads {
        &self.0
    }
}

async fn setup() -> (SocketAddr, Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("home"), Options::default()).unwrap();
    let options = ServeOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        socket: folder.path().join("control.sock"),
        policy: Policy {
            connections_max: CONNECTIONS,
            ..Policy::default()
        },
        tls: None,
    };
    let running = serve(Home(Reads::new(store)), options, CancellationToken::new())
        .await
        .unwrap();
    (running.http.unwrap(), running, folder)
}

async fn status_of(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    String::from_utf8(line.to_vec()).unwrap()
}

#[tokio::test]
async fn a_head_with_too_many_or_too_long_headers_is_refused() {
    let (address, _running, _folder) = setup().await;
    let request =
        |headers: String| format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let many = |count: usize| request("a: b\r\n".repeat(count - 1));
    assert_eq!(status_of(address, &many(HEADERS_MAX)).await, "HTTP/1.1 200");
    assert_eq!(
        status_of(address, &many(HEADERS_MAX + 1)).await,
        "HTTP/1.1 431"
    );
    let long = |bytes: usize| request(format!("a: {}\r\n", "b".repeat(bytes)));
    assert_eq!(
        status_of(address, &long(HEAD_BYTES_MAX / 2)).await,
        "HTTP/1.1 200"
    );
    assert_eq!(
        status_of(address, &long(HEAD_BYTES_MAX + 1)).await,
        "HTTP/1.1 431"
    );
    let target = |bytes: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a".repeat(bytes - 1)
        )
    };
    assert_eq!(
        status_of(address, &target(TARGET_BYTES_MAX)).await,
        "HTTP/1.1 404"
    );
    assert_eq!(
        status_of(address, &target(TARGET_BYTES_MAX + 1)).await,
        "HTTP/1.1 400"
    );
}

#[tokio::test]
async fn a_connection_past_the_limit_waits_for_a_place() {
    let (address, _running, _folder) = setup().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        open.push(stream);
    }
    let mut late =
        tokio::spawn(async move { over_http(address, Method::GET, "/healthz", &[]).await });
    // Served connections answer while the late one waits.
    for stream in open.iter_mut().take(10) {
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut answer = vec![0; 4096];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
    }
    assert!(futures_lite::future::poll_once(&mut late).await.is_none());
    drop(open.pop());
    assert_eq!(late.await.unwrap().status(), 200);
}
