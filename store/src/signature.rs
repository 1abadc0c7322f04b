//! Detached signatures: who vouches for the hash of some bytes.
//!
//! A signature is made over `context ‖ 0x00 ‖ BLAKE3(body)`, so that one made for a ref record is
//! never valid for a version, whatever the bytes. A body may carry several. Algorithms that this
//! version of Lode does not know are kept, and count as not verified.
//!
//! Keys are named by a [`KeyId`]: an Ed25519 key by its 32 bytes, a key of another algorithm by the
//! BLAKE3 of its [`PublicKey`] document. Bytes come from peers and from logs.

mod signed;

pub use signed::{Signed, VersionSignatures};

use std::{fmt, str::FromStr};

use ed25519_dalek::Verifier as _;

use crate::document::{DocumentError, MapWriter, Reader, require};
use crate::limits::{ALGORITHM_BYTES_MAX, PUBLIC_KEY_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::{ErrorKind, HashParseError};

/// The name of the one algorithm that this version of Lode verifies.
pub const ED25519: &str = "ed25519";

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    /// A version.
    Version,
    /// A record of an identity log.
    Identity,
    /// A ref record.
    Ref,
    /// A capability.
    Capability,
}

impl Context {
    /// The text that is signed before the hash.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "lode version 1",
            Self::Identity => "lode identity 1",
            Self::Ref => "lode ref 1",
            Self::Capability => "lode capability 1",
        }
    }

    /// The bytes that are signed for a body with this BLAKE3 hash.
    fn message(self, hash: &[u8; 32]) -> Vec<u8> {
        [self.as_str().as_bytes(), &[0], hash].concat()
    }
}

/// Names a public key: the key itself if it is an Ed25519 key, else the BLAKE3 of its document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// Wraps 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "KeyId({}..)",
            data_encoding::HEXLOWER.encode(&self.0[..4])
        )
    }
}

impl FromStr for KeyId {
    type Err = HashParseError;

    fn from_str(text: &str) -> Result<Self, HashParseError> {
        text.parse::<crate::ChunkHash>()
            .map(|hash| Self(*hash.as_bytes()))
    }
}

/// A public key of any algorithm. Sorts by algorithm, then by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    /// The algorithm: `ed25519`, or one that is not known yet.
    pub alg: String,
    /// The key's bytes as the algorithm defines them: 32 for Ed25519.
    pub key: Vec<u8>,
}

impl PublicKey {
    /// The Ed25519 key of these bytes.
    pub fn ed25519(key: [u8; 32]) -> Self {
        Self {
            alg: ED25519.to_owned(),
            key: key.to_vec(),
        }
    }

    /// What the key is called in signatures and records.
    pub fn id(&self) -> KeyId {
        match <[u8; 32]>::try_from(self.key.as_slice()) {
            Ok(key) if self.alg == ED25519 => KeyId(key),
            _ => {
                let mut bytes = Vec::new();
                self.encode_into(&mut bytes);
                KeyId(*blake3::hash(&bytes).as_bytes())
            }
        }
    }

    /// Appends the key's document: `{"alg": text, "key": bytes}`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        MapWriter::new()
            .text("alg", &self.alg)
            .bytes("key", &self.key)
            .finish_into(out);
    }

    /// Reads the key's document.
    ///
    /// # Errors
    /// When it is malformed, or an Ed25519 key is not 32 bytes long.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DocumentError> {
        let (mut alg, mut key) = (None, None);
        reader.map::<DocumentError>(|name, r| {
            match name {
                "alg" => alg = Some(r.text(ALGORITHM_BYTES_MAX)?),
                "key" => key = Some(r.bytes(PUBLIC_KEY_BYTES_MAX)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (alg, key) = (require(alg, "alg")?, require(key, "key")?);
        if alg == ED25519 && key.len() != 32 {
            return Err(DocumentError::invalid("key", "an ed25519 key has 32 bytes"));
        }
        Ok(Self {
            alg: alg.to_owned(),
            key: key.to_vec(),
        })
    }
}

/// One signature: algorithm, key and the signature itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// The algorithm.
    pub alg: String,
    /// Who signed.
    pub key: KeyId,
    /// The signature's bytes as the algorithm defines them: 64 for Ed25519.
    pub sig: Vec<u8>,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is no signature by that key.
    #[error(
        "no signature by the key {key}: ask the publisher to sign it, or fetch it from another peer"
    )]
    Missing {
        /// The key that had to sign.
        key: KeyId,
    },
    /// The signature is not one by that key over these bytes.
    #[error(
        "the signature by the key {key} is wrong: forged or damaged, do not trust the peer it came from"
    )]
    Wrong {
        /// The key that is said to have signed.
        key: KeyId,
    },
    /// The algorithm is not known.
    #[error(
        "the signature by the key {key} uses {alg:?}, which this Lode cannot verify: update Lode"
    )]
    UnknownAlgorithm {
        /// The key that is said to have signed.
        key: KeyId,
        /// The algorithm.
        alg: String,
    },
}

impl SignatureError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Refused
    }
}

impl Signature {
    /// Checks that `key` signed the body of this BLAKE3 `hash` for `context`.
    ///
    /// Ed25519 as in RFC 8032, with canonical encodings required, and small-order keys and nonces
    /// refused (`verify_strict` of ed25519-dalek), so that one signature fits one key and one body.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`] or [`SignatureError::UnknownAlgorithm`].
    pub fn verify(&self, context: Context, hash: &[u8; 32]) -> Result<(), SignatureError> {
        if self.alg != ED25519 {
            return Err(SignatureError::UnknownAlgorithm {
                key: self.key,
                alg: self.alg.clone(),
            });
        }
        let wrong = |_| SignatureError::Wrong { key: self.key };
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.key.0).map_err(wrong)?;
        let sig = ed25519_dalek::Signature::from_slice(&self.sig).map_err(wrong)?;
        let message = context.message(hash);
        key.verify_strict(&message, &sig).map_err(wrong)?;
        debug_assert!(key.verify(&message, &sig).is_ok(), "strict is a subset");
        Ok(())
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        MapWriter::new()
            .text("alg", &self.alg)
            .bytes("key", &self.key.0)
            .bytes("sig", &self.sig)
            .finish_into(out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DocumentError> {
        let (mut alg, mut key, mut sig) = (None, None, None);
        reader.map::<DocumentError>(|name, r| {
            match name {
                "alg" => alg = Some(r.text(ALGORITHM_BYTES_MAX)?),
                "key" => key = Some(KeyId(r.array_of()?)),
                "sig" => sig = Some(r.bytes(SIGNATURE_BYTES_MAX)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (alg, key, sig) = (
            require(alg, "alg")?,
            require(key, "key")?,
            require(sig, "sig")?,
        );
        if alg == ED25519 && sig.len() != 64 {
            return Err(DocumentError::invalid(
                "sig",
                "an ed25519 signature has 64 bytes",
            ));
        }
        Ok(Self {
            alg: alg.to_owned(),
            key,
            sig: sig.to_vec(),
        })
    }
}

/// A secret Ed25519 key. Its bytes are wiped from memory when it is dropped, and never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes a new key from the operating system's random numbers.
    pub fn generate() -> Self {
        Self::from_bytes(&rand::random())
    }

    /// The key of these 32 secret bytes.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The 32 secret bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey::ed25519(self.0.verifying_key().to_bytes())
    }

    /// The name of the public key.
    pub fn id(&self) -> KeyId {
        KeyId(self.0.verifying_key().to_bytes())
    }

    /// Signs the body of this BLAKE3 `hash` for `context`.
    pub fn sign(&self, context: Context, hash: &[u8; 32]) -> Signature {
        use ed25519_dalek::Signer as _;
        let sig = self.0.sign(&context.message(hash)).to_bytes().to_vec();
        Signature {
            alg: ED25519.to_owned(),
            key: self.id(),
            sig,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(secret of {:?})", self.id())
    }
}

#[cfg(test)]
mod tests;
