//! Sketches: one or two bits a component and two singles for each row (docs/format/segment.md, `vec-sketch`), by which a scan
//! tells what may be near from what is not, in a seventh of the bytes of codes, 32 rows at a time.
//!
//! The estimator is that of RaBitQ (Gao and Long, SIGMOD 2024; of more bits: Gao et al., SIGMOD 2025): with `y` the rotated difference
//! from the centre and `s` its levels (1 bit: signs, -1 and 1; 2 bits: -3, -1, 1 and 3), `factor = |y|^2 / <y, s>`, and
//! `factor * <s, q>` is an unbiased estimate of `<y, q>` whose error has a deviation of about `u * factor * |q|`: what the levels of a
//! random direction do not say. A search computes a *floor* of each row's key, some deviations below the estimate, and looks at the
//! codes of those alone whose floor is below the keys of rows that were found. Fewer components say less: two bits of each tell as
//! much as one bit of four times as many.
//!
//! Sums are looked up four bits at a time, for 32 rows at once (Andre, Kermarrec and Le Scouarnec, VLDB 2015, as RaBitQ does); tables
//! have bytes because components of a query have 32 levels.

use super::{
    coder::Coder,
    rotation::{WORD_BITS, rotate},
    stored,
};
use crate::{
    limits::{SKETCH_DIM_MIN, SKETCH_ONE_BIT_DIM_MIN, SKETCH_VECTORS_MIN},
    params::{Metric, VectorParams},
};

/// Rows of a block.
pub(super) const BLOCK_ROWS: usize = BLOCK as usize;

/// The same, where rows are counted.
pub(super) const BLOCK: u32 = 32;

/// Bytes of the numbers of one kind in a block.
const SINGLES_BYTES: usize = 4 * BLOCK_ROWS;

/// Components of a column.
const COLUMN_BITS: usize = 8;

/// The highest level of a query's component: two sums of four fit a byte.
const LEVEL_MAX: u8 = 31;

/// Where the outer levels begin, over the deviation of a component: the step with which four levels say most of a normal
/// distribution (Max, IRE Transactions on Information Theory, 1960).
const OUTER: f64 = 0.9957;

/// How many deviations of the estimate the floor of a key lies below it. With 2.0 and 2.4 the nearest row of 3 in 100 uniform
/// vectors is lost; more costs codes that are looked at (docs/benchmarks.md).
const DEVIATIONS: f32 = 2.8;

/// Tells whether a segment with so many vectors gets sketches. Measured (docs/benchmarks.md).
pub(super) fn pays(params: VectorParams, vectors: u32) -> bool {
    params.metric != Metric::Manhattan
        && params.dim.get() >= SKETCH_DIM_MIN
        && vectors >= SKETCH_VECTORS_MIN
}

/// Bits of a component of a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    /// Whether it is above 0.
    One,
    /// Which of four levels it has.
    Two,
}

impl Bits {
    /// Those that are written for vectors of `dim` components. Measured (docs/benchmarks.md).
    pub(super) fn of_dim(dim: usize) -> Self {
        if dim < SKETCH_ONE_BIT_DIM_MIN {
            Self::Two
        } else {
            Self::One
        }
    }

    /// Those of sketches of so many rows in so many bytes, if there are such sketches.
    pub(super) fn of_bytes(dim: usize, rows: usize, bytes: usize) -> Option<Self> {
        let blocks = rows.div_ceil(BLOCK_ROWS);
        let fits = |bits: &Self| blocks.checked_mul(bits.block_bytes(dim)) == Some(bytes);
        [Self::One, Self::Two].into_iter().find(fits)
    }

    /// Bytes of a block of vectors of `dim` components.
    pub(super) fn block_bytes(self, dim: usize) -> usize {
        let columns = dim.next_multiple_of(WORD_BITS) / COLUMN_BITS;
        2 * SINGLES_BYTES + self.count() * columns * BLOCK_ROWS
    }

    fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// The highest level; the others are the odd numbers down to its negative.
    fn highest(self) -> i8 {
        match self {
            Self::One => 1,
            Self::Two => 3,
        }
    }

    /// Which level a component has, from 0, the lowest; `outer` is where the outer ones begin.
    #[inline(always)]
    fn index(self, x: f32, outer: f32) -> u8 {
        let sign = u8::from(x > 0.0);
        match self {
            Self::One => sign,
            Self::Two => sign + u8::from(x > outer) + u8::from(x > -outer),
        }
    }

    /// The part of a random direction that its levels do not say, over `factor * |q|`: with `c` the cosine between the two, `|s|
    /// sqrt(1 - c^2)` for each component. Of signs that is the root of `1 - 2/pi`.
    fn unsaid(self) -> f32 {
        match self {
            Self::One => 0.602_8,
            Self::Two => 0.649_9,
        }
    }
}

/// The sketches of a field, in blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sketches<'a> {
    bytes: &'a [u8],
    block_bytes: usize,
}

/// The sketches of 32 rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(super) biases: &'a [u8; SINGLES_BYTES],
    pub(super) factors: &'a [u8; SINGLES_BYTES],
    /// Bits of eight components after the other, the upper bits of all components before the lower ones; which byte is that of a
    /// row: see [`place`].
    pub(super) columns: &'a [[u8; BLOCK_ROWS]],
}

impl<'a> Sketches<'a> {
    /// The sketches in `bytes`, which are whole blocks.
    pub(super) fn new(bytes: &'a [u8], dim: usize, bits: Bits) -> Self {
        Self {
            bytes,
            block_bytes: bits.block_bytes(dim),
        }
    }

    /// # Panics
    ///
    /// Beyond the last block.
    #[inline(always)]
    pub(super) fn block(&self, at: u32) -> Block<'a> {
        let block = &self.bytes[at as usize * self.block_bytes..][..self.block_bytes];
        let (biases, rest) = block.split_first_chunk().expect("numbers");
        let (factors, columns) = rest.split_first_chunk().expect("numbers");
        Block {
            biases,
            factors,
            columns: columns.as_chunks().0,
        }
    }
}

/// The byte of a column that is a row's: those of the first 16 rows at even places, so that pairs of bytes add up to sums of
/// neighbouring rows.
#[inline(always)]
fn place(slot: usize) -> usize {
    slot % 16 * 2 + slot / 16
}

/// Makes a block of the stored vectors of its rows: `vector` gives none for a row without, and beyond the last.
pub(super) fn encode<'a>(
    coder: &Coder,
    bits: Bits,
    block: &mut [u8],
    vector: impl Fn(u32) -> Option<&'a [u8]>,
) {
    block.fill(0);
    let mut rotated = Vec::new();
    for (slot, row) in (0..BLOCK_ROWS).zip(0..) {
        let (mut bias, mut factor) = (f32::INFINITY, 0.0);
        if let Some(bytes) = vector(row) {
            stored::decode(coder.params().dtype, bytes, &mut rotated);
            let squares = turn(coder, &mut rotated);
            let outer = outer(squares, rotated.len());
            let product: f64 = rotated
                .iter()
                .map(|x| {
                    let level = 2 * bits.index(*x, outer).cast_signed() - bits.highest();
                    f64::from(*x) * f64::from(level)
                })
                .sum();
            #[allow(clippy::cast_possible_truncation)] // components are bounded
            if product > 0.0 {
                factor = (squares / product) as f32;
            }
            #[allow(clippy::cast_possible_truncation)]
            let squares = squares as f32;
            bias = match coder.params().metric {
                Metric::Dot => 0.0,
                _ => squares,
            };
            let columns = block[2 * SINGLES_BYTES..].as_chunks_mut::<BLOCK_ROWS>().0;
            let planes = columns.chunks_exact_mut(rotated.len() / COLUMN_BITS);
            for (plane, columns) in (0..bits.count()).rev().zip(planes) {
                for (column, xs) in columns.iter_mut().zip(rotated.chunks_exact(COLUMN_BITS)) {
                    let set = xs.iter().map(|x| bits.index(*x, outer) >> plane & 1);
                    column[place(slot)] = set.rev().fold(0, |bits, set| bits << 1 | set);
                }
            }
        }
        block[4 * slot..][..4].copy_from_slice(&bias.to_le_bytes());
        block[SINGLES_BYTES + 4 * slot..][..4].copy_from_slice(&factor.to_le_bytes());
    }
}

/// Where the outer levels of a rotated vector begin.
fn outer(squares: f64, len: usize) -> f32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    // components are bounded
    let outer = (OUTER * (squares / len as f64).sqrt()) as f32;
    outer
}

/// Takes the centre off a vector, fills it up to whole words and rotates it; gives its squared length.
fn turn(coder: &Coder, vector: &mut Vec<f32>) -> f64 {
    coder.centred(vector);
    let squares = stored::norm(vector).powi(2);
    vector.resize(vector.len().next_multiple_of(WORD_BITS), 0.0);
    rotate(vector);
    squares
}

/// A query, rotated, each component one of 32 levels: `step` times an odd number from -31 to 31.
#[derive(Debug, Clone)]
pub(crate) struct SketchQuery {
    /// For each column of a plane what the lower four of its bits add to a sum, and what the upper four: for each bit that is set how
    /// far the component's level is from the highest, else from the lowest.
    pub(super) tables: Vec<[[u8; 16]; 2]>,
    /// What the floor of a key takes off its bias, times the factor: the offset, less the slope times the sum.
    pub(super) offset: f32,
    pub(super) slope: f32,
}

impl SketchQuery {
    /// Prepares a query, which was checked and normalised.
    pub(super) fn new(coder: &Coder, bits: Bits, vector: &[f32]) -> Self {
        let mut vector = vector.to_vec();
        let squares = turn(coder, &mut vector);
        let max = vector.iter().fold(0f32, |max, x| max.max(x.abs()));
        let step = max / f32::from(LEVEL_MAX);
        let inverse = if step > f32::MIN_POSITIVE {
            0.5 / step
        } else {
            0.0
        };
        let table = |xs: &[f32]| {
            let mut table = [0; 16];
            for (bit, x) in xs.iter().enumerate() {
                let level = x * inverse + (f32::from(LEVEL_MAX) + 1.0) / 2.0;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
                let level = level.clamp(0.0, f32::from(LEVEL_MAX)) as u8;
                for (signs, sum) in table.iter_mut().enumerate() {
                    let set = signs >> bit & 1 == 1;
                    *sum += if set { LEVEL_MAX - level } else { level };
                }
            }
            table
        };
        let columns = vector.chunks_exact(COLUMN_BITS);
        let tables = columns.map(|xs| [table(&xs[..4]), table(&xs[4..])]);
        let weight = match coder.params().metric {
            Metric::Dot => 1.0,
            _ => 2.0,
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // bounded
        let (length, components) = (squares.sqrt() as f32, vector.len() as f32);
        let most = f32::from(bits.highest()) * (step * (f32::from(LEVEL_MAX) * components));
        Self {
            tables: tables.collect(),
            offset: weight * (most + DEVIATIONS * bits.unsaid() * length),
            slope: weight * (2.0 * step),
        }
    }
}

/// The floors of the keys of a block's rows: lower is nearer. Of whole numbers in three roundings, so that every twin gives
/// the same bits.
pub(super) fn floors(block: &Block<'_>, query: &SketchQuery) -> [f32; BLOCK_ROWS] {
    let mut sums = [0u32; BLOCK_ROWS];
    for plane in block.columns.chunks(query.tables.len()) {
        // The bits of the plane before count twice.
        sums = sums.map(|sum| 2 * sum);
        for (column, [low, high]) in plane.iter().zip(&query.tables) {
            for (slot, sum) in sums.iter_mut().enumerate() {
                let bits = column[place(slot)];
                *sum += u32::from(low[usize::from(bits & 15)] + high[usize::from(bits >> 4)]);
            }
        }
    }
    let mut floors = [0.0; BLOCK_ROWS];
    let numbers =
        |bytes: &'_ [u8; SINGLES_BYTES], slot: usize| f32::from_le_bytes(bytes.as_chunks().0[slot]);
    for (slot, (floor, sum)) in floors.iter_mut().zip(sums).enumerate() {
        #[allow(clippy::cast_precision_loss)]
        // below 2^24: at most 31 times the most components, or three times that
        let near = query.offset - query.slope * sum as f32;
        *floor = numbers(block.biases, slot) - numbers(block.factors, slot) * near;
    }
    floors
}
