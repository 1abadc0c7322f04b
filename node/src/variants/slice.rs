//! What a rank or stage needs of a safetensors variant: `--slice` on a variant.
//!
//! The rules are those of `lode_tensors::slice`, asked for the matrix of the version that a tensor of the variant is made
//! of. Casts and codes of a matrix have its rows and columns and are cut as it is; a scale for each row is cut by rows
//! and stays whole where columns are cut. Packed codes and scales of groups or squares are not cut: of such variants
//! there are slices of layers and experts alone.

use lode_quantize::{Method, Recipe, Scheme};
use lode_store::tree::Mode;
use lode_tensors::{
    ByteRange, Cut, Tensor,
    limits::CONFIG_BYTES_MAX,
    slice::{Architecture, Slice, SliceError, Slicer},
};

use super::{Opener, VariantAt};
use crate::{
    command::{Failure, FailureKind},
    read::Layout,
};

const CONFIG: &str = "config.json";
/// What ends the names of tensors that a matrix becomes, behind the name of the matrix.
const SUFFIXES: &[&str] = &["_packed", "_shape", "_scale_inv", "_scale"];

/// Says what of each tensor of a variant a slice has.
pub(super) struct VariantSlicer {
    slicer: Slicer,
    scheme: Scheme,
    base: std::sync::Arc<Layout>,
    /// As `config.json` names it.
    pub(super) architecture: String,
}

impl VariantSlicer {
    /// Holds a slice against the model that a variant is made from.
    pub(super) async fn new(
        opener: &Opener,
        recipe: &Recipe,
        slice: Slice,
    ) -> Result<Self, Failure> {
        let Method::SafetensorsToSafetensors(scheme) = recipe.method() else {
            return Err(
                Failure::refused("slices are cut from safetensors variants alone")
                    .advise("take tensors by name with --tensors"),
            );
        };
        if slice.tp.is_some() && matches!(scheme, Scheme::Int4 | Scheme::Fp8Block) {
            return Err(Failure::refused(format!(
                "{recipe} packs weights in groups, which no rank of a slice has whole"
            ))
            .advise("slice its layers or experts, or cut ranks from bf16, f16, fp8 or int8"));
        }
        let config = opener
            .tree()
            .files()
            .iter()
            .position(|file| file.path == CONFIG && file.mode != Mode::Link)
            .filter(|&at| opener.tree().files()[at].size <= CONFIG_BYTES_MAX as u64)
            .ok_or_else(|| Failure::refused("the version has no config.json that can be read"))?;
        let (start, end) = (0, opener.tree().files()[config].size);
        let opened = opener.open(config).await?;
        let bytes = opened.read_all(ByteRange { start, end }).await?;
        let architecture =
            Architecture::parse(&bytes).map_err(|error| Failure::refused(error.to_string()))?;
        let base = opener.layout().await?;
        let mut names = base.files().iter().flat_map(|file| &file.tensors);
        let has_head = names.any(|tensor| tensor.name.ends_with("lm_head.weight"));
        let name = architecture.name.clone();
        Ok(Self {
            slicer: Slicer::new(architecture, slice, has_head).map_err(failure)?,
            scheme,
            base,
            architecture: name,
        })
    }

    /// What the slice has of a tensor; nothing when it has none of it.
    pub(super) fn cut(&self, tensor: &Tensor) -> Result<Option<Cut>, Failure> {
        let named = |name: &str| self.base.find(name, None).ok().map(|(_, tensor)| tensor);
        let (matrix, suffix) = match named(&tensor.name) {
            Some(matrix) => (matrix, ""),
            None => SUFFIXES
                .iter()
                .find_map(|suffix| Some((named(tensor.name.strip_suffix(suffix)?)?, *suffix)))
                .ok_or_else(|| {
                    Failure::refused(format!(
                        "tensor {:?} belongs to none of the model",
                        tensor.name
                    ))
                })?,
        };
        let cut = self
            .slicer
            .cut(&matrix.name, &matrix.shape)
            .map_err(failure)?;
        Ok(match cut {
            Some(Cut::Part { dim: 1.., .. }) if suffix == "_scale" => Some(Cut::Whole),
            Some(Cut::Part { .. }) if !suffix.is_empty() && suffix != "_scale" => {
                return Err(Failure::failed(format!(
                    "tensor {:?} of {} cannot be cut",
                    tensor.name,
                    self.scheme.name()
                )));
            }
            cut => cut,
        })
    }
}

impl VariantAt {
    /// Positions of the files that hold tensors, and of those that come as they are with a slice.
    pub(super) fn split(&self) -> (Vec<usize>, Vec<usize>) {
        (0..self.files.len()).partition(|&file| {
            let made = self.files[file].made();
            made.is_some_and(|made| !made.tensors().is_empty())
        })
    }
}

fn failure(error: SliceError) -> Failure {
    let kind = match error {
        SliceError::Layers { .. } | SliceError::Experts { .. } | SliceError::Divide { .. } => {
            FailureKind::Usage
        }
        _ => FailureKind::Refused,
    };
    Failure::new(kind, format!("--slice: {error}"))
}
