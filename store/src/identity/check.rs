//! Whether a signed record of a publisher, a ref record or a capability, is signed by one who may.

use super::{IdentityLog, Operation, Standing};
use crate::signature::{Context, KeyId, PublicKey, SignatureError, Signed, VersionSignatures};
use crate::{ErrorKind, PublisherId, RecordId};

/// What a signed record claims of its signer.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Who signs.
    pub signer: KeyId,
    /// The head of the identity log that the signer knew.
    pub head: RecordId,
    /// The operations of which a delegate needs one.
    pub ops: &'a [Operation],
    /// The model that it is about.
    pub model: &'a str,
    /// The signer's sequence; none for what has none, which a key that has ended cannot sign at all.
    pub seq: Option<u64>,
    /// The time at which a delegation must not have ended, in seconds since 1970 UTC.
    pub time: u64,
}

/// Why a signer may not sign that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The identity record that it names is not here, or not in force.
    #[error(
        "it names the identity record {head} of the publisher {publisher}, which is not known or not in force here: fetch the identity log, then try again"
    )]
    UnknownHead {
        /// Whose.
        publisher: PublisherId,
        /// The record.
        head: RecordId,
    },
    /// The key has no part in the publisher's identity.
    #[error(
        "the key {key} is not known to the publisher {publisher}: do not trust the peer it came from"
    )]
    UnknownKey {
        /// Whose.
        publisher: PublisherId,
        /// The key.
        key: KeyId,
    },
    /// The delegation does not permit it.
    #[error("the key {key} may not {op} on {model:?}: let the publisher delegate that to it")]
    NotPermitted {
        /// The key.
        key: KeyId,
        /// The operation, as records spell it.
        op: &'static str,
        /// The model.
        model: String,
    },
    /// The delegation has ended by its own date.
    #[error(
        "the delegation of the key {key} ended at {expires} (seconds since 1970): let the publisher delegate to a new key"
    )]
    DelegationExpired {
        /// The key.
        key: KeyId,
        /// When it ended, in seconds since 1970 UTC.
        expires: u64,
    },
    /// The key was revoked, or rotated away.
    #[error(
        "the key {key} was revoked; of its ref records those up to sequence {last} count: sign with a key in force"
    )]
    Revoked {
        /// The key.
        key: KeyId,
        /// The last of its ref records that counts.
        last: u64,
    },
    /// Too few of the identity's keys signed.
    #[error(
        "{found} of the publisher's keys signed rightly, {needed} must: collect the other signatures"
    )]
    TooFewKeys {
        /// How many did.
        found: usize,
        /// How many must.
        needed: u64,
    },
    /// The signature is missing or wrong.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl AuthError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownHead { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Refused,
        }
    }
}

impl IdentityLog {
    /// Checks that `signed` is signed for `context` by one who may sign what `claim` says: a delegate
    /// alone, or as many of the identity's keys as must sign together.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn check(
        &self,
        signed: &Signed,
        context: Context,
        claim: &Claim<'_>,
    ) -> Result<(), AuthError> {
        let standing = self.check_claim(claim)?;
        signed.verify(context, claim.signer)?;
        if let Standing::Key { threshold } = standing
            && threshold > 1
        {
            let place = self.place(&claim.head).expect("the claim was checked");
            let found = self.state().keys_at(place).count(&signed.verified(context));
            if (found as u64) < threshold {
                return Err(AuthError::TooFewKeys {
                    found,
                    needed: threshold,
                });
            }
        }
        Ok(())
    }

    /// Checks `claim` without the signatures: what can change when the log goes on.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn check_claim(&self, claim: &Claim<'_>) -> Result<Standing, AuthError> {
        let Claim {
            signer: key,
            head,
            ops,
            model,
            seq,
            time,
        } = *claim;
        let publisher = self.publisher();
        let place = self
            .place(&head)
            .ok_or(AuthError::UnknownHead { publisher, head })?;
        let standing = self.state().standing_at(key, place);
        match &standing {
            Standing::Unknown => return Err(AuthError::UnknownKey { publisher, key }),
            Standing::Ended(end) => {
                return Err(AuthError::Revoked {
                    key,
                    last: end.last,
                });
            }
            Standing::Key { .. } => {}
            Standing::Delegate(given) => {
                if !ops.iter().any(|op| given.has(*op)) || !given.covers(model) {
                    let op = ops.first().map_or("nothing", |op| op.as_str());
                    return Err(AuthError::NotPermitted {
                        key,
                        op,
                        model: model.to_owned(),
                    });
                }
                if let Some(expires) = given.expires
                    && given.expired(time)
                {
                    return Err(AuthError::DelegationExpired { key, expires });
                }
            }
        }
        match self.state().end_of(key) {
            Some(end) if seq.is_none_or(|seq| seq > end.last) => Err(AuthError::Revoked {
                key,
                last: end.last,
            }),
            _ => Ok(standing),
        }
    }

    /// Checks the signatures of a version of `model`: who of this publisher made it. A version has no
    /// place in the log, so keys that ended since are among the answers, with their standing of today;
    /// what is current follows from refs.
    ///
    /// # Errors
    /// When no key that is, or was, the publisher's for this model signed it rightly:
    /// [`AuthError::UnknownKey`] or [`AuthError::NotPermitted`] if another key did, else
    /// [`AuthError::Signature`].
    pub fn check_version(
        &self,
        signatures: &VersionSignatures,
        model: &str,
    ) -> Result<Vec<VersionSigner>, AuthError> {
        let publisher = self.publisher();
        let right = signatures.verified();
        let own = |key: &KeyId| self.ever_authorised(*key, Operation::Push, model);
        let signers: Vec<_> = right
            .iter()
            .filter(|key| own(key))
            .map(|key| VersionSigner {
                key: *key,
                standing: self.standing(*key),
            })
            .collect();
        if !signers.is_empty() {
            return Ok(signers);
        }
        if let Some(key) = right.first().copied() {
            return Err(match self.standing(key) {
                Standing::Unknown => AuthError::UnknownKey { publisher, key },
                _ => {
                    let op = Operation::Push.as_str();
                    AuthError::NotPermitted {
                        key,
                        op,
                        model: model.to_owned(),
                    }
                }
            });
        }
        let named = signatures.signatures().iter().map(|sig| sig.key);
        let key = named
            .chain(self.keys().keys.iter().map(PublicKey::id))
            .next();
        let key = key.expect("an identity has a key");
        signatures.verify(key)?;
        Ok(signers)
    }
}

/// One who rightly signed a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSigner {
    /// The key.
    pub key: KeyId,
    /// What the key is to the publisher today.
    pub standing: Standing,
}
