#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use serde_bytes::ByteBuf;

use super::*;
use crate::{
    PublisherId, VersionId,
    sync::{
        limits::{
            CAPABILITIES_PER_PEER_MAX, FEATURES_MAX, HELD_CHUNKS_MAX, ORIGIN_FILES_PER_FRAME_MAX,
            PEERS_PER_FRAME_MAX,
        },
        message::{Limits, OriginFile, PeerAddr},
    },
};

fn peer() -> PeerAddr {
    PeerAddr {
        id: [7; 32],
        ip: vec!["127.0.0.1:7".to_owned()],
        relay: Vec::new(),
    }
}

fn every_message() -> Vec<Message> {
    let version = VersionId::of(b"v");
    let records = Records {
        records: vec![ByteBuf::from(vec![1, 2, 3])],
        partial: false,
    };
    vec![
        Message::Hello(Hello {
            protocol: 1,
            agent: "lode/0.1.0".to_owned(),
            features: vec!["x".to_owned()],
            limits: Limits {
                queries: 16,
                requests: 64,
            },
            capabilities: vec![ByteBuf::from(vec![9; 100])],
        }),
        Message::Show(Capabilities {
            capabilities: Vec::new(),
        }),
        Message::Shown,
        Message::Peers(Peers {
            version: Some(version),
            peers: vec![peer()],
        }),
        Message::Refs(RefsQuery {
            publisher: PublisherId::of(b"p"),
            model: "tiny".to_owned(),
        }),
        Message::Have(VersionQuery { version }),
        Message::WhoHas(VersionQuery { version }),
        Message::Origin(OriginQuery {
            publisher: PublisherId::of(b"p"),
            model: "tiny".to_owned(),
            files: vec![ByteBuf::from(vec![1; 20]), ByteBuf::from(vec![2; 32])],
        }),
        Message::OriginFiles(OriginFiles {
            files: vec![
                OriginFile::default(),
                OriginFile {
                    version: Some(version),
                    wanted: true,
                    fetching: Some(7),
                },
            ],
        }),
        Message::Identities(records.clone()),
        Message::RefRecords(Records {
            partial: true,
            ..records.clone()
        }),
        Message::Signatures(records),
        Message::Held(Held {
            count: 9,
            start: 0,
            bits: Some(ByteBuf::from(vec![255, 1])),
        }),
        Message::Held(Held {
            count: 9,
            start: 0,
            bits: None,
        }),
        Message::End,
        Message::Busy(Busy { retry_after: 500 }),
        Message::Refused(Refusal {
            code: 1,
            message: "not found".to_owned(),
        }),
    ]
}

#[test]
fn every_message_comes_back_as_it_was() {
    let messages = every_message();
    let bytes: Vec<u8> = messages
        .iter()
        .flat_map(|message| encode(message).unwrap())
        .collect();
    assert_eq!(decode_all(&bytes).unwrap(), messages);
}

#[test]
fn the_bytes_of_a_frame_are_those_of_the_format() {
    let frame = encode(&Message::Busy(Busy { retry_after: 500 })).unwrap();
    let mut expected = vec![16, 0, 0, 0, 0x00, 0x03, 0xa1, 0x6b];
    expected.extend(b"retry_after");
    expected.extend([0x19, 0x01, 0xf4]);
    assert_eq!(frame, expected);
    assert_eq!(
        encode(&Message::End).unwrap(),
        [1, 0, 0, 0, 0xff, 0x02, 0xa0]
    );
}

#[test]
fn unknown_types_and_unknown_keys_are_skipped() {
    let mut bytes = vec![3, 0, 0, 0, 0xee, 0xee, 1, 2, 3];
    let mut body = vec![0xa2, 0x63];
    body.extend(b"new");
    body.extend([0xf6, 0x6b]);
    body.extend(b"retry_after");
    body.push(1);
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(kind::BUSY.to_le_bytes());
    bytes.extend(body);
    assert_eq!(
        decode_all(&bytes).unwrap(),
        vec![Message::Busy(Busy { retry_after: 1 })]
    );
}

#[test]
fn a_frame_one_byte_too_long_is_refused() {
    let head = |len: u32| {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head
    };
    assert!(decode_head(head(FRAME_BYTES_MAX as u32)).is_ok());
    assert!(matches!(
        decode_head(head(FRAME_BYTES_MAX as u32 + 1)),
        Err(FrameError::TooLong { .. })
    ));
    let records = |len| {
        Message::Identities(Records {
            records: vec![ByteBuf::from(vec![0; len])],
            partial: false,
        })
    };
    let around = encode(&records(60_000)).unwrap().len() - HEAD_BYTES - 60_000;
    assert!(encode(&records(FRAME_BYTES_MAX - around)).is_ok());
    assert!(matches!(
        encode(&records(FRAME_BYTES_MAX - around + 1)),
        Err(FrameError::TooLong { .. })
    ));
}

#[test]
fn lists_one_longer_than_their_bound_are_refused() {
    let refused = |message: Message| {
        let frame = encode(&message).unwrap();
        matches!(decode_all(&frame), Err(FrameError::Body { .. }))
    };
    let hello = |features: usize, capabilities: usize| {
        Message::Hello(Hello {
            protocol: 1,
            agent: String::new(),
            features: vec![String::new(); features],
            limits: Limits {
                queries: 1,
                requests: 1,
            },
            capabilities: vec![ByteBuf::new(); capabilities],
        })
    };
    assert!(!refused(hello(FEATURES_MAX, CAPABILITIES_PER_PEER_MAX)));
    assert!(refused(hello(FEATURES_MAX + 1, 0)));
    assert!(refused(hello(0, CAPABILITIES_PER_PEER_MAX + 1)));
    let peers = |count| {
        Message::Peers(Peers {
            version: None,
            peers: vec![peer(); count],
        })
    };
    assert!(!refused(peers(PEERS_PER_FRAME_MAX)));
    assert!(refused(peers(PEERS_PER_FRAME_MAX + 1)));
    let origin = |count: usize, length: usize| {
        Message::Origin(OriginQuery {
            publisher: PublisherId::of(b"p"),
            model: "tiny".to_owned(),
            files: vec![ByteBuf::from(vec![1; length]); count],
        })
    };
    assert!(!refused(origin(ORIGIN_FILES_PER_FRAME_MAX, 32)));
    assert!(refused(origin(ORIGIN_FILES_PER_FRAME_MAX + 1, 20)));
    assert!(refused(origin(1, 21)));
    let files = |count| {
        Message::OriginFiles(OriginFiles {
            files: vec![OriginFile::default(); count],
        })
    };
    assert!(!refused(files(ORIGIN_FILES_PER_FRAME_MAX)));
    assert!(refused(files(ORIGIN_FILES_PER_FRAME_MAX + 1)));
    let held = |count, start, bits| {
        let bits = Some(ByteBuf::from(vec![0; bits]));
        Message::Held(Held { count, start, bits })
    };
    assert!(!refused(held(HELD_CHUNKS_MAX, 8, 1)));
    assert!(refused(held(HELD_CHUNKS_MAX + 1, 8, 1)));
    assert!(refused(held(16, 3, 1)));
    assert!(refused(held(16, 8, 2)));
    assert!(refused(held(16, 24, 0)));
}

#[test]
fn bodies_that_are_not_canonical_maps_are_refused() {
    for body in [&b""[..], &[0xff], &[0xa1], &[0x01], &[0x9f, 0xff]] {
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend(kind::REFS.to_le_bytes());
        bytes.extend(body);
        assert!(
            matches!(decode_all(&bytes), Err(FrameError::Body { .. })),
            "{body:?}"
        );
    }
    assert!(matches!(decode_all(&[0, 0, 0]), Err(FrameError::Truncated)));
    assert!(matches!(
        decode_all(&[1, 0, 0, 0, 0, 1]),
        Err(FrameError::Truncated)
    ));
}
