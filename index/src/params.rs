//! What all vectors of one field have in common: length, metric, and how a component is stored.

use crate::limits::DIM_MAX;

/// How near two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Cosine similarity, higher is nearer. Vectors are normalised when they come in.
    Cosine,
    /// Dot product, higher is nearer.
    Dot,
    /// Euclidean distance, lower is nearer.
    Euclid,
    /// Manhattan distance, lower is nearer.
    Manhattan,
}

impl Metric {
    /// Tells whether a higher score is nearer.
    #[must_use]
    pub fn higher_is_nearer(self) -> bool {
        matches!(self, Self::Cosine | Self::Dot)
    }

    /// The number that stands for it in files.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Cosine => 1,
            Self::Dot => 2,
            Self::Euclid => 3,
            Self::Manhattan => 4,
        }
    }

    /// Reads [`Metric::code`].
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Cosine, Self::Dot, Self::Euclid, Self::Manhattan]
            .into_iter()
            .find(|metric| metric.code() == code)
    }
}

/// How one component of a vector is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// Whole numbers from 0 to 255.
    U8,
}

impl Dtype {
    /// Bytes of one component.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::U8 => 1,
        }
    }

    /// The number that stands for it in files.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::F32 => 1,
            Self::F16 => 2,
            Self::U8 => 3,
        }
    }

    /// Reads [`Dtype::code`].
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::F32, Self::F16, Self::U8]
            .into_iter()
            .find(|dtype| dtype.code() == code)
    }
}

/// Components of a vector: 1 to [`DIM_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dim(u32);

impl Dim {
    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// Zero, and more than [`DIM_MAX`].
    pub fn new(components: u32) -> Result<Self, ParamsError> {
        if (1..=DIM_MAX).contains(&components) {
            Ok(Self(components))
        } else {
            Err(ParamsError::Dim { components })
        }
    }

    /// The number of components.
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// Length, metric and storage of the vectors of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VectorParams {
    /// Components of each vector.
    pub dim: Dim,
    /// How near two of them are.
    pub metric: Metric,
    /// How a component is stored.
    pub dtype: Dtype,
}

impl VectorParams {
    /// Bytes of one stored vector.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.dim.get() * self.dtype.bytes()
    }
}

/// Why a field cannot be like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// No vector of that length is stored.
    #[error("a vector has 1 to {DIM_MAX} components, not {components}")]
    Dim {
        /// The length that was asked for.
        components: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_has_bounds() {
        assert!(Dim::new(0).is_err());
        assert!(Dim::new(1).is_ok() && Dim::new(DIM_MAX).is_ok());
        assert_eq!(
            Dim::new(DIM_MAX + 1),
            Err(ParamsError::Dim {
                components: DIM_MAX + 1
            })
        );
    }

    #[test]
    fn codes_are_read_back_and_others_refused() {
        for code in 0..=255 {
            assert!(Metric::from_code(code).is_none_or(|metric| metric.code() == code));
            assert!(Dtype::from_code(code).is_none_or(|dtype| dtype.code() == code));
        }
        assert_eq!(Metric::from_code(5), None);
        assert_eq!(Dtype::from_code(4), None);
    }
}
