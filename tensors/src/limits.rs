//! Every bound on what a model file may claim. Each has a test that passes it by one.

/// Longest header that is parsed, in bytes: what the `safetensors` crate allows, and several times
/// the largest tokenizer seen in a GGUF header.
pub const HEADER_BYTES_MAX: u64 = 100_000_000;

/// A good first prefix to hand to [`parse`](crate::parse), in bytes: holds most safetensors headers.
pub const PREFIX_BYTES_FIRST: u64 = 1024 * 1024;

/// Most tensors in one file.
pub const TENSORS_MAX: usize = 500_000;

/// Longest tensor name or metadata key, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;

/// Most dimensions of a tensor in safetensors (what torch and numpy allow).
pub const RANK_MAX: usize = 64;

/// Most dimensions of a tensor in GGUF (`GGML_MAX_DIMS`).
pub const GGUF_RANK_MAX: usize = 4;

/// Most metadata entries in one header.
pub const METADATA_ENTRIES_MAX: usize = 65_536;

/// Deepest nesting of arrays in a GGUF metadata value.
pub const ARRAY_DEPTH_MAX: usize = 8;

/// Largest `general.alignment` of a GGUF file, in bytes.
pub const ALIGNMENT_BYTES_MAX: u64 = 1024 * 1024;

/// Longest `*.safetensors.index.json` that is parsed, in bytes.
pub const INDEX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most tensors named by one shard index.
pub const INDEX_ENTRIES_MAX: usize = 500_000;

/// Longest file name in a shard index, in bytes.
pub const SHARD_NAME_BYTES_MAX: usize = 255;

/// Longest `config.json` that is read for a slice, in bytes: some name a thousand labels.
pub const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most ranks that a model is sliced for.
pub const RANKS_MAX: u64 = 4096;

/// Bytes that tell the formats apart.
pub(crate) const SNIFF_BYTES: usize = 9;
