//! A collection out of another's hands: what its segments claim is held to what they are made from.
//!
//! The loss that these prevent: a peer whose segments have all the right hashes, and hide points or name wrong
//! ones.

use std::io::Cursor;

use super::*;
use crate::{
    collection::{head::HEAD_NAME, open::segment_name},
    disk::replace,
    segment::{SectionName, SegmentFile, SegmentWriter},
};

fn filled(seed: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let mut random = Random(seed);
    for (field, kind) in schema() {
        let index = Operation::CreateIndex {
            path: path(field),
            kind,
        };
        collection.apply(index).unwrap();
    }
    for round in 0..3 {
        let points = (0..60).map(|id| point(&mut random, (round * 40 + id).into()));
        collection
            .apply(Operation::Upsert(points.collect()))
            .unwrap();
        collection
            .apply(Operation::Delete(Selection::id(round)))
            .unwrap();
        collection.freeze().unwrap();
    }
    disk
}

/// Writes a segment again with one section changed, with all the right hashes, and names it in the head.
fn forge(disk: &SimDisk, number: u64, section: SectionName, change: &dyn Fn(&mut Vec<u8>)) {
    let dir = Path::new(DIR);
    let bytes = disk
        .read(&dir.join(segment_name(number)), u64::MAX)
        .unwrap();
    let file = SegmentFile::from_bytes(bytes).unwrap();
    let mut writer = SegmentWriter::new(Cursor::new(Vec::new())).unwrap();
    for info in file.sections() {
        let mut bytes = file.section(info.name).unwrap().to_vec();
        if info.name == section {
            change(&mut bytes);
        }
        writer.section(info.name, &bytes).unwrap();
    }
    let (id, forged) = writer.finish().unwrap();
    replace(disk, dir, &segment_name(number), &forged.into_inner()).unwrap();
    let mut head = read_head(&disk.read(&dir.join(HEAD_NAME), u64::MAX).unwrap()).unwrap();
    head.segments.get_mut(&number).unwrap().id = *id.as_bytes();
    replace(disk, dir, HEAD_NAME, &head.to_bytes()).unwrap();
}

#[test]
fn what_was_written_here_is_sound_and_can_be_made_anew() {
    let disk = filled(7);
    let collection = reopen(&disk);
    let before = collection.view().len();
    let checked = collection.check().unwrap();
    assert_eq!((checked.points, checked.weak.len()), (before, 0));
    let numbers: Vec<u64> = collection
        .state()
        .segments
        .iter()
        .map(|s| s.number)
        .collect();
    collection.rebuild(&numbers).unwrap();
    assert_eq!(collection.check().unwrap().points, before);
    assert!(
        collection
            .state()
            .segments
            .iter()
            .all(|s| !numbers.contains(&s.number))
    );
}

#[test]
fn an_index_that_hides_a_point_is_refused_though_all_hashes_are_right() {
    let fields = u32::try_from(schema().len()).unwrap();
    let indexes = (0..fields).map(|field| SectionName::new("payload-index", field));
    let others = [
        SectionName::new("sparse-lists", 0),
        SectionName::new("sparse-rows", 0),
    ];
    for section in indexes.chain(others) {
        let disk = filled(8);
        // the last list of an index, and the numbers of a sparse one, end the section
        forge(&disk, 0, section, &|bytes| {
            let at = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes[at] ^= 1;
        });
        let refused = reopen(&disk).check();
        assert!(
            matches!(refused, Err(CollectionError::Damaged { segment: 0, .. })),
            "{section}: {refused:?}"
        );
    }
}

#[test]
fn no_changed_byte_of_a_segment_makes_the_check_panic() {
    let seed = 9;
    let mut random = Random(seed);
    let disk = filled(seed);
    let bytes = disk
        .read(&Path::new(DIR).join(segment_name(1)), u64::MAX)
        .unwrap();
    let names: Vec<SectionName> = SegmentFile::from_bytes(bytes)
        .unwrap()
        .sections()
        .iter()
        .map(|info| info.name)
        .collect();
    for name in names {
        for _ in 0..6 {
            let disk = filled(seed);
            let by = random.below(u64::MAX);
            forge(&disk, 1, name, &|bytes| {
                let len = bytes.len() as u64;
                if len > 0 {
                    bytes[usize::try_from(by % len).unwrap()] ^= 1 << (by % 7);
                }
            });
            let _ = reopen(&disk).check();
        }
    }
}

#[test]
fn a_point_in_two_segments_is_refused() {
    let disk = filled(10);
    let path = Path::new(DIR).join(HEAD_NAME);
    let mut head = read_head(&disk.read(&path, u64::MAX).unwrap()).unwrap();
    // the first segment's points come back to life beside those that superseded them
    head.segments.get_mut(&0).unwrap().dead.clear();
    replace(&disk, Path::new(DIR), HEAD_NAME, &head.to_bytes()).unwrap();
    let refused = reopen(&disk).check();
    assert!(
        matches!(refused, Err(CollectionError::Damaged { .. })),
        "{refused:?}"
    );
}

#[test]
fn dead_rows_that_a_segment_does_not_have_are_damage() {
    let disk = filled(11);
    let path = Path::new(DIR).join(HEAD_NAME);
    let mut head = read_head(&disk.read(&path, u64::MAX).unwrap()).unwrap();
    head.segments.get_mut(&0).unwrap().dead.insert(60);
    replace(&disk, Path::new(DIR), HEAD_NAME, &head.to_bytes()).unwrap();
    let collection = reopen(&disk);
    assert_eq!(collection.view().damaged().len(), 1);
    assert!(collection.check().is_err());
}

#[test]
fn a_segment_of_other_vectors_than_the_collection_has_is_refused() {
    let disk = filled(12);
    let path = Path::new(DIR).join(HEAD_NAME);
    let mut head = read_head(&disk.read(&path, u64::MAX).unwrap()).unwrap();
    head.config.vectors.get_mut("").unwrap().metric = Metric::Dot;
    replace(&disk, Path::new(DIR), HEAD_NAME, &head.to_bytes()).unwrap();
    assert!(reopen(&disk).check().is_err());
}
