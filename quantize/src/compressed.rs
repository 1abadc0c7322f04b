//! safetensors variants of safetensors models: whole folders that loaders of the Hugging Face layout open.
//!
//! A variant has the files of the model under the same names, each tensor that is made anew in the place of the old one
//! and its scales right after it; a new index; `config.json` with what loaders need to know ([`config`]); and every
//! other file as it is. [`linear`] tells what is quantized; heads, embeddings, norms, biases, routers and what is no
//! matrix stay. docs/format/variants-safetensors.md has the bytes and the arithmetic, which [`code`] does.

mod channel;
mod code;
mod config;
mod file;
mod folder;
mod group;
mod kept;
mod linear;
mod plan;
mod square;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lode_tensors::{
    ByteRange, Dtype, Header, Tensor, limits::CONFIG_BYTES_MAX, limits::INDEX_BYTES_MAX,
};

use crate::source::{Source, Wanted};
use crate::variant::{FileBytes, LayoutError, VariantFile, is};
use crate::virtual_file::{EncodeError, Fixed, VirtualFile};
pub(crate) use code::Code;
use config::Config;
use folder::{Folder, checked, whole};
use kept::Budget;
use plan::Plan;

/// The name of these rules in a recipe.
pub(crate) const RULES: &str = "lode-safetensors-1";

macro_rules! schemes {
    ($($(#[$doc:meta])* $variant:ident $name:literal;)*) => {
        /// A precision of a folder of safetensors files.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Scheme { $($(#[$doc])* $variant,)* }

        impl Scheme {
            /// All, from the most bits a weight to the fewest.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The scheme of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|scheme| scheme.name() == name)
            }
        }
    };
}

schemes! {
    /// Brain floats.
    Bf16 "bf16";
    /// Half floats.
    F16 "f16";
    /// 8-bit floats with a scale to a row; activations are quantized by token as they come.
    Fp8 "fp8";
    /// Whole numbers of 8 bits with a scale to a row; activations are quantized by token as they come.
    Int8 "int8";
    /// 8-bit floats with a scale to a square of 128 x 128, as DeepSeek's models have.
    Fp8Block "fp8-block";
    /// Whole numbers of 4 bits with a scale to a group of 128, 64 or 32.
    Int4 "int4";
}

pub(crate) fn wanted(path: &str) -> Wanted {
    if is(path, "safetensors") {
        Wanted::Header
    } else if path.ends_with(folder::INDEX) {
        Wanted::Whole {
            bytes_max: INDEX_BYTES_MAX as u64,
        }
    } else if path.rsplit('/').next() == Some(folder::CONFIG) {
        Wanted::Whole {
            bytes_max: CONFIG_BYTES_MAX as u64,
        }
    } else {
        Wanted::Nothing
    }
}

pub(crate) fn layout(
    source: &Source,
    scheme: Scheme,
    from_quantized: bool,
) -> Result<Vec<VariantFile>, LayoutError> {
    let folder = Folder::find(source)?;
    let config = folder
        .config
        .map(|at| read_config(source, at))
        .transpose()?;
    let mut headers = Vec::with_capacity(folder.shards.len());
    for &at in &folder.shards {
        headers.push((at, checked(source, at)?));
    }
    check_tensors(&headers)?;
    if config.as_ref().is_some_and(Config::is_quantized) || from_quantized {
        let text = "safetensors variants are made of models that are not quantized";
        return Err(LayoutError::NotOffered(text.to_owned()));
    }
    let (plan, new_config) = Plan::new(scheme, &headers, config)?;
    let mut made = BTreeMap::new();
    let mut budget = Budget::new();
    let mut changed = false;
    for &(at, header) in &headers {
        let mut tensors = Vec::with_capacity(header.tensors.len());
        for tensor in &header.tensors {
            let pieces = plan.encode(at, tensor, &mut budget)?;
            changed |= pieces.iter().any(|p| p.tensor.dtype != tensor.dtype);
            tensors.push(pieces);
        }
        made.insert(at, file::lay_out(&header.metadata, tensors)?);
    }
    if !changed {
        return Err(LayoutError::NotOffered(format!(
            "no weight of this model would become {}",
            scheme.name()
        )));
    }
    if let Some(at) = folder.index {
        let bytes = index(source, &made);
        made.insert(at, fixed(bytes));
    }
    if let (Some(at), Some(bytes)) = (folder.config, new_config) {
        made.insert(at, fixed(bytes));
    }
    let files = source
        .files
        .iter()
        .enumerate()
        .map(|(at, file)| VariantFile {
            path: file.path.clone(),
            bytes: match made.remove(&at) {
                Some(file) => FileBytes::Made(Arc::new(file)),
                None => FileBytes::Same(at),
            },
        });
    Ok(files.collect())
}

fn fixed(bytes: Vec<u8>) -> VirtualFile {
    let mut file = VirtualFile::default();
    file.push(Fixed(bytes));
    file
}

fn read_config(source: &Source, at: usize) -> Result<Config<'_>, LayoutError> {
    Config::parse(whole(source, at)?).map_err(|error| LayoutError::File {
        path: source.files[at].path.clone(),
        cause: error.to_string(),
    })
}

/// Names are of one tensor each, and none of them is quantized.
fn check_tensors(headers: &[(usize, &Header)]) -> Result<(), LayoutError> {
    let mut names = BTreeSet::new();
    for tensor in headers.iter().flat_map(|(_, header)| &header.tensors) {
        if !names.insert(&tensor.name) {
            let tensor = tensor.name.clone();
            return Err(LayoutError::TwiceNamed { tensor });
        }
        if is_quantized(tensor) {
            return Err(LayoutError::NotOffered(format!(
                "tensor {:?} is quantized already ({}); safetensors variants are made of models that are not",
                tensor.name, tensor.dtype
            )));
        }
    }
    Ok(())
}

/// Whether a tensor holds codes: small floats always, whole numbers where weights are expected.
fn is_quantized(tensor: &Tensor) -> bool {
    /// Ends of names of codes in the formats that are common.
    const CODES: &[&str] = &[".weight", ".qweight", ".weight_packed", "_blocks"];
    match tensor.dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::C64 | Dtype::BOOL => false,
        Dtype::U8 | Dtype::I8 | Dtype::U16 | Dtype::I16 => is_code(tensor, CODES),
        Dtype::U32 | Dtype::I32 | Dtype::U64 | Dtype::I64 => is_code(tensor, CODES),
        _ => true,
    }
}

fn is_code(tensor: &Tensor, ends: &[&str]) -> bool {
    tensor.shape.len() > 1 && ends.iter().any(|end| tensor.name.ends_with(end))
}

/// The index of the files that were made.
fn index(source: &Source, made: &BTreeMap<usize, VirtualFile>) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Index<'f> {
        metadata: IndexMetadata,
        weight_map: BTreeMap<&'f str, &'f str>,
    }
    #[derive(serde::Serialize)]
    struct IndexMetadata {
        total_size: u64,
    }
    let mut weight_map = BTreeMap::new();
    let mut total_size = 0_u64;
    for (&at, file) in made {
        let path = &source.files[at].path;
        let name = path.rsplit('/').next().unwrap_or(path);
        for tensor in file.tensors() {
            weight_map.insert(tensor.name.as_str(), name);
            total_size = total_size.saturating_add(tensor.range.len());
        }
    }
    let index = Index {
        metadata: IndexMetadata { total_size },
        weight_map,
    };
    let mut bytes = serde_json::to_vec_pretty(&index).expect("maps of text are JSON");
    bytes.push(b'\n');
    bytes
}

/// Writes the bytes of `range` of values that follow one another.
fn put_values<const N: usize>(
    range: ByteRange,
    out: &mut [u8],
    mut value: impl FnMut(u64) -> Result<[u8; N], EncodeError>,
) -> Result<(), EncodeError> {
    let mut at = range.start;
    let mut rest = out;
    while !rest.is_empty() {
        let bytes = value(at / N as u64)?;
        let part = &bytes[index_of(at % N as u64)..];
        let (made, left) = rest.split_at_mut(part.len().min(rest.len()));
        made.copy_from_slice(&part[..made.len()]);
        at += made.len() as u64;
        rest = left;
    }
    Ok(())
}

/// Hands over each part of `range` that lies between two multiples of `unit`, with its bytes of `out`, which is as long.
fn in_units(
    range: ByteRange,
    unit: u64,
    out: &mut [u8],
    mut put: impl FnMut(ByteRange, &mut [u8]) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut start = range.start;
    let mut rest = out;
    while start < range.end {
        let end = range.end.min((start / unit + 1) * unit);
        let (made, left) = rest.split_at_mut(index_of(end - start));
        put(ByteRange { start, end }, made)?;
        (start, rest) = (end, left);
    }
    Ok(())
}

fn index_of(value: u64) -> usize {
    usize::try_from(value).expect("it is part of something in memory")
}
