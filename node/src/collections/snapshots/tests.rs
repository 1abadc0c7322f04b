#![allow(clippy::unwrap_used)]

use std::{io::Read, process::Command};

use lode_index::{Filter, operation::Selection};

use super::super::tests::{Home, config, point, upsert};
use super::*;
use crate::collections::Operation;

fn delete(collection: &OpenCollection, ids: std::ops::Range<u64>) {
    let ids = ids.map(Into::into).collect();
    collection
        .apply(Operation::Delete(Selection::Ids(ids)))
        .unwrap();
}

fn ids(collection: &OpenCollection) -> Vec<String> {
    let with = lode_index::view::With::default();
    let report = &mut lode_index::Report::default();
    let page = collection
        .view()
        .scroll(None, 1000, &Filter::default(), &with, report);
    page.records.iter().map(|r| r.id.to_string()).collect()
}

fn names(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

#[test]
fn a_collection_goes_back_to_a_snapshot_and_on_from_there() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let open = collections.open(&at).unwrap();
    upsert(&open, 0..10);
    let snapshot = open.snapshot().unwrap();
    delete(&open, 0..5);
    upsert(&open, 20..22);
    assert_eq!(
        collections.snapshots(&at).unwrap(),
        std::slice::from_ref(&snapshot)
    );
    collections.recover(&at, &snapshot.name, "docs").unwrap();
    // who has it open writes to what is there now
    assert_eq!(ids(&collections.open(&at).unwrap()), names(0..10));
    upsert(&open, 10..11);
    assert_eq!(ids(&collections.open(&at).unwrap()), names(0..11));
    // the snapshot is as it was, and another collection can be made of it
    let other = collections.recover(&at, &snapshot.name, "other").unwrap();
    assert_eq!(ids(&collections.open(&other).unwrap()), names(0..10));
    drop((open, at, other, collections));
    let home = home.again();
    let collections = home.collections();
    let at = collections.find("docs").unwrap();
    assert_eq!(ids(&collections.open(&at).unwrap()), names(0..11));
    assert_eq!(
        collections.snapshots(&at).unwrap(),
        std::slice::from_ref(&snapshot)
    );
    collections.recover(&at, &snapshot.name, "docs").unwrap();
    collections.set_public(&at, true).unwrap();
    drop((at, collections));
    let home = home.again();
    let open = home.collections().open_named("docs").unwrap();
    assert_eq!(ids(&open), names(0..10));
    assert!(home.collections().find("docs").unwrap().public);
}

#[test]
fn a_snapshot_is_of_one_moment_while_writing_goes_on() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let open = collections.open(&at).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for first in (0..4000).step_by(20) {
                upsert(&open, first..first + 20);
            }
        });
        let mut made = 0;
        while !writer.is_finished() && made < 8 {
            open.snapshot().unwrap();
            made += 1;
        }
    });
    for snapshot in collections.snapshots(&at).unwrap() {
        let taken = collections.recover(&at, &snapshot.name, "taken").unwrap();
        let count = collections.open(&taken).unwrap().view().len();
        assert_eq!(count % 20, 0, "a part of an operation");
        let found = ids(&collections.open(&taken).unwrap());
        assert_eq!(found, names(0..count.min(1000)));
    }
}

#[test]
fn a_snapshot_that_is_deleted_leaves_nothing_and_no_more_are_made_than_there_may_be() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let open = collections.open(&at).unwrap();
    upsert(&open, 0..3);
    for _ in 0..SNAPSHOTS_MAX {
        open.snapshot().unwrap();
    }
    assert!(matches!(
        open.snapshot(),
        Err(CollectionsError::TooManySnapshots)
    ));
    let all = collections.snapshots(&at).unwrap();
    assert_eq!(all.len(), SNAPSHOTS_MAX);
    for snapshot in &all[1..] {
        collections.delete_snapshot(&at, &snapshot.name).unwrap();
    }
    for name in [&all[1].name[..], "none.snapshot", "../data", ".", "..", ""] {
        assert!(matches!(
            collections.delete_snapshot(&at, name),
            Err(CollectionsError::NoSnapshot { .. })
        ));
        assert!(collections.snapshot_file(&at, name).is_err());
        assert!(collections.recover(&at, name, "docs").is_err());
    }
    let left = files::names(&folder(&at.slot)).unwrap();
    assert_eq!(left, [all[0].name.clone()]);
    open.snapshot().unwrap();
    assert_eq!(ids(&open), names(0..3));
}

/// Whether any file below a folder has these bytes.
fn holds(dir: &Path, wanted: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, wanted);
        }
        let mut bytes = Vec::new();
        let read = fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.is_ok() && bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

#[test]
fn of_a_deleted_point_nothing_is_left_once_no_snapshot_has_it() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let open = collections.open(&at).unwrap();
    // numbers that appear nowhere else
    let secret = 0x4b1d_2f37u32;
    let mut hidden = point(7);
    let vector = lode_index::Vector::Dense(vec![f32::from_bits(secret), 1.0]);
    hidden.vectors = [(String::new(), vector)].into();
    upsert(&open, 0..3);
    open.apply(Operation::Upsert(vec![hidden])).unwrap();
    let (kept, let_go) = (open.snapshot().unwrap(), open.snapshot().unwrap());
    delete(&open, 7..8);
    open.engine().compact().unwrap();
    let held = || holds(&at.slot.dir, &secret.to_le_bytes());
    assert!(held(), "the snapshots have it");
    collections.delete_snapshot(&at, &let_go.name).unwrap();
    assert!(held(), "the other one has it still");
    collections.delete_snapshot(&at, &kept.name).unwrap();
    assert!(!held());
}

#[test]
fn what_a_crash_left_of_a_snapshot_or_a_recovery_is_removed() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    upsert(&collections.open(&at).unwrap(), 0..3);
    let snapshot = collections.open(&at).unwrap().snapshot().unwrap();
    let dir = at.slot.dir.clone();
    // as far as a recovery and a snapshot come before they are seen, and a deletion after it is
    for left in [
        "data-0123456789abcdef",
        "snapshots/.new-1",
        "snapshots/.gone-1",
    ] {
        fs::create_dir(dir.join(left)).unwrap();
        fs::write(dir.join(left).join("head"), b"not yet").unwrap();
    }
    drop((at, collections));
    let home = home.again();
    let at = home.collections().find("docs").unwrap();
    assert_eq!(files::names(&dir).unwrap(), ["about", "data", FOLDER]);
    let left = files::names(&dir.join(FOLDER)).unwrap();
    assert_eq!(left, [snapshot.name]);
    assert_eq!(ids(&home.collections().open(&at).unwrap()), names(0..3));
}

#[test]
fn a_damaged_snapshot_replaces_nothing() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let open = collections.open(&at).unwrap();
    upsert(&open, 0..3);
    let snapshot = open.snapshot().unwrap();
    upsert(&open, 3..5);
    let head = folder(&at.slot).join(&snapshot.name).join("data/head");
    fs::write(&head, b"lode col, but no head").unwrap();
    let error = collections.recover(&at, &snapshot.name, "docs");
    assert_eq!(error.unwrap_err().kind(), FailureKind::Corrupt);
    assert_eq!(ids(&open), names(0..5));
    assert_eq!(files::names(&at.slot.dir).unwrap().len(), 3);
}

#[test]
fn a_snapshot_is_a_tar_archive_whose_bytes_do_not_change() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let open = collections.open(&at).unwrap();
    upsert(&open, 0..300);
    open.snapshot().unwrap();
    upsert(&open, 300..600);
    let snapshot = open.snapshot().unwrap();
    let (_, file) = collections.snapshot_file(&at, &snapshot.name).unwrap();
    assert_eq!(file.len(), snapshot.bytes);
    let read = |step: u64| {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < file.len() {
            let start = bytes.len() as u64;
            let end = file.len().min(start + step);
            bytes.extend(file.read(start..end).unwrap());
        }
        bytes
    };
    let bytes = read(1 << 20);
    assert_eq!(bytes, read(777));
    let sum = data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes));
    assert_eq!(sum, snapshot.sha256);
    assert_eq!(bytes.len() % 512, 0);
    // the system's tar reads it, and what it unpacks is the collection
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("a.tar");
    fs::write(&archive, &bytes).unwrap();
    let unpacked = place.path().join("data");
    fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(&unpacked)
        .status();
    assert!(tar.unwrap().success());
    let collection = Collection::open(&unpacked).unwrap();
    assert_eq!(collection.view().len(), 600);
    assert!(collection.view().damaged().is_empty());
}
