//! GGUF variants of safetensors models: a virtual file whose header and tensor names are made of the checkpoint's.
//!
//! Nearly all of the file is the checkpoint's bytes, moved or quantized. The header is our own, a function of the
//! version's files alone, its keys in one order (docs/format/variants-gguf.md); names, permuted rows, norms and the
//! tokenizer follow `convert_hf_to_gguf.py` of llama.cpp.

mod checkpoint;
mod config;
mod names;
mod rope;
mod singles;
mod tokenizer;

use lode_tensors::{ByteRange, Dtype, Tensor};

use crate::block::BlockType;
use crate::block_rows::{RowOrder, SourceRows};
use crate::gguf::entries::Entries;
use crate::gguf::file::{Draft, Origin, lay_out, put_file_type};
use crate::gguf::mixture::{Mixture, Shape};
use crate::limits::CONFIG_BYTES_MAX;
use crate::source::{Source, Wanted};
use crate::variant::{LayoutError, is};
use crate::virtual_file::{Fixed, VirtualFile};
use checkpoint::Checkpoint;
use config::Config;
use names::{Change, Target};
use rope::Scaling;
use singles::Singles;

/// The name of these rules in a recipe.
pub(crate) const RULES: &str = "lode-gguf-1 llama.cpp-2026-10";

const ALIGNMENT_BYTES: u64 = 32;

pub(crate) fn wanted(path: &str) -> Wanted {
    if is(path, "safetensors") {
        return Wanted::Header;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let bytes_max = match name {
        config::FILE => CONFIG_BYTES_MAX,
        "model.safetensors.index.json" => lode_tensors::limits::INDEX_BYTES_MAX as u64,
        _ => match tokenizer::bytes_max(name) {
            Some(bytes_max) => bytes_max,
            None => return Wanted::Nothing,
        },
    };
    Wanted::Whole { bytes_max }
}

/// The key-values that all precisions of a checkpoint share: most of the work is the tokenizer.
#[derive(Debug)]
pub(crate) struct Common {
    config: Config,
    entries: Entries,
}

/// Reads what all precisions of the checkpoint in `source` share.
pub(crate) fn common(source: &Source) -> Result<Common, LayoutError> {
    let checkpoint = Checkpoint::find(source)?;
    let bytes = checkpoint.small(config::FILE, CONFIG_BYTES_MAX)?;
    let config = Config::parse(bytes.unwrap_or_default())?;
    let mut entries = Entries::default();
    put_model(&mut entries, &config);
    tokenizer::put(&mut entries, &checkpoint, &config)?;
    Ok(Common { config, entries })
}

/// Lays out the GGUF file of the checkpoint in `source`, of which this is common.
pub(crate) fn layout(
    source: &Source,
    common: &Common,
    mixture: Mixture,
    from_quantized: bool,
) -> Result<VirtualFile, LayoutError> {
    let config = &common.config;
    let drafts = drafts(&Checkpoint::find(source)?, config)?;
    let mut entries = common.entries.clone();
    put_file_type(&mut entries, mixture);
    let shape = Shape {
        architecture: config.family.name().to_owned(),
        layers: config.layers.into(),
        experts: 0,
        heads: config.heads.into(),
        kv_heads: config.kv_heads.into(),
    };
    lay_out(
        &entries,
        ALIGNMENT_BYTES,
        mixture,
        &shape,
        from_quantized,
        drafts,
    )
}

fn drafts(checkpoint: &Checkpoint<'_>, config: &Config) -> Result<Vec<Draft>, LayoutError> {
    let tensors = checkpoint.tensors()?;
    let mut drafts = Vec::with_capacity(tensors.len() + 1);
    for (name, &(file, tensor)) in &tensors {
        if names::is_leftover(name) {
            continue;
        }
        let target = names::target(name, config).ok_or_else(|| LayoutError::UnknownTensor {
            tensor: (*name).to_owned(),
            architecture: config.family.name(),
        })?;
        drafts.push(draft(file, tensor, target, config)?);
    }
    if let Some(name) = names::all_needed(config).find(|name| !tensors.contains_key(name.as_str()))
    {
        return Err(LayoutError::MissingShard {
            what: format!("tensor {name:?}"),
        });
    }
    if let Scaling::Llama3(scaling) = &config.scaling {
        let bytes: Vec<u8> = scaling.factors().flat_map(f32::to_le_bytes).collect();
        drafts.push(Draft {
            tensor: Tensor {
                name: "rope_freqs.weight".to_owned(),
                dtype: Dtype::F32,
                shape: vec![u64::from(config.head_dim / 2)],
                range: ByteRange { start: 0, end: 0 },
            },
            origin: Origin::Made(Box::new(Fixed(bytes))),
        });
    }
    Ok(drafts)
}

/// A tensor under its new name.
fn draft(
    file: usize,
    tensor: &Tensor,
    target: Target,
    config: &Config,
) -> Result<Draft, LayoutError> {
    let from = match tensor.dtype {
        Dtype::F32 => BlockType::F32,
        Dtype::F16 => BlockType::F16,
        Dtype::BF16 => BlockType::BF16,
        dtype => {
            return Err(LayoutError::TypeNotRead {
                tensor: tensor.name.clone(),
                dtype,
            });
        }
    };
    if tensor.shape != target.shape {
        return Err(LayoutError::TensorShape {
            tensor: tensor.name.clone(),
            found: tensor.shape.clone(),
            expected: target.shape,
        });
    }
    let order = match target.change {
        Change::PairedHalves => RowOrder::PairedHalves {
            rows: config.head_dim.into(),
        },
        Change::None | Change::PlusOne => RowOrder::Same,
    };
    let (dtype, origin) = if tensor.shape.len() > 1 {
        let rows = SourceRows {
            file,
            start: tensor.range.start,
            from,
            row_weights: tensor.row_elements(),
            rows: tensor.row_count(),
        };
        (tensor.dtype, Origin::Rows(rows, order))
    } else {
        let singles = Singles {
            file,
            start: tensor.range.start,
            from,
            weights: tensor.elements(),
            order,
            plus: if target.change == Change::PlusOne {
                1.0
            } else {
                0.0
            },
        };
        (Dtype::F32, Origin::Made(Box::new(singles)))
    };
    Ok(Draft {
        tensor: Tensor {
            name: target.name,
            dtype,
            ..tensor.clone()
        },
        origin,
    })
}

/// The keys that describe the model. The order is part of the format.
fn put_model(entries: &mut Entries, config: &Config) {
    let architecture = config.family.name();
    let key = |name: &str| format!("{architecture}.{name}");
    entries.text("general.architecture", architecture);
    entries.text("general.type", "model");
    for (name, value) in [
        ("block_count", config.layers),
        ("context_length", config.context),
        ("embedding_length", config.embedding),
        ("feed_forward_length", config.feed_forward),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
    ] {
        entries.u32(&key(name), value);
    }
    entries.f32(&key("attention.layer_norm_rms_epsilon"), config.rms_epsilon);
    if let Some(window) = config.window {
        entries.u32(&key("attention.sliding_window"), window);
    }
    if let Some(cap) = config.final_softcap {
        entries.f32(&key("final_logit_softcapping"), cap);
    }
    entries.u32(&key("rope.dimension_count"), config.head_dim);
    entries.f32(&key("rope.freq_base"), config::single(config.rope_base));
    if let Some(base) = config.rope_base_window {
        entries.f32(&key("rope.freq_base_swa"), base);
    }
    match &config.scaling {
        // The factors of llama 3 are a tensor.
        Scaling::None | Scaling::Llama3(_) => {}
        Scaling::Linear { factor } => {
            entries.text(&key("rope.scaling.type"), "linear");
            entries.f32(&key("rope.scaling.factor"), *factor);
        }
        Scaling::Yarn(yarn) => {
            entries.text(&key("rope.scaling.type"), "yarn");
            entries.f32(&key("rope.scaling.factor"), yarn.factor);
            entries.u32(
                &key("rope.scaling.original_context_length"),
                yarn.original_context,
            );
            for (name, value) in [
                ("yarn_ext_factor", yarn.extrapolation),
                ("yarn_attn_factor", yarn.attention),
                ("yarn_beta_fast", yarn.beta_fast),
                ("yarn_beta_slow", yarn.beta_slow),
            ] {
                if let Some(value) = value {
                    entries.f32(&key(&format!("rope.scaling.{name}")), value);
                }
            }
        }
    }
    entries.u32(&key("vocab_size"), config.vocab);
}
