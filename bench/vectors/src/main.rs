//! Builds and searches an index for `bench/vectors.py`, which feeds it commands and reads JSON lines.
//!
//! usage: lode-bench-vectors ENGINE METRIC DIM BASE QUERIES TRUTH FILE [THREADS]
//!
//! BASE and QUERIES are rows of singles, TRUTH rows of 32-bit ranks of the ten nearest. Commands on standard input:
//! `search BREADTH`, `filter BREADTH SHARE TRUTH`, `open`. Answers have recall and CPU seconds of all queries.

use std::{
    fs::File,
    hint::black_box,
    io::{BufRead, Write},
    path::Path,
    time::Instant,
};

use hnsw_rs::prelude::{AnnT, DistDot, DistL2, Hnsw};
use lode_bench_vectors::{
    Failure, chosen, cpu, encoded, params, peak_mib, ranks, segment, singles,
};
use lode_index::{
    Row, RowSet, VectorParams,
    segment::SegmentFile,
    vectors::{BatchBuilder, GraphBuilder, HnswRsBuilder, Query, Search, VectorPart},
};
use serde_json::{Value, json};

/// Neighbours that are searched for.
const K: usize = 10;

/// What can be searched.
enum Index {
    /// With which vector each row is.
    Lode(VectorPart, Vec<u32>),
    HnswDot(Hnsw<'static, f32, DistDot>),
    HnswL2(Hnsw<'static, f32, DistL2>),
}

impl Index {
    /// The ranks that a search gives.
    fn search(&self, query: &[f32], breadth: usize, filter: Option<&RowSet>) -> Vec<u32> {
        match self {
            Self::Lode(part, order) => {
                let query = Query::new(part.params(), query).expect("a query of the data");
                let search = Search {
                    breadth,
                    filter,
                    ..Search::nearest(K)
                };
                let hits = part.search(&query, &search);
                hits.iter().map(|hit| order[hit.row.index()]).collect()
            }
            Self::HnswDot(hnsw) => near(hnsw, query, breadth),
            Self::HnswL2(hnsw) => near(hnsw, query, breadth),
        }
    }
}

fn near(hnsw: &dyn AnnT<Val = f32>, query: &[f32], breadth: usize) -> Vec<u32> {
    let found = hnsw.search_neighbours(query, K, breadth);
    found.iter().map(|near| near.d_id as u32).collect()
}

fn build_lode(
    params: VectorParams,
    base: &[f32],
    builder: &dyn GraphBuilder,
    file: &str,
    threads: usize,
) -> Result<(Value, Index), Failure> {
    let bytes = encoded(params, base)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    let (start, wall) = (cpu(), Instant::now());
    let (segment, order) =
        pool.install(|| segment(params, &bytes, Some(builder), Path::new(file)))?;
    let (seconds, wall) = (cpu() - start, wall.elapsed().as_secs_f64());
    let stored: usize = segment
        .sections()
        .iter()
        .filter(|section| section.name.kind() == "vec-rows")
        .map(|section| section.range.len())
        .sum();
    let told = json!({
        "build_cpu_s": seconds,
        "build_wall_s": wall,
        "bytes": segment.len(),
        "graph_and_codes_bytes": segment.len() - stored,
    });
    Ok((told, Index::Lode(VectorPart::open(&segment, 0)?, order)))
}

fn build_hnsw<D>(base: &[f32], dim: usize, distance: D) -> (Value, Hnsw<'static, f32, D>)
where
    D: hnsw_rs::prelude::Distance<f32> + Send + Sync,
{
    let rows: Vec<Vec<f32>> = base.chunks_exact(dim).map(<[f32]>::to_vec).collect();
    let pairs: Vec<(&Vec<f32>, usize)> = rows.iter().zip(0..).collect();
    let (start, wall) = (cpu(), Instant::now());
    let mut hnsw = Hnsw::new(16, rows.len(), 16, 100, distance);
    hnsw.parallel_insert(&pairs);
    hnsw.set_searching_mode(true);
    let told =
        json!({ "build_cpu_s": cpu() - start, "build_wall_s": wall.elapsed().as_secs_f64() });
    (told, hnsw)
}

fn measure(
    index: &Index,
    queries: &[f32],
    dim: usize,
    breadth: usize,
    truth: &[u32],
    filter: Option<&RowSet>,
) -> Value {
    let start = cpu();
    let found: Vec<_> = queries
        .chunks_exact(dim)
        .map(|query| black_box(index.search(query, breadth, filter)))
        .collect();
    let seconds = cpu() - start;
    let right = |(found, truth): (&Vec<u32>, &[u32])| {
        truth.iter().filter(|rank| found.contains(rank)).count()
    };
    let hits: usize = found.iter().zip(truth.chunks_exact(K)).map(right).sum();
    json!({ "recall": hits as f64 / truth.len() as f64, "cpu_s": seconds, "queries": found.len() })
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, metric, dim, base, queries, truth, file, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: lode-bench-vectors ENGINE METRIC DIM BASE QUERIES TRUTH FILE [THREADS]".into(),
        );
    };
    let threads = rest.first().map_or(Ok(2), |threads| threads.parse())?;
    let dim: usize = dim.parse()?;
    let (queries, truth) = (singles(queries)?, ranks(truth)?);
    let (told, index) = {
        let base = singles(base)?;
        let params = params(metric, dim)?;
        match (&engine[..], &metric[..]) {
            ("lode", _) => build_lode(params, &base, &BatchBuilder::default(), file, threads)?,
            ("lode-hnsw_rs", _) => {
                build_lode(params, &base, &HnswRsBuilder::default(), file, threads)?
            }
            ("hnsw_rs", "l2") => {
                let (told, hnsw) = build_hnsw(&base, dim, DistL2 {});
                (told, Index::HnswL2(hnsw))
            }
            ("hnsw_rs", _) => {
                let (told, hnsw) = build_hnsw(&base, dim, DistDot {});
                (told, Index::HnswDot(hnsw))
            }
            _ => return Err(format!("no engine {engine}").into()),
        }
    };
    let mut told = told;
    told["peak_mib"] = json!(peak_mib());
    let mut out = std::io::stdout().lock();
    writeln!(out, "{told}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["search", breadth] => measure(&index, &queries, dim, breadth.parse()?, &truth, None),
            ["filter", breadth, share, truth] => {
                let share = share.parse()?;
                let rows = u32::try_from(std::fs::metadata(base)?.len() / (4 * dim as u64))?;
                let mut filter = RowSet::empty(rows);
                let vector = |row: u32| match &index {
                    Index::Lode(_, order) => order[row as usize],
                    _ => row,
                };
                for row in (0..rows).filter(|row| chosen(vector(*row), share)) {
                    filter.insert(Row(row));
                }
                let truth = ranks(truth)?;
                measure(
                    &index,
                    &queries,
                    dim,
                    breadth.parse()?,
                    &truth,
                    Some(&filter),
                )
            }
            ["open"] => {
                let start = Instant::now();
                let segment = SegmentFile::map(&File::open(file)?)?;
                let part = VectorPart::open(&segment, 0)?;
                let query = Query::new(part.params(), &queries[..dim])?;
                black_box(part.search(&query, &Search::nearest(K)));
                json!({ "open_and_search_s": start.elapsed().as_secs_f64() })
            }
            _ => return Err(format!("no command {line}").into()),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
