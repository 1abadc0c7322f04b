//! Names of bytes: 32-byte BLAKE3 values, one type for each meaning.
//!
//! A value of one type is never mistaken for another: a [`ChunkHash`] names the bytes of a chunk or
//! of a document, a [`VersionId`] the bytes of a version, and so on. All print and parse as 64
//! lower-case hex digits, and are byte strings of length 32 in DAG-CBOR.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not 64 hex digits, or bytes that are not 32 long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hex digits (32 bytes), found {found:?}")]
pub struct HashParseError {
    /// What was found, cut to a printable length.
    pub found: String,
}

macro_rules! hash_type {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The BLAKE3 hash of `data`.
            pub fn of(data: &[u8]) -> Self {
                Self(*blake3::hash(data).as_bytes())
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 lower-case hex digits.
            pub fn to_hex(self) -> String {
                data_encoding::HEXLOWER.encode(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}..)", stringify!($name), &self.to_hex()[..8])
            }
        }

        impl FromStr for $name {
            type Err = HashParseError;

            fn from_str(text: &str) -> Result<Self, HashParseError> {
                let err = || HashParseError { found: text.chars().take(80).collect() };
                let bytes = data_encoding::HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .map_err(|_| err())?;
                Ok(Self(bytes.try_into().map_err(|_| err())?))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = HashParseError;

            fn try_from(bytes: &[u8]) -> Result<Self, HashParseError> {
                let bytes = bytes
                    .try_into()
                    .map_err(|_| HashParseError { found: format!("{} bytes", bytes.len()) })?;
                Ok(Self(bytes))
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(&self.to_hex())
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
                    Self::try_from(bytes.as_slice()).map_err(serde::de::Error::custom)
                }
            }
        }
    };
}

hash_type!(
    /// Names the bytes of a chunk, or of a document that is sent like one (a tree, a HashSeq).
    ChunkHash
);
hash_type!(
    /// Names a version: the BLAKE3 of its manifest's bytes as received.
    VersionId
);
hash_type!(
    /// Names a tree: the BLAKE3 of its sorted file list's bytes.
    TreeId
);
hash_type!(
    /// Names a publisher: the BLAKE3 of its first identity record.
    PublisherId
);
hash_type!(
    /// Names an identity or ref record: the BLAKE3 of its body.
    RecordId
);

impl From<VersionId> for ChunkHash {
    fn from(id: VersionId) -> Self {
        Self(id.0)
    }
}

impl From<TreeId> for ChunkHash {
    fn from(id: TreeId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_wrong_lengths_are_refused() {
        let hash = ChunkHash::of(b"lode");
        assert_eq!(hash.to_hex().parse::<ChunkHash>(), Ok(hash));
        assert!("abcd".parse::<ChunkHash>().is_err());
        assert!(ChunkHash::try_from(&[0u8; 31][..]).is_err());
    }
}
