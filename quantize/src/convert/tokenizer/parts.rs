//! The parts of `tokenizer.json` that come before its model: how text is normalized and split.
//!
//! Only what the byte-level tokenizers of the supported architectures use is known; another part is refused by its
//! name, since the ids of the test text would be guesses.

use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::json::TokenizerJson;
use super::{JSON, SPACE, byte_level, wrong};
use crate::limits::{
    PATTERN_BYTES_MAX, PATTERN_PROGRAM_BYTES_MAX, PATTERN_STEPS_MAX, SPLIT_STEPS_MAX,
};
use crate::variant::LayoutError;

/// How GPT-2 splits text, which a `ByteLevel` pre-tokenizer does unless it says otherwise.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn unknown(what: &str, part: &Value) -> LayoutError {
    let shown: String = kind(part).chars().take(32).collect();
    wrong(JSON, format!("the {what} {shown:?} is not known here"))
}

/// The parts of a sequence, or the one part itself; none of `null`.
fn sequence<'v>(part: &'v Value, list: &str) -> &'v [Value] {
    match part {
        Value::Null => &[],
        _ if kind(part) == "Sequence" => part
            .get(list)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice),
        one => std::slice::from_ref(one),
    }
}

/// Refuses normalizers that could change the test text. It is the same in both canonical forms.
pub(super) fn check_normalizer(normalizer: &Value) -> Result<(), LayoutError> {
    let changes = sequence(normalizer, "normalizers")
        .iter()
        .find(|part| !matches!(kind(part), "NFC" | "NFD"));
    match changes {
        Some(part) => Err(unknown("normalizer", part)),
        None => Ok(()),
    }
}

/// Whether a tokenizer of pieces puts a space before the text.
pub(super) fn adds_space(json: &TokenizerJson<'_>) -> Result<bool, LayoutError> {
    let normalizer = json.normalizer()?;
    let prepends = sequence(&normalizer, "normalizers").iter().any(|part| {
        let text = part.get("prepend").and_then(Value::as_str);
        kind(part) == "Prepend" && text.is_some_and(|text| text.starts_with(SPACE))
    });
    let splitter = json.pre_tokenizer()?;
    let scheme = sequence(&splitter, "pretokenizers").iter().any(|part| {
        let scheme = part.get("prepend_scheme").and_then(Value::as_str);
        let flag = part.get("add_prefix_space").and_then(Value::as_bool);
        kind(part) == "Metaspace" && scheme.map_or(flag.unwrap_or(true), |scheme| scheme != "never")
    });
    Ok(prepends || scheme)
}

/// One way to split.
#[derive(Debug)]
enum Step {
    Pattern {
        regex: Box<Regex>,
        /// Whether what matches is thrown away.
        removed: bool,
        /// Whether what does not match counts as what does.
        inverted: bool,
    },
    Digits {
        /// Whether each is alone.
        single: bool,
    },
    Bytes {
        /// Whether a space is put before each piece.
        space: bool,
        regex: Option<Box<Regex>>,
    },
}

/// What splits text into words, spelled in letters of bytes.
#[derive(Debug)]
pub(super) struct Splitter(Vec<Step>);

impl Splitter {
    pub(super) fn new(splitter: &Value) -> Result<Self, LayoutError> {
        let parts = sequence(splitter, "pretokenizers");
        // Before any is compiled: programs of thousands of short patterns would fill gigabytes.
        if parts.len() > SPLIT_STEPS_MAX {
            return Err(wrong(
                JSON,
                format!(
                    "its pre-tokenizer has {} steps, more than {SPLIT_STEPS_MAX}",
                    parts.len()
                ),
            ));
        }
        let mut steps = Vec::new();
        for part in parts {
            let flag = |key: &str| part.get(key).and_then(Value::as_bool);
            steps.push(match kind(part) {
                "Split" => Step::Pattern {
                    regex: pattern(part.get("pattern").unwrap_or(&Value::Null))?,
                    removed: match part.get("behavior").and_then(Value::as_str) {
                        Some("Isolated") => false,
                        Some("Removed") => true,
                        _ => {
                            return Err(wrong(
                                JSON,
                                "a pre-tokenizer splits in a way that is not known here",
                            ));
                        }
                    },
                    inverted: flag("invert").unwrap_or(false),
                },
                "Digits" => Step::Digits {
                    single: flag("individual_digits").unwrap_or(false),
                },
                "ByteLevel" => Step::Bytes {
                    space: flag("add_prefix_space").unwrap_or(true),
                    regex: match flag("use_regex") {
                        Some(false) => None,
                        _ => Some(compile(GPT2)?),
                    },
                },
                _ => return Err(unknown("pre-tokenizer", part)),
            });
        }
        let bytes = steps
            .iter()
            .filter(|step| matches!(step, Step::Bytes { .. }));
        if bytes.count() != 1 {
            return Err(wrong(JSON, "its words are not spelled in bytes"));
        }
        Ok(Self(steps))
    }

    pub(super) fn split(&self, text: &str) -> Result<Vec<String>, LayoutError> {
        let mut words = vec![text.to_owned()];
        for step in &self.0 {
            let mut next = Vec::new();
            for word in &words {
                step.split(word, &mut next)?;
            }
            words = next;
        }
        Ok(words)
    }
}

impl Step {
    fn split(&self, word: &str, out: &mut Vec<String>) -> Result<(), LayoutError> {
        match self {
            Self::Pattern {
                regex,
                removed,
                inverted,
            } => {
                let kept = pieces(regex, word)?
                    .into_iter()
                    .filter(|(_, matched)| !(*removed && matched != inverted));
                out.extend(kept.map(|(piece, _)| piece.to_owned()));
            }
            Self::Digits { single } => {
                let mut before = None;
                for letter in word.chars() {
                    let digit = letter.is_numeric();
                    match out.last_mut() {
                        Some(last) if before == Some(digit) && !(digit && *single) => {
                            last.push(letter);
                        }
                        _ => out.push(letter.into()),
                    }
                    before = Some(digit);
                }
            }
            Self::Bytes { space, regex } => {
                let word = if *space && !word.starts_with(' ') {
                    format!(" {word}")
                } else {
                    word.to_owned()
                };
                let pieces = match regex {
                    Some(regex) => pieces(regex, &word)?,
                    None => vec![(word.as_str(), true)],
                };
                let letters = byte_level::letters();
                let spelled = |piece: &str| {
                    let bytes = piece.bytes();
                    bytes.map(|byte| letters[usize::from(byte)]).collect()
                };
                out.extend(pieces.into_iter().map(|(piece, _)| spelled(piece)));
            }
        }
        Ok(())
    }
}

/// Cuts a word where a pattern begins and ends; says of each piece whether it matched. No piece is empty.
fn pieces<'w>(regex: &Regex, word: &'w str) -> Result<Vec<(&'w str, bool)>, LayoutError> {
    let mut pieces = Vec::new();
    let mut done = 0;
    for found in regex.find_iter(word) {
        let found = found.map_err(|error| wrong(JSON, format!("a pattern fails: {error}")))?;
        pieces.push((&word[done..found.start()], false));
        pieces.push((&word[found.start()..found.end()], true));
        done = found.end();
    }
    pieces.push((&word[done..], false));
    pieces.retain(|(piece, _)| !piece.is_empty());
    Ok(pieces)
}

fn pattern(pattern: &Value) -> Result<Box<Regex>, LayoutError> {
    let text = |key: &str| pattern.get(key).and_then(Value::as_str);
    match (text("Regex"), text("String")) {
        (Some(regex), _) => compile(regex),
        (None, Some(literal)) => compile(&fancy_regex::escape(literal)),
        (None, None) => Err(wrong(JSON, "a pre-tokenizer has no pattern")),
    }
}

fn compile(pattern: &str) -> Result<Box<Regex>, LayoutError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(wrong(
            JSON,
            format!(
                "a pattern of {} bytes is longer than {PATTERN_BYTES_MAX}",
                pattern.len()
            ),
        ));
    }
    RegexBuilder::new(pattern)
        .backtrack_limit(PATTERN_STEPS_MAX)
        .delegate_size_limit(PATTERN_PROGRAM_BYTES_MAX)
        .delegate_dfa_size_limit(PATTERN_PROGRAM_BYTES_MAX)
        .build()
        .map(Box::new)
        .map_err(|error| wrong(JSON, format!("a pattern is not understood: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many steps that split digits, the last of which spells bytes.
    fn splitter(steps: usize) -> Result<Splitter, LayoutError> {
        let mut parts = vec![serde_json::json!({"type": "Digits"}); steps - 1];
        parts.push(serde_json::json!({"type": "ByteLevel"}));
        Splitter::new(&serde_json::json!({"type": "Sequence", "pretokenizers": parts}))
    }

    fn split_by(pattern: &str) -> Result<Splitter, LayoutError> {
        Splitter::new(&serde_json::json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
            {"type": "ByteLevel"},
        ]}))
    }

    #[test]
    fn more_steps_than_any_tokenizer_has_are_refused() {
        assert!(splitter(SPLIT_STEPS_MAX).is_ok());
        let error = splitter(SPLIT_STEPS_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("17 steps, more than 16"), "{error}");
    }

    #[test]
    fn patterns_that_are_too_long_or_become_too_large_are_refused() {
        assert!(split_by(&"a".repeat(PATTERN_BYTES_MAX)).is_ok());
        let error = split_by(&"a".repeat(PATTERN_BYTES_MAX + 1)).unwrap_err();
        assert!(error.to_string().contains("longer than 4096"), "{error}");
        let error = split_by(r"\w{1000}").unwrap_err();
        assert!(error.to_string().contains("not understood"), "{error}");
    }
}
