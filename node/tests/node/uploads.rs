//! What is uploaded becomes versions, whole or not at all.

use std::{
    fs,
    io::{Cursor, Write as _},
    thread,
    time::{Duration, Instant},
};

use lode_node::{
    Node,
    command::{Command, Outcome},
    upload::{
        Assembly, Created, Inbox, NewModel, Piece, RefKind, UploadError, Uploads, XorbName,
        commit::{Change, Commit, Committed},
    },
};
use lode_store::{manifest::Kind, name::Name};
use sha2::{Digest as _, Sha256};

use crate::common::{TestNode, node, open};

const NAME: &str = "acme/tiny";

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn name() -> Name {
    NAME.parse().unwrap()
}

/// A node with a model that has no files yet.
fn made() -> (TestNode, Uploads, Inbox) {
    let at = node();
    let uploads = at.node.uploads();
    assert_eq!(uploads.create(&new()).unwrap(), Created::New);
    let inbox = uploads.inbox(&name()).unwrap();
    (at, uploads, inbox)
}

fn new() -> NewModel {
    NewModel {
        name: name(),
        kind: Kind::Model,
        public: false,
    }
}

fn upload(uploads: &Uploads, inbox: &Inbox, bytes: &[u8]) -> Result<[u8; 32], UploadError> {
    let hash = sha256(bytes);
    let mut incoming = uploads.begin_file(hash, bytes.len() as u64)?;
    incoming.write_all(bytes).unwrap();
    uploads.finish_file(inbox, incoming)?;
    Ok(hash)
}

fn commit(
    uploads: &Uploads,
    parent: Option<String>,
    inline: &[(&str, &[u8])],
    changes: Vec<Change>,
) -> Result<Committed, UploadError> {
    let mut all = Vec::new();
    let mut received = uploads.begin_commit()?;
    for (path, bytes) in inline {
        let mut file = received.begin()?;
        file.write_all(bytes).unwrap();
        all.push(Change::Inline {
            path: (*path).to_owned(),
            number: file.number(),
        });
    }
    all.extend(changes);
    uploads.commit(Commit {
        name: name(),
        branch: "main".to_owned(),
        parent,
        message: "a change".to_owned(),
        changes: all,
        inline: received,
    })
}

fn uploaded(path: &str, sha256: [u8; 32]) -> Change {
    Change::Uploaded {
        path: path.to_owned(),
        sha256,
        size: None,
    }
}

/// Paths and contents of the head.
fn files(node: &Node) -> Vec<(String, Vec<u8>)> {
    let reads = node.reads();
    let inbox = node.uploads().inbox(&name()).unwrap();
    let main = "main".parse().unwrap();
    let head = reads
        .resolve(inbox.publisher(), inbox.model(), &main)
        .unwrap();
    let tree = reads
        .tree(reads.version(head.version).unwrap().doc.tree)
        .unwrap();
    let file = |file: &lode_store::tree::File| {
        let reader = reads.file(file).unwrap();
        let range = lode_tensors::ByteRange {
            start: 0,
            end: file.size,
        };
        (file.path.clone(), reader.read_all(range).unwrap())
    };
    tree.files().iter().map(file).collect()
}

/// What came in goes away behind the answer.
fn nothing_is_left(node: &Node) {
    let folder = node.home().join("uploads/incoming");
    let left = || fs::read_dir(&folder).map_or(0, Iterator::count);
    let patience = Instant::now() + Duration::from_secs(60);
    while left() > 0 {
        assert!(Instant::now() < patience, "{} are left", left());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_commit_edits_the_tree_of_its_parent() {
    let (at, uploads, inbox) = made();
    assert_eq!(files(&at.node), []);
    assert!(matches!(
        uploads.create(&new()).unwrap(),
        Created::Known { .. }
    ));
    let big = noise(1, 6_000_000);
    let hash = upload(&uploads, &inbox, &big).unwrap();
    let small: &[(&str, &[u8])] = &[("a/b", b"one"), ("a/c", b"two"), ("empty", b"")];
    let first = commit(&uploads, None, small, vec![uploaded("big.bin", hash)]).unwrap();
    assert!(first.changed);
    let entry = |path: &str, bytes: &[u8]| (path.to_owned(), bytes.to_vec());
    let all = [
        entry("a/b", b"one"),
        entry("a/c", b"two"),
        entry("big.bin", &big),
        entry("empty", b""),
    ];
    assert_eq!(files(&at.node), all);
    // Nothing that was uploaded waits any more, and a file that the model has needs no upload.
    assert!(uploads.has(&inbox, &hash).unwrap());
    let changes = vec![
        Change::DeleteFolder {
            path: "a/".to_owned(),
        },
        Change::DeleteFile {
            path: "empty".to_owned(),
        },
        uploaded("copy.bin", hash),
    ];
    let second = commit(&uploads, Some(first.version.to_hex()), &[], changes).unwrap();
    assert!(second.changed);
    let all = [entry("big.bin", &big), entry("copy.bin", &big)];
    assert_eq!(files(&at.node), all);
    nothing_is_left(&at.node);
}

#[test]
fn a_commit_that_is_sent_again_makes_no_second_version_and_a_stale_one_none() {
    let (at, uploads, inbox) = made();
    let before = commit(&uploads, None, &[("a", b"1")], Vec::new()).unwrap();
    let parent = Some(before.version.to_hex()[..40].to_owned());
    let hash = upload(&uploads, &inbox, b"uploaded").unwrap();
    let changes = || vec![uploaded("b", hash)];
    let made = commit(&uploads, parent.clone(), &[("c", b"3")], changes()).unwrap();
    let again = commit(&uploads, parent.clone(), &[("c", b"3")], changes()).unwrap();
    assert_eq!((again.version, again.changed), (made.version, false));
    let again = commit(&uploads, None, &[("c", b"3")], changes()).unwrap();
    assert_eq!((again.version, again.changed), (made.version, false));
    let other = commit(&uploads, parent, &[("c", b"4")], Vec::new());
    assert!(matches!(other, Err(UploadError::Stale { .. })), "{other:?}");
    assert_eq!(files(&at.node).len(), 3);
}

#[test]
fn what_was_not_uploaded_to_this_model_cannot_be_committed() {
    let (at, uploads, inbox) = made();
    let hash = upload(&uploads, &inbox, b"secret").unwrap();
    let other = Inbox::new(inbox.publisher(), "other");
    assert!(!uploads.has(&other, &hash).unwrap());
    uploads
        .create(&NewModel {
            name: "acme/other".parse().unwrap(),
            ..new()
        })
        .unwrap();
    let received = uploads.begin_commit().unwrap();
    let commit_other = uploads.commit(Commit {
        name: "acme/other".parse().unwrap(),
        branch: "main".to_owned(),
        parent: None,
        message: String::new(),
        changes: vec![uploaded("a", hash)],
        inline: received,
    });
    assert!(
        matches!(commit_other, Err(UploadError::NotUploaded { .. })),
        "{commit_other:?}"
    );
    // Who may read both can have it copied.
    commit(&uploads, None, &[], vec![uploaded("a", hash)]).unwrap();
    uploads.duplicate(&other, &inbox, &hash).unwrap();
    assert!(uploads.has(&other, &hash).unwrap());
    let wrong_size = Change::Uploaded {
        path: "b".to_owned(),
        sha256: hash,
        size: Some(7),
    };
    let refused = commit(&uploads, None, &[], vec![wrong_size]);
    assert!(matches!(refused, Err(UploadError::Length { .. })));
    drop(at);
}

#[test]
fn paths_that_leave_the_tree_or_collide_are_refused() {
    let (at, uploads, _) = made();
    commit(&uploads, None, &[("Readme", b"1")], Vec::new()).unwrap();
    for path in [
        "../a", "/a", "a/../b", "a//b", "", ".lode", "a\\b", "a\0b", "readme", "Readme/x",
    ] {
        let refused = commit(&uploads, None, &[(path, b"2")], Vec::new());
        assert!(
            matches!(refused, Err(UploadError::Usage { .. })),
            "{path}: {refused:?}"
        );
    }
    assert_eq!(files(&at.node).len(), 1);
    nothing_is_left(&at.node);
}

#[test]
fn bytes_that_are_not_what_was_announced_leave_nothing() {
    let (at, uploads, inbox) = made();
    let hash = sha256(b"announced");
    let mut incoming = uploads.begin_file(hash, 9).unwrap();
    incoming.write_all(b"otherwise").unwrap();
    let wrong = uploads.finish_file(&inbox, incoming);
    assert!(matches!(wrong, Err(UploadError::Digest { .. })));
    let mut incoming = uploads.begin_file(hash, 9).unwrap();
    incoming.write_all(b"announce").unwrap();
    let short = uploads.finish_file(&inbox, incoming);
    assert!(matches!(short, Err(UploadError::Length { .. })));
    let mut incoming = uploads.begin_file(hash, 9).unwrap();
    assert!(incoming.write_all(b"announced and more").is_err());
    drop(incoming);
    assert!(!uploads.has(&inbox, &hash).unwrap());
    nothing_is_left(&at.node);
}

#[test]
fn more_than_an_upload_may_have_is_refused() {
    use lode_node::upload::limits::{FILE_BYTES_MAX, XORB_CHUNK_BYTES_MAX, XORB_CHUNKS_MAX};
    let (at, uploads, _) = made();
    let too_large = |error: UploadError| matches!(error, UploadError::TooLarge { .. });
    let long = uploads.begin_file([0; 32], FILE_BYTES_MAX + 1);
    assert!(too_large(long.unwrap_err()));
    // As long as may be, it has no room.
    let full = uploads.begin_file([0; 32], FILE_BYTES_MAX);
    assert!(full.is_ok() || matches!(full, Err(UploadError::NoRoom { .. })));
    drop(full);
    let mut xorb = uploads.begin_xorb().unwrap();
    let chunk = vec![0; XORB_CHUNK_BYTES_MAX + 1];
    assert!(too_large(xorb.add(&chunk).unwrap_err()));
    xorb.add(&chunk[1..]).unwrap();
    for _ in 1..XORB_CHUNKS_MAX {
        xorb.add(b"a").unwrap();
    }
    assert!(too_large(xorb.add(b"a").unwrap_err()));
    drop(xorb);
    nothing_is_left(&at.node);
}

#[test]
fn parts_in_any_order_make_a_file_and_a_missing_one_does_not() {
    let (at, uploads, inbox) = made();
    let bytes = noise(2, 5_000_000);
    let (hash, size) = (sha256(&bytes), bytes.len() as u64);
    let put = |start: usize, end: usize| {
        let len = (end - start) as u64;
        let mut body = Cursor::new(&bytes[start..end]);
        uploads.put_part(&inbox, hash, size, start as u64, len, &mut body)
    };
    put(4_000_000, 5_000_000).unwrap();
    put(0, 2_000_000).unwrap();
    let early = uploads.finish_parts(&inbox, hash);
    assert!(
        matches!(early, Err(UploadError::Digest { .. })),
        "{early:?}"
    );
    assert!(matches!(
        uploads.finish_parts(&inbox, hash),
        Err(UploadError::Usage { .. })
    ));
    for (start, end) in [
        (2_000_000, 4_000_000),
        (0, 2_000_000),
        (4_000_000, 5_000_000),
    ] {
        put(start, end).unwrap();
    }
    let mut short = Cursor::new(&bytes[..10]);
    assert!(matches!(
        uploads.put_part(&inbox, hash, size, 0, 11, &mut short),
        Err(UploadError::Length { .. })
    ));
    let mut long = Cursor::new(&bytes[..10]);
    assert!(matches!(
        uploads.put_part(&inbox, hash, size, 0, 9, &mut long),
        Err(UploadError::Length { .. })
    ));
    let mut behind = Cursor::new(&bytes[..10]);
    assert!(
        uploads
            .put_part(&inbox, hash, size, size - 9, 10, &mut behind)
            .is_err()
    );
    uploads.finish_parts(&inbox, hash).unwrap();
    // The answer may have been lost.
    uploads.finish_parts(&inbox, hash).unwrap();
    commit(&uploads, None, &[], vec![uploaded("a", hash)]).unwrap();
    assert_eq!(files(&at.node), [("a".to_owned(), bytes)]);
    nothing_is_left(&at.node);
}

fn xorb(uploads: &Uploads, inbox: &Inbox, name: XorbName, chunks: &[&[u8]]) {
    let mut new = uploads.begin_xorb().unwrap();
    for chunk in chunks {
        new.add(chunk).unwrap();
    }
    uploads.finish_xorb(inbox, &name, new).unwrap();
}

fn piece(xorb: XorbName, chunks: std::ops::Range<u32>, len: usize) -> Piece {
    let len = len as u64;
    Piece { xorb, chunks, len }
}

#[test]
fn chunks_of_xorbs_make_files_and_are_found_in_them_afterwards() {
    let (at, uploads, inbox) = made();
    let chunks: Vec<Vec<u8>> = (0..100).map(|seed| noise(seed, 100_000)).collect();
    let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let (one, two) = ([1; 32], [2; 32]);
    xorb(&uploads, &inbox, one, &slices[..60]);
    xorb(&uploads, &inbox, two, &slices[60..]);
    // A killed node knows them still.
    let TestNode { node, home } = at;
    drop((uploads, node));
    let node = open(home.path());
    let uploads = node.uploads();
    let epoch = uploads.epoch().unwrap();
    let whole = chunks.concat();
    let mixed = [chunks[59].clone(), chunks[3].clone(), chunks[70].clone()].concat();
    let files_made = vec![
        Assembly {
            sha256: Some(sha256(&whole)),
            pieces: vec![piece(one, 0..60, 6_000_000), piece(two, 0..40, 4_000_000)],
        },
        Assembly {
            sha256: None,
            pieces: vec![
                piece(one, 59..60, 100_000),
                piece(one, 3..4, 100_000),
                piece(two, 10..11, 100_000),
            ],
        },
    ];
    uploads.assemble(&inbox, files_made.clone()).unwrap();
    let changes = vec![
        uploaded("whole.bin", sha256(&whole)),
        uploaded("mixed.bin", sha256(&mixed)),
    ];
    commit(&uploads, None, &[], changes).unwrap();
    assert_eq!(files(&node)[1].1, whole);
    assert_eq!(files(&node)[0].1, mixed);
    // The bytes are in files now; what is known of the xorbs outlives a restart.
    let waiting = home
        .path()
        .join("uploads/xorbs")
        .join(inbox.id().to_string());
    assert_eq!(fs::read_dir(waiting).unwrap().count(), 0);
    drop((uploads, node));
    let node = open(home.path());
    let uploads = node.uploads();
    assert!(uploads.has_xorb(&inbox, &one));
    uploads.assemble(&inbox, files_made).unwrap();
    let cut = [&whole[500_000..700_000], &whole[6_500_000..6_600_000]].concat();
    let third = Assembly {
        sha256: Some(sha256(&cut)),
        pieces: vec![piece(one, 5..7, 200_000), piece(two, 5..6, 100_000)],
    };
    uploads.assemble(&inbox, vec![third.clone()]).unwrap();
    assert_eq!(uploads.epoch().unwrap(), epoch);
    // Another model knows nothing of them.
    let other = Inbox::new(inbox.publisher(), "other");
    assert!(!uploads.has_xorb(&other, &one));
    let unknown = uploads.assemble(&other, vec![third]);
    assert!(matches!(unknown, Err(UploadError::UnknownXorb { .. })));
    assert_ne!(uploads.epoch().unwrap(), epoch, "clients start anew");
    nothing_is_left(&node);
}

#[test]
fn a_shard_that_lies_makes_no_file() {
    let (at, uploads, inbox) = made();
    let bytes = noise(9, 50_000);
    xorb(&uploads, &inbox, [1; 32], &[&bytes, &bytes]);
    let hash = sha256(&bytes);
    let attempt = |piece: Piece, sha256| {
        let pieces = vec![piece];
        uploads.assemble(&inbox, vec![Assembly { sha256, pieces }])
    };
    let one = || piece([1; 32], 0..1, 50_000);
    let wrong = attempt(one(), Some([0; 32]));
    assert!(matches!(wrong, Err(UploadError::Digest { .. })));
    for wrong in [
        piece([1; 32], 0..1, 49_999),
        piece([1; 32], 0..3, 150_000),
        piece([1; 32], 2..3, 0),
        piece([1; 32], 0..u32::MAX, 100_000),
    ] {
        let refused = attempt(wrong, Some(hash));
        assert!(
            matches!(refused, Err(UploadError::Chunks { .. })),
            "{refused:?}"
        );
    }
    assert!(!uploads.has(&inbox, &hash).unwrap());
    attempt(one(), Some(hash)).unwrap();
    assert!(uploads.has(&inbox, &hash).unwrap());
    nothing_is_left(&at.node);
}

#[test]
fn a_xorb_that_changed_on_disk_makes_no_file() {
    let (at, uploads, inbox) = made();
    let bytes = noise(9, 6_000_000);
    let chunks: Vec<&[u8]> = bytes.chunks(100_000).collect();
    xorb(&uploads, &inbox, [1; 32], &chunks);
    let folder = at.node.home().join("uploads/xorbs");
    let path = folder.join(inbox.id().to_string()).join("01".repeat(32));
    let mut waiting = fs::read(&path).unwrap();
    waiting[3_000_000] ^= 1;
    fs::write(&path, waiting).unwrap();
    let file = Assembly {
        sha256: Some(sha256(&bytes)),
        pieces: vec![piece([1; 32], 0..60, bytes.len())],
    };
    let refused = uploads.assemble(&inbox, vec![file]);
    assert!(
        matches!(refused, Err(UploadError::Digest { .. })),
        "{refused:?}"
    );
    assert!(!uploads.has(&inbox, &sha256(&bytes)).unwrap());
    nothing_is_left(&at.node);
}

#[tokio::test]
async fn what_is_staged_outlives_the_collector_and_what_was_committed_goes_with_its_model() {
    let (at, uploads, inbox) = made();
    let bytes = noise(4, 6_000_000);
    let hash = upload(&uploads, &inbox, &bytes).unwrap();
    let gc = Command::Gc { dry_run: false };
    at.run(gc.clone()).await.unwrap();
    assert!(
        uploads.has(&inbox, &hash).unwrap(),
        "it waits for its commit"
    );
    xorb(&uploads, &inbox, [1; 32], &[&bytes[..100_000]]);
    let start = Assembly {
        sha256: None,
        pieces: vec![piece([1; 32], 0..1, 100_000)],
    };
    uploads.assemble(&inbox, vec![start]).unwrap();
    let changes = vec![
        uploaded("a", hash),
        uploaded("b", sha256(&bytes[..100_000])),
    ];
    commit(&uploads, None, &[], changes).unwrap();
    at.run(gc.clone()).await.unwrap();
    assert_eq!(files(&at.node)[0].1, bytes);
    let epoch = uploads.epoch().unwrap();
    uploads.delete(&name()).unwrap();
    assert!(matches!(
        uploads.delete(&name()),
        Err(UploadError::Absent { .. })
    ));
    match at.run(gc).await.unwrap() {
        Outcome::Collected { bytes, .. } => assert!(bytes > 5_000_000, "{bytes} bytes"),
        other => panic!("{other:?}"),
    }
    assert_ne!(uploads.epoch().unwrap(), epoch, "the xorb's bytes are gone");
    // The name can be used again.
    assert_eq!(uploads.create(&new()).unwrap(), Created::New);
    assert_eq!(files(&at.node), []);
}

#[test]
fn branches_and_tags_are_made_and_removed_once() {
    let (at, uploads, _) = made();
    let exists = |done: Result<(), UploadError>| matches!(done, Err(UploadError::Exists { .. }));
    let no_rev = |done: Result<(), UploadError>| matches!(done, Err(UploadError::NoRev { .. }));
    for kind in [RefKind::Branch, RefKind::Tag] {
        let make = |rev| uploads.create_ref(&name(), kind, "next", rev);
        assert!(no_rev(make(Some("nothing"))));
        make(Some("main")).unwrap();
        assert!(exists(make(None)));
        uploads.delete_ref(&name(), kind, "next").unwrap();
        assert!(no_rev(uploads.delete_ref(&name(), kind, "next")));
        make(None).unwrap();
        uploads.delete_ref(&name(), kind, "next").unwrap();
    }
    let nobody: Name = "acme/none".parse().unwrap();
    let absent = uploads.create_ref(&nobody, RefKind::Tag, "v1", None);
    assert!(matches!(absent, Err(UploadError::Absent { .. })));
    let inbox = uploads.inbox(&name()).unwrap();
    for public in [true, true, false, false, true] {
        uploads.set_public(&name(), public).unwrap();
        let found = at.node.reads().is_public(inbox.publisher(), inbox.model());
        assert_eq!(found.unwrap(), public);
    }
}
