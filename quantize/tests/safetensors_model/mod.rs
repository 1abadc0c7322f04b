//! Small models in the layout of Hugging Face, in memory.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use lode_quantize::variant::wanted;
use lode_quantize::{Content, Gathered, Recipe, Source, SourceFile, SourceRange, Wanted};
use lode_tensors::{Dtype, parse};

use crate::inputs::Random;

pub(crate) const CONFIG: &str =
    r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}"#;

/// The bytes of a value in a type of two bytes. Values that the type has.
pub(crate) fn half_bytes(dtype: Dtype, value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    let sign = bits >> 16 & 0x8000;
    let half = match dtype {
        Dtype::BF16 => bits >> 16,
        _ if !value.is_finite() => sign | 0x7c00 | bits >> 13 & 0x3ff,
        _ if bits & 0x7fff_ffff < 0x3880_0000 => sign,
        _ => sign | ((bits & 0x7fff_ffff) - 0x3800_0000) >> 13,
    };
    (half as u16).to_le_bytes()
}

fn value_bytes(dtype: Dtype, value: f32) -> Vec<u8> {
    match dtype {
        Dtype::F32 | Dtype::I32 => value.to_le_bytes().to_vec(),
        _ => half_bytes(dtype, value).to_vec(),
    }
}

/// A safetensors file of these tensors.
fn safetensors(tensors: &[(&str, Vec<u64>, Dtype)], random: &mut Random) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, shape, dtype) in tensors {
        let start = data.len();
        for _ in 0..shape.iter().product::<u64>() {
            // Of many magnitudes, as weights are not.
            let bits = random.next();
            let fraction = ((bits >> 40) as f32 / 8_388_608.0) - 1.0;
            let value = fraction * 2f32.powi(-(bits as i32 & 7));
            data.extend(value_bytes(*dtype, value));
        }
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    let json = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{}}}"#,
        entries.join(",")
    );
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.into_bytes());
    bytes.extend(data);
    bytes
}

/// Paths and bytes of the files of a version.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Model {
    /// A matrix of this shape, with a bias and a norm of as many weights.
    pub(crate) fn single(dtype: Dtype, rows: u64, columns: u64, random: &mut Random) -> Self {
        let tensors = [
            ("model.layers.0.mlp.up_proj.bias", vec![rows], dtype),
            (
                "model.layers.0.mlp.up_proj.weight",
                vec![rows, columns],
                dtype,
            ),
            ("model.norm.weight", vec![columns], dtype),
        ];
        let mut model = Self { files: Vec::new() };
        model.put("config.json", CONFIG.as_bytes().to_vec());
        model.put("model.safetensors", safetensors(&tensors, random));
        model
    }

    /// Two files with an index: matrices of this shape, and one of each kind that stays.
    pub(crate) fn sharded(dtype: Dtype, rows: u64, columns: u64, random: &mut Random) -> Self {
        let matrix = |name| (name, vec![rows, columns], dtype);
        let first = [
            ("model.embed_tokens.weight", vec![50, columns], dtype),
            matrix("model.layers.0.mlp.experts.0.down_proj.weight"),
            (
                "model.layers.0.mlp.experts.gate_up_proj",
                vec![2, 3, 8],
                dtype,
            ),
            ("model.layers.0.mlp.gate.weight", vec![4, columns], dtype),
            matrix("model.layers.0.mlp.up_proj.weight"),
            (
                "model.layers.0.input_layernorm.weight",
                vec![columns],
                dtype,
            ),
            ("model.layers.0.count", vec![], Dtype::I32),
        ];
        let second = [
            matrix("model.layers.1.mlp.up_proj.weight"),
            ("model.layers.1.mlp.up_proj.bias", vec![rows], dtype),
        ];
        let mut model = Self { files: Vec::new() };
        model.put("config.json", CONFIG.as_bytes().to_vec());
        let mut map = Vec::new();
        for (number, tensors) in [(1, &first[..]), (2, &second[..])] {
            let path = format!("model-0000{number}-of-00002.safetensors");
            map.extend(tensors.iter().map(|(n, ..)| format!(r#""{n}":"{path}""#)));
            model.put(&path, safetensors(tensors, random));
        }
        let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","));
        model.put("model.safetensors.index.json", index.into_bytes());
        model.put("tokenizer.json", b"{}".to_vec());
        model
    }

    pub(crate) fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.retain(|(found, _)| found != path);
        self.files.push((path.to_owned(), bytes));
        self.files.sort();
    }

    pub(crate) fn bytes(&self, path: &str) -> &[u8] {
        &self
            .files
            .iter()
            .find(|(found, _)| found == path)
            .unwrap()
            .1
    }

    fn change(&mut self, path: &str, name: &str, f: impl FnOnce(Dtype, &mut [u8])) {
        let (_, bytes) = self.files.iter_mut().find(|(p, _)| p == path).unwrap();
        let header = parse(bytes, bytes.len() as u64).unwrap();
        let tensor = header.tensor(name).unwrap();
        let range = tensor.range.start as usize..tensor.range.end as usize;
        f(tensor.dtype, &mut bytes[range]);
    }

    /// Sets every byte of a tensor.
    pub(crate) fn fill(&mut self, path: &str, name: &str, byte: u8) {
        self.change(path, name, |_, bytes| bytes.fill(byte));
    }

    /// Sets one weight.
    pub(crate) fn set(&mut self, path: &str, name: &str, at: usize, value: f32) {
        self.change(path, name, |dtype, bytes| {
            let value = value_bytes(dtype, value);
            bytes[at * value.len()..][..value.len()].copy_from_slice(&value);
        });
    }

    /// What a layout for this recipe reads.
    pub(crate) fn source(&self, recipe: &Recipe) -> Source {
        let file = |(path, bytes): &(String, Vec<u8>)| SourceFile {
            path: path.clone(),
            size: bytes.len() as u64,
            content: match wanted(recipe, path) {
                Wanted::Nothing => Content::Unread,
                Wanted::Whole { bytes_max } if bytes.len() as u64 > bytes_max => Content::Unread,
                Wanted::Whole { .. } => Content::Whole(bytes.clone()),
                Wanted::Header => match parse(bytes, bytes.len() as u64) {
                    Ok(header) => Content::Tensors {
                        bytes: bytes[..header.len as usize].to_vec(),
                        header,
                    },
                    Err(_) => Content::Unread,
                },
            },
        };
        Source {
            files: self.files.iter().map(file).collect(),
        }
    }
}

/// Nothing but the bytes that were named, in memory of their own.
pub(crate) struct Pieces(Vec<(SourceRange, Vec<u8>)>);

pub(crate) fn gather(model: &Model, needs: &[SourceRange]) -> Pieces {
    let piece = |at: &SourceRange| (*at, at.range.of(&model.files[at.file].1).unwrap().to_vec());
    Pieces(needs.iter().map(piece).collect())
}

impl Pieces {
    pub(crate) fn gathered(&self) -> Gathered<'_> {
        Gathered::new(self.0.iter().map(|(at, bytes)| (*at, &bytes[..])))
    }
}
