//! Builds a graph in batches: the points of a batch are placed in parallel into the graph as it was before, then all
//! their links are entered in a fixed order. So the graph depends on the points alone, not on threads.
//!
//! After Manohar and others, ParlayANN (arXiv 2305.04359). A batch is a small part of what is there already, so that few
//! points miss a neighbour that came with them.
//!
//! A second pass looks again at each point of layer 0, now that all are there, as Vamana does (DiskANN, NeurIPS 2019): the
//! first points were linked when few others were known. At equal cost of a search it finds a quarter of what was missed.

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

use super::{Codes, Graph, GraphBuilder, Layer, select::Selection};
use crate::{
    limits::{GRAPH_ROWS_MIN, LINKS_MAX},
    vectors::beam::{Beam, Scratch},
};

/// A batch has at most one of so many points that are there.
const BATCH_SHARE: usize = 24;

/// Most points of a batch.
const BATCH_MAX: usize = 2048;

/// Room for links beyond those that stay, so that points are not pruned at every link.
const SLACK: usize = 16;

thread_local! {
    static MEMORY: RefCell<(Scratch, Selection)> = RefCell::default();
}

/// Lode's own builder: the same points give the same graph on any machine and for any number of threads. Runs on the
/// rayon pool that it is called in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchBuilder {
    links: usize,
    breadth: usize,
    rows_min: u32,
}

impl BatchBuilder {
    /// A builder of graphs with `links` links a point on upper layers and twice as many on layer 0 (*M* of the paper,
    /// brought into 2 to 64), which looks at `breadth` candidates for them (*efConstruction*).
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

impl Default for BatchBuilder {
    /// 16 links, 100 candidates.
    fn default() -> Self {
        Self::new(16, 100)
    }
}

impl GraphBuilder for BatchBuilder {
    fn links(&self) -> usize {
        2 * self.links
    }

    fn rows_min(&self) -> u32 {
        self.rows_min
    }

    fn build(&self, codes: &Codes<'_>) -> Graph {
        let points = codes.points();
        let counts = || std::iter::once(points).chain(codes.counts.iter().copied());
        let mut layers: Vec<Layer> = counts()
            .enumerate()
            .map(|(level, count)| Layer::new(count as usize, self.room(level) + SLACK))
            .collect();
        let mut placed = 1;
        while placed < points {
            let share = placed as usize / BATCH_SHARE;
            let batch = batch(placed, points, share);
            let places: Vec<_> = batch
                .clone()
                .into_par_iter()
                .map(|point| self.place(codes, &layers, point))
                .collect();
            for (level, layer) in layers.iter_mut().enumerate() {
                let links = places.iter().map_while(|links| links.get(level));
                self.enter(codes, level, layer, batch.clone().zip(links));
            }
            placed = batch.end;
        }
        let mut seen = 0;
        while seen < points {
            let batch = batch(seen, points, BATCH_MAX);
            let better: Vec<_> = batch
                .clone()
                .into_par_iter()
                .map(|point| self.improve(codes, &layers[0], point))
                .collect();
            self.enter(codes, 0, &mut layers[0], batch.clone().zip(&better));
            seen = batch.end;
        }
        let mut finished = layers
            .iter()
            .enumerate()
            .map(|(level, layer)| finish(codes, layer, self.room(level)));
        Graph {
            base: finished.next().expect("there is a layer 0"),
            upper_points: (0..codes.counts.first().copied().unwrap_or(0)).collect(),
            upper: finished.collect(),
        }
    }
}

/// The next points: about `share`, at least one.
fn batch(first: u32, points: u32, share: usize) -> Range<u32> {
    let batch = u32::try_from(share.clamp(1, BATCH_MAX)).expect("at most the limit");
    first..points.min(first.saturating_add(batch))
}

impl BatchBuilder {
    /// Links that stay on a layer.
    fn room(&self, level: usize) -> usize {
        if level == 0 {
            2 * self.links
        } else {
            self.links
        }
    }

    /// Finds the links of a point on each of its layers, layer 0 first.
    fn place(&self, codes: &Codes<'_>, layers: &[Layer], point: u32) -> Vec<Vec<u32>> {
        MEMORY.with_borrow_mut(|(scratch, selection)| {
            let query = codes.query(point);
            let mut start = 0;
            let mut links = Vec::new();
            for layer in layers.iter().rev() {
                let member = (point as usize) < layer.points();
                let beam = Beam {
                    kernel: codes.kernel,
                    records: codes.records.first(layer.points()),
                    graph: layer,
                    query,
                };
                beam.run(&[start], if member { self.breadth } else { 1 }, scratch);
                let near = scratch.pool.entries();
                start = near.first().map_or(start, |entry| entry.row());
                if member {
                    links.push(selection.select(codes, query.bias, near, self.links));
                }
            }
            links.reverse();
            links
        })
    }

    /// Finds the links of a point on layer 0 again.
    fn improve(&self, codes: &Codes<'_>, layer: &Layer, point: u32) -> Vec<u32> {
        MEMORY.with_borrow_mut(|(scratch, selection)| {
            let beam = Beam {
                kernel: codes.kernel,
                records: codes.records,
                graph: layer,
                query: codes.query(point),
            };
            beam.run(&[point], self.breadth, scratch);
            let near = scratch.pool.entries().iter().map(|entry| entry.row());
            let mut near: Vec<u32> = near.filter(|near| *near != point).collect();
            near.extend(layer.of(point));
            selection.prune(codes, point, &near, self.room(0))
        })
    }

    /// Replaces the links of some points of a layer, and enters links back from where they lead.
    fn enter<'a>(
        &self,
        codes: &Codes<'_>,
        level: usize,
        layer: &mut Layer,
        links: impl Iterator<Item = (u32, &'a Vec<u32>)>,
    ) {
        let mut back: Vec<(u32, u32)> = Vec::new();
        for (point, links) in links {
            layer.set(point, links);
            back.extend(links.iter().map(|link| (*link, point)));
        }
        back.par_sort_unstable();
        let mut full = Vec::new();
        for group in back.chunk_by(|a, b| a.0 == b.0) {
            let point = group[0].0;
            let links = layer.of(point);
            let sources = group.iter().map(|(_, source)| *source);
            let new: Vec<u32> = sources.filter(|source| !links.contains(source)).collect();
            if !layer.extend(point, &new) {
                full.push((point, new));
            }
        }
        let pruned: Vec<_> = full
            .into_par_iter()
            .map(|(point, mut links)| {
                links.extend(layer.of(point));
                (point, prune(codes, point, &links, self.room(level)))
            })
            .collect();
        for (point, links) in pruned {
            layer.set(point, &links);
        }
    }
}

fn prune(codes: &Codes<'_>, point: u32, links: &[u32], room: usize) -> Vec<u32> {
    MEMORY.with_borrow_mut(|(_, selection)| selection.prune(codes, point, links, room))
}

/// Takes away the slack.
fn finish(codes: &Codes<'_>, layer: &Layer, room: usize) -> Layer {
    let points = u32::try_from(layer.points()).expect("rows have 31 bits");
    let pruned: Vec<_> = (0..points)
        .into_par_iter()
        .filter(|point| layer.of(*point).len() > room)
        .map(|point| (point, prune(codes, point, layer.of(point), room)))
        .collect();
    let mut layer = layer.clone();
    for (point, links) in pruned {
        layer.set(point, &links);
    }
    layer.shrunk(room)
}
