//! The tensors of a version: what the headers of its files say, looked up by name.
//!
//! Names, types and shapes come from bytes that somebody pushed; `lode_tensors` has checked that each
//! tensor lies inside its file. What a header says beyond its tensors is not kept.

use std::collections::BTreeMap;

use lode_tensors::{ByteRange, Dtype, Format, Header};

/// One tensor of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorAt {
    /// Its name in the file.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Its bytes in the file.
    pub range: ByteRange,
}

/// The tensors of one file, by offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTensors {
    /// The file's path in the version.
    pub path: String,
    /// The file's format.
    pub format: Format,
    /// Its tensors.
    pub tensors: Vec<TensorAt>,
}

/// The tensors of all files of a tree.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    files: Vec<FileTensors>,
    /// Where each name stands: indexes of a file and of a tensor in it.
    by_name: BTreeMap<String, Vec<(u32, u32)>>,
}

/// Why a name leads to no one tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// No file has it.
    #[error("there is no tensor {name:?}")]
    Absent {
        /// The name.
        name: String,
    },
    /// Several files have it.
    #[error("tensor {name:?} is in several files: {}", files.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The files.
        files: Vec<String>,
    },
}

/// Why there are no such rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// Not of the form `A..B`.
    #[error("{found:?} is no range of rows: write A..B, counted from 0, without B itself")]
    Form {
        /// What was found.
        found: String,
    },
    /// Rows that the tensor does not have.
    #[error("rows {start}..{end} are asked for, the tensor has {count}")]
    Outside {
        /// First row.
        start: u64,
        /// One past the last row.
        end: u64,
        /// Rows of the tensor.
        count: u64,
    },
    /// Rows that end before they begin.
    #[error("rows {start}..{end} end before they begin")]
    Reversed {
        /// First row.
        start: u64,
        /// One past the last row.
        end: u64,
    },
    /// Rows that do not begin and end on a byte.
    #[error("rows of this tensor do not begin and end on whole bytes of {dtype}")]
    PartialByte {
        /// The tensor's type.
        dtype: Dtype,
    },
}

impl TensorAt {
    /// How many rows it has: slices along its outermost dimension. A scalar is one row.
    pub fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The bytes of the rows `start..end`, counted from the start of the file, and their shape.
    ///
    /// # Errors
    /// Rows that do not exist, or end inside a byte or a block.
    pub fn row_range(&self, start: u64, end: u64) -> Result<(ByteRange, Vec<u64>), RowsError> {
        let count = self.rows();
        if start > end || end > count {
            return Err(RowsError::Outside { start, end, count });
        }
        let mut shape = self.shape.clone();
        let elements: u64 = shape.iter().skip(1).product();
        if let Some(outermost) = shape.first_mut() {
            *outermost = end - start;
        }
        // A block of a quantized type never spans rows of the innermost dimension, but a tensor of
        // one dimension has rows of a single element.
        let offset = |rows: u64| {
            let error = RowsError::PartialByte { dtype: self.dtype };
            let bytes = rows
                .checked_mul(elements)
                .and_then(|all| self.dtype.bytes_of(all));
            bytes.ok_or(error)
        };
        let range = ByteRange {
            start: self.range.start + offset(start)?,
            end: self.range.start + offset(end)?,
        };
        Ok((range, shape))
    }

    /// Bytes that it takes in a cache, about.
    fn weight(&self) -> usize {
        // Twice the name and the row itself: once in its file, once by name.
        2 * (self.name.len() + size_of::<Self>()) + self.shape.len() * 8
    }
}

/// Reads `A..B`, `A..` and `..B`.
///
/// # Errors
/// Anything else, and rows that the tensor does not have.
pub fn parse_rows(text: &str, count: u64) -> Result<(u64, u64), RowsError> {
    let error = || RowsError::Form {
        found: text.chars().take(80).collect(),
    };
    let number = |digits: &str, absent: u64| match digits {
        "" => Ok(absent),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // More than can be counted is more than there are.
            Ok(digits.parse().unwrap_or(u64::MAX))
        }
        _ => Err(error()),
    };
    let (start, end) = text.split_once("..").ok_or_else(error)?;
    let (start, end) = (number(start, 0)?, number(end, count)?);
    match start <= end && end <= count {
        true => Ok((start, end)),
        false if start > end && start <= count => Err(RowsError::Reversed { start, end }),
        false => Err(RowsError::Outside { start, end, count }),
    }
}

impl FileTensors {
    /// What a parsed header says of its tensors.
    pub fn new(path: String, header: Header) -> Self {
        let tensors = header.tensors.into_iter().map(|tensor| TensorAt {
            name: tensor.name,
            dtype: tensor.dtype,
            shape: tensor.shape,
            range: tensor.range,
        });
        Self {
            path,
            format: header.format,
            tensors: tensors.collect(),
        }
    }
}

impl Layout {
    /// The tensors of these files.
    pub fn new(files: Vec<FileTensors>) -> Self {
        let mut by_name = BTreeMap::<String, Vec<(u32, u32)>>::new();
        let index = |at: usize| u32::try_from(at).expect("trees and headers are bounded far below");
        for (file, tensors) in files.iter().enumerate() {
            for (at, tensor) in tensors.tensors.iter().enumerate() {
                by_name
                    .entry(tensor.name.clone())
                    .or_default()
                    .push((index(file), index(at)));
            }
        }
        Self { files, by_name }
    }

    /// The files that have tensors, by path.
    pub fn files(&self) -> &[FileTensors] {
        &self.files
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.files.iter().map(|file| file.tensors.len()).sum()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The tensor of this name, in `path` when that is given, and the file that holds it.
    ///
    /// # Errors
    /// No file has it, or several do and `path` does not say which.
    pub fn find(
        &self,
        name: &str,
        path: Option<&str>,
    ) -> Result<(&FileTensors, &TensorAt), FindError> {
        let places = self
            .by_name
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut found = places
            .iter()
            .map(|&(file, at)| {
                let file = &self.files[file as usize];
                (file, &file.tensors[at as usize])
            })
            .filter(|(file, _)| path.is_none_or(|path| path == file.path));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(FindError::Absent {
                name: name.chars().take(200).collect(),
            }),
            (Some((first, _)), Some((second, _))) => {
                let rest = found.map(|(file, _)| file.path.clone());
                let files = [first.path.clone(), second.path.clone()]
                    .into_iter()
                    .chain(rest);
                Err(FindError::Ambiguous {
                    name: name.to_owned(),
                    files: files.take(10).collect(),
                })
            }
        }
    }

    /// Bytes that it takes in a cache, about.
    pub(crate) fn weight(&self) -> usize {
        let tensors = self.files.iter().flat_map(|file| &file.tensors);
        tensors.map(TensorAt::weight).sum::<usize>() + self.files.len() * 256
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tensor(name: &str, dtype: Dtype, shape: &[u64]) -> TensorAt {
        let bytes = dtype.bytes_of(shape.iter().product()).unwrap();
        TensorAt {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            range: ByteRange {
                start: 1000,
                end: 1000 + bytes,
            },
        }
    }

    fn file(path: &str, tensors: Vec<TensorAt>) -> FileTensors {
        FileTensors {
            path: path.to_owned(),
            format: Format::Safetensors,
            tensors,
        }
    }

    #[test]
    fn rows_are_slices_of_the_outermost_dimension() {
        let experts = tensor("e", Dtype::F16, &[4, 3, 5]);
        let (range, shape) = experts.row_range(1, 3).unwrap();
        assert_eq!((range.start, range.len(), shape), (1030, 60, vec![2, 3, 5]));
        let (range, shape) = experts.row_range(2, 2).unwrap();
        assert_eq!((range.len(), shape), (0, vec![0, 3, 5]));
        let error = experts.row_range(3, 5).unwrap_err();
        assert_eq!(
            error,
            RowsError::Outside {
                start: 3,
                end: 5,
                count: 4
            }
        );
        let scalar = tensor("s", Dtype::F32, &[]);
        assert_eq!(scalar.row_range(0, 1).unwrap().0.len(), 4);
    }

    #[test]
    fn rows_of_quantized_tensors_are_whole_blocks_or_an_error() {
        let matrix = tensor("m", Dtype::Q4_K, &[8, 256]);
        assert_eq!(matrix.row_range(3, 5).unwrap().0.len(), 2 * 144);
        let vector = tensor("v", Dtype::Q4_K, &[512]);
        let error = vector.row_range(0, 100).unwrap_err();
        assert_eq!(error, RowsError::PartialByte { dtype: Dtype::Q4_K });
        assert_eq!(vector.row_range(0, 256).unwrap().0.len(), 144);
    }

    #[test]
    fn ranges_of_rows_are_read_strictly() {
        assert_eq!(parse_rows("3..7", 10), Ok((3, 7)));
        assert_eq!(parse_rows("3..", 10), Ok((3, 10)));
        assert_eq!(parse_rows("..7", 10), Ok((0, 7)));
        assert_eq!(parse_rows("..", 10), Ok((0, 10)));
        assert_eq!(parse_rows("10..10", 10), Ok((10, 10)));
        for text in ["", "3", "3-7", "a..b", "-1..3", "+1..3", "1...3", "1..2..3"] {
            assert!(
                matches!(parse_rows(text, 10), Err(RowsError::Form { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            parse_rows("3..11", 10),
            Err(RowsError::Outside { end: 11, .. })
        ));
        assert!(matches!(
            parse_rows("11..", 10),
            Err(RowsError::Outside { start: 11, .. })
        ));
        for text in ["99999999999999999999..", "..99999999999999999999"] {
            let error = parse_rows(text, 10);
            assert!(matches!(error, Err(RowsError::Outside { .. })), "{text}");
        }
        let reversed = RowsError::Reversed { start: 7, end: 3 };
        assert_eq!(parse_rows("7..3", 10), Err(reversed));
    }

    #[test]
    fn a_name_in_several_files_needs_its_file() {
        let layout = Layout::new(vec![
            file(
                "a",
                vec![tensor("x", Dtype::F32, &[1]), tensor("y", Dtype::F32, &[1])],
            ),
            file("b", vec![tensor("x", Dtype::F32, &[2])]),
        ]);
        assert_eq!(layout.len(), 3);
        assert_eq!(layout.find("y", None).unwrap().0.path, "a");
        assert_eq!(layout.find("x", Some("b")).unwrap().1.shape, [2]);
        assert!(
            matches!(layout.find("x", None), Err(FindError::Ambiguous { files, .. }) if files == ["a", "b"])
        );
        assert!(matches!(
            layout.find("z", None),
            Err(FindError::Absent { .. })
        ));
        assert!(matches!(
            layout.find("y", Some("b")),
            Err(FindError::Absent { .. })
        ));
    }
}
