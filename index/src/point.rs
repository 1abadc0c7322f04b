//! Points, and the vectors that they carry.

use std::collections::BTreeMap;

use crate::{
    id::PointId,
    limits::{DIM_MAX, NAME_BYTES_MAX, SPARSE_NONZERO_MAX},
    params::{Metric, VectorParams},
    payload::Payload,
    schema::CollectionConfig,
};

/// What a collection holds: an id, vectors by name, a JSON object.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its id.
    pub id: PointId,
    /// Its vectors; the empty name is the one that need not be said. A point may lack some.
    pub vectors: BTreeMap<String, Vector>,
    /// Its payload.
    pub payload: Payload,
}

/// A vector of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    /// A number for every dimension.
    Dense(Vec<f32>),
    /// Numbers for some dimensions.
    Sparse(SparseVector),
}

/// Numbers for some dimensions, which ascend; the others are zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseVector {
    indices: Vec<u32>,
    values: Vec<f32>,
}

/// Why a vector is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// The collection has no vector of that name.
    #[error("the collection has no vector named {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A dense vector where the collection has a sparse one, or the other way round.
    #[error("vector {name:?} is {expected} in this collection")]
    Kind {
        /// The name.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Another number of components.
    #[error("vector {name:?} has {found} components; the collection's have {expected}")]
    Dimension {
        /// The name.
        name: String,
        /// What the collection has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A component that is no number.
    #[error("component {at} of vector {name:?} is not a finite number")]
    NotFinite {
        /// The name.
        name: String,
        /// The first such component, counted from 0.
        at: usize,
    },
    /// No direction.
    #[error("vector {name:?} is zero, which has no direction: cosine needs one")]
    Zero {
        /// The name.
        name: String,
    },
    /// Numbers that its way of storing cannot hold.
    #[error("component {at} of vector {name:?} does not fit into {dtype}")]
    Range {
        /// The name.
        name: String,
        /// The first such component, counted from 0.
        at: usize,
        /// How components are stored.
        dtype: &'static str,
    },
    /// Indices and values of a sparse vector do not belong together.
    #[error("a sparse vector with {indices} indices and {values} values")]
    Uneven {
        /// Indices.
        indices: usize,
        /// Values.
        values: usize,
    },
    /// An index of a sparse vector twice.
    #[error("a sparse vector names dimension {index} twice")]
    Twice {
        /// The index.
        index: u32,
    },
    /// More components than a sparse vector may have.
    #[error("a sparse vector of {found} components; at most {SPARSE_NONZERO_MAX} are allowed")]
    TooLong {
        /// How many.
        found: usize,
    },
}

impl SparseVector {
    /// Brings indices into order.
    ///
    /// # Errors
    /// [`VectorError`] for lists of different length, indices that repeat, too many, and what is not finite.
    pub fn new(indices: &[u32], values: &[f32]) -> Result<Self, VectorError> {
        if indices.len() != values.len() {
            return Err(VectorError::Uneven { indices: indices.len(), values: values.len() });
        }
        if indices.len() > SPARSE_NONZERO_MAX {
            return Err(VectorError::TooLong { found: indices.len() });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(VectorError::NotFinite { name: String::new(), at });
        }
        let mut pairs: Vec<(u32, f32)> =
            indices.iter().copied().zip(values.iter().copied()).collect();
        pairs.sort_unstable_by_key(|(index, _)| *index);
        if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(VectorError::Twice { index: pair[0].0 });
        }
        let (indices, values) = pairs.into_iter().unzip();
        Ok(Self { indices, values })
    }

    /// Its dimensions, ascending.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// Its numbers, one for each dimension.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The dimensions with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }

    /// The dot product with another, and whether they share a dimension at all. Products are summed from the
    /// lowest dimension to the highest, so that every way of scoring gives the same number.
    pub fn dot(&self, other: &Self) -> Option<f32> {
        let (mut a, mut b) = (self.iter().peekable(), other.iter().peekable());
        let mut sum = None;
        while let (Some((index_a, value_a)), Some((index_b, value_b))) = (a.peek(), b.peek()) {
            match index_a.cmp(index_b) {
                std::cmp::Ordering::Less => drop(a.next()),
                std::cmp::Ordering::Greater => drop(b.next()),
                std::cmp::Ordering::Equal => {
                    *sum.get_or_insert(0.0) += value_a * value_b;
                    a.next();
                    b.next();
                }
            }
        }
        sum
    }
}

/// Checks a dense vector against what the collection says of it.
///
/// # Errors
/// [`VectorError`], the first that applies.
pub fn check_dense(name: &str, params: &VectorParams, vector: &[f32]) -> Result<(), VectorError> {
    let name = || name.to_owned();
    if vector.len() != params.dim.get() {
        return Err(VectorError::Dimension {
            name: name(),
            expected: params.dim.get(),
            found: vector.len(),
        });
    }
    if let Some(at) = vector.iter().position(|value| !value.is_finite()) {
        return Err(VectorError::NotFinite { name: name(), at });
    }
    if params.metric == Metric::Cosine && !has_direction(vector) {
        return Err(VectorError::Zero { name: name() });
    }
    let dtype = crate::schema::dtype_name(params.dtype);
    let fits = |value: &f32| match params.dtype {
        crate::params::Dtype::F32 => true,
        // cosine vectors are normalised before they are stored
        crate::params::Dtype::F16 => params.metric == Metric::Cosine || value.abs() < F16_LIMIT,
        crate::params::Dtype::U8 => (0.0..=255.0).contains(value) && value.fract() == 0.0,
    };
    match vector.iter().position(|value| !fits(value)) {
        Some(at) => Err(VectorError::Range { name: name(), at, dtype }),
        None => Ok(()),
    }
}

/// Magnitude at which singles round to the infinity of halves.
const F16_LIMIT: f32 = 65_520.0;

/// Whether a vector can be normalised in singles.
fn has_direction(vector: &[f32]) -> bool {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    square.sqrt() >= f64::from(f32::MIN_POSITIVE)
}

impl Point {
    /// Checks the vectors against what the collection says of them.
    ///
    /// # Errors
    /// [`VectorError`], the first that applies.
    pub fn check(&self, config: &CollectionConfig) -> Result<(), VectorError> {
        check_vectors(&self.vectors, config)
    }
}

/// Checks vectors against what the collection says of them.
pub(crate) fn check_vectors(
    vectors: &BTreeMap<String, Vector>,
    config: &CollectionConfig,
) -> Result<(), VectorError> {
    for (name, vector) in vectors {
        let named = || name.chars().take(NAME_BYTES_MAX).collect::<String>();
        match (vector, config.vectors.get(name), config.sparse.contains_key(name)) {
            (Vector::Dense(vector), Some(params), _) => check_dense(name, params, vector)?,
            (Vector::Sparse(_), None, true) => {}
            (Vector::Dense(_), None, true) => {
                return Err(VectorError::Kind { name: named(), expected: "sparse" });
            }
            (Vector::Sparse(_), Some(_), _) => {
                return Err(VectorError::Kind { name: named(), expected: "dense" });
            }
            (_, None, false) => return Err(VectorError::Unknown { name: named() }),
        }
    }
    Ok(())
}

const _: () = assert!(DIM_MAX as usize * 4 <= crate::limits::LOG_GROUP_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Dim, Dtype};

    fn params(metric: Metric, dtype: Dtype) -> VectorParams {
        VectorParams { dim: Dim::new(2).unwrap(), metric, dtype }
    }

    #[test]
    fn vectors_that_cannot_be_stored_are_refused_and_named() {
        let cosine = params(Metric::Cosine, Dtype::F32);
        let check = |params: &VectorParams, vector: &[f32]| {
            check_dense("v", params, vector).map_err(|error| error.to_string())
        };
        assert_eq!(check(&cosine, &[1.0, 0.0]), Ok(()));
        for (params, vector, said) in [
            (cosine, &[1.0][..], "has 1 components; the collection's have 2"),
            (cosine, &[0.0, f32::NAN], "component 1"),
            (cosine, &[f32::INFINITY, 0.0], "component 0"),
            (cosine, &[0.0, -0.0], "is zero"),
            (params(Metric::Dot, Dtype::F16), &[1.0, 65_520.0], "does not fit into f16"),
            (params(Metric::Dot, Dtype::U8), &[1.0, 256.0], "does not fit into u8"),
            (params(Metric::Dot, Dtype::U8), &[1.5, 0.0], "component 0"),
        ] {
            let error = check(&params, vector).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(check(&params(Metric::Dot, Dtype::F32), &[0.0, 0.0]), Ok(()));
    }

    #[test]
    fn sparse_vectors_are_sorted_and_checked() {
        let vector = SparseVector::new(&[7, 2], &[1.0, 2.0]).unwrap();
        assert_eq!(vector.indices(), [2, 7]);
        assert_eq!(vector.values(), [2.0, 1.0]);
        assert!(SparseVector::new(&[1], &[]).is_err());
        assert!(SparseVector::new(&[1, 1], &[1.0, 2.0]).is_err());
        assert!(SparseVector::new(&[1], &[f32::NAN]).is_err());
        let many: Vec<u32> = (0..=u32::try_from(SPARSE_NONZERO_MAX).unwrap()).collect();
        let ones = vec![1.0; many.len()];
        assert!(SparseVector::new(&many, &ones).is_err());
        assert!(SparseVector::new(&many[1..], &ones[1..]).is_ok());
    }

    #[test]
    fn a_dot_product_is_over_shared_dimensions() {
        let a = SparseVector::new(&[1, 3, 5], &[1.0, 2.0, 3.0]).unwrap();
        let b = SparseVector::new(&[3, 5, 9], &[10.0, 100.0, 1000.0]).unwrap();
        assert_eq!(a.dot(&b), Some(320.0));
        let c = SparseVector::new(&[2], &[1.0]).unwrap();
        assert_eq!(a.dot(&c), None);
    }
}
