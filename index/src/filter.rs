//! Filters: which points a search, scroll, count or deletion is about, by id and payload.
//!
//! The tree is Qdrant's: `must`, `should` and `must_not` over conditions, which may be filters again. It comes
//! from JSON ([`json`]) or from the short text of the command line ([`text`]); both bound its size before
//! anything is built. [`check`](Filter::check) decides one point by looking at its payload and is what every
//! other way of answering must agree with: an index never changes an answer.

use std::collections::BTreeSet;

use crate::{
    geo::{GeoArea, GeoPoint},
    id::PointId,
    payload::PayloadPath,
    schema::Schema,
    tokenizer::TextRule,
};

mod check;
mod json;
mod text;

pub use check::Candidate;
pub(crate) use check::{has_null, is_empty};
pub use json::FilterError;
pub use text::FilterTextError;

/// Which points are meant; without any condition, all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
    /// At least one of these holds, if there are any.
    pub should: Vec<Condition>,
    /// None of these holds.
    pub must_not: Vec<Condition>,
    /// At least so many of these hold, if it is there.
    pub min_should: Option<(usize, Vec<Condition>)>,
}

/// Something that a point is or is not.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Condition {
    /// A value at a path passes a test.
    Field(PayloadPath, Test),
    /// Nothing is at the path, or null, or an array without items.
    IsEmpty(PayloadPath),
    /// Null is at the path, or in an array there.
    IsNull(PayloadPath),
    /// The point's id is one of these.
    HasId(BTreeSet<PointId>),
    /// The point has the vector of this name.
    HasVector(String),
    /// One object of an array passes a filter as a whole.
    Nested(PayloadPath, Box<Filter>),
    /// A filter within the filter.
    Filter(Box<Filter>),
}

/// What a value must be; for arrays, one of their items.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Test {
    /// Equal.
    Value(Scalar),
    /// Equal to one of these.
    Any(BTreeSet<Scalar>),
    /// A text or integer that is none of these.
    Except(BTreeSet<Scalar>),
    /// A text that has all words of another, or, where no schema says what a word is, that holds it.
    Text(TextQuery),
    /// A number between bounds.
    Range(Range<f64>),
    /// A point in time between bounds, microseconds since 1970.
    Datetime(Range<i64>),
    /// A place in an area.
    Geo(GeoArea),
    /// How many values there are.
    Count(Range<u64>),
}

/// A value that another can equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// Text.
    Text(String),
}

/// Text to look for, and the words that it means once a schema was consulted.
#[derive(Debug, Clone, PartialEq)]
pub struct TextQuery {
    /// As it was given.
    pub text: String,
    /// Whether one word is enough.
    pub any: bool,
    pub(crate) words: Option<(TextRule, BTreeSet<String>)>,
}

/// Bounds on either side; none bounds nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range<T> {
    /// Greater than.
    pub gt: Option<T>,
    /// Greater than or equal.
    pub gte: Option<T>,
    /// Less than.
    pub lt: Option<T>,
    /// Less than or equal.
    pub lte: Option<T>,
}

impl<T> Default for Range<T> {
    fn default() -> Self {
        Self {
            gt: None,
            gte: None,
            lt: None,
            lte: None,
        }
    }
}

impl<T: PartialOrd + Copy> Range<T> {
    /// Whether a value is within the bounds.
    pub fn contains(&self, value: T) -> bool {
        self.gt.is_none_or(|bound| value > bound)
            && self.gte.is_none_or(|bound| value >= bound)
            && self.lt.is_none_or(|bound| value < bound)
            && self.lte.is_none_or(|bound| value <= bound)
    }
}

impl Filter {
    /// The filter that one condition makes.
    pub fn of(condition: Condition) -> Self {
        Self {
            must: vec![condition],
            ..Self::default()
        }
    }

    /// The filter that a set of ids makes.
    pub fn ids(ids: impl IntoIterator<Item = PointId>) -> Self {
        Self::of(Condition::HasId(ids.into_iter().collect()))
    }

    /// Whether it has no condition.
    pub fn is_empty(&self) -> bool {
        self.conditions().next().is_none() && self.min_should.is_none()
    }

    /// Conditions of all clauses, not those inside them.
    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let some = self
            .min_should
            .iter()
            .flat_map(|(_, conditions)| conditions);
        self.must
            .iter()
            .chain(&self.should)
            .chain(&self.must_not)
            .chain(some)
    }

    /// Looks up in a schema what a word is, so that text conditions mean what the schema says.
    pub(crate) fn bind(&mut self, schema: &Schema) {
        self.bind_below(schema, "");
    }

    fn bind_below(&mut self, schema: &Schema, prefix: &str) {
        let some = self
            .min_should
            .iter_mut()
            .flat_map(|(_, conditions)| conditions);
        let clauses = self.must.iter_mut().chain(&mut self.should);
        for condition in clauses.chain(&mut self.must_not).chain(some) {
            match condition {
                Condition::Field(path, Test::Text(query)) => {
                    let rule = schema.text_rule(&format!("{prefix}{path}"));
                    query.words = rule.map(|rule| (rule, rule.query(&query.text)));
                }
                Condition::Filter(filter) => filter.bind_below(schema, prefix),
                Condition::Nested(path, filter) => {
                    let all = if path.as_str().ends_with("[]") {
                        ""
                    } else {
                        "[]"
                    };
                    filter.bind_below(schema, &format!("{prefix}{path}{all}."));
                }
                _ => {}
            }
        }
    }
}

impl Scalar {
    /// The value as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Integer(integer) => (*integer).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }
}

impl GeoArea {
    /// Whether degrees and metres are finite and rings are rings.
    pub(crate) fn is_sound(&self) -> bool {
        let ring = |ring: &Vec<GeoPoint>| ring.len() >= 3;
        match self {
            Self::Box {
                top_left,
                bottom_right,
            } => bottom_right.lat <= top_left.lat,
            Self::Radius { metres, .. } => metres.is_finite() && *metres >= 0.0,
            Self::Polygon {
                exterior,
                interiors,
            } => ring(exterior) && interiors.iter().all(ring),
        }
    }
}
