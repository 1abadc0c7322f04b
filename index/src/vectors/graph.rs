//! Graphs: hierarchical navigable small worlds (Malkov and Yashunin, arXiv 1603.09320) over codes, and who builds them.

mod batches;
#[cfg(feature = "hnsw_rs")]
mod hnsw;
mod reach;
mod select;

pub use batches::BatchBuilder;
#[cfg(feature = "hnsw_rs")]
pub use hnsw::HnswRsBuilder;
pub(crate) use reach::repair;

use std::fmt;

use super::{
    beam::Links,
    coder::of_code,
    kernel::{CodeQuery, Kernel},
    records::Records,
};
use crate::{
    limits::{GRAPH_ROWS_MIN, LAYERS_MAX},
    params::Metric,
};

/// Makes graphs. Whatever a builder links, points that cannot be reached are linked after it.
pub trait GraphBuilder: fmt::Debug + Send + Sync {
    /// Most links of a point on layer 0; half of it on upper layers. An even number.
    fn links(&self) -> usize;

    /// Fewest vectors that get a graph.
    fn rows_min(&self) -> u32 {
        GRAPH_ROWS_MIN
    }

    /// Links all points of `codes`, of which there is at least one.
    fn build(&self, codes: &Codes<'_>) -> Graph;
}

/// The points that a graph is built of, in an order in which the layers of each follow from its place: those of
/// upper layers come first.
#[derive(Debug, Clone)]
pub struct Codes<'a> {
    pub(crate) records: Records<'a>,
    pub(crate) metric: Metric,
    pub(crate) kernel: Kernel,
    /// How many points are on layer 1, on layer 2, and so on.
    pub(crate) counts: Vec<u32>,
}

impl Codes<'_> {
    /// How many points there are.
    #[must_use]
    pub fn points(&self) -> u32 {
        u32::try_from(self.records.len()).expect("rows have 31 bits")
    }

    /// How far two points are apart, as their codes tell; by [`Metric::Dot`] the negated product.
    ///
    /// # Panics
    ///
    /// A point that is not there.
    #[must_use]
    pub fn distance(&self, a: u32, b: u32) -> f32 {
        let query = self.query(a);
        let mut keys = Vec::with_capacity(1);
        self.kernel.keys(&self.records, &query, &[b], &mut keys);
        keys[0] + query.bias
    }

    pub(crate) fn query(&self, point: u32) -> CodeQuery<'_> {
        of_code(
            self.metric,
            self.records.code(point),
            self.records.head(point),
        )
    }
}

/// The layers on which a point is, from the hash of its id: one of `links` points is on the next layer.
pub(crate) fn level(hash: u64, links: usize) -> usize {
    let mut bound = u64::MAX / links as u64;
    let mut level = 0;
    while hash < bound && level < LAYERS_MAX {
        bound /= links as u64;
        level += 1;
    }
    level
}

/// Links between points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Layer 0.
    pub base: Layer,
    /// The points of layer 1, those of the highest layer first. The first of all is where searches begin.
    pub upper_points: Vec<u32>,
    /// Layers 1 and above: each has the first so many of `upper_points`, and links their ranks there.
    pub upper: Vec<Layer>,
}

impl Graph {
    /// The point at which searches begin.
    pub(crate) fn entry(&self) -> u32 {
        self.upper_points.first().copied().unwrap_or(0)
    }
}

/// The links of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    room: usize,
    links: Vec<u32>,
    counts: Vec<u32>,
}

impl Layer {
    /// A layer without links, with room for `room` a point.
    #[must_use]
    pub fn new(points: usize, room: usize) -> Self {
        Self {
            room,
            links: vec![0; points * room],
            counts: vec![0; points],
        }
    }

    /// How many points it has.
    #[must_use]
    pub fn points(&self) -> usize {
        self.counts.len()
    }

    /// How many links a point has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room
    }

    /// The links of a point.
    #[inline]
    #[must_use]
    pub fn of(&self, point: u32) -> &[u32] {
        let start = point as usize * self.room;
        &self.links[start..start + self.counts[point as usize] as usize]
    }

    /// Replaces the links of a point.
    ///
    /// # Panics
    ///
    /// More links than there is room for.
    pub fn set(&mut self, point: u32, links: &[u32]) {
        let start = point as usize * self.room;
        self.links[start..start + self.room][..links.len()].copy_from_slice(links);
        self.counts[point as usize] = u32::try_from(links.len()).expect("at most the room");
    }

    /// Adds links to a point, if there is room for all of them.
    pub(crate) fn extend(&mut self, point: u32, links: &[u32]) -> bool {
        let count = self.counts[point as usize] as usize;
        if count + links.len() > self.room {
            return false;
        }
        let start = point as usize * self.room + count;
        self.links[start..start + links.len()].copy_from_slice(links);
        self.counts[point as usize] += u32::try_from(links.len()).expect("at most the room");
        true
    }

    /// The same links with less room.
    fn shrunk(&self, room: usize) -> Self {
        let mut layer = Self::new(self.points(), room);
        for point in 0..self.counts.len() {
            let point = u32::try_from(point).expect("rows have 31 bits");
            layer.set(point, self.of(point));
        }
        layer
    }
}

impl Links for Layer {
    #[inline]
    fn links(&self, row: u32, out: &mut Vec<u32>) {
        out.extend_from_slice(self.of(row));
    }

    #[inline]
    fn prefetch(&self, kernel: Kernel, row: u32) {
        kernel.prefetch_rows(self.of(row));
    }
}
