//! Products of codes, 64 at a time.
//!
//! VNNI multiplies unsigned bytes with signed ones. The query's bytes get 128 added (their top bit is flipped),
//! and 128 times the sum of the record's code, which stands in the record, is taken off again.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8,
    _mm512_setzero_si512, _mm512_xor_si512,
};

use super::{load_512, prefetch_ahead};
use crate::vectors::{
    kernel::{CodeQuery, key},
    records::{Records, head},
};

/// As [`crate::vectors::kernel::Kernel::keys`]. Codes of the lengths that models have get loops whose query stays in
/// registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn products(
    records: &Records<'_>,
    query: &CodeQuery<'_>,
    rows: &[u32],
    keys: &mut Vec<f32>,
) {
    match query.code.len() / 64 {
        1 => held::<1>(records, query, rows, keys),
        2 => held::<2>(records, query, rows, keys),
        4 => held::<4>(records, query, rows, keys),
        6 => held::<6>(records, query, rows, keys),
        8 => held::<8>(records, query, rows, keys),
        12 => held::<12>(records, query, rows, keys),
        16 => held::<16>(records, query, rows, keys),
        _ => any(records, query, rows, keys),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn held<const BLOCKS: usize>(
    records: &Records<'_>,
    query: &CodeQuery<'_>,
    rows: &[u32],
    keys: &mut Vec<f32>,
) {
    let layout = records.layout();
    let mut held = [_mm512_setzero_si512(); BLOCKS];
    for (register, block) in held.iter_mut().zip(query.code.as_chunks::<64>().0) {
        *register = unsigned(block);
    }
    for (at, row) in rows.iter().enumerate() {
        prefetch_ahead(records, rows, at);
        let record = records.record(*row);
        let blocks = record[..BLOCKS * 64].as_chunks::<64>().0;
        let mut sums = [_mm512_setzero_si512(); 2];
        for block in 0..BLOCKS {
            let sum = &mut sums[block % 2];
            *sum = _mm512_dpbusd_epi32(*sum, held[block], load_512(&blocks[block]));
        }
        let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
        let head = head(record, layout);
        let signed = sum.wrapping_sub(head.sum.wrapping_mul(128));
        keys.push(key(head, query.factor, signed));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn any(records: &Records<'_>, query: &CodeQuery<'_>, rows: &[u32], keys: &mut Vec<f32>) {
    let layout = records.layout();
    for (at, row) in rows.iter().enumerate() {
        prefetch_ahead(records, rows, at);
        let record = records.record(*row);
        let blocks = record[..layout.code_bytes].as_chunks::<64>().0;
        let (pairs, rest) = query.code.as_chunks::<64>().0.as_chunks::<2>();
        let (stored, stored_rest) = blocks.as_chunks::<2>();
        let mut sums = [_mm512_setzero_si512(); 2];
        for ([a, c], [b, d]) in pairs.iter().zip(stored) {
            sums[0] = _mm512_dpbusd_epi32(sums[0], unsigned(a), load_512(b));
            sums[1] = _mm512_dpbusd_epi32(sums[1], unsigned(c), load_512(d));
        }
        for (a, b) in rest.iter().zip(stored_rest) {
            sums[0] = _mm512_dpbusd_epi32(sums[0], unsigned(a), load_512(b));
        }
        let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
        let head = head(record, layout);
        let signed = sum.wrapping_sub(head.sum.wrapping_mul(128));
        keys.push(key(head, query.factor, signed));
    }
}

/// Signed bytes with 128 added.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn unsigned(block: &[u8; 64]) -> __m512i {
    _mm512_xor_si512(load_512(block), _mm512_set1_epi8(-128))
}
