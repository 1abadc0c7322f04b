//! What a client is promised of a model that this home does not hold and a known peer does: over real
//! endpoints on loopback.

use crate::models;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::client::{Exchange, over_http};
use crate::origin::Origin;
use crate::published::{Held, Published, noise, safetensors};
use http_body_util::BodyExt;
use hyper::Method;
use lode_gateway::{Running, ServeOptions, serve};
use lode_node::{NetworkOptions, Node, NodeOptions, fetch::Figures};
use lode_store::{VersionId, outboard, store::Store};
use tokio_util::sync::CancellationToken;

const BIG_BYTES: usize = 24 << 20;
const ROWS: &[(&str, &[u64])] = &[("a", &[300, 700]), ("b/c", &[5])];

/// A publisher's home with models in it, peers that serve it, and a node that holds nothing.
struct Setup {
    home: Published,
    origins: Vec<Origin>,
    node: Node,
    address: SocketAddr,
    running: Running,
    stop: CancellationToken,
    version: VersionId,
    big: Vec<u8>,
    model: Vec<u8>,
    folder: tempfile::TempDir,
}

async fn setup(origins: usize) -> Setup {
    setup_with(origins, |_| ()).await
}

async fn setup_with(origins: usize, change: impl FnOnce(&mut NodeOptions)) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let (big, model) = (noise(1, BIG_BYTES), safetensors(ROWS));
    let files: [(&str, Held, &[u8]); 6] = [
        ("big.bin", Held::Whole, &big),
        ("config.json", Held::Pack, b"{\"a\":1}"),
        ("empty", Held::Pack, b""),
        ("link.json", Held::Pack, b"config.json"),
        ("model.safetensors", Held::Whole, &model),
        ("sub/small.txt", Held::Pack, b"text"),
    ];
    let version = home.push("tiny", &files, &[], &["heads/main", "tags/v1"]);
    let mut peers = Vec::new();
    for _ in 0..origins {
        peers.push(Origin::start(&home.store).await);
    }
    let mut options = NodeOptions {
        network: NetworkOptions {
            offline: true,
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..NetworkOptions::default()
        },
        ..NodeOptions::default()
    };
    change(&mut options);
    let node = Node::open(&folder.path().join("node"), options).unwrap();
    for peer in &peers {
        peer.known_to(&node);
    }
    let stop = CancellationToken::new();
    let options = ServeOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        socket: folder.path().join("control.sock"),
        policy: lode_gateway::policy::Policy::default(),
        tls: None,
    };
    let running = serve(node.clone(), options, stop.clone()).await.unwrap();
    Setup {
        home,
        origins: peers,
        node,
        address: running.http.unwrap(),
        running,
        stop,
        version,
        big,
        model,
        folder,
    }
}

impl Setup {
    fn url(&self, rest: &str) -> String {
        format!("/lode/v1/models/{}/tiny/v1{rest}", self.home.publisher)
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        over_http(self.address, Method::GET, path, headers).await
    }

    /// Status, and the body when it arrives whole.
    async fn bytes(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
        let mut answer = self.get(path, headers).await;
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    async fn big(&self, range: std::ops::Range<usize>) -> (u16, Vec<u8>) {
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        self.bytes(&self.url("/files/big.bin"), &[("range", &header)])
            .await
    }

    fn figures(&self) -> Figures {
        self.node.fetcher().figures()
    }

    fn sent(&self) -> u64 {
        self.origins.iter().map(|origin| origin.gate.sent()).sum()
    }

    /// Waits for something to become true.
    async fn until(&self, what: &str, within: Duration, is: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is(self) {
            assert!(start.elapsed() < within, "{what}: {:?}", self.figures());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> (Store, tempfile::TempDir) {
        self.stop.cancel();
        self.running.stopped().await;
        self.node.shutdown().await;
        (self.home.store.clone(), self.folder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_bytes_answers_every_route_as_its_peer_would() {
    let setup = setup(1).await;
    let (status, bytes) = setup.bytes(&setup.url("/files/big.bin"), &[]).await;
    assert_eq!(status, 200);
    assert!(bytes == setup.big);
    let (status, bytes) = setup.big(5_000_001..7_000_003).await;
    assert_eq!(status, 206);
    assert!(bytes == setup.big[5_000_001..7_000_003]);
    let mut shown = setup.get(&setup.url(""), &[]).await;
    assert_eq!(shown.json().await["version"], setup.version.to_hex());
    let several = [("range", "bytes=0-9,4000000-4000009")];
    let (status, bytes) = setup.bytes(&setup.url("/files/big.bin"), &several).await;
    assert_eq!(status, 206);
    let found = |part: &[u8]| bytes.windows(part.len()).any(|bytes| bytes == part);
    assert!(found(&setup.big[..10]) && found(&setup.big[4_000_000..4_000_010]));
    for (path, expected) in [
        ("/files/config.json", &b"{\"a\":1}"[..]),
        ("/files/link.json", b"{\"a\":1}"),
        ("/files/empty", b""),
        ("/files/sub/small.txt", b"text"),
        ("/files/model.safetensors", &setup.model),
    ] {
        let (status, bytes) = setup.bytes(&setup.url(path), &[]).await;
        assert!(
            (status, bytes.as_slice()) == (200, expected),
            "{path}: {status}"
        );
    }
    let mut list = setup.get(&setup.url("/tensors"), &[]).await;
    let list = list.json().await;
    let row = &list["tensors"].as_array().unwrap()[0];
    let offset = row["offset"].as_u64().unwrap() as usize;
    let size = row["size"].as_u64().unwrap() as usize;
    let name = row["name"].as_str().unwrap().replace('/', "%2F");
    let (status, bytes) = setup
        .bytes(&setup.url(&format!("/tensors/{name}")), &[])
        .await;
    assert!(status == 200 && bytes == setup.model[offset..offset + size]);
    let mut rows = setup.get(&setup.url("/tensors/a?rows=10..20"), &[]).await;
    assert_eq!(rows.header("lode-shape"), Some("[10,700]"));
    let at: usize = rows.header("lode-offset").unwrap().parse().unwrap();
    let bytes = rows.bytes().await.unwrap();
    assert!(bytes == setup.model[at..at + bytes.len()]);
    let mut chunks = setup.get(&setup.url("/chunks/big.bin"), &[]).await;
    let chunks = chunks.json().await;
    let last = chunks["chunks"].as_array().unwrap().last().unwrap().clone();
    let at = last["offset"].as_u64().unwrap() as usize;
    let hash = last["hash"].as_str().unwrap();
    let (status, bytes) = setup.bytes(&format!("/lode/v1/chunks/{hash}"), &[]).await;
    assert!(status == 200 && bytes == setup.big[at..]);
    let (status, pairs) = setup
        .bytes(&format!("/lode/v1/chunks/{hash}/outboard"), &[])
        .await;
    assert!(status == 200 && pairs == outboard::compute(&setup.big[at..]).1);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_range_of_a_variant_is_made_of_what_a_peer_has_of_its_base() {
    let mut setup = setup(1).await;
    let mut file = models::Gguf::default();
    file.text("general.architecture", "llama")
        .random("blk.0.ffn_up.weight", models::Type::Bf16, &[512, 2048])
        .random("blk.1.ffn_up.weight", models::Type::Bf16, &[512, 2048]);
    let files = [("model.gguf", Held::Whole, &file.bytes()[..])];
    let refs = ["heads/main", "tags/v1"];
    let version = setup.home.push("gg", &files, &[], &refs);
    let publisher = setup.home.publisher;
    let url = |rest: &str| format!("/lode/v1/models/{publisher}/gg/v1:q4_k_m{rest}");
    let before = setup.sent();
    let (status, part) = setup
        .bytes(
            &url("/files/model.gguf"),
            &[("range", "bytes=300000-304095")],
        )
        .await;
    assert_eq!((status, part.len()), (206, 4096));
    let cost = setup.sent() - before;
    assert!(cost < 200 * 1024, "4 KiB of a variant cost {cost} bytes");
    let mut head = over_http(setup.address, Method::HEAD, &url("/files/model.gguf"), &[]).await;
    assert_eq!(head.header("lode-version"), Some(&version.to_hex()[..]));
    assert!(head.header("lode-recipe").unwrap().contains("q4_k_m"));
    let etag = head.header("etag").unwrap().to_owned();
    let len: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(head.bytes().await.unwrap().is_empty());
    let (status, whole) = setup.bytes(&url("/files/model.gguf"), &[]).await;
    assert_eq!((status, whole.len()), (200, len));
    assert!(
        whole[300_000..304_096] == part,
        "a range is not that part of the whole"
    );
    let conditional = [("if-none-match", &etag[..])];
    let (status, _) = setup.bytes(&url("/files/model.gguf"), &conditional).await;
    assert_eq!(status, 304);
    let mut rows = setup
        .get(&url("/tensors/blk.1.ffn_up.weight?rows=3..5"), &[])
        .await;
    assert_eq!(rows.header("lode-dtype"), Some("Q4_K"));
    let at: usize = rows.header("lode-offset").unwrap().parse().unwrap();
    let bytes = rows.bytes().await.unwrap();
    assert_eq!(bytes.len(), 2 * 2048 / 256 * 144);
    assert!(bytes == whole[at..at + bytes.len()]);
    let mut list = setup.get(&url("/files"), &[]).await;
    assert_eq!(list.json().await["files"][0]["size"], len);
    let plain = |rest: &str| format!("/lode/v1/models/{publisher}/gg/v1{rest}");
    let mut list = setup.get(&plain("/variants"), &[]).await;
    let list = list.json().await;
    let rows = list["variants"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["name"] == "q4_k_m").unwrap();
    assert_eq!(row["size"], len);
    let unknown = format!("/lode/v1/models/{publisher}/gg/v1:q9/files");
    let (status, body) = setup.bytes(&unknown, &[]).await;
    assert_eq!(status, 404);
    assert!(String::from_utf8_lossy(&body).contains("q4_k_m"));
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_and_tensor_rows_come_before_anything_else_was_read() {
    let setup = setup(1).await;
    let mut rows = setup.get(&setup.url("/tensors/a?rows=290..300"), &[]).await;
    assert_eq!(rows.status(), 200);
    let at: usize = rows.header("lode-offset").unwrap().parse().unwrap();
    let bytes = rows.bytes().await.unwrap();
    assert!(bytes == setup.model[at..at + bytes.len()] && !bytes.is_empty());
    let mut chunks = setup.get(&setup.url("/chunks/big.bin"), &[]).await;
    let chunks = chunks.json().await;
    let first = &chunks["chunks"].as_array().unwrap()[0];
    let len = first["length"].as_u64().unwrap() as usize;
    let hash = first["hash"].as_str().unwrap();
    let (status, pairs) = setup
        .bytes(&format!("/lode/v1/chunks/{hash}/outboard"), &[])
        .await;
    assert!(status == 200 && pairs == outboard::compute(&setup.big[..len]).1);
    let (status, bytes) = setup.bytes(&format!("/lode/v1/chunks/{hash}"), &[]).await;
    assert!(status == 200 && bytes == setup.big[..len]);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_readers_of_one_range_cause_one_fetch() {
    let setup = setup(1).await;
    let range = 3_000_000..3_600_000;
    setup.origins[0].gate.let_pass(0);
    let mut reading = tokio::task::JoinSet::new();
    let header = format!("bytes={}-{}", range.start, range.end - 1);
    for _ in 0..50 {
        let (address, path, header) = (setup.address, setup.url("/files/big.bin"), header.clone());
        reading.spawn(async move {
            let mut answer = over_http(address, Method::GET, &path, &[("range", &header)]).await;
            (answer.status(), answer.bytes().await.unwrap())
        });
    }
    let all = |setup: &Setup| setup.figures().waiting == 50;
    setup.until("all wait", Duration::from_secs(60), all).await;
    setup.origins[0].gate.open();
    while let Some(read) = reading.join_next().await {
        let (status, bytes) = read.unwrap();
        assert!(status == 206 && bytes == setup.big[range.clone()]);
    }
    let asked = range.len() as u64 + 2 * (16 << 10);
    assert!(setup.figures().bytes <= asked, "{:?}", setup.figures());
    assert!(setup.sent() <= asked, "{} sent for {asked}", setup.sent());
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_range_costs_its_groups_and_no_more() {
    let setup = setup(1).await;
    let (status, bytes) = setup.big(9_000_000..9_016_384).await;
    assert!(status == 206 && bytes == setup.big[9_000_000..9_016_384]);
    assert!(
        setup.sent() <= 3 * (16 << 10),
        "{} bytes were sent",
        setup.sent()
    );
    assert_eq!(setup.figures().requests, 1);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_waits_for_no_data_and_a_client_that_leaves_stops_the_fetch() {
    let setup = setup(1).await;
    setup.origins[0].gate.let_pass(0);
    let answer = setup.get(&setup.url("/files/big.bin"), &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("content-length"),
        Some(BIG_BYTES.to_string().as_str())
    );
    assert!(answer.header("etag").is_some());
    let asked = |setup: &Setup| setup.figures().under_way > 0 && setup.figures().waiting == 1;
    setup
        .until("it is fetched", Duration::from_secs(20), asked)
        .await;
    drop(answer);
    // A stall would end it too, but only after `lode_node::fetch::limits::STALL`.
    let stopped = |setup: &Setup| setup.figures().under_way == 0 && setup.figures().waiting == 0;
    let within = lode_node::fetch::limits::STALL / 2;
    setup.until("the fetch stops", within, stopped).await;
    setup.origins[0].gate.open();
    let (status, bytes) = setup.big(0..100_000).await;
    assert!(status == 206 && bytes == setup.big[..100_000]);
    assert!(setup.sent() < BIG_BYTES as u64 / 2);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bytes_arrive_long_before_the_last_and_a_slow_reader_holds_the_fetch_back() {
    let setup = setup(1).await;
    setup.origins[0].gate.let_pass(3 << 20);
    let mut answer = setup.get(&setup.url("/files/big.bin"), &[]).await;
    let mut found = Vec::new();
    while found.len() < 1 << 20 {
        let frame = answer.response.frame().await.unwrap().unwrap();
        found.extend_from_slice(frame.data_ref().unwrap());
    }
    assert!(setup.figures().bytes < 5 << 20, "{:?}", setup.figures());
    setup.origins[0].gate.open();
    found.extend_from_slice(&answer.bytes().await.unwrap());
    assert!(found == setup.big);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_leaves_half_way_cuts_the_answer_and_the_next_one_is_503() {
    let mut setup = setup(1).await;
    setup.origins[0].gate.let_pass(4 << 20);
    let mut answer = setup.get(&setup.url("/files/big.bin"), &[]).await;
    let mut found = answer
        .response
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap()
        .to_vec();
    setup.origins[0].leave().await;
    let cut = loop {
        match answer.response.frame().await {
            Some(Ok(frame)) => found.extend_from_slice(frame.data_ref().unwrap()),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(
        cut,
        "{} of {BIG_BYTES} bytes came, and then a good end",
        found.len()
    );
    assert!(found == setup.big[..found.len()]);
    let mut answer = setup
        .get(
            &setup.url("/files/big.bin"),
            &[("range", "bytes=20000000-20000009")],
        )
        .await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json().await["error"]["kind"], "no_peer");
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_liar_an_honest_peer_gives_the_right_bytes() {
    let setup = setup(2).await;
    setup.origins[0].lie();
    let (status, bytes) = setup.bytes(&setup.url("/files/big.bin"), &[]).await;
    assert!(status == 200 && bytes == setup.big);
    let (status, bytes) = setup
        .bytes(&setup.url("/files/model.safetensors"), &[])
        .await;
    assert!(status == 200 && bytes == setup.model);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_alone_gives_nothing() {
    let setup = setup(1).await;
    setup.origins[0].lie();
    let mut answer = setup.get(&setup.url("/files/big.bin"), &[]).await;
    match answer.status() {
        200 => assert!(answer.bytes().await.is_err(), "the connection is cut"),
        status => assert_eq!(status, 503),
    }
    let (status, _) = setup.big(20_000_000..20_000_010).await;
    assert_eq!(status, 503, "it is not asked again");
    assert!(setup.figures().lies > 0, "{:?}", setup.figures());
    let answer = setup.get("/metrics", &[]).await.bytes().await.unwrap();
    let page = String::from_utf8_lossy(&answer).into_owned();
    let none = "lode_verify_failures_total{from=\"peers\"} 0\n";
    assert!(
        page.contains(&none[..none.len() - 3]) && !page.contains(none),
        "{page}"
    );
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_whole_is_local_the_second_time() {
    let mut setup = setup(1).await;
    for path in [
        "/files/big.bin",
        "/files/model.safetensors",
        "/files/config.json",
    ] {
        assert_eq!(setup.bytes(&setup.url(path), &[]).await.0, 200);
    }
    setup.node.fetcher().settled().await;
    let before = setup.figures();
    setup.origins[0].leave().await;
    let (status, bytes) = setup.bytes(&setup.url("/files/big.bin"), &[]).await;
    assert!(status == 200 && bytes == setup.big);
    let (status, bytes) = setup.bytes(&setup.url("/tensors/a"), &[]).await;
    assert!(status == 200 && !bytes.is_empty());
    let after = setup.figures();
    assert_eq!(
        (after.requests, after.bytes),
        (before.requests, before.bytes)
    );
    // It is kept as a pulled version is: a collection leaves it, and a limit may take it.
    let keep = setup.node.store().kept().unwrap();
    assert_eq!(keep.len(), 1);
    assert!(keep[0].0 == setup.version && !keep[0].1.own);
    setup.node.store().gc(false, &mut |_| true).unwrap();
    let (status, bytes) = setup.bytes(&setup.url("/files/big.bin"), &[]).await;
    assert!(status == 200 && bytes == setup.big);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_for_readers_stays_within_the_quota() {
    const MAX: u64 = 40 << 20;
    let mut setup = setup_with(1, |options| options.disk_max = Some(MAX)).await;
    let mut names = Vec::new();
    for at in 0..4u64 {
        let (name, bytes) = (format!("m{at}"), noise(10 + at, 12 << 20));
        let files: [(&str, Held, &[u8]); 1] = [("w.bin", Held::Whole, &bytes)];
        setup.home.push(&name, &files, &[], &["heads/main"]);
        names.push((name, bytes));
    }
    for (name, expected) in &names {
        let path = format!(
            "/lode/v1/models/{}/{name}/main/files/w.bin",
            setup.home.publisher
        );
        let (status, bytes) = setup.bytes(&path, &[]).await;
        assert!(status == 200 && bytes == *expected, "{name}: {status}");
        setup.node.fetcher().settled().await;
        let used = setup.node.store().usage().unwrap().total();
        assert!(used <= MAX, "{used} bytes after {name}");
    }
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_requests_for_what_does_not_exist_reaches_peers_once() {
    let setup = setup(1).await;
    let absent = format!(
        "/lode/v1/models/{}/absent/main/files/a",
        setup.home.publisher
    );
    for _ in 0..30 {
        assert_eq!(setup.bytes(&absent, &[]).await.0, 404);
    }
    assert_eq!(setup.figures().lookups, 1);
    for _ in 0..30 {
        let path = format!("/lode/v1/chunks/{}", "ab".repeat(32));
        assert_eq!(setup.bytes(&path, &[]).await.0, 404);
    }
    assert_eq!(setup.figures().lookups, 2);
    // An alias that is not bound here stays unbound, whoever would know it.
    for path in ["acme/tiny/v1", "acme/tiny/v1/files/big.bin", "acme/tiny"] {
        assert_eq!(
            setup.bytes(&format!("/lode/v1/models/{path}"), &[]).await.0,
            404
        );
    }
    assert_eq!(setup.figures().lookups, 2);
    let mut answers = tokio::task::JoinSet::new();
    for at in 0..40 {
        let path = format!("/lode/v1/models/{}/absent-{at}/main", setup.home.publisher);
        let address = setup.address;
        answers.spawn(async move { over_http(address, Method::GET, &path, &[]).await.status() });
    }
    while let Some(status) = answers.join_next().await {
        assert!(matches!(status.unwrap(), 404 | 503));
    }
    let lookups = setup.figures().lookups;
    assert!(lookups < 42, "the rate of searches is bounded: {lookups}");
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_was_removed_is_not_brought_back_by_a_reader() {
    let setup = setup(1).await;
    assert_eq!(setup.bytes(&setup.url(""), &[]).await.0, 200);
    let gone = format!("gone/{}/tiny", setup.home.publisher);
    setup.node.store().local_set(&gone, b"").unwrap();
    assert_eq!(setup.bytes(&setup.url(""), &[]).await.0, 404);
    let listed = setup.get("/lode/v1/models", &[]).await.json().await;
    assert_eq!(listed["models"].as_array().unwrap().len(), 0);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_hub_get_heads_without_bytes_and_bytes_from_a_peer() {
    let mut setup = setup(1).await;
    let publisher = setup.home.publisher;
    setup
        .node
        .store()
        .local_set("alias/acme", publisher.as_bytes())
        .unwrap();
    setup.origins[0].gate.let_pass(0);
    let commit = setup.version.to_hex()[..40].to_owned();
    let path = format!("/acme/tiny/resolve/{commit}/big.bin");
    let head = async |path: &str| over_http(setup.address, Method::HEAD, path, &[]).await;
    let branch = head("/acme/tiny/resolve/main/big.bin").await;
    assert_eq!(branch.status(), 307, "the model was not here before");
    assert_eq!(branch.header("location"), Some(&path[..]));
    let known = head(&path).await;
    assert_eq!(known.status(), 200);
    let length = BIG_BYTES.to_string();
    assert_eq!(known.header("x-linked-size"), Some(&length[..]));
    assert_eq!(setup.figures().requests, 0, "a head needs no bytes");
    setup.origins[0].gate.open();
    let (status, bytes) = setup
        .bytes(&path, &[("range", "bytes=9000000-9000999")])
        .await;
    assert!(status == 206 && bytes == setup.big[9_000_000..9_001_000]);
    let mut list = setup
        .get("/api/models/acme/tiny/tree/v1?recursive=true", &[])
        .await;
    assert_eq!(list.json().await.as_array().unwrap().len(), 7);
    setup.origins[0].leave().await;
    let mut gone = setup.get(&path, &[]).await;
    assert_eq!((gone.status(), gone.header("x-error-code")), (503, None));
    assert!(gone.header("retry-after").is_some());
    assert!(gone.json().await["error"].is_string());
    assert_eq!(head(&path).await.status(), 200);
    let (status, _) = setup.bytes("/acme/tiny/resolve/v1/none", &[]).await;
    assert_eq!(status, 404);
    setup.end().await;
}
