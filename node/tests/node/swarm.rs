//! Many nodes pull one version: what one has goes on to the others while it still pulls, and the
//! publisher sends it little more than once.

use std::{fs, path::PathBuf, time::Duration};

use lode_node::{
    EventSink, Node, NodeOptions,
    command::{Command, Outcome, Pull},
};
use lode_store::ticket::Ticket;
use tempfile::TempDir;

use crate::common::{TestNode, assert_same, node, options};

/// A folder with one file that is cut into pieces, none like another.
fn folder(mebibytes: u64) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("model");
    fs::create_dir(&root).unwrap();
    let mut bytes = vec![0; usize::try_from(mebibytes << 20).unwrap()];
    blake3::Hasher::new()
        .update(b"swarm")
        .update(&mebibytes.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    fs::write(root.join("weights.bin"), bytes).unwrap();
    (dir, root)
}

/// A node that sends no more than so many bytes a second.
fn slow(bytes_per_second: u64) -> TestNode {
    let home = tempfile::tempdir().unwrap();
    let mut options: NodeOptions = options();
    options.network.upload = Some(bytes_per_second);
    TestNode {
        node: Node::open(home.path(), options).unwrap(),
        home,
    }
}

/// The ticket with the addresses of these nodes instead of its own.
async fn at(ticket: &str, nodes: &[&TestNode]) -> String {
    let mut ticket: Ticket = ticket.parse().unwrap();
    ticket.addrs.clear();
    for node in nodes {
        ticket
            .addrs
            .push(node.node.network().await.unwrap().ticket_addr());
    }
    ticket.to_text().unwrap()
}

/// Waits until a node has received some of what it pulls.
async fn has_begun(node: &TestNode) {
    let network = node.node.network().await.unwrap();
    let received = || {
        network
            .traffic()
            .all()
            .iter()
            .map(|(_, c)| c.received())
            .sum::<u64>()
    };
    while received() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_passes_on_what_it_is_still_receiving() {
    Box::pin(passes_on(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_passes_on_what_it_is_still_receiving_into_its_store_alone() {
    Box::pin(passes_on(false)).await;
}

/// A node in the middle pulls into a folder, or its store, and another one from that node.
async fn passes_on(to_folder: bool) {
    let (dir, root) = folder(12);
    let (a, b, c) = (slow(4 << 20), node(), node());
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    let (second, third) = (dir.path().join("b"), dir.path().join("c"));
    let pull_b = b.pull(
        "acme/tiny",
        Some(&ticket),
        to_folder.then_some(second.as_path()),
        |_| (),
    );
    let pull_c = async {
        has_begun(&b).await;
        let ticket = at(&ticket, &[&b]).await;
        c.pull("acme/tiny", Some(&ticket), Some(&third), |_| ())
            .await
    };
    let (first, pulled) = tokio::join!(pull_b, pull_c);
    first.unwrap();
    let pulled = pulled.unwrap();
    if to_folder {
        assert_same(&root, &second);
    }
    assert_same(&root, &third);
    assert!(pulled.size_fetched >= 12 << 20, "{pulled:?}");
    assert_eq!(
        a.sent(Some(&c)).await,
        0,
        "all of it came from the node in the middle"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeder_sends_little_more_than_one_copy_to_a_swarm() {
    const MEBIBYTES: u64 = 32;
    let (dir, root) = folder(MEBIBYTES);
    let seeder = slow(8 << 20);
    let pushed = seeder
        .push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = seeder.share("acme/tiny").await;
    let leechers = [node(), node(), node(), node()];
    let pulls = leechers.iter().enumerate().map(|(index, leecher)| {
        let (ticket, leechers, seeder) = (&ticket, &leechers, &seeder);
        let to = dir.path().join(index.to_string());
        async move {
            let others = leechers
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            let mut nodes: Vec<&TestNode> = others.map(|(_, node)| node).collect();
            nodes.push(seeder);
            let ticket = at(ticket, &nodes).await;
            let pulled = leecher.pull("acme/tiny", Some(&ticket), Some(&to), |_: &mut Pull| ());
            pulled.await.map(|pulled| (to, pulled))
        }
    });
    let [a, b, c, d] = pulls.collect::<Vec<_>>().try_into().ok().unwrap();
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    let mut received = 0;
    for pulled in [a, b, c, d] {
        let (to, pulled) = pulled.unwrap();
        assert_same(&root, &to);
        received += pulled.size_fetched;
    }
    let sent = seeder.sent(None).await;
    assert!(
        sent <= pushed.size * 12 / 10,
        "the seeder sent {sent} bytes of a model of {}",
        pushed.size
    );
    assert!(
        received <= pushed.size * 4 * 110 / 100,
        "{received} bytes were received for four copies of {}",
        pushed.size
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_leechers_that_know_only_the_seeder_find_each_other() {
    let (dir, root) = folder(16);
    let seeder = slow(4 << 20);
    let pushed = seeder
        .push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = seeder.share("acme/tiny").await;
    let leechers: Vec<TestNode> = (0..8).map(|_| node()).collect();
    let mut pulls = tokio::task::JoinSet::new();
    for (index, leecher) in leechers.iter().enumerate() {
        let to = dir.path().join(index.to_string());
        let (node, ticket) = (leecher.node.clone(), ticket.clone());
        pulls.spawn(async move {
            let pull = Pull {
                name: "acme/tiny".to_owned(),
                to: Some(to.to_str().unwrap().to_owned()),
                from: vec![ticket],
                ..Pull::default()
            };
            let pulled = node.run(Command::Pull(pull), EventSink::discard()).await;
            pulled.map(|_| to)
        });
    }
    while let Some(pulled) = pulls.join_next().await {
        assert_same(&root, &pulled.unwrap().unwrap());
    }
    for leecher in &leechers {
        let traffic = leecher.node.network().await.unwrap().traffic().all();
        let senders = traffic.iter().filter(|(_, peer)| peer.received() > 0);
        assert!(
            senders.count() >= 2,
            "one leecher had nobody but the seeder"
        );
    }
    let sent = seeder.sent(None).await;
    assert!(
        sent <= pushed.size * 14 / 10,
        "the seeder sent {sent} bytes of a model of {}",
        pushed.size
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_pull_asks_for_nothing_more_until_it_is_resumed() {
    let (dir, root) = folder(32);
    let (_other_dir, other) = folder(24);
    let (a, b, c) = (slow(6 << 20), node(), node());
    for (root, name) in [(&root, "acme/tiny"), (&other, "acme/other")] {
        a.push_with(root, name, |push| push.public = true)
            .await
            .unwrap();
    }
    let (ticket, other_ticket) = (a.share("acme/tiny").await, a.share("acme/other").await);
    let none = b.run(Command::Pause { name: None }).await.unwrap_err();
    assert!(none.message.contains("no pull runs"), "{none:?}");
    let to = dir.path().join("b");
    let name = "acme/tiny".to_owned();
    let pull = b.pull(&name, Some(&ticket), Some(&to), |_| ());
    let watch = async {
        has_begun(&b).await;
        let paused = b.run(Command::Pause {
            name: Some(name.clone()),
        });
        let paused = paused.await.unwrap();
        assert!(matches!(paused, Outcome::Paused { names, .. } if names == [name.clone()]));
        // Had the pull gone on, it had got as much as another node of the same seeder meanwhile.
        c.pull("acme/other", Some(&other_ticket), None, |_| ())
            .await
            .unwrap();
        let sent = a.sent(Some(&b)).await;
        assert!(sent < 16 << 20, "the pull went on: {sent} bytes");
        let Outcome::Status(status) = b.run(Command::Status).await.unwrap() else {
            panic!("status answers with a status");
        };
        assert!(status.jobs.iter().any(|job| job.paused), "{status:?}");
        b.run(Command::Resume { name: None }).await.unwrap();
    };
    let (pulled, ()) = tokio::join!(pull, watch);
    pulled.unwrap();
    assert_same(&root, &to);
}
