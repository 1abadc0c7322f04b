//! Builds and searches an index for `bench/vectors.py`, which feeds it commands and reads JSON lines.
//!
//! usage: lode-bench-vectors ENGINE METRIC DIM BASE QUERIES TRUTH FILE [THREADS]
//!
//! BASE and QUERIES are rows of singles, TRUTH rows of 32-bit ranks of the ten nearest. Commands on standard input:
//! `search BREADTH`, `filter BREADTH SHARE TRUTH`, `open`. Answers have recall and CPU seconds of all queries.

use std::{
    error::Error,
    fs::File,
    hint::black_box,
    io::{BufRead, BufWriter, Write},
    time::Instant,
};

use hnsw_rs::prelude::{AnnT, DistDot, DistL2, Hnsw};
use lode_index::{
    Dim, Dtype, Metric, Row, RowSet, VectorParams,
    segment::{SegmentFile, SegmentWriter},
    vectors::{BatchBuilder, Query, Search, VectorPart, VectorSource, encode, write_vectors},
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Neighbours that are searched for.
const K: usize = 10;

type Failure = Box<dyn Error>;

/// CPU seconds of this process.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// What rows a filter of `share` chooses: the driver has the same.
fn chosen(row: u32, share: f64) -> bool {
    ((mix(u64::from(row)) % 1000) as f64) < share * 1000.0
}

/// The most memory that this process had, in MiB.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<f64>()
            .ok()?
            / 1024.0,
    )
}

fn words(path: &str) -> Result<Vec<[u8; 4]>, Failure> {
    Ok(std::fs::read(path)?.as_chunks::<4>().0.to_vec())
}

fn singles(path: &str) -> Result<Vec<f32>, Failure> {
    Ok(words(path)?.into_iter().map(f32::from_le_bytes).collect())
}

fn ranks(path: &str) -> Result<Vec<u32>, Failure> {
    Ok(words(path)?.into_iter().map(u32::from_le_bytes).collect())
}

struct Rows<'a> {
    bytes: &'a [u8],
    row: usize,
}

impl VectorSource for Rows<'_> {
    fn rows(&self) -> u32 {
        (self.bytes.len() / self.row) as u32
    }

    fn vector(&self, row: Row) -> Option<&[u8]> {
        Some(&self.bytes[row.index() * self.row..][..self.row])
    }

    fn hash(&self, row: Row) -> u64 {
        mix(u64::from(row.0))
    }
}

/// What can be searched.
enum Index {
    Lode(VectorPart),
    HnswDot(Hnsw<'static, f32, DistDot>),
    HnswL2(Hnsw<'static, f32, DistL2>),
}

impl Index {
    /// The ranks that a search gives.
    fn search(&self, query: &[f32], breadth: usize, filter: Option<&RowSet>) -> Vec<u32> {
        match self {
            Self::Lode(part) => {
                let query = Query::new(part.params(), query).expect("a query of the data");
                let search = Search {
                    breadth,
                    filter,
                    ..Search::nearest(K)
                };
                let hits = part.search(&query, &search);
                hits.iter().map(|hit| hit.row.0).collect()
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
    file: &str,
    threads: usize,
) -> Result<(Value, Index), Failure> {
    let mut bytes = Vec::with_capacity(base.len() * 4);
    for vector in base.chunks_exact(params.dim.get()) {
        bytes.extend(encode(&params, vector)?);
    }
    let source = Rows {
        bytes: &bytes,
        row: params.row_bytes(),
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    let (start, wall) = (cpu(), Instant::now());
    pool.install(|| -> Result<(), lode_index::vectors::WriteVectorsError> {
        let mut writer = SegmentWriter::new(BufWriter::new(File::create(file)?))?;
        write_vectors(
            &mut writer,
            0,
            params,
            &source,
            Some(&BatchBuilder::default()),
        )?;
        writer.finish()?;
        Ok(())
    })?;
    let (seconds, wall) = (cpu() - start, wall.elapsed().as_secs_f64());
    let segment = SegmentFile::map(&File::open(file)?)?;
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
    Ok((told, Index::Lode(VectorPart::open(&segment, 0)?)))
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
        let params = VectorParams {
            dim: Dim::new(u32::try_from(dim)?)?,
            metric: if metric == "l2" {
                Metric::Euclid
            } else {
                Metric::Cosine
            },
            dtype: Dtype::F32,
        };
        match (&engine[..], &metric[..]) {
            ("lode", _) => build_lode(params, &base, file, threads)?,
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
                for row in (0..rows).filter(|row| chosen(*row, share)) {
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
                let part = Index::Lode(VectorPart::open(&segment, 0)?);
                black_box(part.search(&queries[..dim], 64, None));
                json!({ "open_and_search_s": start.elapsed().as_secs_f64() })
            }
            _ => return Err(format!("no command {line}").into()),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
