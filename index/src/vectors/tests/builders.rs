//! Lode's builder beside hnsw_rs on the same codes, with the same number of links and candidates.
//!
//! The loss that these prevent: a builder of our own whose graphs find less than those of the crate that it stands for, and
//! graphs of that crate with points that nothing leads to.

use std::sync::Mutex;

use super::*;
use crate::vectors::graph::repair;

/// Queries and rows of clustered vectors.
fn clustered(params: VectorParams, count: usize) -> (Vec<Vec<f32>>, Rows) {
    let mut vectors = vectors(params, count + 200, 21);
    let stored = vectors.split_off(200);
    let rows = rows(&params, &stored);
    (vectors, rows)
}

/// A segment whose graph one thread built: hnsw_rs builds another one each time with more.
fn alone(params: VectorParams, rows: &Rows, builder: &dyn GraphBuilder) -> Vec<u8> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(|| written(params, rows, Some(builder)))
}

#[test]
fn lodes_builder_finds_what_hnsw_rs_finds_at_equal_breadth() {
    let params = params(31, Metric::Cosine, Dtype::F32);
    let (queries, rows) = clustered(params, 2 * BIG);
    let ours = BatchBuilder::new(16, 100).from_rows(1);
    let theirs = HnswRsBuilder::new(16, 100).from_rows(1);
    let ours = opened(alone(params, &rows, &ours));
    let theirs = opened(alone(params, &rows, &theirs));
    let found = [16, 32, 64].map(|breadth| {
        let search = Search {
            breadth,
            ..Search::nearest(10)
        };
        assert_eq!(ours.plan(&search), Plan::Graph);
        [&ours, &theirs].map(|part| recall(part, &queries, search))
    });
    let as_good = |[ours, theirs]: &[f64; 2]| *theirs > 0.9 && *ours > theirs - 0.02;
    assert!(found.iter().all(as_good), "{found:?}");
}

#[test]
fn a_graph_of_hnsw_rs_serves_every_metric_and_passes_the_check_of_an_import() {
    for metric in [
        Metric::Cosine,
        Metric::Dot,
        Metric::Euclid,
        Metric::Manhattan,
    ] {
        let params = params(24, metric, Dtype::F32);
        let (queries, rows) = clustered(params, BIG);
        let builder = HnswRsBuilder::default().from_rows(1);
        let part = opened(written(params, &rows, Some(&builder)));
        let search = Search {
            breadth: 32,
            ..Search::nearest(10)
        };
        assert_eq!(part.plan(&search), Plan::Graph);
        let recall = recall(&part, &queries, search);
        assert!(recall > 0.95, "{metric:?}: {recall}");
        assert!(part.check().unwrap().recall > 0.9);
    }
}

#[test]
fn one_thread_gives_hnsw_rs_the_same_graph_twice() {
    let params = params(16, Metric::Cosine, Dtype::F32);
    let (_, rows) = clustered(params, BIG / 2);
    let builder = HnswRsBuilder::default().from_rows(1);
    assert!(alone(params, &rows, &builder) == alone(params, &rows, &builder));
}

/// Counts the points that nothing leads to, before and after they are linked.
#[derive(Debug)]
struct Orphans(HnswRsBuilder, Mutex<[usize; 2]>);

impl GraphBuilder for Orphans {
    fn links(&self) -> usize {
        self.0.links()
    }

    fn rows_min(&self) -> u32 {
        1
    }

    fn build(&self, codes: &Codes<'_>) -> Graph {
        let graph = self.0.build(codes);
        let mut repaired = graph.clone();
        let lost = repair(&mut repaired, codes);
        *self.1.lock().unwrap() = [lost, repair(&mut repaired, codes)];
        graph
    }
}

#[test]
fn every_point_of_a_graph_of_hnsw_rs_is_reached_once_it_is_copied() {
    let params = params(12, Metric::Euclid, Dtype::F32);
    let mut vectors = vectors(params, BIG, 22);
    // Links back to equal vectors push one another out.
    for copy in &mut vectors[100..300] {
        copy.fill(40.0);
    }
    let rows = rows(&params, &vectors);
    let builder = Orphans(HnswRsBuilder::new(4, 16), Mutex::default());
    drop(alone(params, &rows, &builder));
    let [before, after] = *builder.1.lock().unwrap();
    assert!(before > 0, "the data should be such that points get lost");
    assert_eq!(after, 0);
}
