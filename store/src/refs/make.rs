//! Makes ref records that supersede all that is known.

use std::collections::BTreeSet;

use super::{RefError, RefName, RefRecord, RefSet};
use crate::identity::{Claim, IdentityLog};
use crate::limits::SUPERSEDES_MAX;
use crate::signature::{Context, Signed, SigningKey};
use crate::{RecordId, VersionId};

impl RefSet {
    /// Signs the record that sets the ref of this full name to `version`, or deletes it, and settles
    /// every fork and equivocation of it that is known.
    ///
    /// The first of `signers` is the record's signer; more are needed if several of the identity's keys
    /// must sign together. `seq_after` is the highest sequence that the signer used for any model of the
    /// publisher. `time` is in seconds since 1970 UTC.
    ///
    /// # Errors
    /// When the name is not one, or the signers may not.
    ///
    /// # Panics
    /// When there is no signer.
    pub fn make(
        &self,
        log: &IdentityLog,
        signers: &[&SigningKey],
        name: &str,
        version: Option<VersionId>,
        seq_after: u64,
        time: u64,
    ) -> Result<Signed, RefError> {
        let signer = signers.first().expect("a record has a signer").id();
        let kind = RefName::parse(name)?;
        let highest = self.highest_seq(signer).max(seq_after);
        let seq = highest
            .checked_add(1)
            .ok_or(RefError::NoSequenceLeft { signer })?;
        let record = RefRecord {
            publisher: self.publisher(),
            model: self.model().to_owned(),
            name: name.to_owned(),
            version,
            signer,
            seq,
            supersedes: self
                .to_supersede(name)
                .into_iter()
                .take(SUPERSEDES_MAX)
                .collect(),
            identity: log.head(),
            time,
        };
        let body = record.encode();
        RefRecord::decode(&body)?;
        let signed = Signed::new(Context::Ref, body, signers);
        let claim = Claim {
            signer,
            head: record.identity,
            ops: kind.operations(version.is_none()),
            model: self.model(),
            seq: Some(seq),
            time,
        };
        log.check(&signed, Context::Ref, &claim)?;
        Ok(signed)
    }

    /// Every record of the ref that nothing supersedes, whether it counts or not.
    fn to_supersede(&self, name: &str) -> BTreeSet<RecordId> {
        match self.threads.get(name) {
            Some(thread) => self.tips(thread, |_| true),
            None => BTreeSet::new(),
        }
    }
}
