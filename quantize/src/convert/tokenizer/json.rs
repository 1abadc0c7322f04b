//! `tokenizer.json`, `tokenizer_config.json` and their like, as far as they are read.
//!
//! They are the longest files that a layout reads, and hostile like any other: vocabulary, merges and added tokens are
//! read into lists that are bounded while they grow; what else a file holds is kept as a slice of it until a part is
//! asked for, which then has a bound of its own.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ADDED, CONFIG, JSON, TEMPLATE_JSON, wrong};
use crate::limits::{CHAT_TEMPLATE_BYTES_MAX, MERGES_MAX, TOKENIZER_PART_BYTES_MAX, TOKENS_MAX};
use crate::variant::LayoutError;

/// Text that is borrowed where the file spells it without escapes.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'t>(#[serde(borrow)] pub(super) Cow<'t, str>);

/// `tokenizer.json`.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerJson<'t> {
    #[serde(borrow, default)]
    pub(super) added_tokens: List<AddedToken<'t>>,
    #[serde(borrow)]
    normalizer: Option<&'t RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'t RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'t RawValue>,
    #[serde(borrow)]
    decoder: Option<&'t RawValue>,
    #[serde(borrow)]
    pub(super) model: Model<'t>,
}

/// A token that is looked for before text is split.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AddedToken<'t> {
    /// Not spelled in `tokenizer_config.json`, where it is the key.
    #[serde(default)]
    pub(super) id: u32,
    #[serde(borrow)]
    pub(super) content: Cow<'t, str>,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) normalized: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model<'t> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Cow<'t, str>>,
    #[serde(borrow)]
    pub(super) vocab: Vocabulary<'t>,
    #[serde(borrow, default)]
    pub(super) merges: List<Merge<'t>>,
    #[serde(borrow, default)]
    pub(super) unk_token: Option<Text<'t>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) byte_fallback: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) ignore_merges: bool,
    #[serde(borrow, default)]
    continuing_subword_prefix: Option<Text<'t>>,
    #[serde(borrow, default)]
    end_of_word_suffix: Option<Text<'t>>,
}

impl Model<'_> {
    /// Whether it is BPE as llama.cpp knows it.
    pub(super) fn check_bpe(&self) -> Result<(), LayoutError> {
        let kind = self.kind.as_deref().unwrap_or("BPE");
        if kind != "BPE" {
            let kind: String = kind.chars().take(32).collect();
            return Err(wrong(
                JSON,
                format!("a model of the type {kind:?} is not converted; BPE is"),
            ));
        }
        let affixes = [&self.continuing_subword_prefix, &self.end_of_word_suffix];
        if affixes
            .into_iter()
            .flatten()
            .any(|affix| !affix.0.is_empty())
        {
            return Err(wrong(
                JSON,
                "BPE with prefixes or suffixes of words is not converted",
            ));
        }
        Ok(())
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

fn null_is_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A bounded list.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<List<T>, E> {
                Ok(List(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = from.next_element()? {
                    if list.len() == MERGES_MAX {
                        return Err(A::Error::custom(format_args!(
                            "a list has more than {MERGES_MAX} elements"
                        )));
                    }
                    list.push(element);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

/// Tokens with their ids, in the order of the file.
#[derive(Debug)]
pub(super) struct Vocabulary<'t>(pub(super) Vec<(Cow<'t, str>, u32)>);

impl<'de: 't, 't> Deserialize<'de> for Vocabulary<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens<'t>(PhantomData<&'t ()>);
        impl<'de: 't, 't> Visitor<'de> for Tokens<'t> {
            type Value = Vocabulary<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their ids")
            }

            /// Of another type of model, which is refused later by its name.
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                while from.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocabulary(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some((text, id)) = from.next_entry::<Text<'t>, u32>()? {
                    if tokens.len() == TOKENS_MAX as usize {
                        return Err(A::Error::custom(format_args!(
                            "there are more than {TOKENS_MAX} tokens"
                        )));
                    }
                    tokens.push((text.0, id));
                }
                Ok(Vocabulary(tokens))
            }
        }
        deserializer.deserialize_any(Tokens(PhantomData))
    }
}

/// Two tokens that become one: `"a b"`, or `["a", "b"]` in newer files.
#[derive(Debug)]
pub(super) enum Merge<'t> {
    Line(Cow<'t, str>),
    Pair(Cow<'t, str>, Cow<'t, str>),
}

impl<'de: 't, 't> Deserialize<'de> for Merge<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<'t>(PhantomData<&'t ()>);
        impl<'de: 't, 't> Visitor<'de> for Either<'t> {
            type Value = Merge<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge of two tokens")
            }

            fn visit_borrowed_str<E>(self, line: &'de str) -> Result<Self::Value, E> {
                Ok(Merge::Line(Cow::Borrowed(line)))
            }

            fn visit_str<E>(self, line: &str) -> Result<Self::Value, E> {
                Ok(Merge::Line(Cow::Owned(line.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let two = || A::Error::custom("a merge is of two tokens");
                let first: Text<'t> = from.next_element()?.ok_or_else(two)?;
                let second: Text<'t> = from.next_element()?.ok_or_else(two)?;
                match from.next_element::<IgnoredAny>()? {
                    None => Ok(Merge::Pair(first.0, second.0)),
                    Some(_) => Err(two()),
                }
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl Merge<'_> {
    /// Both tokens; a line without a space has an empty second one.
    pub(super) fn pair(&self) -> (&str, &str) {
        match self {
            Self::Line(line) => line.split_once(' ').unwrap_or((line, "")),
            Self::Pair(first, second) => (first, second),
        }
    }

    /// Adds the token that it makes.
    pub(super) fn join(&self, out: &mut String) {
        let (first, second) = self.pair();
        out.push_str(first);
        out.push_str(second);
    }

    /// As GGUF spells it: with a space between, so that spaces inside become the letter that stands for them.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Line(line) => Cow::Borrowed(line),
            Self::Pair(first, second) => {
                let spelled = |text: &str| text.replace(' ', "\u{120}");
                format!("{} {}", spelled(first), spelled(second)).into()
            }
        }
    }
}

impl<'t> TokenizerJson<'t> {
    pub(super) fn parse(bytes: &'t [u8]) -> Result<Self, LayoutError> {
        serde_json::from_slice(bytes).map_err(|error| wrong(JSON, error))
    }

    pub(super) fn normalizer(&self) -> Result<Value, LayoutError> {
        part(JSON, "normalizer", self.normalizer)
    }

    pub(super) fn pre_tokenizer(&self) -> Result<Value, LayoutError> {
        part(JSON, "pre_tokenizer", self.pre_tokenizer)
    }

    pub(super) fn post_processor(&self) -> Result<Value, LayoutError> {
        part(JSON, "post_processor", self.post_processor)
    }

    pub(super) fn decoder(&self) -> Result<Value, LayoutError> {
        part(JSON, "decoder", self.decoder)
    }
}

/// A part of a file as a value; `null` where there is none.
fn part(path: &str, name: &str, raw: Option<&RawValue>) -> Result<Value, LayoutError> {
    parse_bounded(path, name, raw, TOKENIZER_PART_BYTES_MAX)
}

fn parse_bounded(
    path: &str,
    name: &str,
    raw: Option<&RawValue>,
    bytes_max: usize,
) -> Result<Value, LayoutError> {
    let Some(raw) = raw else {
        return Ok(Value::Null);
    };
    if raw.get().len() > bytes_max {
        return Err(wrong(
            path,
            format!(
                "{name:?} has {} bytes, more than {bytes_max}",
                raw.get().len()
            ),
        ));
    }
    serde_json::from_str(raw.get()).map_err(|error| wrong(path, error))
}

/// `tokenizer_config.json`.
#[derive(Debug, Default)]
pub(super) struct TokenizerConfig<'t> {
    parts: RawConfig<'t>,
    pub(super) added_tokens: Vec<AddedToken<'t>>,
    pub(super) add_prefix_space: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawConfig<'t> {
    #[serde(borrow)]
    added_tokens_decoder: AddedTokens<'t>,
    #[serde(borrow)]
    add_prefix_space: Option<&'t RawValue>,
    #[serde(borrow)]
    chat_template: Option<&'t RawValue>,
    #[serde(borrow)]
    bos_token: Option<&'t RawValue>,
    #[serde(borrow)]
    eos_token: Option<&'t RawValue>,
    #[serde(borrow)]
    unk_token: Option<&'t RawValue>,
    #[serde(borrow)]
    sep_token: Option<&'t RawValue>,
    #[serde(borrow)]
    pad_token: Option<&'t RawValue>,
    #[serde(borrow)]
    cls_token: Option<&'t RawValue>,
    #[serde(borrow)]
    mask_token: Option<&'t RawValue>,
    #[serde(borrow)]
    add_bos_token: Option<&'t RawValue>,
    #[serde(borrow)]
    add_eos_token: Option<&'t RawValue>,
    #[serde(borrow)]
    add_sep_token: Option<&'t RawValue>,
}

/// Added tokens under their ids, which are text.
#[derive(Debug, Default)]
struct AddedTokens<'t>(Vec<AddedToken<'t>>);

impl<'de: 't, 't> Deserialize<'de> for AddedTokens<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ById<'t>(PhantomData<&'t ()>);
        impl<'de: 't, 't> Visitor<'de> for ById<'t> {
            type Value = AddedTokens<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("added tokens by id")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(AddedTokens(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some(id) = from.next_key::<Text<'t>>()? {
                    let id = id.parse().map_err(A::Error::custom)?;
                    let mut token: AddedToken<'t> = from.next_value()?;
                    token.id = id;
                    if tokens.len() == TOKENS_MAX as usize {
                        return Err(A::Error::custom(format_args!(
                            "there are more than {TOKENS_MAX} added tokens"
                        )));
                    }
                    tokens.push(token);
                }
                Ok(AddedTokens(tokens))
            }
        }
        deserializer.deserialize_any(ById(PhantomData))
    }
}

impl<'t> TokenizerConfig<'t> {
    pub(super) fn parse(bytes: &'t [u8]) -> Result<Self, LayoutError> {
        let mut parts: RawConfig<'t> =
            serde_json::from_slice(bytes).map_err(|error| wrong(CONFIG, error))?;
        Ok(Self {
            added_tokens: std::mem::take(&mut parts.added_tokens_decoder).0,
            add_prefix_space: flag(parts.add_prefix_space),
            parts,
        })
    }

    /// The text of the special token of this name.
    pub(super) fn token(&self, name: &str) -> Result<Option<String>, LayoutError> {
        let raw = match name {
            "bos" => self.parts.bos_token,
            "eos" => self.parts.eos_token,
            "unk" => self.parts.unk_token,
            "sep" => self.parts.sep_token,
            "pad" => self.parts.pad_token,
            "cls" => self.parts.cls_token,
            "mask" => self.parts.mask_token,
            _ => None,
        };
        let value = part(CONFIG, name, raw)?;
        let text = value.as_str().or_else(|| value.get("content")?.as_str());
        Ok(text.filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// Whether it says that this token is added to every text.
    pub(super) fn adds(&self, name: &str) -> Option<bool> {
        flag(match name {
            "bos" => self.parts.add_bos_token,
            "eos" => self.parts.add_eos_token,
            "sep" => self.parts.add_sep_token,
            _ => None,
        })
    }

    /// The template, or the default one of several.
    pub(super) fn chat_template(&self) -> Result<Option<String>, LayoutError> {
        let bytes_max = usize::try_from(CHAT_TEMPLATE_BYTES_MAX).unwrap_or(usize::MAX);
        let value = parse_bounded(CONFIG, "chat_template", self.parts.chat_template, bytes_max)?;
        Ok(default_template(&value))
    }
}

fn flag(raw: Option<&RawValue>) -> Option<bool> {
    match raw?.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn default_template(value: &Value) -> Option<String> {
    let named = |list: &Vec<Value>| {
        let default = list
            .iter()
            .find(|choice| choice.get("name").and_then(Value::as_str) == Some("default"))?;
        Some(default.get("template")?.as_str()?.to_owned())
    };
    match value {
        Value::String(template) => Some(template.clone()),
        Value::Array(list) => named(list),
        _ => None,
    }
}

/// The template of `chat_template.json`.
pub(super) fn template_file(bytes: &[u8]) -> Result<Option<String>, LayoutError> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(TEMPLATE_JSON, error))?;
    Ok(value.get("chat_template").and_then(default_template))
}

/// The tokens of `added_tokens.json`, which older checkpoints have.
pub(super) fn legacy_added(bytes: &[u8]) -> Result<Vec<(Cow<'_, str>, u32)>, LayoutError> {
    let tokens: Vocabulary<'_> =
        serde_json::from_slice(bytes).map_err(|error| wrong(ADDED, error))?;
    Ok(tokens.0)
}
