//! A variant: the files that a recipe makes of a version, laid out from headers and small files alone.

use std::cell::OnceCell;
use std::sync::Arc;

use lode_tensors::Dtype;

use crate::block::RowError;
use crate::recipe::{Method, Recipe};
use crate::source::{Source, Wanted};
use crate::virtual_file::VirtualFile;
use crate::{compressed, convert, gguf};

/// The name of the one file of a GGUF variant.
pub const GGUF_FILE: &str = "model.gguf";

/// A file of a variant.
#[derive(Debug, Clone)]
pub struct VariantFile {
    /// Its path.
    pub path: String,
    /// Its bytes.
    pub bytes: FileBytes,
}

/// What a file of a variant holds.
#[derive(Debug, Clone)]
pub enum FileBytes {
    /// The same as a file of the version, named by its position there.
    Same(usize),
    /// Bytes that are made on demand.
    Made(Arc<VirtualFile>),
}

/// Why a variant cannot be made of a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// There is no model in it.
    #[error("this version has no model that this variant is made from")]
    NoModel,
    /// There are several, of which none is *the* model.
    #[error("several files could be the model: {}", paths.join(", "))]
    SeveralModels {
        /// Some of them.
        paths: Vec<String>,
    },
    /// A part of a sharded model is not in the version.
    #[error("the model is not whole: {what} is missing")]
    MissingShard {
        /// Which.
        what: String,
    },
    /// The weights are quantized already.
    #[error(
        "tensor {tensor:?} is quantized already ({dtype}): ask for this variant with -from-quantized at the end of its name to quantize it again, which loses precision"
    )]
    QuantizedSource {
        /// The first such tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
    },
    /// Weights of a type that is not read.
    #[error("tensor {tensor:?} has the type {dtype}, which no variant is made from")]
    TypeNotRead {
        /// The first such tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
    },
    /// Rows that cannot be made into the type.
    #[error("tensor {tensor:?}: {cause}")]
    Row {
        /// Its name.
        tensor: String,
        /// Why not.
        cause: RowError,
    },
    /// Two tensors of one name.
    #[error("tensor {tensor:?} is in the model twice")]
    TwiceNamed {
        /// The name.
        tensor: String,
    },
    /// A key-value of a GGUF header that is missing, or not copied.
    #[error("metadata key {key:?} is missing, or of a kind that is not copied")]
    Metadata {
        /// The key.
        key: String,
    },
    /// A small file that is missing, too long, or not what it must be.
    #[error("{path}: {cause}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// An architecture that is not converted.
    #[error("the architecture {found:?} is not converted to GGUF; {supported} are")]
    Architecture {
        /// What `config.json` names.
        found: String,
        /// All that are.
        supported: String,
    },
    /// A tensor that the architecture does not have.
    #[error("tensor {tensor:?} is not known in a model of the architecture {architecture}")]
    UnknownTensor {
        /// Its name.
        tensor: String,
        /// The architecture, as GGUF names it.
        architecture: &'static str,
    },
    /// A tensor of another shape than the model's description gives it.
    #[error("tensor {tensor:?} has the shape {found:?}, where config.json makes it {expected:?}")]
    TensorShape {
        /// Its name.
        tensor: String,
        /// Its dimensions, outermost first.
        found: Vec<u64>,
        /// What they should be.
        expected: Vec<u64>,
    },
    /// A model that this variant is not offered for.
    #[error("{0}")]
    NotOffered(String),
    /// Lengths that overflow, or a header over the limit of readers.
    #[error("the variant would be longer than a file can be")]
    TooLong,
}

/// What a layout reads of a file with this path, for this recipe.
pub fn wanted(recipe: &Recipe, path: &str) -> Wanted {
    match recipe.method() {
        Method::GgufToGguf(_) if is(path, "gguf") => Wanted::Header,
        Method::GgufToGguf(_) => Wanted::Nothing,
        Method::SafetensorsToGguf(_) => convert::wanted(path),
        Method::SafetensorsToSafetensors(_) => compressed::wanted(path),
    }
}

/// Whether a path ends with this extension, in whatever case.
pub(crate) fn is(path: &str, extension: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
}

/// Lays a variant out.
///
/// # Errors
/// See [`LayoutError`].
pub fn layout(recipe: &Recipe, source: &Source) -> Result<Vec<VariantFile>, LayoutError> {
    Layouts::new(source).layout(recipe)
}

/// Lays out several variants of one version, and does what they share once.
#[derive(Debug)]
pub struct Layouts<'s> {
    source: &'s Source,
    converted: OnceCell<Result<convert::Common, LayoutError>>,
}

impl<'s> Layouts<'s> {
    /// Variants of these files.
    pub fn new(source: &'s Source) -> Self {
        Self {
            source,
            converted: OnceCell::new(),
        }
    }

    /// Lays a variant out.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn layout(&self, recipe: &Recipe) -> Result<Vec<VariantFile>, LayoutError> {
        let (source, from_quantized) = (self.source, recipe.from_quantized());
        match recipe.method() {
            Method::GgufToGguf(mixture) => {
                gguf::layout(source, mixture, from_quantized).map(one_gguf)
            }
            Method::SafetensorsToGguf(mixture) => {
                let common = self.converted.get_or_init(|| convert::common(source));
                let common = common.as_ref().map_err(Clone::clone)?;
                convert::layout(source, common, mixture, from_quantized).map(one_gguf)
            }
            Method::SafetensorsToSafetensors(scheme) => {
                compressed::layout(source, scheme, from_quantized)
            }
        }
    }
}

fn one_gguf(file: VirtualFile) -> Vec<VariantFile> {
    vec![VariantFile {
        path: GGUF_FILE.to_owned(),
        bytes: FileBytes::Made(Arc::new(file)),
    }]
}
