//! Points, and the vectors that they carry.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    id::PointId,
    limits::{COMPONENT_MAX, NAME_BYTES_MAX, SPARSE_NONZERO_MAX},
    payload::Payload,
    schema::CollectionConfig,
    vectors,
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
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
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
    /// A dense vector that the collection cannot store or compare.
    #[error("vector {name:?}: {source}")]
    Dense {
        /// The name.
        name: String,
        /// Why.
        source: vectors::VectorError,
    },
    /// A component of a sparse vector that is no number, or too large to be summed.
    #[error("value {at} of a sparse vector is not a number of magnitude up to {COMPONENT_MAX:e}")]
    Value {
        /// Which one, from 0.
        at: usize,
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
            return Err(VectorError::Uneven {
                indices: indices.len(),
                values: values.len(),
            });
        }
        if indices.len() > SPARSE_NONZERO_MAX {
            return Err(VectorError::TooLong {
                found: indices.len(),
            });
        }
        let is_wrong = |value: &f32| !value.is_finite() || value.abs() > COMPONENT_MAX;
        if let Some(at) = values.iter().position(is_wrong) {
            return Err(VectorError::Value { at });
        }
        let mut pairs: Vec<(u32, f32)> = indices
            .iter()
            .copied()
            .zip(values.iter().copied())
            .collect();
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
        self.indices
            .iter()
            .copied()
            .zip(self.values.iter().copied())
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

/// Vectors in the form in which they are stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredVectors {
    pub(crate) dense: BTreeMap<String, Vec<u8>>,
    pub(crate) sparse: BTreeMap<String, Arc<SparseVector>>,
}

impl StoredVectors {
    /// Checks vectors against what the collection says of them, and normalises what is compared by cosine.
    pub(crate) fn encode(
        vectors: &BTreeMap<String, Vector>,
        config: &CollectionConfig,
    ) -> Result<Self, VectorError> {
        let mut stored = Self::default();
        for (name, vector) in vectors {
            let named = || name.chars().take(NAME_BYTES_MAX).collect::<String>();
            match (
                vector,
                config.vectors.get(name),
                config.sparse.contains_key(name),
            ) {
                (Vector::Dense(vector), Some(params), _) => {
                    let bytes = vectors::encode(params, vector);
                    let bytes = bytes.map_err(|source| VectorError::Dense {
                        name: named(),
                        source,
                    })?;
                    stored.dense.insert(name.clone(), bytes);
                }
                (Vector::Sparse(vector), None, true) => {
                    stored.sparse.insert(name.clone(), Arc::new(vector.clone()));
                }
                (Vector::Dense(_), None, true) => {
                    return Err(VectorError::Kind {
                        name: named(),
                        expected: "sparse",
                    });
                }
                (Vector::Sparse(_), Some(_), _) => {
                    return Err(VectorError::Kind {
                        name: named(),
                        expected: "dense",
                    });
                }
                (_, None, false) => return Err(VectorError::Unknown { name: named() }),
            }
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        params::{Dim, Dtype, Metric, VectorParams},
        schema::SparseParams,
    };

    #[test]
    fn vectors_that_do_not_fit_the_collection_are_refused_and_named() {
        let params = VectorParams {
            dim: Dim::new(2).unwrap(),
            metric: Metric::Cosine,
            dtype: Dtype::F32,
        };
        let mut config = CollectionConfig::single(params);
        config.sparse.insert("s".into(), SparseParams::default());
        let encode = |name: &str, vector: Vector| {
            let vectors = [(name.to_owned(), vector)].into();
            StoredVectors::encode(&vectors, &config)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        let dense = |numbers: &[f32]| Vector::Dense(numbers.to_vec());
        let sparse = Vector::Sparse(SparseVector::new(&[1], &[1.0]).unwrap());
        assert_eq!(encode("", dense(&[1.0, 0.0])), Ok(()));
        assert_eq!(encode("s", sparse.clone()), Ok(()));
        for (name, vector, said) in [
            ("", dense(&[1.0]), "1 components"),
            ("", dense(&[0.0, f32::NAN]), "component 1"),
            ("", dense(&[f32::INFINITY, 0.0]), "component 0"),
            ("", dense(&[0.0, -0.0]), "zero"),
            ("other", dense(&[1.0, 0.0]), "no vector named"),
            ("s", dense(&[1.0, 0.0]), "is sparse"),
            ("", sparse, "is dense"),
        ] {
            let error = encode(name, vector).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
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
