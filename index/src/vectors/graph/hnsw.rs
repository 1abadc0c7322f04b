//! Builds a graph with the crate hnsw_rs, which [`super::BatchBuilder`] is compared with (feature `hnsw_rs`).
//!
//! What it is given are ranks, not vectors, and the distances that it asks for are those of codes: both builders see
//! the same points. Its graph is copied into Lode's form and dropped. Its dumps are never read: the code that reads them
//! trusts every length in them.
//!
//! Threads that insert at once see one another's points or do not, so its graphs differ from run to run, unless the rayon
//! pool that it is called in has one thread.

use std::cmp::Reverse;

use hnsw_rs::prelude::{Distance, Hnsw};

use super::{Codes, Graph, GraphBuilder, Layer};
use crate::{
    limits::{GRAPH_ROWS_MIN, LAYERS_MAX, LINKS_MAX},
    params::Metric,
};

/// A builder that leaves the work to hnsw_rs. It takes several times the memory and the CPU time of
/// [`super::BatchBuilder`], and writes to standard output from 50,000 points on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswRsBuilder {
    links: usize,
    breadth: usize,
    rows_min: u32,
}

impl HnswRsBuilder {
    /// As [`super::BatchBuilder::new`].
    #[must_use]
    pub fn new(links: usize, breadth: usize) -> Self {
        Self {
            links: links.clamp(2, LINKS_MAX / 2),
            breadth: breadth.max(links),
            rows_min: GRAPH_ROWS_MIN,
        }
    }

    /// The same, for fields of `rows` vectors or more.
    #[must_use]
    pub fn from_rows(self, rows: u32) -> Self {
        Self {
            rows_min: rows.max(1),
            ..self
        }
    }
}

impl Default for HnswRsBuilder {
    /// 16 links, 100 candidates.
    fn default() -> Self {
        Self::new(16, 100)
    }
}

impl GraphBuilder for HnswRsBuilder {
    fn links(&self) -> usize {
        2 * self.links
    }

    fn rows_min(&self) -> u32 {
        self.rows_min
    }

    fn build(&self, codes: &Codes<'_>) -> Graph {
        let ranks: Vec<u32> = (0..codes.points()).collect();
        let mut points: Vec<(&[u32], usize)> = ranks
            .chunks_exact(1)
            .map(|rank| (rank, rank[0] as usize))
            .collect();
        let distance = CodeDistance::new(codes);
        let hnsw = Hnsw::new(self.links, ranks.len(), LAYERS_MAX, self.breadth, distance);
        // A point that finds no other gets no links: there must be one before threads begin.
        hnsw.insert_slice(points.swap_remove(0));
        hnsw.parallel_insert_slice(&points);
        self.copied(&hnsw, ranks.len())
    }
}

impl HnswRsBuilder {
    /// The graph in Lode's form.
    fn copied(&self, hnsw: &Hnsw<'_, u32, CodeDistance<'_>>, points: usize) -> Graph {
        let mut levels = vec![0usize; points];
        for point in hnsw.get_point_indexation() {
            levels[point.get_origin_id()] = usize::from(point.get_point_id().0);
        }
        let mut upper_points: Vec<u32> = (0..)
            .zip(&levels)
            .filter(|(_, level)| **level > 0)
            .map(|(point, _)| point)
            .collect();
        upper_points.sort_by_key(|point| (Reverse(levels[*point as usize]), *point));
        let mut slots = vec![0u32; points];
        for (slot, point) in (0..).zip(&upper_points) {
            slots[*point as usize] = slot;
        }
        let highest = levels.iter().copied().max().unwrap_or(0);
        let mut base = Layer::new(points, 2 * self.links);
        let mut upper: Vec<Layer> = (1..=highest)
            .map(|level| {
                let members = levels.iter().filter(|other| **other >= level).count();
                Layer::new(members, self.links)
            })
            .collect();
        let mut links: Vec<u32> = Vec::with_capacity(2 * self.links);
        for point in hnsw.get_point_indexation() {
            let of = point.get_origin_id();
            let lists = point.get_neighborhood_id();
            // Lists above the point's own layers hold what its insertion came by.
            for (level, list) in lists.iter().enumerate().take(levels[of] + 1) {
                let layer = match level {
                    0 => &mut base,
                    level => &mut upper[level - 1],
                };
                links.clear();
                for link in list {
                    let to = link.d_id;
                    // Threads leave a link to a point of a lower layer now and then.
                    if to == of || levels[to] < level || links.len() == layer.room() {
                        continue;
                    }
                    let to = match level {
                        0 => u32::try_from(to).expect("rows have 31 bits"),
                        _ => slots[to],
                    };
                    if !links.contains(&to) {
                        links.push(to);
                    }
                }
                let at = match level {
                    0 => u32::try_from(of).expect("rows have 31 bits"),
                    _ => slots[of],
                };
                layer.set(at, &links);
            }
        }
        Graph {
            base,
            upper_points,
            upper,
        }
    }
}

/// Distances of codes by their ranks. hnsw_rs panics at one below zero, so products are taken from the largest.
struct CodeDistance<'a> {
    codes: &'a Codes<'a>,
    shift: f32,
}

impl<'a> CodeDistance<'a> {
    fn new(codes: &'a Codes<'a>) -> Self {
        let products = codes.metric == Metric::Dot;
        let own = (0..codes.points()).map(|point| -codes.distance(point, point));
        Self {
            codes,
            shift: if products {
                own.fold(0.0, f32::max)
            } else {
                0.0
            },
        }
    }
}

impl Distance<u32> for CodeDistance<'_> {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        (self.shift + self.codes.distance(a[0], b[0])).max(0.0)
    }
}
