//! The right to read a private model, signed by its publisher: whoever shows it may.
//!
//! A capability travels in a ticket, is shown on Lode's own protocol and holds for that connection. It
//! names a model, or one version of it, and may end at a time. It ends too when its signer does, and
//! cannot be taken back otherwise. Bytes come from peers.

use crate::document::{DocumentError, FORMAT, MapWriter, Reader, check_head, require};
use crate::identity::{AuthError, Claim, IdentityLog, Operation};
use crate::limits::{MODEL_BYTES_MAX, RECORD_BODY_BYTES_MAX};
use crate::name::{NameError, check_model};
use crate::signature::{Context, KeyId, Signed, SigningKey};
use crate::{ErrorKind, PublisherId, RecordId, VersionId};

/// What a capability lets its holder read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Whose model.
    pub publisher: PublisherId,
    /// Which model.
    pub model: String,
    /// Which version of it; none is all, those to come too.
    pub version: Option<VersionId>,
    /// Who signs.
    pub signer: KeyId,
    /// The head of the identity log that the signer knew.
    pub identity: RecordId,
    /// When it ends, in seconds since 1970 UTC; none is never.
    pub expires: Option<u64>,
    /// Tells two of the same content apart.
    pub nonce: [u8; 16],
}

/// Why a capability does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// The bytes are not a document of this kind.
    #[error("the capability cannot be read: {0}")]
    Document(#[from] DocumentError),
    /// A name in it is not one.
    #[error("the capability is refused: {0}")]
    Name(#[from] NameError),
    /// It is another publisher's.
    #[error(
        "the capability is for models of {found}, not of {expected}: use the ticket of this model"
    )]
    WrongPublisher {
        /// Whose identity log was given.
        expected: PublisherId,
        /// Whose models it is for.
        found: PublisherId,
    },
    /// It has ended.
    #[error("the capability ended at {expires} (seconds since 1970): ask for a new ticket")]
    Expired {
        /// When it ended, in seconds since 1970 UTC.
        expires: u64,
    },
    /// Its signer may not sign it, or did not.
    #[error("the capability is refused: {0}")]
    Auth(#[from] AuthError),
}

impl CapabilityError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Document(err) => err.kind(),
            Self::Auth(err) => err.kind(),
            _ => ErrorKind::Refused,
        }
    }
}

impl Capability {
    /// Signs a capability for `version` of `model`, or for all versions, that ends at `expires`. `now`
    /// is in seconds since 1970 UTC.
    ///
    /// # Errors
    /// When the model's name is not one, or the signers may not.
    ///
    /// # Panics
    /// When there is no signer.
    pub fn make(
        log: &IdentityLog,
        signers: &[&SigningKey],
        model: &str,
        version: Option<VersionId>,
        expires: Option<u64>,
        now: u64,
    ) -> Result<Signed, CapabilityError> {
        let capability = Self {
            publisher: log.publisher(),
            model: model.to_owned(),
            version,
            signer: signers.first().expect("a capability has a signer").id(),
            identity: log.head(),
            expires,
            nonce: rand::random(),
        };
        let signed = Signed::new(Context::Capability, capability.encode(), signers);
        Self::verify(&signed, log, now)?;
        Ok(signed)
    }

    /// Reads a capability and checks that it holds at `now`, in seconds since 1970 UTC.
    ///
    /// # Errors
    /// When it is malformed, another publisher's, has ended, or its signer may not sign it today.
    pub fn verify(signed: &Signed, log: &IdentityLog, now: u64) -> Result<Self, CapabilityError> {
        let capability = Self::decode(signed.body())?;
        if capability.publisher != log.publisher() {
            let (expected, found) = (log.publisher(), capability.publisher);
            return Err(CapabilityError::WrongPublisher { expected, found });
        }
        let claim = Claim {
            signer: capability.signer,
            head: capability.identity,
            ops: &[Operation::Access],
            model: &capability.model,
            seq: None,
            time: now,
        };
        log.check(signed, Context::Capability, &claim)?;
        if let Some(expires) = capability.expires
            && now >= expires
        {
            return Err(CapabilityError::Expired { expires });
        }
        Ok(capability)
    }

    /// Whether it lets its holder read `root` at `now`: a version, or the model as such. One that is for
    /// a single version says nothing about the model.
    pub fn permits(
        &self,
        publisher: &PublisherId,
        model: &str,
        root: Option<&VersionId>,
        now: u64,
    ) -> bool {
        self.publisher == *publisher
            && self.model == model
            && self
                .version
                .as_ref()
                .is_none_or(|version| Some(version) == root)
            && self.expires.is_none_or(|expires| now < expires)
    }

    /// The body's bytes.
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .u64("lode", FORMAT)
            .text("kind", "capability")
            .bytes("publisher", self.publisher.as_bytes())
            .text("model", &self.model)
            .bytes_or_null(
                "version",
                self.version.as_ref().map(|id| id.as_bytes().as_slice()),
            )
            .bytes("signer", self.signer.as_bytes())
            .bytes("identity", self.identity.as_bytes())
            .u64_or_null("expires", self.expires)
            .bytes("nonce", &self.nonce)
            .finish()
    }

    /// Reads a body. Nothing but its form is checked.
    ///
    /// # Errors
    /// When the bytes are malformed, or the model's name is not one.
    pub fn decode(body: &[u8]) -> Result<Self, CapabilityError> {
        let (mut format, mut kind, mut publisher, mut model) = (None, None, None, None);
        let (mut version, mut signer, mut identity) = (None, None, None);
        let (mut expires, mut nonce) = (None, None);
        let mut reader = Reader::new(body, "capability", RECORD_BODY_BYTES_MAX)?;
        reader.map::<DocumentError>(|key, r| {
            match key {
                "lode" => format = Some(r.u64()?),
                "kind" => kind = Some(r.text(32)?),
                "publisher" => publisher = Some(r.array_of()?),
                "model" => model = Some(r.text(MODEL_BYTES_MAX)?),
                "version" => version = Some(r.optional(Reader::array_of)?),
                "signer" => signer = Some(r.array_of()?),
                "identity" => identity = Some(r.array_of()?),
                "expires" => expires = Some(r.optional(Reader::u64)?),
                "nonce" => nonce = Some(r.array_of()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        reader.end()?;
        check_head("capability", format, kind)?;
        let capability = Self {
            publisher: PublisherId::from_bytes(require(publisher, "publisher")?),
            model: require(model, "model")?.to_owned(),
            version: require(version, "version")?.map(VersionId::from_bytes),
            signer: KeyId::from_bytes(require(signer, "signer")?),
            identity: RecordId::from_bytes(require(identity, "identity")?),
            expires: require(expires, "expires")?,
            nonce: require(nonce, "nonce")?,
        };
        check_model(&capability.model)?;
        Ok(capability)
    }
}

#[cfg(test)]
mod tests;
