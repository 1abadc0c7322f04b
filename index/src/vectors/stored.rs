//! Vectors as they are stored: checked, normalised under cosine, in the dtype of the field.

use super::half;
use crate::{
    limits::COMPONENT_MAX,
    params::{Dtype, Metric, VectorParams},
};

/// Checks a vector and gives the bytes that are stored for it. Under [`Metric::Cosine`] it gets length 1,
/// except as [`Dtype::U8`], whose vectors stay as they are.
///
/// # Errors
///
/// What cannot be compared: see [`VectorError`].
pub fn encode(params: &VectorParams, vector: &[f32]) -> Result<Vec<u8>, VectorError> {
    let mut bytes = Vec::with_capacity(params.row_bytes());
    let vector = checked(params, vector)?;
    match params.dtype {
        Dtype::F32 => bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes())),
        Dtype::F16 => {
            for (at, x) in vector.iter().enumerate() {
                let half = half::from_single(*x);
                if half & 0x7c00 == 0x7c00 {
                    return Err(VectorError::OutOfRange { at, value: *x });
                }
                bytes.extend_from_slice(&half.to_le_bytes());
            }
        }
        Dtype::U8 => {
            for (at, x) in vector.iter().enumerate() {
                if !(0.0..=255.0).contains(x) || x.fract() != 0.0 {
                    return Err(VectorError::OutOfRange { at, value: *x });
                }
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                bytes.push(*x as u8);
            }
        }
    }
    Ok(bytes)
}

/// The components of stored bytes, which are as long as a vector of `params`.
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    out.clear();
    match dtype {
        Dtype::F32 => out.extend(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|x| f32::from_le_bytes(*x)),
        ),
        Dtype::F16 => out.extend(
            bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|x| half::to_single(u16::from_le_bytes(*x))),
        ),
        Dtype::U8 => out.extend(bytes.iter().map(|x| f32::from(*x))),
    }
}

/// A vector that was checked, and normalised where the metric wants it.
pub(crate) fn checked(params: &VectorParams, vector: &[f32]) -> Result<Vec<f32>, VectorError> {
    if vector.len() != params.dim.get() {
        return Err(VectorError::Dim {
            expected: params.dim.get(),
            found: vector.len(),
        });
    }
    for (at, value) in vector.iter().enumerate() {
        if !value.is_finite() {
            return Err(VectorError::NotFinite { at });
        }
        if value.abs() > COMPONENT_MAX {
            return Err(VectorError::OutOfRange { at, value: *value });
        }
    }
    if params.metric != Metric::Cosine {
        return Ok(vector.to_vec());
    }
    let length = norm(vector);
    if length == 0.0 {
        return Err(VectorError::Zero);
    }
    if params.dtype == Dtype::U8 {
        return Ok(vector.to_vec());
    }
    Ok(normalised(vector, length))
}

/// The Euclidean length. Singles squared neither overflow nor vanish in a double.
pub(crate) fn norm(vector: &[f32]) -> f64 {
    let (eights, rest) = vector.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for eight in eights {
        for (sum, x) in sums.iter_mut().zip(eight) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*x) * f64::from(*x);
    }
    sums.iter().sum::<f64>().sqrt()
}

/// The vector of length 1 in the direction of `vector`, which has length `norm`.
pub(crate) fn normalised(vector: &[f32], norm: f64) -> Vec<f32> {
    #[allow(clippy::cast_possible_truncation)] // what is rounded here is at most 1
    vector
        .iter()
        .map(|x| (f64::from(*x) / norm) as f32)
        .collect()
}

/// Why a vector is neither stored nor searched for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// Another length than that of the field.
    #[error("the vector has {found} components, the field has {expected}")]
    Dim {
        /// Components of the field.
        expected: usize,
        /// Components of the vector.
        found: usize,
    },
    /// Not a number, or infinite.
    #[error("component {at} of the vector is not a finite number")]
    NotFinite {
        /// Which component, from 0.
        at: usize,
    },
    /// A number that the field cannot store.
    #[error("component {at} of the vector is {value}, which the field cannot store")]
    OutOfRange {
        /// Which component, from 0.
        at: usize,
        /// Its value.
        value: f32,
    },
    /// Cosine similarity with it is not defined.
    #[error("the vector is zero, which has no direction: the metric is cosine")]
    Zero,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Dim;

    fn params(metric: Metric, dtype: Dtype) -> VectorParams {
        VectorParams {
            dim: Dim::new(3).unwrap(),
            metric,
            dtype,
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let dot = params(Metric::Dot, Dtype::F32);
        assert_eq!(
            encode(&dot, &[1.0, 2.0]),
            Err(VectorError::Dim {
                expected: 3,
                found: 2
            })
        );
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(
                encode(&dot, &[0.0, bad, 0.0]),
                Err(VectorError::NotFinite { at: 1 })
            );
        }
        assert!(encode(&dot, &[COMPONENT_MAX, -COMPONENT_MAX, 0.0]).is_ok());
        assert!(encode(&dot, &[0.0, 0.0, COMPONENT_MAX.next_up()]).is_err());
        assert!(encode(&dot, &[0.0; 3]).is_ok());
        for dtype in [Dtype::F32, Dtype::F16, Dtype::U8] {
            let cosine = params(Metric::Cosine, dtype);
            assert_eq!(encode(&cosine, &[0.0; 3]), Err(VectorError::Zero));
        }
    }

    #[test]
    fn each_dtype_stores_what_it_can_say() {
        let halves = params(Metric::Dot, Dtype::F16);
        assert!(encode(&halves, &[65_504.0, 0.1, -1.0]).is_ok());
        assert!(encode(&halves, &[65_520.0, 0.0, 0.0]).is_err());
        let bytes = params(Metric::Dot, Dtype::U8);
        assert_eq!(encode(&bytes, &[0.0, 7.0, 255.0]), Ok(vec![0, 7, 255]));
        for bad in [-1.0, 256.0, 0.5] {
            assert!(encode(&bytes, &[bad, 0.0, 0.0]).is_err());
        }
    }

    #[test]
    fn cosine_stores_directions_of_any_length() {
        let cosine = params(Metric::Cosine, Dtype::F32);
        for length in [1e-38, 1.0, 1e15] {
            let bytes = encode(&cosine, &[3.0 * length, 0.0, -4.0 * length]);
            let mut back = Vec::new();
            match bytes {
                Ok(bytes) => {
                    decode(Dtype::F32, &bytes, &mut back);
                    assert!((back[0] - 0.6).abs() < 1e-6 && (back[2] + 0.8).abs() < 1e-6);
                }
                Err(error) => assert!(length > 1.0, "{error}"),
            }
        }
    }
}
