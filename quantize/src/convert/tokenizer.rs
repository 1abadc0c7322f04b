//! The tokenizer of a GGUF header, out of the files beside a checkpoint.
//!
//! There are two kinds. Byte-level BPE (llama 3, qwen, smollm) stands in `tokenizer.json`; llama.cpp needs the name of
//! its pre-tokenizer besides, which [`pretokenizer`] finds. BPE of SentencePiece (llama 2, mistral, gemma) stands in
//! `tokenizer.model`, or in `tokenizer.json` with a fallback to bytes. Both become lists of tokens, types and scores.

mod byte_level;
mod json;
mod parts;
mod pretokenizer;
mod sentencepiece;
mod special;

use std::borrow::Cow;

use super::checkpoint::Checkpoint;
use super::config::{Config, Family};
use crate::gguf::entries::Entries;
use crate::limits::{
    CHAT_TEMPLATE_BYTES_MAX, SENTENCEPIECE_BYTES_MAX, TOKENIZER_BYTES_MAX,
    TOKENIZER_CONFIG_BYTES_MAX,
};
use crate::variant::LayoutError;
use json::{AddedToken, TokenizerConfig, TokenizerJson};

const JSON: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SENTENCEPIECE: &str = "tokenizer.model";
const ADDED: &str = "added_tokens.json";
const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATE_JSON: &str = "chat_template.json";

/// How much of a file with this name is read; nothing for one that is not.
pub(super) fn bytes_max(name: &str) -> Option<u64> {
    match name {
        JSON => Some(TOKENIZER_BYTES_MAX),
        SENTENCEPIECE => Some(SENTENCEPIECE_BYTES_MAX),
        CONFIG | ADDED => Some(TOKENIZER_CONFIG_BYTES_MAX),
        TEMPLATE | TEMPLATE_JSON => Some(CHAT_TEMPLATE_BYTES_MAX),
        _ => None,
    }
}

/// What llama.cpp takes a token for: `llama_token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A token of the vocabulary.
#[derive(Debug, Clone)]
struct Token<'t> {
    text: Cow<'t, str>,
    kind: Kind,
    /// How early it is merged: the larger, the earlier. Read for SentencePiece alone.
    score: f32,
}

/// Scores of tokens that no merge makes, as the converter of llama.cpp gives them.
const SCORE_ADDED: f32 = -1000.0;
const SCORE_UNUSED: f32 = -10_000.0;

/// As many unused tokens as the embedding has rows.
fn unused<'t>(count: u32) -> Vec<Token<'t>> {
    let token = |id| Token {
        text: format!("[PAD{id}]").into(),
        kind: Kind::Unused,
        score: SCORE_UNUSED,
    };
    (0..count).map(token).collect()
}

impl<'t> Token<'t> {
    /// A token that was added to the vocabulary, with the text that it stands for.
    fn added(text: Cow<'t, str>, special: bool) -> Self {
        let kind = if special || looks_special(&text) {
            Kind::Control
        } else {
            Kind::UserDefined
        };
        // llama.cpp looks for what a user wrote, where a space is a space.
        let text = if kind == Kind::UserDefined && text.contains(SPACE) {
            text.replace(SPACE, " ").into()
        } else {
            text
        };
        Self {
            text,
            kind,
            score: SCORE_ADDED,
        }
    }
}

/// What SentencePiece writes a space as.
const SPACE: char = '\u{2581}';

/// Whether a token that is not marked as special is one all the same, by its spelling.
fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| {
        text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
    };
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<\u{ff5c}", "\u{ff5c}>")
        || between("<unused", ">")
}

/// An error of one of the files.
fn wrong(path: &str, cause: impl ToString) -> LayoutError {
    LayoutError::File {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// Adds the keys of the tokenizer. The order is part of the format.
pub(super) fn put(
    entries: &mut Entries,
    checkpoint: &Checkpoint<'_>,
    config: &Config,
) -> Result<(), LayoutError> {
    let read = |name: &str| checkpoint.small(name, bytes_max(name).unwrap_or(0));
    let json = read(JSON)?.map(TokenizerJson::parse).transpose()?;
    let settings = match read(CONFIG)? {
        Some(bytes) => TokenizerConfig::parse(bytes)?,
        None => TokenizerConfig::default(),
    };
    let model = read(SENTENCEPIECE)?;
    let has_pieces = match (&json, model) {
        (_, Some(_)) => true,
        (Some(json), None) => json.model.byte_fallback,
        (None, None) => return Err(wrong(JSON, "it is missing")),
    };
    let added = json.as_ref().map_or(&[][..], |json| &json.added_tokens.0);
    let special = special::Special::find(json.as_ref(), &settings, config)?;
    let mut space_prefix = None;
    if has_pieces {
        let tokens = match (model, &json) {
            (Some(bytes), _) => {
                let legacy = match read(ADDED)? {
                    Some(bytes) => json::legacy_added(bytes)?,
                    None => Vec::new(),
                };
                let later = settings.added_tokens.iter();
                sentencepiece::tokens(bytes, config.vocab, &legacy, later, added)?
            }
            (None, Some(json)) => {
                json.model.check_bpe()?;
                pieces_of_json(json, &settings, config.vocab)?
            }
            (None, None) => unreachable!("one of them holds the pieces"),
        };
        entries.text("tokenizer.ggml.model", "llama");
        entries.text("tokenizer.ggml.pre", "default");
        put_tokens(entries, &tokens, true);
        space_prefix = match config.family {
            Family::Gemma3 => Some(false),
            Family::Llama => settings.add_prefix_space,
            Family::Qwen2 | Family::Qwen3 => None,
        };
        if let (None, None, Some(json)) = (space_prefix, model, &json) {
            space_prefix = Some(parts::adds_space(json)?);
        }
    } else if let Some(json) = &json {
        json.model.check_bpe()?;
        let name = pretokenizer::name(json, special.id("bos"))?;
        let tokens = byte_level::tokens(json, &settings, config.vocab)?;
        entries.text("tokenizer.ggml.model", "gpt2");
        entries.text("tokenizer.ggml.pre", name);
        put_tokens(entries, &tokens, false);
        let merges: Vec<_> = json.model.merges.0.iter().map(json::Merge::text).collect();
        entries.texts("tokenizer.ggml.merges", merges.iter().map(AsRef::as_ref));
    }
    special.put(entries, config);
    if let Some(adds) = space_prefix {
        entries.bool("tokenizer.ggml.add_space_prefix", adds);
    }
    let template = match settings.chat_template()? {
        Some(template) => Some(template),
        None => match read(TEMPLATE)? {
            Some(bytes) => Some(
                String::from_utf8(bytes.to_vec()).map_err(|_| wrong(TEMPLATE, "it is no UTF-8"))?,
            ),
            None => match read(TEMPLATE_JSON)? {
                Some(bytes) => json::template_file(bytes)?,
                None => None,
            },
        },
    };
    if let Some(template) = template {
        entries.text("tokenizer.chat_template", &template);
    }
    Ok(())
}

fn put_tokens(entries: &mut Entries, tokens: &[Token<'_>], scored: bool) {
    entries.texts(
        "tokenizer.ggml.tokens",
        tokens.iter().map(|token| token.text.as_ref()),
    );
    if scored {
        let scores: Vec<_> = tokens.iter().map(|token| token.score).collect();
        entries.f32s("tokenizer.ggml.scores", &scores);
    }
    let kinds: Vec<_> = tokens.iter().map(|token| token.kind as i32).collect();
    entries.i32s("tokenizer.ggml.token_type", &kinds);
}

/// Pieces out of `tokenizer.json` alone. A piece has minus the rank of the first merge that makes it for a score, so
/// that llama.cpp merges in the order of the file. (Its own converter gives all of them the same score, with which
/// text is cut otherwise than the model learned.)
fn pieces_of_json<'t>(
    json: &TokenizerJson<'t>,
    settings: &TokenizerConfig<'t>,
    vocab: u32,
) -> Result<Vec<Token<'t>>, LayoutError> {
    let mut ranks = std::collections::HashMap::new();
    let mut made = String::new();
    for (rank, merge) in (0_u32..).zip(&json.model.merges.0) {
        made.clear();
        merge.join(&mut made);
        if !ranks.contains_key(made.as_str()) {
            ranks.insert(made.clone(), rank);
        }
    }
    let last = u32::try_from(json.model.merges.0.len()).expect("merges are bounded");
    let mut tokens = unused(vocab);
    for (text, id) in &json.model.vocab.0 {
        let Some(token) = tokens.get_mut(*id as usize) else {
            return Err(wrong(
                JSON,
                format!("token {id} is not in a vocabulary of {vocab}"),
            ));
        };
        let rank = ranks.get(text.as_ref()).copied().unwrap_or(last);
        *token = Token {
            kind: if is_byte(text) {
                Kind::Byte
            } else if json.model.unk_token.as_deref() == Some(text) {
                Kind::Unknown
            } else {
                Kind::Normal
            },
            text: text.clone(),
            score: -super::config::single(rank.into()),
        };
    }
    let added = json.added_tokens.0.iter().chain(&settings.added_tokens);
    for AddedToken {
        id,
        content,
        special,
        ..
    } in added
    {
        // Models of text alone come with a tokenizer that knows images too.
        if let Some(token) = tokens.get_mut(*id as usize) {
            *token = Token::added(content.clone(), *special);
        }
    }
    Ok(tokens)
}

/// Whether a piece is one of the 256 bytes: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    text.strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}
