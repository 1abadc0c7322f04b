//! Public models are pulled over TCP on one's own network, private ones never; either side can refuse.

use std::net::{Ipv4Addr, SocketAddr};

use lode_node::{
    NetworkOptions, Node, NodeOptions,
    command::{Command, Outcome},
};

use crate::common::{TestNode, assert_same, model, node};

/// A node that has the LAN path off.
fn node_without() -> TestNode {
    let home = tempfile::tempdir().unwrap();
    let options = NodeOptions {
        network: NetworkOptions {
            offline: true,
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            lan: false,
            ..NetworkOptions::default()
        },
        ..NodeOptions::default()
    };
    let node = Node::open(home.path(), options).unwrap();
    TestNode { node, home }
}

/// Bytes that `from` sent to `to`: all, and those over TCP.
async fn sent(from: &TestNode, to: &TestNode) -> (u64, u64) {
    let to = to.node.network().await.unwrap().id();
    let counters = from.node.network().await.unwrap().traffic().of(to);
    (counters.sent(), counters.lan_sent())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_public_model_come_over_tcp() {
    let (a, b) = (node(), node());
    let (folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    let out = folder.path().join("out");
    let pulled = b
        .pull("acme/tiny", Some(&ticket), Some(&out), |_| ())
        .await
        .unwrap();
    assert_same(&root, &out);
    let (all, over_lan) = sent(&a, &b).await;
    assert!(
        over_lan >= pulled.size_fetched && over_lan < all,
        "documents take QUIC"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_model_never_goes_over_tcp_even_with_its_capability() {
    let (a, b) = (node(), node());
    let (_folder, root) = model(1.0);
    a.push(&root, "acme/secret").await.unwrap();
    let ticket = a.share("acme/secret").await;
    b.pull("acme/secret", Some(&ticket), None, |_| ())
        .await
        .unwrap();
    let (all, over_lan) = sent(&a, &b).await;
    assert!(all > 0);
    assert_eq!(over_lan, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_want_it_gets_the_same_bytes_over_quic() {
    let (_folder, root) = model(1.0);
    for (a, b, no_lan) in [
        (node_without(), node(), false),
        (node(), node_without(), false),
        (node(), node(), true),
    ] {
        a.push_with(&root, "acme/tiny", |push| push.public = true)
            .await
            .unwrap();
        let ticket = a.share("acme/tiny").await;
        b.pull("acme/tiny", Some(&ticket), None, |pull| {
            pull.no_lan = no_lan
        })
        .await
        .unwrap();
        let (all, over_lan) = sent(&a, &b).await;
        assert!(all > 0);
        assert_eq!(over_lan, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_names_the_path_while_bytes_come() {
    let (a, b) = (node(), node());
    let (_folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    let path = async |of: &TestNode| {
        let Outcome::Peers { peers } = of.run(Command::Peers).await.unwrap() else {
            panic!("peers lists peers")
        };
        peers.first().and_then(|peer| peer.path.clone())
    };
    // Slow enough to be looked at; it is given up when that is done.
    let pull = b.pull("acme/tiny", Some(&ticket), None, |pull| {
        pull.max_rate = Some(100_000);
    });
    let look = async {
        for of in [&b, &a] {
            while path(of).await.as_deref() != Some("lan") {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        pulled = pull => panic!("it ended before it was seen: {pulled:?}"),
        () = look => {}
    }
}
