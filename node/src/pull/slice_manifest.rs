//! `lode-slice.json`: what was cut, beside what was written; docs/format/slice.md.

use std::{collections::BTreeMap, ops::Range};

use lode_tensors::{Cut, Dtype, Tensor};
use serde::Serialize;

/// The file's name.
pub(crate) const NAME: &str = "lode-slice.json";

const FORMAT: u32 = 1;

/// What was cut.
#[derive(Debug, Serialize)]
pub(crate) struct Manifest {
    format: u32,
    pub(crate) publisher: String,
    pub(crate) model: String,
    pub(crate) version: String,
    /// The expressions, as they were given.
    pub(crate) slice: Vec<String>,
    /// The globs of tensor names.
    pub(crate) tensors_named: Vec<String>,
    pub(crate) rows: Option<Range<u64>>,
    pub(crate) architecture: Option<String>,
    /// Bytes of the tensors that were written.
    size: u64,
    /// Bytes of all tensors in the files that were cut.
    size_full: u64,
    tensors: BTreeMap<String, Row>,
}

/// One tensor that was written.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    dtype: Dtype,
    shape: Vec<u64>,
    /// None for a tensor that is whole.
    cut: Option<CutRow>,
}

#[derive(Debug, Serialize)]
struct CutRow {
    dim: usize,
    parts: Vec<Range<u64>>,
}

impl Manifest {
    pub(crate) fn new(publisher: String, model: String, version: String) -> Self {
        Self {
            format: FORMAT,
            publisher,
            model,
            version,
            slice: Vec::new(),
            tensors_named: Vec::new(),
            rows: None,
            architecture: None,
            size: 0,
            size_full: 0,
            tensors: BTreeMap::new(),
        }
    }

    /// Notes a tensor of a file that the slice has.
    pub(crate) fn add(&mut self, file: &str, tensor: &Tensor, cut: &Cut) {
        let cut = match cut {
            Cut::Whole => None,
            Cut::Part { dim, parts } => Some(CutRow {
                dim: *dim,
                parts: parts.clone(),
            }),
        };
        let row = Row {
            file: file.to_owned(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            cut,
        };
        self.tensors.insert(tensor.name.clone(), row);
    }

    /// Notes bytes of tensors: written, and of all.
    pub(crate) fn add_bytes(&mut self, size: u64, full: u64) {
        self.size += size;
        self.size_full += full;
    }

    /// Whether a tensor was written.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// Whether none was.
    pub(crate) fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Bytes of the tensors that were written.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("text and numbers are valid JSON");
        bytes.push(b'\n');
        bytes
    }
}
