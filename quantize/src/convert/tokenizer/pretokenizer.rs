//! The name that llama.cpp has for a pre-tokenizer, found as its converter finds it: by the ids of a test text.
//!
//! The table holds the SHA-256 of the ids of tokenizers that llama.cpp knows. The text is encoded here by a small
//! encoder of our own: the crate `tokenizers` is not made for hostile files, and brings forty crates.
//! Some loaders add tokens at the ends whatever the file says, so that the ids are looked up with the tokens that the
//! file adds, without any, and after the first token of a text; a hash that is found names the same tokenizer.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::byte_level::Encoder;
use super::json::TokenizerJson;
use super::{JSON, wrong};
use crate::variant::LayoutError;

/// One line a hash: the SHA-256 in hexadecimal, and the name.
const TABLE: &str = include_str!("pretokenizers.txt");

/// The text of `get_vocab_base_pre` in `conversion/base.py` of llama.cpp: what tokenizers split in different ways.
const TEST_TEXT: &str = "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u{200d}🌫\u{fe0f} (multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL";

/// # Errors
/// The tokenizer is none that llama.cpp knows, or cannot be run here.
pub(super) fn name(
    json: &TokenizerJson<'_>,
    first: Option<u32>,
) -> Result<&'static str, LayoutError> {
    if json
        .added_tokens
        .0
        .iter()
        .any(|token| !token.content.is_empty() && TEST_TEXT.contains(token.content.as_ref()))
    {
        return Err(wrong(
            JSON,
            "its pre-tokenizer is not known: the test text holds an added token",
        ));
    }
    let ids = Encoder::new(json)?.encode(TEST_TEXT)?;
    let (before, after) = template(&json.post_processor()?)?;
    let whole: Vec<_> = before.iter().chain(&ids).chain(&after).copied().collect();
    let begun: Vec<_> = first.iter().chain(&ids).copied().collect();
    [&whole, &ids, &begun]
        .into_iter()
        .find_map(|ids| look_up(&hash(ids)))
        .ok_or_else(|| {
            wrong(
                JSON,
                format!(
                    "its pre-tokenizer is not known to llama.cpp (the ids of the test text have the hash {})",
                    hash(&whole)
                ),
            )
        })
}

fn look_up(hash: &str) -> Option<&'static str> {
    TABLE.lines().find_map(|line| {
        let (known, name) = line.split_once(' ')?;
        (known == hash).then_some(name)
    })
}

/// The SHA-256 of ids as Python prints a list.
fn hash(ids: &[u32]) -> String {
    let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
    let digest = Sha256::digest(format!("[{}]", ids.join(", ")));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ids that a post-processor puts before and after a text.
fn template(processor: &Value) -> Result<(Vec<u32>, Vec<u32>), LayoutError> {
    let mut ids = (Vec::new(), Vec::new());
    for part in processors(processor) {
        if part.get("type").and_then(Value::as_str) != Some("TemplateProcessing") {
            continue;
        }
        let mut after = false;
        let single = part.get("single").and_then(Value::as_array);
        for step in single.into_iter().flatten() {
            let Some(special) = step.get("SpecialToken") else {
                after = true;
                continue;
            };
            let found = special.get("id").and_then(Value::as_str).and_then(|id| {
                let list = part
                    .get("special_tokens")?
                    .get(id)?
                    .get("ids")?
                    .as_array()?;
                list.iter()
                    .map(|id| id.as_u64()?.try_into().ok())
                    .collect::<Option<Vec<u32>>>()
            });
            let found = found.ok_or_else(|| wrong(JSON, "its template has a token without ids"))?;
            if after {
                ids.1.extend(found);
            } else {
                ids.0.extend(found);
            }
        }
    }
    Ok(ids)
}

/// The parts of a post-processor.
pub(super) fn processors(processor: &Value) -> &[Value] {
    match processor.get("processors").and_then(Value::as_array) {
        Some(list) => list,
        None if processor.is_null() => &[],
        None => std::slice::from_ref(processor),
    }
}
