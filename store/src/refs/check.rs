//! Which refs there are, and which operation each needs.

use super::RefError;
use crate::identity::Operation;
use crate::name::check_ref_name;

/// The ref whose existence makes a model readable by everyone.
pub const PUBLIC_REF: &str = "access/public";

/// A ref by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefName<'a> {
    /// `heads/NAME`.
    Branch(&'a str),
    /// `tags/NAME`.
    Tag(&'a str),
    /// `variants/NAME`: a kept variant, which its signer claims to be what a recipe makes of a version.
    Variant(&'a str),
    /// `access/public`.
    Public,
}

impl<'a> RefName<'a> {
    /// Reads a ref's full name.
    ///
    /// # Errors
    /// [`RefError::UnknownRef`] or [`RefError::Name`].
    pub fn parse(full: &'a str) -> Result<Self, RefError> {
        let (name, parsed) = match full.split_once('/') {
            Some(("heads", name)) => (name, Self::Branch(name)),
            Some(("tags", name)) => (name, Self::Tag(name)),
            Some(("variants", name)) => (name, Self::Variant(name)),
            _ if full == PUBLIC_REF => return Ok(Self::Public),
            _ => {
                return Err(RefError::UnknownRef {
                    found: full.chars().take(100).collect(),
                });
            }
        };
        check_ref_name(name)?;
        Ok(parsed)
    }

    /// The operations of which one permits to set it, or to delete it if `deletes`.
    pub fn operations(self, deletes: bool) -> &'static [Operation] {
        match self {
            Self::Branch(_) if deletes => &[Operation::Branch],
            Self::Branch(_) => &[Operation::Push, Operation::Branch],
            Self::Tag(_) => &[Operation::Tag],
            Self::Variant(_) => &[Operation::Push],
            Self::Public => &[Operation::Access],
        }
    }
}

impl std::fmt::Display for RefName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "heads/{name}"),
            Self::Tag(name) => write!(f, "tags/{name}"),
            Self::Variant(name) => write!(f, "variants/{name}"),
            Self::Public => f.write_str(PUBLIC_REF),
        }
    }
}

/// Checks the full name of a ref.
///
/// # Errors
/// [`RefError::UnknownRef`] or [`RefError::Name`].
pub fn check_ref(full: &str) -> Result<(), RefError> {
    RefName::parse(full).map(drop)
}
