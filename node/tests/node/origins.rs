//! Models of another hub: what becomes a version, and that a hub which lies, stalls or leads astray costs nothing
//! but the attempt.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lode_node::{
    EventSink, Node, NodeOptions,
    command::{Command, Failure, FailureKind, Outcome, Pull, Pulled},
    origin::Upstream,
};

use crate::{
    common::{TestNode, node, open, options},
    hub::{COMMIT, Hub, ID, Reply},
};

/// Bytes that do not repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

struct Model {
    weights: Vec<u8>,
    other: Vec<u8>,
}

impl Model {
    fn new() -> Self {
        Self {
            weights: noise(1, (5 << 20) + 123),
            other: noise(2, 300_000),
        }
    }

    fn files(&self) -> [(&str, &[u8], bool); 4] {
        [
            ("config.json", b"{\"a\":1}", false),
            ("empty", b"", false),
            ("sub/model.safetensors", &self.weights, true),
            ("tokenizer.json", &self.other, false),
        ]
    }
}

fn upstream(hub: &Hub) -> Upstream {
    Upstream {
        url: hub.url(),
        token_file: None,
        private: true,
    }
}

async fn pull_at(
    node: &Node,
    name: &str,
    upstream: Upstream,
    to: Option<&Path>,
) -> Result<Pulled, Failure> {
    let pull = Pull {
        name: name.to_owned(),
        to: to.map(|to| to.to_str().unwrap().to_owned()),
        upstream: Some(Box::new(upstream)),
        ..Pull::default()
    };
    match node.run(Command::Pull(pull), EventSink::discard()).await? {
        Outcome::Pulled(pulled) => Ok(pulled),
        other => panic!("pull answered {other:?}"),
    }
}

async fn pull(node: &TestNode, hub: &Hub) -> Result<Pulled, Failure> {
    pull_at(&node.node, &format!("hf:{ID}"), upstream(hub), None).await
}

fn read(node: &Node, path: &str) -> Option<Vec<u8>> {
    let at = node.reads().models().unwrap();
    let at = at.first()?;
    let found = node
        .reads()
        .resolve(at.publisher, &at.model, &COMMIT.parse().unwrap())
        .ok()?;
    let version = node.reads().version(found.version).unwrap();
    let tree = node.reads().tree(version.doc.tree).unwrap();
    let file = tree.file(path).unwrap().clone();
    let reader = node.reads().file(&file).unwrap();
    let whole = lode_tensors::ByteRange {
        start: 0,
        end: file.size,
    };
    Some(reader.read_all(whole).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_hub_becomes_one_version_on_every_node() {
    let model = Model::new();
    let hub = Hub::start(&model.files()).await;
    let (one, other) = (node(), node());
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("tiny");
    let name = format!("hf:{ID}@{COMMIT}");
    let pulled = pull_at(&one.node, &name, upstream(&hub), Some(&to))
        .await
        .unwrap();
    assert_eq!(pulled.name, name);
    assert!(std::fs::read(to.join("sub/model.safetensors")).unwrap() == model.weights);
    assert_eq!(std::fs::read(to.join("empty")).unwrap(), b"");
    let again = pull(&other, &hub).await.unwrap();
    assert_eq!(pulled.version, again.version);
    assert!(read(&other.node, "tokenizer.json").unwrap() == model.other);
    // Nothing of a commit that is here is asked for again.
    let sent = hub.state().sent;
    let held = pull(&one, &hub).await.unwrap();
    assert_eq!((held.size_fetched, hub.state().sent), (0, sent));
    // It is found by its own name, and has the time of the commit.
    let shown = one.show(&format!("hf:{ID}@{COMMIT}")).await;
    assert_eq!(
        (shown.version, shown.publisher),
        (pulled.version.clone(), None)
    );
    assert_eq!(shown.time, 1_795_391_224);
    one.run(Command::Verify {
        name: format!("hf:{ID}@{COMMIT}"),
    })
    .await
    .unwrap();
    // A home that is opened anew knows it still, and its index can be made from the logs.
    let TestNode { node, home } = other;
    drop(node);
    let node = open(home.path());
    node.run(Command::Doctor { rebuild: true }, EventSink::discard())
        .await
        .unwrap();
    drop(node);
    let node = open(home.path());
    assert_eq!(read(&node, "config.json").unwrap(), b"{\"a\":1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_commit_is_pulled_and_the_rest_joins_it_later() {
    let model = Model::new();
    let hub = Hub::start(&model.files()).await;
    let node = node();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("part");
    let part = Pull {
        name: format!("hf:{ID}"),
        include: vec!["*.json".to_owned()],
        to: Some(to.to_str().unwrap().to_owned()),
        upstream: Some(Box::new(upstream(&hub))),
        ..Pull::default()
    };
    node.run(Command::Pull(part)).await.unwrap();
    assert!(to.join("config.json").exists() && !to.join("sub").exists());
    assert!(hub.asked_for("sub/model.safetensors").is_empty());
    let whole = pull(&node, &hub).await.unwrap();
    assert_eq!(hub.asked_for("tokenizer.json").len(), 1);
    assert!(read(&node.node, "sub/model.safetensors").unwrap() == model.weights);
    assert!(!whole.version.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_resumed_where_they_broke() {
    let model = Model::new();
    let hub = Hub::start(&model.files()).await;
    hub.twist(
        |asked, before, truth| match asked.is_file("sub/model.safetensors") && before < 4 {
            true => Reply {
                cut: Some(1 << 20),
                ..truth
            },
            false => truth,
        },
    );
    let node = node();
    pull(&node, &hub).await.unwrap();
    assert!(read(&node.node, "sub/model.safetensors").unwrap() == model.weights);
    let asked = hub.asked_for("sub/model.safetensors");
    assert_eq!(asked.len(), 5);
    for (at, asked) in asked.iter().enumerate().skip(1) {
        let start = asked.range.unwrap().0;
        assert!(start >= (at as u64) << 19, "{start}");
        assert!(
            asked.headers.to_ascii_lowercase().contains("if-range: \""),
            "{}",
            asked.headers
        );
    }
    assert!(hub.state().sent < (model.weights.len() + model.other.len() + (1 << 20)) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_in_the_middle_goes_on_there() {
    let model = Model::new();
    let hub = Hub::start(&model.files()).await;
    hub.twist(
        |asked, _, truth| match asked.is_file("sub/model.safetensors") {
            true => Reply {
                rate: Some(4 << 20),
                ..truth
            },
            false => truth,
        },
    );
    let home = tempfile::tempdir().unwrap();
    let part = {
        let node = open(home.path());
        let pulling = tokio::spawn({
            let (node, upstream) = (node.clone(), upstream(&hub));
            async move { pull_at(&node, &format!("hf:{ID}"), upstream, None).await }
        });
        let start = Instant::now();
        let part = loop {
            let parts = std::fs::read_dir(home.path().join("origins"))
                .into_iter()
                .flatten();
            let sizes = parts
                .flatten()
                .filter_map(|part| part.path().join("0").metadata().ok());
            if let Some(part) = sizes
                .map(|part| part.len())
                .find(|length| *length > 2 << 20)
            {
                break part;
            }
            assert!(start.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        pulling.abort();
        pulling.await.ok();
        part
    };
    let start = Instant::now();
    let node = loop {
        match Node::open(home.path(), options()) {
            Ok(node) => break node,
            Err(failure) => assert!(start.elapsed() < Duration::from_secs(30), "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    pull_at(&node, &format!("hf:{ID}"), upstream(&hub), None)
        .await
        .unwrap();
    let asked = hub.asked_for("sub/model.safetensors");
    let resumed = asked.last().unwrap().range.unwrap().0;
    assert!(resumed >= part, "{resumed} after {part}");
    assert!(read(&node, "sub/model.safetensors").unwrap() == model.weights);
}

/// How a hub misbehaves, and what is said of it.
type Case = (
    &'static str,
    fn(&crate::hub::Asked, usize, Reply) -> Reply,
    FailureKind,
    &'static str,
);

const WEIGHTS: &str = "sub/model.safetensors";

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_lies_is_told_by_name_and_nothing_of_it_is_stored() {
    let model = Model::new();
    let cases: [Case; 12] = [
        (
            "other bytes",
            |asked, _, mut truth| {
                if asked.is_file(WEIGHTS) {
                    truth.body[77] ^= 1;
                }
                truth
            },
            FailureKind::Corrupt,
            "bytes hash to",
        ),
        (
            "a longer file",
            |asked, _, mut truth| {
                if asked.is_file(WEIGHTS) {
                    truth.body.push(1);
                }
                truth
            },
            FailureKind::Corrupt,
            "and not 5243003",
        ),
        (
            "a longer file of no length",
            |asked, _, mut truth| {
                if asked.is_file(WEIGHTS) {
                    truth.body.push(1);
                    truth.says = Some(None);
                }
                truth
            },
            FailureKind::Corrupt,
            "more than 5243003 bytes",
        ),
        (
            "an endless file",
            |asked, _, mut truth| {
                if asked.is_file(WEIGHTS) {
                    (truth.endless, truth.says) = (true, Some(None));
                }
                truth
            },
            FailureKind::Corrupt,
            "more than 5243003 bytes",
        ),
        (
            "an endless list",
            |asked, _, truth| match asked.path.contains("/tree/") {
                true => Reply {
                    endless: true,
                    says: Some(None),
                    ..truth
                },
                false => truth,
            },
            FailureKind::Corrupt,
            "more than 16777216 bytes",
        ),
        (
            "pages without end",
            |asked, _, truth| match asked.path.contains("/tree/") {
                true => Reply::json("[]").with("link", format!("<{}>; rel=\"next\"", asked.path)),
                false => truth,
            },
            FailureKind::Corrupt,
            "does not end",
        ),
        (
            "a page elsewhere",
            |asked, _, truth| match asked.path.contains("/tree/") {
                true => truth.with("link", "<http://127.0.0.1:9/api>; rel=\"next\""),
                false => truth,
            },
            FailureKind::Refused,
            "the next page is elsewhere",
        ),
        (
            "a path that leads out",
            |asked, _, mut truth| {
                if asked.path.contains("/tree/") {
                    let text = String::from_utf8(truth.body).unwrap();
                    truth.body = text.replace("config.json", "../config.json").into_bytes();
                }
                truth
            },
            FailureKind::Corrupt,
            "../config.json",
        ),
        (
            "another commit",
            |asked, _, truth| match asked.path.ends_with("/revision/main") {
                true => Reply::json(format!(r#"{{"id":"{ID}","sha":"main"}}"#)),
                false => truth,
            },
            FailureKind::Corrupt,
            "no commit id",
        ),
        (
            "no JSON",
            |asked, _, truth| match asked.path.contains("/tree/") {
                true => Reply::json("<html>"),
                false => truth,
            },
            FailureKind::Corrupt,
            "expected value",
        ),
        (
            "no such model",
            |asked, _, truth| match asked.path.contains("/revision/") {
                true => Reply::status(404),
                false => truth,
            },
            FailureKind::NotFound,
            "does not show it to us",
        ),
        (
            "a model behind terms",
            |asked, _, truth| match asked.is_file(WEIGHTS) {
                true => Reply::status(403),
                false => truth,
            },
            FailureKind::Refused,
            "other terms",
        ),
    ];
    for (what, twist, kind, says) in cases {
        let hub = Hub::start(&model.files()).await;
        hub.twist(twist);
        let node = node();
        let failure = pull(&node, &hub).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{what}: {failure:?}");
        assert!(failure.message.contains(says), "{what}: {failure:?}");
        assert!(failure.message.contains("127.0.0.1"), "{what}: {failure:?}");
        assert!(node.node.reads().models().unwrap().is_empty(), "{what}");
        assert_eq!(read(&node.node, WEIGHTS), None, "{what}");
        // The truth comes through where a lie was.
        hub.twist(|_, _, truth| truth);
        if !matches!(kind, FailureKind::NotFound) {
            pull(&node, &hub)
                .await
                .unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
            assert!(
                read(&node.node, WEIGHTS).unwrap() == model.weights,
                "{what}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_asks_to_come_back_is_waited_for_as_it_says() {
    let model = Model::new();
    let hub = Hub::start(&model.files()).await;
    hub.twist(
        |asked, before, truth| match (asked.is_file("config.json"), before) {
            (true, 0) => Reply::status(429).with("retry-after", "1"),
            (true, 1) => Reply::status(503).with("retry-after", "1"),
            _ => truth,
        },
    );
    let node = node();
    let start = Instant::now();
    pull(&node, &hub).await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(hub.asked_for("config.json").len(), 3);
    // Not for an hour.
    let hub = Hub::start(&model.files()).await;
    hub.twist(|_, _, _| Reply::status(429).with("retry-after", "3600"));
    let failure = pull(&node, &hub).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoPeer);
    assert!(
        failure.message.contains("asks to come back in 3600 s"),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redirections_are_followed_where_they_are_safe() {
    let model = Model::new();
    let (hub, store) = (
        Hub::start(&model.files()).await,
        Hub::start(&model.files()).await,
    );
    let elsewhere = store.url();
    hub.twist(
        move |asked, _, truth| match asked.path.contains("/resolve/") {
            true => Reply::status(302).with("location", format!("{elsewhere}{}", asked.path)),
            false => truth,
        },
    );
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hf_secret\n").unwrap();
    let told = Upstream {
        token_file: Some(token),
        ..upstream(&hub)
    };
    let node = node();
    pull_at(&node.node, &format!("hf:{ID}"), told, None)
        .await
        .unwrap();
    assert!(read(&node.node, WEIGHTS).unwrap() == model.weights);
    let shows = |hub: &Hub| {
        hub.state()
            .asked
            .iter()
            .all(|asked| asked.headers.contains("Bearer hf_secret"))
    };
    assert!(shows(&hub), "the hub is shown the token");
    assert!(
        !store
            .state()
            .asked
            .iter()
            .any(|asked| asked.headers.contains("hf_secret")),
        "and nobody else"
    );
    for (location, says) in [
        ("ftp://127.0.0.1/a", "scheme"),
        ("http://u:p@127.0.0.1/a", "password"),
        (
            "/Acme/Tiny-1B/resolve/0123456789abcdef0123456789abcdef01234567/config.json",
            "more than 5 in a row",
        ),
    ] {
        let hub = Hub::start(&model.files()).await;
        hub.twist(
            move |asked, _, truth| match asked.path.contains("/resolve/") {
                true => Reply::status(302).with("location", location),
                false => truth,
            },
        );
        let failure = pull(&crate::common::node(), &hub).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
        assert!(failure.message.contains(says), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_asked_unless_that_is_allowed() {
    let hub = Hub::start(&Model::new().files()).await;
    let node = node();
    for url in [
        hub.url(),
        format!("http://localhost:{}", hub.address.port()),
    ] {
        let public = Upstream {
            url: url.clone(),
            private: false,
            ..upstream(&hub)
        };
        let failure = pull_at(&node.node, &format!("hf:{ID}"), public, None)
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{url}: {failure:?}");
        assert!(
            failure.message.contains("no public address"),
            "{url}: {failure:?}"
        );
        assert!(failure.advice.unwrap().contains("--upstream-private"));
    }
    assert!(hub.state().asked.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_offline_asks_no_hub_that_was_not_named() {
    let node = node();
    let pull = Pull {
        name: format!("hf:{ID}"),
        ..Pull::default()
    };
    let failure = node.run(Command::Pull(pull)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.advice.unwrap().contains("--upstream"));
}

/// Several nodes that know of the first one alone ask for one commit at once.
async fn swarm(count: usize, model: &Model, rate: Option<usize>) -> (Hub, Vec<TestNode>) {
    let hub = Hub::start(&model.files()).await;
    hub.twist(move |_, _, truth| Reply { rate, ..truth });
    let nodes: Vec<TestNode> = (0..count).map(|_| node()).collect();
    // A ticket of anything names its node.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "a").unwrap();
    nodes[0].push(folder.path(), "seed/seed").await.unwrap();
    let ticket = nodes[0].share("seed/seed").await;
    for other in &nodes[1..] {
        let ticket = ticket.clone();
        other.run(Command::PeersAdd { ticket }).await.unwrap();
    }
    let mut pulling = tokio::task::JoinSet::new();
    for node in &nodes {
        let (node, upstream) = (node.node.clone(), upstream(&hub));
        pulling.spawn(async move {
            node.network().await.unwrap();
            pull_at(&node, &format!("hf:{ID}"), upstream, None).await
        });
    }
    let mut versions = Vec::new();
    while let Some(pulled) = pulling.join_next().await {
        versions.push(pulled.unwrap().unwrap().version);
    }
    versions.dedup();
    assert_eq!(versions.len(), 1);
    (hub, nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_want_one_commit_at_once_ask_its_hub_for_each_file_once() {
    let model = Model {
        weights: noise(3, 24 << 20),
        other: noise(4, 6 << 20),
    };
    let (hub, nodes) = swarm(6, &model, Some(16 << 20)).await;
    let size = (model.weights.len() + model.other.len()) as u64;
    let sent = hub.state().sent;
    assert!(sent * 10 <= size * 12, "{sent} of {size} bytes");
    for node in &nodes {
        assert!(read(&node.node, WEIGHTS).unwrap() == model.weights);
    }
    let from_peers: u64 = nodes
        .iter()
        .map(|node| node.node.origins().figures().from_peers)
        .sum();
    assert!(from_peers >= 4 * size, "{from_peers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_one_commit_at_once_fetch_each_file_once() {
    for seed in 0..4 {
        let model = Model {
            weights: noise(seed, 200_000),
            other: noise(seed + 100, 70_000),
        };
        let files = model.files();
        let hub = Hub::start(&files).await;
        let home = tempfile::tempdir().unwrap();
        let node = Node::open(home.path(), options()).unwrap();
        let mut pulling = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (node, upstream) = (node.clone(), upstream(&hub));
            pulling.spawn(async move { pull_at(&node, &format!("hf:{ID}"), upstream, None).await });
        }
        while let Some(pulled) = pulling.join_next().await {
            pulled.unwrap().unwrap();
        }
        let figures = node.origins().figures();
        assert_eq!((figures.files, figures.wrong), (4, 0), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_told_of_a_hub_takes_its_models_from_there() {
    let model = Model::new();
    let hub = Hub::start(&model.files()).await;
    let home = tempfile::tempdir().unwrap();
    let options = NodeOptions {
        upstream: Some(upstream(&hub)),
        ..options()
    };
    let node = Node::open(home.path(), options).unwrap();
    let pull = Pull {
        name: format!("hf:{ID}"),
        ..Pull::default()
    };
    node.run(Command::Pull(pull), EventSink::discard())
        .await
        .unwrap();
    assert!(read(&node, WEIGHTS).unwrap() == model.weights);
    let figures = node.origins().figures();
    assert_eq!((figures.files, figures.wrong), (4, 0));
}
