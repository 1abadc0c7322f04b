//! What a scheme makes of each tensor of a model, and what `config.json` says of it.

use std::collections::BTreeSet;

use lode_tensors::{ByteRange, Dtype, Header, Tensor};

use super::code::Code;
use super::config::{Config, Numbers, Quantization};
use super::file::{Piece, Together};
use super::kept::Budget;
use super::linear::{Role, TRANSPOSED, role};
use super::square::SIDE;
use super::{Scheme, channel, folder, group, square};
use crate::block::BlockType;
use crate::block_rows::{BlockRows, RowOrder, SourceRows};
use crate::source::SourceRange;
use crate::variant::LayoutError;
use crate::virtual_file::{Copied, Encode, Fixed};

/// The module that is always ignored: also where its weights are those of the embedding, loaders have it.
const HEAD: &str = "lm_head";

/// What happens to each tensor.
#[derive(Debug)]
pub(super) enum Plan {
    /// All floats get this type.
    Cast(BlockType),
    /// Matrices of linear layers are quantized.
    Quantize {
        layout: Layout,
        /// Names of modules that might be linear layers and stay.
        ignore: BTreeSet<String>,
    },
}

/// How a matrix is quantized.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Channel(Code),
    Square,
    /// Of so many weights.
    Group(u64),
}

impl Plan {
    /// The plan for a model, and its new `config.json` if it has one.
    pub(super) fn new(
        scheme: Scheme,
        headers: &[(usize, &Header)],
        config: Option<Config<'_>>,
    ) -> Result<(Self, Option<Vec<u8>>), LayoutError> {
        let layout = match scheme {
            Scheme::Bf16 | Scheme::F16 => {
                let (to, name) = match scheme {
                    Scheme::Bf16 => (BlockType::BF16, "bfloat16"),
                    _ => (BlockType::F16, "float16"),
                };
                return Ok((Self::Cast(to), config.map(|config| config.cast(name))));
            }
            Scheme::Fp8 => Layout::Channel(Code::Float8),
            Scheme::Int8 => Layout::Channel(Code::Int8),
            Scheme::Fp8Block => Layout::Square,
            Scheme::Int4 => Layout::Group(group::GROUPS[0]),
        };
        let config = config.ok_or_else(|| LayoutError::File {
            path: folder::CONFIG.to_owned(),
            cause: "it is missing: no loader could tell how to read this variant".to_owned(),
        })?;
        let model_type = config.text("model_type").unwrap_or_default();
        if TRANSPOSED.contains(&model_type.as_str()) {
            return Err(LayoutError::NotOffered(format!(
                "models of the type {model_type:?} hold their matrices transposed, which no loader quantizes"
            )));
        }
        let (mut linear, mut ignore) = (Vec::new(), BTreeSet::new());
        for tensor in headers.iter().flat_map(|(_, header)| &header.tensors) {
            match role(tensor) {
                Role::Linear(module) => linear.push((tensor, module)),
                Role::Stays(module) => {
                    ignore.insert(module.to_owned());
                }
                Role::Other => {}
            }
        }
        let layout = match layout {
            Layout::Channel(_) => layout,
            Layout::Square => {
                in_squares(&linear)?;
                layout
            }
            Layout::Group(_) => {
                let least = group::GROUPS[group::GROUPS.len() - 1];
                linear.retain(|(tensor, module)| {
                    let divided = tensor.row_elements().is_multiple_of(least);
                    if !divided {
                        ignore.insert((*module).to_owned());
                    }
                    divided
                });
                let divides = |group: &&u64| {
                    let mut rows = linear.iter().map(|(tensor, _)| tensor.row_elements());
                    rows.all(|weights| weights.is_multiple_of(**group))
                };
                Layout::Group(*group::GROUPS.iter().find(divides).unwrap_or(&least))
            }
        };
        if linear.is_empty() {
            return Err(LayoutError::NotOffered(format!(
                "this model has no linear layer that can become {}",
                scheme.name()
            )));
        }
        let text = config.quantized(&quantization(layout, &ignore));
        Ok((Self::Quantize { layout, ignore }, Some(text)))
    }

    /// What a tensor of a source file becomes.
    pub(super) fn encode(
        &self,
        file: usize,
        tensor: &Tensor,
        budget: &mut Budget,
    ) -> Result<Together, LayoutError> {
        let rows = |from| SourceRows {
            file,
            start: tensor.range.start,
            from,
            row_weights: tensor.row_elements(),
            rows: tensor.row_count(),
        };
        match (self, BlockType::from_dtype(tensor.dtype)) {
            (Self::Cast(to), Some(from)) if from != *to => {
                let encode = BlockRows::new(rows(from), RowOrder::Same, *to).map_err(|cause| {
                    LayoutError::Row {
                        tensor: tensor.name.clone(),
                        cause,
                    }
                })?;
                let mut tensor = tensor.clone();
                tensor.dtype = to.dtype();
                let encode = Box::new(encode);
                Ok(vec![Piece { tensor, encode }])
            }
            (Self::Quantize { layout, ignore }, Some(from)) => match role(tensor) {
                Role::Linear(module) if !ignore.contains(module) => {
                    Ok(layout.pieces(module, rows(from), budget))
                }
                _ => Ok(same(file, tensor)),
            },
            _ => Ok(same(file, tensor)),
        }
    }
}

fn same(file: usize, tensor: &Tensor) -> Together {
    let range = tensor.range;
    vec![Piece {
        tensor: tensor.clone(),
        encode: Box::new(Copied(SourceRange { file, range })),
    }]
}

impl Layout {
    /// The tensors that a matrix becomes.
    fn pieces(self, module: &str, matrix: SourceRows, budget: &mut Budget) -> Together {
        let (rows, columns) = (matrix.rows, matrix.row_weights);
        let piece =
            |name, dtype, shape: [u64; 2], encode| piece(module, name, dtype, &shape, encode);
        match self {
            Self::Channel(code) => {
                let dtype = match code {
                    Code::Float8 => Dtype::F8_E4M3,
                    Code::Int8 | Code::Int4 => Dtype::I8,
                };
                let (weights, scales) = channel::encodes(matrix, code, budget);
                vec![
                    piece("weight", dtype, [rows, columns], Box::new(weights)),
                    piece("weight_scale", Dtype::BF16, [rows, 1], Box::new(scales)),
                ]
            }
            Self::Square => {
                let (weights, scales) = square::encodes(matrix, budget);
                let squares = [rows / SIDE, columns / SIDE];
                vec![
                    piece("weight", Dtype::F8_E4M3, [rows, columns], Box::new(weights)),
                    piece("weight_scale_inv", Dtype::F32, squares, Box::new(scales)),
                ]
            }
            Self::Group(group) => {
                /// Codes in an element of 32 bits.
                const CODES: u64 = 8;
                let (packed, scales) = group::encodes(matrix, group);
                let (words, groups) = ([rows, columns / CODES], [rows, columns / group]);
                let shape = [rows, columns].map(u64::to_le_bytes).concat();
                vec![
                    piece("weight_packed", Dtype::I32, words, Box::new(packed)),
                    piece("weight_scale", Dtype::BF16, groups, Box::new(scales)),
                    self::piece(
                        module,
                        "weight_shape",
                        Dtype::I64,
                        &[2],
                        Box::new(Fixed(shape)),
                    ),
                ]
            }
        }
    }
}

fn piece(module: &str, name: &str, dtype: Dtype, shape: &[u64], encode: Box<dyn Encode>) -> Piece {
    let tensor = Tensor {
        name: format!("{module}.{name}"),
        dtype,
        shape: shape.to_vec(),
        range: ByteRange { start: 0, end: 0 },
    };
    Piece { tensor, encode }
}

/// Whether squares cover the matrices. Loaders read no other.
fn in_squares(linear: &[(&Tensor, &str)]) -> Result<(), LayoutError> {
    let cut = |tensor: &&Tensor| tensor.shape.iter().any(|dim| !dim.is_multiple_of(SIDE));
    match linear.iter().map(|(tensor, _)| *tensor).find(cut) {
        None => Ok(()),
        Some(tensor) => Err(LayoutError::NotOffered(format!(
            "tensor {:?} is {} x {}, which squares of {SIDE} x {SIDE} do not cover: loaders read no other",
            tensor.name, tensor.shape[0], tensor.shape[1]
        ))),
    }
}

/// What loaders need to know.
fn quantization(layout: Layout, ignore: &BTreeSet<String>) -> Quantization {
    let others = ignore.iter().filter(|module| *module != HEAD).cloned();
    let ignore = std::iter::once(HEAD.to_owned()).chain(others).collect();
    let numbers = |kind, num_bits, strategy| Numbers {
        dynamic: false,
        group_size: None,
        num_bits,
        strategy,
        symmetric: true,
        kind,
    };
    let tokens = |kind| Numbers {
        dynamic: true,
        ..numbers(kind, 8, "token")
    };
    match layout {
        Layout::Channel(code) => {
            let (format, kind) = match code {
                Code::Float8 => ("float-quantized", "float"),
                Code::Int8 | Code::Int4 => ("int-quantized", "int"),
            };
            let weights = numbers(kind, 8, "channel");
            Quantization::compressed(format, weights, Some(tokens(kind)), ignore)
        }
        Layout::Square => Quantization::squares(SIDE, ignore),
        Layout::Group(group) => {
            let weights = Numbers {
                group_size: Some(group),
                ..numbers("int", 4, "group")
            };
            Quantization::compressed("pack-quantized", weights, None, ignore)
        }
    }
}
