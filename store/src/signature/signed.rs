//! A body with its signatures, as it travels and is logged; and the signatures of a version, which
//! travel without its bytes.

use bytes::Bytes;

use super::{Context, KeyId, Signature, SignatureError, SigningKey};
use crate::document::{DocumentError, MapWriter, Reader, encode_array, require};
use crate::limits::{RECORD_BODY_BYTES_MAX, SIGNATURES_MAX, SIGNED_BYTES_MAX};
use crate::{RecordId, VersionId};

/// A body and its signatures: `{"body": bytes, "sigs": [signature..]}`.
///
/// The id is the BLAKE3 of the body alone: more signatures do not make another record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub(super) body: Bytes,
    pub(super) sigs: Vec<Signature>,
}

impl Signed {
    /// Signs `body` for `context` by each of `keys`.
    pub fn new(context: Context, body: impl Into<Bytes>, keys: &[&SigningKey]) -> Self {
        let body = body.into();
        let hash = blake3::hash(&body);
        let mut sigs: Vec<_> = keys
            .iter()
            .map(|key| key.sign(context, hash.as_bytes()))
            .collect();
        normalise(&mut sigs);
        Self { body, sigs }
    }

    /// The body's bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The signatures, sorted, not verified.
    pub fn signatures(&self) -> &[Signature] {
        &self.sigs
    }

    /// The name of the record: the BLAKE3 of its body.
    pub fn id(&self) -> RecordId {
        RecordId::of(&self.body)
    }

    /// Checks that `key` signed the body for `context`.
    ///
    /// # Errors
    /// When there is no signature by it, or only wrong ones.
    pub fn verify(&self, context: Context, key: KeyId) -> Result<(), SignatureError> {
        verify(&self.sigs, context, self.id().as_bytes(), key)
    }

    /// The keys whose signature on the body is right, sorted. Wrong ones count as absent.
    pub fn verified(&self, context: Context) -> Vec<KeyId> {
        verified(&self.sigs, context, self.id().as_bytes())
    }

    /// Takes over the signatures of `other`, which must have the same body and verify for `context`.
    /// Answers whether there was a new one.
    pub fn merge(&mut self, context: Context, other: &Self) -> bool {
        debug_assert_eq!(self.body, other.body, "signatures of another body");
        merge(&mut self.sigs, &other.sigs, context, other.id().as_bytes())
    }

    /// Encodes body and signatures.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.body, &self.sigs)
    }

    /// Reads body and signatures. Nothing is verified yet.
    ///
    /// # Errors
    /// When the bytes are malformed or over a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DocumentError> {
        let mut body = None;
        let sigs = decode(bytes, |r| {
            body = Some(Bytes::copy_from_slice(r.bytes(RECORD_BODY_BYTES_MAX)?));
            Ok(())
        })?;
        Ok(Self {
            body: require(body, "body")?,
            sigs,
        })
    }
}

/// The signatures of a version: `{"body": bytes32 of the version's id, "sigs": [signature..]}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSignatures {
    version: VersionId,
    sigs: Vec<Signature>,
}

impl VersionSignatures {
    /// Signs `version` by each of `keys`.
    pub fn new(version: VersionId, keys: &[&SigningKey]) -> Self {
        let mut sigs: Vec<_> = keys
            .iter()
            .map(|key| key.sign(Context::Version, version.as_bytes()))
            .collect();
        normalise(&mut sigs);
        Self { version, sigs }
    }

    /// The version that is signed.
    pub fn version(&self) -> VersionId {
        self.version
    }

    /// The signatures, sorted, not verified.
    pub fn signatures(&self) -> &[Signature] {
        &self.sigs
    }

    /// Checks that `key` signed the version.
    ///
    /// # Errors
    /// When there is no signature by it, or only wrong ones.
    pub fn verify(&self, key: KeyId) -> Result<(), SignatureError> {
        verify(&self.sigs, Context::Version, self.version.as_bytes(), key)
    }

    /// The keys whose signature is right, sorted. Wrong ones count as absent.
    pub fn verified(&self) -> Vec<KeyId> {
        verified(&self.sigs, Context::Version, self.version.as_bytes())
    }

    /// Takes over the right signatures of `other`, which must be of the same version. Answers whether
    /// there was a new one.
    pub fn merge(&mut self, other: &Self) -> bool {
        debug_assert_eq!(self.version, other.version, "signatures of another version");
        merge(
            &mut self.sigs,
            &other.sigs,
            Context::Version,
            self.version.as_bytes(),
        )
    }

    /// Encodes id and signatures.
    pub fn encode(&self) -> Vec<u8> {
        encode(self.version.as_bytes(), &self.sigs)
    }

    /// Reads id and signatures. Nothing is verified yet.
    ///
    /// # Errors
    /// When the bytes are malformed or over a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DocumentError> {
        let mut version = None;
        let sigs = decode(bytes, |r| {
            version = Some(VersionId::from_bytes(r.array_of()?));
            Ok(())
        })?;
        Ok(Self {
            version: require(version, "body")?,
            sigs,
        })
    }
}

fn encode(body: &[u8], sigs: &[Signature]) -> Vec<u8> {
    MapWriter::new()
        .bytes("body", body)
        .with("sigs", |out| {
            encode_array(out, sigs.iter(), |out, sig| sig.encode_into(out))
        })
        .finish()
}

/// Reads `{"body", "sigs"}`: `body` reads the value of the first. Signatures must be sorted by
/// algorithm, then key, then signature, each algorithm and key once.
fn decode(
    bytes: &[u8],
    mut body: impl FnMut(&mut Reader<'_>) -> Result<(), DocumentError>,
) -> Result<Vec<Signature>, DocumentError> {
    let mut sigs: Option<Vec<Signature>> = None;
    let mut reader = Reader::new(bytes, "signed record", SIGNED_BYTES_MAX)?;
    reader.map::<DocumentError>(|name, r| {
        match name {
            "body" => body(r)?,
            "sigs" => {
                let mut list: Vec<Signature> = Vec::new();
                r.array::<DocumentError>(SIGNATURES_MAX, |r| {
                    let sig = Signature::decode(r)?;
                    if list
                        .last()
                        .is_some_and(|last| (&last.alg, last.key) >= (&sig.alg, sig.key))
                    {
                        let why = "signatures must be sorted by algorithm and key, each once";
                        return Err(DocumentError::invalid("sigs", why));
                    }
                    list.push(sig);
                    Ok(())
                })?;
                sigs = Some(list);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    reader.end()?;
    require(sigs, "sigs")
}

fn normalise(sigs: &mut Vec<Signature>) {
    sigs.sort();
    sigs.dedup_by(|a, b| a.alg == b.alg && a.key == b.key);
}

fn verify(
    sigs: &[Signature],
    context: Context,
    hash: &[u8; 32],
    key: KeyId,
) -> Result<(), SignatureError> {
    let mut err = SignatureError::Missing { key };
    for sig in sigs.iter().filter(|sig| sig.key == key) {
        match sig.verify(context, hash) {
            Ok(()) => return Ok(()),
            Err(why) => err = why,
        }
    }
    Err(err)
}

fn verified(sigs: &[Signature], context: Context, hash: &[u8; 32]) -> Vec<KeyId> {
    let right = sigs.iter().filter(|sig| sig.verify(context, hash).is_ok());
    let mut keys: Vec<_> = right.map(|sig| sig.key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Adds the right ones of `from` to `into`, in the place of wrong or unknown ones where there is no
/// room: a stranger who fills a record with those must not keep others out.
fn merge(into: &mut Vec<Signature>, from: &[Signature], context: Context, hash: &[u8; 32]) -> bool {
    let is_right = |sig: &Signature| sig.verify(context, hash).is_ok();
    let mut merged = false;
    for sig in from {
        let known = into
            .iter()
            .position(|old| old.alg == sig.alg && old.key == sig.key);
        if known.is_some_and(|at| is_right(&into[at])) || !is_right(sig) {
            continue;
        }
        let room = into.len() < SIGNATURES_MAX;
        let replaced = match known {
            None if !room => into.iter().position(|old| !is_right(old)),
            known => known,
        };
        match replaced {
            Some(at) => into[at] = sig.clone(),
            None if room => into.push(sig.clone()),
            None => break,
        }
        merged = true;
    }
    into.sort();
    merged
}
