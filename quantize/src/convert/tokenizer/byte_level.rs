//! Byte-level BPE: every byte is a letter, so that any text is made of tokens.
//!
//! The letters are those of GPT-2: printable bytes of Latin-1 stand for themselves, the others for U+0100 and what
//! follows, in order.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::json::{Merge, TokenizerConfig, TokenizerJson};
use super::{JSON, Kind, Token, parts, unused, wrong};
use crate::variant::LayoutError;

/// Bytes that stand for themselves.
fn is_own_letter(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The letter of each byte.
pub(super) fn letters() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = u8::try_from(byte).expect("an array of 256");
        if is_own_letter(byte) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).expect("a letter of Latin Extended-A")
        }
    })
}

/// The tokens of a vocabulary of bytes.
pub(super) fn tokens<'t>(
    json: &TokenizerJson<'t>,
    settings: &TokenizerConfig<'t>,
    vocab: u32,
) -> Result<Vec<Token<'t>>, LayoutError> {
    let mut tokens = unused(vocab);
    let beyond = |id: u32| {
        wrong(
            JSON,
            format!("token {id} is not in a vocabulary of {vocab}"),
        )
    };
    for (text, id) in &json.model.vocab.0 {
        let token = tokens.get_mut(*id as usize).ok_or_else(|| beyond(*id))?;
        token.kind = Kind::Normal;
        token.text = text.clone();
    }
    let decodes = json.decoder()?.get("type").and_then(Value::as_str) == Some("ByteLevel");
    let bytes: HashMap<char, u8> = letters().into_iter().zip(0..=u8::MAX).collect();
    for added in &json.added_tokens.0 {
        let token = tokens
            .get_mut(added.id as usize)
            .ok_or_else(|| beyond(added.id))?;
        // What the token stands for in text, where it is looked for as it is.
        let text = if decodes && !added.normalized {
            decode(&bytes, &added.content)
        } else {
            added.content.clone()
        };
        *token = Token::added(text, added.special);
    }
    for added in &settings.added_tokens {
        if let Some(token) = tokens.get_mut(added.id as usize)
            && token.kind == Kind::Unused
        {
            *token = Token::added(added.content.clone(), added.special);
        }
    }
    Ok(tokens)
}

/// The text of a token that is spelled in letters of bytes; any other stays as it is.
fn decode<'t>(bytes: &HashMap<char, u8>, text: &Cow<'t, str>) -> Cow<'t, str> {
    let spelled: Option<Vec<u8>> = text.chars().map(|c| bytes.get(&c).copied()).collect();
    match spelled {
        Some(spelled) if spelled != text.as_bytes() => {
            String::from_utf8_lossy(&spelled).into_owned().into()
        }
        _ => text.clone(),
    }
}

/// An encoder of short texts.
#[derive(Debug)]
pub(super) struct Encoder<'t> {
    ids: HashMap<&'t str, u32>,
    ranks: HashMap<(&'t str, &'t str), usize>,
    splitter: parts::Splitter,
    ignore_merges: bool,
}

impl<'t> Encoder<'t> {
    pub(super) fn new(json: &'t TokenizerJson<'_>) -> Result<Self, LayoutError> {
        parts::check_normalizer(&json.normalizer()?)?;
        let model = &json.model;
        let vocab = model.vocab.0.iter();
        Ok(Self {
            ids: vocab.map(|(text, id)| (text.as_ref(), *id)).collect(),
            ranks: model.merges.0.iter().map(Merge::pair).zip(0..).collect(),
            splitter: parts::Splitter::new(&json.pre_tokenizer()?)?,
            ignore_merges: model.ignore_merges,
        })
    }

    /// The ids of a text that holds no added token.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, LayoutError> {
        let mut ids = Vec::new();
        for word in self.splitter.split(text)? {
            match self.ids.get(word.as_str()) {
                Some(&id) if self.ignore_merges => ids.push(id),
                _ => self.merge(&word, &mut ids)?,
            }
        }
        Ok(ids)
    }

    /// Merges neighbours, those of the least rank first and of these the leftmost, until no two can be.
    fn merge(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), LayoutError> {
        let mut symbols: Vec<&str> = word
            .char_indices()
            .map(|(at, letter)| &word[at..at + letter.len_utf8()])
            .collect();
        loop {
            let ranked = symbols.windows(2).enumerate().filter_map(|(at, pair)| {
                let rank = self.ranks.get(&(pair[0], pair[1]))?;
                Some((rank, at))
            });
            let Some((_, at)) = ranked.min() else {
                break;
            };
            // Neighbours lie side by side in the word.
            let start = symbols[..at].iter().map(|symbol| symbol.len()).sum();
            let len = symbols[at].len() + symbols[at + 1].len();
            symbols[at] = &word[start..start + len];
            symbols.remove(at + 1);
        }
        for symbol in symbols {
            let id = self.ids.get(symbol).ok_or_else(|| {
                wrong(
                    JSON,
                    format!("no token stands for {symbol:?}, which merges make"),
                )
            })?;
            ids.push(*id);
        }
        Ok(())
    }
}
