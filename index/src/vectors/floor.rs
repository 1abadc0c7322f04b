//! Floors: what the key of a stored vector is at least, by its code and by what the code leaves unsaid.
//!
//! With `x^` what the code of `x` says and `e_x = |x - x^|`, and the same of the query `q`:
//!
//! - `<q, x> <= <q^, x^> + |q| e_x + |x^| e_q` (Cauchy and Schwarz), for cosine and dot
//! - `|q - x| >= |q^ - x^| - e_q - e_x` (the triangle), for Euclid
//!
//! Beside these stands what the sums of singles may be off by, of keys of codes and of stored vectors: at most one unit in the last
//! place a term (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). So no row whose
//! floor lies above a key is nearer than that key, and a search that looks at the others is exact.

use crate::params::Metric;

/// Roundings of a key beside one for each component.
const ROUNDINGS: usize = 16;

/// A vector of which there is a code. Both numbers are rounded up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Unsaid {
    /// Its length.
    pub(super) length: f32,
    /// The length of its difference to what the code says.
    pub(super) error: f32,
}

impl Unsaid {
    /// What `code`, each of whose components counts `scale`, leaves unsaid of `vector`.
    pub(super) fn of(vector: &[f32], code: &[u8], scale: f32) -> Self {
        let (mut squares, mut errors) = (0f64, 0f64);
        for (x, byte) in vector.iter().zip(code) {
            let x = f64::from(*x);
            let error = x - f64::from(scale) * f64::from(byte.cast_signed());
            squares += x * x;
            errors += error * error;
        }
        Self {
            length: above(squares.sqrt()),
            error: above(errors.sqrt()),
        }
    }

    /// At least the length of what the code says.
    fn said(self) -> f32 {
        self.length + self.error
    }
}

/// The most that codes of several vectors leave unsaid, and the greatest bias beside them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Worst {
    unsaid: Unsaid,
    bias: f32,
}

impl Worst {
    /// Takes in one more.
    pub(super) fn take(&mut self, unsaid: Unsaid, bias: f32) {
        self.unsaid.length = self.unsaid.length.max(unsaid.length);
        self.unsaid.error = self.unsaid.error.max(unsaid.error);
        self.bias = self.bias.max(bias);
    }
}

/// A single that is no less, however the double was rounded.
fn above(x: f64) -> f32 {
    #[allow(clippy::cast_possible_truncation)] // lengths of vectors are far below the greatest
    let single = x as f32;
    single.next_up().next_up()
}

/// Turns keys of codes into floors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floors {
    metric: Metric,
    query: Unsaid,
    /// The squared length of what the query's code says.
    squares: f32,
    /// What a sum is off by, as a part of the sum of its magnitudes.
    rough: f32,
}

impl Floors {
    /// For a query of `dim` components with such a code; `squares` is the bias of its code.
    pub(super) fn new(metric: Metric, dim: usize, query: Unsaid, squares: f32) -> Self {
        #[allow(clippy::cast_precision_loss)] // below 2^17
        let rough = (dim + ROUNDINGS) as f32 * f32::EPSILON;
        Self {
            metric,
            query,
            squares,
            rough,
        }
    }

    /// What the key of a stored vector is at least: `key` is that of its code, and `bias` stands beside it.
    #[inline]
    pub(super) fn floor(&self, key: f32, bias: f32, row: Unsaid) -> f32 {
        let (query, rough) = (self.query, self.rough);
        let unsaid = query.length * row.error + row.said() * query.error;
        let products = query.said() * row.said();
        match self.metric {
            Metric::Dot => key - unsaid - rough * products - f32::MIN_POSITIVE,
            Metric::Cosine => {
                let off = rough * (products + row.said() * row.said());
                (key - bias) / 2.0 - unsaid - off - f32::MIN_POSITIVE
            }
            Metric::Euclid => {
                let lengths = query.said() + row.said();
                let squares = key + self.squares - rough * (lengths * lengths);
                let least = squares.max(0.0).sqrt() - (query.error + row.error);
                let least = least.max(0.0);
                least * least * (1.0 - rough).max(0.0)
            }
            // No code of a stored vector says all of its differences.
            Metric::Manhattan => f32::NEG_INFINITY,
        }
    }

    /// The greatest key of a code whose floor may be as low as `bound`, among vectors of whose codes `worst` is known.
    pub(super) fn limit(&self, bound: f32, worst: Worst) -> f32 {
        let (row, rough) = (worst.unsaid, self.rough);
        if bound == f32::INFINITY {
            return bound;
        }
        let unsaid = self.query.length * row.error + row.said() * self.query.error;
        let products = self.query.said() * row.said();
        let limit = match self.metric {
            Metric::Dot => bound + unsaid + 2.0 * rough * products,
            Metric::Cosine => {
                let off = rough * (products + row.said() * row.said());
                2.0 * (bound + unsaid + 2.0 * off) + worst.bias
            }
            Metric::Euclid => {
                let lengths = self.query.said() + row.said();
                let most = (bound / (1.0 - rough)).sqrt() + self.query.error + row.error;
                most * most * (1.0 + rough) - self.squares + 2.0 * rough * (lengths * lengths)
            }
            Metric::Manhattan => f32::INFINITY,
        };
        limit + limit.abs() * rough + f32::MIN_POSITIVE
    }
}
