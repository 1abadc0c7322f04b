//! The losses that these tests prevent: wrong bytes in a file of a user or in the home, bytes fetched
//! twice after an interruption, and files that are there by half.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::{fs, path::Path};

use lode_tensors::{ByteRange, Runs};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::*;
use crate::{
    ErrorKind,
    limits::{GROUP_BYTES, PIECE_BYTES},
    store::Options as StoreOptions,
};

mod model;
mod shared;

/// A file, cut into chunks, that can be received.
pub(super) struct Source {
    pub(super) bytes: Vec<u8>,
    pub(super) list: Arc<ChunkList>,
    outboards: Vec<Vec<u8>>,
}

impl Source {
    pub(super) fn new(lengths: &[u32], seed: u64) -> Self {
        let mut bytes = vec![0; lengths.iter().map(|len| *len as usize).sum()];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        Self::of(bytes, lengths)
    }

    pub(super) fn of(bytes: Vec<u8>, lengths: &[u32]) -> Self {
        let (mut list, mut outboards, mut at) = (ChunkList::default(), Vec::new(), 0);
        for len in lengths {
            let (hash, pairs) = outboard::compute(&bytes[at..at + *len as usize]);
            list.hashes.push(hash);
            list.lengths.push(*len);
            outboards.push(pairs);
            at += *len as usize;
        }
        Self {
            bytes,
            list: list.into(),
            outboards,
        }
    }

    pub(super) fn chunk(&self, chunk: u32) -> &[u8] {
        let before = &self.list.lengths[..chunk as usize];
        let at: usize = before.iter().map(|len| *len as usize).sum();
        &self.bytes[at..at + self.list.lengths[chunk as usize] as usize]
    }

    /// A range of a chunk that goes to `offset`.
    pub(super) fn segment(&self, chunk: u32, range: Range<u32>, offset: u64) -> Segment {
        let before = &self.list.lengths[..chunk as usize];
        let at: u64 = before.iter().map(|len| u64::from(*len)).sum();
        let (start, end) = (at + u64::from(range.start), at + u64::from(range.end));
        let runs = Runs::of(ByteRange { start, end }).unwrap();
        Segment { runs, offset }
    }

    /// The pairs above and in a range of a chunk.
    fn parents(&self, chunk: u32, range: &Range<u32>) -> Vec<Parent> {
        fn walk(at: Range<u32>, index: &mut u32, range: &Range<u32>, found: &mut Vec<u32>) {
            let len = at.end - at.start;
            if len <= GROUP_BYTES {
                return;
            }
            if at.start < range.end && range.start < at.end {
                found.push(*index);
            }
            *index += 1;
            let left = (len.div_ceil(GROUP_BYTES).next_power_of_two() / 2) * GROUP_BYTES;
            walk(at.start..at.start + left, index, range, found);
            walk(at.start + left..at.end, index, range, found);
        }
        let (mut index, mut found) = (0, Vec::new());
        let len = self.list.lengths[chunk as usize];
        walk(0..len, &mut index, range, &mut found);
        let pairs = self.outboards[chunk as usize].as_chunks::<64>().0;
        found
            .into_iter()
            .map(|index| (index, pairs[index as usize]))
            .collect()
    }

    /// Delivers a range of a chunk, as a receiver does.
    pub(super) fn deliver(
        &self,
        download: &Download,
        chunk: u32,
        range: Range<u32>,
    ) -> io::Result<()> {
        let bytes = &self.chunk(chunk)[range.start as usize..range.end as usize];
        download.store(chunk, range.start, bytes, &self.parents(chunk, &range))
    }

    /// What a receiver would make of the download's wants: pieces, in any order.
    pub(super) fn pieces(
        &self,
        download: &Download,
        random: &mut StdRng,
    ) -> Vec<(u32, Range<u32>)> {
        let mut pieces = Vec::new();
        for (chunk, range) in download.missing() {
            let mut at = range.start;
            while at < range.end {
                let piece = (at / PIECE_BYTES + 1) * PIECE_BYTES;
                let mut end = piece.min(range.end);
                if random.random_bool(0.3) {
                    end = end.min(at + GROUP_BYTES * random.random_range(1..20));
                }
                pieces.push((chunk, at..end));
                at = end;
            }
        }
        pieces.shuffle(random);
        pieces
    }

    pub(super) fn deliver_all(&self, download: &Download, random: &mut StdRng) {
        for (chunk, range) in self.pieces(download, random) {
            self.deliver(download, chunk, range).unwrap();
        }
        assert!(download.missing().is_empty());
    }

    pub(super) fn begin(
        &self,
        store: &Store,
        target: &Target,
        options: &Options,
    ) -> Result<Download, DownloadError> {
        let layout = Layout::whole(&self.list);
        Download::begin(store, self.list.clone(), &layout, target, options)
    }

    pub(super) fn assert_held(&self, store: &Store) {
        for (number, hash) in (0..).zip(&self.list.hashes) {
            let reader = store.chunk(hash).unwrap().expect("the chunk is held");
            let len = reader.len();
            assert_eq!(reader.read(0..len).unwrap(), self.chunk(number));
            assert_eq!(reader.outboard().unwrap(), self.outboards[number as usize]);
        }
    }
}

pub(super) struct Home {
    dir: tempfile::TempDir,
    store: Option<Store>,
}

impl Home {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut home = Self { dir, store: None };
        home.reopen();
        home
    }

    pub(super) fn reopen(&mut self) {
        self.store = None;
        let path = self.dir.path().join("home");
        self.store = Some(Store::open(&path, StoreOptions::default()).unwrap());
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(super) fn partial(&self) -> Vec<PathBuf> {
        names(&self.dir.path().join("home/partial"))
    }

    pub(super) fn target(&self, path: &str) -> Target {
        Target::File {
            path: path.to_owned(),
            root: self.dir.path().join("out"),
        }
    }

    pub(super) fn out(&self, path: &str) -> PathBuf {
        self.dir.path().join("out").join(path)
    }
}

pub(super) fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    names
}

fn random() -> StdRng {
    StdRng::seed_from_u64(7)
}

const LENGTHS: [u32; 5] = [100, 3 << 20, (2 << 20) + 77_777, 16_384, 1 << 20];

#[test]
fn a_new_file_becomes_a_whole_container_with_its_outboards() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 1);
    let download = source
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    assert!(matches!(
        download.finish(),
        Err(DownloadError::Incomplete { bytes, .. }) if bytes == source.list.size()
    ));
    source.deliver_all(&download, &mut random());
    assert!(matches!(download.finish(), Ok(Finished::Container(_))));
    // end-game
    source.deliver(&download, 0, 0..100).unwrap();
    assert!(matches!(
        download.finish(),
        Err(DownloadError::Ended { .. })
    ));
    drop(download);
    source.assert_held(home.store());
    let place = home
        .store()
        .place_of_file(source.list.size(), &source.list.hashes)
        .unwrap();
    assert_eq!(fs::read(place.unwrap().path).unwrap(), source.bytes);
    assert!(home.partial().is_empty());
}

#[test]
fn a_file_in_a_folder_appears_complete_and_seeds() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 3);
    let options = Options {
        exec: true,
        ..Options::default()
    };
    let target = home.target("bin/tool");
    let download = source.begin(home.store(), &target, &options).unwrap();
    let mut pieces = source.pieces(&download, &mut random());
    let (chunk, range) = pieces.pop().unwrap();
    for (chunk, range) in pieces {
        source.deliver(&download, chunk, range).unwrap();
    }
    assert!(!home.out("bin/tool").exists());
    assert!(home.out("bin/.tool.lode-part").exists());
    source.deliver(&download, chunk, range).unwrap();
    download.finish().unwrap();
    drop(download);
    assert_eq!(names(&home.out("bin")), vec![home.out("bin/tool")]);
    assert_eq!(fs::read(home.out("bin/tool")).unwrap(), source.bytes);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(home.out("bin/tool")).unwrap());
    assert_eq!(mode & 0o100, 0o100);
    source.assert_held(home.store());
    assert!(home.partial().is_empty());
}

#[test]
fn an_interrupted_download_goes_on_where_it_was() {
    for to_store in [true, false] {
        let mut home = Home::new();
        let source = Source::new(&LENGTHS, 4);
        let target = if to_store {
            Target::Store
        } else {
            home.target("m")
        };
        let download = source
            .begin(home.store(), &target, &Options::default())
            .unwrap();
        source.deliver(&download, 1, 0..1 << 20).unwrap();
        source.deliver(&download, 1, 2 << 20..3 << 20).unwrap();
        source.deliver(&download, 2, 0..100 * 1024).unwrap();
        source.deliver(&download, 0, 0..100).unwrap();
        drop(download);
        home.reopen();
        let download = source
            .begin(home.store(), &target, &Options::default())
            .unwrap();
        let mut expected = vec![(1, 1 << 20..2 << 20)];
        expected.extend([(2, 0..LENGTHS[2]), (3, 0..LENGTHS[3]), (4, 0..LENGTHS[4])]);
        assert_eq!(download.missing(), expected, "to the store: {to_store}");
        source.deliver_all(&download, &mut random());
        download.finish().unwrap();
        drop(download);
        source.assert_held(home.store());
        assert!(home.partial().is_empty());
    }
}

#[test]
fn a_download_of_which_nothing_came_leaves_nothing() {
    for to_store in [true, false] {
        let home = Home::new();
        let source = Source::new(&LENGTHS, 4);
        let target = if to_store {
            Target::Store
        } else {
            home.target("m")
        };
        drop(
            source
                .begin(home.store(), &target, &Options::default())
                .unwrap(),
        );
        assert!(home.partial().is_empty());
        let download = source
            .begin(home.store(), &target, &Options::default())
            .unwrap();
        source.deliver(&download, 1, 0..1 << 20).unwrap();
        drop(download);
        assert!(!home.partial().is_empty());
        source
            .begin(home.store(), &target, &Options::default())
            .unwrap()
            .discard();
        assert!(home.partial().is_empty());
        assert!(to_store || names(&home.out("")).is_empty());
    }
}

#[test]
fn bytes_that_changed_between_two_tries_are_fetched_again() {
    let mut home = Home::new();
    let source = Source::new(&LENGTHS, 5);
    let target = home.target("m");
    let download = source
        .begin(home.store(), &target, &Options::default())
        .unwrap();
    source.deliver_all(&download, &mut random());
    drop(download);
    let part = home.out(".m.lode-part");
    let mut bytes = fs::read(&part).unwrap();
    bytes[100 + (1 << 20) + 5] ^= 1;
    fs::write(&part, bytes).unwrap();
    home.reopen();
    let download = source
        .begin(home.store(), &target, &Options::default())
        .unwrap();
    assert_eq!(download.missing(), vec![(1, 1 << 20..2 << 20)]);
    source.deliver_all(&download, &mut random());
    download.finish().unwrap();
    assert_eq!(fs::read(home.out("m")).unwrap(), source.bytes);
}

#[test]
fn a_file_is_received_once_at_a_time() {
    for to_store in [true, false] {
        let home = Home::new();
        let source = Source::new(&LENGTHS, 4);
        let target = if to_store {
            Target::Store
        } else {
            home.target("m")
        };
        let begin = || source.begin(home.store(), &target, &Options::default());
        let first = begin().unwrap();
        assert!(matches!(begin(), Err(DownloadError::Busy { .. })));
        source.deliver_all(&first, &mut random());
        drop(first);
        begin().unwrap().finish().unwrap();
    }
}

#[test]
fn every_wrong_byte_of_a_journal_is_noticed() {
    let mut home = Home::new();
    let source = Source::new(&[2 << 20, 2 << 20, 2 << 20], 6);
    let download = source
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    for piece in 0..6 {
        let start = (piece % 2) << 20;
        source
            .deliver(&download, piece / 2, start..start + (1 << 20))
            .unwrap();
    }
    drop(download);
    let path = home
        .partial()
        .into_iter()
        .find(|p| p.extension().unwrap() == "journal")
        .unwrap();
    let good = fs::read(&path).unwrap();
    let (header, records) = parse_journal(&good).unwrap();
    assert_eq!(records.len(), 6);
    let start = good.len() - 6 * 64;
    for at in 0..good.len() {
        let mut wrong = good.clone();
        wrong[at] ^= 4;
        let found = parse_journal(&wrong);
        if at < start {
            assert_eq!(found, None);
        } else {
            let whole = (at - start) / 64;
            assert_eq!(found, Some((header.clone(), records[..whole].to_vec())));
        }
    }
    // the third frame is damaged: what follows is fetched again
    let mut wrong = good.clone();
    wrong[start + 2 * 64 + 20] ^= 1;
    fs::write(&path, &wrong).unwrap();
    home.reopen();
    let download = source
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    assert_eq!(download.missing(), vec![(1, 0..2 << 20), (2, 0..2 << 20)]);
    source.deliver_all(&download, &mut random());
    download.finish().unwrap();
    source.assert_held(home.store());
}

#[test]
fn existing_content_is_kept_and_other_content_refused() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 8);
    let target = home.target("m");
    fs::create_dir_all(home.out("")).unwrap();
    fs::write(home.out("m"), &source.bytes).unwrap();
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(home.out("m"));
    for exec in [false, false, true] {
        let options = Options {
            exec,
            ..Options::default()
        };
        let download = source.begin(home.store(), &target, &options).unwrap();
        assert!(download.missing().is_empty());
        let finished = download.finish().unwrap();
        assert!(matches!(
            finished,
            Finished::File {
                place: Some(_),
                kept: true,
                ..
            }
        ));
        source.assert_held(home.store());
    }
    assert_eq!(inode(home.out("m")), before);

    fs::write(home.out("m"), b"mine").unwrap();
    let refused = source
        .begin(home.store(), &target, &Options::default())
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(
        refused
            .to_string()
            .contains(home.out("m").to_str().unwrap())
    );
    assert_eq!(names(&home.out("")), vec![home.out("m")]);
    let force = Options {
        force: true,
        ..Options::default()
    };
    let download = source.begin(home.store(), &target, &force).unwrap();
    source.deliver_all(&download, &mut random());
    assert_eq!(fs::read(home.out("m")).unwrap(), b"mine");
    download.finish().unwrap();
    assert_eq!(fs::read(home.out("m")).unwrap(), source.bytes);
}

#[test]
fn a_file_that_came_meanwhile_is_not_replaced() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 9);
    let target = home.target("m");
    let download = source
        .begin(home.store(), &target, &Options::default())
        .unwrap();
    source.deliver_all(&download, &mut random());
    fs::write(home.out("m"), b"mine").unwrap();
    assert!(matches!(
        download.finish(),
        Err(DownloadError::Exists { .. })
    ));
    assert_eq!(fs::read(home.out("m")).unwrap(), b"mine");
    drop(download);
    let force = Options {
        force: true,
        ..Options::default()
    };
    let download = source.begin(home.store(), &target, &force).unwrap();
    assert!(download.missing().is_empty(), "what was received is used");
    download.finish().unwrap();
    assert_eq!(fs::read(home.out("m")).unwrap(), source.bytes);
}

#[test]
fn nothing_is_written_through_links_or_outside_of_the_folder() {
    let home = Home::new();
    let source = Source::new(&[100], 1);
    let elsewhere = home.dir.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir_all(home.out("real")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.out("link")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("f"), home.out("real/f")).unwrap();
    fs::write(home.out("file"), b"x").unwrap();
    let begin = |path: &str, force| {
        let options = Options {
            force,
            ..Options::default()
        };
        source.begin(home.store(), &home.target(path), &options)
    };
    assert!(matches!(
        begin("link/a", true),
        Err(DownloadError::ThroughLink { .. })
    ));
    assert!(matches!(
        begin("link/b/a", true),
        Err(DownloadError::ThroughLink { .. })
    ));
    assert!(matches!(
        begin("file/a", true),
        Err(DownloadError::InTheWay { .. })
    ));
    assert!(matches!(
        begin("real", true),
        Err(DownloadError::InTheWay { .. })
    ));
    assert!(matches!(begin("../a", true), Err(DownloadError::Path(_))));
    assert!(matches!(begin("/a", true), Err(DownloadError::Path(_))));
    assert!(matches!(
        begin("real/f", false),
        Err(DownloadError::Exists { .. })
    ));
    let download = begin("real/f", true).unwrap();
    source.deliver_all(&download, &mut random());
    download.finish().unwrap();
    assert!(
        names(&elsewhere).is_empty(),
        "the link was replaced, not followed"
    );
    assert_eq!(fs::read(home.out("real/f")).unwrap(), source.bytes);
}

#[test]
fn links_are_written_inside_the_folder() {
    let home = Home::new();
    let root = home.out("");
    let write = |path: &str, target: &str, force| {
        write_link(home.store(), &root, path, target.as_bytes(), force)
    };
    assert_eq!(
        write("a/link", "../b", false).unwrap(),
        LinkWritten::Created
    );
    assert_eq!(write("a/link", "../b", false).unwrap(), LinkWritten::Kept);
    assert!(matches!(
        write("a/link", "b", false),
        Err(DownloadError::Exists { .. })
    ));
    assert_eq!(write("a/link", "b", true).unwrap(), LinkWritten::Created);
    assert_eq!(fs::read_link(home.out("a/link")).unwrap(), Path::new("b"));
    assert!(matches!(
        write("a/out", "../../b", true),
        Err(DownloadError::Link(_))
    ));
    assert!(matches!(
        write("a", "b", true),
        Err(DownloadError::InTheWay { .. })
    ));
}

#[test]
fn an_empty_file_is_a_file() {
    let home = Home::new();
    let source = Source::new(&[], 1);
    let download = source
        .begin(home.store(), &home.target("e"), &Options::default())
        .unwrap();
    assert!(download.missing().is_empty());
    download.finish().unwrap();
    assert_eq!(fs::read(home.out("e")).unwrap(), b"");
    let download = source
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    assert_eq!(download.finish().unwrap(), Finished::Held);
}

#[test]
fn layouts_with_gaps_or_outside_of_chunks_are_refused() {
    let home = Home::new();
    let source = Source::new(&[1000, 1000], 1);
    let segment = |chunk, range, offset| source.segment(chunk, range, offset);
    for segments in [
        vec![segment(0, 0..1000, 1)],
        vec![segment(1, 0..1001, 0)],
        vec![segment(1, 1000..1001, 0)],
        vec![segment(0, 0..500, 0), segment(1, 0..500, 400)],
        vec![segment(0, 0..500, 0), segment(1, 0..500, 0)],
    ] {
        let layout = Layout::parts(Vec::new(), segments);
        let (list, options) = (source.list.clone(), Options::default());
        let begun = Download::begin(home.store(), list, &layout, &home.target("m"), &options);
        assert!(matches!(begun, Err(DownloadError::Layout(_))));
    }
    let download = source
        .begin(home.store(), &home.target("m"), &Options::default())
        .unwrap();
    for (chunk, offset) in [(2, 0), (0, 1), (1, u32::MAX)] {
        let error = download.store(chunk, offset, &[0; 1000], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn many_threads_may_deliver_at_once() {
    for to_store in [true, false] {
        let home = Home::new();
        let source = Source::new(&[(1 << 20) + 5; 6], 11);
        let target = if to_store {
            Target::Store
        } else {
            home.target("m")
        };
        let download = source
            .begin(home.store(), &target, &Options::default())
            .unwrap();
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let (source, download) = (&source, &download);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(seed);
                    for (chunk, range) in source.pieces(download, &mut random) {
                        source.deliver(download, chunk, range).unwrap();
                    }
                });
            }
        });
        download.finish().unwrap();
        source.assert_held(home.store());
    }
}

#[test]
fn a_part_that_is_there_already_is_not_fetched_again() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 12);
    let runs = Runs::new(1000, 700, 3000, 1500).unwrap();
    let layout = || Layout::parts(Vec::new(), vec![Segment { runs, offset: 0 }]);
    let target = home.target("part");
    let begin = || {
        let (list, options) = (source.list.clone(), Options::default());
        Download::begin(home.store(), list, &layout(), &target, &options).unwrap()
    };
    let download = begin();
    assert_eq!(download.missing_bytes(), 700 * 1500);
    source.deliver_all(&download, &mut random());
    download.finish().unwrap();
    drop(download);
    let bytes = fs::read(home.out("part")).unwrap();
    let expected: Vec<u8> = runs
        .inside(runs.span())
        .flat_map(|part| part.range.of(&source.bytes).unwrap().to_vec())
        .collect();
    assert_eq!(bytes, expected);

    let again = begin();
    assert!(again.missing().is_empty());
    assert!(matches!(
        again.finish(),
        Ok(Finished::File { kept: true, .. })
    ));
    drop(again);
    // rewritten: the same bytes perhaps, but nobody knows
    fs::write(home.out("part"), &bytes).unwrap();
    let again = begin();
    assert_eq!(again.missing_bytes(), 700 * 1500);
    source.deliver_all(&again, &mut random());
    again.finish().unwrap();
    drop(again);
    assert!(begin().missing().is_empty());
    fs::remove_file(home.out("part")).unwrap();
    assert!(!begin().missing().is_empty());
    assert!(home.store().local_prefix("part/").unwrap().is_empty());
}

#[test]
fn what_is_missing_comes_in_rounds() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 13);
    let runs = Runs::new(0, 512, 4096, 1500).unwrap();
    let layout = Layout::parts(Vec::new(), vec![Segment { runs, offset: 0 }]);
    let (list, options) = (source.list.clone(), Options::default());
    let target = home.target("part");
    let download = Download::begin(home.store(), list, &layout, &target, &options).unwrap();
    let (mut rounds, all) = (0, download.missing());
    let mut came = Vec::new();
    loop {
        let some = download.missing_some(1);
        if some.is_empty() {
            break;
        }
        // a round ends with a chunk
        assert!(some.iter().all(|(chunk, _)| *chunk == some[0].0));
        for (chunk, range) in &some {
            source.deliver(&download, *chunk, range.clone()).unwrap();
        }
        came.extend(some);
        rounds += 1;
    }
    assert!(came == all);
    assert_eq!(rounds, LENGTHS.len());
    download.finish().unwrap();
}
