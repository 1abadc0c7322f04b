//! GGUF variants of GGUF models: what `llama-quantize` would write, byte for byte.
//!
//! The source is one file, or one that was split. Its key-values are kept in order, without those that say how it was
//! split; those that name the quantization come last. Tensors stand by layer and name, each with the type that
//! [`mixture`] gives it. An alignment other than 32 is kept, where `llama-quantize` writes a file that says one thing
//! and does another.

pub(crate) mod entries;
pub(crate) mod file;
pub(crate) mod mixture;

use lode_tensors::{Format, Header, Metadata, Value};

use crate::block::BlockType;
use crate::block_rows::{RowOrder, SourceRows};
use crate::source::{Source, SourceRange};
use crate::variant::LayoutError;
use crate::virtual_file::VirtualFile;
use entries::{Entries, first_number};
use file::{Draft, Origin, lay_out, put_file_type};
use mixture::{Mixture, Shape};

/// Keys that a quantized file does not take over: of the split, and those that it writes itself.
const LEFT_OUT: &[&str] = &[
    "split.no",
    "split.count",
    "split.tensors.count",
    "general.quantization_version",
    "general.file_type",
];
const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT_BYTES: u64 = 32;

/// The files of `source` that are one GGUF model: all parts of a split one in order, or the only one.
///
/// # Errors
/// When there is none, there are several, or parts are missing.
fn parts(source: &Source) -> Result<Vec<usize>, LayoutError> {
    let models: Vec<usize> = source
        .files
        .iter()
        .enumerate()
        .filter(|(_, file)| {
            file.tensors().is_some_and(|(header, _)| {
                matches!(header.format, Format::Gguf { .. }) && !is_projector(header)
            })
        })
        .map(|(position, _)| position)
        .collect();
    match models.as_slice() {
        [] => Err(LayoutError::NoModel),
        [one] if split(source, *one).1 <= 1 => Ok(models),
        _ => whole_split(source, models),
    }
}

/// Whether a file holds the eyes or ears of a model, not the model.
fn is_projector(header: &Header) -> bool {
    header.metadata.architecture() == Some("clip")
}

/// Which part of how many a file is.
fn split(source: &Source, position: usize) -> (u64, u64) {
    let number = |key| {
        let (header, _) = source.files[position].tensors()?;
        header.metadata.entry(key)?.value.as_u64()
    };
    (
        number("split.no").unwrap_or(0),
        number("split.count").unwrap_or(1),
    )
}

fn whole_split(source: &Source, mut models: Vec<usize>) -> Result<Vec<usize>, LayoutError> {
    let count = split(source, models[0]).1;
    if count <= 1 || models.iter().any(|&at| split(source, at).1 != count) {
        let paths = models.iter().map(|&at| source.files[at].path.clone());
        return Err(LayoutError::SeveralModels {
            paths: paths.take(SHOWN_PATHS).collect(),
        });
    }
    models.sort_by_key(|&at| split(source, at).0);
    for (expected, &at) in models.iter().enumerate() {
        let (number, _) = split(source, at);
        if number != expected as u64 {
            return Err(LayoutError::MissingShard {
                what: format!("part {} of {count} of a split GGUF file", expected + 1),
            });
        }
    }
    if models.len() as u64 != count {
        return Err(LayoutError::MissingShard {
            what: format!("part {} of {count} of a split GGUF file", models.len() + 1),
        });
    }
    Ok(models)
}

/// Paths that an error names at most.
const SHOWN_PATHS: usize = 4;

/// Lays out the file that `llama-quantize` would write.
pub(crate) fn layout(
    source: &Source,
    mixture: Mixture,
    from_quantized: bool,
) -> Result<VirtualFile, LayoutError> {
    let parts = parts(source)?;
    let header_of = |at: usize| {
        source.files[at]
            .tensors()
            .expect("parts are files of tensors")
    };
    let (header, bytes) = header_of(parts[0]);
    let Metadata::Gguf(own) = &header.metadata else {
        return Err(LayoutError::NoModel);
    };
    let mut entries = Entries::default();
    for entry in own
        .iter()
        .filter(|entry| !LEFT_OUT.contains(&entry.key.as_str()))
    {
        let copied = entry
            .range
            .of(bytes)
            .is_some_and(|bytes| entries.copy(bytes));
        if !copied {
            return Err(LayoutError::Metadata {
                key: entry.key.clone(),
            });
        }
    }
    put_file_type(&mut entries, mixture);
    let alignment = match header
        .metadata
        .entry(ALIGNMENT_KEY)
        .map(|entry| &entry.value)
    {
        Some(Value::U32(bytes)) => u64::from(*bytes).max(1),
        _ => ALIGNMENT_BYTES,
    };
    let mut drafts = Vec::new();
    for &file in &parts {
        for tensor in &header_of(file).0.tensors {
            let origin = match BlockType::from_dtype(tensor.dtype) {
                // Norms and biases are copied without a look at their values, as llama-quantize does.
                Some(from) if tensor.shape.len() > 1 => Origin::Rows(
                    SourceRows {
                        file,
                        start: tensor.range.start,
                        from,
                        row_weights: tensor.row_elements(),
                        rows: tensor.row_count(),
                    },
                    RowOrder::Same,
                ),
                _ => Origin::Bytes(SourceRange {
                    file,
                    range: tensor.range,
                }),
            };
            let tensor = tensor.clone();
            drafts.push(Draft { tensor, origin });
        }
    }
    let shape = shape(header, bytes)?;
    lay_out(&entries, alignment, mixture, &shape, from_quantized, drafts)
}

/// What the rules ask of the model that a header describes.
fn shape(header: &Header, bytes: &[u8]) -> Result<Shape, LayoutError> {
    let architecture = header
        .metadata
        .architecture()
        .ok_or(LayoutError::Metadata {
            key: "general.architecture".to_owned(),
        })?;
    let number = |key: &str| {
        let entry = header.metadata.entry(&format!("{architecture}.{key}"))?;
        first_number(entry.range.of(bytes)?)
    };
    let heads = number("attention.head_count").unwrap_or(0);
    Ok(Shape {
        layers: number("block_count").unwrap_or(0),
        experts: number("expert_count").filter(|&n| n > 1).unwrap_or(0),
        heads,
        kv_heads: number("attention.head_count_kv").unwrap_or(heads),
        architecture: architecture.to_owned(),
    })
}
