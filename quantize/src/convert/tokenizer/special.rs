//! Which tokens begin, end and fill a text, and which of them a tokenizer adds by itself.
//!
//! `tokenizer_config.json` names them by their text, `config.json` by their id; the first has precedence. Whether one
//! is added follows from the template of `tokenizer.json`, else from the flags of `tokenizer_config.json`.

use serde_json::Value;

use super::json::{TokenizerConfig, TokenizerJson};
use super::pretokenizer::processors;
use crate::convert::config::{Config, Family};
use crate::gguf::entries::Entries;
use crate::variant::LayoutError;

/// The names in the files, and in the keys of GGUF, in the order of the keys.
const NAMES: &[(&str, &str)] = &[
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("cls", ""),
    ("mask", "mask"),
    ("eot", "eot"),
    ("eom", "eom"),
];
/// Those that a tokenizer may add.
const ADDED: &[&str] = &["bos", "eos", "sep"];

/// The special tokens.
#[derive(Debug, Default)]
pub(super) struct Special {
    /// Id of each of [`NAMES`].
    ids: [Option<u32>; NAMES.len()],
    /// Whether each of [`ADDED`] is added.
    adds: [Option<bool>; ADDED.len()],
}

/// Texts of tokens while the files are read, by the positions of [`NAMES`].
struct Texts([Option<String>; NAMES.len()]);

fn position(name: &str) -> usize {
    NAMES
        .iter()
        .position(|(known, _)| *known == name)
        .expect("names are those of the table")
}

impl Texts {
    fn of(&mut self, name: &str) -> &mut Option<String> {
        &mut self.0[position(name)]
    }

    fn is(&self, name: &str, text: Option<&str>) -> bool {
        text.is_some() && self.0[position(name)].as_deref() == text
    }
}

const BOS: usize = 0;
const EOS: usize = 1;
const SEP: usize = 2;

impl Special {
    pub(super) fn find(
        json: Option<&TokenizerJson<'_>>,
        settings: &TokenizerConfig<'_>,
        config: &Config,
    ) -> Result<Self, LayoutError> {
        let mut special = Self::default();
        let mut texts = Texts(Default::default());
        for (name, _) in NAMES {
            *texts.of(name) = settings.token(name)?;
        }
        for (missing, instead) in [("bos", "cls"), ("eos", "sep")] {
            if texts.of(missing).is_none() {
                *texts.of(missing) = texts.of(instead).clone();
            }
        }
        if let Some(json) = json {
            for processor in processors(&json.post_processor()?) {
                special.read_processor(processor, &mut texts);
            }
        }
        for (at, name) in ADDED.iter().enumerate() {
            special.adds[at] = special.adds[at].or_else(|| settings.adds(name));
        }
        let added = json.into_iter().flat_map(|json| &json.added_tokens.0);
        let added: Vec<_> = added.chain(&settings.added_tokens).collect();
        for (at, text) in texts.0.iter().enumerate() {
            let named = text.as_ref().and_then(|text| {
                let token = added.iter().find(|token| token.content == *text)?;
                Some(token.id)
            });
            let configured = config.special.iter().find(|(name, _)| name == NAMES[at].0);
            let id = named.filter(|&id| id < config.vocab);
            let configured = configured
                .map(|(_, id)| *id)
                .filter(|&id| id < config.vocab);
            special.ids[at] = id.or(configured);
        }
        // The small granite models, and smollm with them, have this vocabulary, and never a first token.
        if config.family == Family::Llama && config.vocab == 49_152 {
            special.adds[BOS] = Some(false);
        }
        Ok(special)
    }

    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.ids[position(name)]
    }

    fn read_processor(&mut self, processor: &Value, texts: &mut Texts) {
        match processor.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => {
                self.adds[BOS].get_or_insert(false);
                self.adds[EOS].get_or_insert(false);
            }
            Some("TemplateProcessing") => self.read_template(processor, texts),
            _ => {}
        }
    }

    /// A template lists what stands before and after the text, of one text and of two.
    fn read_template(&mut self, processor: &Value, texts: &mut Texts) {
        let list = |key: &str| {
            let list = processor.get(key).and_then(Value::as_array);
            list.map_or(&[][..], Vec::as_slice)
        };
        let single = list("single");
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = single.first().and_then(special_of);
            last = single.last().and_then(special_of);
        }
        if let Some(text) = first {
            if !texts.is("bos", first) && !texts.is("cls", first) {
                for name in ["bos", "cls"] {
                    texts.of(name).get_or_insert_with(|| text.to_owned());
                }
            }
            self.adds[BOS] = Some(texts.is("bos", first) || texts.is("cls", first));
        }
        if let Some(text) = last {
            if !texts.is("eos", last) {
                // What ended a text until now ends a turn.
                let before = texts.of("eos").replace(text.to_owned());
                let name = if texts.of("eot").is_none() {
                    "eot"
                } else {
                    "eom"
                };
                *texts.of(name) = before;
            }
            self.adds[EOS] = Some(true);
        }
        self.read_pair(list("pair"), first, last, texts);
    }

    /// Whether two texts have a separator between them.
    fn read_pair(
        &mut self,
        pair: &[Value],
        first: Option<&str>,
        last: Option<&str>,
        texts: &mut Texts,
    ) {
        let same = |step: Option<&Value>, text: Option<&str>| {
            text.is_some() && step.and_then(special_of) == text
        };
        let start = usize::from(same(pair.first(), first));
        let end = pair.len() - usize::from(same(pair.last(), last));
        let Some([before, between @ .., after]) = pair.get(start..end) else {
            return;
        };
        if between.is_empty() || text_of(before) != Some("A") || text_of(after) != Some("B") {
            return;
        }
        let separates = |step: Option<&str>| texts.is("sep", step) || texts.is("eos", step);
        let adds = separates(special_of(&between[0])) && last.is_none()
            || between.len() == 2 && separates(special_of(&between[1]));
        self.adds[SEP] = Some(adds);
        if adds && texts.of("sep").is_none() {
            *texts.of("sep") = texts.of("eos").clone();
        }
    }

    pub(super) fn put(&self, entries: &mut Entries, config: &Config) {
        for ((_, key), id) in NAMES.iter().zip(self.ids) {
            if let Some(id) = id
                && !key.is_empty()
            {
                entries.u32(&format!("tokenizer.ggml.{key}_token_id"), id);
            }
        }
        // Code llama fills in the middle; its files do not say with which tokens.
        if config.family == Family::Llama && config.vocab == 32_016 {
            for (key, id) in [("prefix", 32_007), ("suffix", 32_008), ("middle", 32_009)] {
                entries.u32(&format!("tokenizer.ggml.{key}_token_id"), id);
            }
            if self.id("eot").is_none() {
                entries.u32("tokenizer.ggml.eot_token_id", 32_010);
            }
        }
        for (name, adds) in ADDED.iter().zip(self.adds) {
            if let Some(adds) = adds {
                entries.bool(&format!("tokenizer.ggml.add_{name}_token"), adds);
            }
        }
    }
}

/// The special token of a step of a template.
fn special_of(step: &Value) -> Option<&str> {
    step.get("SpecialToken")?.get("id")?.as_str()
}

/// The text of a step of a template.
fn text_of(step: &Value) -> Option<&str> {
    step.get("Sequence")?.get("id")?.as_str()
}
