//! What sketches are worth: time and recall of scans of codes alone and of sketches before codes, over the number of vectors and
//! over the share that a filter chooses.
//!
//! usage: sketch METRIC DIM BASE QUERIES FILE
//!
//! For each number of rows, the first of BASE are put into a segment without a graph, which is copied without its sketches; all
//! queries are asked of both in turns, five times; medians are printed as a line of a table. Then all of BASE are put into one
//! with a graph, and filters are asked of both.

use std::{fs::File, io::BufWriter, path::Path};

use lode_bench_vectors::{Failure, chosen, encoded, median, params, segment, singles, timed};
use lode_index::{
    Row, RowSet,
    segment::{SegmentFile, SegmentWriter},
    vectors::{BatchBuilder, GraphBuilder, Plan, Query, Search, VectorPart},
};

/// Neighbours that are searched for.
const K: usize = 10;

/// Turns.
const TURNS: usize = 5;

/// Breadth of searches with a filter.
const BREADTH: usize = 64;

/// A copy of a segment without its sketches.
fn without(segment: &SegmentFile, file: &Path) -> Result<VectorPart, Failure> {
    let mut writer = SegmentWriter::new(BufWriter::new(File::create(file)?))?;
    for section in segment.sections() {
        if section.name.kind() != "vec-sketch" {
            let bytes = segment.section(section.name).ok_or("a section is gone")?;
            writer.section(section.name, &bytes)?;
        }
    }
    writer.finish()?;
    Ok(VectorPart::open(&SegmentFile::map(&File::open(file)?)?, 0)?)
}

/// Median times of both, what they find of the nearest, and how the second searches.
fn compared(parts: [&VectorPart; 2], queries: &[Query], search: &Search<'_>) -> String {
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..TURNS {
        for (times, part) in times.iter_mut().zip(parts) {
            times.push(timed(part, queries, search));
        }
    }
    let [before, after] = times.map(median);
    let exact = Search {
        exact: true,
        ..*search
    };
    let mut found = [0; 2];
    let mut wanted = 0;
    for query in queries {
        let near = parts[0].search(query, &exact);
        wanted += near.len();
        for (found, part) in found.iter_mut().zip(parts) {
            let hits = part.search(query, search);
            let is_near = |hit: &lode_index::vectors::Hit| near.iter().any(|n| n.row == hit.row);
            *found += hits.iter().filter(|hit| is_near(hit)).count();
        }
    }
    let [recall, sketched] = found.map(|found| f64::from(found as u32) / wanted as f64);
    let plans = parts.map(|part| match part.plan(search) {
        Plan::Graph => "links",
        Plan::Sketch => "sketches",
        _ => "codes",
    });
    format!(
        "{} {before:.1} | {recall:.4} | {} {after:.1} | {sketched:.4} | {:.1} |",
        plans[0],
        plans[1],
        before / after
    )
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [metric, dim, base, queries, file] = &arguments[..] else {
        return Err("usage: sketch METRIC DIM BASE QUERIES FILE".into());
    };
    let params = params(metric, dim.parse()?)?;
    let bytes = encoded(params, &singles(base)?)?;
    let queries = lode_bench_vectors::queries(params, queries)?;
    let all = bytes.len() / params.row_bytes();
    let file = Path::new(file);
    let open = |count: usize, builder: Option<&dyn GraphBuilder>| -> Result<_, Failure> {
        let bytes = &bytes[..count * params.row_bytes()];
        let (segment, order) = segment(params, bytes, builder, file)?;
        let plain = without(&segment, &file.with_extension("plain"))?;
        Ok((plain, VectorPart::open(&segment, 0)?, order))
    };
    let head = "without sketches, us | recall@10 | with, us | recall@10 | times as fast |";
    println!("| rows | {head}\n|---|---|---|---|---|---|");
    for count in [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000] {
        if count > all {
            break;
        }
        let (plain, sketched, _) = open(count, None)?;
        let search = Search::nearest(K);
        println!(
            "| {count} | {}",
            compared([&plain, &sketched], &queries, &search)
        );
    }
    let builder = BatchBuilder::default();
    let (plain, sketched, order) = open(all, Some(&builder))?;
    println!("\n| chosen of {all} | {head}\n|---|---|---|---|---|---|");
    for share in [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8] {
        let mut filter = RowSet::empty(plain.rows());
        for (row, vector) in (0..).zip(&order) {
            if chosen(*vector, share) {
                filter.insert(Row(row));
            }
        }
        let search = Search {
            breadth: BREADTH,
            filter: Some(&filter),
            ..Search::nearest(K)
        };
        println!(
            "| {:.0} % | {}",
            share * 100.0,
            compared([&plain, &sketched], &queries, &search)
        );
    }
    Ok(())
}
