//! `tokenizer.model` of SentencePiece: a protobuf message, of which the pieces are read.
//!
//! Field 1 of the message, repeated, is a piece: text (1), score (2), type (3). Field 2 describes the training, where
//! field 3 says which algorithm. (sentencepiece_model.proto)

use std::borrow::Cow;

use super::json::AddedToken;
use super::{Kind, SCORE_ADDED, SENTENCEPIECE, Token, unused, wrong};
use crate::limits::TOKENS_MAX;
use crate::variant::LayoutError;

/// The value of the algorithm that llama.cpp runs for this kind of tokenizer.
const BPE: u64 = 2;

/// The tokens of a model; tokens that were added later replace its own. Those beyond the vocabulary are left out, as a
/// model of text alone may come with a tokenizer that knows images too.
pub(super) fn tokens<'t>(
    bytes: &'t [u8],
    vocab: u32,
    legacy: &[(Cow<'t, str>, u32)],
    later: impl Iterator<Item = &'t AddedToken<'t>>,
    last: &[AddedToken<'t>],
) -> Result<Vec<Token<'t>>, LayoutError> {
    let mut tokens = unused(vocab);
    for (id, piece) in pieces(bytes)?.into_iter().enumerate() {
        if let Some(token) = tokens.get_mut(id) {
            *token = piece;
        }
    }
    for (text, id) in legacy {
        if let Some(token) = tokens.get_mut(*id as usize) {
            *token = Token {
                text: text.clone(),
                kind: Kind::UserDefined,
                score: SCORE_ADDED,
            };
        }
    }
    for added in later {
        if let Some(token) = tokens.get_mut(added.id as usize) {
            *token = Token::added(added.content.clone(), added.special);
        }
    }
    for added in last {
        if let Some(token) = tokens.get_mut(added.id as usize)
            && token.kind == Kind::Unused
        {
            *token = Token::added(added.content.clone(), added.special);
        }
    }
    Ok(tokens)
}

fn pieces(bytes: &[u8]) -> Result<Vec<Token<'_>>, LayoutError> {
    let malformed = || wrong(SENTENCEPIECE, "it is no SentencePiece model");
    let mut pieces = Vec::new();
    // The first algorithm is what a message without this field means.
    let mut algorithm = 1;
    let mut message = Message(bytes);
    while let Some(field) = message.next().ok_or_else(malformed)? {
        match field {
            (1, Field::Bytes(bytes)) => {
                if pieces.len() == TOKENS_MAX as usize {
                    return Err(wrong(
                        SENTENCEPIECE,
                        format!("there are more than {TOKENS_MAX} pieces"),
                    ));
                }
                pieces.push(piece(bytes).ok_or_else(malformed)?);
            }
            (2, Field::Bytes(bytes)) => {
                let mut trainer = Message(bytes);
                while let Some(field) = trainer.next().ok_or_else(malformed)? {
                    if let (3, Field::Number(number)) = field {
                        algorithm = number;
                    }
                }
            }
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(malformed());
    }
    if algorithm != BPE {
        return Err(wrong(
            SENTENCEPIECE,
            "it is not a model of BPE, which alone is converted",
        ));
    }
    Ok(pieces)
}

fn piece(bytes: &[u8]) -> Option<Token<'_>> {
    let mut token = Token {
        text: Cow::Borrowed(""),
        kind: Kind::Normal,
        score: 0.0,
    };
    let mut message = Message(bytes);
    while let Some(field) = message.next()? {
        match field {
            (1, Field::Bytes(text)) => token.text = std::str::from_utf8(text).ok()?.into(),
            (2, Field::Single(score)) => token.score = score,
            (3, Field::Number(kind)) => {
                token.kind = match kind {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    _ => return None,
                };
            }
            _ => {}
        }
    }
    Some(token)
}

/// A protobuf message that is read field by field.
struct Message<'b>(&'b [u8]);

enum Field<'b> {
    Number(u64),
    Single(f32),
    Bytes(&'b [u8]),
    Double,
}

impl<'b> Message<'b> {
    /// The next field with its number; `Some(None)` at the end, nothing when the bytes are no message.
    fn next(&mut self) -> Option<Option<(u64, Field<'b>)>> {
        const NUMBER: u64 = 0;
        const DOUBLE: u64 = 1;
        const BYTES: u64 = 2;
        const SINGLE: u64 = 5;
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            NUMBER => Field::Number(self.varint()?),
            DOUBLE => {
                self.take(8)?;
                Field::Double
            }
            BYTES => {
                let len = self.varint()?;
                Field::Bytes(self.take(usize::try_from(len).ok()?)?)
            }
            SINGLE => Field::Single(f32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some(Some((tag >> 3, field)))
    }

    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
