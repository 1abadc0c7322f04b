//! Tokenizers: how a text field is cut into the words that `match: {text}` looks for.
//!
//! A field's schema names one; the same is used for payloads and for queries, with or without an index, so
//! that an index never changes an answer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::limits::TOKEN_BYTES_MAX;

/// The rule by which text becomes words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tokenizer {
    /// Runs of letters and digits.
    #[default]
    Word,
    /// What stands between white space.
    Whitespace,
    /// Runs of letters and digits, and each beginning of them: finds words by how they start.
    Prefix,
}

/// A text field's tokenizer and what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TextRule {
    /// How text is cut.
    #[serde(default)]
    pub tokenizer: Tokenizer,
    /// Whether words are compared in lower case.
    #[serde(default = "yes")]
    pub lowercase: bool,
    /// Characters of the shortest word that is kept.
    #[serde(default = "one")]
    pub min_token_len: usize,
    /// Characters of the longest word that is kept.
    #[serde(default = "token_len_max")]
    pub max_token_len: usize,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn token_len_max() -> usize {
    TOKEN_BYTES_MAX
}

impl Default for TextRule {
    fn default() -> Self {
        Self {
            tokenizer: Tokenizer::Word,
            lowercase: true,
            min_token_len: 1,
            max_token_len: TOKEN_BYTES_MAX,
        }
    }
}

impl TextRule {
    /// The words of a payload's text.
    pub fn tokens(self, text: &str) -> BTreeSet<String> {
        let mut tokens = BTreeSet::new();
        self.each(text, &mut |word| {
            if self.tokenizer == Tokenizer::Prefix {
                for (end, _) in word.char_indices().skip(1) {
                    self.keep(&word[..end], &mut tokens);
                }
            }
            self.keep(word, &mut tokens);
        });
        tokens
    }

    /// The words that a text must have to match a query; an empty set matches nothing.
    pub fn query(self, text: &str) -> BTreeSet<String> {
        let mut tokens = BTreeSet::new();
        self.each(text, &mut |word| self.keep(word, &mut tokens));
        tokens
    }

    fn each(self, text: &str, found: &mut dyn FnMut(&str)) {
        let lower;
        let text = if self.lowercase {
            lower = text.to_lowercase();
            &lower
        } else {
            text
        };
        let words: &mut dyn Iterator<Item = &str> = match self.tokenizer {
            Tokenizer::Whitespace => &mut text.split_whitespace(),
            Tokenizer::Word | Tokenizer::Prefix => &mut text.split(|c: char| !c.is_alphanumeric()),
        };
        words.filter(|word| !word.is_empty()).for_each(found);
    }

    fn keep(self, word: &str, tokens: &mut BTreeSet<String>) {
        let chars = word.chars().count();
        let fits = chars >= self.min_token_len && chars <= self.max_token_len;
        if fits && word.len() <= TOKEN_BYTES_MAX {
            tokens.insert(word.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(rule: TextRule, text: &str) -> Vec<String> {
        rule.tokens(text).into_iter().collect()
    }

    #[test]
    fn text_is_cut_as_the_rule_says() {
        let word = TextRule::default();
        assert_eq!(
            words(word, "Hello, WORLD! héllo-42"),
            ["42", "hello", "héllo", "world"]
        );
        let white = TextRule {
            tokenizer: Tokenizer::Whitespace,
            lowercase: false,
            ..word
        };
        assert_eq!(words(white, " A-b  c "), ["A-b", "c"]);
        let prefix = TextRule {
            tokenizer: Tokenizer::Prefix,
            min_token_len: 2,
            ..word
        };
        assert_eq!(words(prefix, "abcd"), ["ab", "abc", "abcd"]);
        assert_eq!(prefix.query("abc").into_iter().collect::<Vec<_>>(), ["abc"]);
    }

    #[test]
    fn words_past_the_bound_are_no_words() {
        let rule = TextRule::default();
        assert_eq!(rule.tokens(&"a".repeat(TOKEN_BYTES_MAX)).len(), 1);
        assert_eq!(rule.tokens(&"a".repeat(TOKEN_BYTES_MAX + 1)).len(), 0);
    }
}
