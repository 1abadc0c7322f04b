//! Makes a Llama-shaped checkpoint of any size: sharded BF16 safetensors with index, config and
//! tokenizer. The same arguments give the same bytes anywhere.
//!
//! ```text
//! make-model /tmp/v1 --size 4G
//! make-model /tmp/v2 --size 4G --change 0.1     # 10 % of the bytes are of other tensors
//! ```

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use lode_bench::{llama, size};

#[derive(Parser)]
#[command(about = "Makes a Llama-shaped checkpoint of any size")]
struct Arguments {
    /// Folder to make it in.
    folder: PathBuf,
    /// About how many bytes of tensors, such as 250M or 4G.
    #[arg(long, default_value = "1G", value_parser = size::parse)]
    size: u64,
    /// Most bytes of tensors in one file.
    #[arg(long, default_value = "5G", value_parser = size::parse)]
    shard_size: u64,
    /// Divide into about this many files instead.
    #[arg(long, conflicts_with = "shard_size", value_parser = clap::value_parser!(u64).range(1..))]
    shards: Option<u64>,
    /// Where the values come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take at most this fraction of the bytes, in whole tensors, from another seed.
    #[arg(long, value_name = "FRACTION")]
    change: Option<f64>,
    /// That other seed.
    #[arg(long, default_value_t = 2)]
    change_seed: u64,
    /// Threads that write.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let shard_size = match arguments.shards {
        None => arguments.shard_size,
        Some(1) => u64::MAX,
        Some(count) => arguments.size.div_ceil(count),
    };
    let start = Instant::now();
    let made = llama::make(
        &arguments.folder,
        &llama::Options {
            size: arguments.size,
            shard_size,
            seed: arguments.seed,
            changed: arguments
                .change
                .map(|fraction| (fraction, arguments.change_seed)),
            threads: arguments.threads,
        },
    )?;
    let seconds = start.elapsed().as_secs_f64();
    let (changed, changed_bytes) = made.changed;
    println!(
        "{} tensors, {} bytes, {} shards, {changed} tensors of {changed_bytes} bytes changed, {:.2} GB/s",
        made.tensors,
        made.bytes,
        made.shards,
        made.bytes as f64 / 1e9 / seconds,
    );
    Ok(())
}
