//! Every bound on what is quantized. Each has a test that passes it by one.

/// Most weights in one row. ggml counts the weights of a row in a signed 32-bit integer.
pub const ROW_WEIGHTS_MAX: u64 = i32::MAX as u64;

/// Most weights in one block of any type.
pub const BLOCK_WEIGHTS_MAX: usize = 256;

/// Largest magnitude of a weight that is made into blocks with half-precision scales: 2^28. None of these types
/// can say more (the largest is 65,504 * 128 * 32), and the sums of the searches stay far from infinity,
/// where the reference would write zeros instead.
pub const WEIGHT_MAX: f32 = 268_435_456.0;

/// Longest row of a matrix that gets scales by row or by square, in weights. Reading one byte of it may take the whole
/// row, or 128 of them: 128 MiB of singles. The widest layers of large models have a fifth of it.
pub const LINEAR_COLUMNS_MAX: u64 = 1 << 18;

/// Most bytes of scales that a layout keeps once they are known. Tensors beyond it have theirs made again. A model of
/// 400 billion weights has 40 MiB of them.
pub const SCALES_KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest recipe, in bytes.
pub const RECIPE_BYTES_MAX: usize = 4096;

/// Weights that are decoded at a time: two of the largest blocks, so that both can be in flight at once.
pub(crate) const STRIP_WEIGHTS: usize = 2 * BLOCK_WEIGHTS_MAX;

/// Longest `config.json` that is read, in bytes.
pub const CONFIG_BYTES_MAX: u64 = lode_tensors::limits::CONFIG_BYTES_MAX as u64;

/// Largest dimension, context length or number of heads in a `config.json`: the product of two fits 64 bits.
pub const CONFIG_COUNT_MAX: u32 = 1 << 30;

/// Most layers of a model that is converted. llama.cpp reads no more.
pub const LAYERS_MAX: u32 = 512;

/// Most tokens of a vocabulary: four times the largest seen.
pub const TOKENS_MAX: u32 = 1 << 20;

/// Most merges of a tokenizer: twice the largest seen.
pub const MERGES_MAX: usize = 1 << 20;

/// Longest `tokenizer.json` that is read, in bytes. That of gemma 3 has 33 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Longest `tokenizer.model` that is read, in bytes. That of gemma 3 has 5 MB.
pub const SENTENCEPIECE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest `tokenizer_config.json` that is read, in bytes: some repeat thousands of added tokens.
pub const TOKENIZER_CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Longest chat template that is read from a file of its own, in bytes.
pub const CHAT_TEMPLATE_BYTES_MAX: u64 = 1024 * 1024;

/// Longest description of a part of a tokenizer (normalizer, pre-tokenizer, decoder, post-processor), in bytes.
pub const TOKENIZER_PART_BYTES_MAX: usize = 256 * 1024;

/// Most steps in which a pre-tokenizer splits text: three times as many as any seen. Each may hold a compiled pattern.
pub const SPLIT_STEPS_MAX: usize = 16;

/// Longest pattern that a pre-tokenizer splits text with, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// Steps that the search for a pattern in the test text of 431 bytes may take back.
pub const PATTERN_STEPS_MAX: usize = 100_000;

/// Largest program that a pattern may become, in bytes.
pub const PATTERN_PROGRAM_BYTES_MAX: usize = 4 * 1024 * 1024;
