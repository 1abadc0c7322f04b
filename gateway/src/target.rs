//! A request's path and query: split first, decoded after.
//!
//! A client that sends `acme%2Fdocs` means one segment, so a `%2F` never separates. Nothing here
//! touches the file system: decoded segments are only ever compared with names in the store.

use crate::limits::{QUERY_PAIRS_MAX, SEGMENTS_MAX, TARGET_BYTES_MAX};

/// Why a path or query cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Longer than [`TARGET_BYTES_MAX`].
    #[error("the path and query are {length} bytes long, more than {TARGET_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// More segments or pairs than the limits allow.
    #[error(
        "the path has more than {SEGMENTS_MAX} segments, or the query more than {QUERY_PAIRS_MAX} pairs"
    )]
    TooMany,
    /// A `%` without two hex digits, or bytes that are not UTF-8 or are control characters.
    #[error("{part:?} is not valid percent-encoded UTF-8")]
    Encoding {
        /// The segment or pair, as sent.
        part: String,
    },
    /// A path that does not start with `/`.
    #[error("the path does not start with a slash")]
    Relative,
}

/// A path's segments and a query's pairs, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Target {
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl Target {
    /// Splits, then decodes.
    ///
    /// # Errors
    /// What is too long, has too many parts, or does not decode.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        let length = path.len() + query.map_or(0, str::len);
        if length > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong { length });
        }
        let path = path.strip_prefix('/').ok_or(TargetError::Relative)?;
        let mut segments = Vec::new();
        for segment in path.split('/') {
            if segments.len() == SEGMENTS_MAX {
                return Err(TargetError::TooMany);
            }
            segments.push(decode(segment, Plus::Kept)?);
        }
        Ok(Self {
            segments,
            query: Self::parse_form(query.unwrap_or_default(), QUERY_PAIRS_MAX)?,
        })
    }

    /// The decoded segments: one, empty, for `/`.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The value of the first pair with this key.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// The values of all pairs with this key.
    pub fn queries<'t>(&'t self, key: &'t str) -> impl Iterator<Item = &'t str> {
        let pairs = self.query.iter().filter(move |(k, _)| k == key);
        pairs.map(|(_, value)| value.as_str())
    }

    /// The keys of all pairs.
    pub(crate) fn query_keys(&self) -> impl Iterator<Item = &str> {
        self.query.iter().map(|(key, _)| key.as_str())
    }

    /// The pairs as they stand in an address, after a `?` if there are any.
    pub fn query_text(&self) -> String {
        pairs_text(self.query.iter().map(|(key, value)| (&key[..], &value[..])))
    }

    /// The same with one pair more, in place of those with its key.
    pub fn query_with(&self, key: &str, value: &str) -> String {
        let others = self.query.iter().filter(|(k, _)| k != key);
        let others = others.map(|(key, value)| (&key[..], &value[..]));
        pairs_text(others.chain([(key, value)]))
    }

    /// The pairs of a form (`application/x-www-form-urlencoded`), at most `pairs_max`.
    ///
    /// # Errors
    /// There are more, or one does not decode.
    pub fn parse_form(text: &str, pairs_max: usize) -> Result<Vec<(String, String)>, TargetError> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == pairs_max {
                return Err(TargetError::TooMany);
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(key, Plus::Space)?, decode(value, Plus::Space)?));
        }
        Ok(pairs)
    }
}

fn pairs_text<'p>(pairs: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&encode_segment(key));
        text.push('=');
        text.push_str(&encode_segment(value));
    }
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Kept,
    Space,
}

fn decode(part: &str, plus: Plus) -> Result<String, TargetError> {
    let error = || TargetError::Encoding {
        part: part.chars().take(80).collect(),
    };
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = rest.next().and_then(hex_digit).ok_or_else(error)?;
                let low = rest.next().and_then(hex_digit).ok_or_else(error)?;
                high << 4 | low
            }
            b'+' if plus == Plus::Space => b' ',
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| error())?;
    if text.chars().any(char::is_control) {
        return Err(error());
    }
    Ok(text)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Encodes a segment so that [`Target::parse`] gives it back: for links in answers.
pub fn encode_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                encoded.push('%');
                encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
                encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn segments(path: &str) -> Vec<String> {
        Target::parse(path, None).unwrap().segments
    }

    #[test]
    fn an_encoded_slash_does_not_separate() {
        assert_eq!(segments("/lode/acme%2Fdocs/x"), ["lode", "acme/docs", "x"]);
        assert_eq!(segments("/"), [""]);
        assert_eq!(segments("//a/"), ["", "a", ""]);
        assert_eq!(segments("/a+b%20c"), ["a+b c"]);
        assert_eq!(segments("/%E6%A8%A1%E5%9E%8B"), ["模型"]);
    }

    #[test]
    fn what_does_not_decode_is_refused() {
        for path in ["/%", "/%4", "/%zz", "/%ff", "/%00", "/a%0Ab", "/%c3%28"] {
            let error = Target::parse(path, None).unwrap_err();
            assert!(
                matches!(error, TargetError::Encoding { .. }),
                "{path}: {error}"
            );
        }
        assert_eq!(Target::parse("a", None), Err(TargetError::Relative));
    }

    #[test]
    fn a_query_is_decoded_by_pairs() {
        let target = Target::parse("/", Some("rows=1..2&name=a%26b+c&&flag&name=z")).unwrap();
        assert_eq!(target.query("rows"), Some("1..2"));
        assert_eq!(target.query("name"), Some("a&b c"));
        assert_eq!(target.query("flag"), Some(""));
        assert_eq!(target.query("none"), None);
        assert_eq!(target.queries("name").collect::<Vec<_>>(), ["a&b c", "z"]);
        let text = target.query_text();
        assert_eq!(text, "?rows=1..2&name=a%26b%20c&flag=&name=z");
        assert_eq!(Target::parse("/", text.strip_prefix('?')).unwrap(), target);
        assert_eq!(target.query_with("name", "b"), "?rows=1..2&flag=&name=b");
    }

    #[test]
    fn long_and_split_up_targets_are_refused_past_the_limits() {
        let path = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert!(Target::parse(&path(TARGET_BYTES_MAX), None).is_ok());
        assert!(Target::parse(&path(TARGET_BYTES_MAX + 1), None).is_err());
        assert!(Target::parse(&"/a".repeat(SEGMENTS_MAX), None).is_ok());
        assert_eq!(
            Target::parse(&"/a".repeat(SEGMENTS_MAX + 1), None),
            Err(TargetError::TooMany)
        );
        let query = |pairs: usize| "a=b&".repeat(pairs);
        assert!(Target::parse("/", Some(&query(QUERY_PAIRS_MAX))).is_ok());
        let more = Target::parse("/", Some(&query(QUERY_PAIRS_MAX + 1)));
        assert_eq!(more, Err(TargetError::TooMany));
    }

    proptest! {
        #[test]
        fn every_name_survives_encoding(names in prop::collection::vec("[^\\p{Cc}]{0,20}", 1..5)) {
            let path: String = names.iter().map(|name| format!("/{}", encode_segment(name))).collect();
            prop_assert_eq!(segments(&path), names);
        }
    }
}
