//! What a client of the Hub's dialect is promised of models that only another hub has, over real connections: of a
//! hub that says what the test wants, and of a second node.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::client::{Exchange, over_http};
use crate::published::{Held, Published, noise};
use crate::stub_hub::{COMMIT, Hub, ID, Reply};
use hyper::Method;
use lode_gateway::{Running, ServeOptions, serve};
use lode_node::{NetworkOptions, Node, NodeOptions, origin::Upstream};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const BIG: &str = "model.safetensors";

struct Served {
    node: Node,
    address: SocketAddr,
    _running: Running,
    _folder: Option<tempfile::TempDir>,
}

async fn served(upstream: Option<String>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("node");
    let mut served = served_at(&home, upstream).await;
    served._folder = Some(folder);
    served
}

async fn served_at(home: &std::path::Path, upstream: Option<String>) -> Served {
    let options = NodeOptions {
        network: NetworkOptions {
            offline: true,
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..NetworkOptions::default()
        },
        upstream: upstream.map(|url| Upstream {
            url,
            token_file: None,
            private: true,
        }),
        ..NodeOptions::default()
    };
    let node = Node::open(home, options).unwrap();
    let options = ServeOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        socket: home.join("test.sock"),
        policy: lode_gateway::policy::Policy::default(),
        tls: None,
    };
    let running = serve(node.clone(), options, CancellationToken::new())
        .await
        .unwrap();
    Served {
        node,
        address: running.http.unwrap(),
        _running: running,
        _folder: None,
    }
}

impl Served {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        over_http(self.address, Method::GET, path, headers).await
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let mut answer = self.get(path, &[]).await;
        let body = answer.bytes().await.unwrap();
        (
            answer.status(),
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    async fn bytes(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Option<Vec<u8>>) {
        let mut answer = self.get(path, headers).await;
        let bytes = answer.bytes().await;
        (answer.status(), bytes.ok().map(|bytes| bytes.to_vec()))
    }

    async fn until_whole(&self) {
        let start = Instant::now();
        while self.node.reads().models().unwrap().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn file(path: &str) -> String {
    format!("/{ID}/resolve/{COMMIT}/{path}")
}

fn big() -> Vec<u8> {
    noise(1, 40 << 20)
}

async fn hub(big: &[u8]) -> Hub {
    Hub::start(&[
        ("config.json", b"{\"a\":1}", false),
        (BIG, big, true),
        ("notes.bin", b"in git", false),
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_the_hub_is_described_at_once_and_served_as_it_comes() {
    let big = big();
    let hub = hub(&big).await;
    let node = served(Some(hub.url())).await;
    let (status, info) = node.json(&format!("/api/models/{ID}/revision/main")).await;
    assert_eq!(status, 200);
    assert_eq!(
        (info["sha"].as_str(), info["id"].as_str()),
        (Some(COMMIT), Some(ID))
    );
    assert_eq!(
        (info["private"].as_bool(), info["lastModified"].as_str()),
        (Some(false), Some("2026-11-22T23:47:04.000Z"))
    );
    assert_eq!(info["siblings"].as_array().unwrap().len(), 3);
    // Tags are the hub's own, also where a node of ours would take another class.
    let (_, tree) = node
        .json(&format!("/api/models/{ID}/tree/{COMMIT}?recursive=true"))
        .await;
    let truth: Value = serde_json::from_str(&hub.state().tree()).unwrap();
    for (row, listed) in tree
        .as_array()
        .unwrap()
        .iter()
        .zip(truth.as_array().unwrap())
    {
        for key in ["path", "size"] {
            assert_eq!(row[key], listed[key]);
        }
        match listed.get("lfs") {
            Some(lfs) => assert_eq!(row["lfs"]["oid"], lfs["oid"]),
            None => assert_eq!(row["oid"], listed["oid"]),
        }
    }
    let (_, refs) = node.json(&format!("/api/models/{ID}/refs")).await;
    assert_eq!(refs["branches"][0]["targetCommit"], COMMIT);
    let head = over_http(node.address, Method::HEAD, &file(BIG), &[]).await;
    assert_eq!(
        (head.status(), head.header("content-length")),
        (200, Some(big.len().to_string().as_str()))
    );
    let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&big));
    assert_eq!(
        head.header("x-linked-etag"),
        Some(format!("\"{sha256}\"").as_str())
    );
    assert!(hub.asked_for(BIG).is_empty(), "a head fetches nothing");
    let branch = node
        .get(&format!("/{ID}/resolve/main/config.json"), &[])
        .await;
    assert_eq!(
        (branch.status(), branch.header("location")),
        (307, Some(file("config.json").as_str()))
    );
    let mut answer = node.get(&file(BIG), &[]).await;
    assert_eq!(
        (answer.status(), answer.header("lode-verified")),
        (200, Some("pending"))
    );
    assert_eq!(answer.header("x-repo-commit"), Some(COMMIT));
    assert!(answer.bytes().await.unwrap().as_ref() == big.as_slice());
    for path in ["config.json", "notes.bin"] {
        assert_eq!(node.get(&file(path), &[]).await.status(), 200);
    }
    node.until_whole().await;
    // What is here needs no hub, and is checked.
    hub.twist(|_, _, _| Reply::status(503));
    let mut answer = node.get(&file(BIG), &[]).await;
    assert_eq!(
        (answer.status(), answer.header("lode-verified")),
        (200, None)
    );
    assert!(answer.header("lode-version").is_some());
    assert!(answer.bytes().await.unwrap().as_ref() == big.as_slice());
    let (_, info) = node
        .json(&format!("/api/models/{ID}/revision/{COMMIT}"))
        .await;
    assert_eq!(info["sha"], COMMIT);
    let (_, again) = node
        .json(&format!("/api/models/{ID}/tree/{COMMIT}?recursive=true"))
        .await;
    assert_eq!(again, tree);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_file_share_one_fetch_of_it() {
    let big = big();
    let hub = hub(&big).await;
    hub.twist(|asked, _, truth| match asked.is_file(BIG) {
        true => Reply {
            rate: Some(64 << 20),
            ..truth
        },
        false => truth,
    });
    let node = served(Some(hub.url())).await;
    let path = file(BIG);
    let all = [
        node.bytes(&path, &[]),
        node.bytes(&path, &[]),
        node.bytes(&path, &[("range", "bytes=1000-")]),
    ];
    let [one, two, rest] = futures(all).await;
    assert!(one == (200, Some(big.clone())));
    assert!(two == (200, Some(big.clone())));
    assert!(rest == (206, Some(big[1000..].to_vec())));
    assert_eq!(hub.asked_for(BIG).len(), 1);
}

async fn futures<T, F: Future<Output = T>>([a, b, c]: [F; 3]) -> [T; 3] {
    let (a, b, c) = tokio::join!(a, b, c);
    [a, b, c]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_large_file_does_not_wait_for_the_file() {
    let big = big();
    let hub = hub(&big).await;
    let node = served(Some(hub.url())).await;
    let far = 30 << 20;
    let range = format!("bytes={far}-{}", far + 99_999);
    let mut answer = node.get(&file(BIG), &[("range", &range)]).await;
    assert_eq!(
        (answer.status(), answer.header("lode-verified")),
        (206, Some("pending"))
    );
    assert!(answer.bytes().await.unwrap().as_ref() == &big[far..far + 100_000]);
    assert!(hub.state().sent < 1 << 20, "{}", hub.state().sent);
    assert_eq!(node.node.origins().figures().files, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_wrong_bytes_is_cut_off_before_their_end_and_none_are_kept() {
    let big = big();
    let hub = hub(&big).await;
    hub.twist(|asked, _, mut truth| {
        if asked.is_file(BIG) {
            truth.body[5] ^= 1;
        }
        truth
    });
    let node = served(Some(hub.url())).await;
    let (status, body) = node.bytes(&file(BIG), &[]).await;
    assert!(
        status == 200 && body.is_none(),
        "{status}, whole: {}",
        body.is_some()
    );
    assert_eq!(node.node.origins().figures().wrong, 1);
    assert_eq!(
        std::fs::read_dir(node.node.home().join("origins"))
            .unwrap()
            .count(),
        0
    );
    // Small files wait for their hash: the failure is said in the head.
    hub.twist(|asked, _, mut truth| {
        if asked.is_file("config.json") {
            truth.body[5] ^= 1;
        }
        truth
    });
    assert_eq!(node.get(&file("config.json"), &[]).await.status(), 500);
    hub.twist(|_, _, truth| truth);
    assert!(node.bytes(&file(BIG), &[]).await == (200, Some(big)));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_hub_have_the_codes_that_clients_know() {
    let hub = hub(b"big").await;
    let node = served(Some(hub.url())).await;
    for (path, status, code) in [
        ("/api/models/Acme/Other", 404, "RepoNotFound"),
        (
            "/api/models/Acme/Tiny-1B/revision/dev",
            404,
            "RevisionNotFound",
        ),
        ("/Acme/Tiny-1B/resolve/main/none.txt", 404, "EntryNotFound"),
        ("/api/models/Acme/..", 400, ""),
    ] {
        let answer = node.get(path, &[]).await;
        assert!(
            answer.status() == status || code.is_empty(),
            "{path}: {}",
            answer.status()
        );
        assert!(
            code.is_empty() || answer.header("x-error-code") == Some(code),
            "{path}"
        );
    }
    hub.twist(|_, _, _| Reply::status(429).with("retry-after", "3600"));
    let answer = node.get("/api/models/Acme/Third", &[]).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_is_a_hub_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let big = noise(7, 12 << 20);
    let files: [(&str, Held, &[u8]); 3] = [
        ("config.json", Held::Pack, b"{\"a\":1}"),
        ("model.safetensors", Held::Whole, &big),
        ("sub/empty", Held::Pack, b""),
    ];
    home.push(
        "tiny",
        &files,
        &[],
        &["heads/main", "tags/v1", "access/public"],
    );
    let publisher = home.publisher.to_hex();
    drop(home);
    let first = served_at(&folder.path().join("home"), None).await;
    let second = served(Some(format!("http://{}", first.address))).await;
    let third = served(Some(format!("http://{}", second.address))).await;
    let (_, info) = first.json(&format!("/api/models/{publisher}/tiny")).await;
    let commit = info["sha"].as_str().unwrap();
    for node in [&second, &third] {
        let (status, info) = node
            .json(&format!("/api/models/{publisher}/tiny/revision/v1"))
            .await;
        assert_eq!(
            (status, info["sha"].as_str()),
            (200, Some(commit)),
            "{info}"
        );
        for (path, _, bytes) in &files {
            let url = format!("/{publisher}/tiny/resolve/{commit}/{path}");
            assert!(
                node.bytes(&url, &[]).await == (200, Some(bytes.to_vec())),
                "{path}"
            );
        }
        node.until_whole().await;
    }
}
