//! Builds a graph in batches: the points of a batch are placed in parallel into the graph as it was before, then all
//! their links are entered in a fixed order. So the graph depends on the points alone, not on threads.
//!
//! After Manohar and others, ParlayANN (arXiv 2305.04359). A batch is a small part of what is there already, so that few
//! points miss a neighbour that came with them.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{Codes, Graph, GraphBuilder, Layer, select::Selection};
use crate::{
    limits::LINKS_MAX,
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
}

impl BatchBuilder {
    /// A builder of graphs with `links` links a point on upper layers and twice as many on layer 0 (*M* of the paper,
    /// brought into 2 to 64), which looks at `breadth` candidates for them (*efConstruction*).
    #[must_use]
    pub fn new(links: usize, breadth: usize) -> Self {
        Self {
            links: links.clamp(2, LINKS_MAX / 2),
            breadth: breadth.max(links),
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

    fn build(&self, codes: &Codes<'_>) -> Graph {
        let points = codes.points();
        let counts = || std::iter::once(points).chain(codes.counts.iter().copied());
        let mut layers: Vec<Layer> = counts()
            .enumerate()
            .map(|(level, count)| Layer::new(count as usize, self.room(level) + SLACK))
            .collect();
        let mut placed = 1;
        while placed < points {
            let batch = (placed as usize / BATCH_SHARE).clamp(1, BATCH_MAX);
            let end = points.min(placed + u32::try_from(batch).expect("at most the limit"));
            let places: Vec<_> = (placed..end)
                .into_par_iter()
                .map(|point| self.place(codes, &layers, point))
                .collect();
            for (level, layer) in layers.iter_mut().enumerate() {
                self.enter(codes, level, layer, placed, &places);
            }
            placed = end;
        }
        let mut layers = layers.into_iter().enumerate();
        let mut finished = layers.by_ref().map(|(level, layer)| {
            let room = self.room(level);
            finish(codes, &layer, room)
        });
        let base = finished.next().expect("there is a layer 0");
        let upper: Vec<_> = finished.collect();
        Graph {
            base,
            upper_points: (0..codes.counts.first().copied().unwrap_or(0)).collect(),
            upper,
        }
    }
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
            for (level, layer) in layers.iter().enumerate().rev() {
                let member = (point as usize) < layer.points();
                let beam = Beam {
                    kernel: codes.kernel,
                    records: codes.records.first(layer.points()),
                    graph: layer,
                    query,
                };
                let breadth = if member { self.breadth } else { 1 };
                beam.run(&[start], breadth, scratch);
                let near = scratch.pool.entries();
                start = near.first().map_or(start, |entry| entry.row());
                if member {
                    links.push(selection.select(codes, query.bias, near, self.links));
                }
                debug_assert!(level > 0 || member);
            }
            links.reverse();
            links
        })
    }

    /// Enters the links of a batch into a layer, and those that lead back.
    fn enter(
        &self,
        codes: &Codes<'_>,
        level: usize,
        layer: &mut Layer,
        first: u32,
        places: &[Vec<Vec<u32>>],
    ) {
        let mut back: Vec<(u32, u32)> = Vec::new();
        for (point, links) in (first..).zip(places) {
            if let Some(links) = links.get(level) {
                layer.set(point, links);
                back.extend(links.iter().map(|link| (*link, point)));
            }
        }
        back.par_sort_unstable();
        let groups: Vec<&[(u32, u32)]> = back.chunk_by(|a, b| a.0 == b.0).collect();
        let mut full = Vec::new();
        let mut sources = Vec::new();
        for group in groups {
            sources.clear();
            sources.extend(group.iter().map(|(_, source)| *source));
            if !layer.extend(group[0].0, &sources) {
                full.push(group);
            }
        }
        let pruned: Vec<_> = full
            .into_par_iter()
            .map(|group| {
                let mut links = layer.of(group[0].0).to_vec();
                links.extend(group.iter().map(|(_, source)| *source));
                (
                    group[0].0,
                    prune(codes, group[0].0, &links, self.room(level)),
                )
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
