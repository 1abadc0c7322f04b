//! Which rows of a part pass a filter: by indexes as far as these go, then by looking at payloads.
//!
//! Conditions that an index can answer are intersected, the rarest first; what is left is checked on the payloads
//! of the rows that remain, frame after frame. The answer is exact.

use std::{cell::RefCell, collections::HashMap};

use roaring::RoaringBitmap;

use super::{PartError, Report};
use crate::{
    filter::{Candidate, Condition, Filter},
    part::Part,
    state::PartView,
};

/// Up to so many rows it is as fast to look at their payloads as to read what an index says.
const FEW_ROWS: u64 = 64;

/// A condition that is expected to hold for less than so many rows is answered by index all the same.
const FEW_EXPECTED: u64 = 4096;

/// The rows that are alive and pass.
pub(crate) fn select(
    view: PartView<'_>,
    filter: &Filter,
    report: &mut Report,
) -> Result<RoaringBitmap, PartError> {
    let part = view.part;
    let mut rows: Option<RoaringBitmap> = None;
    let mut rest = Rest::default();
    let narrow = |rows: &mut Option<RoaringBitmap>, with: RoaringBitmap| {
        *rows = Some(match rows.take() {
            None => with - view.dead.rows(),
            Some(rows) => rows & with,
        });
    };
    let mut must = Vec::with_capacity(filter.must.len());
    for condition in &filter.must {
        must.push((part.estimate(condition)?.unwrap_or(u64::MAX), condition));
    }
    must.sort_by_key(|(estimate, _)| *estimate);
    for (estimate, condition) in must {
        let few = rows.as_ref().is_some_and(|rows| rows.len() <= FEW_ROWS);
        let answer = match few && estimate > FEW_EXPECTED {
            true => None,
            false => answer(part, condition, report)?,
        };
        match answer {
            Some(answer) => narrow(&mut rows, answer),
            None => rest.must.push(condition),
        }
        if rows.as_ref().is_some_and(RoaringBitmap::is_empty) {
            return Ok(RoaringBitmap::new());
        }
    }
    if !filter.should.is_empty() {
        match union(part, &filter.should, report)? {
            Some(answer) => narrow(&mut rows, answer),
            None => rest.should = &filter.should,
        }
    }
    for condition in &filter.must_not {
        match answer(part, condition, report)? {
            Some(answer) => {
                rows = Some(rows.unwrap_or_else(|| view.dead.others(part.rows())) - answer);
            }
            None => rest.must_not.push(condition),
        }
    }
    rest.min_should = filter.min_should.as_ref();
    let rows = rows.unwrap_or_else(|| view.dead.others(part.rows()));
    if rest.is_empty() || rows.is_empty() {
        return Ok(rows);
    }
    look(part, &rows, &rest, report)
}

/// The rows for which a condition holds, dead ones too, if indexes can tell.
fn answer(
    part: &dyn Part,
    condition: &Condition,
    report: &mut Report,
) -> Result<Option<RoaringBitmap>, PartError> {
    if let Condition::Filter(filter) = condition {
        return whole(part, filter, report);
    }
    let answer = part.answer(condition)?;
    report.indexed += u64::from(answer.is_some());
    Ok(answer)
}

/// The rows that pass a filter, dead ones too, if indexes can tell of every condition.
fn whole(
    part: &dyn Part,
    filter: &Filter,
    report: &mut Report,
) -> Result<Option<RoaringBitmap>, PartError> {
    if filter.min_should.is_some() {
        return Ok(None);
    }
    let mut all = RoaringBitmap::new();
    all.insert_range(0..part.rows());
    let mut rows = all;
    for condition in &filter.must {
        match answer(part, condition, report)? {
            Some(answer) => rows &= answer,
            None => return Ok(None),
        }
    }
    if !filter.should.is_empty() {
        match union(part, &filter.should, report)? {
            Some(answer) => rows &= answer,
            None => return Ok(None),
        }
    }
    for condition in &filter.must_not {
        match answer(part, condition, report)? {
            Some(answer) => rows -= answer,
            None => return Ok(None),
        }
    }
    Ok(Some(rows))
}

fn union(
    part: &dyn Part,
    conditions: &[Condition],
    report: &mut Report,
) -> Result<Option<RoaringBitmap>, PartError> {
    let mut rows = RoaringBitmap::new();
    for condition in conditions {
        match answer(part, condition, report)? {
            Some(answer) => rows |= answer,
            None => return Ok(None),
        }
    }
    Ok(Some(rows))
}

/// What indexes could not tell.
#[derive(Default)]
struct Rest<'a> {
    must: Vec<&'a Condition>,
    should: &'a [Condition],
    must_not: Vec<&'a Condition>,
    min_should: Option<&'a (usize, Vec<Condition>)>,
}

impl Rest<'_> {
    fn is_empty(&self) -> bool {
        self.must.is_empty()
            && self.should.is_empty()
            && self.must_not.is_empty()
            && self.min_should.is_none()
    }

    fn check(&self, point: &Candidate<'_>) -> bool {
        self.must.iter().all(|condition| condition.check(point))
            && (self.should.is_empty() || self.should.iter().any(|c| c.check(point)))
            && !self.must_not.iter().any(|condition| condition.check(point))
            && self.min_should.is_none_or(|(count, conditions)| {
                conditions
                    .iter()
                    .filter(|condition| condition.check(point))
                    .count()
                    >= *count
            })
    }
}

/// Of some rows those whose payloads pass.
fn look(
    part: &dyn Part,
    rows: &RoaringBitmap,
    rest: &Rest<'_>,
    report: &mut Report,
) -> Result<RoaringBitmap, PartError> {
    let mut kept = RoaringBitmap::new();
    let with: RefCell<HashMap<String, RoaringBitmap>> = RefCell::default();
    part.payloads(rows, &mut |row, payload| {
        report.scanned += 1;
        let has_vector = |name: &str| {
            let mut with = with.borrow_mut();
            if !with.contains_key(name) {
                with.insert(name.to_owned(), part.with_vector(name).unwrap_or_default());
            }
            with[name].contains(row)
        };
        let candidate = Candidate {
            id: part.id(row)?,
            payload: payload.root(),
            has_vector: &has_vector,
        };
        if rest.check(&candidate) {
            kept.insert(row);
        }
        Ok(())
    })?;
    Ok(kept)
}
