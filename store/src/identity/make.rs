//! Makes identity records: each is signed, and checked against the log before it is handed out.

use super::{
    Applied, Delegation, Ended, IdentityError, IdentityLog, IdentityOp, IdentityRecord, KeySet,
    Standing,
};
use crate::RecordId;
use crate::signature::{Context, KeyId, PublicKey, Signed, SigningKey};

/// The commitment to one key that will sign alone after today's.
pub fn next_commitment(key: PublicKey) -> [u8; 32] {
    KeySet::one(key).commitment()
}

/// Makes an identity of one key, this device's, with a commitment to the key after it.
///
/// Keep `next` apart: it alone can take over if the device's key is stolen.
pub fn create(device: &SigningKey, next: &PublicKey) -> Signed {
    let op = IdentityOp::Create {
        keys: KeySet::one(device.public()),
        next: next_commitment(next.clone()),
    };
    let record = IdentityRecord {
        seq: 0,
        prev: None,
        by: None,
        op,
    };
    Signed::new(Context::Identity, record.encode(), &[device])
}

impl IdentityLog {
    /// Makes an identity of several keys.
    ///
    /// # Errors
    /// When the keys and their number are not possible, or too few of them sign.
    pub fn create(
        keys: KeySet,
        next: [u8; 32],
        signers: &[&SigningKey],
    ) -> Result<(Self, Signed), IdentityError> {
        let record = IdentityRecord {
            seq: 0,
            prev: None,
            by: None,
            op: IdentityOp::Create { keys, next },
        };
        let signed = Signed::new(Context::Identity, record.encode(), signers);
        Ok((Self::start(signed.clone())?, signed))
    }

    /// Signs the record that changes to `keys`, which were committed to. `ended` names, for keys that
    /// leave, the last of their ref records that counts; a key that is not named has none.
    ///
    /// # Errors
    /// When the keys are not those that were committed to, or too few of them sign.
    pub fn rotate(
        &self,
        keys: KeySet,
        next: [u8; 32],
        mut ended: Vec<Ended>,
        signers: &[&SigningKey],
    ) -> Result<Signed, IdentityError> {
        ended.sort_by_key(|end| end.key);
        self.make(None, IdentityOp::Rotate { keys, next, ended }, signers)
    }

    /// Signs the record that lets another key do some operations: by the identity's keys, if enough of
    /// them sign, else by the first signer as a delegate.
    ///
    /// # Errors
    /// When the signers may not, or the key has a part in this identity already.
    pub fn delegate(
        &self,
        given: Delegation,
        signers: &[&SigningKey],
    ) -> Result<Signed, IdentityError> {
        self.make(
            self.delegate_among(signers),
            IdentityOp::Delegate(given),
            signers,
        )
    }

    /// Signs the record that ends a delegate; its ref records up to the sequence `ended.last` count on.
    /// Signed as by [`IdentityLog::delegate`].
    ///
    /// # Errors
    /// When the signers may not, or the key is none that can be ended.
    pub fn revoke(&self, ended: Ended, signers: &[&SigningKey]) -> Result<Signed, IdentityError> {
        self.make(
            self.delegate_among(signers),
            IdentityOp::Revoke(ended),
            signers,
        )
    }

    /// The delegate among `signers` in whose right they sign, if they are not enough of the keys.
    fn delegate_among(&self, signers: &[&SigningKey]) -> Option<KeyId> {
        let ids: Vec<_> = signers.iter().map(|key| key.id()).collect();
        if self.keys().satisfied_by(&ids) {
            return None;
        }
        ids.into_iter()
            .find(|id| matches!(self.standing(*id), Standing::Delegate(_)))
    }

    fn make(
        &self,
        by: Option<KeyId>,
        op: IdentityOp,
        signers: &[&SigningKey],
    ) -> Result<Signed, IdentityError> {
        let head: RecordId = self.head();
        let record = IdentityRecord {
            seq: self.len(),
            prev: Some(head),
            by,
            op,
        };
        let signed = Signed::new(Context::Identity, record.encode(), signers);
        // what others would refuse is not handed out
        match self.clone().apply(signed.clone())? {
            Applied::InForce | Applied::Replaced | Applied::Known { .. } => Ok(signed),
            Applied::Rival => Err(IdentityError::Forked { head }),
        }
    }
}
