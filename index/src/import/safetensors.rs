//! `.safetensors` files: one tensor of two dimensions, a row for each point.

use std::io::{Read, Seek, SeekFrom};

use lode_tensors::{Dtype, Format, ParseError, parse};

use super::{ArrayRows, Component, ImportError, Mapping, Records, format};
use crate::point::Point;

/// The rows of a tensor: the one that the mapping names as the vector's field, or the only one.
#[derive(Debug)]
pub struct SafetensorsRows<R>(ArrayRows<R>);

impl<R: Read + Seek> SafetensorsRows<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ImportError`] for what is no such file, or has no such tensor.
    pub fn open(mut from: R, mapping: Mapping) -> Result<Self, ImportError> {
        let file_len = from.seek(SeekFrom::End(0))?;
        let mut wanted = lode_tensors::limits::PREFIX_BYTES_FIRST.min(file_len);
        let header = loop {
            from.seek(SeekFrom::Start(0))?;
            let mut prefix = Vec::new();
            from.by_ref().take(wanted).read_to_end(&mut prefix)?;
            match parse(&prefix, file_len) {
                Err(ParseError::NeedMore { bytes }) if bytes > wanted => wanted = bytes,
                Err(error) => return Err(format(error.to_string())),
                Ok(header) => break header,
            }
        };
        if header.format != Format::Safetensors {
            return Err(format("not a .safetensors file"));
        }
        let tensor = match (&mapping.vector, &header.tensors[..]) {
            (Some(name), _) => header.tensor(name),
            (None, [only]) => Some(only),
            (None, _) => header.tensor("vector"),
        };
        let tensor = tensor.ok_or_else(|| format("name the tensor that has the vectors"))?;
        let component = match tensor.dtype {
            Dtype::F64 => Component::F64,
            Dtype::F32 => Component::F32,
            Dtype::F16 => Component::F16,
            Dtype::BF16 => Component::Bf16,
            Dtype::U8 => Component::U8,
            other => return Err(format(format!("vectors of type {}", other.name()))),
        };
        from.seek(SeekFrom::Start(tensor.range.start))?;
        let shape = tensor.shape.clone();
        Ok(Self(ArrayRows::new(from, component, &shape, mapping)?))
    }
}

impl<R: Read> Records for SafetensorsRows<R> {
    fn next_batch(&mut self, max: usize) -> Result<Vec<Point>, ImportError> {
        self.0.next_batch(max)
    }
}
