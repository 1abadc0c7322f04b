//! Paths into payloads, in Qdrant's spelling: `a.b`, `a[0].b`, `a[].b`, `"a.b".c`.
//!
//! `[]` stands for every item of an array. A name never reaches through an array on its own.

use std::{fmt, str::FromStr};

use serde_json::Value;

use super::{Kind, ValueRef};
use crate::limits::{PATH_BYTES_MAX, PATH_STEPS_MAX};

/// Where in a payload values are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PayloadPath {
    text: String,
    steps: Vec<Step>,
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of an array.
    Index(usize),
    /// To every item of an array.
    All,
}

/// Text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no payload path: {what}")]
pub struct PathError {
    text: String,
    what: &'static str,
}

impl PayloadPath {
    /// Its steps; at least one, the first a key.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The path as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Calls `found` for each value at the path; arrays at its end count as one value.
    pub fn each<'a>(&self, root: ValueRef<'a>, found: &mut dyn FnMut(ValueRef<'a>)) {
        walk(&self.steps, root, found);
    }

    /// As [`Self::each`], but an array at the end counts as its items: what conditions look at.
    pub fn each_flat<'a>(&self, root: ValueRef<'a>, found: &mut dyn FnMut(ValueRef<'a>)) {
        let ends_in_all = self.steps.last() == Some(&Step::All);
        walk(&self.steps, root, &mut |value| match value.kind() {
            Kind::Array(items) if !ends_in_all => items.for_each(|(_, item)| found(item)),
            _ => found(value),
        });
    }

    /// Removes what is at the path from JSON.
    pub fn remove(&self, root: &mut Value) {
        let (last, above) = self.steps.split_last().expect("a path has a step");
        walk_mut(above, root, &mut |value| match (last, value) {
            (Step::Key(key), Value::Object(map)) => {
                map.remove(key);
            }
            (Step::Index(index), Value::Array(items)) if *index < items.len() => {
                items.remove(*index);
            }
            (Step::All, Value::Array(items)) => items.clear(),
            _ => {}
        });
    }

    /// Sets the keys of `with` in what is at the path; names on the way that are missing are made.
    pub fn merge(&self, root: &mut Value, with: &serde_json::Map<String, Value>) {
        merge(&self.steps, root, with);
    }
}

fn walk<'a>(steps: &[Step], value: ValueRef<'a>, found: &mut dyn FnMut(ValueRef<'a>)) {
    let Some((step, below)) = steps.split_first() else {
        return found(value);
    };
    match (step, value.kind()) {
        (Step::Key(key), Kind::Object(_)) => {
            if let Some(value) = value.field(key) {
                walk(below, value, found);
            }
        }
        (Step::Index(index), Kind::Array(mut items)) => {
            if let Some((_, value)) = items.nth(*index) {
                walk(below, value, found);
            }
        }
        (Step::All, Kind::Array(items)) => items.for_each(|(_, item)| walk(below, item, found)),
        _ => {}
    }
}

fn walk_mut(steps: &[Step], value: &mut Value, found: &mut dyn FnMut(&mut Value)) {
    let Some((step, below)) = steps.split_first() else {
        return found(value);
    };
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => {
            if let Some(value) = map.get_mut(key) {
                walk_mut(below, value, found);
            }
        }
        (Step::Index(index), Value::Array(items)) => {
            if let Some(value) = items.get_mut(*index) {
                walk_mut(below, value, found);
            }
        }
        (Step::All, Value::Array(items)) => {
            items
                .iter_mut()
                .for_each(|item| walk_mut(below, item, found));
        }
        _ => {}
    }
}

fn merge(steps: &[Step], value: &mut Value, with: &serde_json::Map<String, Value>) {
    let Some((step, below)) = steps.split_first() else {
        if !value.is_object() {
            *value = Value::Object(serde_json::Map::new());
        }
        if let Value::Object(map) = value {
            map.extend(with.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        return;
    };
    match step {
        Step::Key(key) => {
            if !value.is_object() {
                *value = Value::Object(serde_json::Map::new());
            }
            if let Value::Object(map) = value {
                merge(below, map.entry(key).or_insert(Value::Null), with);
            }
        }
        Step::Index(index) => {
            if let Some(item) = value.get_mut(index) {
                merge(below, item, with);
            }
        }
        Step::All => {
            if let Value::Array(items) = value {
                items.iter_mut().for_each(|item| merge(below, item, with));
            }
        }
    }
}

impl fmt::Display for PayloadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for PayloadPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let wrong = |what| PathError {
            text: text.chars().take(64).collect(),
            what,
        };
        if text.len() > PATH_BYTES_MAX {
            return Err(wrong("too long"));
        }
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let key;
            if let Some(quoted) = rest.strip_prefix('"') {
                let end = quoted
                    .find('"')
                    .ok_or_else(|| wrong("a quote is not closed"))?;
                key = &quoted[..end];
                rest = &quoted[end + 1..];
            } else {
                let end = rest.find(['.', '[', '"']).unwrap_or(rest.len());
                key = &rest[..end];
                rest = &rest[end..];
                if key.is_empty() {
                    return Err(wrong("a name is empty"));
                }
            }
            steps.push(Step::Key(key.to_owned()));
            while let Some(bracket) = rest.strip_prefix('[') {
                let end = bracket
                    .find(']')
                    .ok_or_else(|| wrong("a bracket is not closed"))?;
                steps.push(match &bracket[..end] {
                    "" => Step::All,
                    index => {
                        Step::Index(index.parse().map_err(|_| wrong("an index is no number"))?)
                    }
                });
                rest = &bracket[end + 1..];
            }
            if steps.len() > PATH_STEPS_MAX {
                return Err(wrong("too many steps"));
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => break,
                None => return Err(wrong("a dot is missing")),
            }
        }
        Ok(Self {
            text: text.to_owned(),
            steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::payload::Payload;

    fn at(path: &str, value: &Value) -> Vec<Value> {
        let payload = Payload::from_json(value).unwrap();
        let mut found = Vec::new();
        let path: PayloadPath = path.parse().unwrap();
        path.each_flat(payload.root(), &mut |value| found.push(value.to_json()));
        found
    }

    #[test]
    fn paths_reach_what_qdrant_reaches() {
        let value =
            json!({"a": {"b": [1, 2], "c.d": 3}, "l": [{"x": 1}, {"x": [2, 3]}], "n": null});
        assert_eq!(at("a.b", &value), [json!(1), json!(2)]);
        assert_eq!(at("a.b[1]", &value), [json!(2)]);
        assert_eq!(at("a.\"c.d\"", &value), [json!(3)]);
        assert_eq!(at("l[].x", &value), [json!(1), json!(2), json!(3)]);
        assert_eq!(at("l.x", &value), [] as [Value; 0], "not through arrays");
        assert_eq!(at("n", &value), [Value::Null]);
        assert_eq!(at("n.m", &value), [] as [Value; 0]);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[1]b", "\"a", "[0]",
        ] {
            assert!(text.parse::<PayloadPath>().is_err(), "{text}");
        }
        let long = "a".repeat(PATH_BYTES_MAX);
        assert!(long.parse::<PayloadPath>().is_ok());
        assert!(format!("{long}a").parse::<PayloadPath>().is_err());
        let deep = vec!["a"; PATH_STEPS_MAX].join(".");
        assert!(deep.parse::<PayloadPath>().is_ok());
        assert!(format!("{deep}.a").parse::<PayloadPath>().is_err());
    }

    #[test]
    fn values_are_set_and_removed_at_paths() {
        let mut value = json!({"a": {"b": 1}, "l": [{"x": 1}, {"x": 2}]});
        let with = json!({"c": 2});
        let with = with.as_object().unwrap();
        "a".parse::<PayloadPath>().unwrap().merge(&mut value, with);
        "l[].y"
            .parse::<PayloadPath>()
            .unwrap()
            .merge(&mut value, with);
        "a.b".parse::<PayloadPath>().unwrap().remove(&mut value);
        "l[0].x".parse::<PayloadPath>().unwrap().remove(&mut value);
        let expected = json!({"a": {"c": 2}, "l": [{"y": {"c": 2}}, {"x": 2, "y": {"c": 2}}]});
        assert_eq!(value, expected);
    }
}
