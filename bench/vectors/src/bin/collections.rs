//! Writes and searches a collection for `bench/qdrant.py`: of a node over HTTP, or of the engine in this process.
//!
//! usage: collections ingest ADDRESS COLLECTION STATUS BODIES
//!        collections http ADDRESS QUERIES DIM SECONDS RATE BODIES
//!        collections here FOLDER BASE QUERIES DIM SECONDS RATE
//!        collections bare SECONDS
//!
//! BODIES are upserts as a client sent them, each after its length in four bytes. BASE and QUERIES are rows of singles. FOLDER is a
//! collection as a node has it, or a copy of it: it is written to.
//! Searches come one after the other, alone and while RATE points a second are set anew, in batches of 64. Answers are
//! lines of JSON; times are milliseconds.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use lode_bench_vectors::{Failure, singles};
use lode_index::{
    Collection, Payload, Point, Report, SearchRequest, Vector,
    collection::{Budget, Maintained},
    operation::Operation,
    view::{With, WithVectors},
};
use serde_json::json;

/// Points of an upsert: what qdrant-client sends when nobody says.
const BATCH: usize = 64;

/// Neighbours that are searched for.
const K: usize = 10;

/// The bodies of a file.
fn bodies(path: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let mut file = BufReader::new(File::open(path)?);
    let mut bodies = Vec::new();
    let mut length = [0; 4];
    while file.read_exact(&mut length).is_ok() {
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        file.read_exact(&mut body)?;
        bodies.push(body);
    }
    Ok(bodies)
}

/// One connection that is kept.
struct Http {
    stream: TcpStream,
    address: String,
    answer: Vec<u8>,
    /// What all answers have to be.
    status: u16,
}

impl Http {
    fn connect(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address: address.to_owned(),
            answer: Vec::new(),
            status: 200,
        })
    }

    /// Sends a request and reads its answer, which says its length.
    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<&[u8], Failure> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body].concat())?;
        self.answer.clear();
        let mut buffer = [0; 65536];
        loop {
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err("the connection ended".into());
            }
            self.answer.extend_from_slice(&buffer[..read]);
            let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&self.answer[..end])?;
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length: usize = length.ok_or("an answer without length")?.1.parse()?;
            if self.answer.len() >= end + 4 + length {
                if !head.starts_with(&format!("HTTP/1.1 {}", self.status)) {
                    let answer = String::from_utf8_lossy(&self.answer);
                    return Err(format!("{method} {path}: {answer}").into());
                }
                return Ok(&self.answer[end + 4..]);
            }
        }
    }
}

/// Half, 99 of 100 and all take no longer than these.
fn told(mut times: Vec<f64>) -> serde_json::Value {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] * 1e3;
    json!({ "searches": times.len(), "p50": at(0.5), "p99": at(0.99), "most": at(1.0) })
}

/// Searches for some time, alone and while `write` is called at a rate.
fn measure(
    seconds: f64,
    rate: f64,
    search: &mut dyn FnMut(usize) -> Result<(), Failure>,
    write: &mut (dyn FnMut(usize) -> Result<(), Failure> + Send),
) -> Result<serde_json::Value, Failure> {
    let mut run = || -> Result<Vec<f64>, Failure> {
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            search(times.len())?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(times)
    };
    run()?;
    let alone = told(run()?);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let writing = thread::scope(|scope| -> Result<Vec<f64>, Failure> {
        let writer = scope.spawn(|| -> Result<(), Failure> {
            let began = Instant::now();
            for batch in 0.. {
                let due = Duration::from_secs_f64((batch * BATCH) as f64 / rate);
                thread::sleep(due.saturating_sub(began.elapsed()));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                write(batch)?;
                written.fetch_add(BATCH as u64, Ordering::Relaxed);
            }
            Ok(())
        });
        let times = run();
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer fell over")??;
        times
    })?;
    let per_second = written.load(Ordering::Relaxed) as f64 / seconds;
    Ok(json!({ "alone": alone, "writing": told(writing), "points_per_second": per_second }))
}

fn over_http(arguments: &[String]) -> Result<serde_json::Value, Failure> {
    let [address, queries, dim, seconds, rate, file] = arguments else {
        return Err("usage: collections http ADDRESS QUERIES DIM SECONDS RATE BODIES".into());
    };
    let (queries, bodies) = (singles(queries)?, bodies(file)?);
    let asked: Vec<String> = queries
        .chunks_exact(dim.parse()?)
        .map(|query| {
            let query: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
            // what qdrant-client sends for query_points
            json!({"query": query, "limit": K, "with_payload": true, "with_vector": false})
                .to_string()
        })
        .collect();
    let (mut searcher, mut writer) = (Http::connect(address)?, Http::connect(address)?);
    let mut search = |at: usize| {
        let body = asked[at % asked.len()].as_bytes();
        searcher
            .ask("POST", "/collections/bench/points/query", body)
            .map(drop)
    };
    let mut write = |batch: usize| {
        let body = &bodies[batch % bodies.len()];
        writer
            .ask("PUT", "/collections/bench/points?wait=true", body)
            .map(drop)
    };
    measure(seconds.parse()?, rate.parse()?, &mut search, &mut write)
}

fn upsert(base: &[f32], dim: usize, batch: usize) -> Operation {
    let rows = base.len() / dim;
    let points = (0..BATCH).map(|at| {
        let id = (batch * BATCH + at) % rows;
        let vector = Vector::Dense(base[id * dim..][..dim].to_vec());
        let payload = json!({"value": id % 1000, "source": "bench"});
        Point {
            id: (id as u64).into(),
            vectors: [(String::new(), vector)].into(),
            payload: Payload::from_json(&payload).expect("an object"),
        }
    });
    Operation::Upsert(points.collect())
}

fn here(arguments: &[String]) -> Result<serde_json::Value, Failure> {
    let [folder, base, queries, dim, seconds, rate] = arguments else {
        return Err("usage: collections here FOLDER BASE QUERIES DIM SECONDS RATE".into());
    };
    let (base, queries, dim) = (singles(base)?, singles(queries)?, dim.parse::<usize>()?);
    let collection = Collection::open(Path::new(folder))?;
    let maintain = || -> Result<bool, Failure> {
        Ok(collection.maintain(&Budget::default())? == Maintained::Nothing)
    };
    let with = With {
        payload: true,
        vectors: WithVectors::None,
    };
    let mut search = |at: usize| -> Result<(), Failure> {
        let start = at * dim % queries.len();
        let request = SearchRequest::nearest(queries[start..start + dim].to_vec(), K);
        let found = collection
            .view()
            .search_with(&request, &with, &mut Report::default())?;
        assert_eq!(found.len(), K);
        Ok(())
    };
    let mut write = |batch: usize| -> Result<(), Failure> {
        collection.apply(upsert(&base, dim, batch))?;
        Ok(())
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if maintain().unwrap_or(true) {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let told = measure(seconds.parse()?, rate.parse()?, &mut search, &mut write);
        stop.store(true, Ordering::Relaxed);
        told
    })
}

/// Exchanges of as many bytes as a search has, between two threads over loopback, and nothing else.
fn bare(arguments: &[String]) -> Result<serde_json::Value, Failure> {
    let [seconds] = arguments else {
        return Err("usage: collections bare SECONDS".into());
    };
    const ASKED_BYTES: usize = 8 << 10;
    const ANSWER_BYTES: usize = 1 << 10;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    (client.set_nodelay(true)?, server.set_nodelay(true)?);
    thread::spawn(move || {
        let mut asked = [0; ASKED_BYTES];
        while server.read_exact(&mut asked).is_ok()
            && server.write_all(&asked[..ANSWER_BYTES]).is_ok()
        {}
    });
    let (seconds, began, mut times) = (seconds.parse()?, Instant::now(), Vec::new());
    let (asked, mut answer) = ([1; ASKED_BYTES], [0; ANSWER_BYTES]);
    while began.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        client.write_all(&asked)?;
        client.read_exact(&mut answer)?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(told(times))
}

fn ingest(arguments: &[String]) -> Result<serde_json::Value, Failure> {
    let [address, collection, status, file] = arguments else {
        return Err("usage: collections ingest ADDRESS COLLECTION STATUS BODIES".into());
    };
    let bodies = bodies(file)?;
    let mut http = Http::connect(address)?;
    http.status = status.parse()?;
    let path = format!("/collections/{collection}/points?wait=false");
    let began = Instant::now();
    for body in &bodies {
        http.ask("PUT", &path, body)?;
    }
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    Ok(json!({ "requests": bodies.len(), "bytes": bytes, "wall_s": began.elapsed().as_secs_f64() }))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let told = match arguments.split_first() {
        Some((what, rest)) if what == "ingest" => ingest(rest)?,
        Some((what, rest)) if what == "http" => over_http(rest)?,
        Some((what, rest)) if what == "here" => here(rest)?,
        Some((what, rest)) if what == "bare" => bare(rest)?,
        _ => return Err("usage: collections ingest|http|here|bare ..".into()),
    };
    println!("{told}");
    Ok(())
}
