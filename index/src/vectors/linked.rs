//! The graph of a field before it is written, and the order of rows that goes with it.
//!
//! Points are linked by their *ranks* in the order of the hashes of their ids, which is as good as at random. Which row a
//! point gets is decided after it, by the links: see [`order`].

use rayon::prelude::*;

use super::{
    coder::Coder,
    graph::{Codes, Graph, GraphBuilder, level, repair},
    kernel::Kernel,
    order,
    records::{Layout, Records},
    write::{VectorSource, WriteVectorsError},
};
use crate::{
    limits::{LAYERS_MAX, SEGMENT_ROWS_MAX},
    params::VectorParams,
    rows::Row,
};

/// Stands for the rank of a row without a vector.
const NO_RANK: u32 = u32::MAX;

/// The links of a field's vectors.
#[derive(Debug)]
pub struct Linked {
    coder: Coder,
    graph: Graph,
    /// Most links of a point.
    room: usize,
    /// Whose rank it is.
    rows: Vec<u32>,
    /// The rank of each row.
    ranks: Vec<u32>,
    /// Rows in the order of the graph; those without a vector last.
    order: Vec<u32>,
}

impl Linked {
    /// Links the vectors of a field, unless there are fewer than [`GraphBuilder::rows_min`]. Takes memory for the codes and
    /// links of all rows.
    ///
    /// # Errors
    ///
    /// More rows than a segment may have, and more links than a record has room for.
    pub fn build(
        params: VectorParams,
        source: &dyn VectorSource,
        builder: &dyn GraphBuilder,
    ) -> Result<Option<Self>, WriteVectorsError> {
        let count = source.rows();
        if count > SEGMENT_ROWS_MAX {
            return Err(WriteVectorsError::Rows { rows: count });
        }
        let links = builder.links();
        if Layout::new(params.dim.get(), links).is_none() {
            return Err(WriteVectorsError::Links { links });
        }
        let present = |row: &u32| source.vector(Row(*row)).is_some();
        let mut rows: Vec<u32> = (0..count).filter(present).collect();
        if rows.len() < builder.rows_min().max(1) as usize {
            return Ok(None);
        }
        let coder = Coder::learn(params, count, |row| source.vector(Row(row)));
        rows.par_sort_by_cached_key(|row| (source.hash(Row(*row)), *row));
        let layout = Layout::new(params.dim.get(), 0).expect("no links are never too many");
        let mut bytes = vec![0; rows.len() * layout.stride];
        bytes
            .par_chunks_exact_mut(layout.stride)
            .zip(&rows)
            .for_each(|(record, row)| coder.encode(source.vector(Row(*row)), layout, record));
        let share = (links / 2).max(2);
        let mut counts = vec![0u32; LAYERS_MAX];
        for row in &rows {
            let level = level(source.hash(Row(*row)), share);
            counts[..level].iter_mut().for_each(|count| *count += 1);
        }
        counts.retain(|count| *count > 0);
        let codes = Codes {
            records: Records::new(&bytes, layout).expect("whole records"),
            metric: params.metric,
            kernel: Kernel::detect(),
            counts,
        };
        let mut graph = builder.build(&codes);
        repair(&mut graph, &codes);
        let ordered = order::by_links(&graph.base);
        let mut ranks = vec![NO_RANK; count as usize];
        for (rank, row) in (0..).zip(&rows) {
            ranks[*row as usize] = rank;
        }
        let without = (0..count).filter(|row| ranks[*row as usize] == NO_RANK);
        let order = ordered.iter().map(|rank| rows[*rank as usize]);
        let order = order.chain(without).collect();
        Ok(Some(Self {
            coder,
            graph,
            room: links,
            rows,
            ranks,
            order,
        }))
    }

    /// The rows in an order in which near ones lie together.
    #[must_use]
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The same links when rows were put in [`Linked::order`].
    #[must_use]
    pub fn in_order(self) -> Self {
        let ranks: Vec<u32> = self
            .order
            .iter()
            .map(|row| self.ranks[*row as usize])
            .collect();
        let mut rows = self.rows;
        for (row, rank) in (0..).zip(&ranks) {
            if *rank != NO_RANK {
                rows[*rank as usize] = row;
            }
        }
        let order = (0..).take(ranks.len()).collect();
        Self {
            rows,
            ranks,
            order,
            ..self
        }
    }

    pub(super) fn coder(&self) -> &Coder {
        &self.coder
    }

    /// Most links of a point.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    pub(super) fn entry(&self) -> u32 {
        self.rows[self.graph.entry() as usize]
    }

    /// How many points are on layer 1, on layer 2, and so on.
    pub(super) fn counts(&self) -> Vec<u32> {
        let layers = self.graph.upper.iter();
        layers
            .map(|layer| u32::try_from(layer.points()).expect("rows have 31 bits"))
            .collect()
    }

    /// The links of a row, as rows.
    pub(super) fn links(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let rank = self.ranks[row as usize];
        let links = if rank == NO_RANK {
            &[]
        } else {
            self.graph.base.of(rank)
        };
        links.iter().map(|rank| self.rows[*rank as usize])
    }

    /// The section of upper layers.
    pub(super) fn upper_layers(&self) -> Vec<u8> {
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
