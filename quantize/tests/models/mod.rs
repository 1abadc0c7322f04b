//! Small GGUF models that variants are made from, the same bytes on every machine: golden/llama-quantize.py writes them
//! to files and lets llama-quantize make its own variants of them.

#![allow(
    dead_code,
    unreachable_pub,
    non_camel_case_types,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

use lode_quantize::{Content, Source, SourceFile};

/// splitmix64
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A weight of the size that models have: a sum of four even ones, exact in few bits.
    fn weight(&mut self) -> f32 {
        let even = |r: &mut Self| (r.next() >> 44) as i32 - (1 << 19);
        let sum: i32 = (0..4).map(|_| even(self)).sum();
        sum as f32 / (1 << 24) as f32
    }
}

/// Types of tensors, by their ids in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    F32 = 0,
    F16 = 1,
    Q8_0 = 8,
    Bf16 = 30,
}

/// A GGUF file in the making.
#[derive(Default)]
pub struct Gguf {
    entries: Vec<u8>,
    entry_count: u64,
    infos: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

const ALIGNMENT: usize = 32;

impl Gguf {
    fn key(&mut self, key: &str, kind: u32) {
        text(&mut self.entries, key);
        self.entries.extend(kind.to_le_bytes());
        self.entry_count += 1;
    }

    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.key(key, 4);
        self.entries.extend(value.to_le_bytes());
        self
    }

    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.key(key, 6);
        self.entries.extend(value.to_le_bytes());
        self
    }

    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key, 8);
        text(&mut self.entries, value);
        self
    }

    pub fn texts(&mut self, key: &str, values: &[&str]) -> &mut Self {
        self.key(key, 9);
        self.entries.extend(8_u32.to_le_bytes());
        self.entries.extend((values.len() as u64).to_le_bytes());
        for value in values {
            text(&mut self.entries, value);
        }
        self
    }

    /// `shape` is outermost first.
    pub fn tensor(&mut self, name: &str, ty: Type, shape: &[u64], bytes: &[u8]) -> &mut Self {
        text(&mut self.infos, name);
        self.infos.extend((shape.len() as u32).to_le_bytes());
        for dim in shape.iter().rev() {
            self.infos.extend(dim.to_le_bytes());
        }
        self.infos.extend((ty as u32).to_le_bytes());
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data
            .resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.tensor_count += 1;
        self
    }

    pub fn random(&mut self, name: &str, ty: Type, shape: &[u64]) -> &mut Self {
        let seed = name
            .bytes()
            .fold(7_u64, |all, byte| all.wrapping_mul(31) + u64::from(byte));
        let mut random = Random::new(seed);
        let count = shape.iter().product::<u64>();
        let mut bytes = Vec::new();
        match ty {
            Type::F32 => (0..count).for_each(|_| bytes.extend(random.weight().to_le_bytes())),
            Type::Bf16 => {
                (0..count).for_each(|_| bytes.extend(&random.weight().to_le_bytes()[2..]))
            }
            // Halves of exponents that stay far from the ends.
            Type::F16 => (0..count).for_each(|_| {
                let bits = random.next();
                let (sign, exponent) = ((bits & 1) << 15, 5 + (bits >> 1) % 6);
                let half = sign | exponent << 10 | (bits >> 8) & 0x3ff;
                bytes.extend((half as u16).to_le_bytes());
            }),
            Type::Q8_0 => (0..count / 32).for_each(|_| {
                bytes.extend(0x2000_u16.to_le_bytes());
                bytes.extend((0..32).map(|_| random.next() as u8));
            }),
        }
        self.tensor(name, ty, shape, &bytes)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(b"GGUF");
        out.extend(3_u32.to_le_bytes());
        out.extend(self.tensor_count.to_le_bytes());
        out.extend(self.entry_count.to_le_bytes());
        out.extend(&self.entries);
        out.extend(&self.infos);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(&self.data);
        out
    }
}

struct Plan {
    architecture: &'static str,
    layers: u64,
    heads: u32,
    kv_heads: u32,
    experts: u32,
    /// Weights of a row of most matrices, and of a down projection.
    row: u64,
    down_row: u64,
    ty: Type,
    tied: bool,
}

/// A model that has what the rules look at, and little else: matrices have two rows.
fn model(plan: &Plan) -> Gguf {
    let mut file = Gguf::default();
    let architecture = plan.architecture;
    let key = |name: &str| format!("{architecture}.{name}");
    file.text("general.architecture", architecture)
        .text("general.name", "tiny")
        .u32("general.file_type", 32)
        .u32(&key("block_count"), plan.layers as u32)
        .u32(&key("context_length"), 64)
        .u32(&key("embedding_length"), plan.row as u32)
        .u32(&key("feed_forward_length"), plan.down_row as u32)
        .u32(&key("attention.head_count"), plan.heads)
        .u32(&key("attention.head_count_kv"), plan.kv_heads)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .f32(&key("attention.layer_norm_epsilon"), 1e-5);
    if plan.experts > 0 {
        file.u32(&key("expert_count"), plan.experts)
            .u32(&key("expert_used_count"), 2);
    }
    file.text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &["a", "b", "c", "d"])
        .texts("tokenizer.ggml.merges", &["a b"]);
    let (row, down, ty) = (plan.row, plan.down_row, plan.ty);
    // Not in the order of llama-quantize.
    for layer in (0..plan.layers).rev() {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        file.random(&name("attn_norm"), Type::F32, &[row]);
        if architecture == "falcon" {
            file.random(&name("attn_qkv"), ty, &[2, row]);
        } else {
            file.random(&name("attn_q"), ty, &[2, row]);
            file.random(&name("attn_k"), ty, &[2, row]);
            file.random(&name("attn_v"), ty, &[2, row]);
        }
        file.random(&name("attn_output"), ty, &[2, row]);
        if plan.experts > 0 {
            file.random(&name("ffn_gate_inp"), Type::F32, &[2, row]);
            file.random(&name("ffn_down_exps"), ty, &[2, 2, down]);
            file.random(&name("ffn_up_exps"), ty, &[2, 2, row]);
        } else {
            file.random(&name("ffn_down"), ty, &[2, down]);
            file.random(&name("ffn_up"), ty, &[2, row]);
            file.random(&name("ffn_gate"), ty, &[2, row]);
        }
        // A single row has one dimension as llama.cpp counts.
        file.random(&name("ffn_norm_2d"), Type::F32, &[1, row]);
    }
    if !plan.tied {
        file.random("output.weight", ty, &[4, row]);
    }
    file.random("token_embd.weight", ty, &[4, row]);
    file.random("output_norm.weight", Type::F32, &[row]);
    file
}

/// The models, by name.
pub fn models() -> Vec<(&'static str, Gguf)> {
    let llama = |layers, heads, kv_heads| Plan {
        architecture: "llama",
        layers,
        heads,
        kv_heads,
        experts: 0,
        row: 256,
        down_row: 512,
        ty: Type::Bf16,
        tied: true,
    };
    let plans = [
        ("llama", llama(17, 4, 1)),
        (
            "llama-untied",
            Plan {
                tied: false,
                ty: Type::F16,
                ..llama(9, 4, 4)
            },
        ),
        (
            "llama-70b",
            Plan {
                ty: Type::F32,
                tied: false,
                ..llama(80, 8, 1)
            },
        ),
        (
            "mixtral",
            Plan {
                experts: 8,
                ..llama(8, 4, 2)
            },
        ),
        (
            "ragged",
            Plan {
                row: 288,
                down_row: 100,
                ..llama(8, 4, 2)
            },
        ),
        (
            "falcon",
            Plan {
                architecture: "falcon",
                tied: false,
                ..llama(16, 4, 1)
            },
        ),
    ];
    plans
        .iter()
        .map(|(name, plan)| (*name, model(plan)))
        .collect()
}

/// A version with these files, as a layout sees it.
pub fn source(files: &[(&str, &[u8])]) -> Source {
    let files = files.iter().map(|(path, bytes)| {
        let content = match lode_tensors::parse(bytes, bytes.len() as u64) {
            Ok(header) => Content::Tensors {
                bytes: bytes[..header.len as usize].to_vec(),
                header,
            },
            Err(_) => Content::Whole(bytes.to_vec()),
        };
        SourceFile {
            path: (*path).to_owned(),
            size: bytes.len() as u64,
            content,
        }
    });
    Source {
        files: files.collect(),
    }
}
