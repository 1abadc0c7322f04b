#![allow(clippy::unwrap_used)]
//! Two nodes that know of each other no more than an id and a relay, which runs in this process.

use std::{sync::Arc, time::Duration};

use iroh::{EndpointAddr, RelayUrl, SecretKey, TransportAddr};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};

use crate::{
    PublisherId,
    sync::{
        endpoint::{EndpointOptions, Net, Relays},
        receiver::{FetchOptions, Peer, fetch_documents},
        session::Session,
        source::ModelRecords,
        testing::{MemRefs, Node, Open, sample},
    },
};

/// A relay on loopback, without TLS.
async fn relay() -> (Server, RelayUrl) {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new((std::net::Ipv4Addr::LOCALHOST, 0)));
    let server = Server::spawn(config).await.unwrap();
    let url = format!("http://{}", server.http_addr().unwrap());
    (server, url.parse().unwrap())
}

/// An endpoint on loopback that uses only this relay, once the relay knows it.
async fn behind(url: &RelayUrl) -> Net {
    let options = EndpointOptions {
        relays: Relays::Custom(vec![url.clone()]),
        ..EndpointOptions::loopback(SecretKey::generate())
    };
    let net = Net::bind(&options).await.unwrap();
    let online = tokio::time::timeout(Duration::from_secs(60), net.endpoint().online());
    online.await.expect("the relay takes us");
    net
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_and_a_blob_come_through_a_relay() {
    let (server, url) = relay().await;
    let records = ModelRecords {
        refs: vec![sample(300, 1).into()],
        ..ModelRecords::default()
    };
    let refs = MemRefs {
        records: records.clone(),
        ..MemRefs::default()
    };
    let node = Node::on(behind(&url).await, Arc::new(Open), refs);
    let net = behind(&url).await;
    let addr = EndpointAddr::from_parts(
        node.net.endpoint().id(),
        std::iter::once(TransportAddr::Relay(url.clone())),
    );
    let relayed = |server: &Server| server.metrics().server.bytes_sent.get();
    let before = relayed(&server);
    let session = Session::open(&net, addr.clone(), "asker", Vec::new())
        .await
        .unwrap();
    let publisher = PublisherId::of(b"someone");
    assert_eq!(
        session.refs(publisher, "tiny").await.unwrap(),
        Some(records)
    );
    let data = sample(200_000, 2);
    let hash = node.source.add(data.clone());
    let peers = [Peer::new(&net, addr)];
    let options = FetchOptions::default();
    let found = fetch_documents(&peers, &[hash], 1 << 20, &options).await;
    assert_eq!(found.unwrap(), [data]);
    // Nobody was given another address, so at least the beginning went through it.
    assert!(relayed(&server) > before);
}
