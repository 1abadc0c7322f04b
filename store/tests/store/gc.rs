//! What no kept version needs goes, what one needs stays, and the rest of the store goes on meanwhile.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lode_store::{
    ChunkHash, Store,
    gc::GcError,
    local::{keep_key, pin_key},
    outboard,
    store::Options,
};

use crate::common::{Form, Home, is_whole, keep, noise, version};

fn collect(store: &Store) -> lode_store::gc::Collected {
    store.gc(false, &mut |_| true).unwrap()
}

#[test]
fn a_version_goes_with_its_last_keep_and_shared_chunks_stay() {
    for form in [Form::Pack, Form::Whole, Form::Outside] {
        let home = Home::new();
        let store = home.open();
        let folder = tempfile::tempdir().unwrap();
        let (shared, own) = (noise(500_000, 1), noise(500_000, 2));
        let first = version(
            &store,
            form,
            100_000,
            &[("a", &shared), ("b", &own)],
            folder.path(),
        );
        keep(&store, &first, true);
        let other = noise(300_000, 3);
        let second = version(
            &store,
            Form::Pack,
            100_000,
            &[("a", &shared), ("c", &other)],
            folder.path(),
        );
        keep(&store, &second, true);
        assert_eq!(collect(&store).chunks, 0, "{form:?}");
        store.local_delete(&keep_key(&first)).unwrap();
        let dry = store.gc(true, &mut |_| true).unwrap();
        assert!(
            is_whole(&store, &first),
            "a dry run changes nothing, {form:?}"
        );
        let done = collect(&store);
        assert_eq!((done.chunks, dry.chunks), (5, 5), "{form:?}");
        assert!(!is_whole(&store, &first), "{form:?}");
        assert!(is_whole(&store, &second), "{form:?}");
        drop(store);
        let store = home.open();
        assert!(is_whole(&store, &second), "{form:?}");
        store.rebuild_index().unwrap();
        assert!(
            is_whole(&store, &second) && !is_whole(&store, &first),
            "{form:?}"
        );
        store.local_delete(&keep_key(&second)).unwrap();
        collect(&store);
        assert_eq!(
            home.files("pack").len() + home.files("whole").len(),
            0,
            "{form:?}"
        );
        assert_eq!(home.files("side").len(), 0, "{form:?}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            if form == Form::Outside { 2 } else { 0 }
        );
    }
}

#[test]
fn half_dead_containers_give_their_blocks_back_and_stay_trusted() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let (dead, live) = (noise(8_000_000, 1), noise(1_000_000, 2));
    let all = version(
        &store,
        Form::Pack,
        1_000_000,
        &[("a", &dead), ("b", &live)],
        folder.path(),
    );
    let part = version(
        &store,
        Form::Pack,
        1_000_000,
        &[("b", &live)],
        folder.path(),
    );
    keep(&store, &all, true);
    keep(&store, &part, true);
    store.local_delete(&keep_key(&all)).unwrap();
    let pack = home.files("pack").remove(0);
    let before = fs::metadata(&pack).unwrap();

    // a reader holds a slice of the mapping: no hole is made under it
    let chunk = store
        .chunk(&ChunkHash::of(&dead[..1_000_000]))
        .unwrap()
        .unwrap();
    let slice = chunk.read(0..1_000_000).unwrap();
    drop(chunk);
    let done = collect(&store);
    assert_eq!((done.containers_busy, done.containers_punched), (1, 0));
    assert_eq!(slice, dead[..1_000_000]);
    assert!(
        store
            .chunk(&ChunkHash::of(&dead[..1_000_000]))
            .unwrap()
            .is_none()
    );
    drop(slice);
    let done = collect(&store);
    assert_eq!(done.containers_punched, 1);
    let after = fs::metadata(&pack).unwrap();
    assert!(
        after.blocks() * 512 + 7_900_000 < before.blocks() * 512,
        "{done:?}"
    );
    assert!(is_whole(&store, &part));
    assert!(
        store
            .chunk(&ChunkHash::of(&live))
            .unwrap()
            .unwrap()
            .is_trusted()
    );
    assert_eq!(
        collect(&store).containers_punched,
        0,
        "nothing is left to do"
    );
    drop(store);
    let store = home.open();
    assert!(
        store
            .chunk(&ChunkHash::of(&live))
            .unwrap()
            .unwrap()
            .is_trusted()
    );
    let scrubbed = store.scrub(&mut |_| true).unwrap();
    assert!(!scrubbed.found_damage(), "{scrubbed:?}");
}

#[test]
fn what_is_asked_for_or_written_under_protection_stays() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let data = noise(300_000, 1);
    let id = version(&store, Form::Pack, 100_000, &[("a", &data)], folder.path());
    let asked = ChunkHash::of(&data[..100_000]);
    let guard = store.protect();
    assert!(guard.holds(&asked).unwrap());
    let fresh = version(
        &store,
        Form::Pack,
        100_000,
        &[("b", &noise(200_000, 2))],
        folder.path(),
    );
    assert_eq!(
        collect(&store).chunks,
        2,
        "the two chunks that nobody asked for"
    );
    assert!(store.holds(&asked).unwrap());
    assert!(is_whole(&store, &fresh) && !is_whole(&store, &id));
    keep(&store, &fresh, true);
    drop(guard);
    assert_eq!(collect(&store).chunks, 1);
    assert!(is_whole(&store, &fresh));
}

#[test]
fn pins_hold_versions_and_a_lost_document_of_an_own_one_stops_the_collection() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let data = noise(300_000, 1);
    let id = version(&store, Form::Pack, 100_000, &[("a", &data)], folder.path());
    keep(&store, &id, false);
    store
        .local_set(&pin_key(&id), &lode_store::local::keep_value(false, 1))
        .unwrap();
    store.local_delete(&keep_key(&id)).unwrap();
    collect(&store);
    assert!(is_whole(&store, &id));
    let missing = lode_store::VersionId::of(b"never stored");
    keep(&store, &missing, true);
    match store.gc(false, &mut |_| true) {
        Err(GcError::Unreadable { version, .. }) => assert_eq!(version, missing),
        other => panic!("{other:?}"),
    }
    keep(&store, &missing, false);
    collect(&store);
    assert!(is_whole(&store, &id));
}

#[test]
fn dead_documents_leave_the_log_and_everything_else_in_it_stays() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let kept = version(
        &store,
        Form::Pack,
        50_000,
        &[("a", &noise(200_000, 1))],
        folder.path(),
    );
    keep(&store, &kept, true);
    for n in 0..50 {
        store.local_set("alias/x", &[n; 32]).unwrap();
        store.local_set(&format!("peer/{n}"), b"gone soon").unwrap();
        store.local_delete(&format!("peer/{n}")).unwrap();
    }
    store.local_set("alias/y", b"first").unwrap();
    let documents: Vec<_> = (0..300)
        .map(|n| bytes::Bytes::from(noise(10_000, 1000 + n)))
        .collect();
    let dead = store.put_documents(&documents).unwrap();
    let before = store.usage().unwrap().log;
    let done = collect(&store);
    assert_eq!(done.documents, 300);
    let after = store.usage().unwrap().log;
    assert!(after + 2_900_000 < before, "{before} {after}");
    let check = |store: &Store| {
        assert!(is_whole(store, &kept));
        assert_eq!(store.local_get("alias/x").unwrap().unwrap(), [49; 32][..]);
        assert_eq!(store.local_get("alias/y").unwrap().unwrap(), "first");
        assert!(store.local_prefix("peer/").unwrap().is_empty());
        assert!(
            dead.iter()
                .all(|hash| store.document(hash).unwrap().is_none())
        );
    };
    check(&store);
    store.local_set("alias/z", b"after").unwrap();
    drop(store);
    check(&home.open());
    fs::remove_file(home.path().join("index.redb")).unwrap();
    let store = home.open();
    check(&store);
    assert_eq!(store.local_get("alias/z").unwrap().unwrap(), "after");
}

#[test]
fn one_collection_runs_at_a_time_and_can_be_stopped() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let data = noise(10_000 * 400, 1);
    version(&store, Form::Pack, 400, &[("a", &data)], folder.path());
    let inside = AtomicBool::new(false);
    let done = store
        .gc(false, &mut |_| {
            let second = store.gc(true, &mut |_| true);
            inside.store(matches!(second, Err(GcError::Running)), Ordering::Relaxed);
            false
        })
        .unwrap();
    assert!(done.stopped && inside.load(Ordering::Relaxed));
    assert!(done.chunks > 0 && done.chunks < 10_000, "{done:?}");
    assert_eq!(done.chunks + collect(&store).chunks, 10_000);
}

#[test]
fn pushes_and_reads_progress_while_100_000_chunks_are_collected() {
    let home = Home::new();
    let store = home.open();
    let folder = tempfile::tempdir().unwrap();
    let live = noise(4_000_000, 1);
    let kept = version(
        &store,
        Form::Pack,
        100_000,
        &[("live", &live)],
        folder.path(),
    );
    keep(&store, &kept, true);
    let mut pack = store.pack_writer();
    for n in 0..100_000u64 {
        let bytes = n.to_le_bytes();
        pack.add(ChunkHash::of(&bytes), &bytes, &[]).unwrap();
    }
    pack.seal().unwrap();

    let (over, pushed, read) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut slowest_push, mut slowest_read) = (Duration::ZERO, Duration::ZERO);
    let mut versions = Vec::new();
    let collected = std::thread::scope(|scope| {
        let gc = scope.spawn(|| {
            let done = store.gc(false, &mut |_| true);
            over.store(true, Ordering::SeqCst);
            done
        });
        let pusher = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            let mut versions = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let start = Instant::now();
                let guard = store.protect();
                let n = pushed.load(Ordering::SeqCst);
                let data = noise(200_000, 100 + n);
                // half of it is there already
                let bytes = [&data[..], &live[..200_000]].concat();
                for hash in [
                    ChunkHash::of(&live[..100_000]),
                    ChunkHash::of(&live[100_000..200_000]),
                ] {
                    assert!(guard.holds(&hash).unwrap());
                }
                let id = version(&store, Form::Pack, 100_000, &[("f", &bytes)], home.path());
                keep(&store, &id, true);
                drop(guard);
                versions.push(id);
                pushed.fetch_add(1, Ordering::SeqCst);
                slowest = slowest.max(start.elapsed());
            }
            (slowest, versions)
        });
        let reader = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::SeqCst) {
                for bytes in live.chunks(100_000) {
                    let start = Instant::now();
                    let (hash, pairs) = outboard::compute(bytes);
                    let chunk = store.chunk(&hash).unwrap().unwrap();
                    assert_eq!(chunk.read(0..chunk.len()).unwrap(), bytes);
                    assert_eq!(chunk.outboard().unwrap(), pairs);
                    read.fetch_add(1, Ordering::SeqCst);
                    slowest = slowest.max(start.elapsed());
                }
            }
            slowest
        });
        (slowest_push, versions) = pusher.join().unwrap();
        slowest_read = reader.join().unwrap();
        gc.join().unwrap()
    });
    let collected = collected.unwrap();
    assert_eq!(collected.chunks, 100_000);
    let (pushed, read) = (pushed.into_inner(), read.into_inner());
    assert!(
        pushed >= 2,
        "{pushed} pushes, the slowest took {slowest_push:?}"
    );
    assert!(
        read >= 100,
        "{read} reads, the slowest took {slowest_read:?}"
    );
    assert!(is_whole(&store, &kept));
    assert!(versions.iter().all(|id| is_whole(&store, id)));
    assert!(!store.holds(&ChunkHash::of(&7u64.to_le_bytes())).unwrap());
}

#[test]
fn room_is_made_by_letting_pulled_versions_go_least_recently_used_first() {
    let home = Home::new();
    let store = home.open_with(Options {
        max_size: Some(20_000_000),
        ..Options::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let add = |seed, own, time| {
        let data = noise(3_000_000, seed);
        let id = version(
            &store,
            Form::Whole,
            1_000_000,
            &[("f", &data)],
            folder.path(),
        );
        let value = lode_store::local::keep_value(own, time);
        store.local_set(&keep_key(&id), &value).unwrap();
        id
    };
    let (own, old, used, pinned) = (
        add(1, true, 1),
        add(2, false, 5),
        add(3, false, 2),
        add(4, false, 3),
    );
    store
        .local_set(&pin_key(&pinned), &lode_store::local::keep_value(false, 9))
        .unwrap();
    store.touch(&used).unwrap();
    let total = store.usage().unwrap().total();
    assert_eq!(store.make_room(1000).unwrap(), []);
    assert_eq!(
        store.make_room(20_000_000 - total + 500_000).unwrap(),
        [old]
    );
    assert!(!is_whole(&store, &old));
    for id in [own, used, pinned] {
        assert!(is_whole(&store, &id));
    }
    let refused = store.make_room(16_000_000).unwrap_err();
    assert!(refused.to_string().contains("--max-size"), "{refused}");
    assert!(is_whole(&store, &used), "nothing left for nothing");
}

#[test]
fn a_version_of_which_a_part_is_held_counts_for_that_part() {
    const MAX: u64 = 20_000_000;
    let home = Home::new();
    let store = home.open_with(Options {
        max_size: Some(MAX),
        ..Options::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let data = noise(3_000_000, 1);
    let id = version(
        &store,
        Form::Whole,
        1_000_000,
        &[("f", &data)],
        folder.path(),
    );
    let value = lode_store::local::keep_value(false, 1);
    store.local_set(&keep_key(&id), &value).unwrap();
    // The same tree beside it, of which nothing but the documents is here.
    let absent = noise(12_000_000, 2);
    let other = version(
        &store,
        Form::Nowhere,
        1_000_000,
        &[("g", &absent)],
        folder.path(),
    );
    let value = lode_store::local::keep_value(false, 2);
    store.local_set(&keep_key(&other), &value).unwrap();
    let total = store.usage().unwrap().total();
    let refused = store.make_room(MAX - total + 6_000_000).unwrap_err();
    assert!(refused.to_string().contains("--max-size"), "{refused}");
    assert!(is_whole(&store, &id), "nothing left for nothing");
}
