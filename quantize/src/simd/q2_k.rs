//! [`crate::q2_k`], sixteen sub-blocks at once, eight in a register.

use std::arch::x86_64::{_mm256_set1_ps, _mm256_setzero_ps, _mm256_xor_ps};

use super::affine_k::{search, take_codes};
use super::{LANES, abs, lanes, spread};
use crate::q2_k::{
    BYTES, CODES, PART, PARTS, SEARCH, WEIGHTS, pack, put_scales, quantize as scalar,
};

const GROUPS: usize = PARTS / LANES;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<WEIGHTS>().0.iter();
    for (x, block) in blocks.zip(out.as_chunks_mut::<BYTES>().0) {
        if !quantize_block(x, block) {
            scalar(x, block);
        }
    }
}

/// False when the scalar code is needed.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn quantize_block(x: &[f32; WEIGHTS], block: &mut [u8; BYTES]) -> bool {
    let parts = [spread::<PART>(&x[..WEIGHTS / 2]), spread(&x[WEIGHTS / 2..])];
    let mut weights = [[_mm256_setzero_ps(); PART]; GROUPS];
    for (weights, part) in weights.iter_mut().zip(&parts) {
        for (weight, &v) in weights.iter_mut().zip(part) {
            *weight = abs(v);
        }
    }
    let Some(found) = search::<PART, GROUPS, true>(SEARCH, &parts, &weights) else {
        return false;
    };
    let (mut scales, mut mins) = ([0.0; PARTS], [0.0; PARTS]);
    for g in 0..GROUPS {
        scales[g * LANES..][..LANES].copy_from_slice(&lanes(found[g].scale));
        let min = _mm256_xor_ps(found[g].min, _mm256_set1_ps(-0.0));
        mins[g * LANES..][..LANES].copy_from_slice(&lanes(min));
    }
    let read = put_scales(&scales, &mins, block);
    let (scales, mins) = (read.map(|(scale, _)| scale), read.map(|(_, min)| min));
    let mut codes = [0; WEIGHTS];
    for (g, codes) in codes.chunks_exact_mut(WEIGHTS / GROUPS).enumerate() {
        let scale = &scales.as_chunks().0[g];
        let min = &mins.as_chunks().0[g];
        if !take_codes(&parts[g], &found[g], scale, min, SEARCH.max_code, codes) {
            return false;
        }
    }
    pack(&codes, &mut block[CODES]);
    true
}
