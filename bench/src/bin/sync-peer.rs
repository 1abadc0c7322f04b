//! Peers of `lode pull`, a process for each side: an iroh-blobs `FsStore` pair, and raw iroh streams whose
//! receiver writes a file.
//!
//! A serving side prints one line that the other side takes as its arguments, and ends with its input.

use std::{
    fs::File, net::SocketAddr, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc, time::Instant,
};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use iroh::{Endpoint, EndpointAddr, EndpointId, protocol::Router};
use iroh_blobs::{
    BlobFormat, BlobsProtocol, Hash,
    api::blobs::{AddPathOptions, ImportMode},
    store::fs::FsStore,
};
use lode_bench::plain::{RAW, endpoint, windows};
use tokio::io::AsyncReadExt as _;

const STEP: usize = 1 << 20;
type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    side: Side,
}

#[derive(Subcommand)]
enum Side {
    /// Serves a file that an FsStore refers to.
    FsstoreServe { store: PathBuf, file: PathBuf },
    /// Fetches it into another FsStore.
    FsstorePull {
        store: PathBuf,
        id: EndpointId,
        addr: SocketAddr,
        hash: Hash,
    },
    /// Serves ranges of a file over plain streams.
    RawServe {
        file: PathBuf,
        /// From memory, so that nothing but the streams takes time.
        #[arg(long)]
        memory: bool,
    },
    /// Fetches it over four streams of one connection.
    RawPull {
        file: PathBuf,
        id: EndpointId,
        addr: SocketAddr,
        len: u64,
    },
}

async fn until_input_ends() {
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await.ok();
}

#[tokio::main]
async fn main() -> Outcome {
    let endpoint = endpoint(windows()).await?;
    let own = endpoint.bound_sockets()[0];
    match Arguments::parse().side {
        Side::FsstoreServe { store, file } => {
            let store = FsStore::load(store).await?;
            let options = AddPathOptions {
                path: std::path::absolute(file)?,
                format: BlobFormat::Raw,
                mode: ImportMode::TryReference,
            };
            let tag = store.blobs().add_path_with_opts(options).await?;
            let router = Router::builder(endpoint.clone())
                .accept(iroh_blobs::ALPN, BlobsProtocol::new(&store, None))
                .spawn();
            println!("{} {own} {}", endpoint.id(), tag.hash);
            until_input_ends().await;
            router.shutdown().await?;
        }
        Side::FsstorePull {
            store,
            id,
            addr,
            hash,
        } => {
            let store = FsStore::load(store).await?;
            let start = Instant::now();
            let addr = EndpointAddr::new(id).with_ip_addr(addr);
            let connection = endpoint.connect(addr, iroh_blobs::ALPN).await?;
            store.remote().fetch(connection, hash).await?;
            store.sync_db().await?;
            println!("{:.3}", start.elapsed().as_secs_f64());
            store.shutdown().await?;
            endpoint.close().await;
        }
        Side::RawServe { file, memory } => {
            let file = Arc::new(Source {
                bytes: memory
                    .then(|| std::fs::read(&file))
                    .transpose()?
                    .map(Bytes::from),
                file: File::open(file)?,
            });
            println!("{} {own} {}", endpoint.id(), file.file.metadata()?.len());
            tokio::select! {
                () = until_input_ends() => {}
                outcome = serve_raw(&endpoint, file) => outcome?,
            }
        }
        Side::RawPull {
            file,
            id,
            addr,
            len,
        } => {
            let out = Arc::new(File::create(file)?);
            out.set_len(len)?;
            let start = Instant::now();
            let addr = EndpointAddr::new(id).with_ip_addr(addr);
            let connection = endpoint.connect(addr, RAW).await?;
            let mut streams = tokio::task::JoinSet::new();
            for part in 0..4 {
                let (from, to) = (len * part / 4, len * (part + 1) / 4);
                let (connection, out) = (connection.clone(), Arc::clone(&out));
                streams.spawn(async move { pull_raw(&connection, &out, from, to).await });
            }
            while let Some(done) = streams.join_next().await {
                done??;
            }
            out.sync_data()?;
            println!("{:.3}", start.elapsed().as_secs_f64());
            endpoint.close().await;
        }
    }
    Ok(())
}

/// A file, and its bytes if they are kept.
struct Source {
    file: File,
    bytes: Option<Bytes>,
}

async fn serve_raw(endpoint: &Endpoint, source: Arc<Source>) -> Outcome {
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let source = Arc::clone(&source);
            tokio::spawn(async move {
                let mut range = [0; 16];
                recv.read_exact(&mut range).await?;
                let (from, to) = range.split_at(8);
                let mut at = u64::from_le_bytes(from.try_into()?);
                let to = u64::from_le_bytes(to.try_into()?);
                while at < to {
                    let step = usize::try_from(to - at)?.min(STEP);
                    let bytes = match &source.bytes {
                        Some(bytes) => {
                            let at = usize::try_from(at)?;
                            bytes.slice(at..at + step)
                        }
                        None => {
                            let source = Arc::clone(&source);
                            let read = move || {
                                let mut bytes = vec![0; step];
                                let read = source.file.read_exact_at(&mut bytes, at);
                                read.map(|()| Bytes::from(bytes))
                            };
                            tokio::task::spawn_blocking(read).await??
                        }
                    };
                    send.write_chunk(bytes).await?;
                    at += step as u64;
                }
                send.finish()?;
                Outcome::Ok(())
            });
        }
    }
    Ok(())
}

async fn pull_raw(
    connection: &iroh::endpoint::Connection,
    out: &Arc<File>,
    from: u64,
    to: u64,
) -> Outcome {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&from.to_le_bytes()).await?;
    send.write_all(&to.to_le_bytes()).await?;
    send.finish()?;
    let mut at = from;
    while at < to {
        let mut bytes = vec![0; usize::try_from(to - at)?.min(STEP)];
        recv.read_exact(&mut bytes).await?;
        let (out, len) = (Arc::clone(out), bytes.len() as u64);
        tokio::task::spawn_blocking(move || out.write_all_at(&bytes, at)).await??;
        at += len;
    }
    Ok(())
}
