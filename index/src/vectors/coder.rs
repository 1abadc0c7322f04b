//! Makes codes: one signed byte per component, by which a search finds its way; the best are then scored by the stored
//! vectors themselves.
//!
//! - Cosine and Euclid: the code of `x - c`, where `c` is the mean of the segment's vectors, under a scale of its own
//!   for each vector. The key is the squared distance to what the code says, less that of the query to `c`. Vectors of
//!   length 1 have the same order by either metric.
//! - Dot: the same without a mean; the key is the negated product.
//! - Manhattan: codes under one scale around the middle of all components, so that differences of codes are
//!   differences of components. A component beyond all stored ones is as far from each as the nearest code is, but for a
//!   constant.
//!
//! All is plain arithmetic of singles and doubles in a fixed order: the same vectors give the same bytes everywhere.

use super::{
    floor::{Floors, Unsaid},
    kernel::{CodeQuery, CodeSum},
    records::{Head, Layout, head, put_head},
    stored,
};
use crate::params::{Dtype, Metric, VectorParams};

/// Largest magnitude of a component of a code.
const CODE_MAX: f32 = 127.0;

/// Vectors of which the mean is taken, at most: spread over all rows.
const MEAN_ROWS: usize = 16_384;

/// Scales below it count as zero: their reciprocals would not be finite.
const SCALE_MIN: f32 = 1e-30;

/// What all codes of a segment's field have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Coder {
    params: VectorParams,
    /// What is taken off each vector.
    centre: Vec<f32>,
    /// The one scale of Manhattan; else 0.
    scale: f32,
}

impl Coder {
    /// A coder as it stands in a file; `centre` is as long as a vector.
    pub(crate) fn new(params: VectorParams, centre: Vec<f32>, scale: f32) -> Self {
        Self {
            params,
            centre,
            scale,
        }
    }

    /// A coder for vectors of which nothing is known yet; none under Manhattan, whose codes share a scale.
    pub(crate) fn blind(params: VectorParams) -> Option<Self> {
        let centre = vec![0.0; params.dim.get()];
        (params.metric != Metric::Manhattan).then(|| Self::new(params, centre, 0.0))
    }

    /// Looks at some of `rows` vectors.
    pub(crate) fn learn<'a>(
        params: VectorParams,
        rows: u32,
        vector: impl Fn(u32) -> Option<&'a [u8]>,
    ) -> Self {
        let dim = params.dim.get();
        let mut one = Vec::with_capacity(dim);
        if params.metric == Metric::Manhattan {
            if params.dtype == Dtype::U8 {
                return Self::new(params, vec![128.0; dim], 1.0);
            }
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            for bytes in (0..rows).filter_map(&vector) {
                stored::decode(params.dtype, bytes, &mut one);
                low = one.iter().copied().fold(low, f32::min);
                high = one.iter().copied().fold(high, f32::max);
            }
            if low > high {
                (low, high) = (0.0, 0.0);
            }
            let scale = (high - low) / (2.0 * CODE_MAX);
            return Self::new(params, vec![low + (high - low) / 2.0; dim], scale);
        }
        if params.metric == Metric::Dot {
            return Self::new(params, vec![0.0; dim], 0.0);
        }
        let step = (rows as usize).div_ceil(MEAN_ROWS).max(1);
        let mut sums = vec![0f64; dim];
        let mut count = 0f64;
        for bytes in (0..rows).step_by(step).filter_map(&vector) {
            stored::decode(params.dtype, bytes, &mut one);
            normalise_u8(&params, &mut one);
            for (sum, x) in sums.iter_mut().zip(&one) {
                *sum += f64::from(*x);
            }
            count += 1.0;
        }
        #[allow(clippy::cast_possible_truncation)] // a mean of singles
        let centre = sums.iter().map(|sum| (sum / f64::max(count, 1.0)) as f32);
        Self::new(params, centre.collect(), 0.0)
    }

    pub(crate) fn params(&self) -> VectorParams {
        self.params
    }

    pub(crate) fn centre(&self) -> &[f32] {
        &self.centre
    }

    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// Writes code and numbers of a stored vector, or those of a row without one, into a record of zeros.
    pub(crate) fn encode(&self, bytes: Option<&[u8]>, layout: Layout, record: &mut [u8]) {
        let Some(bytes) = bytes else {
            put_head(record, layout, Head::ABSENT);
            return;
        };
        let mut vector = Vec::with_capacity(self.centre.len());
        stored::decode(self.params.dtype, bytes, &mut vector);
        self.centred(&mut vector);
        let head = self.code(&vector, &mut record[..layout.code_bytes]);
        put_head(record, layout, head);
    }

    /// What the code of a stored vector leaves unsaid: `record` is what [`Coder::encode`] made of it.
    pub(super) fn unsaid(&self, bytes: Option<&[u8]>, layout: Layout, record: &[u8]) -> Unsaid {
        let Some(bytes) = bytes else {
            return Unsaid::default();
        };
        let mut vector = Vec::with_capacity(self.centre.len());
        stored::decode(self.params.dtype, bytes, &mut vector);
        self.centred(&mut vector);
        let scale = head(record, layout).scale;
        Unsaid::of(&vector, &record[..layout.code_bytes], scale)
    }

    /// The code of a query, which was checked and normalised.
    pub(crate) fn query(&self, vector: &[f32], layout: Layout) -> CodedQuery {
        let mut code = vec![0; layout.code_bytes];
        let mut vector = vector.to_vec();
        self.centred(&mut vector);
        let head = self.code(&vector, &mut code);
        CodedQuery {
            head,
            code,
            metric: self.params.metric,
        }
    }

    /// Floors of the keys of stored vectors for such a query, of which [`Coder::query`] made `coded`.
    pub(super) fn floors(&self, vector: &[f32], coded: &CodedQuery) -> Floors {
        let mut vector = vector.to_vec();
        self.centred(&mut vector);
        let unsaid = Unsaid::of(&vector, &coded.code, coded.head.scale);
        Floors::new(self.params.metric, vector.len(), unsaid, coded.head.bias)
    }

    /// Takes the centre off the components of a stored vector or of a query.
    pub(crate) fn centred(&self, vector: &mut Vec<f32>) {
        normalise_u8(&self.params, vector);
        for (x, centre) in vector.iter_mut().zip(&self.centre) {
            *x -= centre;
        }
    }

    /// Writes the code of what [`Coder::centred`] gave.
    fn code(&self, vector: &[f32], code: &mut [u8]) -> Head {
        let scale = if self.params.metric == Metric::Manhattan {
            self.scale
        } else {
            vector.iter().fold(0f32, |max, x| max.max(x.abs())) / CODE_MAX
        };
        let inverse = if scale < SCALE_MIN { 0.0 } else { 1.0 / scale };
        let (mut sum, mut squares) = (0i32, 0i64);
        for (byte, x) in code.iter_mut().zip(vector.iter()) {
            #[allow(clippy::cast_possible_truncation)] // clamped
            let component = rounded((x * inverse).clamp(-CODE_MAX, CODE_MAX)) as i8;
            sum += i32::from(component);
            squares += i64::from(component) * i64::from(component);
            *byte = component.cast_unsigned();
        }
        #[allow(clippy::cast_precision_loss)]
        let bias = match self.params.metric {
            Metric::Cosine | Metric::Euclid => scale * scale * squares as f32,
            Metric::Dot | Metric::Manhattan => 0.0,
        };
        Head { scale, bias, sum }
    }
}

/// The nearest whole number, ties to even, of what is far below 2^22: adding 1.5 * 2^23 lets the adder round, which
/// compilers do for many numbers at once.
#[inline]
fn rounded(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// Bytes are stored as they came, so under cosine they are normalised here.
fn normalise_u8(params: &VectorParams, vector: &mut Vec<f32>) {
    if params.dtype == Dtype::U8 && params.metric == Metric::Cosine {
        let norm = stored::norm(vector);
        if norm > 0.0 {
            *vector = stored::normalised(vector, norm);
        }
    }
}

/// The code of a query.
#[derive(Debug, Clone)]
pub(crate) struct CodedQuery {
    head: Head,
    code: Vec<u8>,
    metric: Metric,
}

impl CodedQuery {
    /// What kernels take.
    pub(crate) fn as_query(&self) -> CodeQuery<'_> {
        of_code(self.metric, &self.code, self.head)
    }
}

/// Compares others with a code that has these numbers beside it.
#[inline]
pub(crate) fn of_code(metric: Metric, code: &[u8], head: Head) -> CodeQuery<'_> {
    let (factor, sum) = match metric {
        Metric::Cosine | Metric::Euclid => (-2.0 * head.scale, CodeSum::Products),
        Metric::Dot => (-head.scale, CodeSum::Products),
        Metric::Manhattan => (1.0, CodeSum::Differences),
    };
    CodeQuery {
        code,
        factor,
        bias: head.bias,
        sum,
    }
}
