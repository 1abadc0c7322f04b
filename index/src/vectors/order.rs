//! An order of points in which those that a search comes by together lie together, so that it reads few pages.
//!
//! After each point comes the one that most of the last [`WINDOW`] points link to; of several, the one whose number of such links
//! changed last. That is the order of Wei, Yu, Lu and Lin (Speedup Graph Processing by Graph Ordering, SIGMOD 2016), with
//! links alone and a longer window, since a page has a dozen records and a search comes by a thousand. Where no link leads on,
//! it goes on from the point of the lowest rank that has no place yet.

use super::graph::Layer;

/// Points whose links count. Fewer read more pages, and more do not read fewer (docs/benchmarks.md).
const WINDOW: usize = 256;

/// No point.
const NONE: u32 = u32::MAX;

/// The count of a point that has its place.
const PLACED: u16 = u16::MAX;

/// The ranks of a layer's points in order.
pub(super) fn by_links(layer: &Layer) -> Vec<u32> {
    walk(layer, WINDOW)
}

fn walk(layer: &Layer, window: usize) -> Vec<u32> {
    let points = u32::try_from(layer.points()).expect("rows have 31 bits");
    let mut order = Vec::with_capacity(layer.points());
    let mut counts = Counts::new(layer.points());
    let mut ranks = 0..points;
    while let Some(point) = counts
        .take_highest()
        .or_else(|| ranks.find(|rank| counts.place(*rank)))
    {
        order.push(point);
        for link in layer.of(point) {
            counts.raise(*link);
        }
        if let Some(left) = order.len().checked_sub(window + 1) {
            for link in layer.of(order[left]) {
                counts.lower(*link);
            }
        }
    }
    order
}

/// How many points of the window link to each point, and for each number above 0 a list of those of which it is true, the
/// last one that came to it first.
struct Counts {
    of: Vec<u16>,
    /// The first point of the list of each count.
    heads: Vec<u32>,
    /// The next point of the same list, and the one before.
    links: Vec<(u32, u32)>,
    /// No count is higher.
    highest: usize,
}

impl Counts {
    fn new(points: usize) -> Self {
        Self {
            of: vec![0; points],
            heads: vec![NONE],
            links: vec![(NONE, NONE); points],
            highest: 0,
        }
    }

    /// Gives a point its place; tells whether it had none.
    fn place(&mut self, point: u32) -> bool {
        let had_none = self.of[point as usize] != PLACED;
        if had_none {
            self.set(point, PLACED);
        }
        had_none
    }

    /// Gives a place to a point of the highest count above 0.
    fn take_highest(&mut self) -> Option<u32> {
        while self.heads[self.highest] == NONE {
            self.highest = self.highest.checked_sub(1)?;
        }
        let point = self.heads[self.highest];
        self.set(point, PLACED);
        Some(point)
    }

    fn raise(&mut self, point: u32) {
        let count = self.of[point as usize];
        // A window has fewer links than there are counts.
        if count < PLACED - 1 {
            self.set(point, count + 1);
        }
    }

    fn lower(&mut self, point: u32) {
        let count = self.of[point as usize];
        if count != PLACED && count > 0 {
            self.set(point, count - 1);
        }
    }

    /// Moves a point without a place from the list of its count to that of another.
    fn set(&mut self, point: u32, count: u16) {
        let before = std::mem::replace(&mut self.of[point as usize], count);
        if before > 0 {
            let (next, previous) = self.links[point as usize];
            match previous {
                NONE => self.heads[before as usize] = next,
                previous => self.links[previous as usize].0 = next,
            }
            if next != NONE {
                self.links[next as usize].1 = previous;
            }
        }
        if count > 0 && count != PLACED {
            let list = count as usize;
            if list >= self.heads.len() {
                self.heads.resize(list + 1, NONE);
            }
            let next = std::mem::replace(&mut self.heads[list], point);
            self.links[point as usize] = (next, NONE);
            if next != NONE {
                self.links[next as usize].1 = point;
            }
            self.highest = self.highest.max(list);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::mix::mix;

    /// Points that link to some of their cluster and to one of any; ranks say nothing of the cluster.
    fn clustered(points: u32, clusters: u64, seed: u64) -> (Layer, Vec<u64>) {
        let draw = |at: u64, of: u64| mix(seed ^ mix(at)) % of;
        let cluster: Vec<u64> = (0..points)
            .map(|point| draw(point.into(), clusters))
            .collect();
        let mut layer = Layer::new(points as usize, 7);
        for point in 0..points {
            let alike = |other: &u32| cluster[*other as usize] == cluster[point as usize];
            let near: Vec<u32> = (0..points).filter(alike).collect();
            let at = u64::from(point) * 8 + u64::from(points);
            let mut links: Vec<u32> = (0..6)
                .map(|link| near[draw(at + link, near.len() as u64) as usize])
                .chain([draw(at + 6, points.into()) as u32])
                .collect();
            links.sort_unstable();
            links.dedup();
            layer.set(point, &links);
        }
        (layer, cluster)
    }

    /// The same order, found by looking at all points for each place.
    fn plain(layer: &Layer, window: usize) -> Vec<u32> {
        let points = layer.points();
        let (mut order, mut clock) = (Vec::new(), 0);
        let mut counts = vec![(0u32, 0u32); points];
        while order.len() < points {
            let free = (0..points as u32).filter(|point| !order.contains(point));
            let next = free
                .max_by_key(|point| match counts[*point as usize] {
                    (0, _) => (0, 0, u32::MAX - point),
                    (count, changed) => (count, changed, 0),
                })
                .unwrap();
            order.push(next);
            let leaves = order.len().checked_sub(window + 1).map(|at| order[at]);
            let changes = [(Some(next), 1), (leaves, u32::MAX)];
            for (of, by) in changes {
                for link in of.map_or(&[][..], |of| layer.of(of)) {
                    clock += 1;
                    let count = counts[*link as usize].0.wrapping_add(by);
                    counts[*link as usize] = (count, clock);
                }
            }
        }
        order
    }

    #[test]
    fn the_next_point_is_the_one_that_most_of_the_last_link_to() {
        for (seed, window) in (0..20).zip([1, 2, 5, 30].into_iter().cycle()) {
            let (layer, _) = clustered(120, 1 + seed % 7, seed);
            assert_eq!(walk(&layer, window), plain(&layer, window), "seed {seed}");
        }
    }

    #[test]
    fn points_without_links_come_in_the_order_of_their_ranks() {
        assert_eq!(by_links(&Layer::new(5, 2)), [0, 1, 2, 3, 4]);
        assert!(by_links(&Layer::new(0, 2)).is_empty());
    }

    #[test]
    fn points_of_a_cluster_lie_together() {
        let (layer, cluster) = clustered(3_000, 60, 7);
        let order = by_links(&layer);
        let apart = |order: &[u32]| {
            let borders = order
                .windows(2)
                .filter(|pair| cluster[pair[0] as usize] != cluster[pair[1] as usize]);
            borders.count()
        };
        let ranks: Vec<u32> = (0..3_000).collect();
        let (found, before) = (apart(&order), apart(&ranks));
        assert!(found * 5 < before, "{found} borders, {before} before");
    }
}
