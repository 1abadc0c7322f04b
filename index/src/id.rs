//! Ids of points: an unsigned number or a UUID. Both kinds live side by side in one collection.
//!
//! Their order is that of scrolling: numbers before UUIDs, each kind by value.

use std::{fmt, str::FromStr};

/// Names a point within its collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointId {
    /// An unsigned number.
    Number(u64),
    /// The 16 bytes of a UUID, in the order in which they are written.
    Uuid([u8; 16]),
}

/// Text that is neither a number nor a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no point id; an unsigned number or a UUID is one")]
pub struct PointIdError {
    /// What was given, cut short.
    text: String,
}

impl PointId {
    /// The id as JSON shows it: a number, or text.
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Self::Number(number) => number.into(),
            Self::Uuid(_) => self.to_string().into(),
        }
    }

    /// The id that a JSON value stands for. Text is always a UUID, as Qdrant has it.
    ///
    /// # Errors
    /// [`PointIdError`] for anything but an unsigned number or the text of a UUID.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, PointIdError> {
        let found = match value {
            serde_json::Value::Number(number) => number.as_u64().map(Self::Number),
            serde_json::Value::String(text) => parse_uuid(text).map(Self::Uuid),
            _ => None,
        };
        found.ok_or_else(|| PointIdError::new(&value.to_string()))
    }
}

impl PointIdError {
    fn new(text: &str) -> Self {
        Self {
            text: text.chars().take(64).collect(),
        }
    }
}

impl From<u64> for PointId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for PointId {
    type Err = PointIdError;

    fn from_str(text: &str) -> Result<Self, PointIdError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let found = match digits.then(|| text.parse()) {
            Some(Ok(number)) => Some(Self::Number(number)),
            _ => parse_uuid(text).map(Self::Uuid),
        };
        found.ok_or_else(|| PointIdError::new(text))
    }
}

/// Reads 32 hex digits, with the four usual hyphens or none, braced or as a URN.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text).as_bytes();
    let text = match text {
        [b'{', inner @ .., b'}'] => inner,
        other => other,
    };
    let hyphens = match text.len() {
        32 => false,
        36 => true,
        _ => return None,
    };
    let mut bytes = [0; 16];
    let mut at = 0;
    for (index, byte) in bytes.iter_mut().enumerate() {
        if hyphens && matches!(index, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let digit = |at: usize| (text[at] as char).to_digit(16);
        let value = digit(at)? * 16 + digit(at + 1)?;
        *byte = u8::try_from(value).ok()?;
        at += 2;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_uuid_is_the_same_point() {
        let spelled = "550e8400-e29b-41d4-a716-446655440000";
        let id: PointId = spelled.parse().unwrap();
        for other in [
            "550e8400e29b41d4a716446655440000",
            "550E8400-E29B-41D4-A716-446655440000",
            "{550e8400-e29b-41d4-a716-446655440000}",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
        ] {
            assert_eq!(other.parse(), Ok(id));
        }
        assert_eq!(id.to_string(), spelled);
        assert_eq!(PointId::from_json(&id.to_json()), Ok(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "-1",
            "1.5",
            "abc",
            "550e8400-e29b-41d4-a716-44665544000",
            "550e8400xe29b-41d4-a716-446655440000",
            "18446744073709551616",
        ] {
            assert!(text.parse::<PointId>().is_err(), "{text}");
        }
        for value in [
            serde_json::json!(-1),
            serde_json::json!(1.5),
            serde_json::json!("7"),
            serde_json::json!(null),
        ] {
            assert!(PointId::from_json(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn numbers_come_before_uuids() {
        let uuid = PointId::Uuid([0; 16]);
        assert!(PointId::Number(u64::MAX) < uuid);
        assert!(PointId::Number(2) < PointId::Number(10));
        assert!(uuid < PointId::Uuid([1; 16]));
    }
}
