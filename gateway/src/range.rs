//! The `Range` header (RFC 9110, section 14): which bytes of a body a client asks for.
//!
//! Whatever the header says, the bytes selected are inside the body, no byte is selected twice, and
//! no more than [`RANGES_MAX`] parts come out: a small request never makes a large answer. Ranges
//! that overlap or touch are merged into the place of the first of them.

use lode_tensors::ByteRange;

use crate::limits::RANGES_MAX;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of it: no range was asked for, or the header has no meaning.
    Whole,
    /// These ranges: at least one, none empty, none overlapping, in the order they were asked for.
    Parts(Vec<ByteRange>),
    /// Nothing of what was asked for exists, or more ranges were asked for than are served.
    Unsatisfiable,
}

/// One element of a range set, before the length of the body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-` or `first-last`; `last` is inclusive.
    From { first: u64, last: u64 },
    /// `-count`
    Last { count: u64 },
}

/// Reads a `Range` header for a body of `len` bytes.
///
/// A unit other than `bytes` and a header that breaks the grammar select [`Selection::Whole`], as
/// does every range of an empty body (some clients add one to each request).
pub fn select(header: &[u8], len: u64) -> Selection {
    let Some(specs) = parse(header) else {
        return Selection::Whole;
    };
    if len == 0 {
        return Selection::Whole;
    }
    if specs.len() > RANGES_MAX {
        return Selection::Unsatisfiable;
    }
    let ranges: Vec<ByteRange> = specs.iter().filter_map(|spec| spec.within(len)).collect();
    if ranges.is_empty() {
        return Selection::Unsatisfiable;
    }
    Selection::Parts(merge(&ranges))
}

impl Spec {
    fn within(self, len: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From { first, last } => (first, last.saturating_add(1).min(len)),
            Self::Last { count } => (len.saturating_sub(count), len),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

/// The elements of the set, one more than [`RANGES_MAX`] at most, or nothing when the header is not
/// a valid set of byte ranges.
fn parse(header: &[u8]) -> Option<Vec<Spec>> {
    let header = header.trim_ascii();
    let (unit, set) = header.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = Vec::new();
    for element in set.split(|&byte| byte == b',') {
        let element = element.trim_ascii();
        if element.is_empty() {
            continue;
        }
        let spec = parse_spec(element)?;
        if specs.len() <= RANGES_MAX {
            specs.push(spec);
        }
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(element: &[u8]) -> Option<Spec> {
    let dash = element.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&element[..dash], &element[dash + 1..]);
    if first.is_empty() {
        return Some(Spec::Last {
            count: number(last)?,
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        number(last)?
    };
    (first <= last).then_some(Spec::From { first, last })
}

/// Decimal digits alone; what does not fit is as large as can be, which lies past every body.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(value.saturating_mul(10).saturating_add(digit))
    })
}

fn merge(ranges: &[ByteRange]) -> Vec<ByteRange> {
    let mut by_start: Vec<(usize, ByteRange)> = ranges.iter().copied().enumerate().collect();
    by_start.sort_by_key(|(_, range)| range.start);
    let mut merged: Vec<(usize, ByteRange)> = Vec::with_capacity(by_start.len());
    for (place, range) in by_start {
        match merged.last_mut() {
            Some((first_place, last)) if range.start <= last.end => {
                *first_place = place.min(*first_place);
                last.end = range.end.max(last.end);
            }
            _ => merged.push((place, range)),
        }
    }
    merged.sort_by_key(|(place, _)| *place);
    merged.into_iter().map(|(_, range)| range).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use proptest::prelude::*;

    fn parts(ranges: &[(u64, u64)]) -> Selection {
        let range = |&(start, end)| ByteRange { start, end };
        Selection::Parts(ranges.iter().map(range).collect())
    }

    #[test]
    fn the_forms_of_the_standard_select_what_it_says() {
        for (header, expected) in [
            ("bytes=0-499", parts(&[(0, 500)])),
            ("bytes=500-999", parts(&[(500, 1000)])),
            ("bytes=-500", parts(&[(9500, 10000)])),
            ("bytes=9500-", parts(&[(9500, 10000)])),
            ("bytes=0-0,-1", parts(&[(0, 1), (9999, 10000)])),
            (
                "bytes= 0-999, 4500-5499, -1000",
                parts(&[(0, 1000), (4500, 5500), (9000, 10000)]),
            ),
            ("BYTES=0-0", parts(&[(0, 1)])),
            ("bytes=,,0-0,", parts(&[(0, 1)])),
            ("bytes=-20000", parts(&[(0, 10000)])),
            ("bytes=0-99999999999999999999999", parts(&[(0, 10000)])),
            ("bytes=9999-10000", parts(&[(9999, 10000)])),
        ] {
            assert_eq!(select(header.as_bytes(), 10_000), expected, "{header}");
        }
    }

    #[test]
    fn a_header_without_meaning_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-1,5-2",
            "items=0-1",
            "bytes 0-1",
            "bytes=0 - 1",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=\u{b2}-",
        ] {
            assert_eq!(
                select(header.as_bytes(), 10_000),
                Selection::Whole,
                "{header}"
            );
        }
        assert_eq!(select(b"bytes=0-1", 0), Selection::Whole, "an empty body");
    }

    #[test]
    fn ranges_past_the_end_are_unsatisfiable() {
        for header in [
            "bytes=10000-",
            "bytes=-0",
            "bytes=99999999999999999999-",
            "bytes=20000-30000",
        ] {
            assert_eq!(
                select(header.as_bytes(), 10_000),
                Selection::Unsatisfiable,
                "{header}"
            );
        }
        assert_eq!(select(b"bytes=20000-,0-0", 10_000), parts(&[(0, 1)]));
    }

    #[test]
    fn more_ranges_than_the_limit_are_refused() {
        let set = |count: usize| {
            let specs: Vec<String> = (0..count).map(|i| format!("{0}-{0}", i * 2)).collect();
            format!("bytes={}", specs.join(","))
        };
        let Selection::Parts(most) = select(set(RANGES_MAX).as_bytes(), 10_000) else {
            panic!("the limit itself is served");
        };
        assert_eq!(most.len(), RANGES_MAX);
        assert_eq!(
            select(set(RANGES_MAX + 1).as_bytes(), 10_000),
            Selection::Unsatisfiable
        );
    }

    #[test]
    fn overlapping_and_touching_ranges_become_one() {
        assert_eq!(
            select(b"bytes=100-200,0-99,150-300", 10_000),
            parts(&[(0, 301)])
        );
        assert_eq!(
            select(b"bytes=500-,0-0,600-700", 1000),
            parts(&[(500, 1000), (0, 1)])
        );
    }

    fn spec() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
        let number = || prop_oneof![0u64..40, Just(u64::MAX)];
        prop_oneof![
            (number(), number()).prop_map(|(a, b)| (Some(a.min(b)), Some(a.max(b)))),
            number().prop_map(|first| (Some(first), None)),
            number().prop_map(|count| (None, Some(count))),
        ]
    }

    proptest! {
        /// The model marks each selected byte of a small body.
        #[test]
        fn exactly_the_bytes_asked_for_are_selected(
            specs in prop::collection::vec(spec(), 1..8),
            len in 1u64..32,
        ) {
            let text = |number: Option<u64>| number.map_or(String::new(), |n| n.to_string());
            let set: Vec<String> =
                specs.iter().map(|&(a, b)| format!("{}-{}", text(a), text(b))).collect();
            let mut expected = vec![false; len as usize];
            for &(first, last) in &specs {
                for at in 0..len {
                    expected[at as usize] |= match (first, last) {
                        (Some(first), last) => at >= first && at <= last.unwrap_or(u64::MAX),
                        (None, Some(count)) => at >= len.saturating_sub(count),
                        (None, None) => unreachable!(),
                    };
                }
            }
            let mut found = vec![false; len as usize];
            match select(format!("bytes={}", set.join(",")).as_bytes(), len) {
                Selection::Whole => prop_assert!(false, "a valid header was ignored"),
                Selection::Unsatisfiable => {}
                Selection::Parts(parts) => for part in parts {
                    prop_assert!(!part.is_empty());
                    for at in part.start..part.end {
                        prop_assert!(!found[at as usize], "byte {at} twice");
                        found[at as usize] = true;
                    }
                },
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_select_inside_the_body(header in prop::collection::vec(any::<u8>(), 0..64), len: u64) {
            if let Selection::Parts(parts) = select(&header, len) {
                prop_assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
            }
        }
    }
}
