//! What the parsers of model files promise, on files written here and on real ones.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr
)]

mod gguf;
mod limits;
mod real_models;
mod safetensors;
mod shard_index;
