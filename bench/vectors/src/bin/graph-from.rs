//! From how many vectors on a graph pays: time of a search along links and of a scan of all codes, over the number of vectors.
//!
//! usage: graph-from METRIC DIM BASE QUERIES FILE
//!
//! For each number of rows, the first of BASE are put into a segment without a graph and one with, and all queries are asked
//! in turns, five times; medians are printed as a line of a table.

use std::path::Path;

use lode_bench_vectors::{Failure, encoded, median, params, segment, singles, timed};
use lode_index::vectors::{BatchBuilder, Plan, Query, Search, VectorPart};

/// Neighbours that are searched for.
const K: usize = 10;

/// Turns.
const TURNS: usize = 5;

fn rows(part: &VectorPart, query: &Query, search: &Search<'_>) -> Vec<u32> {
    let hits = part.search(query, search);
    hits.iter().map(|hit| hit.row.0).collect()
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [metric, dim, base, queries, file] = &arguments[..] else {
        return Err("usage: graph-from METRIC DIM BASE QUERIES FILE".into());
    };
    let params = params(metric, dim.parse()?)?;
    let bytes = encoded(params, &singles(base)?)?;
    let queries = singles(queries)?
        .chunks_exact(params.dim.get())
        .map(|vector| Query::new(params, vector))
        .collect::<Result<Vec<_>, _>>()?;
    let all = bytes.len() / params.row_bytes();
    let builder = BatchBuilder::default().from_rows(1);
    println!("| rows | scan, us | links, breadth 64 | recall@10 | breadth 128 | recall@10 |");
    println!("|---|---|---|---|---|---|");
    for count in [
        1000, 1500, 2100, 3000, 4500, 6000, 8000, 12_000, 16_000, 24_000, 32_000,
    ] {
        if count > all {
            break;
        }
        let bytes = &bytes[..count * params.row_bytes()];
        let open = |builder| -> Result<VectorPart, Failure> {
            let (segment, _) = segment(params, bytes, builder, Path::new(file))?;
            Ok(VectorPart::open(&segment, 0)?)
        };
        let (plain, linked) = (open(None)?, open(Some(&builder as _))?);
        let scan = Search::nearest(K);
        let links = [64, 128].map(|breadth| Search { breadth, ..scan });
        let exact = Search {
            exact: true,
            ..scan
        };
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..TURNS {
            times[0].push(timed(&plain, &queries, &scan));
            times[1].push(timed(&linked, &queries, &links[0]));
            times[2].push(timed(&linked, &queries, &links[1]));
        }
        let [scanned, narrow, wide] = times.map(median);
        let recall = |search: &Search<'_>| {
            let mut found = 0;
            for query in &queries {
                let hits = rows(&linked, query, search);
                let near = rows(&linked, query, &exact);
                found += near.iter().filter(|row| hits.contains(row)).count();
            }
            found as f64 / (K * queries.len()) as f64
        };
        let cell = |search: &Search<'_>, time: f64| match linked.plan(search) {
            Plan::Graph => format!("{time:.1} | {:.4}", recall(search)),
            _ => "a scan | ".to_owned(),
        };
        println!(
            "| {count} | {scanned:.1} | {} | {} |",
            cell(&links[0], narrow),
            cell(&links[1], wide)
        );
    }
    Ok(())
}
