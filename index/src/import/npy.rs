//! `.npy` files: a header that is a Python dictionary, then the array
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use std::io::Read;

use super::{ArrayRows, Component, ImportError, Mapping, Records, format};
use crate::{limits::NPY_HEADER_BYTES_MAX, point::Point};

/// The rows of an array of two dimensions.
#[derive(Debug)]
pub struct NpyRows<R>(ArrayRows<R>);

impl<R: Read> NpyRows<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ImportError`] for what is no such array of floats or bytes in row order.
    pub fn open(mut from: R, mapping: Mapping) -> Result<Self, ImportError> {
        let mut start = [0; 8];
        from.read_exact(&mut start)?;
        if start[..6] != *b"\x93NUMPY" {
            return Err(format("not a .npy file"));
        }
        let len = match start[6] {
            1 => {
                let mut len = [0; 2];
                from.read_exact(&mut len)?;
                usize::from(u16::from_le_bytes(len))
            }
            2 | 3 => {
                let mut len = [0; 4];
                from.read_exact(&mut len)?;
                u32::from_le_bytes(len) as usize
            }
            other => return Err(format(format!("a .npy file of version {other}"))),
        };
        if len > NPY_HEADER_BYTES_MAX {
            return Err(format("the header of the .npy file is too long"));
        }
        let mut header = vec![0; len];
        from.read_exact(&mut header)?;
        let header =
            std::str::from_utf8(&header).map_err(|_| format("a header that is no text"))?;
        let (component, shape) = parse(header).ok_or_else(|| {
            format("vectors are floats or bytes, little-endian, row after row, in two dimensions")
        })?;
        Ok(Self(ArrayRows::new(from, component, &shape, mapping)?))
    }
}

/// What a dictionary says: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(header: &str) -> Option<(Component, Vec<u64>)> {
    let value = |key: &str| {
        let at = header.find(key)? + key.len();
        Some(header[at..].trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("'descr'")?.strip_prefix('\'')?;
    let component = match &descr[..descr.find('\'')?] {
        "<f8" => Component::F64,
        "<f4" => Component::F32,
        "<f2" => Component::F16,
        "|u1" | "<u1" => Component::U8,
        _ => return None,
    };
    if !value("'fortran_order'")?.starts_with("False") {
        return None;
    }
    let shape = value("'shape'")?.strip_prefix('(')?;
    let shape = shape[..shape.find(')')?].split(',').map(str::trim);
    let shape = shape
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().ok());
    Some((component, shape.collect::<Option<_>>()?))
}

impl<R: Read> Records for NpyRows<R> {
    fn next_batch(&mut self, max: usize) -> Result<Vec<Point>, ImportError> {
        self.0.next_batch(max)
    }
}
