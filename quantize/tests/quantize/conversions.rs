//! GGUF variants of safetensors models hold the checkpoint's weights, under the names and in the order that llama.cpp wants.
//!
//! Without this, a converted model would load and talk nonsense: query and key rows in the wrong order, norms that miss
//! their one, a tensor that nobody asked for. The expected rows are computed here on their own, from the definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::models::{Random, source};
use lode_quantize::variant::{FileBytes, LayoutError, layout};
use lode_quantize::{Gathered, Mixture, Recipe, VirtualFile};
use lode_tensors::{ByteRange, Dtype, Header};

const HIDDEN: u64 = 64;
const FFN: u64 = 96;
const VOCAB: u64 = 270;
const HEADS: u64 = 4;
const KV_HEADS: u64 = 2;
const HEAD: u64 = 16;

/// A folder of a checkpoint: file names and bytes.
struct Checkpoint(BTreeMap<String, Vec<u8>>);

/// A tokenizer with a fallback to bytes, as SentencePiece's are written.
fn tokenizer() -> Vec<u8> {
    let mut vocab = vec![
        "\"<unk>\":0".to_owned(),
        "\"<s>\":1".to_owned(),
        "\"</s>\":2".to_owned(),
    ];
    vocab.extend((0..256).map(|byte| format!("\"<0x{byte:02X}>\":{}", byte + 3)));
    vocab.extend(
        ["a", "b", "ab"]
            .iter()
            .zip(259..)
            .map(|(text, id)| format!("\"{text}\":{id}")),
    );
    let special = |id: u32, text: &str| {
        format!(
            r#"{{"id":{id},"content":"{text}","special":true,"normalized":false,"lstrip":false,"rstrip":false,"single_word":false}}"#
        )
    };
    let added = [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")].join(",");
    format!(
        r#"{{"added_tokens":[{added}],"model":{{"type":"BPE","byte_fallback":true,"unk_token":"<unk>","vocab":{{{}}},"merges":["a b"]}}}}"#,
        vocab.join(",")
    )
    .into_bytes()
}

fn shapes(architecture: &str, tied: bool) -> Vec<(String, Vec<u64>)> {
    let (q, kv) = (HEADS * HEAD, KV_HEADS * HEAD);
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN])];
    for layer in 0..2 {
        let mut add = |name: &str, shape: &[u64]| {
            all.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        add("self_attn.q_proj.weight", &[q, HIDDEN]);
        add("self_attn.k_proj.weight", &[kv, HIDDEN]);
        add("self_attn.v_proj.weight", &[kv, HIDDEN]);
        add("self_attn.o_proj.weight", &[HIDDEN, q]);
        add("mlp.gate_proj.weight", &[FFN, HIDDEN]);
        add("mlp.up_proj.weight", &[FFN, HIDDEN]);
        add("mlp.down_proj.weight", &[HIDDEN, FFN]);
        add("input_layernorm.weight", &[HIDDEN]);
        add("post_attention_layernorm.weight", &[HIDDEN]);
        if architecture == "Qwen2ForCausalLM" {
            add("self_attn.q_proj.bias", &[q]);
            add("self_attn.k_proj.bias", &[kv]);
            add("self_attn.v_proj.bias", &[kv]);
        }
        if matches!(architecture, "Qwen3ForCausalLM" | "Gemma3ForCausalLM") {
            add("self_attn.q_norm.weight", &[HEAD]);
            add("self_attn.k_norm.weight", &[HEAD]);
        }
        if architecture == "Gemma3ForCausalLM" {
            add("pre_feedforward_layernorm.weight", &[HIDDEN]);
            add("post_feedforward_layernorm.weight", &[HIDDEN]);
        }
    }
    all.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    if !tied {
        all.push(("lm_head.weight".to_owned(), vec![VOCAB, HIDDEN]));
    }
    all
}

/// Brain floats of random values, so that rows can be told apart.
fn safetensors(tensors: &[(String, Vec<u64>)]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::<u8>::new());
    for (name, shape) in tensors {
        let start = data.len();
        let seed = name
            .bytes()
            .fold(1_u64, |all, byte| all * 31 % 65_521 + u64::from(byte));
        let mut random = Random::new(seed);
        for _ in 0..shape.iter().product::<u64>() {
            let value = (random.below(2001) as f32 - 1000.0) / 4096.0;
            data.extend(&value.to_le_bytes()[2..]);
        }
        entries.push(format!(
            r#""{name}":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    let json = format!("{{{}}}", entries.join(","));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.into_bytes());
    bytes.extend(data);
    bytes
}

impl Checkpoint {
    fn new(architecture: &str, more: &str, tied: bool) -> Self {
        let kind = match architecture {
            "MistralForCausalLM" => "mistral",
            "Qwen2ForCausalLM" => "qwen2",
            "Qwen3ForCausalLM" => "qwen3",
            "Gemma3ForCausalLM" => "gemma3_text",
            _ => "llama",
        };
        let activation = match kind {
            "gemma3_text" => {
                r#""hidden_activation":"gelu_pytorch_tanh","query_pre_attn_scalar":16"#
            }
            _ => r#""hidden_act":"silu""#,
        };
        let config = format!(
            r#"{{"architectures":["{architecture}"],"model_type":"{kind}","hidden_size":{HIDDEN},"intermediate_size":{FFN},
            "num_hidden_layers":2,"num_attention_heads":{HEADS},"num_key_value_heads":{KV_HEADS},"head_dim":{HEAD},
            "vocab_size":{VOCAB},"max_position_embeddings":128,"rms_norm_eps":1e-5,"rope_theta":10000.0,
            "tie_word_embeddings":{tied},{activation}{more}}}"#
        );
        Self(BTreeMap::from([
            ("config.json".to_owned(), config.into_bytes()),
            ("tokenizer.json".to_owned(), tokenizer()),
            (
                "tokenizer_config.json".to_owned(),
                br#"{"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>"}"#.to_vec(),
            ),
            (
                "model.safetensors".to_owned(),
                safetensors(&shapes(architecture, tied)),
            ),
        ]))
    }

    fn files(&self) -> Vec<(&str, &[u8])> {
        self.0
            .iter()
            .map(|(path, bytes)| (path.as_str(), &bytes[..]))
            .collect()
    }

    fn lay_out(&self, name: &str) -> Result<Arc<VirtualFile>, LayoutError> {
        let recipe = Recipe::named(name, self.0.keys().map(String::as_str)).unwrap();
        let files = layout(&recipe, &source(&self.files()))?;
        match &files[0].bytes {
            FileBytes::Made(made) => Ok(Arc::clone(made)),
            FileBytes::Same(_) => panic!("a variant is made"),
        }
    }

    /// A range, made from nothing but the bytes that it needs.
    fn make(&self, made: &VirtualFile, range: ByteRange) -> Vec<u8> {
        let files = self.files();
        let needs = made.needs(range);
        let pieces = needs
            .iter()
            .map(|at| (*at, at.range.of(files[at.file].1).unwrap()));
        let mut out = vec![0; range.len() as usize];
        made.make(range, &Gathered::new(pieces), &mut out).unwrap();
        out
    }

    fn whole(&self, made: &VirtualFile) -> (Vec<u8>, Header) {
        let end = made.len();
        let bytes = self.make(made, ByteRange { start: 0, end });
        let header = lode_tensors::parse(&bytes, end).unwrap();
        (bytes, header)
    }

    /// The brain floats of a tensor of the checkpoint, in all of its files.
    fn source_of(&self, name: &str) -> Vec<u8> {
        let files = self
            .0
            .iter()
            .filter(|(path, _)| path.ends_with(".safetensors"));
        let mut found = files.filter_map(|(_, bytes)| {
            let header = lode_tensors::parse(bytes, bytes.len() as u64).unwrap();
            Some(header.tensor(name)?.range.of(bytes).unwrap().to_vec())
        });
        found.next().unwrap()
    }

    fn change(&mut self, file: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.0[file].clone()).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        self.0
            .insert(file.to_owned(), text.replace(from, to).into_bytes());
    }
}

fn singles(brain: &[u8], plus: f32) -> Vec<u8> {
    let value = |pair: &[u8]| f32::from_le_bytes([0, 0, pair[0], pair[1]]) + plus;
    brain
        .chunks(2)
        .flat_map(|pair| value(pair).to_le_bytes())
        .collect()
}

/// Of each head, rows `0, half, 1, half + 1, ..`.
fn paired(brain: &[u8], row_bytes: usize) -> Vec<u8> {
    let rows: Vec<&[u8]> = brain.chunks(row_bytes).collect();
    let half = HEAD as usize / 2;
    rows.chunks(HEAD as usize)
        .flat_map(|head| (0..half).flat_map(move |i| [head[i], head[half + i]]))
        .flatten()
        .copied()
        .collect()
}

const FAMILIES: &[(&str, &str, &str, bool)] = &[
    ("LlamaForCausalLM", "llama", "", false),
    (
        "MistralForCausalLM",
        "llama",
        r#","sliding_window":64"#,
        false,
    ),
    ("Qwen2ForCausalLM", "qwen2", "", true),
    ("Qwen3ForCausalLM", "qwen3", "", true),
    (
        "Gemma3ForCausalLM",
        "gemma3",
        r#","sliding_window":64"#,
        true,
    ),
];

#[test]
fn tensors_are_those_of_the_checkpoint_renamed_and_in_the_order_of_the_family() {
    for &(class, architecture, more, tied) in FAMILIES {
        let checkpoint = Checkpoint::new(class, more, tied);
        let made = checkpoint.lay_out("gguf-bf16").unwrap();
        let (bytes, header) = checkpoint.whole(&made);
        assert_eq!(header.metadata.architecture(), Some(architecture));
        assert_eq!(header.tensors.len(), shapes(class, tied).len(), "{class}");
        let of = |name: &str| {
            let tensor = header
                .tensor(name)
                .unwrap_or_else(|| panic!("{class}: no {name}"));
            (tensor.dtype, tensor.range.of(&bytes).unwrap().to_vec())
        };
        let same = |name: &str, from: &str| {
            assert!(
                of(name) == (Dtype::BF16, checkpoint.source_of(from)),
                "{class}: {name}"
            );
        };
        same("token_embd.weight", "model.embed_tokens.weight");
        same(
            "blk.1.attn_v.weight",
            "model.layers.1.self_attn.v_proj.weight",
        );
        same(
            "blk.0.ffn_down.weight",
            "model.layers.0.mlp.down_proj.weight",
        );
        assert_eq!(header.tensor("output.weight").is_some(), !tied);
        let rotated = architecture == "llama";
        for (name, from) in [("attn_q", "q_proj"), ("attn_k", "k_proj")] {
            let from = checkpoint.source_of(&format!("model.layers.1.self_attn.{from}.weight"));
            let expected = match rotated {
                true => paired(&from, HIDDEN as usize * 2),
                false => from,
            };
            let name = format!("blk.1.{name}.weight");
            assert!(of(&name) == (Dtype::BF16, expected), "{class}: {name}");
        }
        let plus = f32::from(architecture == "gemma3");
        let norm = checkpoint.source_of("model.layers.0.input_layernorm.weight");
        assert!(
            of("blk.0.attn_norm.weight") == (Dtype::F32, singles(&norm, plus)),
            "{class}"
        );
        if class == "Qwen2ForCausalLM" {
            let bias = checkpoint.source_of("model.layers.0.self_attn.q_proj.bias");
            assert!(of("blk.0.attn_q.bias") == (Dtype::F32, singles(&bias, 0.0)));
        }
    }
}

#[test]
fn every_precision_is_made_of_the_same_weights_and_any_range_is_that_part_of_the_whole() {
    let seed = 77;
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    for &(class, _, more, tied) in FAMILIES {
        let checkpoint = Checkpoint::new(class, more, tied);
        for mixture in Mixture::ALL {
            let name = match mixture.name() {
                name @ ("bf16" | "f16") => format!("gguf-{name}"),
                name => name.to_owned(),
            };
            let made = checkpoint.lay_out(&name).unwrap();
            let (bytes, header) = checkpoint.whole(&made);
            assert_eq!(header.tensors.len(), made.tensors().len(), "{class} {name}");
            for _ in 0..20 {
                let start = random.below(made.len());
                let end = (start + random.below(3000)).min(made.len());
                let range = ByteRange { start, end };
                let part = checkpoint.make(&made, range);
                assert_eq!(
                    Some(&part[..]),
                    range.of(&bytes),
                    "{class} {name} {start}..{end}"
                );
            }
        }
    }
}

#[test]
fn a_sharded_checkpoint_is_one_file_and_what_is_missing_is_named() {
    let whole = Checkpoint::new("LlamaForCausalLM", "", false);
    let tensors = shapes("LlamaForCausalLM", false);
    let (first, second) = tensors.split_at(9);
    let mut sharded = Checkpoint::new("LlamaForCausalLM", "", false);
    sharded.0.remove("model.safetensors");
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let mut map = Vec::new();
    for (name, part) in names.iter().zip([first, second]) {
        sharded.0.insert((*name).to_owned(), safetensors(part));
        map.extend(
            part.iter()
                .map(|(tensor, _)| format!(r#""{tensor}":"{name}""#)),
        );
    }
    let index = format!(r#"{{"metadata":{{}},"weight_map":{{{}}}}}"#, map.join(","));
    let path = "model.safetensors.index.json".to_owned();
    sharded.0.insert(path, index.into_bytes());
    let made = sharded.lay_out("q8_0").unwrap();
    let expected = whole.lay_out("q8_0").unwrap();
    assert!(sharded.whole(&made).0 == whole.whole(&expected).0);
    sharded.0.remove(names[1]);
    let error = sharded.lay_out("q8_0").unwrap_err().to_string();
    assert!(error.contains(names[1]), "{error}");

    let mut lacking = whole;
    let mut tensors = tensors;
    tensors.retain(|(name, _)| name != "model.layers.1.mlp.up_proj.weight");
    lacking
        .0
        .insert("model.safetensors".to_owned(), safetensors(&tensors));
    let error = lacking.lay_out("q8_0").unwrap_err().to_string();
    assert!(
        error.contains("model.layers.1.mlp.up_proj.weight"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_converted_is_refused_with_what_and_why() {
    let refused = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM", "", false);
        change(&mut checkpoint);
        checkpoint.lay_out("q4_k_m").unwrap_err().to_string()
    };
    let error = refused(&|c| c.change("config.json", "LlamaForCausalLM", "PhiForCausalLM"));
    assert!(
        error.contains("PhiForCausalLM") && error.contains("Qwen3ForCausalLM"),
        "{error}"
    );
    for (from, to) in [
        (r#""num_attention_heads":4"#, r#""num_attention_heads":0"#),
        (
            r#""hidden_size":64"#,
            r#""hidden_size":18446744073709551615"#,
        ),
        (
            r#""num_hidden_layers":2"#,
            r#""num_hidden_layers":4294967295"#,
        ),
        (r#""head_dim":16"#, r#""head_dim":-1"#),
        (r#""rms_norm_eps":1e-5"#, r#""rms_norm_eps":0"#),
        (r#""hidden_act":"silu""#, r#""hidden_act":"relu""#),
    ] {
        let key = from.split('"').nth(1).unwrap();
        let error = refused(&|c| c.change("config.json", from, to));
        assert!(
            error.contains("config.json") && error.contains(key),
            "{to}: {error}"
        );
    }
    let error = refused(&|c| {
        c.change(
            "config.json",
            r#""intermediate_size":96"#,
            r#""intermediate_size":97"#,
        )
    });
    assert!(error.contains("96]") && error.contains("97]"), "{error}");
    let error = refused(&|c| {
        let mut tensors = shapes("LlamaForCausalLM", false);
        tensors.push(("model.layers.0.mystery.weight".to_owned(), vec![4]));
        c.0.insert("model.safetensors".to_owned(), safetensors(&tensors));
    });
    assert!(error.contains("model.layers.0.mystery.weight"), "{error}");
    for broken in ["", "{", "[]", r#"{"model":{"type":"BPE"}}"#] {
        let error = refused(&|c| {
            c.0.insert("tokenizer.json".to_owned(), broken.as_bytes().to_vec());
        });
        assert!(error.contains("tokenizer.json"), "{broken}: {error}");
    }
    let error = refused(&|c| {
        c.0.remove("tokenizer.json");
    });
    assert!(error.contains("tokenizer.json"), "{error}");
    // A byte-level tokenizer that llama.cpp has no name for.
    let error = refused(&|c| {
        c.change(
            "tokenizer.json",
            r#""byte_fallback":true"#,
            r#""byte_fallback":false"#,
        );
    });
    assert!(error.contains("tokenizer.json"), "{error}");
}
