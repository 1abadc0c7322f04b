#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;
use crate::limits::*;
use crate::{ByteRange, ChunkHash};

fn file(path: &str, content: &[u8]) -> File {
    let list = match content {
        [] => ChunkList::default(),
        _ => ChunkList {
            hashes: vec![ChunkHash::of(content)],
            lengths: vec![content.len() as u32],
        },
    };
    File {
        path: path.to_owned(),
        mode: Mode::File,
        size: content.len() as u64,
        sha256: [1; 32],
        git: Some([2; 20]),
        chunks: list.reference("cdc/1"),
        root: None,
    }
}

/// The bytes of a tree that [`Tree::new`] would refuse.
fn forged(files: Vec<File>) -> Bytes {
    Tree { files }.encode()
}

#[test]
fn a_tree_round_trips_and_equal_content_has_one_id() {
    let mut weights = file("model.safetensors", b"weights");
    weights.root = Some(ChunkHash::of(b"weights"));
    let mut link = file("sub/link", b"../config.json");
    link.mode = Mode::Link;
    let files = vec![
        weights,
        link,
        file("config.json", b"{}"),
        file("empty", b""),
    ];
    let tree = Tree::new(files.clone()).unwrap();
    assert_eq!(Tree::decode(&tree.encode()), Ok(tree.clone()));
    let mut backwards = files;
    backwards.reverse();
    assert_eq!(
        Tree::new(backwards).unwrap().encode_with_id(),
        tree.encode_with_id()
    );
    assert_eq!(tree.size(), 7 + 14 + 2);
    assert_eq!(tree.file("config.json").unwrap().size, 2);
    assert_eq!(tree.file("nothing"), None);
}

#[test]
fn paths_that_leave_the_folder_are_refused_each_by_its_own_error() {
    let err = |path: &str| match Tree::decode(&forged(vec![file(path, b"x")])) {
        Err(TreeError::Path(err)) => err,
        other => panic!("{path:?}: {other:?}"),
    };
    for path in ["..", "../x", "a/../../x", "a/..", "a/../b"] {
        assert_eq!(err(path), PathError::Parent { path: path.into() });
    }
    for path in ["/", "/etc/passwd", "C:x", "c:/x"] {
        assert_eq!(err(path), PathError::Absolute { path: path.into() });
    }
    for path in ["a//b", "a/", "./a", "a/./b", "."] {
        assert_eq!(err(path), PathError::Part { path: path.into() });
    }
    assert_eq!(err(""), PathError::Empty);
    assert_eq!(err("..").kind(), ErrorKind::Refused);
    assert!(err("../x").to_string().contains("`..`"));
}

#[test]
fn paths_that_some_system_cannot_hold_are_refused() {
    for path in ["a\0b", "a\nb", "a\\b", "..\\x", "a\u{7f}", "a\u{85}"] {
        assert!(
            matches!(check_path(path), Err(PathError::Character { .. })),
            "{path:?}"
        );
    }
    for path in ["a.", "a /b", "a./b", "...", "a. "] {
        assert!(
            matches!(check_path(path), Err(PathError::TrailingDotOrSpace { .. })),
            "{path:?}"
        );
    }
    for path in [
        "CON",
        "con.txt",
        "a/NUL",
        "nul.tar.gz",
        "COM1",
        "lpt9.x",
        "com¹",
        "Aux",
        "prn .txt",
        "CONIN$",
        ".lode",
        ".lode-part-1",
        "a/.lodex/b",
        ".LODE-x",
        ".LodeIgnore",
        ".x.lode-part",
        "x.LODE-part",
    ] {
        assert!(
            matches!(check_path(path), Err(PathError::Reserved { .. })),
            "{path:?}"
        );
    }
    for path in ["cafe\u{301}", "\u{212b}", "\u{1100}\u{1161}"] {
        assert!(
            matches!(check_path(path), Err(PathError::NotNfc { .. })),
            "{path:?}"
        );
    }
    for path in [
        "console",
        "com10",
        "com0",
        "com",
        "nullable",
        "a b",
        ".hidden",
        ".lodeignore",
        "x/.lodeignore",
        "日本語/模型.bin",
        "café",
        "модель",
        "ab:c/d",
        "a~1",
        "नमस्ते",
        "co\u{301}m1",
        "aé",
        "comé",
    ] {
        let path: String = unicode_normalization::UnicodeNormalization::nfc(path).collect();
        assert_eq!(check_path(&path), Ok(()), "{path:?}");
    }
}

#[test]
fn colliding_paths_are_refused_each_by_its_own_error() {
    let err = |paths: &[&str]| {
        let mut files: Vec<_> = paths.iter().map(|path| file(path, b"x")).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let received = Tree::decode(&forged(files.clone())).unwrap_err();
        assert_eq!(Tree::new(files).unwrap_err(), received);
        match received {
            TreeError::Path(err) => err,
            other => panic!("{other}"),
        }
    };
    assert_eq!(err(&["a", "a"]), PathError::Duplicate { path: "a".into() });
    assert_eq!(
        err(&["Readme", "README"]),
        PathError::CaseFolding {
            first: "README".into(),
            second: "Readme".into()
        }
    );
    assert!(matches!(
        err(&["Ünï", "ünÏ"]),
        PathError::CaseFolding { .. }
    ));
    // J with caron has no composed capital: lower case must be composed before it is compared
    assert!(matches!(
        err(&["J\u{30c}", "\u{1f0}"]),
        PathError::CaseFolding { .. }
    ));
    assert_eq!(
        err(&["a", "a/b"]),
        PathError::FileAndFolder {
            file: "a".into(),
            inside: "a/b".into()
        }
    );
    assert_eq!(
        err(&["A/b", "a/B/c"]),
        PathError::FileAndFolder {
            file: "A/b".into(),
            inside: "a/B/c".into()
        }
    );
    assert!(
        Tree::new(
            ["a/b", "A/c", "ab", "a.b"]
                .map(|path| file(path, b"x"))
                .into()
        )
        .is_ok()
    );
}

#[test]
fn unsorted_files_are_refused() {
    let err = Tree::decode(&forged(vec![file("b", b"x"), file("a", b"x")])).unwrap_err();
    assert_eq!(
        err,
        TreeError::Unsorted {
            first: "b".into(),
            second: "a".into()
        }
    );
    assert_eq!(err.kind(), ErrorKind::Corrupt);
}

#[test]
fn numbers_that_do_not_agree_are_refused() {
    let refused = |change: &dyn Fn(&mut File)| {
        let mut file = file("f", b"content");
        change(&mut file);
        let received = Tree::decode(&forged(vec![file.clone()])).unwrap_err();
        assert_eq!(Tree::new(vec![file]).unwrap_err(), received);
        received
    };
    let chunks = |change: &dyn Fn(&mut File)| {
        assert!(matches!(refused(change), TreeError::Chunks { .. }));
    };
    chunks(&|f| f.chunks.count = 8);
    chunks(&|f| f.chunks.count = 0);
    chunks(&|f| f.size = 0);
    chunks(&|f| f.size = CHUNK_BYTES_MAX + 1);
    chunks(&|f| f.chunks.seq = ChunkHash::of(b""));
    chunks(&|f| f.chunks.lengths = ChunkHash::of(b""));
    chunks(&|f| f.chunks.rule = String::new());
    chunks(&|f| f.chunks.rule = "a b".into());
    chunks(&|f| (f.chunks.count, f.size, f.git) = (FILE_CHUNKS_MAX + 1, u64::MAX, None));
    assert!(matches!(
        refused(&|f| f.git = None),
        TreeError::GitHash { .. }
    ));
    assert!(matches!(
        refused(&|f| (f.size, f.chunks.count) = (GIT_HASH_FILE_BYTES_MAX + 1, 1)),
        TreeError::GitHash { .. }
    ));
    assert!(matches!(
        refused(&|f| (f.mode, f.chunks.rule) = (Mode::Link, "tensors/1".into())),
        TreeError::Link { .. }
    ));
    assert!(matches!(
        refused(&|f| (f.mode, f.size) = (Mode::Link, LINK_BYTES_MAX + 1)),
        TreeError::Link { .. }
    ));
    let mut largest = file("f", b"content");
    largest.size = FILE_CHUNKS_MAX * CHUNK_BYTES_MAX;
    (largest.chunks.count, largest.git) = (FILE_CHUNKS_MAX, None);
    assert!(Tree::new(vec![largest]).is_ok());
}

#[test]
fn limits_of_a_file_hold_by_one() {
    let part = |len: usize| "x".repeat(len);
    assert_eq!(check_path(&part(PATH_PART_BYTES_MAX)), Ok(()));
    assert!(matches!(
        check_path(&part(PATH_PART_BYTES_MAX + 1)),
        Err(PathError::TooLong { .. })
    ));
    let long = |len: usize| format!("{}/{}", vec!["y".repeat(100); 9].join("/"), part(len - 909));
    assert_eq!(check_path(&long(PATH_BYTES_MAX)), Ok(()));
    assert!(matches!(
        check_path(&long(PATH_BYTES_MAX + 1)),
        Err(PathError::TooLong { .. })
    ));
    let with_rule = |len: usize| {
        let mut file = file("f", b"x");
        file.chunks.rule = part(len);
        Tree::new(vec![file])
    };
    assert!(with_rule(CUT_RULE_BYTES_MAX).is_ok());
    assert!(with_rule(CUT_RULE_BYTES_MAX + 1).is_err());
    let mut at_git = file("f", b"x");
    at_git.size = GIT_HASH_FILE_BYTES_MAX;
    assert!(Tree::new(vec![at_git]).is_ok());
}

#[test]
fn a_tree_has_a_bounded_number_of_files() {
    let over = vec![file("f", b"x"); TREE_FILES_MAX + 1];
    let err = Tree::new(over).unwrap_err();
    assert!(matches!(err, TreeError::TooLarge { what: "files", .. }));
    // the count alone is enough to refuse a document
    let with_count = |count: &[u8]| {
        let mut head = MapWriter::new()
            .u64("lode", FORMAT)
            .text("kind", "tree")
            .finish();
        head[0] += 1;
        head.extend(b"\x65files\x9a");
        head.extend(count);
        match Tree::decode(&head).unwrap_err() {
            TreeError::Document(err) => err,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(
        with_count(b"\x00\x03\x0d\x40"),
        DocumentError::CutShort { .. }
    ));
    assert!(matches!(
        with_count(b"\x00\x03\x0d\x41"),
        DocumentError::TooLong { found: 200_001, .. }
    ));
}

#[test]
fn a_tree_has_a_bounded_number_of_bytes() {
    let err = Tree::decode(&vec![0; TREE_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(
        err,
        TreeError::Document(DocumentError::TooLarge {
            max: TREE_BYTES_MAX,
            ..
        })
    ));
    let err = Tree::decode(&vec![0; TREE_BYTES_MAX]).unwrap_err();
    assert!(matches!(
        err,
        TreeError::Document(DocumentError::WrongType { .. })
    ));
}

#[test]
fn what_a_tree_does_not_know_is_refused_by_name() {
    let bytes = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        Tree::decode(&change(forged(vec![file("f", b"x")]).to_vec())).unwrap_err()
    };
    let replace = |from: &'static [u8], to: &'static [u8]| {
        move |bytes: Vec<u8>| {
            let at = bytes
                .windows(from.len())
                .position(|window| window == from)
                .unwrap();
            [&bytes[..at], to, &bytes[at + from.len()..]].concat()
        }
    };
    assert_eq!(
        bytes(&replace(b"\x64file", b"\x64pipe")),
        TreeError::UnknownMode {
            path: "f".into(),
            found: "pipe".into()
        }
    );
    assert_eq!(
        bytes(&replace(b"sealing\x00", b"sealing\x01")),
        TreeError::Sealed {
            path: "f".into(),
            sealing: 1
        }
    );
    assert!(matches!(
        bytes(&replace(b"\x64lode\x01", b"\x64lode\x02")),
        TreeError::Document(DocumentError::NewerFormat { found: 2, .. })
    ));
    assert!(matches!(
        bytes(&replace(b"\x64tree", b"\x64bush")),
        TreeError::Document(DocumentError::WrongKind { .. })
    ));
    assert!(matches!(
        bytes(&replace(b"\x67sealing", b"\x67!ealing")),
        TreeError::Document(DocumentError::NotCanonical { .. } | DocumentError::CriticalKey { .. })
    ));
}

#[test]
fn links_stay_inside() {
    let ok = |path: &str, target: &str| check_link(path, target.as_bytes()).is_ok();
    assert!(ok("a", "b"));
    assert!(ok("a", "./b/c"));
    assert!(ok("d/a", "../b"));
    assert!(ok("d/e/a", "../../b"));
    assert!(ok("blobs/a", "../日本"));
    for (path, target) in [
        ("a", "../b"),
        ("d/a", "../../b"),
        ("a", "/etc/passwd"),
        ("a", "C:/x"),
        ("a", "b/../c"), // b could be a link to elsewhere
        ("d/a", "b/../../.."),
        ("a", ""),
        ("a", "."),
        ("d/a", ".."),
        ("a", "b//c"),
        ("a", "b/"),
        ("a", "b\\..\\c"),
        ("a", "b\0"),
    ] {
        let err = check_link(path, target.as_bytes()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Refused);
        assert!(err.to_string().contains("inside"), "{err}");
    }
    assert!(check_link("a", b"\xff").is_err());
    assert!(check_link("a", &vec![b'x'; LINK_BYTES_MAX as usize]).is_ok());
    assert!(check_link("a", &vec![b'x'; LINK_BYTES_MAX as usize + 1]).is_err());
}

#[test]
fn a_chunk_list_is_what_the_file_names_or_refused() {
    let list = ChunkList {
        hashes: vec![ChunkHash::of(b"abc"), ChunkHash::of(b"de")],
        lengths: vec![3, 2],
    };
    let named = list.reference("cdc/1");
    let (seq, lengths) = (list.seq_bytes(), list.length_bytes());
    assert_eq!(
        ChunkList::from_documents(&named, 5, &seq, &lengths),
        Ok(list.clone())
    );
    assert_eq!(list.size(), 5);
    let ranges: Vec<_> = list.iter().map(|(_, range)| range).collect();
    assert_eq!(
        ranges,
        [
            ByteRange { start: 0, end: 3 },
            ByteRange { start: 3, end: 5 }
        ]
    );

    assert_eq!(
        ChunkList::from_documents(&named, 6, &seq, &lengths),
        Err(ChunkListError::WrongSize {
            expected: 6,
            found: 5
        })
    );
    assert!(matches!(
        ChunkList::from_documents(&named, 5, &seq[1..], &lengths),
        Err(ChunkListError::WrongLength {
            which: "hash",
            expected: 64,
            found: 63,
            ..
        })
    ));
    assert!(matches!(
        ChunkList::from_documents(&named, 5, &seq, &[3, 0, 0, 0, 3, 0, 0, 0]),
        Err(ChunkListError::WrongDocument {
            which: "length",
            ..
        })
    ));
    let with = |lengths: Vec<u32>| {
        let size = lengths.iter().map(|length| u64::from(*length)).sum();
        let list = ChunkList {
            hashes: vec![ChunkHash::of(b"x"); lengths.len()],
            lengths,
        };
        let named = list.reference("cdc/1");
        ChunkList::from_documents(&named, size, &list.seq_bytes(), &list.length_bytes())
    };
    assert!(with(vec![CHUNK_BYTES_MAX as u32]).is_ok());
    assert!(matches!(
        with(vec![1, CHUNK_BYTES_MAX as u32 + 1]),
        Err(ChunkListError::ChunkLength { index: 1, .. })
    ));
    assert!(matches!(
        with(vec![0]),
        Err(ChunkListError::ChunkLength {
            index: 0,
            length: 0
        })
    ));
    let empty = ChunkList::default();
    assert_eq!(
        ChunkList::from_documents(&empty.reference("cdc/1"), 0, b"", b""),
        Ok(empty)
    );
}

/// Resolves `..` by hand, as a file system without links would.
fn escapes(path: &str) -> bool {
    let mut depth = 0i32;
    for part in path.split('/') {
        depth += if part == ".." { -1 } else { 1 };
        if depth < 0 {
            return true;
        }
    }
    path.starts_with('/')
}

proptest! {
    #[test]
    fn no_permitted_path_leaves_its_root(path in "[.a/\\\\: ~é\u{301}]{0,12}") {
        if check_path(&path).is_ok() {
            prop_assert!(!escapes(&path));
            let joined = std::path::Path::new("/root").join(&path);
            prop_assert!(joined.components().all(|part| part.as_os_str() != ".."));
            prop_assert!(joined.starts_with("/root"));
            prop_assert_eq!(joined.components().count(), 2 + path.split('/').count());
        }
    }

    #[test]
    fn no_permitted_set_of_paths_collides(paths in prop::collection::vec("[aA](/[bB]){0,2}", 1..6)) {
        let folded: Vec<_> = paths.iter().map(|path| path.to_lowercase()).collect();
        let collides = folded.iter().enumerate().any(|(at, a)| {
            folded.iter().enumerate().any(|(other, b)| {
                at != other && (a == b || b.starts_with(&format!("{a}/")))
            })
        });
        prop_assert_eq!(PathSet::check(paths.iter().map(String::as_str)).is_err(), collides);
    }

    #[test]
    fn a_decoded_tree_encodes_to_the_same_bytes(names in prop::collection::btree_set("[a-z]{1,8}", 0..8), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        let mut bytes = forged(names.iter().map(|name| file(name, name.as_bytes())).collect()).to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(tree) = Tree::decode(&bytes) {
            // a flip inside a key may make it an unknown one, which is kept in the bytes alone
            if tree.encode() != bytes {
                prop_assert_eq!(Tree::decode(&tree.encode()).unwrap(), tree);
            }
        }
    }
}

#[test]
fn a_tree_with_roots_is_the_collection_that_iroh_blobs_makes() {
    use iroh_blobs::format::collection::{Collection, CollectionMeta};
    let names: Vec<String> = (0..300).map(|n| format!("{n:03}-\u{e9}")).collect();
    let rooted = |name: &String| {
        let mut rooted = file(name, name.as_bytes());
        rooted.root = Some(ChunkHash::of(name.as_bytes()));
        rooted
    };
    let mut files: Vec<File> = names.iter().map(rooted).collect();
    let mut link = file("999-link", b"000");
    link.mode = Mode::Link;
    files.push(link);
    let tree = Tree::new(files.clone()).unwrap();
    let ours = tree.collection().unwrap();
    let theirs: Collection = names
        .iter()
        .map(|name| (name.clone(), iroh_blobs::Hash::new(name)))
        .collect();
    let blobs: Vec<Bytes> = theirs.to_blobs().collect();
    assert_eq!(blobs, [ours.names.clone(), ours.seq.clone()]);
    let meta: CollectionMeta = postcard::from_bytes(&ours.names).unwrap();
    assert!(meta.check_header());
    assert_eq!(meta.names(), names);

    files[7].root = None;
    assert_eq!(Tree::new(files).unwrap().collection(), None);
    assert_eq!(Tree::default().collection(), None);
}
