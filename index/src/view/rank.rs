//! The best points by a score that no index knows: every vector that may be found is looked at.

use super::{Report, ScoredPoint, View, bounded, select};
use crate::{filter::Filter, point::Vector, state::PartKey, top::Best};

impl View {
    /// Of the points that pass and have the vector of this name the `limit` with the highest scores, highest first.
    pub fn rank(
        &self,
        name: &str,
        filter: &Filter,
        limit: usize,
        score: &dyn Fn(&Vector) -> f32,
        report: &mut Report,
    ) -> Vec<ScoredPoint> {
        let filter = (!filter.is_empty()).then(|| self.bound(filter));
        let mut best: Best<(PartKey, u32)> = Best::new(bounded(limit), true);
        for view in self.state.parts() {
            let rows = match &filter {
                None => Ok(view.dead.others(view.part.rows())),
                Some(filter) => select::select(view, filter, report),
            };
            let ranked = rows.and_then(|rows| {
                rows.iter().try_for_each(|row| {
                    if let Some(vector) = view.part.vector(name, row)? {
                        best.offer((view.key, row), score(&vector));
                    }
                    Ok(())
                })
            });
            report.sound(view.key, ranked);
        }
        self.named(best.into_sorted(), report)
    }
}
