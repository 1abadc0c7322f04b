//! The part of a push that SHA-256 does not do: cutting a file, BLAKE3 of its chunks, their outboards.
//! A peer of `b3sum` with the same number of threads.

use std::{path::PathBuf, time::Instant};

use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// The file.
    file: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let start = Instant::now();
    let hashes = lode_bench::cut::hash(&arguments.file, arguments.threads)?;
    eprintln!("{} chunks by {}", hashes.chunks.len(), hashes.rule);
    println!("{:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}
