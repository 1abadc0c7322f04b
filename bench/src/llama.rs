//! Llama-shaped checkpoints of any size: BF16, sharded as hubs have them, no two chunks equal.
//!
//! Every tensor's values follow from a seed and its name alone, so that equal seeds give equal files
//! on any machine, and a second version can change some tensors and leave the others as they were.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

/// What to make.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of all tensors, about: a whole number of layers comes near it.
    pub size: u64,
    /// Most bytes of tensors in a shard (a tensor is never divided).
    pub shard_size: u64,
    /// Where values come from.
    pub seed: u64,
    /// Values of some tensors come from another seed: (fraction of all bytes, that seed). The
    /// chosen tensors are at most that fraction.
    pub changed: Option<(f64, u64)>,
    /// Threads that write.
    pub threads: usize,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Number of tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Number of shards.
    pub shards: usize,
    /// Tensors and bytes that come from the other seed.
    pub changed: (usize, u64),
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
}

impl Tensor {
    fn bytes(&self) -> u64 {
        2 * self.shape.iter().product::<u64>()
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    hidden: u64,
    ffn: u64,
    kv: u64,
    vocab: u64,
}

/// From Llama 3 8B over TinyLlama and SmolLM2 135M to toys.
const SHAPES: &[Shape] = &[
    Shape {
        hidden: 4096,
        ffn: 14_336,
        kv: 1024,
        vocab: 128_256,
    },
    Shape {
        hidden: 2048,
        ffn: 5632,
        kv: 256,
        vocab: 32_000,
    },
    Shape {
        hidden: 576,
        ffn: 1536,
        kv: 192,
        vocab: 49_152,
    },
    Shape {
        hidden: 256,
        ffn: 768,
        kv: 128,
        vocab: 4096,
    },
    Shape {
        hidden: 64,
        ffn: 192,
        kv: 64,
        vocab: 512,
    },
];

impl Shape {
    fn layer(self, n: u64) -> Vec<Tensor> {
        let Self {
            hidden, ffn, kv, ..
        } = self;
        let tensor = |part: &str, shape: &[u64]| Tensor {
            name: format!("model.layers.{n}.{part}.weight"),
            shape: shape.to_vec(),
        };
        vec![
            tensor("self_attn.q_proj", &[hidden, hidden]),
            tensor("self_attn.k_proj", &[kv, hidden]),
            tensor("self_attn.v_proj", &[kv, hidden]),
            tensor("self_attn.o_proj", &[hidden, hidden]),
            tensor("mlp.gate_proj", &[ffn, hidden]),
            tensor("mlp.up_proj", &[ffn, hidden]),
            tensor("mlp.down_proj", &[hidden, ffn]),
            tensor("input_layernorm", &[hidden]),
            tensor("post_attention_layernorm", &[hidden]),
        ]
    }

    fn ends(self) -> [Tensor; 3] {
        let tensor = |name: &str, shape: &[u64]| Tensor {
            name: name.into(),
            shape: shape.to_vec(),
        };
        [
            tensor("model.embed_tokens.weight", &[self.vocab, self.hidden]),
            tensor("model.norm.weight", &[self.hidden]),
            tensor("lm_head.weight", &[self.vocab, self.hidden]),
        ]
    }

    /// The largest shape of which the size holds several layers, and how many.
    fn of_size(size: u64) -> (Self, u64) {
        let bytes = |tensors: &[Tensor]| tensors.iter().map(Tensor::bytes).sum::<u64>();
        let fits = |shape: &&Self| 3 * bytes(&shape.ends()) + 4 * bytes(&shape.layer(0)) <= size;
        let shape = *SHAPES
            .iter()
            .find(fits)
            .unwrap_or(&SHAPES[SHAPES.len() - 1]);
        let layers = size.saturating_sub(bytes(&shape.ends())) / bytes(&shape.layer(0));
        (shape, layers.max(1))
    }
}

/// Makes a checkpoint in a folder, which is created.
///
/// # Errors
/// When writing fails.
pub fn make(folder: &Path, options: &Options) -> io::Result<Made> {
    let (shape, layers) = Shape::of_size(options.size);
    let [embed, norm, head] = shape.ends();
    let mut tensors = vec![embed];
    tensors.extend((0..layers).flat_map(|n| shape.layer(n)));
    tensors.extend([norm, head]);
    let bytes = tensors.iter().map(Tensor::bytes).sum();

    let other = changed_names(&tensors, bytes, options);
    let changed_bytes = tensors
        .iter()
        .filter(|t| other.contains(&t.name))
        .map(Tensor::bytes)
        .sum::<u64>();
    let made_tensors = tensors.len();

    std::fs::create_dir_all(folder)?;
    let shards = divide(tensors, options.shard_size);
    let count = shards.len();
    let mut weight_map = Map::new();
    let mut jobs = Vec::new();
    for (n, mut shard) in (1..).zip(shards) {
        let file_name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{n:05}-of-{count:05}.safetensors"),
        };
        shard.sort_by(|a, b| a.name.cmp(&b.name));
        for tensor in &shard {
            weight_map.insert(tensor.name.clone(), file_name.clone().into());
        }
        let (head, len) = header(&shard);
        let file = File::create(folder.join(&file_name))?;
        file.set_len(len)?;
        file.write_all_at(&head, 0)?;
        let file = std::sync::Arc::new(file);
        let mut offset = head.len() as u64;
        for tensor in shard {
            let seed = match options.changed {
                Some((_, seed)) if other.contains(&tensor.name) => seed,
                _ => options.seed,
            };
            let key = mix(seed ^ name_hash(&tensor.name));
            let len = tensor.bytes();
            for start in (0..len).step_by(JOB_BYTES) {
                let part = JOB_BYTES.min((len - start) as usize);
                jobs.push(Job {
                    file: file.clone(),
                    offset: offset + start,
                    key,
                    start,
                    len: part,
                });
            }
            offset += len;
        }
    }
    write_all(&jobs, options.threads.max(1))?;
    if count > 1 {
        weight_map.sort_keys();
        let index = json!({ "metadata": { "total_size": bytes }, "weight_map": weight_map });
        write_json(&folder.join("model.safetensors.index.json"), &index)?;
    }
    write_json(&folder.join("config.json"), &config(shape, layers))?;
    write_json(&folder.join("tokenizer.json"), &tokenizer())?;
    write_json(
        &folder.join("tokenizer_config.json"),
        &json!({ "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>" }),
    )?;
    Ok(Made {
        tensors: made_tensors,
        bytes,
        shards: count,
        changed: (other.len(), changed_bytes),
    })
}

/// Names of the tensors that come from the other seed.
fn changed_names(tensors: &[Tensor], bytes: u64, options: &Options) -> HashSet<String> {
    let Some((fraction, seed)) = options.changed else {
        return HashSet::new();
    };
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|tensor| mix(seed ^ name_hash(&tensor.name)));
    let mut left = (bytes as f64 * fraction) as u64;
    let mut chosen = HashSet::new();
    for tensor in order {
        if tensor.bytes() <= left {
            left -= tensor.bytes();
            chosen.insert(tensor.name.clone());
        }
    }
    chosen
}

fn divide(tensors: Vec<Tensor>, most: u64) -> Vec<Vec<Tensor>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        if filled > 0 && filled + tensor.bytes() > most {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += tensor.bytes();
        shards.last_mut().expect("never empty").push(tensor);
    }
    shards
}

/// A shard's header and whole length.
fn header(tensors: &[Tensor]) -> (Vec<u8>, u64) {
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes();
        let info = json!({ "dtype": "BF16", "shape": tensor.shape, "data_offsets": [start, end] });
        map.insert(tensor.name.clone(), info);
    }
    let mut json = serde_json::to_vec(&map).expect("a map of JSON is JSON");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    let len = bytes.len() as u64 + end;
    (bytes, len)
}

const JOB_BYTES: usize = 4 * 1024 * 1024;

struct Job {
    file: std::sync::Arc<File>,
    offset: u64,
    key: u64,
    /// Where in the tensor it starts, in bytes.
    start: u64,
    len: usize,
}

fn write_all(jobs: &[Job], threads: usize) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            let mut buffer = vec![0; JOB_BYTES];
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let bytes = &mut buffer[..job.len];
                fill(bytes, job.key, job.start);
                job.file.write_all_at(bytes, job.offset)?;
            }
            Ok(())
        };
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others
            .into_iter()
            .map(|thread| thread.join().expect("does not panic"))
            .fold(own, Result::and)
    })
}

/// Fills with BF16 values of a tensor, from its byte `start` (a multiple of 8) on: both signs, of
/// 2^-7 to 2^-3, with 10 of 16 bits random, about as real weights.
fn fill(bytes: &mut [u8], key: u64, start: u64) {
    const RANDOM: u64 = 0x81ff_81ff_81ff_81ff;
    const FIXED: u64 = 0x3c00_3c00_3c00_3c00;
    let mut counter = start / 8;
    let mut next = || {
        let word = mix(key.wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        counter += 1;
        (word & RANDOM | FIXED).to_le_bytes()
    };
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        word.copy_from_slice(&next());
    }
    let rest = words.into_remainder();
    let word = next();
    rest.copy_from_slice(&word[..rest.len()]);
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): one to one, and no two counters alike.
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// FNV-1a.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn write_json(path: &Path, value: &Value) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    std::fs::write(path, bytes)
}

fn config(shape: Shape, layers: u64) -> Value {
    let head = if shape.hidden >= 2048 { 128 } else { 64 };
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": shape.hidden / head,
        "num_key_value_heads": shape.kv / head,
        "head_dim": head,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

/// A tokenizer of single printable characters, enough for the tokenizers library to load.
fn tokenizer() -> Value {
    let specials = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let characters = (' '..='~').map(String::from);
    let vocab: Map<_, _> = specials
        .into_iter()
        .chain(characters)
        .zip(0_u64..)
        .map(|(t, id)| (t, id.into()))
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "Split", "pattern": { "String": "" }, "behavior": "Isolated", "invert": false },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    })
}
