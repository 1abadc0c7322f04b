//! Writes the vectors of a field into a segment: parameters, stored vectors, records, upper layers.

use std::io::{self, Seek, Write};

use rayon::prelude::*;

use super::{
    CODES, LAYERS, PARAMS, VECTORS,
    coder::Coder,
    graph::{Codes, Graph, GraphBuilder, level, repair},
    kernel::Kernel,
    records::{Layout, Records, put_links},
};
use crate::{
    limits::{LAYERS_MAX, SEGMENT_ROWS_MAX},
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

/// Writes the sections of field `field`. With a builder, a field of [`GraphBuilder::rows_min`] vectors or more gets
/// a graph.
///
/// The bytes depend on the rows, their hashes and the builder alone if the builder's graphs do. Takes memory for the
/// codes and links of all rows while a graph is built.
///
/// # Errors
///
/// Those of the writer, and more rows than a segment may have.
pub fn write_vectors<W: Write + Seek>(
    writer: &mut SegmentWriter<W>,
    field: u32,
    params: VectorParams,
    source: &dyn VectorSource,
    builder: Option<&dyn GraphBuilder>,
) -> Result<(), WriteVectorsError> {
    let rows = source.rows();
    if rows > SEGMENT_ROWS_MAX {
        return Err(WriteVectorsError::Rows { rows });
    }
    let present: Vec<u32> = (0..rows)
        .filter(|row| source.vector(Row(*row)).is_some())
        .collect();
    let coder = Coder::learn(params, rows, |row| source.vector(Row(row)));
    let builder = builder.filter(|builder| present.len() >= builder.rows_min() as usize);
    let ranked = builder.map(|builder| ranked(&coder, source, present.clone(), builder));

    writer.begin(SectionName::new(VECTORS, field))?;
    let zeros = vec![0; params.row_bytes()];
    for row in 0..rows {
        writer.write_all(source.vector(Row(row)).unwrap_or(&zeros))?;
    }
    let links = builder.map_or(0, GraphBuilder::links);
    let layout = Layout::new(params.dim.get(), links).ok_or(WriteVectorsError::Links { links })?;
    writer.begin(SectionName::new(CODES, field))?;
    write_records(writer, &coder, source, layout, ranked.as_ref())?;
    if let Some(ranked) = &ranked {
        writer.section(SectionName::new(LAYERS, field), &ranked.upper_layers())?;
    }
    let head = super::head::Head {
        coder,
        rows,
        present: u32::try_from(present.len()).expect("at most the rows"),
        links: u32::try_from(links).expect("checked with the layout"),
        entry: ranked.as_ref().map_or(0, Ranked::entry),
        layers: ranked.as_ref().map_or_else(Vec::new, Ranked::counts),
    };
    writer.section(SectionName::new(PARAMS, field), &head.to_bytes())?;
    Ok(())
}

/// A graph over ranks, and whose ranks they are.
struct Ranked {
    graph: Graph,
    rows: Vec<u32>,
    ranks: Vec<u32>,
}

/// Stands for the rank of a row without a vector.
const NO_RANK: u32 = u32::MAX;

/// Builds the graph. Points are ranked by the hashes of their ids, which is as good as at random, and puts those of
/// upper layers first.
fn ranked(
    coder: &Coder,
    source: &dyn VectorSource,
    mut rows: Vec<u32>,
    builder: &dyn GraphBuilder,
) -> Ranked {
    rows.par_sort_by_cached_key(|row| (source.hash(Row(*row)), *row));
    let layout = Layout::new(coder.params().dim.get(), 0).expect("no links are never too many");
    let mut bytes = vec![0; rows.len() * layout.stride];
    bytes
        .par_chunks_exact_mut(layout.stride)
        .zip(&rows)
        .for_each(|(record, row)| coder.encode(source.vector(Row(*row)), layout, record));
    let share = (builder.links() / 2).max(2);
    let levels = rows.iter().map(|row| level(source.hash(Row(*row)), share));
    let mut counts = vec![0u32; LAYERS_MAX];
    for level in levels {
        for count in &mut counts[..level] {
            *count += 1;
        }
    }
    counts.retain(|count| *count > 0);
    let codes = Codes {
        records: Records::new(&bytes, layout).expect("whole records"),
        metric: coder.params().metric,
        kernel: Kernel::detect(),
        counts,
    };
    let mut graph = builder.build(&codes);
    repair(&mut graph, &codes);
    let mut ranks = vec![NO_RANK; source.rows() as usize];
    for (rank, row) in (0..).zip(&rows) {
        ranks[*row as usize] = rank;
    }
    Ranked { graph, rows, ranks }
}

impl Ranked {
    fn entry(&self) -> u32 {
        self.rows[self.graph.entry() as usize]
    }

    fn counts(&self) -> Vec<u32> {
        let layers = self.graph.upper.iter();
        layers
            .map(|layer| u32::try_from(layer.points()).expect("rows have 31 bits"))
            .collect()
    }

    /// The links of a row, as rows.
    fn links(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let rank = self.ranks[row as usize];
        let links = if rank == NO_RANK {
            &[]
        } else {
            self.graph.base.of(rank)
        };
        links.iter().map(|rank| self.rows[*rank as usize])
    }

    /// The section of upper layers.
    fn upper_layers(&self) -> Vec<u8> {
        let points = self.graph.upper_points.iter();
        let mut bytes: Vec<u8> = points
            .flat_map(|point| self.rows[*point as usize].to_le_bytes())
            .collect();
        for layer in &self.graph.upper {
            for point in 0..layer.points() {
                let links = layer.of(u32::try_from(point).expect("rows have 31 bits"));
                let none = std::iter::repeat(&u32::MAX);
                let padded = links.iter().chain(none).take(layer.room());
                bytes.extend(padded.flat_map(|link| link.to_le_bytes()));
            }
        }
        bytes
    }
}

fn write_records(
    writer: &mut impl Write,
    coder: &Coder,
    source: &dyn VectorSource,
    layout: Layout,
    ranked: Option<&Ranked>,
) -> io::Result<()> {
    let rows: Vec<u32> = (0..source.rows()).collect();
    let mut bytes = vec![0; STEP.min(rows.len()) * layout.stride];
    for rows in rows.chunks(STEP) {
        let bytes = &mut bytes[..rows.len() * layout.stride];
        bytes.fill(0);
        bytes
            .par_chunks_exact_mut(layout.stride)
            .zip(rows)
            .for_each(|(record, row)| {
                coder.encode(source.vector(Row(*row)), layout, record);
                if let Some(ranked) = ranked {
                    put_links(record, layout, ranked.links(*row));
                }
            });
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
