//! How each tensor of a family is cut, as the tensor-parallel and pipeline-parallel loaders of vLLM
//! and transformers cut it when they load the whole file.
//!
//! `tp=R/N`. Rows (outputs): q, k, v, gate, up, w1, w3, and their biases. Columns (inputs): o, down, w2;
//! their biases stay whole, since only one rank adds them. Heads are never divided: N divides the
//! number of heads, and either N divides that of key/value heads, or that divides N and each rank has
//! the one whole head that its queries share. Fused `qkv_proj` and `gate_up_proj` are cut inside their
//! parts. Embedding and head by rows: equal parts where N divides the vocabulary, else the parts of a
//! vocabulary padded to a multiple of 64 (vLLM's `VocabParallelEmbedding`), of which the last rank's
//! lacks the padding. Norms, routers, gates of shared experts and the vision part of a Gemma 3 are
//! whole on every rank. Every expert is cut like a dense MLP.
//!
//! `layers=A..B`. The first stage has what comes before layer 0, the last one the final norm and the
//! head; a model whose head is its embedding has that in both.
//!
//! `experts=A..B`. Other experts are left out; routers and shared experts stay. Nothing is renamed.

use std::ops::Range;

use super::{Architecture, Cut, Family, Ranks, Slice};

/// What the vocabulary is padded to where ranks do not divide it.
const VOCAB_MULTIPLE: u64 = 64;

/// Why a model is not sliced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// The layers are not all there.
    #[error("layers={}..{} of a model with {layers} layers", .asked.start, .asked.end)]
    Layers {
        /// What was asked for.
        asked: Range<u64>,
        /// How many there are.
        layers: u64,
    },
    /// The experts are not all there.
    #[error("experts={}..{} of a model with {experts} experts", .asked.start, .asked.end)]
    Experts {
        /// What was asked for.
        asked: Range<u64>,
        /// How many there are; 0 where there are no such layers.
        experts: u64,
    },
    /// Ranks do not divide it.
    #[error("{what} {count} cannot be divided among {of} ranks")]
    Divide {
        /// What: heads, key/value heads, the length of a dimension.
        what: String,
        /// How many there are.
        count: u64,
        /// Ranks.
        of: u64,
    },
    /// The rules of this family have no such tensor.
    #[error("tensor {name:?} is not known in {architecture}: how to slice it is not either")]
    UnknownTensor {
        /// Its name.
        name: String,
        /// The architecture.
        architecture: String,
    },
    /// Shape and `config.json` contradict each other.
    #[error("tensor {name:?} of shape {shape:?} does not match config.json: {why}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// What would match.
        why: String,
    },
}

/// Says for every tensor of a model what of it a slice has.
#[derive(Debug, Clone)]
pub struct Slicer {
    architecture: Architecture,
    slice: Slice,
    /// Whether the head is the embedding.
    tied: bool,
}

/// What a tensor is, for the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Whole on every rank.
    Whole,
    /// Rows of the vocabulary.
    Vocab,
    /// Rows of query heads, or of key/value heads.
    Heads { kv: bool },
    /// Fused rows: q, k, v.
    Qkv,
    /// Columns of query heads.
    HeadColumns,
    /// Rows.
    Rows,
    /// Fused rows: two halves.
    Halves,
    /// Columns.
    Columns,
}

/// Where a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first layer; the embedding if so.
    First { embedding: bool },
    /// In a layer, and in an expert of it.
    Layer { layer: u64, expert: Option<u64> },
    /// Behind the last layer.
    Last,
}

impl Slicer {
    /// Holds a slice against the model; `has_head` says whether there is a tensor `lm_head.weight`.
    ///
    /// # Errors
    /// When layers or experts are not there, or heads do not divide.
    pub fn new(
        architecture: Architecture,
        slice: Slice,
        has_head: bool,
    ) -> Result<Self, SliceError> {
        let layers = architecture.layers;
        if let Some(asked) = slice.layers.clone().filter(|asked| asked.end > layers) {
            return Err(SliceError::Layers { asked, layers });
        }
        let experts = architecture.experts.unwrap_or(0);
        if let Some(asked) = slice.experts.clone().filter(|asked| asked.end > experts) {
            return Err(SliceError::Experts { asked, experts });
        }
        if let Some(ranks) = slice.tp {
            let Ranks { of, .. } = ranks;
            let (heads, kv) = (architecture.heads, architecture.kv_heads);
            let divide = |what: &str, count| SliceError::Divide {
                what: what.to_owned(),
                count,
                of,
            };
            if !heads.is_multiple_of(of) {
                return Err(divide("num_attention_heads", heads));
            }
            if !kv.is_multiple_of(of) && !of.is_multiple_of(kv) {
                return Err(divide("num_key_value_heads", kv));
            }
        }
        Ok(Self {
            tied: architecture.tied.unwrap_or(false) || !has_head,
            architecture,
            slice,
        })
    }

    /// What of a tensor the slice has; nothing when it has none of it.
    ///
    /// # Errors
    /// When the tensor is not one of the family, has another shape, or does not divide.
    pub fn cut(&self, name: &str, shape: &[u64]) -> Result<Option<Cut>, SliceError> {
        let unknown = || SliceError::UnknownTensor {
            name: name.to_owned(),
            architecture: self.architecture.name.clone(),
        };
        let (place, part, bias) = self.find(name).ok_or_else(unknown)?;
        if let Place::Layer { layer, expert } = place {
            let (layers, experts) = (self.architecture.layers, self.architecture.experts);
            let why = if layer >= layers {
                format!("num_hidden_layers is {layers}")
            } else if expert.is_some_and(|expert| Some(expert) >= experts) {
                format!("num_experts is {}", experts.unwrap_or(0))
            } else {
                String::new()
            };
            if !why.is_empty() {
                return Err(mismatch(name, shape, why));
            }
        }
        if !self.keeps(place) {
            return Ok(None);
        }
        let Some(ranks) = self.slice.tp else {
            return Ok(Some(Cut::Whole));
        };
        let rank = if bias { 1 } else { 2 };
        if part != Part::Whole && shape.len() != rank {
            return Err(mismatch(
                name,
                shape,
                format!("{rank} dimensions are expected"),
            ));
        }
        self.cut_part(part, bias, ranks, name, shape).map(Some)
    }

    /// Whether the slice has anything at this place.
    fn keeps(&self, place: Place) -> bool {
        let layers = self.slice.layers.clone();
        let (first, last) = layers.clone().map_or((true, true), |layers| {
            (layers.start == 0, layers.end == self.architecture.layers)
        });
        match place {
            Place::First { embedding } => first || (embedding && self.tied && last),
            Place::Last => last,
            Place::Layer { layer, expert } => {
                let of_expert = |expert| {
                    let experts = self.slice.experts.as_ref();
                    experts.is_none_or(|experts| experts.contains(&expert))
                };
                layers.is_none_or(|layers| layers.contains(&layer)) && expert.is_none_or(of_expert)
            }
        }
    }

    /// Place and part of a tensor, and whether it is a bias.
    fn find(&self, name: &str) -> Option<(Place, Part, bool)> {
        let mut name = name;
        if self.architecture.name.starts_with("Gemma3ForConditional")
            || self.architecture.name == "gemma3"
        {
            let plain = name.strip_prefix("model.").unwrap_or(name);
            if plain.starts_with("vision_tower.") || plain.starts_with("multi_modal_projector.") {
                return Some((Place::First { embedding: false }, Part::Whole, false));
            }
            // both layouts: `language_model.model.layers`, `model.language_model.layers`
            if let Some(rest) = name.strip_prefix("language_model.") {
                name = rest;
            } else if let Some(rest) = name.strip_prefix("model.language_model.") {
                return self.find_in_model(rest);
            }
        }
        match name {
            "lm_head.weight" => Some((Place::Last, Part::Vocab, false)),
            "lm_head.bias" => Some((Place::Last, Part::Vocab, true)),
            _ => self.find_in_model(name.strip_prefix("model.")?),
        }
    }

    fn find_in_model(&self, name: &str) -> Option<(Place, Part, bool)> {
        match name {
            "embed_tokens.weight" => {
                return Some((Place::First { embedding: true }, Part::Vocab, false));
            }
            "norm.weight" => return Some((Place::Last, Part::Whole, false)),
            _ => {}
        }
        let (layer, rest) = numbered(name.strip_prefix("layers.")?)?;
        let (module, kind) = rest.rsplit_once('.')?;
        let bias = match kind {
            "weight" => false,
            "bias" => true,
            "inv_freq" if module == "self_attn.rotary_emb" => false,
            _ => return None,
        };
        let (expert, part) = self.part(module)?;
        // the bias of what is cut by columns is added once, after the ranks' results are
        let part = match part {
            Part::Columns | Part::HeadColumns if bias => Part::Whole,
            part => part,
        };
        Some((Place::Layer { layer, expert }, part, bias))
    }

    /// What a module of a layer is, and the number of the expert that it belongs to.
    fn part(&self, module: &str) -> Option<(Option<u64>, Part)> {
        let family = self.architecture.family;
        let part = match (module, family) {
            ("input_layernorm" | "post_attention_layernorm" | "self_attn.rotary_emb", _) => {
                Part::Whole
            }
            ("self_attn.o_proj", _) => Part::HeadColumns,
            ("self_attn.qkv_proj", Family::Phi3) => Part::Qkv,
            ("mlp.gate_up_proj", Family::Phi3) => Part::Halves,
            ("mlp.down_proj", Family::Phi3) => Part::Columns,
            (_, Family::Phi3) => return None,
            ("self_attn.q_proj", _) => Part::Heads { kv: false },
            ("self_attn.k_proj" | "self_attn.v_proj", _) => Part::Heads { kv: true },
            ("self_attn.q_norm" | "self_attn.k_norm", Family::QkNorm | Family::QwenMoe) => {
                Part::Whole
            }
            (
                "pre_feedforward_layernorm" | "post_feedforward_layernorm",
                Family::Gemma2 | Family::QkNorm,
            ) => Part::Whole,
            ("block_sparse_moe.gate", Family::Mixtral) => Part::Whole,
            (_, Family::Mixtral) => {
                let (expert, name) = numbered(module.strip_prefix("block_sparse_moe.experts.")?)?;
                let part = match name {
                    "w1" | "w3" => Part::Rows,
                    "w2" => Part::Columns,
                    _ => return None,
                };
                return Some((Some(expert), part));
            }
            ("mlp.gate" | "mlp.shared_expert_gate", Family::QwenMoe) => Part::Whole,
            (_, Family::QwenMoe) => {
                let module = module.strip_prefix("mlp.")?;
                if let Some(rest) = module.strip_prefix("experts.") {
                    let (expert, name) = numbered(rest)?;
                    return Some((Some(expert), linear(name)?));
                }
                linear(module.strip_prefix("shared_expert.").unwrap_or(module))?
            }
            _ => linear(module.strip_prefix("mlp.")?)?,
        };
        Some((None, part))
    }

    fn cut_part(
        &self,
        part: Part,
        bias: bool,
        ranks: Ranks,
        name: &str,
        shape: &[u64],
    ) -> Result<Cut, SliceError> {
        let Architecture {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.architecture;
        let columns = matches!(part, Part::Columns | Part::HeadColumns);
        let dim = usize::from(columns);
        let of_heads = |heads: u64| heads.checked_mul(head_dim);
        let (q, kv) = (of_heads(heads), of_heads(kv_heads));
        let fused = || q?.checked_add(kv?.checked_mul(2)?);
        let expected = match part {
            Part::Heads { kv: false } | Part::HeadColumns => Some(q),
            Part::Heads { kv: true } => Some(kv),
            Part::Qkv => Some(fused()),
            _ => None,
        };
        let len = if part == Part::Whole { 0 } else { shape[dim] };
        if let Some(expected) = expected
            && expected != Some(len)
        {
            let heads = format!("{heads} heads and {kv_heads} key/value heads of {head_dim}");
            let what = if columns { "columns" } else { "rows" };
            let expected = expected.map_or_else(|| "too many".to_owned(), |n| n.to_string());
            return Err(mismatch(
                name,
                shape,
                format!("{expected} {what} are expected of {heads}"),
            ));
        }
        let q = || share(heads, ranks).map(|heads| scaled(heads, head_dim));
        let kv = || kv_share(kv_heads, ranks).map(|heads| scaled(heads, head_dim));
        let divided = |len: u64| {
            share(len, ranks).ok_or_else(|| SliceError::Divide {
                what: format!("dimension {dim} of tensor {name:?}, of length"),
                count: len,
                of: ranks.of,
            })
        };
        let heads_divide = "new() saw that the heads divide";
        let parts = match part {
            Part::Whole => return Ok(Cut::Whole),
            Part::Vocab => vec![vocab(len, ranks).ok_or_else(|| SliceError::Divide {
                what: format!("the vocabulary of tensor {name:?}, of length"),
                count: len,
                of: ranks.of,
            })?],
            Part::Heads { kv: false } | Part::HeadColumns => vec![q().expect(heads_divide)],
            Part::Heads { kv: true } => vec![kv().expect(heads_divide)],
            Part::Qkv => {
                let (q_len, kv_len) = (heads * head_dim, kv_heads * head_dim);
                let (q, kv) = (q().expect(heads_divide), kv().expect(heads_divide));
                vec![q, shifted(&kv, q_len), shifted(&kv, q_len + kv_len)]
            }
            Part::Rows | Part::Columns => vec![divided(len)?],
            Part::Halves => {
                if !len.is_multiple_of(2) {
                    let why = "two halves of equal length are expected".to_owned();
                    return Err(mismatch(name, shape, why));
                }
                let half = divided(len / 2)?;
                vec![half.clone(), shifted(&half, len / 2)]
            }
        };
        debug_assert!(!bias || dim == 0, "biases are cut by rows or not at all");
        Ok(Cut::Part { dim, parts })
    }
}

fn linear(name: &str) -> Option<Part> {
    match name {
        "gate_proj" | "up_proj" => Some(Part::Rows),
        "down_proj" => Some(Part::Columns),
        _ => None,
    }
}

/// The number in front of the first dot, in the one way to write it, and what follows.
fn numbered(name: &str) -> Option<(u64, &str)> {
    let (number, rest) = name.split_once('.')?;
    let canonical = number == "0" || !number.starts_with(['0', '+']);
    Some((number.parse().ok().filter(|_| canonical)?, rest))
}

fn mismatch(name: &str, shape: &[u64], why: String) -> SliceError {
    SliceError::Shape {
        name: name.to_owned(),
        shape: shape.to_vec(),
        why,
    }
}

/// The rank's share of `len`, if it divides.
fn share(len: u64, Ranks { rank, of }: Ranks) -> Option<Range<u64>> {
    let each = len / of;
    (len.is_multiple_of(of) && each > 0).then(|| rank * each..(rank + 1) * each)
}

/// The key/value heads of a rank: its share, or the one that it shares with its neighbours.
fn kv_share(heads: u64, ranks: Ranks) -> Option<Range<u64>> {
    share(heads, ranks).or_else(|| {
        let sharers = ranks.of / heads;
        let head = ranks.rank / sharers;
        ranks.of.is_multiple_of(heads).then_some(head..head + 1)
    })
}

/// The rank's rows of the vocabulary; none where they do not divide, or a rank would have none.
fn vocab(len: u64, ranks: Ranks) -> Option<Range<u64>> {
    share(len, ranks).or_else(|| {
        let padded = len.checked_next_multiple_of(VOCAB_MULTIPLE)?;
        let each = share(padded, ranks)?;
        // the last rank has the fewest
        let last_start = padded - (each.end - each.start);
        (last_start < len).then(|| each.start..each.end.min(len))
    })
}

fn scaled(range: Range<u64>, by: u64) -> Range<u64> {
    range.start * by..range.end * by
}

fn shifted(range: &Range<u64>, by: u64) -> Range<u64> {
    range.start + by..range.end + by
}

#[cfg(test)]
mod tests;
