//! How long a search takes of points that are in no segment yet: by their codes first, and of their vectors alone. Both are exact.
//!
//! usage: live METRIC DIM BASE QUERIES
//!
//! For each number of rows, the first of BASE are put into memory in blocks of 512; all queries are asked in both ways in turns, five
//! times; medians are printed as a line of a table.

use lode_bench_vectors::{Failure, cpu, encoded, median, params, singles};
use lode_index::vectors::{LiveBlocks, LiveRows, Search};

/// Neighbours that are searched for.
const K: usize = 10;

/// Turns.
const TURNS: usize = 5;

/// Rows of a block, as in a collection.
const BLOCK: u32 = 512;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [metric, dim, base, queries] = &arguments[..] else {
        return Err("usage: live METRIC DIM BASE QUERIES".into());
    };
    let params = params(metric, dim.parse()?)?;
    let bytes = encoded(params, &singles(base)?)?;
    let queries = lode_bench_vectors::queries(params, queries)?;
    println!("| rows | by codes, us | recall@10 | vectors alone, us | times as fast |");
    println!("|---|---|---|---|---|");
    for count in [1000, 2000, 4000, 8000, 16_000] {
        let mut blocks = Vec::new();
        let rows = bytes.chunks_exact(params.row_bytes()).take(count);
        for (at, row) in rows.enumerate() {
            if at % BLOCK as usize == 0 {
                blocks.push(LiveRows::new(params));
            }
            blocks.last_mut().expect("pushed").push(Some(row));
        }
        let blocks = LiveBlocks::new((0..).step_by(BLOCK as usize).zip(&blocks));
        let searches = [false, true].map(|exact| Search {
            exact,
            ..Search::nearest(K)
        });
        let mut times = [const { Vec::new() }; 2];
        let mut found = 0;
        for _ in 0..TURNS {
            let mut answers = Vec::new();
            for (times, search) in times.iter_mut().zip(&searches) {
                let start = cpu();
                let all: Vec<_> = queries.iter().map(|q| blocks.search(q, search)).collect();
                times.push((cpu() - start) * 1e6 / queries.len() as f64);
                answers.push(all);
            }
            found = answers[0]
                .iter()
                .zip(&answers[1])
                .map(|(a, b)| a.iter().filter(|hit| b.contains(hit)).count())
                .sum();
        }
        let [codes, exact] = times.map(median);
        let recall = found as f64 / (K * queries.len()) as f64;
        println!(
            "| {count} | {codes:.1} | {recall:.4} | {exact:.1} | {:.1} |",
            exact / codes
        );
    }
    Ok(())
}
