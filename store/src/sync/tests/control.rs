#![allow(clippy::unwrap_used)]
//! What peers say on `/lode/1` arrives, in bounds, and holds as long as the connection.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    ChunkHash, PublisherId, VersionId,
    sync::{
        endpoint::{ALPN, EndpointOptions, Net},
        frame::{self, FrameError},
        message::{Message, PeerAddr, VersionQuery},
        receiver::{DocumentError, FetchOptions, Peer, fetch_documents},
        session::{Session, SessionError},
        source::{HeldMap, ModelRecords},
        testing::{MemRefs, Node, Open, Private, loopback, sample},
    },
};

fn publisher() -> PublisherId {
    PublisherId::of(b"someone")
}

#[tokio::test]
async fn records_arrive_whole_whatever_their_length() {
    let records = |sizes: &[usize], seed: u64| -> Vec<Bytes> {
        let record = |(at, size): (usize, &usize)| sample(*size, seed + at as u64).into();
        sizes.iter().enumerate().map(record).collect()
    };
    let given = ModelRecords {
        identities: records(&[300, 1 << 20, 0, 32 << 10, (32 << 10) + 1, 5], 1),
        refs: records(&[500; 3000], 100),
        signatures: Vec::new(),
    };
    let refs = MemRefs {
        records: given.clone(),
        ..MemRefs::default()
    };
    let node = Node::with(Arc::new(Open), refs).await;
    let net = loopback().await;
    let session = Session::open(&net, node.net.addr(), "asker", Vec::new())
        .await
        .unwrap();
    assert_eq!(session.hello().agent, "test");
    assert_eq!(
        session.refs(publisher(), "tiny").await.unwrap(),
        Some(given)
    );
    assert_eq!(session.refs(publisher(), "none").await.unwrap(), None);
}

#[tokio::test]
async fn have_maps_and_peers_arrive() {
    let held = HeldMap::of((0..1_000_003u64).map(|chunk| chunk % 7 != 3));
    let peer = PeerAddr {
        id: [3; 32],
        ip: vec!["1.2.3.4:5".to_owned()],
        relay: Vec::new(),
    };
    let refs = MemRefs {
        held: Some(held.clone()),
        peers: vec![peer.clone(); 150],
        ..MemRefs::default()
    };
    let node = Node::with(Arc::new(Open), refs).await;
    let net = loopback().await;
    let session = Session::open(&net, node.net.addr(), "asker", Vec::new())
        .await
        .unwrap();
    let version = VersionId::of(b"v");
    let got = session.held(version).await.unwrap().unwrap();
    assert_eq!(got, held);
    assert!(got.holds(2) && !got.holds(3) && !got.holds(1_000_003));
    assert_eq!(
        session.peers(version).await.unwrap(),
        vec![peer.clone(); 150]
    );
    session.hint(Some(version), &[peer]).await.unwrap();
    // Frames of the control stream are taken in order: the answer to this one comes after the hint.
    session.show(vec![Bytes::from_static(b"x")]).await.unwrap();
    assert_eq!(node.refs.hints.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn all_held_takes_one_small_frame() {
    let refs = MemRefs {
        held: Some(HeldMap::all(1 << 20)),
        ..MemRefs::default()
    };
    let node = Node::with(Arc::new(Open), refs).await;
    let net = loopback().await;
    let session = Session::open(&net, node.net.addr(), "asker", Vec::new())
        .await
        .unwrap();
    let held = session.held(VersionId::of(b"v")).await.unwrap().unwrap();
    assert_eq!((held.count, held.held()), (1 << 20, 1 << 20));
}

#[tokio::test]
async fn a_capability_holds_while_its_connection_lives() {
    let node = Node::with(Arc::new(Private::default()), MemRefs::default()).await;
    let hash = node.source.add(&b"a private document"[..]);
    let absent = ChunkHash::of(b"absent");
    let net = loopback().await;
    let options = FetchOptions::default();
    let peers = [Peer::new(&net, node.net.addr())];
    let ask = |hash| {
        let (peers, options) = (&peers, &options);
        async move { fetch_documents(peers, &[hash], 1 << 20, options).await }
    };
    // Private and absent look alike.
    assert_eq!(ask(hash).await, Err(DocumentError::NoPeerHasIt { hash }));
    assert_eq!(
        ask(absent).await,
        Err(DocumentError::NoPeerHasIt { hash: absent })
    );
    let session = Session::open(&net, node.net.addr(), "a", Vec::new())
        .await
        .unwrap();
    assert_eq!(session.refs(publisher(), "secret").await.unwrap(), None);
    session
        .show(vec![Bytes::from_static(b"open sesame")])
        .await
        .unwrap();
    assert!(session.refs(publisher(), "secret").await.unwrap().is_some());
    assert_eq!(ask(hash).await.unwrap(), [&b"a private document"[..]]);
    // Another node does not profit from it.
    let other = loopback().await;
    let theirs = [Peer::new(&other, node.net.addr())];
    let refused = fetch_documents(&theirs, &[hash], 1 << 20, &options).await;
    assert_eq!(refused, Err(DocumentError::NoPeerHasIt { hash }));
    drop(session);
    // The node notices the end of the connection by and by.
    while !node
        .grants
        .caller(net.endpoint().id())
        .capabilities
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(hash).await, Err(DocumentError::NoPeerHasIt { hash }));
}

#[tokio::test]
async fn many_capabilities_go_over_several_frames() {
    let node = Node::start().await;
    let net = loopback().await;
    let shown: Vec<Bytes> = (0..80).map(|at| sample(4000, at).into()).collect();
    let session = Session::open(&net, node.net.addr(), "a", shown.clone())
        .await
        .unwrap();
    let caller = node.grants.caller(net.endpoint().id());
    assert_eq!(
        caller.capabilities.len(),
        crate::sync::limits::CAPABILITIES_PER_PEER_MAX
    );
    assert_eq!(caller.capabilities[..], shown[..64]);
    drop(session);
}

#[tokio::test]
async fn bad_frames_are_answered_or_end_the_connection() {
    let node = Node::start().await;
    let net = loopback().await;
    let connection = net.endpoint().connect(node.net.addr(), ALPN).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let query = Message::Have(VersionQuery {
        version: VersionId::of(b"v"),
    });
    frame::send(&mut send, &query).await.unwrap();
    connection.closed().await;
    let session = Session::open(&net, node.net.addr(), "a", Vec::new())
        .await
        .unwrap();
    let connection = net.endpoint().connect(node.net.addr(), ALPN).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let hello = Message::Hello(crate::sync::control::hello("b", Vec::new()));
    frame::send(&mut send, &hello).await.unwrap();
    let (mut query, mut answer) = connection.open_bi().await.unwrap();
    query
        .write_all(&[1, 0, 0, 0, 0x01, 0x01, 0xff])
        .await
        .unwrap();
    let refused = frame::receive(&mut answer).await.unwrap();
    assert!(matches!(refused, Some(Message::Refused(_))), "{refused:?}");
    let (mut query, mut answer) = connection.open_bi().await.unwrap();
    query
        .write_all(&[0xff, 0xff, 0xff, 0xff, 0, 1])
        .await
        .unwrap();
    assert!(matches!(
        frame::receive(&mut answer).await,
        Ok(Some(Message::Refused(_)))
    ));
    // A stream on which nothing is asked, and the session beside it, are unharmed.
    let (query, mut answer) = connection.open_bi().await.unwrap();
    drop(query);
    assert!(matches!(
        frame::receive(&mut answer).await,
        Ok(None) | Err(FrameError::Stream(_))
    ));
    assert!(session.held(VersionId::of(b"v")).await.unwrap().is_none());
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused_by_name() {
    let node = Node::start().await;
    let net = loopback().await;
    let connection = net.endpoint().connect(node.net.addr(), ALPN).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let mut hello = crate::sync::control::hello("future", Vec::new());
    hello.protocol = 2;
    frame::send(&mut send, &Message::Hello(hello))
        .await
        .unwrap();
    let Ok(Some(Message::Refused(refusal))) = frame::receive(&mut recv).await else {
        panic!()
    };
    assert_eq!(
        refusal.message,
        "this node speaks version 1 of the protocol"
    );
    connection.close(0u32.into(), b"");
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_named() {
    let net = loopback().await;
    let gone = loopback().await;
    let addr = gone.addr();
    gone.close().await;
    let options = FetchOptions {
        connect: std::time::Duration::from_millis(300),
        ..FetchOptions::default()
    };
    let peers = [Peer::new(&net, addr.clone())];
    let hash = ChunkHash::of(b"x");
    let error = fetch_documents(&peers, &[hash], 1, &options)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DocumentError::AllPeersFailed { .. }),
        "{error}"
    );
    let open = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        Session::open(&net, addr, "a", Vec::new()),
    );
    assert!(matches!(
        open.await,
        Err(_) | Ok(Err(SessionError::Connect { .. }))
    ));
}

#[tokio::test]
async fn a_port_is_kept_and_a_taken_one_is_replaced_unless_it_is_fixed() {
    let first = loopback().await;
    let port = first.port();
    let secret = iroh::SecretKey::generate();
    let mut options = EndpointOptions {
        port,
        ..EndpointOptions::loopback(secret)
    };
    let second = Net::bind(&options).await.unwrap();
    assert_ne!(second.port(), port);
    options.fixed_port = true;
    assert!(Net::bind(&options).await.is_err());
    first.close().await;
    drop(first);
    // The socket is let go by tasks of its own.
    let third = loop {
        match Net::bind(&options).await {
            Ok(net) => break net,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(third.port(), port);
}
