//! Segments of vectors from the outside: what is written is found, whatever the metric, filter and number of threads.

use std::{collections::HashSet, io::Cursor};

use super::*;
use crate::{
    limits::GRAPH_ROWS_MIN,
    params::{Dim, Dtype, Metric, VectorParams},
    rows::{Row, RowSet},
    segment::{SegmentFile, SegmentWriter},
};

mod builders;
mod order;
mod sketch;

/// Uniform numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn single(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// About normal.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.single()).sum::<f32>() - 3.0
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

struct Rows(Vec<Option<Vec<u8>>>);

impl VectorSource for Rows {
    fn rows(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn vector(&self, row: Row) -> Option<&[u8]> {
        self.0[row.index()].as_deref()
    }

    fn hash(&self, row: Row) -> u64 {
        mix(u64::from(row.0) + 77)
    }
}

/// `count` clustered vectors; under U8 whole numbers from 0 to 255.
fn vectors(params: VectorParams, count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random(seed);
    let dim = params.dim.get();
    let centres: Vec<Vec<f32>> = (0..40)
        .map(|_| (0..dim).map(|_| random.normal()).collect())
        .collect();
    (0..count)
        .map(|_| {
            let centre = &centres[usize::try_from(random.next() % 40).unwrap()];
            let vector = centre.iter().map(|c| c + 0.6 * random.normal());
            match params.dtype {
                Dtype::U8 => vector
                    .map(|x| (128.0 + 30.0 * x).round().clamp(0.0, 255.0))
                    .collect(),
                _ => vector.collect(),
            }
        })
        .collect()
}

fn params(dim: u32, metric: Metric, dtype: Dtype) -> VectorParams {
    VectorParams {
        dim: Dim::new(dim).unwrap(),
        metric,
        dtype,
    }
}

fn rows(params: &VectorParams, vectors: &[Vec<f32>]) -> Rows {
    Rows(
        vectors
            .iter()
            .map(|v| Some(encode(params, v).unwrap()))
            .collect(),
    )
}

fn written(params: VectorParams, rows: &Rows, builder: Option<&dyn GraphBuilder>) -> Vec<u8> {
    let mut writer = SegmentWriter::new(Cursor::new(Vec::new())).unwrap();
    let linked = builder.and_then(|builder| Linked::build(params, rows, builder).unwrap());
    write_vectors(&mut writer, 3, params, rows, linked.as_ref()).unwrap();
    writer.finish().unwrap().1.into_inner()
}

fn opened(bytes: Vec<u8>) -> VectorPart {
    VectorPart::open(&SegmentFile::from_bytes(bytes).unwrap(), 3).unwrap()
}

/// The part of the true nearest rows that was found.
fn recall(part: &VectorPart, queries: &[Vec<f32>], search: Search<'_>) -> f64 {
    let mut found = 0;
    let mut wanted = 0;
    for query in queries {
        let query = Query::new(part.params(), query).unwrap();
        let exact = part.search(
            &query,
            &Search {
                exact: true,
                ..search
            },
        );
        let hits = part.search(&query, &search);
        assert_eq!(hits.len(), exact.len(), "finds as many as there are");
        let truth: HashSet<_> = exact.iter().map(|hit| hit.row).collect();
        assert!(hits.is_sorted_by(|a, b| {
            if part.params().metric.higher_is_nearer() {
                a.score >= b.score
            } else {
                a.score <= b.score
            }
        }));
        wanted += truth.len();
        found += hits.iter().filter(|hit| truth.contains(&hit.row)).count();
    }
    found as f64 / wanted as f64
}

/// Rows of segments with a graph.
const BIG: usize = 2_000;

fn builder() -> BatchBuilder {
    BatchBuilder::default().from_rows(1_500)
}

#[test]
fn a_graph_finds_the_nearest_under_every_metric_and_dtype() {
    for metric in [
        Metric::Cosine,
        Metric::Dot,
        Metric::Euclid,
        Metric::Manhattan,
    ] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::U8] {
            let params = params(24, metric, dtype);
            let vectors = vectors(params, 4 * BIG + 40, 1);
            let (queries, stored) = vectors.split_at(40);
            let part = opened(written(params, &rows(&params, stored), Some(&builder())));
            assert!(part.has_graph());
            let search = Search {
                breadth: 128,
                ..Search::nearest(10)
            };
            assert_eq!(part.plan(&search), Plan::Graph);
            let recall = recall(&part, queries, search);
            assert!(recall > 0.95, "{metric:?} {dtype:?}: {recall}");
        }
    }
}

#[test]
fn a_scan_finds_the_nearest_under_every_metric_and_dtype() {
    for metric in [
        Metric::Cosine,
        Metric::Dot,
        Metric::Euclid,
        Metric::Manhattan,
    ] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::U8] {
            let params = params(24, metric, dtype);
            let vectors = vectors(params, 1_000, 2);
            let (queries, stored) = vectors.split_at(40);
            let part = opened(written(params, &rows(&params, stored), Some(&builder())));
            assert!(!part.has_graph(), "too few rows for a graph");
            let recall = recall(&part, queries, Search::nearest(10));
            assert!(recall > 0.995, "{metric:?} {dtype:?}: {recall}");
            let blocks: Vec<LiveRows> = stored
                .chunks(150)
                .map(|vectors| live(params, vectors))
                .collect();
            let blocks = LiveBlocks::new((0..).step_by(150).zip(&blocks));
            let whole = live(params, stored);
            let whole = LiveBlocks::new([(0, &whole)]);
            let mut odd = RowSet::empty(960);
            (1..960).step_by(2).for_each(|row| odd.insert(Row(row)));
            for query in queries {
                let query = Query::new(params, query).unwrap();
                for filter in [None, Some(&odd)] {
                    let search = Search {
                        filter,
                        ..Search::nearest(10)
                    };
                    let found = blocks.search(&query, &search);
                    assert_eq!(found, whole.search(&query, &search));
                    assert!(
                        found
                            .iter()
                            .all(|hit| filter.is_none() || hit.row.0 % 2 == 1)
                    );
                    let exact = Search {
                        exact: true,
                        ..search
                    };
                    assert_eq!(blocks.search(&query, &exact), part.search(&query, &exact));
                }
            }
        }
    }
}

/// Codes of rows that have not become a segment only choose what is left out.
#[test]
fn a_search_of_vectors_in_memory_is_exact() {
    type Shape = fn(f32, &mut Random) -> f32;
    let shapes: [(&str, Shape); 5] = [
        ("clustered", |x, _| x),
        ("far from zero", |x, _| x + 500.0),
        ("all but equal", |x, random| {
            1.0 + (x + random.single()) / 1e4
        }),
        ("tiny", |x, _| x * 1e-20),
        ("huge", |x, _| x * 1e14),
    ];
    let mut random = Random(11);
    for metric in [
        Metric::Cosine,
        Metric::Dot,
        Metric::Euclid,
        Metric::Manhattan,
    ] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::U8] {
            for (name, shape) in &shapes[..if dtype == Dtype::F32 { 5 } else { 1 }] {
                let params = params(48, metric, dtype);
                let mut vectors = vectors(params, 1_240, 4);
                vectors
                    .iter_mut()
                    .flatten()
                    .for_each(|x| *x = shape(*x, &mut random));
                // Equally near ones come by row.
                let twins = vectors[40..100].to_vec();
                vectors[1_140..1_200].clone_from_slice(&twins);
                let (queries, stored) = vectors.split_at(40);
                let blocks: Vec<_> = stored.chunks(256).map(|rows| live(params, rows)).collect();
                let blocks = LiveBlocks::new((0..).step_by(256).zip(&blocks));
                for query in queries.iter().chain(&stored[..20]) {
                    let query = Query::new(params, query).unwrap();
                    for k in [1, 10, 300] {
                        let [codes, exact] = [false, true].map(|exact| {
                            let search = Search {
                                exact,
                                ..Search::nearest(k)
                            };
                            blocks.search(&query, &search)
                        });
                        assert_eq!(codes, exact, "{metric:?} {dtype:?}, {name}");
                    }
                }
            }
        }
    }
}

fn live(params: VectorParams, vectors: &[Vec<f32>]) -> LiveRows {
    let mut rows = LiveRows::new(params);
    for vector in vectors {
        rows.push(Some(&encode(&params, vector).unwrap()));
    }
    rows
}

#[test]
fn a_segment_has_the_same_bytes_for_any_number_of_threads() {
    let params = params(16, Metric::Euclid, Dtype::F32);
    let rows = rows(&params, &vectors(params, BIG, 3));
    let [one, three] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| written(params, &rows, Some(&builder())))
    });
    assert!(one == three);
}

#[test]
fn every_point_finds_itself() {
    let params = params(12, Metric::Euclid, Dtype::F32);
    let mut vectors = vectors(params, 6 * BIG, 4);
    // Many equal vectors, more than a point has links, far from all others.
    for copy in &mut vectors[100..300] {
        copy.fill(40.0);
    }
    let part = opened(written(params, &rows(&params, &vectors), Some(&builder())));
    let mut lost = 0;
    for (row, vector) in (0..).zip(&vectors) {
        let query = Query::new(params, vector).unwrap();
        let (k, breadth) = if (100..300).contains(&row) {
            (200, 210)
        } else {
            (1, 64)
        };
        let hits = part.search(
            &query,
            &Search {
                breadth,
                ..Search::nearest(k)
            },
        );
        lost += usize::from(!hits.iter().any(|hit| hit.row == Row(row)));
    }
    assert_eq!(lost, 0);
}

#[test]
fn filters_of_every_selectivity_keep_recall_and_give_k_rows() {
    let params = params(16, Metric::Cosine, Dtype::F32);
    let vectors = vectors(params, 8 * BIG, 5);
    let part = opened(written(params, &rows(&params, &vectors), Some(&builder())));
    let queries = &vectors[..30];
    let mut plans = HashSet::new();
    for share in [0.9, 0.5, 0.1, 0.01, 0.001, 0.0001] {
        let mut random = Random(6);
        let mut filter = RowSet::empty(part.rows());
        for row in 0..part.rows() {
            if f64::from(random.single()) < share {
                filter.insert(Row(row));
            }
        }
        let search = Search {
            filter: Some(&filter),
            breadth: 100,
            ..Search::nearest(10)
        };
        plans.insert(part.plan(&search));
        let recall = recall(&part, queries, search);
        assert!(recall > 0.97, "{share}: {recall}");
        for query in queries {
            let query = Query::new(params, query).unwrap();
            assert!(
                part.search(&query, &search)
                    .iter()
                    .all(|hit| filter.contains(hit.row))
            );
        }
    }
    assert_eq!(plans, HashSet::from([Plan::Scan, Plan::Graph]));
}

#[test]
fn a_built_segment_passes_the_check_of_an_import() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::U8] {
        let params = params(20, Metric::Cosine, dtype);
        let mut rows = rows(&params, &vectors(params, BIG, 8));
        rows.0[17] = None;
        let part = opened(written(params, &rows, Some(&builder())));
        assert_eq!(
            (part.vectors(), part.vector(Row(17))),
            (part.rows() - 1, None)
        );
        let checked = part.check().unwrap();
        assert!(checked.recall > 0.9, "{dtype:?}: {}", checked.recall);
    }
}

/// A segment with a graph, in which a byte of a section is changed.
fn changed(kind: &str, at: usize, to: impl Fn(u8) -> u8) -> Result<VectorPart, OpenVectorsError> {
    let params = params(20, Metric::Cosine, Dtype::F32);
    let mut bytes = written(
        params,
        &rows(&params, &vectors(params, BIG, 9)),
        Some(&builder()),
    );
    let segment = SegmentFile::from_bytes(bytes.clone()).unwrap();
    let section = segment
        .section_info(crate::segment::SectionName::new(kind, 3))
        .unwrap();
    bytes[section.range.start + at] = to(bytes[section.range.start + at]);
    VectorPart::open(&SegmentFile::from_bytes(bytes).unwrap(), 3)
}

#[test]
fn an_import_finds_what_no_builder_wrote() {
    let first = |part: VectorPart| part.check().unwrap_err();
    // Records of 20 components: the code, then scale, bias, sum, number of links, links.
    let code = changed(CODES, 3, |byte| byte ^ 1).unwrap();
    assert_eq!(first(code), CheckVectorsError::Code { row: Row(0) });
    let count = changed(CODES, 64 + 12, |_| 200).unwrap();
    assert_eq!(first(count), CheckVectorsError::Link { row: Row(0) });
    let link = changed(CODES, 64 + 16 + 3, |_| 0x7f).unwrap();
    let query = Query::new(link.params(), &[1.0; 20]).unwrap();
    assert_eq!(
        link.search(&query, &Search::nearest(5)).len(),
        5,
        "a link to nowhere is not followed"
    );
    assert_eq!(first(link), CheckVectorsError::Link { row: Row(0) });
    let vector = changed(VECTORS, 3, |byte| byte ^ 0x40).unwrap();
    assert_eq!(first(vector), CheckVectorsError::Vector { row: Row(0) });
    let absent = changed(PARAMS, 12, |byte| byte - 1).unwrap();
    assert!(matches!(first(absent), CheckVectorsError::Count { .. }));
}

#[test]
fn a_graph_that_leads_nowhere_is_told_by_its_recall() {
    let params = params(20, Metric::Euclid, Dtype::F32);
    let mut bytes = written(
        params,
        &rows(&params, &vectors(params, BIG, 10)),
        Some(&builder()),
    );
    let segment = SegmentFile::from_bytes(bytes.clone()).unwrap();
    let section = segment
        .section_info(crate::segment::SectionName::new(CODES, 3))
        .unwrap();
    // Rows are linked to those that come after them, whatever their vectors are.
    let stride = section.range.len() / BIG;
    for (row, record) in bytes[section.range.clone()]
        .chunks_exact_mut(stride)
        .enumerate()
    {
        record[64 + 12..64 + 16].copy_from_slice(&3u32.to_le_bytes());
        for (link, bytes) in record[64 + 16..64 + 28]
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .enumerate()
        {
            *bytes = u32::try_from((row + 1 + link) % BIG).unwrap().to_le_bytes();
        }
    }
    let checked = opened(bytes).check().unwrap();
    assert!(checked.recall < 0.7, "{}", checked.recall);
}

#[test]
fn parameters_that_contradict_the_sections_are_refused() {
    for (at, to) in [
        (0, 21),
        (4, 0),
        (4, 5),
        (5, 0),
        (6, 9),
        (8, 1),
        (16, 30),
        (16, 31),
        (16, 0),
        (23, 0x7f),
        (28, 1),
    ] {
        assert!(changed(PARAMS, at, |_| to).is_err(), "byte {at} as {to}");
    }
}

#[test]
fn a_graph_is_built_from_the_least_number_of_rows_on() {
    let params = params(8, Metric::Dot, Dtype::F32);
    let least = GRAPH_ROWS_MIN as usize;
    let vectors = vectors(params, least, 11);
    for (count, has) in [(least - 1, false), (least, true)] {
        let rows = rows(&params, &vectors[..count]);
        let part = opened(written(params, &rows, Some(&BatchBuilder::new(4, 8))));
        assert_eq!(part.has_graph(), has, "{count} rows");
    }
}
