//! The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): spreads the bits of a number over all 64. Graphs and
//! sketches in files depend on it.

/// What the generator adds to its state for each number.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number that the generator gives in a state.
#[inline(always)]
pub(crate) fn mix(state: u64) -> u64 {
    let x = state.wrapping_add(STEP);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
