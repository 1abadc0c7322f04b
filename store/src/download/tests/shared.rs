//! Bytes that are there already, or come once for several files.

use super::*;

#[test]
fn small_files_share_a_pack() {
    let home = Home::new();
    let options = Options {
        packs: Some(Packs::new(home.store())),
        ..Options::default()
    };
    let sources = [1, 2, 3].map(|seed| Source::new(&[20_000, 30, 400_000], seed));
    for source in &sources {
        let download = source
            .begin(home.store(), &Target::Store, &options)
            .unwrap();
        source.deliver_all(&download, &mut random());
        assert_eq!(download.finish().unwrap(), Finished::Packs);
    }
    options.packs.unwrap().seal().unwrap();
    sources
        .iter()
        .for_each(|source| source.assert_held(home.store()));
    let packs: Vec<_> = home
        .store()
        .index()
        .places(&sources[0].list.hashes[0])
        .unwrap()
        .into_iter()
        .chain(
            home.store()
                .index()
                .places(&sources[2].list.hashes[2])
                .unwrap(),
        )
        .map(|place| place.container)
        .collect();
    assert_eq!(packs[0], packs[1]);
}

#[test]
fn a_file_that_is_mostly_held_takes_room_for_its_new_chunks_alone() {
    let home = Home::new();
    let old = Source::new(&[3 << 20, 3 << 20, 20_000], 1);
    let download = old
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    old.deliver_all(&download, &mut random());
    download.finish().unwrap();
    drop(download);
    let mut bytes = old.bytes.clone();
    bytes.extend_from_slice(b"one more tensor");
    let new = Source::of(bytes, &[3 << 20, 3 << 20, 20_000, 15]);
    let download = new
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    assert_eq!(download.missing(), vec![(3, 0..15)]);
    new.deliver_all(&download, &mut random());
    assert_eq!(download.finish().unwrap(), Finished::Packs);
    new.assert_held(home.store());
    let again = new
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    assert_eq!(again.finish().unwrap(), Finished::Held);
}

#[test]
fn what_is_held_is_never_asked_for() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 1);
    let download = source
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    source.deliver_all(&download, &mut random());
    download.finish().unwrap();
    drop(download);
    let again = source
        .begin(home.store(), &Target::Store, &Options::default())
        .unwrap();
    assert!(again.missing().is_empty());
    assert_eq!(again.finish().unwrap(), Finished::Held);

    let target = home.target("a/b/model.safetensors");
    let download = source
        .begin(home.store(), &target, &Options::default())
        .unwrap();
    assert_eq!(download.fill_local().unwrap(), source.list.size());
    assert!(download.missing().is_empty());
    let finished = download.finish().unwrap();
    assert!(matches!(
        finished,
        Finished::File {
            place: Some(_),
            kept: false,
            ..
        }
    ));
    assert_eq!(
        fs::read(home.out("a/b/model.safetensors")).unwrap(),
        source.bytes
    );
}

#[test]
fn content_that_comes_twice_is_fetched_once() {
    let home = Home::new();
    let twice = Source::new(&[2 << 20], 1).bytes;
    let bytes = [&twice[..], &twice[..], &[7; 1 << 20], &twice[..]].concat();
    let source = Source::of(bytes, &[2 << 20, 2 << 20, 1 << 20, 2 << 20]);
    let download = source
        .begin(home.store(), &home.target("m"), &Options::default())
        .unwrap();
    assert_eq!(download.missing(), vec![(0, 0..2 << 20), (2, 0..1 << 20)]);
    source.deliver_all(&download, &mut random());
    download.finish().unwrap();
    assert_eq!(fs::read(home.out("m")).unwrap(), source.bytes);
    source.assert_held(home.store());
}

#[test]
fn equal_files_and_chunks_of_one_pull_are_fetched_once() {
    for to_store in [true, false] {
        let home = Home::new();
        let options = Options {
            packs: Some(Packs::new(home.store())),
            ..Options::default()
        };
        let first = Source::new(&LENGTHS, 1);
        let mut bytes = first.bytes.clone();
        bytes.extend_from_slice(&[9; 3000]);
        let grown = Source::of(bytes, &[&LENGTHS[..], &[3000]].concat());
        let small = Source::new(&[5000], 2);
        let empty = Source::new(&[], 0);
        let sources = [&first, &first, &grown, &small, &small, &empty, &empty];
        let downloads = [0, 1, 2, 3, 4, 5, 6].map(|number: usize| {
            let target = home.target(&format!("d/{number}"));
            let target = if to_store { Target::Store } else { target };
            sources[number]
                .begin(home.store(), &target, &options)
                .unwrap()
        });
        assert!(downloads[1].missing().is_empty());
        assert_eq!(downloads[2].missing(), vec![(5, 0..3000)]);
        for number in [4, 2, 0, 3] {
            sources[number].deliver_all(&downloads[number], &mut random());
        }
        for (number, download) in downloads.iter().enumerate() {
            download.finish().unwrap();
            if !to_store {
                let path = home.out(&format!("d/{number}"));
                assert_eq!(fs::read(path).unwrap(), sources[number].bytes);
            }
        }
        options.packs.as_ref().unwrap().seal().unwrap();
        sources
            .iter()
            .for_each(|source| source.assert_held(home.store()));
    }
}

#[test]
fn what_was_left_to_a_download_that_failed_is_missing() {
    for to_store in [true, false] {
        let home = Home::new();
        let options = Options {
            packs: Some(Packs::new(home.store())),
            ..Options::default()
        };
        let source = Source::new(&LENGTHS, 1);
        let [first, second] = ["a", "b"].map(|path| {
            let target = if to_store {
                Target::Store
            } else {
                home.target(path)
            };
            source.begin(home.store(), &target, &options).unwrap()
        });
        assert!(second.missing().is_empty());
        drop(first);
        let incomplete = |done| match done {
            Err(DownloadError::Incomplete { bytes, .. }) => bytes == source.list.size(),
            _ => false,
        };
        if to_store {
            second.finish().unwrap();
            assert!(incomplete(options.packs.unwrap().seal()));
        } else {
            assert!(incomplete(second.finish().map(|_| ())));
            source.deliver_all(&second, &mut random());
            second.finish().unwrap();
            source.assert_held(home.store());
        }
    }
}

#[test]
fn the_store_takes_some_chunks_of_a_file_but_no_parts_of_chunks() {
    let home = Home::new();
    let source = Source::new(&LENGTHS, 1);
    let segment = |chunk, range, offset| source.segment(chunk, range, offset);
    let begin = |segments| {
        let layout = Layout::parts(Vec::new(), segments);
        let (list, options) = (source.list.clone(), Options::default());
        Download::begin(home.store(), list, &layout, &Target::Store, &options)
    };
    let some = vec![
        segment(2, 0..LENGTHS[2], 0),
        segment(4, 0..1 << 20, LENGTHS[2].into()),
    ];
    let download = begin(some).unwrap();
    assert_eq!(
        download.missing(),
        vec![(2, 0..LENGTHS[2]), (4, 0..1 << 20)]
    );
    source.deliver_all(&download, &mut random());
    assert_eq!(download.finish().unwrap(), Finished::Packs);
    assert!(home.store().holds(&source.list.hashes[2]).unwrap());
    assert!(home.store().holds(&source.list.hashes[4]).unwrap());
    assert!(!home.store().holds(&source.list.hashes[1]).unwrap());
    assert!(matches!(
        begin(vec![segment(1, 0..5, 0)]),
        Err(DownloadError::Layout(_))
    ));
}
