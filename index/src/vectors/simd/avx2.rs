//! Codes 32 bytes at a time, stored vectors 32 components at a time.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_epi32, _mm_add_ps, _mm_cvtsi128_si32, _mm_cvtss_f32, _mm_movehl_ps,
    _mm_shuffle_epi32, _mm_shuffle_ps, _mm256_abs_epi8, _mm256_add_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_add_epi64, _mm256_add_ps, _mm256_and_si256, _mm256_andnot_ps,
    _mm256_broadcastsi128_si256, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32,
    _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_sad_epu8, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_sub_epi16,
    _mm256_sub_ps, _mm256_xor_si256,
};

use super::{load_8_singles, load_64, load_128, load_256, prefetch_ahead, store_8_singles};
use crate::{
    params::Dtype,
    vectors::{
        kernel::{CodeQuery, Sum, component, key},
        records::{Records, head},
        sketch::{SketchQuery, Sketches},
    },
};

/// As [`crate::vectors::kernel::Kernel::keys`]. Codes are never -128, so that pairs of products fit 16 bits.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn products(
    records: &Records<'_>,
    query: &CodeQuery<'_>,
    rows: &[u32],
    keys: &mut Vec<f32>,
) {
    let layout = records.layout();
    for (at, row) in rows.iter().enumerate() {
        prefetch_ahead(records, rows, at);
        let record = records.record(*row);
        let lines = record[..layout.code_bytes].as_chunks::<64>().0;
        let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (a, b) in query.code.as_chunks::<64>().0.iter().zip(lines) {
            let ([a, c], [b, d]) = (halves(a), halves(b));
            even = _mm256_add_epi32(even, products_of_32(a, b));
            odd = _mm256_add_epi32(odd, products_of_32(c, d));
        }
        let sum = sum_of_8(_mm256_add_epi32(even, odd));
        keys.push(key(head(record, layout), query.factor, sum));
    }
}

/// Both halves of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(line: &[u8; 64]) -> [__m256i; 2] {
    let halves = line.as_chunks::<32>().0;
    [load_256(&halves[0]), load_256(&halves[1])]
}

/// Sums of four products each of signed bytes that are never -128.
#[inline]
#[target_feature(enable = "avx2")]
fn products_of_32(a: __m256i, b: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(a, b));
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// As [`crate::vectors::kernel::Kernel::keys`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn differences(
    records: &Records<'_>,
    query: &CodeQuery<'_>,
    rows: &[u32],
    keys: &mut Vec<f32>,
) {
    let layout = records.layout();
    let top = _mm256_set1_epi8(-128);
    for (at, row) in rows.iter().enumerate() {
        prefetch_ahead(records, rows, at);
        let record = records.record(*row);
        let blocks = record[..layout.code_bytes].as_chunks::<32>().0;
        let mut sum = _mm256_setzero_si256();
        for (a, b) in query.code.as_chunks::<32>().0.iter().zip(blocks) {
            // With 128 added to both, signed bytes are unsigned ones with the same differences.
            let (a, b) = (load_256(a), load_256(b));
            let far = _mm256_sad_epu8(_mm256_xor_si256(a, top), _mm256_xor_si256(b, top));
            sum = _mm256_add_epi64(sum, far);
        }
        // Sums of 64 bits below 2^31: their upper halves are zero.
        keys.push(key(head(record, layout), query.factor, sum_of_8(sum)));
    }
}

/// Columns whose sums fit 16 bits: each adds at most 248.
const COLUMNS_OF_16_BITS: usize = 256;

/// As [`crate::vectors::kernel::Kernel::floors`].
#[target_feature(enable = "avx2")]
pub(super) fn floors(
    sketches: &Sketches<'_>,
    query: &SketchQuery,
    blocks: &[u32],
    floors: &mut Vec<f32>,
) {
    let nibble = _mm256_set1_epi8(0x0f);
    let (offset, slope) = (_mm256_set1_ps(query.offset), _mm256_set1_ps(query.slope));
    for block in blocks {
        let block = sketches.block(*block);
        // Of rows 0 to 7, 8 to 15, and so on.
        let mut sums = [_mm256_setzero_si256(); 4];
        for plane in block.columns.chunks(query.tables.len()) {
            // The bits of the plane before count twice.
            sums = sums.map(|sum| _mm256_add_epi32(sum, sum));
            let columns = plane.chunks(COLUMNS_OF_16_BITS);
            for (columns, tables) in columns.zip(query.tables.chunks(COLUMNS_OF_16_BITS)) {
                let (mut all, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
                for (column, [low, high]) in columns.iter().zip(tables) {
                    let bits = load_256(column);
                    let low = _mm256_broadcastsi128_si256(load_128(low));
                    let high = _mm256_broadcastsi128_si256(load_128(high));
                    let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble);
                    let both = _mm256_add_epi8(
                        _mm256_shuffle_epi8(low, _mm256_and_si256(bits, nibble)),
                        _mm256_shuffle_epi8(high, upper),
                    );
                    all = _mm256_add_epi16(all, both);
                    odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(both));
                }
                // What odd places added to the upper halves goes again, whatever was lost above them.
                let even = _mm256_sub_epi16(all, _mm256_slli_epi16::<8>(odd));
                let eights = [
                    _mm256_castsi256_si128(even),
                    _mm256_extracti128_si256::<1>(even),
                    _mm256_castsi256_si128(odd),
                    _mm256_extracti128_si256::<1>(odd),
                ];
                for (sum, eight) in sums.iter_mut().zip(eights) {
                    *sum = _mm256_add_epi32(*sum, _mm256_cvtepu16_epi32(eight));
                }
            }
        }
        let eights = block.biases.as_chunks::<32>().0.iter();
        let eights = eights.zip(block.factors.as_chunks::<32>().0).zip(sums);
        for ((bias, factor), sum) in eights {
            let bias = _mm256_castsi256_ps(load_256(bias));
            let factor = _mm256_castsi256_ps(load_256(factor));
            let near = _mm256_sub_ps(offset, _mm256_mul_ps(slope, _mm256_cvtepi32_ps(sum)));
            let mut eight = [0.0; 8];
            store_8_singles(_mm256_sub_ps(bias, _mm256_mul_ps(factor, near)), &mut eight);
            floors.extend_from_slice(&eight);
        }
    }
}

/// As [`crate::vectors::kernel::Kernel::sum`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum(sum: Sum, query: &[f32], dtype: Dtype, bytes: &[u8]) -> f32 {
    match (sum, dtype) {
        (Sum::Products, Dtype::F32) => sum_of::<PRODUCTS, F32>(query, bytes),
        (Sum::Products, Dtype::F16) => sum_of::<PRODUCTS, F16>(query, bytes),
        (Sum::Products, Dtype::U8) => sum_of::<PRODUCTS, U8>(query, bytes),
        (Sum::Squares, Dtype::F32) => sum_of::<SQUARES, F32>(query, bytes),
        (Sum::Squares, Dtype::F16) => sum_of::<SQUARES, F16>(query, bytes),
        (Sum::Squares, Dtype::U8) => sum_of::<SQUARES, U8>(query, bytes),
        (Sum::Differences, Dtype::F32) => sum_of::<DIFFERENCES, F32>(query, bytes),
        (Sum::Differences, Dtype::F16) => sum_of::<DIFFERENCES, F16>(query, bytes),
        (Sum::Differences, Dtype::U8) => sum_of::<DIFFERENCES, U8>(query, bytes),
    }
}

const PRODUCTS: u8 = 0;
const SQUARES: u8 = 1;
const DIFFERENCES: u8 = 2;
const F32: u8 = 0;
const F16: u8 = 1;
const U8: u8 = 2;

#[target_feature(enable = "avx2,fma,f16c")]
fn sum_of<const SUM: u8, const DTYPE: u8>(query: &[f32], bytes: &[u8]) -> f32 {
    let width = match DTYPE {
        F32 => 4,
        F16 => 2,
        _ => 1,
    };
    let mut sums = [_mm256_setzero_ps(); 4];
    let (groups, tail) = query.as_chunks::<32>();
    let mut at = 0;
    for group in groups {
        let stored = &bytes[at * width..(at + 32) * width];
        for (lane, sum) in sums.iter_mut().enumerate() {
            let q = load_8_singles(group[8 * lane..].first_chunk().expect("8 of 32"));
            let x = eight::<DTYPE>(&stored[8 * lane * width..]);
            *sum = add::<SUM>(*sum, q, x);
        }
        at += 32;
    }
    let (eights, tail) = tail.as_chunks::<8>();
    for q in eights {
        let x = eight::<DTYPE>(&bytes[at * width..(at + 8) * width]);
        sums[0] = add::<SUM>(sums[0], load_8_singles(q), x);
        at += 8;
    }
    let sum = _mm256_add_ps(
        _mm256_add_ps(sums[0], sums[1]),
        _mm256_add_ps(sums[2], sums[3]),
    );
    let mut total = sum_of_8_singles(sum);
    let dtype = match DTYPE {
        F32 => Dtype::F32,
        F16 => Dtype::F16,
        _ => Dtype::U8,
    };
    for q in tail {
        let x = component(dtype, bytes, at);
        total += match SUM {
            PRODUCTS => q * x,
            SQUARES => (q - x) * (q - x),
            _ => (q - x).abs(),
        };
        at += 1;
    }
    total
}

/// The first eight components in `bytes`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn eight<const DTYPE: u8>(bytes: &[u8]) -> __m256 {
    match DTYPE {
        F32 => std::arch::x86_64::_mm256_castsi256_ps(load_256(
            bytes.first_chunk().expect("8 singles"),
        )),
        F16 => _mm256_cvtph_ps(load_128(bytes.first_chunk().expect("8 halves"))),
        _ => _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_64(
            bytes.first_chunk().expect("8 bytes"),
        ))),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add<const SUM: u8>(sum: __m256, q: __m256, x: __m256) -> __m256 {
    match SUM {
        PRODUCTS => _mm256_fmadd_ps(q, x, sum),
        SQUARES => {
            let far = _mm256_sub_ps(q, x);
            _mm256_fmadd_ps(far, far, sum)
        }
        _ => {
            let far = _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(q, x));
            _mm256_add_ps(sum, far)
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_8(lanes: __m256i) -> i32 {
    let four = _mm_add_epi32(
        _mm256_castsi256_si128(lanes),
        _mm256_extracti128_si256::<1>(lanes),
    );
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    _mm_cvtsi128_si32(one)
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_8_singles(lanes: __m256) -> f32 {
    let four = _mm_add_ps(
        _mm256_castps256_ps128(lanes),
        _mm256_extractf128_ps::<1>(lanes),
    );
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    let one = _mm_add_ps(two, _mm_shuffle_ps::<1>(two, two));
    _mm_cvtss_f32(one)
}
