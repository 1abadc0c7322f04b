//! Filters from JSON, in Qdrant's grammar; size and depth are bounded while it is read.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Condition, Filter, Range, Scalar, Test, TextQuery};
use crate::{
    datetime::{format_datetime, parse_datetime},
    geo::{GeoArea, GeoPoint},
    id::PointId,
    limits::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FILTER_TEXT_BYTES_MAX, FILTER_VALUES_MAX},
    payload::PayloadPath,
};

/// Why JSON is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Not of the grammar.
    #[error("filter: {0}")]
    Grammar(String),
    /// More conditions than a filter may have.
    #[error("filter: more than {FILTER_CONDITIONS_MAX} conditions")]
    TooMany,
    /// More filters inside one another than there may be.
    #[error("filter: nested more than {FILTER_DEPTH_MAX} deep")]
    TooDeep,
    /// More values in all lists than there may be.
    #[error("filter: more than {FILTER_VALUES_MAX} values to compare with")]
    TooManyValues,
}

fn wrong(what: impl Into<String>) -> FilterError {
    FilterError::Grammar(what.into())
}

/// What may still be read.
struct Budget {
    conditions: usize,
    values: usize,
}

impl Budget {
    fn values(&mut self, count: usize) -> Result<(), FilterError> {
        self.values = self
            .values
            .checked_sub(count)
            .ok_or(FilterError::TooManyValues)?;
        Ok(())
    }
}

impl Filter {
    /// Reads a filter; null is the empty one.
    ///
    /// # Errors
    /// [`FilterError`] for what is not of the grammar or past a bound.
    pub fn from_json(value: &Value) -> Result<Self, FilterError> {
        let mut budget = Budget {
            conditions: FILTER_CONDITIONS_MAX,
            values: FILTER_VALUES_MAX,
        };
        match value {
            Value::Null => Ok(Self::default()),
            Value::Object(map) => read(map, &mut budget, 0),
            _ => Err(wrong("not an object")),
        }
    }
}

fn read(
    map: &Map<String, Value>,
    budget: &mut Budget,
    depth: usize,
) -> Result<Filter, FilterError> {
    if depth >= FILTER_DEPTH_MAX {
        return Err(FilterError::TooDeep);
    }
    let mut filter = Filter::default();
    for (key, value) in map {
        match key.as_str() {
            "must" => filter.must = clause(value, budget, depth)?,
            "should" => filter.should = clause(value, budget, depth)?,
            "must_not" => filter.must_not = clause(value, budget, depth)?,
            "min_should" if value.is_null() => {}
            "min_should" => {
                let map = value
                    .as_object()
                    .ok_or_else(|| wrong("min_should is no object"))?;
                let count = map.get("min_count").and_then(Value::as_u64);
                let count = count.ok_or_else(|| wrong("min_count is missing"))?;
                let conditions = map.get("conditions").unwrap_or(&Value::Null);
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                filter.min_should = Some((count, clause(conditions, budget, depth)?));
            }
            other => return Err(wrong(format!("unknown clause {:?}", short(other)))),
        }
    }
    Ok(filter)
}

fn clause(value: &Value, budget: &mut Budget, depth: usize) -> Result<Vec<Condition>, FilterError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            if items.len() > budget.conditions {
                return Err(FilterError::TooMany);
            }
            items
                .iter()
                .map(|item| condition(item, budget, depth))
                .collect()
        }
        one => Ok(vec![condition(one, budget, depth)?]),
    }
}

fn condition(value: &Value, budget: &mut Budget, depth: usize) -> Result<Condition, FilterError> {
    budget.conditions = budget
        .conditions
        .checked_sub(1)
        .ok_or(FilterError::TooMany)?;
    let map = value
        .as_object()
        .ok_or_else(|| wrong("a condition is no object"))?;
    if map.contains_key("key") {
        return field(map, budget);
    }
    let key_of = |value: &Value| path(value.get("key").unwrap_or(&Value::Null));
    match single(map) {
        Some(("is_empty", value)) => Ok(Condition::IsEmpty(key_of(value)?)),
        Some(("is_null", value)) => Ok(Condition::IsNull(key_of(value)?)),
        Some(("has_id", Value::Array(ids))) => {
            budget.values(ids.len())?;
            let ids = ids
                .iter()
                .map(|id| PointId::from_json(id).map_err(|e| wrong(e.to_string())));
            Ok(Condition::HasId(ids.collect::<Result<_, _>>()?))
        }
        Some(("has_vector", Value::String(name))) => Ok(Condition::HasVector(name.clone())),
        Some(("nested", nested)) => {
            let inner = nested.get("filter").and_then(Value::as_object);
            let inner = inner.ok_or_else(|| wrong("nested has no filter"))?;
            let inner = read(inner, budget, depth + 1)?;
            Ok(Condition::Nested(key_of(nested)?, Box::new(inner)))
        }
        Some(("filter", Value::Object(inner))) => {
            Ok(Condition::Filter(Box::new(read(inner, budget, depth + 1)?)))
        }
        _ if map
            .keys()
            .any(|key| key.contains("must") || key.contains("should")) =>
        {
            Ok(Condition::Filter(Box::new(read(map, budget, depth + 1)?)))
        }
        // a filter without a clause, as clients write one
        None if map.is_empty() => Ok(Condition::Filter(Box::default())),
        Some((other, _)) => Err(wrong(format!("unknown condition {:?}", short(other)))),
        None => Err(wrong("a condition without a key")),
    }
}

/// The only entry that is not null.
fn single(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut set = map.iter().filter(|(_, value)| !value.is_null());
    let (key, value) = set.next()?;
    set.next().is_none().then_some((key.as_str(), value))
}

fn path(value: &Value) -> Result<PayloadPath, FilterError> {
    let text = value.as_str().ok_or_else(|| wrong("a key is no text"))?;
    text.parse()
        .map_err(|e: crate::payload::PathError| wrong(e.to_string()))
}

fn field(map: &Map<String, Value>, budget: &mut Budget) -> Result<Condition, FilterError> {
    let key = path(&map["key"])?;
    let mut found = None;
    for (name, value) in map
        .iter()
        .filter(|(name, value)| *name != "key" && !value.is_null())
    {
        let condition = match name.as_str() {
            "match" => Condition::Field(key.clone(), matching(value, budget)?),
            "range" => Condition::Field(key.clone(), range(value)?),
            "geo_bounding_box" | "geo_radius" | "geo_polygon" => {
                Condition::Field(key.clone(), Test::Geo(area(name, value, budget)?))
            }
            "values_count" => {
                let count = bounds(value, &mut |bound| bound.as_u64())?;
                Condition::Field(key.clone(), Test::Count(count))
            }
            "is_empty" | "is_null" => {
                let test = match name.as_str() {
                    "is_empty" => Condition::IsEmpty(key.clone()),
                    _ => Condition::IsNull(key.clone()),
                };
                match value.as_bool() {
                    Some(true) => test,
                    Some(false) => Condition::Filter(Box::new(Filter {
                        must_not: vec![test],
                        ..Filter::default()
                    })),
                    None => return Err(wrong(format!("{name} is neither true nor false"))),
                }
            }
            other => return Err(wrong(format!("unknown test {:?}", short(other)))),
        };
        if found.replace(condition).is_some() {
            return Err(wrong(format!(
                "more than one test of {:?}",
                short(key.as_str())
            )));
        }
    }
    found.ok_or_else(|| wrong(format!("no test of {:?}", short(key.as_str()))))
}

fn matching(value: &Value, budget: &mut Budget) -> Result<Test, FilterError> {
    let map = value
        .as_object()
        .ok_or_else(|| wrong("match is no object"))?;
    let text = |value: &Value| match value.as_str() {
        Some(text) if text.len() <= FILTER_TEXT_BYTES_MAX => Ok(text.to_owned()),
        Some(_) => Err(wrong(format!(
            "text of more than {FILTER_TEXT_BYTES_MAX} bytes"
        ))),
        None => Err(wrong("text to match is no text")),
    };
    let mut set = |value: &Value| {
        let items = value
            .as_array()
            .ok_or_else(|| wrong("match wants a list"))?;
        budget.values(items.len())?;
        items.iter().map(scalar).collect::<Result<BTreeSet<_>, _>>()
    };
    match single(map) {
        Some(("value" | "keyword" | "integer", value)) => Ok(Test::Value(scalar(value)?)),
        Some(("any", value)) => Ok(Test::Any(set(value)?)),
        Some(("except", value)) => Ok(Test::Except(set(value)?)),
        Some(("text", value)) => Ok(Test::Text(TextQuery::new(text(value)?))),
        Some(("text_any", value)) => Ok(Test::Text(TextQuery {
            any: true,
            ..TextQuery::new(text(value)?)
        })),
        Some((other, _)) => Err(wrong(format!("unknown match {:?}", short(other)))),
        None => Err(wrong(
            "match wants one of value, any, except, text, text_any",
        )),
    }
}

fn scalar(value: &Value) -> Result<Scalar, FilterError> {
    match value {
        Value::Bool(value) => Ok(Scalar::Bool(*value)),
        Value::String(text) => Ok(Scalar::Text(text.clone())),
        Value::Number(number) => {
            let integer = number
                .as_i64()
                .ok_or_else(|| wrong("floats match by range"))?;
            Ok(Scalar::Integer(integer))
        }
        _ => Err(wrong("only text, integers, true and false match")),
    }
}

fn range(value: &Value) -> Result<Test, FilterError> {
    let texts = value
        .as_object()
        .is_some_and(|map| map.values().any(Value::is_string));
    if texts {
        let time = &mut |bound: &Value| bound.as_str().and_then(parse_datetime);
        Ok(Test::Datetime(bounds(value, time)?))
    } else {
        Ok(Test::Range(bounds(value, &mut |bound| bound.as_f64())?))
    }
}

fn bounds<T: Copy>(
    value: &Value,
    read: &mut dyn FnMut(&Value) -> Option<T>,
) -> Result<Range<T>, FilterError> {
    let map = value
        .as_object()
        .ok_or_else(|| wrong("a range is no object"))?;
    let mut range = Range::default();
    for (name, bound) in map.iter().filter(|(_, bound)| !bound.is_null()) {
        let bound = read(bound).ok_or_else(|| wrong(format!("{:?} is no bound", short(name))))?;
        match name.as_str() {
            "gt" => range.gt = Some(bound),
            "gte" => range.gte = Some(bound),
            "lt" => range.lt = Some(bound),
            "lte" => range.lte = Some(bound),
            other => return Err(wrong(format!("unknown bound {:?}", short(other)))),
        }
    }
    Ok(range)
}

fn area(name: &str, value: &Value, budget: &mut Budget) -> Result<GeoArea, FilterError> {
    let place = |value: Option<&Value>| {
        let degrees = |name| value?.get(name)?.as_f64();
        let found = degrees("lon").zip(degrees("lat"));
        let found = found.and_then(|(lon, lat)| GeoPoint::new(lon, lat));
        found.ok_or_else(|| wrong("a place wants lon in -180..=180 and lat in -90..=90"))
    };
    let mut ring = |value: &Value| {
        let points = value.get("points").and_then(Value::as_array);
        let points = points.ok_or_else(|| wrong("a ring has no points"))?;
        budget.values(points.len())?;
        points
            .iter()
            .map(|point| place(Some(point)))
            .collect::<Result<Vec<_>, _>>()
    };
    let area = match name {
        "geo_bounding_box" => GeoArea::Box {
            top_left: place(value.get("top_left"))?,
            bottom_right: place(value.get("bottom_right"))?,
        },
        "geo_radius" => GeoArea::Radius {
            center: place(value.get("center"))?,
            metres: value
                .get("radius")
                .and_then(Value::as_f64)
                .unwrap_or(f64::NAN),
        },
        _ => {
            let holes = value.get("interiors").and_then(Value::as_array);
            GeoArea::Polygon {
                exterior: ring(value.get("exterior").unwrap_or(&Value::Null))?,
                interiors: holes
                    .into_iter()
                    .flatten()
                    .map(ring)
                    .collect::<Result<_, _>>()?,
            }
        }
    };
    area.is_sound()
        .then_some(area)
        .ok_or_else(|| wrong(format!("{name} is no area")))
}

/// What an error shows of text from outside.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Filter {
    /// The filter as JSON, in the form that [`Filter::from_json`] reads; the log keeps it so.
    pub fn to_json(&self) -> Value {
        let clause = |list: &[Condition]| list.iter().map(Condition::to_json).collect::<Value>();
        let mut map = Map::new();
        for (name, list) in [
            ("must", &self.must),
            ("should", &self.should),
            ("must_not", &self.must_not),
        ] {
            if !list.is_empty() {
                map.insert(name.to_owned(), clause(list));
            }
        }
        if let Some((count, list)) = &self.min_should {
            let some = json!({"min_count": count, "conditions": clause(list)});
            map.insert("min_should".to_owned(), some);
        }
        Value::Object(map)
    }
}

impl Condition {
    fn to_json(&self) -> Value {
        match self {
            Self::Field(path, test) => {
                let (name, value) = test.to_json();
                json!({"key": path.as_str(), name: value})
            }
            Self::IsEmpty(path) => json!({"is_empty": {"key": path.as_str()}}),
            Self::IsNull(path) => json!({"is_null": {"key": path.as_str()}}),
            Self::HasId(ids) => {
                json!({"has_id": ids.iter().map(|id| id.to_json()).collect::<Value>()})
            }
            Self::HasVector(name) => json!({ "has_vector": name }),
            Self::Nested(path, filter) => {
                json!({"nested": {"key": path.as_str(), "filter": filter.to_json()}})
            }
            Self::Filter(filter) => json!({"filter": filter.to_json()}),
        }
    }
}

impl Test {
    fn to_json(&self) -> (&'static str, Value) {
        let set = |set: &BTreeSet<Scalar>| set.iter().map(Scalar::to_json).collect::<Value>();
        match self {
            Self::Value(scalar) => ("match", json!({"value": scalar.to_json()})),
            Self::Any(scalars) => ("match", json!({"any": set(scalars)})),
            Self::Except(scalars) => ("match", json!({"except": set(scalars)})),
            Self::Text(query) => {
                let name = if query.any { "text_any" } else { "text" };
                ("match", json!({ name: query.text }))
            }
            Self::Range(range) => ("range", range.to_json(&mut |bound| bound.into())),
            Self::Datetime(range) => (
                "range",
                range.to_json(&mut |bound| format_datetime(bound).into()),
            ),
            Self::Count(range) => ("values_count", range.to_json(&mut |bound| bound.into())),
            Self::Geo(area) => area.to_json(),
        }
    }
}

impl<T: Copy> Range<T> {
    fn to_json(self, show: &mut dyn FnMut(T) -> Value) -> Value {
        let bounds = [
            ("gt", self.gt),
            ("gte", self.gte),
            ("lt", self.lt),
            ("lte", self.lte),
        ];
        let set = bounds
            .into_iter()
            .filter_map(|(name, bound)| Some((name.to_owned(), show(bound?))));
        Value::Object(set.collect())
    }
}

impl GeoArea {
    fn to_json(&self) -> (&'static str, Value) {
        let place = |point: &GeoPoint| json!({"lon": point.lon, "lat": point.lat});
        let ring =
            |ring: &Vec<GeoPoint>| json!({"points": ring.iter().map(place).collect::<Value>()});
        match self {
            Self::Box {
                top_left,
                bottom_right,
            } => (
                "geo_bounding_box",
                json!({"top_left": place(top_left), "bottom_right": place(bottom_right)}),
            ),
            Self::Radius { center, metres } => (
                "geo_radius",
                json!({"center": place(center), "radius": metres}),
            ),
            Self::Polygon {
                exterior,
                interiors,
            } => (
                "geo_polygon",
                json!({
                    "exterior": ring(exterior),
                    "interiors": interiors.iter().map(ring).collect::<Value>(),
                }),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_reads_back_as_it_is_shown() {
        let shown = json!({
            "must": [
                {"key": "a.b", "match": {"value": "x"}},
                {"key": "n", "range": {"gte": 1.5, "lt": 3.0}},
                {"key": "t", "range": {"gt": "2024-01-01T00:00:00Z"}},
                {"filter": {"should": [{"has_id": [1, "550e8400-e29b-41d4-a716-446655440000"]}]}},
                {"nested": {"key": "o", "filter": {"must": [{"is_null": {"key": "x"}}]}}},
            ],
            "must_not": [
                {"is_empty": {"key": "e"}},
                {"key": "k", "match": {"any": [1, 2]}},
                {"key": "k", "match": {"text": "some words"}},
                {"key": "g", "geo_radius": {"center": {"lon": 1.0, "lat": 2.0}, "radius": 3.0}},
                {"key": "l", "values_count": {"lte": 4}},
            ],
            "min_should": {"min_count": 1, "conditions": [{"has_vector": "v"}]},
        });
        let filter = Filter::from_json(&shown).unwrap();
        assert_eq!(filter.to_json(), shown);
    }

    #[test]
    fn one_more_than_a_bound_is_refused() {
        let many = |count: usize| json!({"must": vec![json!({"has_id": []}); count]});
        assert!(Filter::from_json(&many(FILTER_CONDITIONS_MAX)).is_ok());
        let past = Filter::from_json(&many(FILTER_CONDITIONS_MAX + 1));
        assert_eq!(past, Err(FilterError::TooMany));

        let deep = |depth: usize| {
            let mut filter = json!({});
            for _ in 1..depth {
                filter = json!({"must": [{ "filter": filter }]});
            }
            filter
        };
        assert!(Filter::from_json(&deep(FILTER_DEPTH_MAX)).is_ok());
        assert_eq!(
            Filter::from_json(&deep(FILTER_DEPTH_MAX + 1)),
            Err(FilterError::TooDeep)
        );

        let values = |count: usize| json!({"must": {"has_id": vec![1; count]}});
        assert!(Filter::from_json(&values(FILTER_VALUES_MAX)).is_ok());
        let past = Filter::from_json(&values(FILTER_VALUES_MAX + 1));
        assert_eq!(past, Err(FilterError::TooManyValues));

        let text = |len: usize| json!({"must": {"key": "k", "match": {"text": "x".repeat(len)}}});
        assert!(Filter::from_json(&text(FILTER_TEXT_BYTES_MAX)).is_ok());
        assert!(Filter::from_json(&text(FILTER_TEXT_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_filter_without_a_clause_is_a_condition_that_holds() {
        let filter = Filter::from_json(&json!({"must": [{}]})).unwrap();
        assert_eq!(filter, Filter::of(Condition::Filter(Box::default())));
        assert_eq!(Filter::from_json(&filter.to_json()), Ok(filter));
    }

    #[test]
    fn what_is_not_of_the_grammar_is_refused_and_said() {
        for (filter, said) in [
            (json!([]), "not an object"),
            (json!({"mustnt": []}), "unknown clause"),
            (json!({"must": [1]}), "a condition is no object"),
            (json!({"must": [{"key": "k"}]}), "no test of"),
            (json!({"must": [{"key": "k", "like": 1}]}), "unknown test"),
            (
                json!({"must": [{"key": "k", "match": {"value": 1.5}}]}),
                "floats match by range",
            ),
            (
                json!({"must": [{"key": "k", "match": {"value": {}}}]}),
                "only text",
            ),
            (
                json!({"must": [{"key": "k", "range": {"gte": "yesterday"}}]}),
                "is no bound",
            ),
            (
                json!({"must": [{"key": "k", "range": {"above": 1}}]}),
                "unknown bound",
            ),
            (json!({"must": [{"has_id": [-1]}]}), "no point id"),
            (
                json!({"must": [{"key": "a..b", "match": {"value": 1}}]}),
                "no payload path",
            ),
            (
                json!({"must": [{"key": "g", "geo_radius": {"center": {"lon": 200, "lat": 0}, "radius": 1}}]}),
                "a place wants",
            ),
        ] {
            let error = Filter::from_json(&filter).unwrap_err().to_string();
            assert!(error.contains(said), "{filter}: {error}");
        }
    }
}
