//! Random files, layouts, orders of arrival and interruptions, against the bytes that must come out.

#![allow(clippy::cast_possible_truncation)]

use std::fs;

use bytes::Bytes;

use super::*;

/// A file made of a header, random ranges of chunks and random columns, and what it must be.
fn random_layout(source: &Source, random: &mut StdRng) -> (Layout, Vec<u8>) {
    let header = vec![b'h'; random.random_range(0..3000)];
    let mut bytes = header.clone();
    let mut segments = Vec::new();
    for _ in 0..random.random_range(1..8) {
        let offset = bytes.len() as u64;
        if random.random_bool(0.4) {
            let size = source.bytes.len() as u64;
            let step = random.random_range(1..=size.min(70_000));
            let len = random.random_range(1..=step);
            let start = random.random_range(0..=size - step);
            let count = random.random_range(1..=((size - start) / step).min(2000));
            let runs = Runs::new(start, len, step, count).unwrap();
            for part in runs.inside(runs.span()) {
                bytes.extend_from_slice(part.range.of(&source.bytes).unwrap());
            }
            segments.push(Segment { runs, offset });
            continue;
        }
        let chunk = random.random_range(0..source.list.len() as u32);
        let len = source.list.lengths[chunk as usize];
        let start = random.random_range(0..len);
        let range = match random.random_range(0..3) {
            0 => 0..len,
            1 => start..random.random_range(start + 1..=len),
            _ => start..(start + 3000).min(len),
        };
        bytes.extend_from_slice(&source.chunk(chunk)[range.start as usize..range.end as usize]);
        segments.push(source.segment(chunk, range, offset));
    }
    (
        Layout::parts(vec![(0, Bytes::from(header))], segments),
        bytes,
    )
}

#[test]
fn random_layouts_in_random_order_with_interruptions_end_with_the_right_bytes() {
    let first: u64 = rand::random();
    for round in 0..40 {
        let seed = first.wrapping_add(round);
        // shown when the test fails
        #[allow(clippy::print_stderr)]
        {
            eprintln!("seed {seed}");
        }
        let mut random = StdRng::seed_from_u64(seed);
        let mut home = Home::new();
        let lengths: Vec<u32> = (0..random.random_range(1..6))
            .map(|_| random.random_range(1..3 << 20))
            .collect();
        let mut source = Source::new(&lengths, seed);
        if random.random_bool(0.3) {
            // content that comes twice
            let bytes = [&source.bytes[..], source.chunk(0)].concat();
            source = Source::of(bytes, &[&lengths[..], &lengths[..1]].concat());
        }
        let (layout, expected) = match random.random_range(0..3) {
            0 => (Layout::whole(&source.list), source.bytes.clone()),
            _ => random_layout(&source, &mut random),
        };
        let whole = layout == Layout::whole(&source.list);
        let target = if whole && random.random_bool(0.5) {
            Target::Store
        } else {
            home.target("x/m")
        };
        if random.random_bool(0.3) {
            // some of it is held
            let chunk = random.random_range(0..source.list.len() as u32);
            let mut pack = home.store().pack_writer();
            let (hash, pairs) = outboard::compute(source.chunk(chunk));
            pack.add(hash, source.chunk(chunk), &pairs).unwrap();
            pack.seal().unwrap();
        }
        for attempt in 0.. {
            let options = Options::default();
            let list = source.list.clone();
            let download = Download::begin(home.store(), list, &layout, &target, &options).unwrap();
            if random.random_bool(0.5) {
                download.fill_local().unwrap();
            }
            let pieces = source.pieces(&download, &mut random);
            let stop = random.random_range(0..=pieces.len());
            let last = attempt > 2 || stop == pieces.len();
            let some = if last { pieces.len() } else { stop };
            for (chunk, range) in &pieces[..some] {
                source.deliver(&download, *chunk, range.clone()).unwrap();
                if random.random_bool(0.1) {
                    source.deliver(&download, *chunk, range.clone()).unwrap();
                }
            }
            if last {
                assert_eq!(download.done_bytes(), download.wanted_bytes());
                download.finish().unwrap();
                break;
            }
            drop(download);
            if random.random_bool(0.5) {
                home.reopen();
            }
        }
        if whole {
            source.assert_held(home.store());
        }
        if target != Target::Store {
            assert_eq!(fs::read(home.out("x/m")).unwrap(), expected);
            assert_eq!(names(&home.out("x")).len(), 1);
        }
        assert!(home.partial().is_empty(), "{:?}", home.partial());
    }
}
