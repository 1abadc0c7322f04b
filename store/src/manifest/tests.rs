#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;
use crate::document::encode_u64;

fn id(n: u8) -> VersionId {
    VersionId::from_bytes([n; 32])
}

fn version() -> Version {
    Version {
        kind: Kind::Model,
        publisher: Some(PublisherId::from_bytes([1; 32])),
        model: "tiny".into(),
        tree: TreeId::from_bytes([2; 32]),
        parents: vec![id(3)],
        author: Some("Ada".into()),
        time: 1_700_000_000,
        message: "first".into(),
        links: Links::default(),
    }
}

#[test]
fn a_version_round_trips_with_all_of_its_links() {
    let embedder = MapWriter::new()
        .text("model", "x")
        .u64("dimension", 384)
        .finish();
    let mut full = version();
    full.kind = Kind::Collection;
    full.links = Links {
        base: vec![id(9), id(8)],
        recipe: Some(Bytes::from_static(b"recipe")),
        embedder: Some(embedder.into()),
        bundled: vec![id(7)],
        license: Some("Apache-2.0".into()),
        annotations: [("a".to_owned(), "b".to_owned()), ("aa".into(), "".into())].into(),
    };
    let bytes = full.encode().unwrap();
    assert_eq!(Version::decode(&bytes), Ok(full.clone()));
    let named = VersionBytes::new(full).unwrap();
    assert_eq!(VersionBytes::decode_as(named.id, bytes), Ok(named.clone()));
    let mut bare = version();
    (bare.publisher, bare.author, bare.parents) = (None, None, vec![]);
    bare.model = "hub.example/org/tiny".into();
    assert_eq!(Version::decode(&bare.encode().unwrap()), Ok(bare));
}

#[test]
fn another_version_than_the_one_asked_for_is_refused() {
    let named = VersionBytes::new(version()).unwrap();
    let err = VersionBytes::decode_as(id(1), named.bytes).unwrap_err();
    assert_eq!(
        err,
        VersionError::WrongId {
            expected: id(1),
            found: named.id
        }
    );
    assert_eq!(err.kind(), ErrorKind::Corrupt);
}

#[test]
fn unknown_optional_keys_are_kept_and_count_for_the_id() {
    let known = VersionBytes::new(version()).unwrap();
    // the last key by order is `publisher` (9 bytes); one of 10 bytes follows it
    let mut bytes = known.bytes.to_vec();
    assert_eq!(bytes[0], 0xaa);
    bytes[0] = 0xab;
    bytes.extend(b"\x6alater-idea");
    encode_u64(&mut bytes, 7);
    let later = VersionBytes::decode(bytes.clone().into()).unwrap();
    assert_eq!(later.doc, known.doc);
    assert_eq!(later.bytes, bytes);
    assert_ne!(later.id, known.id);

    let at = bytes.len() - 11;
    bytes[at] = b'!';
    let err = Version::decode(&bytes).unwrap_err();
    assert_eq!(
        err,
        VersionError::Document(DocumentError::CriticalKey {
            key: "!ater-idea".into()
        })
    );
    assert_eq!(err.kind(), ErrorKind::Refused);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let with = |from: &[u8], to: &[u8]| {
        let bytes = version().encode().unwrap().to_vec();
        let at = bytes
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        Version::decode(&[&bytes[..at], to, &bytes[at + from.len()..]].concat()).unwrap_err()
    };
    assert_eq!(
        with(b"\x64kind\x65model", b"\x64kind\x65poems"),
        VersionError::UnknownKind {
            found: "poems".into()
        }
    );
    assert!(matches!(
        with(b"\x64lode\x01", b"\x64lode\x02"),
        VersionError::Document(DocumentError::NewerFormat { found: 2, .. })
    ));
    assert!(matches!(
        with(b"\x64tiny", b"\x64ti/y"),
        VersionError::Model(_)
    ));
    assert_eq!(
        with(b"\x67parents", b"\x67parentz"),
        VersionError::Document(DocumentError::MissingKey { key: "parents" })
    );
}

#[test]
fn what_a_reader_refuses_is_not_written() {
    let refused = |change: &dyn Fn(&mut Version)| {
        let mut version = version();
        change(&mut version);
        version.encode().unwrap_err()
    };
    refused(&|v| v.model = "..".into());
    refused(&|v| v.model = "a/b".into());
    refused(&|v| v.parents = vec![id(1), id(1)]);
    refused(&|v| v.parents = (0..=VERSION_PARENTS_MAX as u8).map(id).collect());
    refused(&|v| v.message = "x".repeat(VERSION_TEXT_BYTES_MAX + 1));
    refused(&|v| v.author = Some("x".repeat(VERSION_NAME_BYTES_MAX + 1)));
    refused(&|v| v.links.license = Some("x".repeat(VERSION_NAME_BYTES_MAX + 1)));
    refused(&|v| v.links.embedder = Some(Bytes::from_static(b"\xff")));
    refused(&|v| v.links.embedder = Some(Bytes::from_static(b"\x01")));
    refused(&|v| v.links.recipe = Some(vec![0; VERSION_BYTES_MAX].into()));
    refused(&|v| (v.publisher, v.model) = (None, "x/".into()));
    refused(&|v| (v.publisher, v.model) = (None, ["abc"; 65].join("/")));
    let ids = |n: usize| {
        (0..n)
            .map(|n| VersionId::of(&n.to_le_bytes()))
            .collect::<Vec<_>>()
    };
    refused(&|v| v.links.base = ids(VERSION_LINKS_MAX + 1));
    refused(&|v| v.links.bundled = ids(VERSION_LINKS_MAX + 1));
    let notes = |n: usize| (0..n).map(|n| (n.to_string(), String::new())).collect();
    refused(&|v| v.links.annotations = notes(VERSION_ANNOTATIONS_MAX + 1));

    let mut most = version();
    most.parents = ids(VERSION_PARENTS_MAX);
    most.links.base = ids(VERSION_LINKS_MAX);
    most.links.annotations = notes(VERSION_ANNOTATIONS_MAX);
    most.message = "x".repeat(VERSION_TEXT_BYTES_MAX);
    most.author = Some("x".repeat(VERSION_NAME_BYTES_MAX));
    assert_eq!(Version::decode(&most.encode().unwrap()), Ok(most));
    let mut origin = version();
    (origin.publisher, origin.model) = (None, ["abc"; 64].join("/"));
    assert!(origin.encode().is_ok());
}

#[test]
fn a_version_over_one_mebibyte_is_refused() {
    let mut version = version();
    version.links.recipe = Some(Bytes::new());
    let rest = version.encode().unwrap().len();
    // a byte string of this length has a head of 5 bytes instead of 1
    version.links.recipe = Some(vec![0; VERSION_BYTES_MAX - rest - 4].into());
    assert_eq!(version.encode().unwrap().len(), VERSION_BYTES_MAX);
    version.links.recipe = Some(vec![0; VERSION_BYTES_MAX - rest - 3].into());
    let too_large = DocumentError::TooLarge {
        what: "version",
        found: VERSION_BYTES_MAX + 1,
        max: VERSION_BYTES_MAX,
    };
    assert_eq!(version.encode(), Err(VersionError::Document(too_large)));
}

proptest! {
    #[test]
    fn damaged_versions_never_pass_for_the_same(
        message in "\\PC{0,40}",
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut version = version();
        version.message = message;
        let named = VersionBytes::new(version).unwrap();
        let mut bytes = named.bytes.to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let changed = bytes != named.bytes;
        let received = VersionBytes::decode_as(named.id, bytes.into());
        prop_assert_eq!(received.is_err(), changed);
    }
}
