//! What readers of a home are promised: any range of any file is its bytes or an error, whatever holds
//! them; names lead where the owner pointed them, and nowhere else.

use crate::published::{Dice, Held, Published, noise, safetensors};
use lode_node::{
    command::FailureKind,
    read::{FileReader, ReadError, Reads},
};
use lode_store::{VersionId, name::Rev};
use lode_tensors::ByteRange;

fn open(reads: &Reads, version: VersionId, path: &str) -> FileReader {
    let tree = reads
        .tree(reads.version(version).unwrap().doc.tree)
        .unwrap();
    reads.file(tree.file(path).unwrap()).unwrap()
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, end }
}

#[test]
fn any_range_of_any_file_is_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let (big, small) = (noise(1, 9_000_000), noise(2, 5000));
    let model = safetensors(&[("a", &[300, 700]), ("b", &[5]), ("c", &[900, 1000])]);
    let files: [(&str, Held, &[u8]); 7] = [
        ("pack", Held::Pack, &big),
        ("whole", Held::Whole, &noise(3, 7_000_000)),
        ("outside", Held::Outside, &noise(4, 7_000_000)),
        ("small", Held::Pack, &small),
        ("empty", Held::Pack, b""),
        ("model.safetensors", Held::Whole, &model),
        (
            "outside.safetensors",
            Held::Outside,
            &safetensors(&[("a", &[1000, 1100])]),
        ),
    ];
    let version = home.push("tiny", &files, &[], &["heads/main"]);
    let reads = Reads::new(home.store.clone());
    let seed = std::process::id().into();
    let mut dice = Dice::new(seed);
    for (path, _, bytes) in &files {
        let reader = open(&reads, version, path);
        assert_eq!(reader.len(), bytes.len() as u64);
        assert!(
            reader.read_all(range(0, reader.len())).unwrap() == *bytes,
            "{path}"
        );
        for _ in 0..60 {
            let start = dice.below(reader.len() + 10);
            let end = start + dice.below(3_000_000);
            let found = reader.read_all(range(start, end)).unwrap();
            let last = (end as usize).min(bytes.len());
            let expected = bytes.get(start as usize..last).unwrap_or_default();
            assert!(found == expected, "{path} {start}..{end}, seed {seed}");
            reader.check_held(range(start, end)).unwrap();
        }
        assert_eq!(reader.bytes_held().unwrap(), reader.len());
    }
}

#[test]
fn bytes_that_are_not_held_are_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let bytes = noise(5, 3_000_000);
    let version = home.push(
        "tiny",
        &[("lost", Held::Nowhere, &bytes)],
        &[],
        &["heads/main"],
    );
    let reads = Reads::new(home.store.clone());
    let reader = open(&reads, version, "lost");
    for error in [
        reader.check_held(range(5, 6)).unwrap_err(),
        reader.read(range(5, 6)).unwrap_err(),
    ] {
        assert!(matches!(error, ReadError::NotHeld { .. }), "{error}");
        assert_eq!(error.kind(), FailureKind::NoPeer);
    }
    assert_eq!(reader.bytes_held().unwrap(), 0);
    assert!(reader.check_held(range(7, 7)).is_ok());
}

#[test]
fn a_changed_outside_file_gives_an_error_and_never_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let bytes = noise(6, 3_000_000);
    let version = home.push(
        "tiny",
        &[("mine", Held::Outside, &bytes)],
        &[],
        &["heads/main"],
    );
    let reads = Reads::new(home.store.clone());
    let reader = open(&reads, version, "mine");
    assert!(reader.read(range(0, 1000)).is_ok());
    assert!(reads.figures().disk_bytes >= 1000);
    assert_eq!(reads.figures().wrong, 0);
    let mut changed = bytes.clone();
    changed[1500] ^= 1;
    std::fs::write(home.outside("mine"), &changed).unwrap();
    let error = reader.read(range(1000, 2000)).unwrap_err();
    assert!(
        matches!(error.kind(), FailureKind::NoPeer | FailureKind::Corrupt),
        "{error}"
    );
    assert!(reads.figures().wrong > 0, "it is counted");
    let error = open(&reads, version, "mine")
        .check_held(range(0, 10))
        .unwrap_err();
    assert!(matches!(error, ReadError::NotHeld { .. }), "{error}");
}

#[test]
fn a_chunk_with_another_place_is_read_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let bytes = noise(7, 3_000_000);
    home.push(
        "one",
        &[("mine", Held::Outside, &bytes)],
        &[],
        &["heads/main"],
    );
    let version = home.push(
        "two",
        &[("other/mine", Held::Outside, &bytes)],
        &[],
        &["heads/main"],
    );
    let reads = Reads::new(home.store.clone());
    let reader = open(&reads, version, "other/mine");
    assert!(reader.read(range(0, 1000)).is_ok());
    std::fs::write(home.outside("mine"), b"gone").unwrap();
    assert!(reader.read_all(range(0, 3_000_000)).unwrap() == bytes);
}

#[test]
fn names_lead_where_they_point_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let file = |bytes: &'static [u8]| [("a.txt", Held::Pack, bytes)];
    let first = home.push("tiny", &file(b"one"), &[], &["heads/main", "tags/v1"]);
    let second = home.push("tiny", &file(b"two"), &[first], &["heads/main"]);
    let other = home.push("other", &file(b"three"), &[], &["heads/dev"]);
    let reads = Reads::new(home.store.clone());
    let acme = reads.publisher(&"acme".parse().unwrap()).unwrap();
    assert_eq!(acme, home.publisher);
    let key = home.publisher.to_hex().parse().unwrap();
    assert_eq!(reads.publisher(&key).unwrap(), acme);
    let unknown = reads.publisher(&"nobody".parse().unwrap()).unwrap_err();
    assert_eq!(unknown.kind(), FailureKind::NotFound);

    let resolve = |model: &str, rev: &str| {
        let rev: Rev = rev.parse().unwrap();
        reads.resolve(acme, model, &rev).map(|found| found.version)
    };
    assert_eq!(resolve("tiny", "main").unwrap(), second);
    assert_eq!(resolve("tiny", "v1").unwrap(), first);
    assert_eq!(resolve("tiny", &first.to_hex()).unwrap(), first);
    assert_eq!(resolve("tiny", &second.to_hex()[..8]).unwrap(), second);
    assert_eq!(resolve("other", "dev").unwrap(), other);
    for (model, rev) in [
        ("tiny", "dev"),
        ("none", "main"),
        ("tiny", &other.to_hex()),
        ("tiny", &other.to_hex()[..8]),
        ("tiny", &"0".repeat(64)),
    ] {
        let error = resolve(model, rev).unwrap_err();
        assert_eq!(
            error.kind(),
            FailureKind::NotFound,
            "{model}@{rev}: {error}"
        );
    }
    let models: Vec<String> = reads.models().unwrap().iter().map(|at| at.name()).collect();
    assert_eq!(models, ["acme/other", "acme/tiny"]);
    assert!(reads.model(acme, "none").is_err());
    let refs = reads.refs(acme, "tiny").unwrap();
    let refs: Vec<_> = refs
        .iter()
        .map(|at| (at.kind.as_str(), at.name.as_str(), at.version))
        .collect();
    assert_eq!(
        refs,
        [("branch", "main", Some(second)), ("tag", "v1", Some(first))]
    );
    assert!(!reads.is_public(acme, "tiny").unwrap());
    home.point("tiny", "access/public", second);
    assert!(reads.is_public(acme, "tiny").unwrap());
}

#[test]
fn tensors_of_all_files_are_listed_and_files_that_are_none_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let one = safetensors(&[("a", &[30, 7]), ("b", &[5])]);
    let version = home.push(
        "tiny",
        &[
            ("one.safetensors", Held::Pack, &one),
            (
                "two.safetensors",
                Held::Whole,
                &safetensors(&[("b", &[2]), ("c", &[900, 1000])]),
            ),
            ("broken.safetensors", Held::Pack, &noise(8, 1000)),
            ("short.gguf", Held::Pack, b"GGUF\x03"),
            ("empty.gguf", Held::Pack, b""),
            ("text.json", Held::Pack, b"{}"),
        ],
        &[],
        &["heads/main"],
    );
    let reads = Reads::new(home.store.clone());
    let tree = reads.version(version).unwrap().doc.tree;
    let layout = reads.layout(tree).unwrap();
    assert_eq!(layout.len(), 4);
    let (file, tensor) = layout.find("a", None).unwrap();
    assert_eq!(
        (file.path.as_str(), tensor.shape.as_slice()),
        ("one.safetensors", &[30, 7][..])
    );
    let reader = open(&reads, version, "one.safetensors");
    let found = reader.read_all(tensor.range).unwrap();
    assert_eq!(
        found,
        &one[tensor.range.start as usize..tensor.range.end as usize]
    );
    assert!(layout.find("b", None).is_err());
    assert!(layout.find("b", Some("two.safetensors")).is_ok());
    assert!(
        std::sync::Arc::ptr_eq(&layout, &reads.layout(tree).unwrap()),
        "kept"
    );
}

#[test]
fn a_list_of_lengths_that_lies_shifts_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let bytes = noise(9, 3_000_000);
    let version = home.push("tiny", &[("a", Held::Pack, &bytes)], &[], &["heads/main"]);
    let reads = Reads::new(home.store.clone());
    let tree = reads
        .tree(reads.version(version).unwrap().doc.tree)
        .unwrap();
    let honest = tree.file("a").unwrap().clone();
    let chunks: Vec<u32> = open(&reads, version, "a")
        .chunks(range(0, 3_000_000))
        .map(|chunk| chunk.length)
        .collect();
    let mut lengths = chunks.clone();
    assert!(lengths.len() > 1);
    lengths[0] -= 1;
    lengths[1] += 1;
    let document: Vec<u8> = lengths
        .iter()
        .flat_map(|length| length.to_le_bytes())
        .collect();
    let mut liar = honest.clone();
    liar.chunks.lengths = home.store.put_documents(&[document.into()]).unwrap()[0];
    let liar = reads.file(&liar).unwrap();
    let error = liar.read_all(range(0, 3_000_000));
    assert!(error.is_err() || error.unwrap() != bytes);
    let honest = reads.file(&honest).unwrap();
    assert!(honest.read_all(range(0, 3_000_000)).unwrap() == bytes);
}

#[test]
fn a_forked_branch_stays_where_its_signers_agreed_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let file = |bytes: &'static [u8]| [("a.txt", Held::Pack, bytes)];
    let first = home.push("tiny", &file(b"one"), &[], &["heads/main"]);
    let sides = [b"two", b"ten"].map(|bytes| home.push("tiny", &file(bytes), &[first], &[]));
    home.fork("tiny", "heads/main", sides);
    let reads = Reads::new(home.store.clone());
    let main = "main".parse().unwrap();
    let mut found = reads.resolve(home.publisher, "tiny", &main).unwrap();
    found.fork.sort();
    let mut expected = sides.to_vec();
    expected.sort();
    assert_eq!((found.version, &found.fork), (first, &expected));
    let refs = reads.refs(home.publisher, "tiny").unwrap();
    assert_eq!((refs[0].version, refs[0].fork.len()), (Some(first), 2));
    let settled = sides[0];
    home.point("tiny", "heads/main", settled);
    let found = reads.resolve(home.publisher, "tiny", &main).unwrap();
    assert_eq!((found.version, found.fork.len()), (settled, 0));
}
