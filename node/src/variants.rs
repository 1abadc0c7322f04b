//! Variants of versions: other precisions of a model, made when they are read.
//!
//! What a variant is made of stands in `lode_quantize`: a recipe, its files laid out, and any range of them from ranges
//! of the version's own files. Here these ranges are read, from the home or from peers, and what was made is kept for
//! a while. Who may read is decided before, by `lode_store::access`, for the version that the variant is made from.

mod blocks;
pub(crate) mod check;
pub(crate) mod kept;
pub mod limits;
pub(crate) mod list;
mod open;
mod parts;
mod pull;
mod reader;
mod slice;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;

use lode_quantize::{MakeError, RecipeError, variant::LayoutError};
use lode_store::{TreeId, tree::Tree};

use crate::command::{Failure, FailureKind};

pub use blocks::{Blocks, Work};
pub use lode_quantize::Recipe;
pub use open::{Claimed, Opener, VariantAt, VariantFileAt};
pub(crate) use open::{Variants, variants};
pub(crate) use pull::{VariantPull, discard_temporary};
pub use reader::VariantReader;

/// Names a variant: BLAKE3 in its derive-key mode of the tree's id and the recipe's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantId([u8; 32]);

/// The context of the derivation (docs/format/recipe.md).
const ID_CONTEXT: &str = "lode 2026-11-26 variant id";

impl VariantId {
    /// The id of what a recipe makes of a tree.
    pub fn new(tree: TreeId, recipe: &Recipe) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        hasher.update(tree.as_bytes());
        hasher.update(&recipe.encode());
        Self(*hasher.finalize().as_bytes())
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

impl fmt::Display for VariantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The recipe of this name for a version with these files.
///
/// # Errors
/// There is none.
pub fn recipe(name: &str, tree: &Tree) -> Result<Recipe, Failure> {
    Ok(Recipe::named(name, paths(tree))?)
}

/// Every recipe for a version with these files.
pub fn recipes(tree: &Tree) -> Vec<Recipe> {
    Recipe::all(paths(tree))
}

/// The paths that recipes are chosen by.
fn paths(tree: &Tree) -> impl Iterator<Item = &str> {
    tree.files().iter().map(|file| file.path.as_str())
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Self {
        let kind = match error {
            RecipeError::Unknown { .. } | RecipeError::NoModel => FailureKind::NotFound,
            _ => FailureKind::Refused,
        };
        let advice = match error {
            RecipeError::Unknown { .. } => {
                Some("`lode variant ls NAME` lists them with their sizes".to_owned())
            }
            _ => None,
        };
        Self {
            kind,
            message: error.to_string(),
            advice,
        }
    }
}

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        let kind = match error {
            LayoutError::NoModel => FailureKind::NotFound,
            _ => FailureKind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<MakeError> for Failure {
    fn from(error: MakeError) -> Self {
        let kind = match error {
            MakeError::NotFinite { .. } | MakeError::TooLarge { .. } => FailureKind::Refused,
            _ => FailureKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}
