//! Scans of sketches beside scans of codes and exact ones.
//!
//! The loss that these prevent: near rows that a scan of codes finds and one of sketches leaves out, other bytes on another machine,
//! and a segment from elsewhere whose sketches lie.

use super::*;
use crate::limits::{SKETCH_DIM_MIN, SKETCH_VECTORS_MIN};
use crate::segment::SectionName;
use crate::vectors::{
    coder::Coder,
    sketch::{self, Bits},
};

const ROWS: usize = 4_000;

/// Queries of which recall is taken.
const QUERIES: usize = 100;

/// Changes the bytes of a section.
type Change = dyn Fn(&mut Vec<u8>);

/// Makes so many vectors of a seed.
type Make = fn(VectorParams, usize, u64) -> Vec<Vec<f32>>;

/// `count` vectors without any structure.
fn uniform(params: VectorParams, count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random(seed);
    let mut component = || match params.dtype {
        Dtype::U8 => (random.single() * 255.0).round(),
        _ => 2.0 * random.single() - 1.0,
    };
    (0..count)
        .map(|_| (0..params.dim.get()).map(|_| component()).collect())
        .collect()
}

/// A segment's bytes without a section, or with one of other bytes.
fn with_sketches(bytes: &[u8], to: Option<&Change>) -> Vec<u8> {
    let segment = SegmentFile::from_bytes(bytes.to_vec()).unwrap();
    let mut writer = SegmentWriter::new(Cursor::new(Vec::new())).unwrap();
    for info in segment.sections() {
        let mut section = segment.section(info.name).unwrap().to_vec();
        if info.name.kind() == SKETCH {
            let Some(to) = to else { continue };
            to(&mut section);
        }
        writer.section(info.name, &section).unwrap();
    }
    writer.finish().unwrap().1.into_inner()
}

/// Every third row, and what lies beyond the last.
fn third(rows: u32) -> RowSet {
    let mut filter = RowSet::empty(rows + 70);
    (0..rows + 70)
        .step_by(3)
        .for_each(|row| filter.insert(Row(row)));
    filter
}

#[test]
fn sketches_find_what_is_near_under_every_metric_and_dtype() {
    let mut failures = Vec::new();
    for (seed, dim, metric, dtype) in [
        (49, 40, Metric::Cosine, Dtype::F32),
        (50, 64, Metric::Dot, Dtype::F16),
        (51, 128, Metric::Cosine, Dtype::F32),
        (52, 130, Metric::Cosine, Dtype::U8),
        (53, 128, Metric::Dot, Dtype::F32),
        (54, 192, Metric::Dot, Dtype::F16),
        (55, 384, Metric::Euclid, Dtype::F16),
        (56, 140, Metric::Euclid, Dtype::U8),
        (63, 256, Metric::Dot, Dtype::F32),
    ] {
        let params = params(dim, metric, dtype);
        for (made, make) in [("clustered", vectors as Make), ("uniform", uniform)] {
            let mut queries = make(params, ROWS + QUERIES, seed);
            let stored = queries.split_off(QUERIES);
            let mut rows = rows(&params, &stored);
            rows.0[5] = None;
            rows.0[ROWS - 1] = None;
            let bytes = written(params, &rows, None);
            let part = opened(bytes.clone());
            assert_eq!(part.check().unwrap().recall, 1.0);
            let plain = opened(with_sketches(&bytes, None));
            let third = third(part.rows());
            for filter in [None, Some(&third)] {
                for (k, least) in [(1, 0.98), (10, 0.99), (100, 0.99)] {
                    let search = Search {
                        filter,
                        ..Search::nearest(k)
                    };
                    assert_eq!(part.plan(&search), Plan::Sketch);
                    assert_eq!(plain.plan(&search), Plan::Scan);
                    let recall = recall(&part, &queries, search);
                    if recall < least {
                        let filtered = filter.is_some();
                        failures.push(format!(
                            "{metric:?} {dtype:?} {made}, filtered {filtered}, {k}: {recall}"
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn rows_that_are_equally_near_come_by_row() {
    let params = params(128, Metric::Euclid, Dtype::F32);
    let mut stored = vectors(params, ROWS, 57);
    for copy in stored.iter_mut().skip(900).step_by(7) {
        copy.fill(0.5);
    }
    let part = opened(written(params, &rows(&params, &stored), None));
    let query = Query::new(params, &[0.5; 128]).unwrap();
    for k in [1, 10, 50] {
        assert_eq!(part.plan(&Search::nearest(k)), Plan::Sketch);
        let hits = part.search(&query, &Search::nearest(k));
        let found = hits.iter().map(|hit| hit.row.0);
        assert!(found.eq((900..).step_by(7).take(k)), "{k}");
    }
}

#[test]
fn a_threshold_and_more_rows_than_there_are_bound_what_is_found() {
    let params = params(128, Metric::Cosine, Dtype::F32);
    let stored = vectors(params, ROWS, 58);
    let part = opened(written(params, &rows(&params, &stored), None));
    let query = Query::new(params, &stored[7]).unwrap();
    let all = part.search(&query, &Search::nearest(usize::MAX));
    assert_eq!(all.len(), ROWS);
    let threshold = Some(all[20].score);
    let search = Search {
        threshold,
        ..Search::nearest(100)
    };
    assert_eq!(part.search(&query, &search), all[..21]);
}

#[test]
fn sketches_have_the_same_bytes_for_any_number_of_threads() {
    for (dim, columns, hash) in [
        (130, 2 * 24, "d0c3e978115357d5"),
        (300, 40, "81d38cd26123706d"),
    ] {
        let params = params(dim, Metric::Cosine, Dtype::F32);
        let rows = rows(&params, &vectors(params, ROWS + 1, 59));
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build()
                .unwrap()
                .install(|| written(params, &rows, None))
        });
        assert!(one == three);
        let segment = SegmentFile::from_bytes(one).unwrap();
        let section = segment.section(SectionName::new(SKETCH, 3)).unwrap();
        assert_eq!(section.len(), 126 * (256 + columns * 32), "blocks of 32");
        assert_eq!(blake3::hash(&section).to_hex()[..16], *hash, "{dim}");
    }
}

/// Segments of 128 to 255 components had one bit a component once.
#[test]
fn the_number_of_bits_is_that_of_the_section() {
    let params = params(130, Metric::Cosine, Dtype::F32);
    let stored = vectors(params, ROWS + 1, 59);
    let rows = rows(&params, &stored);
    let bytes = written(params, &rows, None);
    let coder = Coder::learn(params, rows.rows(), |row| rows.vector(Row(row)));
    let one_bit = move |section: &mut Vec<u8>| {
        let block = Bits::One.block_bytes(130);
        section.truncate(126 * block);
        for (first, block) in (0..).step_by(32).zip(section.chunks_exact_mut(block)) {
            sketch::encode(&coder, Bits::One, block, |slot| {
                rows.0.get((first + slot) as usize)?.as_deref()
            });
        }
        assert_eq!(blake3::hash(section).to_hex()[..16], *"1841892d7d9dbd84");
    };
    let part = opened(with_sketches(&bytes, Some(&one_bit)));
    assert_eq!(part.check().unwrap().recall, 1.0);
    let search = Search::nearest(10);
    assert_eq!(part.plan(&search), Plan::Sketch);
    assert!(recall(&part, &stored[..QUERIES], search) > 0.99);
}

#[test]
fn sketches_are_written_where_they_pay() {
    let has = |dim, metric, count| {
        let params = params(dim, metric, Dtype::U8);
        let stored = vectors(params, count, 60);
        let bytes = written(params, &rows(&params, &stored), None);
        let segment = SegmentFile::from_bytes(bytes).unwrap();
        segment.section(SectionName::new(SKETCH, 3)).is_some()
    };
    let dim = u32::try_from(SKETCH_DIM_MIN).unwrap();
    let least = SKETCH_VECTORS_MIN as usize;
    assert!(has(dim, Metric::Dot, least));
    assert!(!has(dim - 1, Metric::Dot, least));
    assert!(!has(dim, Metric::Dot, least - 1));
    assert!(
        !has(dim, Metric::Manhattan, least),
        "no product says differences"
    );
}

#[test]
fn sketches_of_others_are_held_against_the_vectors_and_harm_no_search() {
    let params = params(128, Metric::Dot, Dtype::F32);
    let stored = vectors(params, ROWS + 3, 61);
    let bytes = written(params, &rows(&params, &stored), None);
    for to in [
        &(|section: &mut Vec<u8>| section.truncate(section.len() - 1)) as &Change,
        &|section| section.push(0),
        &|section| section.clear(),
        &|section| section.truncate(section.len() - Bits::Two.block_bytes(128)),
        &|section| section.resize(section.len() + Bits::Two.block_bytes(128), 0),
    ] {
        let segment = SegmentFile::from_bytes(with_sketches(&bytes, Some(to))).unwrap();
        let damaged = VectorPart::open(&segment, 3);
        assert!(matches!(
            damaged,
            Err(OpenVectorsError::Damaged { kind: SKETCH, .. })
        ));
    }
    let query = Query::new(params, &stored[0]).unwrap();
    for byte in [0x00, 0x7f, 0x80, 0xff] {
        let lies = move |section: &mut Vec<u8>| section.fill(byte);
        let part = opened(with_sketches(&bytes, Some(&lies)));
        let search = Search::nearest(10);
        assert_eq!(part.plan(&search), Plan::Sketch);
        let hits = part.search(&query, &search);
        assert!(hits.iter().all(|hit| hit.row.0 < part.rows()));
        let first = CheckVectorsError::Sketch { row: Row(0) };
        assert_eq!(part.check(), Err(first), "{byte:#x}");
    }
    // A sign of the last row.
    let part = opened(with_sketches(
        &bytes,
        Some(&|section| *section.last_mut().unwrap() ^= 1),
    ));
    let last = Row(part.rows() / 32 * 32);
    assert_eq!(part.check(), Err(CheckVectorsError::Sketch { row: last }));
}

#[test]
fn numbers_of_rows_that_sketches_are_not_of_are_refused() {
    let params = params(128, Metric::Euclid, Dtype::F32);
    let bytes = written(params, &rows(&params, &vectors(params, 1_056, 62)), None);
    let at = |kind| {
        let segment = SegmentFile::from_bytes(bytes.clone()).unwrap();
        let section = segment.section_info(SectionName::new(kind, 3)).unwrap();
        section.range.start
    };
    let open = |start: usize, to: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[start..start + to.len()].copy_from_slice(to);
        VectorPart::open(&SegmentFile::from_bytes(bytes).unwrap(), 3)
    };
    for rows in [0, 1, 1_024, 1_055, 1_057, 1_088, 1 << 31, u32::MAX] {
        assert!(open(at(PARAMS) + 8, &rows.to_le_bytes()).is_err(), "{rows}");
    }
    for dim in [0u32, 1, 64, 129, 192, 256, 65_536, u32::MAX] {
        assert!(open(at(PARAMS), &dim.to_le_bytes()).is_err(), "{dim}");
    }
    assert!(
        matches!(
            open(at(PARAMS) + 4, &[4]),
            Err(OpenVectorsError::Damaged { kind: SKETCH, .. })
        ),
        "Manhattan has none"
    );
}
