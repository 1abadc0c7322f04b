//! The character rules of names, shared by what users write and what documents carry.

use super::{NameError, RESERVED_ALIASES};
use crate::limits::{
    ALIAS_BYTES_MAX, MODEL_BYTES_MAX, ORIGIN_MODEL_BYTES_MAX, REF_NAME_BYTES_MAX, VARIANT_BYTES_MAX,
};

/// What a message shows of a text from outside.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn is_word(text: &str, bytes_max: usize, extra: &[u8]) -> bool {
    (1..=bytes_max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
}

/// Checks a local alias of a publisher: `[a-z0-9-]{1,39}`, not starting with `-`, not reserved.
///
/// # Errors
/// [`NameError::Publisher`] or [`NameError::ReservedAlias`].
pub fn check_alias(alias: &str) -> Result<(), NameError> {
    let fits = is_word(alias, ALIAS_BYTES_MAX, b"-")
        && !alias.bytes().any(|b| b.is_ascii_uppercase())
        && !alias.starts_with('-');
    if !fits {
        return Err(NameError::Publisher {
            found: shown(alias),
        });
    }
    if RESERVED_ALIASES.contains(&alias) {
        return Err(NameError::ReservedAlias {
            found: alias.to_owned(),
        });
    }
    Ok(())
}

/// Checks the name of a model: `[A-Za-z0-9._-]{1,96}`, not `.` or `..`.
///
/// # Errors
/// [`NameError::Model`].
pub fn check_model(model: &str) -> Result<(), NameError> {
    if is_word(model, MODEL_BYTES_MAX, b"._-") && model != "." && model != ".." {
        Ok(())
    } else {
        Err(NameError::Model {
            found: shown(model),
        })
    }
}

/// Checks the name of a version without publisher: names of models joined by `/` (host, organisation
/// and repository), at most 256 bytes.
///
/// # Errors
/// [`NameError::Model`].
pub fn check_origin_model(model: &str) -> Result<(), NameError> {
    if model.len() > ORIGIN_MODEL_BYTES_MAX {
        return Err(NameError::Model {
            found: shown(model),
        });
    }
    model.split('/').try_for_each(check_model)
}

/// What two names of models have in common when they differ in case alone: a publisher has only one
/// of them.
pub fn fold_model(model: &str) -> String {
    model.to_ascii_lowercase()
}

/// Checks the name of a branch or tag, without `heads/` or `tags/`: `[A-Za-z0-9._+-]{1,128}`, not
/// starting with `.` or `-`, not ending with `.`, without `--` (it separates a variant), and not all
/// hex digits (they name a version).
///
/// # Errors
/// [`NameError::Ref`], which says which rule.
pub fn check_ref_name(name: &str) -> Result<(), NameError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > REF_NAME_BYTES_MAX {
        "it is too long"
    } else if !is_word(name, REF_NAME_BYTES_MAX, b"._+-") {
        "it has another character"
    } else if name.starts_with(['.', '-']) || name.ends_with('.') {
        "it must not start with `.` or -, nor end with `.`"
    } else if name.contains("--") {
        "it must not contain --, which comes before a variant"
    } else if name.bytes().all(|b| b.is_ascii_hexdigit()) {
        "it must not be all hex digits, which name a version"
    } else {
        return Ok(());
    };
    Err(NameError::Ref {
        found: shown(name),
        why,
    })
}

/// Checks the name of a variant: `[A-Za-z0-9._-]{1,64}`.
///
/// # Errors
/// [`NameError::Variant`].
pub fn check_variant(variant: &str) -> Result<(), NameError> {
    if is_word(variant, VARIANT_BYTES_MAX, b"._-") {
        Ok(())
    } else {
        Err(NameError::Variant {
            found: shown(variant),
        })
    }
}
