//! The worked examples of docs/format are what the code makes: each block ```` ```hex NAME ```` of a page
//! is compared with the bytes of that name, so that a page cannot drift from the code, nor the code
//! from what was signed.

use std::collections::BTreeMap;

use lode_store::capability::Capability;
use lode_store::identity::{
    Delegation, Ended, IdentityLog, KeySet, Operation, create, next_commitment,
};
use lode_store::manifest::{Kind, Links, Version, VersionBytes};
use lode_store::refs::RefSet;
use lode_store::signature::{Context, KeyId, Signed, SigningKey, VersionSignatures};
use lode_store::sync::frame;
use lode_store::sync::message::{Held, Message, Pieces, VersionQuery};
use lode_store::sync::request::{BlobRequest, RangesSeq};
use lode_store::sync::selection::Selection;
use lode_store::sync::source::HeldMap;
use lode_store::ticket::{PeerAddr, Ticket};
use lode_store::tree::{ChunkList, File, Mode, Tree};
use lode_store::{ChunkHash, PublisherId, RecordId, VersionId};
use sha1::Digest as _;

/// The examples' keys: 32 times the same byte.
fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

const TIME: u64 = 1_700_000_000;

fn log() -> (IdentityLog, Signed) {
    let first = create(&key(1), &key(2).public());
    (IdentityLog::start(first.clone()).unwrap(), first)
}

fn tree() -> (ChunkList, Tree) {
    let content = b"{}";
    let list = ChunkList {
        hashes: vec![ChunkHash::of(content)],
        lengths: vec![2],
    };
    let file = File {
        path: "config.json".into(),
        mode: Mode::File,
        size: 2,
        sha256: sha2::Sha256::digest(content).into(),
        git: Some(sha1::Sha1::digest(b"blob 2\0{}").into()),
        chunks: list.reference("cdc/1"),
        root: None,
    };
    (list, Tree::new(vec![file]).unwrap())
}

fn version(publisher: PublisherId) -> VersionBytes {
    VersionBytes::new(Version {
        kind: Kind::Model,
        publisher: Some(publisher),
        model: "tiny".into(),
        tree: tree().1.encode_with_id().0,
        parents: vec![],
        author: None,
        time: TIME,
        message: "first".into(),
        links: Links {
            license: Some("MIT".into()),
            ..Links::default()
        },
    })
    .unwrap()
}

fn manifest() -> BTreeMap<&'static str, Vec<u8>> {
    let (log, _) = log();
    let (list, tree) = tree();
    let version = version(log.publisher());
    BTreeMap::from([
        ("seq", list.seq_bytes().to_vec()),
        ("lengths", list.length_bytes().to_vec()),
        ("tree", tree.encode().to_vec()),
        ("tree id", tree.encode_with_id().0.as_bytes().to_vec()),
        ("version", version.bytes.to_vec()),
        ("version id", version.id.as_bytes().to_vec()),
        (
            "version signature",
            VersionSignatures::new(version.id, &[&key(1)]).encode(),
        ),
    ])
}

fn identity() -> BTreeMap<&'static str, Vec<u8>> {
    let (mut log, first) = log();
    let publisher = log.publisher();
    let delegation = Delegation::new(
        key(3).public(),
        &[Operation::Push, Operation::Tag],
        &["tiny"],
    );
    let delegate = log.delegate(delegation, &[&key(1)]).unwrap();
    log.apply(delegate.clone()).unwrap();
    let revoke = log
        .revoke(
            Ended {
                key: key(3).id(),
                last: 7,
            },
            &[&key(1)],
        )
        .unwrap();
    log.apply(revoke.clone()).unwrap();
    let ended = vec![Ended {
        key: key(1).id(),
        last: 9,
    }];
    let next = next_commitment(key(4).public());
    let rotate = log
        .rotate(KeySet::one(key(2).public()), next, ended, &[&key(2)])
        .unwrap();
    log.apply(rotate.clone()).unwrap();
    BTreeMap::from([
        ("next commitment", next_commitment(key(2).public()).to_vec()),
        ("create", first.body().to_vec()),
        ("create signed", first.encode()),
        ("publisher", publisher.as_bytes().to_vec()),
        ("delegate", delegate.body().to_vec()),
        ("revoke", revoke.body().to_vec()),
        ("rotate", rotate.body().to_vec()),
        ("head", log.head().as_bytes().to_vec()),
    ])
}

fn first_ref() -> (IdentityLog, Signed) {
    let (log, _) = log();
    let refs = RefSet::new(log.publisher(), "tiny");
    let id = version(log.publisher()).id;
    let signed = refs
        .make(&log, &[&key(1)], "heads/main", Some(id), 0, TIME)
        .unwrap();
    (log, signed)
}

fn refs() -> BTreeMap<&'static str, Vec<u8>> {
    let (log, first) = first_ref();
    let mut refs = RefSet::new(log.publisher(), "tiny");
    refs.apply(&log, first.clone()).unwrap();
    let second = refs
        .make(&log, &[&key(1)], "heads/main", None, 0, TIME + 1)
        .unwrap();
    BTreeMap::from([
        ("set", first.body().to_vec()),
        ("set id", first.id().as_bytes().to_vec()),
        ("set signed", first.encode()),
        ("delete", second.body().to_vec()),
    ])
}

fn ticket() -> BTreeMap<&'static str, Vec<u8>> {
    let (log, _) = log();
    let capability = Capability {
        publisher: log.publisher(),
        model: "tiny".into(),
        version: None,
        signer: key(1).id(),
        identity: log.head(),
        expires: Some(TIME + 86_400),
        nonce: [5; 16],
    };
    let signed = Signed::new(Context::Capability, capability.encode(), &[&key(1)]);
    assert!(Capability::verify(&signed, &log, TIME).is_ok());
    let ticket = Ticket {
        addrs: vec![PeerAddr {
            id: [7; 32],
            ip: vec!["192.0.2.1:4433".parse().unwrap()],
            relay: vec![],
        }],
        publisher: log.publisher(),
        identity: log.head(),
        model: "tiny".into(),
        version: Some(version(log.publisher()).id),
        name: Some("heads/main".into()),
        capability: None,
        alias: Some("acme".into()),
    };
    let text = ticket.to_text().unwrap();
    assert_eq!(text.parse::<Ticket>().unwrap(), ticket);
    let bytes = data_encoding::BASE32_NOPAD
        .decode(text[5..].to_uppercase().as_bytes())
        .unwrap();
    BTreeMap::from([
        ("capability", capability.encode()),
        ("ticket bytes", bytes),
        ("ticket", text.into_bytes()),
    ])
}

fn wire() -> BTreeMap<&'static str, Vec<u8>> {
    let version = VersionId::from_bytes([7; 32]);
    let map = HeldMap::of((0..11).map(|chunk| chunk != 9));
    let held = Held {
        count: map.count,
        start: 0,
        bits: Some(serde_bytes::ByteBuf::from(map.bits.to_vec())),
    };
    let gained = Pieces::frames(&[(9, 0b11)]).next().unwrap();
    let frames = [
        ("watch", Message::Watch(VersionQuery { version })),
        ("held", Message::Held(held)),
        ("gained", Message::Gained(gained)),
    ];
    let mut blocks = BTreeMap::new();
    for (name, message) in frames {
        let bytes = frame::encode(&message).unwrap();
        assert_eq!(frame::decode_all(&bytes).unwrap(), [message]);
        blocks.insert(name, bytes);
    }
    let first_group = Selection::of_bytes(1 << 20, std::iter::once(0..16 << 10));
    let get = BlobRequest::Get {
        root: ChunkHash::from_bytes([7; 32]),
        ranges: RangesSeq::of_selections([(2, &first_group)]),
    };
    assert_eq!(BlobRequest::decode(&get.encode()), Ok(get.clone()));
    blocks.insert("get", get.encode());
    blocks
}

/// The blocks of a page: after ```` ```hex NAME ````, hex digits with spaces, and comments after `#`.
/// A block ```` ```text NAME ```` is text that is broken into lines.
fn blocks(page: &str) -> BTreeMap<String, Vec<u8>> {
    let path = format!("{}/../docs/format/{page}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path}: {err}"));
    let mut blocks = BTreeMap::new();
    let mut open: Option<(String, bool, String)> = None;
    for line in text.lines() {
        if let Some((name, is_hex, mut content)) = open.take() {
            if line == "```" {
                let bytes = match is_hex {
                    true => data_encoding::HEXLOWER.decode(content.as_bytes()).unwrap(),
                    false => content.into_bytes(),
                };
                assert!(blocks.insert(name, bytes).is_none());
                continue;
            }
            let line = if is_hex {
                line.split('#').next().unwrap()
            } else {
                line
            };
            content.extend(line.chars().filter(|c| !c.is_whitespace()));
            open = Some((name, is_hex, content));
        } else if let Some(name) = line.strip_prefix("```hex ") {
            open = Some((name.to_owned(), true, String::new()));
        } else if let Some(name) = line.strip_prefix("```text ") {
            open = Some((name.to_owned(), false, String::new()));
        }
    }
    assert!(open.is_none(), "{path}: a block has no end");
    blocks
}

fn check(page: &str, made: BTreeMap<&'static str, Vec<u8>>) {
    let written = blocks(page);
    for (name, bytes) in &made {
        let found = written
            .get(*name)
            .unwrap_or_else(|| panic!("{page}.md has no block {name:?}"));
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(hex(found), hex(bytes), "{page}.md, block {name:?}");
    }
    for name in written.keys() {
        assert!(
            made.contains_key(name.as_str()),
            "{page}.md: nothing checks the block {name:?}"
        );
    }
}

#[test]
fn the_examples_of_the_manifest_page_are_what_the_code_makes() {
    check("manifest", manifest());
}

#[test]
fn the_examples_of_the_identity_page_are_what_the_code_makes() {
    check("identity", identity());
}

#[test]
fn the_examples_of_the_refs_page_are_what_the_code_makes() {
    check("refs", refs());
}

#[test]
fn the_examples_of_the_ticket_page_are_what_the_code_makes() {
    check("ticket", ticket());
}

#[test]
fn the_examples_of_the_wire_page_are_what_the_code_makes() {
    check("wire", wire());
}

#[test]
fn the_examples_are_accepted_by_the_readers() {
    let (log, first) = log();
    assert_eq!(Signed::decode(&first.encode()).unwrap(), first);
    assert_eq!(log.publisher(), PublisherId::of(first.body()));
    assert_eq!(log.head(), RecordId::of(first.body()));
    let manifest = manifest();
    let tree = Tree::decode(&manifest["tree"]).unwrap();
    let chunks = &tree.files()[0].chunks;
    let list = ChunkList::from_documents(chunks, 2, &manifest["seq"], &manifest["lengths"]);
    assert_eq!(list.unwrap().size(), 2);
    assert!(Version::decode(&manifest["version"]).is_ok());
    let signatures = VersionSignatures::decode(&manifest["version signature"]).unwrap();
    assert_eq!(
        signatures.verified(),
        [KeyId::from_bytes(*key(1).id().as_bytes())]
    );
    let (log, signed) = first_ref();
    let mut refs = RefSet::new(log.publisher(), "tiny");
    assert!(refs.apply(&log, signed).is_ok());
}
