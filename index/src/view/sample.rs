//! Points at random.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::{Report, View, bounded, select};
use crate::{filter::Filter, id::PointId, state::PartKey};

impl View {
    /// So many of the points that pass, each set of them as likely as any other, in no order. `below` gives a number
    /// under the one that it is given, each as likely as any other.
    pub fn sample(
        &self,
        count: usize,
        filter: &Filter,
        below: &mut dyn FnMut(u64) -> u64,
        report: &mut Report,
    ) -> Vec<PointId> {
        let filter = (!filter.is_empty()).then(|| self.bound(filter));
        let mut parts: Vec<(PartKey, RoaringBitmap)> = Vec::new();
        for view in self.state.parts() {
            let rows = match &filter {
                None => Ok(view.dead.others(view.part.rows())),
                Some(filter) => select::select(view, filter, report),
            };
            parts.extend(report.sound(view.key, rows).map(|rows| (view.key, rows)));
        }
        let total: u64 = parts.iter().map(|(_, rows)| rows.len()).sum();
        let count = total.min(bounded(count) as u64);
        // the first cards of a deck that is shuffled as far as that; only moved cards are kept
        let mut moved: HashMap<u64, u64> = HashMap::new();
        let mut found = Vec::new();
        for at in 0..count {
            let drawn = at + below(total - at);
            let card = moved.get(&drawn).copied().unwrap_or(drawn);
            let own = moved.get(&at).copied().unwrap_or(at);
            moved.insert(drawn, own);
            let mut rank = card;
            for (key, rows) in &parts {
                if rank >= rows.len() {
                    rank -= rows.len();
                    continue;
                }
                let row = u32::try_from(rank).ok().and_then(|rank| rows.select(rank));
                if let (Some(row), Some(view)) = (row, self.state.part(*key)) {
                    found.extend(report.sound(*key, view.part.id(row)));
                }
                break;
            }
        }
        found
    }
}
