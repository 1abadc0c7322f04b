//! Entity tags and the headers that compare them (RFC 9110, sections 8.8.3 and 13).
//!
//! Every tag of Lode is strong: it is made of hashes of the bytes it stands for, so two bodies with
//! one tag are equal byte for byte, on every node.

use std::fmt;

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE},
};

use crate::limits::ETAGS_MAX;

/// A strong entity tag: a header's value, with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(HeaderValue);

/// What the conditions of a request say about a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it; ranges count only when `ranges` says so.
    Send {
        /// Whether `If-Range` is absent or names this body.
        ranges: bool,
    },
    /// The client has it: 304.
    NotModified,
    /// The client wants another one: 412.
    Failed,
}

impl Etag {
    /// A tag of characters that need no quoting, such as hex digits, `.` and `-`.
    ///
    /// # Panics
    /// On other characters than visible ASCII ones.
    pub fn new(text: impl fmt::Display) -> Self {
        let quoted = format!("\"{text}\"");
        let inner = &quoted.as_bytes()[1..quoted.len() - 1];
        debug_assert!(inner.iter().all(|b| b.is_ascii_graphic() && *b != b'"'));
        Self(HeaderValue::try_from(quoted).expect("tags are made of visible ASCII characters"))
    }

    /// Its text, without quotes.
    pub fn text(&self) -> &str {
        let quoted = self
            .0
            .to_str()
            .expect("tags are made of visible ASCII characters");
        &quoted[1..quoted.len() - 1]
    }

    /// The header's value, quoted.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Weighs `If-Match`, `If-None-Match` and `If-Range`, in the order of the standard.
    ///
    /// A date in `If-Range` never matches: bodies have no time of modification.
    pub fn weigh(&self, headers: &HeaderMap) -> Verdict {
        if self.listed(headers, &IF_MATCH, Compare::Strong) == Some(false) {
            return Verdict::Failed;
        }
        if self.listed(headers, &IF_NONE_MATCH, Compare::Weak) == Some(true) {
            return Verdict::NotModified;
        }
        let ranges = match headers.get(IF_RANGE) {
            None => true,
            Some(value) => parse_tag(value.as_bytes().trim_ascii())
                .is_some_and(|(tag, rest)| rest.is_empty() && self.equals(tag, Compare::Strong)),
        };
        Verdict::Send { ranges }
    }

    /// Whether a header lists this tag; nothing when the header is absent.
    fn listed(&self, headers: &HeaderMap, name: &HeaderName, compare: Compare) -> Option<bool> {
        let mut present = false;
        let mut seen = 0;
        for value in headers.get_all(name) {
            present = true;
            let mut rest = value.as_bytes().trim_ascii();
            if rest == b"*" {
                return Some(true);
            }
            while let Some((tag, after)) = parse_tag(rest) {
                seen += 1;
                if seen > ETAGS_MAX {
                    return Some(false);
                }
                if self.equals(tag, compare) {
                    return Some(true);
                }
                rest = skip_commas(after);
            }
        }
        present.then_some(false)
    }

    fn equals(&self, tag: Tag<'_>, compare: Compare) -> bool {
        tag.text == self.text().as_bytes() && !(tag.weak && compare == Compare::Strong)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

#[derive(Debug, Clone, Copy)]
struct Tag<'a> {
    weak: bool,
    text: &'a [u8],
}

fn skip_commas(mut text: &[u8]) -> &[u8] {
    while let [b',' | b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// One `"tag"` or `W/"tag"` and what follows it.
fn parse_tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let text = skip_commas(text);
    let (weak, text) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|&byte| byte == b'"')?;
    let tag = Tag {
        weak,
        text: &text[..end],
    };
    Some((tag, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn weigh(pairs: &[(HeaderName, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Etag::new("abc").weigh(&headers)
    }

    const SEND: Verdict = Verdict::Send { ranges: true };
    const SEND_ALL: Verdict = Verdict::Send { ranges: false };

    #[test]
    fn a_client_that_has_the_body_is_told_so() {
        for value in [
            "\"abc\"",
            "W/\"abc\"",
            "*",
            "\"x\", \"abc\"",
            "\"x\",W/\"abc\" ,\"y\"",
        ] {
            assert_eq!(
                weigh(&[(IF_NONE_MATCH, value)]),
                Verdict::NotModified,
                "{value}"
            );
        }
        for value in ["\"x\"", "abc", "", "\"abc", "\"ab\",\"c\""] {
            assert_eq!(weigh(&[(IF_NONE_MATCH, value)]), SEND, "{value}");
        }
        let two = [(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"abc\"")];
        assert_eq!(weigh(&two), Verdict::NotModified);
    }

    #[test]
    fn a_resumed_download_gets_ranges_of_the_same_bytes_only() {
        assert_eq!(weigh(&[]), SEND);
        assert_eq!(weigh(&[(IF_RANGE, "\"abc\"")]), SEND);
        for value in [
            "W/\"abc\"",
            "\"x\"",
            "Sat, 29 Oct 1994 19:43:31 GMT",
            "\"abc\", \"x\"",
        ] {
            assert_eq!(weigh(&[(IF_RANGE, value)]), SEND_ALL, "{value}");
        }
    }

    #[test]
    fn if_match_fails_on_other_bytes() {
        assert_eq!(weigh(&[(IF_MATCH, "\"abc\"")]), SEND);
        assert_eq!(weigh(&[(IF_MATCH, "*")]), SEND);
        assert_eq!(weigh(&[(IF_MATCH, "\"x\"")]), Verdict::Failed);
        assert_eq!(weigh(&[(IF_MATCH, "W/\"abc\"")]), Verdict::Failed);
    }

    #[test]
    fn a_list_of_tags_is_read_up_to_its_limit() {
        let list = |count: usize| format!("{}\"abc\"", "\"x\",".repeat(count - 1));
        let (most, more) = (list(ETAGS_MAX), list(ETAGS_MAX + 1));
        assert_eq!(weigh(&[(IF_NONE_MATCH, &most)]), Verdict::NotModified);
        assert_eq!(weigh(&[(IF_NONE_MATCH, &more)]), SEND);
    }
}
