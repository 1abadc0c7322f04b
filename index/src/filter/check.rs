//! Decides whether a point passes a filter, by looking at its payload.

use std::collections::BTreeSet;

use super::{Condition, Filter, Scalar, Test, TextQuery};
use crate::{
    datetime::parse_datetime,
    geo::GeoPoint,
    id::PointId,
    payload::{Kind, PayloadPath, ValueRef},
};

/// A point as a filter sees it.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: PointId,
    /// Its payload.
    pub payload: ValueRef<'a>,
    /// Whether it has the vector of a name.
    pub has_vector: &'a dyn Fn(&str) -> bool,
}

impl Filter {
    /// Whether the point passes.
    pub fn check(&self, point: &Candidate<'_>) -> bool {
        let holds = |condition: &Condition| condition.check(point);
        self.must.iter().all(holds)
            && (self.should.is_empty() || self.should.iter().any(holds))
            && !self.must_not.iter().any(holds)
            && self.min_should.as_ref().is_none_or(|(count, conditions)| {
                conditions
                    .iter()
                    .filter(|condition| holds(condition))
                    .count()
                    >= *count
            })
    }
}

impl Condition {
    /// Whether it holds for the point.
    pub fn check(&self, point: &Candidate<'_>) -> bool {
        match self {
            Self::Field(path, test) => test.check(path, point.payload),
            Self::IsEmpty(path) => is_empty(path, point.payload),
            Self::IsNull(path) => has_null(path, point.payload),
            Self::HasId(ids) => ids.contains(&point.id),
            Self::HasVector(name) => (point.has_vector)(name),
            Self::Filter(filter) => filter.check(point),
            Self::Nested(path, filter) => {
                let mut found = false;
                path.each_flat(point.payload, &mut |value| {
                    let object = matches!(value.kind(), Kind::Object(_));
                    found = found
                        || object
                            && filter.check(&Candidate {
                                payload: value,
                                ..*point
                            });
                });
                found
            }
        }
    }
}

/// Whether there is no value at the path but null and empty arrays.
pub(crate) fn is_empty(path: &PayloadPath, root: ValueRef<'_>) -> bool {
    let mut empty = true;
    path.each(root, &mut |value| {
        empty &= match value.kind() {
            Kind::Null => true,
            Kind::Array(items) => items.is_empty(),
            _ => false,
        };
    });
    empty
}

/// Whether there is a null at the path.
pub(crate) fn has_null(path: &PayloadPath, root: ValueRef<'_>) -> bool {
    let mut null = false;
    path.each(root, &mut |value| {
        null |= match value.kind() {
            Kind::Null => true,
            Kind::Array(mut items) => items.any(|(_, item)| matches!(item.kind(), Kind::Null)),
            _ => false,
        };
    });
    null
}

impl Test {
    fn check(&self, path: &PayloadPath, root: ValueRef<'_>) -> bool {
        if let Self::Count(range) = self {
            return count_fits(path, root, &mut |count| range.contains(count));
        }
        let mut found = false;
        path.each_flat(root, &mut |value| found = found || self.holds(value));
        found
    }

    /// Whether one value passes.
    pub(crate) fn holds(&self, value: ValueRef<'_>) -> bool {
        match self {
            Self::Value(scalar) => scalar.equals(value),
            Self::Any(scalars) => Scalar::of(value).is_some_and(|scalar| scalars.contains(&scalar)),
            Self::Except(scalars) => match Scalar::of(value) {
                None | Some(Scalar::Bool(_)) => false,
                Some(scalar) => !scalars.contains(&scalar),
            },
            Self::Text(query) => match value.kind() {
                Kind::String(text) => query.holds(text),
                _ => false,
            },
            Self::Range(range) => value.as_f64().is_some_and(|number| range.contains(number)),
            Self::Datetime(range) => match value.kind() {
                Kind::String(text) => parse_datetime(text).is_some_and(|time| range.contains(time)),
                _ => false,
            },
            Self::Geo(area) => {
                GeoPoint::from_value(value).is_some_and(|point| area.contains(point))
            }
            Self::Count(_) => false,
        }
    }
}

/// Whether the number of values at the path passes; nothing there counts as none.
fn count_fits(path: &PayloadPath, root: ValueRef<'_>, fits: &mut dyn FnMut(u64) -> bool) -> bool {
    let (mut found, mut there) = (false, false);
    path.each(root, &mut |value| {
        there = true;
        found = found
            || fits(match value.kind() {
                Kind::Null => 0,
                Kind::Array(items) => items.count() as u64,
                _ => 1,
            });
    });
    found || !there && fits(0)
}

impl Scalar {
    /// The scalar that a value is.
    pub(crate) fn of(value: ValueRef<'_>) -> Option<Self> {
        match value.kind() {
            Kind::Bool(value) => Some(Self::Bool(value)),
            Kind::Integer(integer) => Some(Self::Integer(integer)),
            Kind::String(text) => Some(Self::Text(text.to_owned())),
            _ => None,
        }
    }

    fn equals(&self, value: ValueRef<'_>) -> bool {
        match (self, value.kind()) {
            (Self::Bool(wanted), Kind::Bool(found)) => *wanted == found,
            (Self::Integer(wanted), Kind::Integer(found)) => *wanted == found,
            (Self::Text(wanted), Kind::String(found)) => wanted == found,
            _ => false,
        }
    }
}

impl TextQuery {
    /// Text to look for.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            any: false,
            words: None,
        }
    }

    fn holds(&self, text: &str) -> bool {
        let Some((rule, words)) = &self.words else {
            return text.contains(&self.text);
        };
        let there: BTreeSet<String> = rule.tokens(text);
        if self.any {
            words.iter().any(|word| there.contains(word))
        } else {
            !words.is_empty() && words.iter().all(|word| there.contains(word))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::payload::Payload;

    fn passes(filter: &Value, payload: &Value) -> bool {
        let filter = Filter::from_json(filter).unwrap();
        let payload = Payload::from_json(payload).unwrap();
        filter.check(&Candidate {
            id: PointId::Number(7),
            payload: payload.root(),
            has_vector: &|name| name == "text",
        })
    }

    #[test]
    fn conditions_mean_what_qdrant_means() {
        let point = json!({
            "s": "libs", "i": 5, "f": 1.5, "b": true, "n": null, "e": [], "l": ["a", "b", null],
            "t": "2024-05-01T00:00:00Z", "g": {"lon": 13.4, "lat": 52.5},
            "o": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "m": {"k": "v"}, "text": "the quick fox",
        });
        let field =
            |key: &str, name: &str, test: Value| json!({"must": [{"key": key, name: test}]});
        for (holds, filter) in [
            (true, field("s", "match", json!({"value": "libs"}))),
            (false, field("s", "match", json!({"value": "lib"}))),
            (true, field("i", "match", json!({"value": 5}))),
            (false, field("f", "match", json!({"value": 1}))),
            (true, field("b", "match", json!({"value": true}))),
            (true, field("l", "match", json!({"value": "b"}))),
            (true, field("l", "match", json!({"any": ["x", "a"]}))),
            (false, field("l", "match", json!({"any": []}))),
            (true, field("l", "match", json!({"except": ["a"]}))),
            (false, field("l", "match", json!({"except": ["a", "b"]}))),
            (false, field("missing", "match", json!({"except": ["a"]}))),
            (true, field("text", "match", json!({"text": "quick"}))),
            (true, field("m.k", "match", json!({"value": "v"}))),
            (true, field("i", "range", json!({"gte": 5, "lt": 5.5}))),
            (false, field("i", "range", json!({"gt": 5}))),
            (
                true,
                field(
                    "t",
                    "range",
                    json!({"gte": "2024-05-01", "lt": "2024-05-02"}),
                ),
            ),
            (false, field("s", "range", json!({"gte": 0}))),
            (
                true,
                field(
                    "g",
                    "geo_radius",
                    json!({"center": {"lon": 13.4, "lat": 52.5}, "radius": 1}),
                ),
            ),
            (true, field("l", "values_count", json!({"gte": 3}))),
            (true, field("missing", "values_count", json!({"lt": 1}))),
            (true, json!({"must": {"is_empty": {"key": "missing"}}})),
            (true, json!({"must": [{"is_empty": {"key": "e"}}]})),
            (true, json!({"must": [{"is_empty": {"key": "n"}}]})),
            (false, json!({"must": [{"is_empty": {"key": "s"}}]})),
            (
                true,
                json!({"must": [{"is_null": {"key": "n"}}, {"is_null": {"key": "l"}}]}),
            ),
            (false, json!({"must": [{"is_null": {"key": "missing"}}]})),
            (true, json!({"must": [{"has_id": [7, 8]}]})),
            (false, json!({"must_not": [{"has_id": [7]}]})),
            (true, json!({"must": [{"has_vector": "text"}]})),
            (false, json!({"must": [{"has_vector": "image"}]})),
            (
                true,
                json!({"should": [{"has_id": [8]}, {"key": "i", "match": {"value": 5}}]}),
            ),
            (true, json!({"should": []})),
            (
                true,
                json!({"must": [{"nested": {"key": "o", "filter": {"must": [
                {"key": "x", "match": {"value": 1}}, {"key": "y", "match": {"value": 2}}]}}}]}),
            ),
            (
                false,
                json!({"must": [{"nested": {"key": "o", "filter": {"must": [
                {"key": "x", "match": {"value": 1}}, {"key": "y", "match": {"value": 4}}]}}}]}),
            ),
            (
                true,
                json!({"must": [{"key": "o[].x", "match": {"value": 3}}]}),
            ),
            (
                true,
                json!({"min_should": {"min_count": 1, "conditions": [{"has_id": [7]}, {"has_id": [8]}]}}),
            ),
            (
                false,
                json!({"min_should": {"min_count": 2, "conditions": [{"has_id": [7]}, {"has_id": [8]}]}}),
            ),
            (
                true,
                json!({"must": [{"must": [{"must": [{"has_id": [7]}]}]}]}),
            ),
        ] {
            assert_eq!(passes(&filter, &point), holds, "{filter}");
        }
    }
}
