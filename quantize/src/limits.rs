//! Every bound on what is quantized. Each has a test that passes it by one.

/// Most weights in one row. ggml counts the weights of a row in a signed 32-bit integer.
pub const ROW_WEIGHTS_MAX: u64 = i32::MAX as u64;

/// Most weights in one block of any type.
pub const BLOCK_WEIGHTS_MAX: usize = 256;

/// Largest magnitude of a weight that is made into blocks with half-precision scales: 2^28. None of these types
/// can say more (the largest is 65,504 * 128 * 32), and the sums of the searches stay far from infinity,
/// where the reference would write zeros instead.
pub const WEIGHT_MAX: f32 = 268_435_456.0;

/// Weights that are decoded at a time: two of the largest blocks, so that both can be in flight at once.
pub(crate) const STRIP_WEIGHTS: usize = 2 * BLOCK_WEIGHTS_MAX;
