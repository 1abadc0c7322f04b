//! Scrolling: points in the order of their ids, page by page.

use super::{Page, PartError, Report, View, With, bounded, select};
use crate::{filter::Filter, id::PointId, state::PartKey};

impl View {
    /// The first `limit` points that pass, from an id on.
    pub fn scroll(
        &self,
        from: Option<PointId>,
        limit: usize,
        filter: &Filter,
        with: &With,
        report: &mut Report,
    ) -> Page {
        let limit = bounded(limit);
        let filter = (!filter.is_empty()).then(|| self.bound(filter));
        let mut found: Vec<(PointId, PartKey, u32)> = Vec::new();
        for view in self.state.parts() {
            // one more tells where the next page begins
            let rows = match &filter {
                None => view
                    .part
                    .by_id(from, limit + 1, &|row| !view.dead.contains(row)),
                Some(filter) => select::select(view, filter, report).and_then(|selected| {
                    view.part
                        .by_id(from, limit + 1, &|row| selected.contains(row))
                }),
            };
            let rows = report.sound(view.key, rows).unwrap_or_default();
            found.extend(rows.into_iter().map(|(id, row)| (id, view.key, row)));
        }
        found.sort_unstable();
        let next = found.get(limit).map(|(id, _, _)| *id);
        found.truncate(limit);
        let mut records = Vec::with_capacity(found.len());
        for (_, key, row) in found {
            let record: Result<_, PartError> = self.record(key, row, with);
            records.extend(report.sound(key, record));
        }
        Page { records, next }
    }
}
