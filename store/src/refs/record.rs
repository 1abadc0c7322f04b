//! The body of a ref record.

use super::{RefError, RefName};
use crate::document::{
    DocumentError, FORMAT, MapWriter, Reader, check_head, encode_array, encode_bytes, require,
};
use crate::limits::{MODEL_BYTES_MAX, RECORD_BODY_BYTES_MAX, REF_NAME_BYTES_MAX, SUPERSEDES_MAX};
use crate::name::check_model;
use crate::signature::KeyId;
use crate::{PublisherId, RecordId, VersionId};

/// Says that a ref of a model is now at a version, or is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefRecord {
    /// Whose model.
    pub publisher: PublisherId,
    /// Which model.
    pub model: String,
    /// Which ref: `heads/NAME`, `tags/NAME`, `variants/NAME` or `access/public`.
    pub name: String,
    /// The version that it is at; none deletes it.
    pub version: Option<VersionId>,
    /// Who signs.
    pub signer: KeyId,
    /// Counts the signer's ref records of this publisher, over all models, from 1.
    pub seq: u64,
    /// The records of this ref that this one replaces, sorted, each once.
    pub supersedes: Vec<RecordId>,
    /// The head of the identity log that the signer knew.
    pub identity: RecordId,
    /// When, in seconds since 1970 UTC, as the signer says.
    pub time: u64,
}

impl RefRecord {
    /// The body's bytes.
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .u64("lode", FORMAT)
            .text("kind", "ref")
            .bytes("publisher", self.publisher.as_bytes())
            .text("model", &self.model)
            .text("ref", &self.name)
            .bytes_or_null(
                "version",
                self.version.as_ref().map(|id| id.as_bytes().as_slice()),
            )
            .bytes("signer", self.signer.as_bytes())
            .u64("seq", self.seq)
            .with("supersedes", |out| {
                encode_array(out, self.supersedes.iter(), |out, id| {
                    encode_bytes(out, id.as_bytes());
                });
            })
            .bytes("identity", self.identity.as_bytes())
            .u64("time", self.time)
            .finish()
    }

    /// Reads a body. Nothing but its form and names is checked.
    ///
    /// # Errors
    /// When the bytes are malformed, over a limit, or a name is not one.
    pub fn decode(body: &[u8]) -> Result<Self, RefError> {
        let (mut format, mut kind, mut publisher, mut model) = (None, None, None, None);
        let (mut name, mut version, mut signer, mut seq) = (None, None, None, None);
        let (mut supersedes, mut identity, mut time) = (None, None, None);
        let mut reader = Reader::new(body, "ref record", RECORD_BODY_BYTES_MAX)?;
        reader.map::<DocumentError>(|key, r| {
            match key {
                "lode" => format = Some(r.u64()?),
                "kind" => kind = Some(r.text(32)?),
                "publisher" => publisher = Some(r.array_of()?),
                "model" => model = Some(r.text(MODEL_BYTES_MAX)?),
                "ref" => name = Some(r.text(REF_NAME_BYTES_MAX + "variants/".len())?),
                "version" => version = Some(r.optional(Reader::array_of)?),
                "signer" => signer = Some(r.array_of()?),
                "seq" => seq = Some(r.u64()?),
                "supersedes" => {
                    let mut ids = Vec::new();
                    r.array::<DocumentError>(SUPERSEDES_MAX, |r| {
                        ids.push(RecordId::from_bytes(r.array_of()?));
                        Ok(())
                    })?;
                    supersedes = Some(ids);
                }
                "identity" => identity = Some(r.array_of()?),
                "time" => time = Some(r.u64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        reader.end()?;
        check_head("ref", format, kind)?;
        let record = Self {
            publisher: PublisherId::from_bytes(require(publisher, "publisher")?),
            model: require(model, "model")?.to_owned(),
            name: require(name, "ref")?.to_owned(),
            version: require(version, "version")?.map(VersionId::from_bytes),
            signer: KeyId::from_bytes(require(signer, "signer")?),
            seq: require(seq, "seq")?,
            supersedes: require(supersedes, "supersedes")?,
            identity: RecordId::from_bytes(require(identity, "identity")?),
            time: require(time, "time")?,
        };
        if record.seq == 0 {
            return Err(DocumentError::invalid("seq", "sequences count from 1").into());
        }
        if !record.supersedes.is_sorted_by(|a, b| a < b) {
            let why = "records must be sorted, each once";
            return Err(DocumentError::invalid("supersedes", why).into());
        }
        check_model(&record.model)?;
        RefName::parse(&record.name)?;
        Ok(record)
    }
}
