//! Points in the order of a payload field: by its numbers and its points in time.
//!
//! An index of the field says which kind of values are meant: numbers where it is one of integers or floats, points in
//! time where it is one of these. Without an index both count, a point in time as its microseconds since 1970. A point
//! stands at each of its values. An index finds the rows among which the first ones are; their order is that of the
//! values themselves, so that integers which share a float are apart.

use std::{cmp::Ordering, collections::BTreeSet};

use super::{Report, View, bounded, select};
use crate::{
    datetime::parse_datetime,
    filter::Filter,
    id::PointId,
    payload::{Kind, PayloadPath, ValueRef},
    schema::{FieldType, Schema},
};

/// A value that points are ordered by. Integers and floats are compared as what they stand for.
#[derive(Debug, Clone, Copy)]
pub enum OrderValue {
    /// An integer of 64 bits with or without sign, or microseconds since 1970.
    Integer(i128),
    /// Any other number; finite.
    Float(f64),
}

/// Which points are wanted, in the order of which field.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRequest {
    /// The field.
    pub path: PayloadPath,
    /// Whether the highest come first.
    pub descending: bool,
    /// The first value that is wanted.
    pub from: Option<OrderValue>,
    /// Which points.
    pub filter: Filter,
    /// How many.
    pub limit: usize,
}

/// What values of a field count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) numbers: bool,
    pub(crate) times: bool,
}

/// A value by its place: those that come first are less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    value: OrderValue,
    descending: bool,
}

impl View {
    /// The first points that pass and have a value there, each with the value at which it stands. Equal values are in
    /// the order of ids.
    pub fn ordered(
        &self,
        request: &OrderRequest,
        report: &mut Report,
    ) -> Vec<(PointId, OrderValue)> {
        let limit = bounded(request.limit);
        let counted = Counted::by(&self.state.config.schema, &request.path);
        let filter = (!request.filter.is_empty()).then(|| self.bound(&request.filter));
        let mut first: BTreeSet<(Placed, PointId)> = BTreeSet::new();
        for view in self.state.parts() {
            let part = view.part;
            let rows = match &filter {
                None => Ok(view.dead.others(part.rows())),
                Some(filter) => select::select(view, filter, report),
            };
            let looked = rows.and_then(|rows| {
                let indexed = part.first_by(request, counted, limit, &rows)?;
                report.indexed += u64::from(indexed.is_some());
                part.payloads(&indexed.unwrap_or(rows), &mut |row, payload| {
                    report.scanned += 1;
                    let mut id = None;
                    let mut failed = Ok(());
                    request.path.each_flat(payload.root(), &mut |value| {
                        let value = counted.value(value);
                        let Some(value) = value.filter(|value| request.wants(*value)) else {
                            return;
                        };
                        let placed = Placed {
                            value,
                            descending: request.descending,
                        };
                        let is_late = || first.last().is_some_and(|(last, _)| placed > *last);
                        if first.len() >= limit && is_late() {
                            return;
                        }
                        match id.map_or_else(|| part.id(row), Ok) {
                            Ok(known) => {
                                id = Some(known);
                                first.insert((placed, known));
                                if first.len() > limit {
                                    first.pop_last();
                                }
                            }
                            Err(error) => failed = Err(error),
                        }
                    });
                    failed
                })
            });
            report.sound(view.key, looked);
        }
        let found = first.into_iter();
        found.map(|(placed, id)| (id, placed.value)).collect()
    }
}

impl OrderRequest {
    fn wants(&self, value: OrderValue) -> bool {
        self.from.is_none_or(|from| match self.descending {
            true => value <= from,
            false => value >= from,
        })
    }
}

impl Counted {
    fn by(schema: &Schema, path: &PayloadPath) -> Self {
        let (numbers, times) = match schema.field(path) {
            Some(FieldType::Integer | FieldType::Float) => (true, false),
            Some(FieldType::Datetime) => (false, true),
            _ => (true, true),
        };
        Self { numbers, times }
    }

    fn value(self, value: ValueRef<'_>) -> Option<OrderValue> {
        match value.kind() {
            Kind::Integer(integer) if self.numbers => Some(OrderValue::Integer(integer.into())),
            Kind::Unsigned(integer) if self.numbers => Some(OrderValue::Integer(integer.into())),
            Kind::Float(float) if self.numbers => Some(OrderValue::Float(float)),
            Kind::String(text) if self.times => {
                parse_datetime(text).map(|micros| OrderValue::Integer(micros.into()))
            }
            _ => None,
        }
    }
}

impl OrderValue {
    /// The nearest of 64-bit integers that is not above it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of floats saturates"
    )]
    pub(crate) fn floor(self) -> i64 {
        match self {
            Self::Integer(integer) => {
                i64::try_from(integer).unwrap_or(if integer < 0 { i64::MIN } else { i64::MAX })
            }
            Self::Float(float) => float.floor() as i64,
        }
    }

    /// The nearest float.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the nearest is what is asked for"
    )]
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

impl PartialEq for OrderValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for OrderValue {}

impl PartialOrd for OrderValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(&b),
            (Self::Integer(a), Self::Float(b)) => integer_to_float(a, b),
            (Self::Float(a), Self::Integer(b)) => integer_to_float(b, a).reverse(),
            // -0 is 0, and there is no NaN
            (Self::Float(a), Self::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
        }
    }
}

/// How an integer of at most 64 bits is to a float, with nothing rounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is larger is past every integer"
)]
fn integer_to_float(integer: i128, float: f64) -> Ordering {
    let below = float.floor();
    let whole = integer.cmp(&(below as i128));
    whole.then(if float > below {
        Ordering::Less
    } else {
        Ordering::Equal
    })
}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Placed {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.descending {
            true => other.value.cmp(&self.value),
            false => self.value.cmp(&other.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_are_ordered_as_what_they_stand_for() {
        use OrderValue::{Float, Integer};
        let large = (1i128 << 53) + 1;
        let ascending = [
            Float(f64::MIN),
            Integer(i64::MIN.into()),
            Float(-1.5),
            Integer(-1),
            Float(-0.5),
            Integer(0),
            Float(0.5),
            Integer(1),
            Integer(large - 1),
            Integer(large),
            Integer(large + 1),
            Integer(u64::MAX.into()),
            Float(2f64.powi(64)),
            Float(f64::MAX),
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(a.cmp(b), at.cmp(&other), "{a:?} {b:?}");
            }
        }
        assert_eq!(Integer(0), Float(-0.0));
        assert_eq!(Float(0.0), Float(-0.0));
        assert_eq!(Integer(large - 1), Float(2f64.powi(53)));
    }
}
