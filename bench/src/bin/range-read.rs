//! Latency of verified ranges of a remote file: our receiver from a `lode serve`, beside the iroh-blobs
//! client from an iroh-blobs `FsStore`, and perhaps streams of iroh that are not verified, in turns, at the same
//! random places.
//!
//! Both connections are warm, and both sides verify each group before it counts. The ranges do not start
//! at group boundaries, as those of tensors do not. Every answer is held against the file.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Parser;
use iroh::{
    EndpointAddr, EndpointId, SecretKey,
    endpoint::{Connection, QuicTransportConfig},
};
use iroh_blobs::{
    Hash,
    get::fsm::{self, ConnectedNext, EndBlobNext, RequestCounters},
    protocol::{ChunkRanges, ChunkRangesExt as _, GetRequest},
};
use lode_bench::{
    cut,
    llama::mix,
    plain::{RAW, endpoint, windows},
};
use lode_store::{
    piece::{Parent, PieceSink},
    sync::{
        endpoint::{EndpointOptions, Net},
        receiver::{FetchOptions, Have, Peer, Want, fetch},
    },
    ticket::Ticket,
    tree::ChunkList,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Ranges that one side reads one after another before the next side reads the same ones.
const TURN: usize = 25;

#[derive(Parser)]
struct Arguments {
    /// The file, to name its chunks and to check what comes.
    file: PathBuf,
    /// Ticket of a public version that holds the file.
    ticket: String,
    /// Node key of the FsStore's side, as `sync-peer fsstore-serve` prints it.
    id: EndpointId,
    /// Its address.
    addr: SocketAddr,
    /// The file's hash there.
    hash: Hash,
    /// Node key of `sync-peer raw-serve`, which sends ranges as they are, unverified: what streams alone take.
    #[arg(requires = "raw_addr")]
    raw: Option<EndpointId>,
    /// Its address.
    raw_addr: Option<SocketAddr>,
    /// The length that it prints.
    raw_len: Option<u64>,
    /// Ranges of each size.
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// Milliseconds of rest before each range: then threads sleep, and waking them counts.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Where the places come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The bytes of one range, put together from parts of chunks.
struct Sink {
    /// Where each chunk starts in the file.
    starts: Arc<Vec<u64>>,
    wanted: Range<u64>,
    bytes: Mutex<Vec<u8>>,
}

impl PieceSink for Sink {
    fn store(&self, chunk: u32, offset: u32, data: &[u8], _: &[Parent]) -> io::Result<()> {
        let at = self.starts[chunk as usize] + u64::from(offset);
        let from = at.max(self.wanted.start);
        let to = (at + data.len() as u64).min(self.wanted.end);
        if from < to {
            let place = |at: u64, base: u64| usize::try_from(at - base).map_err(io::Error::other);
            let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            bytes[place(from, self.wanted.start)?..place(to, self.wanted.start)?]
                .copy_from_slice(&data[place(from, at)?..place(to, at)?]);
        }
        Ok(())
    }

    fn may_wait(&self) -> bool {
        false
    }
}

/// Our side: the file as a list of chunks, and who has it.
struct Ours {
    list: Arc<ChunkList>,
    want_seq: lode_store::ChunkHash,
    starts: Arc<Vec<u64>>,
    peer: Peer,
}

impl Ours {
    async fn read(&self, wanted: Range<u64>) -> Result<Vec<u8>, Failure> {
        let first = self.starts.partition_point(|start| *start <= wanted.start) - 1;
        let last = self.starts.partition_point(|start| *start < wanted.end);
        let mut ranges = Vec::new();
        for index in first..last {
            let (start, len) = (self.starts[index], u64::from(self.list.lengths[index]));
            let from = wanted.start.max(start) - start;
            let to = wanted.end.min(start + len) - start;
            ranges.push((
                u32::try_from(index)?,
                u32::try_from(from)?..u32::try_from(to)?,
            ));
        }
        let sink = Arc::new(Sink {
            starts: Arc::clone(&self.starts),
            bytes: Mutex::new(vec![0; usize::try_from(wanted.end - wanted.start)?]),
            wanted,
        });
        let want = Want {
            seq: self.want_seq,
            list: Arc::clone(&self.list),
            ranges,
            sink: Arc::clone(&sink) as Arc<dyn PieceSink>,
            passed_on: false,
        };
        let peers = vec![self.peer.clone().holding(Have::all())];
        // As a node does for a reader: see node/src/fetch/flight.rs.
        let mut options = FetchOptions::default();
        options.streams = 1;
        options.urgent = true;
        fetch(vec![want], peers, options, Arc::new(())).await?;
        let mut bytes = sink.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *bytes))
    }
}

async fn read_theirs(
    connection: &Connection,
    hash: Hash,
    wanted: Range<u64>,
) -> Result<Vec<u8>, Failure> {
    let request = GetRequest::blob_ranges(hash, ChunkRanges::bytes(wanted.clone()));
    let connected = fsm::start(connection.clone(), request, RequestCounters::default())
        .next()
        .await?;
    let ConnectedNext::StartRoot(root) = connected.next().await? else {
        return Err("an answer without the root".into());
    };
    let (content, _) = root.next().next().await?;
    // Leaves of the range alone, from the first wanted KiB on.
    let (end, bytes) = content.concatenate_into_vec().await?;
    match end.next() {
        EndBlobNext::Closing(closing) => closing.next().await?,
        EndBlobNext::MoreChildren(_) => return Err("an answer with children".into()),
    };
    let skip = usize::try_from(wanted.start % 1024)?;
    let len = usize::try_from(wanted.end - wanted.start)?;
    Ok(bytes[skip..skip + len].to_vec())
}

async fn read_raw(connection: &Connection, wanted: Range<u64>) -> Result<Vec<u8>, Failure> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&wanted.start.to_le_bytes()).await?;
    send.write_all(&wanted.end.to_le_bytes()).await?;
    send.finish()?;
    let mut bytes = vec![0; usize::try_from(wanted.end - wanted.start)?];
    recv.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

fn quantile(sorted: &[Duration], per_cent: usize) -> f64 {
    sorted[(sorted.len() - 1) * per_cent / 100].as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // On a thread of the runtime, as readers of a node are.
    tokio::spawn(compare(Arguments::parse())).await?
}

async fn compare(arguments: Arguments) -> Result<(), Failure> {
    let (list, rule) = cut::chunk_list(&arguments.file)?;
    let starts: Vec<u64> = list.iter().map(|(_, range)| range.start).collect();
    let ticket = arguments.ticket.parse::<Ticket>()?;
    let addr = ticket.addrs.first().ok_or("a ticket without an address")?;
    let mut at = EndpointAddr::new(EndpointId::from_bytes(&addr.id)?);
    for ip in &addr.ip {
        at = at.with_ip_addr(*ip);
    }
    let net = Net::bind(&EndpointOptions::loopback(SecretKey::generate())).await?;
    let ours = Ours {
        want_seq: list.reference(&rule).seq,
        list: Arc::new(list),
        starts: Arc::new(starts),
        peer: Peer::new(&net, at),
    };
    let theirs = endpoint(QuicTransportConfig::default()).await?;
    let addr = EndpointAddr::new(arguments.id).with_ip_addr(arguments.addr);
    let connection = theirs.connect(addr, iroh_blobs::ALPN).await?;

    let plain = endpoint(windows()).await?;
    let raw = match (arguments.raw, arguments.raw_addr) {
        (Some(id), Some(addr)) => {
            let addr = EndpointAddr::new(id).with_ip_addr(addr);
            Some(plain.connect(addr, RAW).await?)
        }
        _ => None,
    };

    let file = File::open(&arguments.file)?;
    let len = file.metadata()?.len();
    let mut random = Random(arguments.seed);
    println!("seed {}", arguments.seed);
    println!("| range | what | p50 ms | p90 ms | p99 ms |\n|---|---|---|---|---|");
    for (label, size) in [("1 MiB", 1 << 20), ("16 KiB", 16 << 10)] {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        let sides = if raw.is_some() { 3 } else { 2 };
        let turns = arguments.count.div_ceil(TURN);
        // A sleep of nothing takes a millisecond, too.
        let pause = (arguments.pause > 0).then(|| Duration::from_millis(arguments.pause));
        for turn in 0..=turns {
            let places: Vec<u64> = (0..TURN).map(|_| random.next() % (len - size)).collect();
            for side in (0..sides).map(|place| (turn + place) % sides) {
                for from in &places {
                    let wanted = *from..from + size;
                    let mut expected = vec![0; usize::try_from(size)?];
                    file.read_exact_at(&mut expected, *from)?;
                    if let Some(pause) = pause {
                        tokio::time::sleep(pause).await;
                    }
                    let start = Instant::now();
                    let got = match (side, &raw) {
                        (0, _) => ours.read(wanted).await?,
                        (2, Some(raw)) => read_raw(raw, wanted).await?,
                        _ => read_theirs(&connection, arguments.hash, wanted).await?,
                    };
                    let took = start.elapsed();
                    assert!(got == expected, "side {side} gave other bytes at {from}");
                    // The first turn warms up.
                    if turn > 0 {
                        times[side].push(took);
                    }
                }
            }
        }
        let mut middles = Vec::new();
        let names = ["lode", "iroh-blobs", "raw iroh, unverified"];
        for (name, times) in names.iter().zip(&mut times).take(sides) {
            times.sort_unstable();
            let [p50, p90, p99] = [50, 90, 99].map(|per_cent| quantile(times, per_cent));
            println!("| {label} | {name} | {p50:.3} | {p90:.3} | {p99:.3} |");
            middles.push(p50);
        }
        println!(
            "{label}: p50 of lode / iroh-blobs {:.2}",
            middles[0] / middles[1]
        );
        if let Some(raw) = middles.get(2) {
            println!(
                "{label}: p50 of raw iroh / iroh-blobs {:.2}",
                raw / middles[1]
            );
        }
    }
    net.close().await;
    theirs.close().await;
    plain.close().await;
    Ok(())
}
