//! Commit ids: what the Hub's clients call a version, in 40 hex digits.
//!
//! A version's commit id is the first 40 digits of its id. What is made of a version has a commit id too: the
//! first 32 digits of the version's id, and 8 of a hash of the recipes that make it. So an id leads back to its
//! version without a list of those that were handed out, on every node, and another rule set gives another id.

use lode_node::variants::{Recipe, VariantId};
use lode_store::VersionId;

/// Digits of a commit id.
pub(crate) const DIGITS: usize = 40;
/// Digits of it that name the version that something is made of.
const BASE_DIGITS: usize = 32;

/// The contexts of the derivations (docs/hub.md).
const MADE_CONTEXT: &str = "lode 2026-11-27 hub commit of what is made of a version";
const FILE_CONTEXT: &str = "lode 2026-11-27 hub file of a variant";

/// The commit id of a version.
pub(crate) fn of(version: VersionId) -> String {
    let mut hex = version.to_hex();
    hex.truncate(DIGITS);
    hex
}

/// The commit id of what these recipes make of a version: one of them a variant, several a repository.
pub(crate) fn of_made(version: VersionId, recipes: &[Recipe]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(MADE_CONTEXT);
    for recipe in recipes {
        hasher.update(&recipe.encode());
        hasher.update(b"\n");
    }
    let mut hex = version.to_hex();
    hex.truncate(BASE_DIGITS);
    hex.push_str(&hasher.finalize().to_hex()[..DIGITS - BASE_DIGITS]);
    hex
}

/// Whether a revision is a commit id.
pub(crate) fn is_one(rev: &str) -> bool {
    rev.len() == DIGITS && rev.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The digits of a commit id that name the version, if it is one of something that is made.
pub(crate) fn base(commit: &str) -> &str {
    &commit[..BASE_DIGITS]
}

/// What stands in for the SHA-256 of a file of a variant as long as nobody made all of it: 64 hex digits.
pub(crate) fn of_file(variant: VariantId, path: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(FILE_CONTEXT);
    hasher.update(variant.to_hex().as_bytes());
    hasher.update(path.as_bytes());
    hasher.finalize().to_hex().to_string()
}
