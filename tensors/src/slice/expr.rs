//! Slice expressions, as they are typed: `tp=R/N`, `layers=A..B`, `experts=A..B`.

use std::fmt;
use std::ops::Range;

use crate::limits;

/// Which rank of how many: `2/8` is the third of eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// Its number, from 0.
    pub rank: u64,
    /// How many there are.
    pub of: u64,
}

/// Several expressions together: what all of them keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// `tp=R/N`: the rank's rows and columns.
    pub tp: Option<Ranks>,
    /// `layers=A..B`: a stage of a pipeline.
    pub layers: Option<Range<u64>>,
    /// `experts=A..B` of every layer.
    pub experts: Option<Range<u64>>,
}

/// Why an expression says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceParseError {
    /// No expression at all.
    #[error("{0:?} is no slice: write tp=R/N, layers=A..B or experts=A..B")]
    Unknown(String),
    /// Not a range.
    #[error("{0:?} is no range: write A..B, from A to before B, with A less than B")]
    Range(String),
    /// Not a rank.
    #[error("{0:?} is no rank: write R/N, rank R of N, both whole numbers")]
    Rank(String),
    /// A rank that is not among them.
    #[error("there is no rank {rank} among {of}: ranks count from 0 to {}", .of - 1)]
    RankRange {
        /// The rank.
        rank: u64,
        /// How many there are.
        of: u64,
    },
    /// None, or very many.
    #[error("{0} ranks: a model is sliced for 1 to {max}", max = limits::RANKS_MAX)]
    Ranks(u64),
    /// The same twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
}

impl Slice {
    /// Reads expressions; each kind may come once.
    ///
    /// # Errors
    /// See [`SliceParseError`].
    pub fn parse<'e>(
        expressions: impl IntoIterator<Item = &'e str>,
    ) -> Result<Self, SliceParseError> {
        let mut slice = Self::default();
        for expression in expressions {
            let unknown = || SliceParseError::Unknown(shown(expression));
            let (kind, value) = expression.split_once('=').ok_or_else(unknown)?;
            let twice = match kind {
                "tp" => (slice.tp.replace(parse_ranks(value)?).is_some(), "tp"),
                "layers" => (
                    slice.layers.replace(parse_range(value)?).is_some(),
                    "layers",
                ),
                "experts" => (
                    slice.experts.replace(parse_range(value)?).is_some(),
                    "experts",
                ),
                _ => return Err(unknown()),
            };
            if let (true, kind) = twice {
                return Err(SliceParseError::Twice(kind));
            }
        }
        Ok(slice)
    }

    /// Whether it keeps everything.
    pub fn is_whole(&self) -> bool {
        self.tp.is_none() && self.layers.is_none() && self.experts.is_none()
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(Ranks { rank, of }) = self.tp {
            parts.push(format!("tp={rank}/{of}"));
        }
        for (kind, range) in [("layers", &self.layers), ("experts", &self.experts)] {
            parts.extend(
                range
                    .as_ref()
                    .map(|r| format!("{kind}={}..{}", r.start, r.end)),
            );
        }
        f.write_str(&parts.join(" "))
    }
}

/// Reads `A..B`, which is not empty.
///
/// # Errors
/// [`SliceParseError::Range`].
pub fn parse_range(text: &str) -> Result<Range<u64>, SliceParseError> {
    let parsed = text.split_once("..").and_then(|(start, end)| {
        let (start, end) = (number(start)?, number(end)?);
        (start < end).then_some(start..end)
    });
    parsed.ok_or_else(|| SliceParseError::Range(shown(text)))
}

fn parse_ranks(text: &str) -> Result<Ranks, SliceParseError> {
    let parsed = text
        .split_once('/')
        .and_then(|(rank, of)| Some((number(rank)?, number(of)?)));
    let (rank, of) = parsed.ok_or_else(|| SliceParseError::Rank(shown(text)))?;
    if of == 0 || of > limits::RANKS_MAX {
        return Err(SliceParseError::Ranks(of));
    }
    if rank >= of {
        return Err(SliceParseError::RankRange { rank, of });
    }
    Ok(Ranks { rank, of })
}

/// Digits and nothing else; `str::parse` takes a plus sign too.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn expressions_combine_and_read_back() {
        let slice = Slice::parse(["tp=2/8", "layers=0..16", "experts=4..6"]).unwrap();
        assert_eq!(slice.tp, Some(Ranks { rank: 2, of: 8 }));
        assert_eq!(slice.layers, Some(0..16));
        assert_eq!(slice.experts, Some(4..6));
        let text = slice.to_string();
        assert_eq!(text, "tp=2/8 layers=0..16 experts=4..6");
        assert_eq!(Slice::parse(text.split(' ')), Ok(slice));
        assert!(Slice::parse([]).unwrap().is_whole());
    }

    #[test]
    fn what_is_no_slice_says_what_would_be_one() {
        let error = |text| Slice::parse([text]).unwrap_err();
        assert_eq!(
            error("tp=8/8"),
            SliceParseError::RankRange { rank: 8, of: 8 }
        );
        assert_eq!(error("tp=0/0"), SliceParseError::Ranks(0));
        assert_eq!(error("tp=1"), SliceParseError::Rank("1".to_owned()));
        assert_eq!(error("tp=+1/2"), SliceParseError::Rank("+1/2".to_owned()));
        assert_eq!(
            error("layers=3..3"),
            SliceParseError::Range("3..3".to_owned())
        );
        assert_eq!(
            error("experts=4..2"),
            SliceParseError::Range("4..2".to_owned())
        );
        assert_eq!(
            error("layers=..4"),
            SliceParseError::Range("..4".to_owned())
        );
        assert!(
            error("pp=1/2")
                .to_string()
                .contains("tp=R/N, layers=A..B or experts=A..B")
        );
        let twice = Slice::parse(["layers=0..1", "layers=1..2"]).unwrap_err();
        assert_eq!(twice, SliceParseError::Twice("layers"));
    }

    #[test]
    fn ranks_end_at_their_limit() {
        let max = limits::RANKS_MAX;
        assert!(Slice::parse([format!("tp=0/{max}").as_str()]).is_ok());
        let over = format!("tp=0/{}", max + 1);
        assert_eq!(
            Slice::parse([over.as_str()]),
            Err(SliceParseError::Ranks(max + 1))
        );
    }
}
