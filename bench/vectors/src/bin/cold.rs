//! How long it takes from a file that is not in memory to the first result.
//!
//! usage: cold make METRIC DIM BASE DIR          a collection of BASE; of 2^20 vectors all are in one segment with a graph
//!        cold open DIM QUERIES DIR RUNS         opens it and asks one query, RUNS times cold and RUNS times warm
//!
//! Before a cold run the pages of every file of the collection are dropped (fsync, then POSIX_FADV_DONTNEED: nobody has them mapped).
//! What was read of the disk is `read_bytes` of /proc/self/io. After each cold run of the collection as many pages of its largest file are read
//! at places all over it, all asked for at once: what the disk takes for so many, whoever wants them.

use std::{
    collections::BTreeMap,
    fs::File,
    hint::black_box,
    num::NonZeroU64,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Instant,
};

use lode_bench_vectors::{Failure, cpu, params, peak_mib, singles};
use lode_index::{
    Collection, CollectionConfig, Payload, Point, PointId, Report, SearchRequest, Vector,
    collection::{Budget, Maintained},
    operation::{Operation, Selection},
    segment::SegmentFile,
    vectors::{BatchBuilder, Query, Search, VectorPart},
};
use rustix::fs::{Advice, fadvise};

/// Points of an operation.
const BATCH: usize = 8192;

/// Makes the collection, unless it is there, and then its graph.
fn make(metric: &str, dim: usize, base: &str, dir: &Path) -> Result<(), Failure> {
    if !dir.exists() {
        fill(metric, dim, base, dir)?;
    }
    let collection = Collection::open(dir)?.with_builder(Box::new(BatchBuilder::default()));
    // A segment with a dead row is made anew when the collection is compacted.
    collection.apply(Operation::Delete(Selection::Ids(vec![PointId::Number(1)])))?;
    let (start, wall) = (cpu(), Instant::now());
    collection.compact()?;
    println!(
        "merged with a graph in {:.1} s, {:.1} s of CPU; peak {:.0} MiB; {} segments, {:.1} MB",
        wall.elapsed().as_secs_f64(),
        cpu() - start,
        peak_mib().unwrap_or(f64::NAN),
        collection.view().segments(),
        collection.view().bytes() as f64 / 1e6,
    );
    Ok(())
}

/// Puts all points into one segment without a graph.
fn fill(metric: &str, dim: usize, base: &str, dir: &Path) -> Result<(), Failure> {
    let base = singles(base)?;
    let config = CollectionConfig::single(params(metric, dim)?);
    let unlinked = Box::new(BatchBuilder::default().from_rows(u32::MAX));
    let collection = Collection::create(dir, config)?.with_builder(unlinked);
    for (vectors, first) in base.chunks(BATCH * dim).zip((1..).step_by(BATCH)) {
        let points = (first..)
            .zip(vectors.chunks_exact(dim))
            .map(|(id, vector)| Point {
                id: PointId::Number(id),
                vectors: BTreeMap::from([(String::new(), Vector::Dense(vector.to_vec()))]),
                payload: Payload::empty(),
            });
        collection.apply(Operation::Upsert(points.collect()))?;
    }
    collection.freeze()?;
    let budget = Budget {
        points_max: u64::MAX,
    };
    while collection.maintain(&budget)? != Maintained::Nothing {}
    let segments = collection.view().segments();
    println!("{} points in {segments} segments", collection.view().len());
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(dir)?;
    Ok(entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?)
}

/// Drops the pages of files.
fn drop_pages(files: &[PathBuf]) -> Result<(), Failure> {
    for file in files {
        let file = File::open(file)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Bytes that this process caused to be read of a disk.
fn read_bytes() -> Result<u64, Failure> {
    let told = std::fs::read_to_string("/proc/self/io")?;
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    Ok(line.ok_or("no read_bytes")?.parse()?)
}

/// Seconds to open and search, of these to open, and bytes read.
type Taken = (f64, f64, u64);

fn timed<T>(
    open: impl FnOnce() -> Result<T, Failure>,
    search: impl FnOnce(&T) -> Result<usize, Failure>,
) -> Result<Taken, Failure> {
    let (before, start) = (read_bytes()?, Instant::now());
    let opened = open()?;
    let open_s = start.elapsed().as_secs_f64();
    let hits = search(&opened)?;
    let all_s = start.elapsed().as_secs_f64();
    if black_box(hits) != 10 {
        return Err("not ten results".into());
    }
    Ok((all_s, open_s, read_bytes()? - before))
}

/// Reads pages at places all over a file, all of which are asked for before the first one is waited for.
fn read_pages(file: &File, pages: u64) -> Result<usize, Failure> {
    const PAGE: u64 = 4096;
    let all = file.metadata()?.len() / PAGE;
    // A step that comes by every place once, and lands far from the last one.
    let step = (all * 618 / 1000) | 1;
    let places: Vec<u64> = (1..=pages).map(|at| at * step % all * PAGE).collect();
    fadvise(file, 0, None, Advice::Random)?;
    for place in &places {
        fadvise(file, *place, NonZeroU64::new(PAGE), Advice::WillNeed)?;
    }
    let mut byte = [0];
    for place in &places {
        file.read_exact_at(&mut byte, *place)?;
    }
    Ok(10)
}

fn show(what: &str, mut taken: Vec<Taken>) {
    taken.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ms = |at: usize| taken[at].0 * 1e3;
    let middle = taken[taken.len() / 2];
    println!(
        "| {what} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} |",
        ms(taken.len() / 2),
        ms(0),
        ms(taken.len() - 1),
        middle.1 * 1e3,
        middle.2 as f64 / f64::from(1 << 20)
    );
}

fn open(dim: usize, queries: &str, dir: &Path, runs: usize) -> Result<(), Failure> {
    let queries = singles(queries)?;
    let files = files(dir)?;
    let largest = |file: &&PathBuf| file.metadata().map_or(0, |metadata| metadata.len());
    let largest = files.iter().max_by_key(largest).ok_or("an empty folder")?;
    let queries: Vec<_> = queries.chunks_exact(dim).take(runs).collect();
    println!("| first result | median ms | least | most | of these opening | MiB read |");
    println!("|---|---|---|---|---|---|");
    for cold in [true, false] {
        let mut of_segment = Vec::new();
        let mut of_collection = Vec::new();
        let mut of_pages = Vec::new();
        for query in &queries {
            let segment = || {
                timed(
                    || {
                        Ok(VectorPart::open(
                            &SegmentFile::map(&File::open(largest)?)?,
                            0,
                        )?)
                    },
                    |part| {
                        let query = Query::new(part.params(), query)?;
                        Ok(part.search(&query, &Search::nearest(10)).len())
                    },
                )
            };
            let collection = || {
                timed(
                    || Ok(Collection::open(dir)?),
                    |collection| {
                        let request = SearchRequest::nearest(query.to_vec(), 10);
                        let mut report = Report::default();
                        Ok(collection.view().search(&request, &mut report)?.len())
                    },
                )
            };
            // What is warm was read once before.
            let ready = || match cold {
                true => drop_pages(&files),
                false => collection().map(drop),
            };
            ready()?;
            of_segment.push(segment()?);
            ready()?;
            let taken = collection()?;
            of_collection.push(taken);
            if cold {
                drop_pages(&files)?;
                let open = || Ok(File::open(largest)?);
                of_pages.push(timed(open, |file| read_pages(file, taken.2 / 4096))?);
            }
        }
        let how = if cold { "cold" } else { "warm" };
        show(&format!("segment, {how}"), of_segment);
        show(&format!("collection, {how}"), of_collection);
        if cold {
            show("as many pages, all at once", of_pages);
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["make", metric, dim, base, dir] => make(metric, dim.parse()?, base, Path::new(dir)),
        ["open", dim, queries, dir, runs] => {
            open(dim.parse()?, queries, Path::new(dir), runs.parse()?)
        }
        _ => Err("usage: cold make METRIC DIM BASE DIR | cold open DIM QUERIES DIR RUNS".into()),
    }
}
