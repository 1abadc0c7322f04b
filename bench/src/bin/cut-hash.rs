//! The part of a push that SHA-256 does not do: cutting a file, BLAKE3 of its chunks, their outboards.
//! A peer of `b3sum` with the same number of threads.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, time::Instant};

use clap::Parser;
use lode_store::{
    cut::tensor_cuts,
    hashing::{FileHashes, HashOptions, HashedChunk, Plan, Source, Visitor, hash_files},
    sidecar::Pins,
};
use lode_tensors::{ParseError, limits::PREFIX_BYTES_FIRST};

#[derive(Parser)]
struct Arguments {
    /// The file.
    file: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

struct Cut;

impl Visitor for Cut {
    type Error = io::Error;

    fn open(&self, _: usize, handle: &File, pins: &Pins) -> io::Result<Plan> {
        let mut wanted = PREFIX_BYTES_FIRST.min(pins.len);
        loop {
            let mut prefix = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
            handle.read_exact_at(&mut prefix, 0)?;
            match lode_tensors::parse(&prefix, pins.len) {
                Ok(header) => return Ok(Plan::Known(tensor_cuts(&header, pins.len))),
                Err(ParseError::NeedMore { bytes }) => wanted = bytes,
                Err(_) => return Ok(Plan::Content),
            }
        }
    }

    fn chunk(&self, chunk: HashedChunk<'_>) -> io::Result<()> {
        std::hint::black_box((chunk.hash, chunk.outboard.len()));
        Ok(())
    }

    fn done(&self, _: usize, hashes: FileHashes) -> io::Result<()> {
        eprintln!("{} chunks by {}", hashes.chunks.len(), hashes.rule);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let options = HashOptions {
        threads: arguments.threads,
        digests: false,
        ..HashOptions::default()
    };
    let start = Instant::now();
    let file = Source {
        path: arguments.file,
    };
    hash_files(&[file], &options, &Cut)?;
    println!("{:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}
