//! What of one tensor is taken, and which of its bytes that is.

use std::ops::Range;

use serde::Serialize;

use crate::{ByteRange, Runs, Tensor};

/// What of a tensor a slice takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// All of it.
    Whole,
    /// Parts of one dimension, all of the others.
    Part {
        /// Which dimension; 0 is the outermost.
        dim: usize,
        /// Indices in it, in the order in which they go to the new tensor. Several only where all
        /// dimensions further out have length 1.
        parts: Vec<Range<u64>>,
    },
}

/// Why a tensor cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CutError {
    /// It has too few dimensions.
    #[error("it has {rank} dimensions, none of them number {dim}")]
    NoDimension {
        /// The dimension that was to be cut.
        dim: usize,
        /// How many it has.
        rank: usize,
    },
    /// It is too short.
    #[error("{start}..{end} is not in dimension {dim} of length {len}")]
    OutOfRange {
        /// First index.
        start: u64,
        /// One past the last index.
        end: u64,
        /// The dimension.
        dim: usize,
        /// Its length.
        len: u64,
    },
    /// The parts begin or end inside a byte, or inside a block of a quantized type.
    #[error(
        "{start}..{end} of dimension {dim} does not begin and end with a whole block of its type"
    )]
    PartialBlock {
        /// First index.
        start: u64,
        /// One past the last index.
        end: u64,
        /// The dimension.
        dim: usize,
    },
    /// Several parts of an inner dimension.
    #[error("several parts of dimension {0}, which is not the outermost")]
    Scattered(usize),
}

impl Cut {
    /// The rows `range`: indices of the outermost dimension.
    pub fn rows(range: Range<u64>) -> Self {
        Self::Part {
            dim: 0,
            parts: vec![range],
        }
    }

    /// The shape that is left of a tensor, and the bytes of the file that hold it, in their new order.
    ///
    /// # Errors
    /// See [`CutError`].
    pub fn of(&self, tensor: &Tensor) -> Result<(Vec<u64>, Vec<Runs>), CutError> {
        let Self::Part { dim, parts } = self else {
            let runs = Runs::of(tensor.range).into_iter().collect();
            return Ok((tensor.shape.clone(), runs));
        };
        let (dim, rank) = (*dim, tensor.shape.len());
        let Some(&len) = tensor.shape.get(dim) else {
            return Err(CutError::NoDimension { dim, rank });
        };
        let outer: u64 = tensor.shape[..dim].iter().product();
        let inner: u64 = tensor.shape[dim + 1..].iter().product();
        if parts.len() > 1 && outer > 1 {
            return Err(CutError::Scattered(dim));
        }
        let mut shape = tensor.shape.clone();
        shape[dim] = 0;
        let mut runs = Vec::with_capacity(parts.len());
        for &Range { start, end } in parts {
            if start > end || end > len {
                return Err(CutError::OutOfRange {
                    start,
                    end,
                    dim,
                    len,
                });
            }
            shape[dim] += end - start;
            let partial = || CutError::PartialBlock { start, end, dim };
            // the whole tensor is no larger: no product overflows
            let bytes = |count: u64| tensor.dtype.bytes_of(count * inner).ok_or_else(partial);
            let (from, to) = (bytes(start)?, bytes(end)?);
            // with one outer index there is no step, and what follows the part needs no whole block
            let step = if outer == 1 { to - from } else { bytes(len)? };
            runs.extend(Runs::new(tensor.range.start + from, to - from, step, outer));
        }
        Ok((shape, join(runs)))
    }
}

/// Joins single runs that follow one another.
fn join(runs: Vec<Runs>) -> Vec<Runs> {
    let mut out: Vec<Runs> = Vec::with_capacity(runs.len());
    for runs in runs {
        let joined = out.last().and_then(|last| {
            let both = last.count() == 1 && runs.count() == 1;
            let (last, next) = (last.span(), runs.span());
            (both && last.end == next.start).then_some(ByteRange {
                start: last.start,
                end: next.end,
            })
        });
        match joined.and_then(Runs::of) {
            Some(joined) => {
                out.pop();
                out.push(joined);
            }
            None => out.push(runs),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
    use super::*;
    use crate::Dtype;

    fn tensor(dtype: Dtype, shape: &[u64]) -> Tensor {
        let bytes = dtype.bytes_of(shape.iter().product()).unwrap();
        Tensor {
            name: "t".to_owned(),
            dtype,
            shape: shape.to_vec(),
            range: ByteRange {
                start: 100,
                end: 100 + bytes,
            },
        }
    }

    fn part(dim: usize, parts: &[Range<u64>]) -> Cut {
        Cut::Part {
            dim,
            parts: parts.to_vec(),
        }
    }

    /// The indices of elements (of one byte each) that a cut takes, as its definition says.
    fn expected(shape: &[u64], dim: usize, parts: &[Range<u64>]) -> Vec<u64> {
        let outer: u64 = shape[..dim].iter().product();
        let inner: u64 = shape[dim + 1..].iter().product();
        let mut all = Vec::new();
        for row in 0..outer {
            for index in parts.iter().cloned().flatten() {
                let first = (row * shape[dim] + index) * inner;
                all.extend(first..first + inner);
            }
        }
        all
    }

    #[test]
    fn the_bytes_of_a_cut_are_those_of_its_elements() {
        for shape in [&[6][..], &[5, 4], &[1, 7], &[2, 3, 4], &[3, 1, 5]] {
            for (dim, &len) in shape.iter().enumerate() {
                for start in 0..len {
                    for end in start..=len {
                        let cut = part(dim, &[start..end]);
                        let (new, runs) = cut.of(&tensor(Dtype::U8, shape)).unwrap();
                        let found: Vec<u64> = runs
                            .iter()
                            .flat_map(|runs| runs.inside(runs.span()))
                            .flat_map(|part| part.range.start - 100..part.range.end - 100)
                            .collect();
                        let wanted = expected(shape, dim, &[start..end]);
                        assert_eq!(found, wanted, "{shape:?} {cut:?}");
                        assert_eq!(new.iter().product::<u64>(), wanted.len() as u64);
                    }
                }
            }
        }
    }

    #[test]
    fn several_rows_keep_their_order() {
        let cut = part(0, &[4..6, 0..1, 1..2]);
        let (shape, runs) = cut.of(&tensor(Dtype::BF16, &[6, 8])).unwrap();
        assert_eq!(shape, [4, 8]);
        let spans: Vec<_> = runs.iter().map(|runs| runs.span()).collect();
        let range = |start, end| ByteRange { start, end };
        assert_eq!(spans, [range(164, 196), range(100, 132)]);
        assert_eq!(
            part(1, &[0..1, 2..3]).of(&tensor(Dtype::BF16, &[6, 8])),
            Err(CutError::Scattered(1))
        );
        assert!(
            part(1, &[0..1, 2..3])
                .of(&tensor(Dtype::U8, &[1, 8]))
                .is_ok()
        );
    }

    #[test]
    fn what_is_not_there_or_ends_inside_a_byte_is_refused() {
        let t = tensor(Dtype::F4, &[2, 6]);
        assert!(part(1, &[0..2]).of(&t).is_ok());
        let error = part(1, &[0..3]).of(&t).unwrap_err();
        assert!(matches!(
            error,
            CutError::PartialBlock {
                start: 0,
                end: 3,
                dim: 1
            }
        ));
        assert!(matches!(
            part(2, &[0..1]).of(&t),
            Err(CutError::NoDimension { .. })
        ));
        assert!(matches!(
            part(0, &[1..3]).of(&t),
            Err(CutError::OutOfRange { len: 2, .. })
        ));
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = part(0, &[2..1]);
        assert!(matches!(backwards.of(&t), Err(CutError::OutOfRange { .. })));
        let (shape, runs) = Cut::Whole.of(&tensor(Dtype::F32, &[0, 4])).unwrap();
        assert_eq!((shape, runs), (vec![0, 4], Vec::new()));
    }
}
