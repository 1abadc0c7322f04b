//! Writes the vectors of a field into a segment: parameters, stored vectors, records, upper layers.

use std::io::{self, Seek, Write};

use rayon::prelude::*;

use super::{
    CODES, LAYERS, PARAMS, SKETCH, VECTORS,
    coder::Coder,
    linked::Linked,
    records::{Layout, put_links},
    sketch::{self, BLOCK, BLOCK_ROWS, Bits},
};
use crate::{
    limits::SEGMENT_ROWS_MAX,
    params::VectorParams,
    rows::Row,
    segment::{SectionName, SegmentWriter, WriteError},
};

/// Records that are made in parallel before they are written.
const STEP: usize = 1024;

/// The rows that a segment is made of.
pub trait VectorSource: Sync {
    /// How many rows there are.
    fn rows(&self) -> u32;

    /// The stored form of a row's vector ([`super::encode`]), if the row has one.
    fn vector(&self, row: Row) -> Option<&[u8]>;

    /// A hash of the id of the row's point: it places the point in the graph.
    fn hash(&self, row: Row) -> u64;
}

/// Writes the sections of field `field`, with a graph if its vectors were linked.
///
/// The bytes depend on the rows, their hashes and the builder alone if the builder's graphs do.
///
/// # Errors
///
/// Those of the writer, and more rows than a segment may have.
///
/// # Panics
///
/// Links of other rows.
pub fn write_vectors<W: Write + Seek>(
    writer: &mut SegmentWriter<W>,
    field: u32,
    params: VectorParams,
    source: &dyn VectorSource,
    linked: Option<&Linked>,
) -> Result<(), WriteVectorsError> {
    let rows = source.rows();
    if rows > SEGMENT_ROWS_MAX {
        return Err(WriteVectorsError::Rows { rows });
    }
    let coder = linked.map_or_else(
        || Coder::learn(params, rows, |row| source.vector(Row(row))),
        |linked| linked.coder().clone(),
    );
    writer.begin(SectionName::new(VECTORS, field))?;
    let zeros = vec![0; params.row_bytes()];
    let mut present = 0;
    for row in 0..rows {
        let vector = source.vector(Row(row));
        present += u32::from(vector.is_some());
        writer.write_all(vector.unwrap_or(&zeros))?;
    }
    let links = linked.map_or(0, Linked::room);
    let layout = Layout::new(params.dim.get(), links).ok_or(WriteVectorsError::Links { links })?;
    writer.begin(SectionName::new(CODES, field))?;
    write_each(writer, rows, STEP, layout.stride, |row, record| {
        coder.encode(source.vector(Row(row)), layout, record);
        if let Some(linked) = linked {
            put_links(record, layout, linked.links(row));
        }
    })?;
    if let Some(linked) = linked {
        writer.section(SectionName::new(LAYERS, field), &linked.upper_layers())?;
    }
    if sketch::pays(params, present) {
        writer.begin(SectionName::new(SKETCH, field))?;
        let blocks = rows.div_ceil(BLOCK);
        let bits = Bits::of_dim(params.dim.get());
        let bytes = bits.block_bytes(params.dim.get());
        write_each(writer, blocks, STEP / BLOCK_ROWS, bytes, |block, bytes| {
            sketch::encode(&coder, bits, bytes, |slot| {
                let row = block * BLOCK + slot;
                (row < rows).then(|| source.vector(Row(row))).flatten()
            });
        })?;
    }
    let head = super::head::Head {
        coder,
        rows,
        present,
        links: u32::try_from(links).expect("checked with the layout"),
        entry: linked.map_or(0, Linked::entry),
        layers: linked.map_or_else(Vec::new, Linked::counts),
    };
    writer.section(SectionName::new(PARAMS, field), &head.to_bytes())?;
    Ok(())
}

/// Writes `count` times `stride` bytes, which `fill` makes of zeros, `step` of them in parallel.
fn write_each(
    writer: &mut impl Write,
    count: u32,
    step: usize,
    stride: usize,
    fill: impl Fn(u32, &mut [u8]) + Sync,
) -> io::Result<()> {
    let all: Vec<u32> = (0..count).collect();
    let mut bytes = vec![0; step.min(all.len()) * stride];
    for some in all.chunks(step) {
        let bytes = &mut bytes[..some.len() * stride];
        bytes.fill(0);
        bytes
            .par_chunks_exact_mut(stride)
            .zip(some)
            .for_each(|(bytes, one)| fill(*one, bytes));
        writer.write_all(bytes)?;
    }
    Ok(())
}

/// Why vectors were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteVectorsError {
    /// More rows than a segment may have.
    #[error("a segment has at most {SEGMENT_ROWS_MAX} rows, not {rows}")]
    Rows {
        /// How many there are.
        rows: u32,
    },
    /// The builder's points have more links than a record has room for.
    #[error("a graph with {links} links a point")]
    Links {
        /// How many.
        links: usize,
    },
    /// The segment could not be written.
    #[error(transparent)]
    Segment(#[from] WriteError),
    /// The file could not be written.
    #[error("writing vectors: {0}")]
    Io(#[from] io::Error),
}
