//! The body of an identity record.

use super::IdentityError;
use super::glob::check_glob;
use crate::RecordId;
use crate::document::{
    DocumentError, FORMAT, MapWriter, Reader, check_head, encode_array, encode_bytes, encode_text,
    require,
};
use crate::limits::{
    DELEGATION_GLOBS_MAX, DELEGATION_OPERATIONS_MAX, IDENTITY_KEYS_MAX, MODEL_BYTES_MAX,
    OPERATION_BYTES_MAX, RECORD_BODY_BYTES_MAX,
};
use crate::signature::{KeyId, PublicKey};

/// What a delegate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Sign versions, and set branches.
    Push,
    /// Set and delete tags.
    Tag,
    /// Set and delete branches.
    Branch,
    /// Make models public or private, and sign capabilities.
    Access,
    /// Delegate to others what it may do itself, and end those.
    Delegate,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Push,
        Self::Tag,
        Self::Branch,
        Self::Access,
        Self::Delegate,
    ];

    /// How records spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Tag => "tag",
            Self::Branch => "branch",
            Self::Access => "access",
            Self::Delegate => "delegate",
        }
    }
}

/// Keys, of which a number must sign together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// The keys, sorted, each once: 1 to 16.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign: 1 to all.
    pub threshold: u64,
}

impl KeySet {
    /// Keys of which `threshold` must sign.
    pub fn new(mut keys: Vec<PublicKey>, threshold: u64) -> Self {
        keys.sort();
        keys.dedup();
        Self { keys, threshold }
    }

    /// One key that signs alone.
    pub fn one(key: PublicKey) -> Self {
        Self::new(vec![key], 1)
    }

    /// The BLAKE3 of `{"keys": [key..], "threshold": n}`: what a record says of the keys after these.
    pub fn commitment(&self) -> [u8; 32] {
        *blake3::hash(&self.map().finish()).as_bytes()
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: KeyId) -> bool {
        self.keys.iter().any(|own| own.id() == key)
    }

    /// How many of them are in `keys`.
    pub fn count(&self, keys: &[KeyId]) -> usize {
        self.keys
            .iter()
            .filter(|own| keys.contains(&own.id()))
            .count()
    }

    /// Whether enough of them are in `keys`.
    pub fn satisfied_by(&self, keys: &[KeyId]) -> bool {
        self.count(keys) as u64 >= self.threshold
    }

    fn map(&self) -> MapWriter<'_> {
        MapWriter::new()
            .with("keys", |out| {
                encode_array(out, self.keys.iter(), |out, key| key.encode_into(out))
            })
            .u64("threshold", self.threshold)
    }

    fn check(&self) -> Result<(), DocumentError> {
        if self.keys.is_empty() {
            return Err(DocumentError::invalid("keys", "there is none"));
        }
        if !self.keys.is_sorted_by(|a, b| a < b) {
            return Err(DocumentError::invalid(
                "keys",
                "they must be sorted, each once",
            ));
        }
        if self.threshold == 0 || self.threshold > self.keys.len() as u64 {
            let why = format!("{} of {} keys", self.threshold, self.keys.len());
            return Err(DocumentError::invalid("threshold", why));
        }
        Ok(())
    }
}

/// What a delegate gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// Who gets it.
    pub key: PublicKey,
    /// The operations, sorted, each once; unknown ones are kept and permit nothing.
    pub ops: Vec<String>,
    /// The models, as globs, sorted, each once.
    pub globs: Vec<String>,
    /// How many further delegates may follow one another: 0 is none.
    pub depth: u64,
    /// When it ends, in seconds since 1970 UTC; none is never.
    pub expires: Option<u64>,
}

impl Delegation {
    /// A delegation of `ops` on the models that `globs` match, without delegates of its own, for ever.
    pub fn new(key: PublicKey, ops: &[Operation], globs: &[&str]) -> Self {
        let sorted = |mut list: Vec<String>| {
            list.sort();
            list.dedup();
            list
        };
        Self {
            key,
            ops: sorted(ops.iter().map(|op| op.as_str().to_owned()).collect()),
            globs: sorted(globs.iter().map(|glob| (*glob).to_owned()).collect()),
            depth: 0,
            expires: None,
        }
    }

    /// Whether it permits `op`.
    pub fn has(&self, op: Operation) -> bool {
        self.ops.iter().any(|own| own == op.as_str())
    }

    /// Whether it covers `model`.
    pub fn covers(&self, model: &str) -> bool {
        self.globs
            .iter()
            .any(|glob| super::glob::matches(glob, model))
    }

    /// Whether it has ended at `time`, in seconds since 1970 UTC.
    pub fn expired(&self, time: u64) -> bool {
        self.expires.is_some_and(|expires| time >= expires)
    }
}

/// A key that ends, and the last of its ref records that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The key.
    pub key: KeyId,
    /// The sequence of its last ref record that counts; 0 is none.
    pub last: u64,
}

/// What an identity record does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityOp {
    /// Makes the identity.
    Create {
        /// Its first keys.
        keys: KeySet,
        /// The commitment to the keys after them.
        next: [u8; 32],
    },
    /// Changes to the keys that were committed to.
    Rotate {
        /// The new keys.
        keys: KeySet,
        /// The commitment to the keys after them.
        next: [u8; 32],
        /// For keys that leave: the last of their ref records that counts. A key that leaves and is not
        /// named has none.
        ended: Vec<Ended>,
    },
    /// Lets another key do some operations.
    Delegate(Delegation),
    /// Ends a delegate, or ends a key that has ended already at an earlier record.
    Revoke(Ended),
}

/// The body of an identity record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRecord {
    /// Its place in the log, from 0.
    pub seq: u64,
    /// The record before it; none for the first.
    pub prev: Option<RecordId>,
    /// The delegate who signs it; none when the identity's keys do, as they must for the first record
    /// and for rotations.
    pub by: Option<KeyId>,
    /// What it does.
    pub op: IdentityOp,
}

impl IdentityRecord {
    /// The body's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let op = |out: &mut Vec<u8>| {
            let (name, value) = match &self.op {
                IdentityOp::Create { keys, next } => ("create", keys.map().bytes("next", next)),
                IdentityOp::Rotate { keys, next, ended } => {
                    let list = |out: &mut Vec<u8>| {
                        encode_array(out, ended.iter(), |out, ended| ended.map().finish_into(out));
                    };
                    ("rotate", keys.map().bytes("next", next).with("ended", list))
                }
                IdentityOp::Delegate(given) => {
                    let texts = |out: &mut Vec<u8>, list: &[String]| {
                        encode_array(out, list.iter(), |out, text| encode_text(out, text));
                    };
                    let map = MapWriter::new()
                        .with("key", |out| given.key.encode_into(out))
                        .with("ops", |out| texts(out, &given.ops))
                        .with("globs", |out| texts(out, &given.globs))
                        .u64("depth", given.depth)
                        .u64_or_null("expires", given.expires);
                    ("delegate", map)
                }
                IdentityOp::Revoke(ended) => ("revoke", ended.map()),
            };
            MapWriter::new()
                .with(name, |out| value.finish_into(out))
                .finish_into(out);
        };
        MapWriter::new()
            .u64("lode", FORMAT)
            .text("kind", "identity")
            .u64("seq", self.seq)
            .bytes_or_null(
                "prev",
                self.prev.as_ref().map(|id| id.as_bytes().as_slice()),
            )
            .bytes_or_null("by", self.by.as_ref().map(|key| key.as_bytes().as_slice()))
            .with("op", op)
            .finish()
    }

    /// Reads a body. Nothing but its form is checked.
    ///
    /// # Errors
    /// When the bytes are malformed, over a limit, or do something that is not known.
    pub fn decode(body: &[u8]) -> Result<Self, IdentityError> {
        let (mut format, mut kind, mut seq) = (None, None, None);
        let (mut prev, mut by, mut op) = (None, None, None);
        let mut reader = Reader::new(body, "identity record", RECORD_BODY_BYTES_MAX)?;
        reader.map::<IdentityError>(|key, r| {
            match key {
                "lode" => format = Some(r.u64()?),
                "kind" => kind = Some(r.text(32)?),
                "seq" => seq = Some(r.u64()?),
                "prev" => prev = Some(r.optional(Reader::array_of)?),
                "by" => by = Some(r.optional(Reader::array_of)?),
                "op" => op = Some(decode_op(r)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        reader.end()?;
        check_head("identity", format, kind)?;
        let record = Self {
            seq: require(seq, "seq")?,
            prev: require(prev, "prev")?.map(RecordId::from_bytes),
            by: require(by, "by")?.map(KeyId::from_bytes),
            op: require(op, "op")?,
        };
        let first = matches!(record.op, IdentityOp::Create { .. });
        if first != (record.seq == 0) || first != record.prev.is_none() {
            return Err(IdentityError::NotACreation);
        }
        let by_keys_alone = first || matches!(record.op, IdentityOp::Rotate { .. });
        if by_keys_alone && record.by.is_some() {
            let why = "only the identity's keys create and rotate";
            return Err(DocumentError::invalid("by", why).into());
        }
        Ok(record)
    }
}

impl Ended {
    fn map(&self) -> MapWriter<'static> {
        let key = self.key;
        MapWriter::new()
            .with("key", move |out| encode_bytes(out, key.as_bytes()))
            .u64("last", self.last)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DocumentError> {
        let (mut key, mut last) = (None, None);
        reader.map::<DocumentError>(|name, r| {
            match name {
                "key" => key = Some(KeyId::from_bytes(r.array_of()?)),
                "last" => last = Some(r.u64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self {
            key: require(key, "key")?,
            last: require(last, "last")?,
        })
    }
}

/// Reads `{name: value}`: exactly one known operation.
fn decode_op(reader: &mut Reader<'_>) -> Result<IdentityOp, IdentityError> {
    let mut op = None;
    reader.map::<IdentityError>(|name, r| {
        let read = match name {
            "create" => {
                let (keys, next, _) = decode_keys(r, false)?;
                IdentityOp::Create { keys, next }
            }
            "rotate" => {
                let (keys, next, ended) = decode_keys(r, true)?;
                IdentityOp::Rotate { keys, next, ended }
            }
            "delegate" => IdentityOp::Delegate(decode_delegation(r)?),
            "revoke" => IdentityOp::Revoke(Ended::decode(r)?),
            _ => {
                return Err(IdentityError::UnknownOp {
                    found: name.chars().take(60).collect(),
                });
            }
        };
        if op.replace(read).is_some() {
            return Err(DocumentError::invalid("op", "a record does one thing").into());
        }
        Ok(true)
    })?;
    Ok(require(op, "op")?)
}

fn decode_keys(
    reader: &mut Reader<'_>,
    rotates: bool,
) -> Result<(KeySet, [u8; 32], Vec<Ended>), DocumentError> {
    let (mut keys, mut threshold, mut next, mut ended) = (None, None, None, None);
    reader.map::<DocumentError>(|name, r| {
        match name {
            "keys" => keys = Some(decode_list(r, IDENTITY_KEYS_MAX, PublicKey::decode)?),
            "threshold" => threshold = Some(r.u64()?),
            "next" => next = Some(r.array_of()?),
            "ended" if rotates => {
                ended = Some(decode_list(r, IDENTITY_KEYS_MAX, Ended::decode)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let keys = KeySet {
        keys: require(keys, "keys")?,
        threshold: require(threshold, "threshold")?,
    };
    keys.check()?;
    let ended = if rotates {
        require(ended, "ended")?
    } else {
        Vec::new()
    };
    if !ended.is_sorted_by(|a, b| a.key < b.key) {
        return Err(DocumentError::invalid(
            "ended",
            "keys must be sorted, each once",
        ));
    }
    Ok((keys, require(next, "next")?, ended))
}

fn decode_delegation(reader: &mut Reader<'_>) -> Result<Delegation, DocumentError> {
    let (mut key, mut ops, mut globs, mut depth, mut expires) = (None, None, None, None, None);
    reader.map::<DocumentError>(|name, r| {
        match name {
            "key" => key = Some(PublicKey::decode(r)?),
            "ops" => {
                ops = Some(decode_list(r, DELEGATION_OPERATIONS_MAX, |r| {
                    r.text(OPERATION_BYTES_MAX).map(str::to_owned)
                })?);
            }
            "globs" => {
                globs = Some(decode_list(r, DELEGATION_GLOBS_MAX, |r| {
                    let glob = r.text(MODEL_BYTES_MAX)?;
                    check_glob(glob)?;
                    Ok(glob.to_owned())
                })?);
            }
            "depth" => depth = Some(r.u64()?),
            "expires" => expires = Some(r.optional(Reader::u64)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let given = Delegation {
        key: require(key, "key")?,
        ops: require(ops, "ops")?,
        globs: require(globs, "globs")?,
        depth: require(depth, "depth")?,
        expires: require(expires, "expires")?,
    };
    for (name, list) in [("ops", &given.ops), ("globs", &given.globs)] {
        if list.is_empty() || !list.is_sorted_by(|a, b| a < b) {
            return Err(DocumentError::invalid(
                name,
                "there must be one, sorted, each once",
            ));
        }
    }
    Ok(given)
}

fn decode_list<T>(
    reader: &mut Reader<'_>,
    max: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, DocumentError>,
) -> Result<Vec<T>, DocumentError> {
    let mut list = Vec::new();
    reader.array::<DocumentError>(max, |r| {
        list.push(read(r)?);
        Ok(())
    })?;
    Ok(list)
}
