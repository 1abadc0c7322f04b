//! From a chunk, document or file hash to the kept versions that have it.

use std::fs;

use lode_store::{ChunkHash, Store, VersionId, local::keep_key, manifest::Version, tree::Tree};

use crate::common::{Form, Home, keep, noise, version};

fn versions_of(store: &Store, hash: &ChunkHash) -> Vec<VersionId> {
    let mut found = Vec::new();
    store
        .versions_of(hash, &mut |version| {
            found.push(version);
            true
        })
        .unwrap();
    found.sort();
    found
}

fn tree(store: &Store, id: &VersionId) -> (ChunkHash, Tree) {
    let doc = Version::decode(&store.document(&(*id).into()).unwrap().unwrap()).unwrap();
    let bytes = store.document(&doc.tree.into()).unwrap().unwrap();
    (doc.tree.into(), Tree::decode(&bytes).unwrap())
}

#[test]
fn chunks_lists_trees_and_files_lead_to_the_versions_that_are_kept() {
    let home = Home::new();
    let store = home.open();
    let (shared, one, two) = (noise(300_000, 1), noise(150_000, 2), noise(150_000, 3));
    let first = version(
        &store,
        Form::Pack,
        100_000,
        &[("s", &shared), ("f", &one)],
        home.path(),
    );
    let second = version(
        &store,
        Form::Pack,
        100_000,
        &[("s", &shared), ("f", &two)],
        home.path(),
    );
    let unkept = version(&store, Form::Pack, 100_000, &[("f", &two)], home.path());
    keep(&store, &first, true);
    keep(&store, &second, true);
    let mut both = vec![first, second];
    both.sort();

    let (tree_id, tree) = tree(&store, &first);
    let list = tree.file("s").unwrap().chunks.clone();
    let check = |store: &Store| {
        let chunk = ChunkHash::of(&shared[..100_000]);
        assert_eq!(versions_of(store, &chunk), both);
        assert_eq!(versions_of(store, &list.seq), both);
        assert_eq!(versions_of(store, &list.lengths), both);
        assert_eq!(versions_of(store, &ChunkHash::of(&one[..100_000])), [first]);
        assert_eq!(
            versions_of(store, &ChunkHash::of(&two[100_000..])),
            [second]
        );
        assert_eq!(versions_of(store, &tree_id), [first]);
        assert_eq!(versions_of(store, &first.into()), [first]);
        assert_eq!(versions_of(store, &unkept.into()), []);
        assert_eq!(versions_of(store, &ChunkHash::of(b"nothing")), []);
        let mut calls = 0;
        store
            .versions_of(&chunk, &mut |_| {
                calls += 1;
                false
            })
            .unwrap();
        assert_eq!(calls, 1, "it stops when it is told to");
        let file = store.file_by_sha256(&[0; 32]).unwrap().unwrap();
        assert!(
            [150_000, 300_000].contains(&file.size),
            "all test files have this SHA-256"
        );
        assert_eq!(store.file_by_git(&[0; 20]).unwrap(), Some(file));
        assert_eq!(store.file_by_sha256(&[1; 32]).unwrap(), None);
    };
    check(&store);
    drop(store);
    check(&home.open());
    fs::remove_file(home.path().join("index.redb")).unwrap();
    let store = home.open();
    check(&store);
    store.rebuild_index().unwrap();
    check(&store);

    store.local_delete(&keep_key(&second)).unwrap();
    store.gc(false, &mut |_| true).unwrap();
    assert_eq!(
        versions_of(&store, &ChunkHash::of(&shared[..100_000])),
        [first]
    );
    assert_eq!(versions_of(&store, &ChunkHash::of(&two[..100_000])), []);
    keep(&store, &first, false);
    store.local_delete(&keep_key(&first)).unwrap();
    store.gc(false, &mut |_| true).unwrap();
    assert_eq!(versions_of(&store, &list.seq), []);
    assert_eq!(store.file_by_sha256(&[0; 32]).unwrap(), None);
    assert_eq!(store.file_by_git(&[0; 20]).unwrap(), None);
}

#[test]
fn a_version_that_is_kept_again_is_found_again() {
    let home = Home::new();
    let store = home.open();
    let data = noise(150_000, 1);
    let add = || {
        let id = version(&store, Form::Pack, 100_000, &[("f", &data)], home.path());
        keep(&store, &id, true);
        id
    };
    let id = add();
    store.local_delete(&keep_key(&id)).unwrap();
    store.gc(false, &mut |_| true).unwrap();
    assert_eq!(versions_of(&store, &ChunkHash::of(&data[..100_000])), []);
    assert_eq!(add(), id);
    assert_eq!(versions_of(&store, &ChunkHash::of(&data[..100_000])), [id]);
}
