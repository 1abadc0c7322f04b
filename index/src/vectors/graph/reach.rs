//! Makes every point reachable from the entry on layer 0. Builders prune links, and now and then the last one that led
//! to a point goes with them; no search would ever find it.

use super::{Codes, Graph, Layer};
use crate::vectors::beam::{Beam, Scratch};

/// Near points that are asked for room for one more link.
const BREADTH: usize = 64;

/// The point from which a point was reached; that of the entry is itself.
const UNREACHED: u32 = u32::MAX;

/// Links what cannot be reached from points near to it, and returns how many points that were.
///
/// A link that is given up for it is none over which a point was reached first, so all stay reachable.
pub(crate) fn repair(graph: &mut Graph, codes: &Codes<'_>) -> usize {
    let entry = graph.entry();
    let mut from = vec![UNREACHED; graph.base.points()];
    from[entry as usize] = entry;
    spread(&graph.base, &mut from, entry);
    let mut repaired = 0;
    let mut scratch = Scratch::default();
    for point in 0..codes.points() {
        if from[point as usize] != UNREACHED {
            continue;
        }
        let beam = Beam {
            kernel: codes.kernel,
            records: codes.records,
            graph: &graph.base,
            query: codes.query(point),
        };
        beam.run(&[entry], BREADTH, &mut scratch);
        let near = scratch.pool.entries().iter().map(|entry| entry.row());
        let others = (0..codes.points()).filter(|other| from[*other as usize] != UNREACHED);
        let linked = near
            .chain(others)
            .find(|other| link(&mut graph.base, &from, *other, point));
        if let Some(other) = linked {
            from[point as usize] = other;
            spread(&graph.base, &mut from, point);
            repaired += 1;
        }
    }
    repaired
}

/// Notes all that is reached from `start`.
fn spread(layer: &Layer, from: &mut [u32], start: u32) {
    let mut queue = vec![start];
    while let Some(point) = queue.pop() {
        for link in layer.of(point) {
            if from[*link as usize] == UNREACHED {
                from[*link as usize] = point;
                queue.push(*link);
            }
        }
    }
}

/// Links `to` from `point`, if a link is free or can be given up.
fn link(layer: &mut Layer, from: &[u32], point: u32, to: u32) -> bool {
    if layer.extend(point, &[to]) {
        return true;
    }
    let mut links = layer.of(point).to_vec();
    let Some(spare) = links.iter().rposition(|link| from[*link as usize] != point) else {
        return false;
    };
    links.remove(spare);
    links.push(to);
    layer.set(point, &links);
    true
}
