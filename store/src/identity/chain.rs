//! What a chain of identity records says, record by record: keys, delegates, and ends of both.

use std::collections::BTreeMap;

use super::IdentityError;
use super::glob::matches;
use super::record::{Delegation, Ended, IdentityOp, IdentityRecord, KeySet, Operation};
use crate::signature::KeyId;

/// By what right a record is in the log. Of rivals, the higher wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A delegate signed it.
    Delegate,
    /// The identity's keys signed it.
    Keys,
    /// The keys that were committed to signed it, and took over.
    Rotation,
}

/// Where and how a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The place of the record that ended it first.
    pub at: u64,
    /// The sequence of its last ref record that counts; 0 is none.
    pub last: u64,
}

/// What a key is to an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It has, and had, no part in it.
    Unknown,
    /// It is one of its keys; `threshold` of them sign together.
    Key {
        /// How many keys must sign.
        threshold: u64,
    },
    /// It is a delegate.
    Delegate(Delegation),
    /// It was one of its keys or a delegate.
    Ended(End),
}

#[derive(Debug, Clone)]
struct Grant {
    from: u64,
    /// The delegate who gave it; none when the identity's keys did.
    by: Option<KeyId>,
    given: Delegation,
}

/// The state after a chain of records.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// The next record's place.
    len: u64,
    /// From which place on which keys, and the commitment to those after them.
    epochs: Vec<(u64, KeySet, [u8; 32])>,
    grants: BTreeMap<KeyId, Grant>,
    ended: BTreeMap<KeyId, End>,
}

impl Chain {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn keys(&self) -> &KeySet {
        let (_, keys, _) = self.epochs.last().expect("a chain starts with a creation");
        keys
    }

    pub(super) fn next(&self) -> &[u8; 32] {
        let (_, _, next) = self.epochs.last().expect("a chain starts with a creation");
        next
    }

    /// The keys in force when the record at place `at` was the last.
    pub(super) fn keys_at(&self, at: u64) -> &KeySet {
        let epoch = self.epochs.iter().rev().find(|(from, ..)| *from <= at);
        let (_, keys, _) = epoch.expect("a chain starts with a creation at place 0");
        keys
    }

    pub(super) fn end_of(&self, key: KeyId) -> Option<End> {
        self.ended.get(&key).copied()
    }

    /// What `key` was when the record at place `at` was the last.
    pub(super) fn standing_at(&self, key: KeyId, at: u64) -> Standing {
        if let Some(end) = self.ended.get(&key)
            && end.at <= at
        {
            return Standing::Ended(*end);
        }
        let keys = self.keys_at(at);
        if keys.contains(key) {
            return Standing::Key {
                threshold: keys.threshold,
            };
        }
        match self.grants.get(&key) {
            Some(grant) if grant.from <= at => Standing::Delegate(grant.given.clone()),
            _ => Standing::Unknown,
        }
    }

    /// Whether `key` was one of the keys, or a delegate for `op` on `model`, at any place.
    pub(super) fn ever_authorised(&self, key: KeyId, op: Operation, model: &str) -> bool {
        let granted = |grant: &Grant| grant.given.has(op) && grant.given.covers(model);
        self.epochs.iter().any(|(_, keys, _)| keys.contains(key))
            || self.grants.get(&key).is_some_and(granted)
    }

    /// The delegates that have not ended, with who delegated to them.
    pub(super) fn delegates(&self) -> impl Iterator<Item = (&Delegation, Option<KeyId>)> {
        let active = self
            .grants
            .iter()
            .filter(|(key, _)| !self.ended.contains_key(key));
        active.map(|(_, grant)| (&grant.given, grant.by))
    }

    /// Checks whether `record`, which `signers` rightly signed, may come next, and by what right.
    pub(super) fn check(
        &self,
        record: &IdentityRecord,
        signers: &[KeyId],
    ) -> Result<Rank, IdentityError> {
        let seq = record.seq;
        if seq != self.len {
            return Err(IdentityError::WrongSequence {
                expected: self.len,
                found: seq,
            });
        }
        let signed_by = |keys: &KeySet| {
            let (found, needed) = (keys.count(signers), keys.threshold);
            if keys.satisfied_by(signers) {
                Ok(())
            } else {
                Err(IdentityError::NotSigned { seq, found, needed })
            }
        };
        match &record.op {
            IdentityOp::Create { keys, .. } => {
                signed_by(keys)?;
                Ok(Rank::Keys)
            }
            IdentityOp::Rotate { keys, ended, .. } => {
                if keys.commitment() != *self.next() {
                    return Err(IdentityError::WrongNextKeys { seq });
                }
                signed_by(keys)?;
                self.check_rotation(keys, ended)?;
                Ok(Rank::Rotation)
            }
            IdentityOp::Delegate(given) => {
                let rank = match record.by {
                    None => signed_by(self.keys()).map(|()| Rank::Keys)?,
                    Some(by) => {
                        check_narrower(by, self.delegating(by, signers, seq)?, given)?;
                        Rank::Delegate
                    }
                };
                self.check_new_delegate(given.key.id())?;
                Ok(rank)
            }
            IdentityOp::Revoke(ended) => {
                let rank = match record.by {
                    None => signed_by(self.keys()).map(|()| Rank::Keys)?,
                    Some(by) => {
                        self.delegating(by, signers, seq)?;
                        if !self.descends(ended.key, by) {
                            let why = "a delegate ends only what it delegated itself";
                            return Err(IdentityError::NotRevocable {
                                key: ended.key,
                                why,
                            });
                        }
                        Rank::Delegate
                    }
                };
                self.check_revocable(*ended)?;
                Ok(rank)
            }
        }
    }

    /// The delegation of `by`, who signed and may delegate further.
    fn delegating(
        &self,
        by: KeyId,
        signers: &[KeyId],
        seq: u64,
    ) -> Result<&Delegation, IdentityError> {
        if !signers.contains(&by) {
            return Err(IdentityError::NotSigned {
                seq,
                found: 0,
                needed: 1,
            });
        }
        let own = self.grants.get(&by).map(|grant| &grant.given);
        own.filter(|own| {
            !self.ended.contains_key(&by) && own.has(Operation::Delegate) && own.depth > 0
        })
        .ok_or(IdentityError::NotADelegator { by })
    }

    /// Adds a record that [`Chain::check`] permitted.
    pub(super) fn push(&mut self, record: &IdentityRecord) {
        let at = record.seq;
        match &record.op {
            IdentityOp::Create { keys, next } => self.epochs.push((at, keys.clone(), *next)),
            IdentityOp::Rotate { keys, next, ended } => {
                for key in &self.keys().keys.clone() {
                    let key = key.id();
                    if !keys.contains(key) {
                        let last = ended
                            .iter()
                            .find(|end| end.key == key)
                            .map_or(0, |end| end.last);
                        self.ended.insert(key, End { at, last });
                    }
                }
                self.epochs.push((at, keys.clone(), *next));
            }
            IdentityOp::Delegate(given) => {
                let grant = Grant {
                    from: at,
                    by: record.by,
                    given: given.clone(),
                };
                self.grants.insert(given.key.id(), grant);
            }
            IdentityOp::Revoke(ended) => {
                let end = self.ended.entry(ended.key).or_insert(End {
                    at,
                    last: ended.last,
                });
                end.last = end.last.min(ended.last);
            }
        }
        self.len += 1;
    }

    fn check_rotation(&self, keys: &KeySet, ended: &[Ended]) -> Result<(), IdentityError> {
        for key in &keys.keys {
            let key = key.id();
            if self.ended.contains_key(&key) {
                return Err(IdentityError::KeyInUse {
                    key,
                    why: "has ended and stays so",
                });
            }
            if self.grants.contains_key(&key) {
                return Err(IdentityError::KeyInUse {
                    key,
                    why: "is a delegate",
                });
            }
        }
        for end in ended {
            if !self.keys().contains(end.key) || keys.contains(end.key) {
                let why = "it does not leave by this rotation";
                return Err(IdentityError::NotRevocable { key: end.key, why });
            }
        }
        Ok(())
    }

    fn check_new_delegate(&self, key: KeyId) -> Result<(), IdentityError> {
        let why = if self.ended.contains_key(&key) {
            "has ended and stays so"
        } else if self.keys().contains(key) {
            "is one of the identity's keys"
        } else if self.grants.contains_key(&key) {
            "is a delegate already"
        } else {
            return Ok(());
        };
        Err(IdentityError::KeyInUse { key, why })
    }

    fn check_revocable(&self, ended: Ended) -> Result<(), IdentityError> {
        let Ended { key, last } = ended;
        let why = match self.ended.get(&key) {
            Some(end) if last < end.last => return Ok(()),
            Some(_) => "it has ended already, at this record or an earlier one",
            None if self.keys().contains(key) => "it is one of the identity's keys: rotate them",
            None if self.grants.contains_key(&key) => return Ok(()),
            None => "it has no part in this identity",
        };
        Err(IdentityError::NotRevocable { key, why })
    }

    /// Whether `key` got its delegation from `by`, or from one that got it from `by`, and so on.
    fn descends(&self, key: KeyId, by: KeyId) -> bool {
        let mut at = key;
        // a delegate's delegate is new when it is made, so the way up has no circle
        while let Some(parent) = self.grants.get(&at).and_then(|grant| grant.by) {
            if parent == by {
                return true;
            }
            at = parent;
        }
        false
    }
}

/// Checks that `given` is nothing that `own` lacks.
fn check_narrower(by: KeyId, own: &Delegation, given: &Delegation) -> Result<(), IdentityError> {
    let covered = |glob: &String| own.globs.iter().any(|wide| matches(wide, glob));
    let what = if given.depth >= own.depth {
        "a depth"
    } else if !given.ops.iter().all(|op| own.ops.contains(op)) {
        "operations"
    } else if !given.globs.iter().all(covered) {
        "models"
    } else if own
        .expires
        .is_some_and(|own| given.expires.is_none_or(|given| given > own))
    {
        "a time"
    } else {
        return Ok(());
    };
    Err(IdentityError::Wider { by, what })
}
