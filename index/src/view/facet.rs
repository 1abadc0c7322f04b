//! Facets: how many points have each value of a field.

use std::collections::{BTreeSet, HashMap};

use super::{FacetHit, FacetRequest, Report, View, bounded, select};
use crate::filter::Scalar;

impl View {
    /// The most frequent values of a field, most frequent first, equally frequent ones by value. A point counts
    /// once for each value that it has.
    pub fn facet(&self, request: &FacetRequest, report: &mut Report) -> Vec<FacetHit> {
        let filter = self.bound(&request.filter);
        let mut counts: HashMap<Scalar, u64> = HashMap::new();
        for view in self.state.parts() {
            let counted = select::select(view, &filter, report).and_then(|rows| {
                if let Some(found) = view.part.facet(&request.path, &rows)? {
                    report.indexed += 1;
                    found
                        .into_iter()
                        .for_each(|(value, n)| *counts.entry(value).or_default() += n);
                    return Ok(());
                }
                view.part.payloads(&rows, &mut |_, payload| {
                    report.scanned += 1;
                    let mut values = BTreeSet::new();
                    request.path.each_flat(payload.root(), &mut |value| {
                        values.extend(Scalar::of(value));
                    });
                    values
                        .into_iter()
                        .for_each(|value| *counts.entry(value).or_default() += 1);
                    Ok(())
                })
            });
            report.sound(view.key, counted);
        }
        let mut hits: Vec<_> = counts
            .into_iter()
            .map(|(value, count)| FacetHit { value, count })
            .collect();
        hits.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        hits.truncate(bounded(request.limit));
        hits
    }
}
