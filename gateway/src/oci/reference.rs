//! What an address of a registry names: a tag or a digest, as OCI's distribution specification writes them.

use std::{fmt, str::FromStr};

use crate::{answer::Problem, limits::OCI_TAG_CHARS_MAX};

/// How a digest begins: no other algorithm is spoken here.
const SHA256: &str = "sha256:";

/// The SHA-256 of a blob or a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// What names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The manifest with these bytes.
    Digest(Digest),
    /// A branch, a tag, a version or a variant.
    Tag(String),
}

/// Why a text names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A digest of another algorithm.
    #[error("digests here are `sha256:` and 64 hex digits, and this one is of {algorithm:?}")]
    Algorithm {
        /// The algorithm.
        algorithm: String,
    },
    /// Not 64 lower-case hex digits.
    #[error("a digest is `sha256:` and 64 lower-case hex digits, not {found:?}")]
    Digest {
        /// What was found.
        found: String,
    },
    /// Not a tag.
    #[error(
        "a tag has 1 to {OCI_TAG_CHARS_MAX} of A-Z, a-z, 0-9, `.`, `_` and -, and begins with none of `.` and -: not {found:?}"
    )]
    Tag {
        /// What was found.
        found: String,
    },
}

impl From<ReferenceError> for Problem {
    fn from(error: ReferenceError) -> Self {
        let code = match error {
            ReferenceError::Tag { .. } => "TAG_INVALID",
            _ => "DIGEST_INVALID",
        };
        Self::usage(error.to_string()).code(code)
    }
}

/// The start of a text, for messages.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(<sha2::Sha256 as sha2::Digest>::digest(bytes).into())
    }

    /// The digest with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHA256}{}", crate::file::hex(&self.0))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = || ReferenceError::Digest { found: shown(text) };
        let Some(hex) = text.strip_prefix(SHA256) else {
            return Err(match text.split_once(':') {
                Some((algorithm, _)) => ReferenceError::Algorithm {
                    algorithm: shown(algorithm),
                },
                None => bad(),
            });
        };
        // Lower case alone: a digest has one way to be written.
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes());
        let bytes = bytes.map_err(|_| bad())?;
        Ok(Self(bytes.try_into().map_err(|_| bad())?))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            return text.parse().map(Self::Digest);
        }
        match is_tag(text) {
            true => Ok(Self::Tag(text.to_owned())),
            false => Err(ReferenceError::Tag { found: shown(text) }),
        }
    }
}

/// Whether a text can be a tag.
pub fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= OCI_TAG_CHARS_MAX
        && text.bytes().next().is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_digest_has_one_way_to_be_written() {
        // `printf abc | sha256sum`
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let text = format!("sha256:{hex}");
        assert_eq!(text.parse(), Ok(Digest::of(b"abc")));
        assert_eq!(Digest::of(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(Reference::Digest(Digest::of(b"abc"))));
        for (bad, code) in [
            (format!("sha512:{hex}{hex}"), "Algorithm"),
            (format!("SHA256:{hex}"), "Algorithm"),
            (format!("sha256:{}", hex.to_ascii_uppercase()), "Digest"),
            (format!("sha256:{}", &hex[1..]), "Digest"),
            (format!("sha256:{hex}0"), "Digest"),
            (format!("sha256: {}", &hex[1..]), "Digest"),
            ("sha256:".to_owned(), "Digest"),
            (hex.to_owned(), "Digest"),
        ] {
            let error = bad.parse::<Digest>().unwrap_err();
            assert!(format!("{error:?}").starts_with(code), "{bad}: {error:?}");
        }
    }

    #[test]
    fn a_tag_is_short_and_plain() {
        let most = "a".repeat(OCI_TAG_CHARS_MAX);
        for good in ["v1", "v1--q4_k_m", "_x", "V1.0-rc", &most] {
            assert_eq!(good.parse(), Ok(Reference::Tag(good.to_owned())));
        }
        let more = "a".repeat(OCI_TAG_CHARS_MAX + 1);
        for bad in ["", ".a", "-a", "a b", "a/b", "a+b", "\u{e9}", "..", &more] {
            let error = bad.parse::<Reference>().unwrap_err();
            assert!(matches!(error, ReferenceError::Tag { .. }), "{bad}");
        }
    }
}
