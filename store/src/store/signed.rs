//! Identities, refs and version signatures: folded from the signed records of the log.
//!
//! The log keeps what [`IdentityLog`] and [`RefSet`] accept; the index says which records are whose;
//! the folded state is kept in memory until something changes it. Applying is one at a time, so that
//! log and state agree.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{ReadError, Store, WriteError};
use crate::{
    ErrorKind, PublisherId, VersionId,
    identity::{self, IdentityError, IdentityLog, IdentityOp, IdentityRecord},
    index::SignedBy,
    log::{Kind, Record},
    refs::{self, RefError, RefRecord, RefSet},
    signature::{KeyId, Signed, VersionSignatures},
};

/// Folded states that are kept in memory.
const FOLDED_MAX: usize = 4096;

/// Why a signed record was not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It is no identity record that this publisher's log accepts.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is no ref record that this model's refs accept. What [`RefError::is_kept`] was logged.
    #[error(transparent)]
    Ref(#[from] RefError),
    /// The publisher's identity log is not here.
    #[error("the publisher {publisher} is not known here: fetch its identity log first")]
    UnknownPublisher {
        /// The publisher.
        publisher: PublisherId,
    },
    /// The record that it follows is not here.
    #[error(
        "an identity record that follows one that is not known here: fetch the log from its start"
    )]
    UnknownIdentity,
    /// What is known could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be kept.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl ApplyError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Identity(e) => e.kind(),
            Self::Ref(e) => e.kind(),
            Self::UnknownPublisher { .. } | Self::UnknownIdentity => ErrorKind::NotFound,
            Self::Read(e) => e.kind(),
            Self::Write(e) => e.kind(),
        }
    }
}

/// The folded states.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Held while a record is applied.
    applying: Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    identities: HashMap<PublisherId, Arc<IdentityLog>>,
    refs: HashMap<(PublisherId, String), Arc<RefSet>>,
    /// Counts changes, so that a state that was folded meanwhile is not kept.
    changes: u64,
}

impl Folded {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self) {
        let mut known = self.known();
        let changes = known.changes + 1;
        *known = Known {
            changes,
            ..Known::default()
        };
    }
}

impl Record {
    /// A signed identity record.
    pub fn identity(signed: &Signed) -> Self {
        Self {
            kind: Kind::Identity,
            body: signed.encode().into(),
        }
    }

    /// A signed ref record.
    pub fn reference(signed: &Signed) -> Self {
        Self {
            kind: Kind::Ref,
            body: signed.encode().into(),
        }
    }

    /// Signatures of a version.
    pub fn version_signatures(signatures: &VersionSignatures) -> Self {
        Self {
            kind: Kind::VersionSignature,
            body: signatures.encode().into(),
        }
    }
}

/// Whose a record of the log is, as far as its own bytes say.
pub(crate) fn signed_by(record: &Record) -> Option<SignedBy> {
    match record.kind {
        Kind::Identity => {
            let signed = Signed::decode(&record.body).ok()?;
            let body = IdentityRecord::decode(signed.body()).ok()?;
            Some(SignedBy::Identity {
                id: signed.id(),
                prev: body.prev,
            })
        }
        Kind::Ref => {
            let signed = Signed::decode(&record.body).ok()?;
            let RefRecord {
                publisher, model, ..
            } = RefRecord::decode(signed.body()).ok()?;
            Some(SignedBy::Ref { publisher, model })
        }
        Kind::VersionSignature => {
            let version = VersionSignatures::decode(&record.body).ok()?.version();
            Some(SignedBy::Version { version })
        }
        _ => None,
    }
}

impl Store {
    /// The identity log of a publisher, if any of it is here.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn identity(&self, publisher: &PublisherId) -> Result<Option<Arc<IdentityLog>>, ReadError> {
        let folded = &self.inner().folded;
        let changes = {
            let known = folded.known();
            if let Some(log) = known.identities.get(publisher) {
                return Ok(Some(log.clone()));
            }
            known.changes
        };
        let mut records = Vec::new();
        for record in self.signed_records(&SignedBy::identity_key(publisher))? {
            records.extend(Signed::decode(&record.body).ok());
        }
        if records.is_empty() {
            return Ok(None);
        }
        let log = match IdentityLog::from_records(*publisher, records) {
            Ok((log, refused)) => {
                for (_, error) in refused {
                    tracing::warn!(%publisher, %error, "a logged identity record is not accepted");
                }
                Arc::new(log)
            }
            Err(error) => {
                tracing::error!(%publisher, %error, "the identity log cannot be put together");
                return Ok(None);
            }
        };
        let mut known = folded.known();
        if known.changes == changes {
            if known.identities.len() >= FOLDED_MAX {
                known.identities.clear();
            }
            known.identities.insert(*publisher, log.clone());
        }
        Ok(Some(log))
    }

    /// The refs of a model; without records when none is here.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn ref_set(&self, publisher: &PublisherId, model: &str) -> Result<Arc<RefSet>, ReadError> {
        let folded = &self.inner().folded;
        let key = (*publisher, model.to_owned());
        let changes = {
            let known = folded.known();
            if let Some(refs) = known.refs.get(&key) {
                return Ok(refs.clone());
            }
            known.changes
        };
        let mut refs = RefSet::new(*publisher, model);
        if let Some(log) = self.identity(publisher)? {
            for record in self.signed_records(&SignedBy::ref_key(publisher, model))? {
                let Ok(signed) = Signed::decode(&record.body) else {
                    continue;
                };
                match refs.apply(&log, signed) {
                    Err(error) if !error.is_kept() => {
                        tracing::debug!(%publisher, model, %error, "a logged ref record does not count any more");
                    }
                    _ => {}
                }
            }
        }
        let refs = Arc::new(refs);
        let mut known = folded.known();
        if known.changes == changes && !refs.is_empty() {
            if known.refs.len() >= FOLDED_MAX {
                known.refs.clear();
            }
            known.refs.insert(key, refs.clone());
        }
        Ok(refs)
    }

    /// The publishers of whom anything is here, sorted.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn publishers(&self) -> Result<Vec<PublisherId>, ReadError> {
        Ok(self.index().publishers()?)
    }

    /// The models of which a ref record is here, sorted.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn models(&self) -> Result<Vec<(PublisherId, String)>, ReadError> {
        Ok(self.index().models(None)?)
    }

    /// The highest sequence that `signer` used in any model of a publisher; 0 if there is none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn highest_sequence(
        &self,
        publisher: &PublisherId,
        signer: KeyId,
    ) -> Result<u64, ReadError> {
        let mut highest = 0;
        for (publisher, model) in self.index().models(Some(publisher))? {
            highest = highest.max(self.ref_set(&publisher, &model)?.highest_seq(signer));
        }
        Ok(highest)
    }

    /// The signatures of a version, if there are any; not verified.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn version_signatures(
        &self,
        version: &VersionId,
    ) -> Result<Option<VersionSignatures>, ReadError> {
        let mut all: Option<VersionSignatures> = None;
        for record in self.signed_records(&SignedBy::version_key(version))? {
            let Ok(some) = VersionSignatures::decode(&record.body) else {
                continue;
            };
            match &mut all {
                None => all = Some(some),
                Some(all) => {
                    all.merge(&some);
                }
            }
        }
        Ok(all)
    }

    /// Keeps signatures of a version that are right and not known; whether there was one.
    ///
    /// # Errors
    /// [`ApplyError::Read`] or [`ApplyError::Write`].
    pub fn add_version_signatures(&self, new: &VersionSignatures) -> Result<bool, ApplyError> {
        let _applying = self
            .inner()
            .folded
            .applying
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all = match self.version_signatures(&new.version())? {
            Some(all) => all,
            None => VersionSignatures::new(new.version(), &[]),
        };
        if !all.merge(new) {
            return Ok(false);
        }
        self.append(&[Record::version_signatures(&all)])?;
        Ok(true)
    }

    /// Takes in an identity record; logged when the publisher's log accepts it.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply_identity(&self, signed: Signed) -> Result<identity::Applied, ApplyError> {
        let folded = &self.inner().folded;
        let _applying = folded
            .applying
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let body = IdentityRecord::decode(signed.body())?;
        let record = Record::identity(&signed);
        let (log, applied) = if matches!(body.op, IdentityOp::Create { .. }) {
            let publisher = PublisherId::from_bytes(*signed.id().as_bytes());
            match self.identity(&publisher)? {
                None => (IdentityLog::start(signed)?, identity::Applied::InForce),
                Some(log) => apply_to_identity(&log, signed)?,
            }
        } else {
            let owner = match body.prev {
                Some(prev) => self
                    .index()
                    .identity_owner(&prev)
                    .map_err(ReadError::from)?,
                None => None,
            };
            let publisher = owner.ok_or(ApplyError::UnknownIdentity)?;
            let log = self
                .identity(&publisher)?
                .ok_or(ApplyError::UnknownIdentity)?;
            apply_to_identity(&log, signed)?
        };
        if applied == (identity::Applied::Known { signatures: false }) {
            return Ok(applied);
        }
        self.append(&[record])?;
        let publisher = log.publisher();
        let mut known = folded.known();
        known.changes += 1;
        // its refs are weighed anew when they are next asked for
        known.refs.retain(|(whose, _), _| *whose != publisher);
        known.identities.insert(publisher, Arc::new(log));
        Ok(applied)
    }

    /// Takes in a ref record; logged when the model's refs accept it, or keep it as proof.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply_ref(&self, signed: Signed) -> Result<refs::Applied, ApplyError> {
        let folded = &self.inner().folded;
        let _applying = folded
            .applying
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let RefRecord {
            publisher, model, ..
        } = RefRecord::decode(signed.body())?;
        let log = self
            .identity(&publisher)?
            .ok_or(ApplyError::UnknownPublisher { publisher })?;
        let mut refs = RefSet::clone(&*self.ref_set(&publisher, &model)?);
        let record = Record::reference(&signed);
        let applied = refs.apply(&log, signed);
        let kept = match &applied {
            Ok(refs::Applied::Known { signatures }) => *signatures,
            Ok(_) => true,
            Err(error) => error.is_kept(),
        };
        if kept {
            self.append(&[record])?;
            let mut known = folded.known();
            known.changes += 1;
            known.refs.insert((publisher, model), Arc::new(refs));
        }
        Ok(applied?)
    }

    fn signed_records(&self, prefix: &[u8]) -> Result<Vec<Record>, ReadError> {
        let inner = self.inner();
        let _reading = inner
            .documents
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for at in inner.index().signed(prefix)? {
            match inner.log.read(at) {
                Ok(record) => out.push(record),
                Err(error) => {
                    tracing::error!(%error, "a signed record is damaged");
                    return Err(super::error::log_read(error, &inner.home.join("log")));
                }
            }
        }
        Ok(out)
    }
}

fn apply_to_identity(
    log: &IdentityLog,
    signed: Signed,
) -> Result<(IdentityLog, identity::Applied), ApplyError> {
    let mut log = log.clone();
    let applied = log.apply(signed)?;
    Ok((log, applied))
}
