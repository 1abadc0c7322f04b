//! Payloads: the JSON object that a point carries, kept as bytes that can be looked into without unpacking.
//!
//! [`Payload`] owns the bytes of one object, in the form that docs/format/payload.md draws; [`ValueRef`] is
//! any value inside. Every `Payload` was checked when it was made, so that looking into it cannot fail; what
//! was not checked is only ever a slice.

use std::fmt;

use serde_json::Value;

use crate::limits::PAYLOAD_BYTES_MAX;

mod codec;
mod path;

pub use codec::{Items, Kind, ValueRef};
pub use path::{PathError, PayloadPath, Step};

/// The JSON object of a point.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Box<[u8]>);

/// Why something is no payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// JSON, but no object.
    #[error("a payload is a JSON object")]
    NoObject,
    /// More than a payload may have.
    #[error("a payload of {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are allowed")]
    TooLong {
        /// Its bytes, as it would be kept.
        bytes: usize,
    },
    /// Too many objects and arrays inside one another.
    #[error(
        "a payload is nested more than {} deep",
        crate::limits::PAYLOAD_DEPTH_MAX
    )]
    TooDeep,
    /// Bytes that no payload has.
    #[error("damaged payload: {0}")]
    Corrupt(&'static str),
}

impl Payload {
    /// The payload of a JSON object.
    ///
    /// # Errors
    /// [`PayloadError`] if it is something else, or past a bound.
    pub fn from_json(value: &Value) -> Result<Self, PayloadError> {
        if !value.is_object() {
            return Err(PayloadError::NoObject);
        }
        let mut bytes = Vec::new();
        codec::encode(value, &mut bytes, 0)?;
        Ok(Self(bytes.into()))
    }

    /// Takes bytes from outside, once they are checked.
    ///
    /// # Errors
    /// [`PayloadError`] unless they are exactly one object within bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PayloadError> {
        codec::check_object(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The payload without a key.
    pub fn empty() -> Self {
        Self(codec::EMPTY_OBJECT.into())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        *self.0 == codec::EMPTY_OBJECT
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The object itself, to look into.
    pub fn root(&self) -> ValueRef<'_> {
        ValueRef::new(&self.0)
    }

    /// The object as JSON.
    pub fn to_json(&self) -> Value {
        self.root().to_json()
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::limits::PAYLOAD_DEPTH_MAX;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_payload_reads_back_as_it_was_given(value in any_json()) {
            let object = json!({"k": value});
            let payload = Payload::from_json(&object).unwrap();
            prop_assert_eq!(&payload.to_json(), &object);
            prop_assert_eq!(&Payload::from_bytes(payload.as_bytes()).unwrap(), &payload);
        }

        #[test]
        fn a_changed_byte_is_refused_or_is_another_payload(value in any_json(), at: prop::sample::Index, to: u8) {
            let payload = Payload::from_json(&json!({"k": value})).unwrap();
            let mut bytes = payload.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(read) = Payload::from_bytes(&bytes) {
                // what is accepted has one spelling: its own
                let again = Payload::from_json(&read.to_json()).unwrap();
                prop_assert_eq!(again.as_bytes(), &bytes[..]);
            }
            bytes.truncate(at);
            prop_assert!(Payload::from_bytes(&bytes).is_err());
        }
    }

    #[test]
    fn nesting_past_the_bound_is_refused() {
        let nested = |depth: usize| {
            let mut value = json!(1);
            for _ in 1..depth {
                value = json!([value]);
            }
            json!({ "k": value })
        };
        assert!(Payload::from_json(&nested(PAYLOAD_DEPTH_MAX)).is_ok());
        let deep = nested(PAYLOAD_DEPTH_MAX + 1);
        assert_eq!(Payload::from_json(&deep), Err(PayloadError::TooDeep));
    }

    #[test]
    fn length_past_the_bound_is_refused() {
        // object head 1 + 4, key 1 + 1, string head 1 + 4
        let overhead = 12;
        let fits = json!({"k": "x".repeat(PAYLOAD_BYTES_MAX - overhead)});
        let payload = Payload::from_json(&fits).unwrap();
        assert_eq!(payload.as_bytes().len(), PAYLOAD_BYTES_MAX);
        let long = json!({"k": "x".repeat(PAYLOAD_BYTES_MAX - overhead + 1)});
        assert!(matches!(
            Payload::from_json(&long),
            Err(PayloadError::TooLong { .. })
        ));
        assert_eq!(Payload::from_json(&json!([])), Err(PayloadError::NoObject));
    }
}
