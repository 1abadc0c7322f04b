//! A small model in the shape of a real one: a sharded BF16 Llama with its index and small files.
//!
//! Values are pseudo-random from a fixed seed, in the range of trained weights, so every run of the
//! demonstration makes the same bytes, and no two chunks are equal.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

const HIDDEN: u64 = 768;
const INTERMEDIATE: u64 = 2048;
const KEY_VALUE: u64 = 256;
const VOCABULARY: u64 = 8192;
const LAYERS: u64 = 4;
const SHARDS: usize = 3;

/// Bytes of a BF16 value.
const VALUE_BYTES: u64 = 2;

/// One tensor of the model.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    shape: Vec<u64>,
    seed: u64,
}

impl Tensor {
    fn size(&self) -> u64 {
        self.shape.iter().product::<u64>() * VALUE_BYTES
    }

    /// The tensor's bytes: BF16 values between 2^-7 and 2^-3, of either sign.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut state = self.seed;
        let mut bytes = Vec::new();
        let values = self.size() / 8;
        bytes.reserve(usize::try_from(self.size()).unwrap_or(0));
        for _ in 0..values {
            // SplitMix64 (Steele, Lea and Flood 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            // Four values: sign, low exponent bits and mantissa are random, the exponent's top is set.
            let four = (z & 0x81ff_81ff_81ff_81ff) | 0x3c00_3c00_3c00_3c00;
            bytes.extend_from_slice(&four.to_le_bytes());
        }
        bytes
    }
}

/// The tensors of the model, in order.
pub(super) fn tensors() -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[u64]| {
        let seed = tensors.len() as u64 + 1;
        tensors.push(Tensor {
            name,
            shape: shape.to_vec(),
            seed: seed << 32,
        });
    };
    add(
        "model.embed_tokens.weight".to_owned(),
        &[VOCABULARY, HIDDEN],
    );
    for layer in 0..LAYERS {
        let mut weight =
            |part: &str, shape: &[u64]| add(format!("model.layers.{layer}.{part}.weight"), shape);
        weight("input_layernorm", &[HIDDEN]);
        weight("self_attn.q_proj", &[HIDDEN, HIDDEN]);
        weight("self_attn.k_proj", &[KEY_VALUE, HIDDEN]);
        weight("self_attn.v_proj", &[KEY_VALUE, HIDDEN]);
        weight("self_attn.o_proj", &[HIDDEN, HIDDEN]);
        weight("post_attention_layernorm", &[HIDDEN]);
        weight("mlp.gate_proj", &[INTERMEDIATE, HIDDEN]);
        weight("mlp.up_proj", &[INTERMEDIATE, HIDDEN]);
        weight("mlp.down_proj", &[HIDDEN, INTERMEDIATE]);
    }
    add("model.norm.weight".to_owned(), &[HIDDEN]);
    tensors
}

/// Gives one tensor other values, as a round of fine-tuning would.
pub(super) fn tune(tensors: &mut [Tensor], name: &str) {
    for tensor in tensors.iter_mut().filter(|tensor| tensor.name == name) {
        tensor.seed = !tensor.seed;
    }
}

/// Writes the model to `dir`; returns the size of all files, bytes.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn write(dir: &Path, tensors: &[Tensor]) -> io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let total: u64 = tensors.iter().map(Tensor::size).sum();
    let mut weight_map = Map::new();
    let mut rest = tensors;
    for shard in 1..=SHARDS {
        // Shards of about the same size, the last one takes what is left.
        let mut taken = 0;
        let end = rest.iter().position(|tensor| {
            taken += tensor.size();
            shard < SHARDS && taken >= total / SHARDS as u64
        });
        let (these, later) = rest.split_at(end.map_or(rest.len(), |last| last + 1));
        rest = later;
        let file = format!("model-{shard:05}-of-{SHARDS:05}.safetensors");
        write_shard(&dir.join(&file), these)?;
        weight_map.extend(
            these
                .iter()
                .map(|tensor| (tensor.name.clone(), json!(file))),
        );
    }
    let small = [
        (
            "model.safetensors.index.json",
            json!({"metadata": {"total_size": total}, "weight_map": weight_map}),
        ),
        ("config.json", config()),
        ("tokenizer.json", tokenizer()),
    ];
    for (name, value) in small {
        std::fs::write(dir.join(name), serde_json::to_vec_pretty(&value)?)?;
    }
    std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum()
}

fn write_shard(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.size();
        header.insert(
            tensor.name.clone(),
            json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // The data starts at a multiple of 8 bytes, as other writers have it.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for tensor in tensors {
        out.write_all(&tensor.bytes())?;
    }
    out.flush()
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    })
}

fn tokenizer() -> Value {
    let vocabulary: Map<String, Value> = (0..VOCABULARY)
        .map(|id| (format!("t{id:04}"), json!(id)))
        .collect();
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0000"},
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_model_is_the_same_each_time_and_its_shards_parse() {
        let dir = tempfile::tempdir().unwrap();
        let tensors = tensors();
        let size = write(dir.path(), &tensors).unwrap();
        assert!((55_000_000..70_000_000).contains(&size), "{size}");
        let index = std::fs::read(dir.path().join("model.safetensors.index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        for tensor in [&tensors[0], &tensors[17], &tensors[tensors.len() - 1]] {
            let file = index["weight_map"][&tensor.name].as_str().unwrap();
            let bytes = std::fs::read(dir.path().join(file)).unwrap();
            let header =
                usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
            let parsed: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
            let at = |i: usize| {
                let offset = parsed[&tensor.name]["data_offsets"][i].as_u64().unwrap();
                8 + header + usize::try_from(offset).unwrap()
            };
            assert_eq!(bytes[at(0)..at(1)], tensor.bytes());
        }
        let shards: std::collections::BTreeSet<&str> = index["weight_map"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(shards.len(), SHARDS);
    }

    #[test]
    fn tuning_changes_one_tensor() {
        let before = tensors();
        let mut after = before.clone();
        tune(&mut after, "model.norm.weight");
        let changed: Vec<&str> = (before.iter().zip(&after))
            .filter(|(a, b)| a.seed != b.seed)
            .map(|(a, _)| a.name.as_str())
            .collect();
        assert_eq!(changed, ["model.norm.weight"]);
    }
}
