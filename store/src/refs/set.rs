//! The ref records of one model, whichever are known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{RefError, RefName, RefRecord, RefState, Weight};
use crate::identity::{Claim, IdentityLog, Standing};
use crate::limits::{EQUIVOCATIONS_MAX, REF_RECORDS_MAX, REF_RECORDS_OF_SIGNER_MAX};
use crate::signature::{Context, KeyId, Signed};
use crate::{PublisherId, RecordId};

/// A record that is known.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) record: RefRecord,
    pub(super) signed: Signed,
    pub(super) weight: Weight,
}

/// The records of one ref.
#[derive(Debug, Clone, Default)]
pub(super) struct Thread {
    pub(super) name: String,
    pub(super) by_signer: HashMap<KeyId, BTreeMap<u64, Vec<RecordId>>>,
    /// Every record that a known one names as superseded, known or not.
    pub(super) cited: HashSet<RecordId>,
    /// The records that count and that no other one supersedes.
    pub(super) heads: BTreeSet<RecordId>,
}

/// All known ref records of one model.
#[derive(Debug, Clone)]
pub struct RefSet {
    publisher: PublisherId,
    model: String,
    pub(super) entries: HashMap<RecordId, Entry>,
    pub(super) threads: BTreeMap<String, Thread>,
    by_seq: HashMap<KeyId, BTreeMap<u64, Vec<RecordId>>>,
}

/// What became of a record that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was known. `signatures` says whether it brought a new signature, which is kept.
    Known {
        /// Whether there is something new to be kept.
        signatures: bool,
    },
    /// It is in force.
    InForce,
    /// It is in force beside others that disagree: a fork.
    Forked,
    /// It is history: a known record supersedes it.
    Superseded,
}

/// Proof that a signer signed different records with one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equivocation<'a> {
    /// Who signed them.
    pub signer: KeyId,
    /// The sequence.
    pub seq: u64,
    /// The records, two or more.
    pub records: Vec<&'a Signed>,
}

impl RefSet {
    /// Starts without any record of `publisher`'s `model`.
    pub fn new(publisher: PublisherId, model: impl Into<String>) -> Self {
        Self {
            publisher,
            model: model.into(),
            entries: HashMap::new(),
            threads: BTreeMap::new(),
            by_seq: HashMap::new(),
        }
    }

    /// Takes in a record. What is answered with `Ok`, or with an error that
    /// [is kept](RefError::is_kept), belongs in the record log; all else leaves the set as it was.
    ///
    /// # Errors
    /// When it is malformed, about another model, or not signed by one who may; when it is proof of
    /// equivocation; when it is older than what its signer signed since.
    pub fn apply(&mut self, log: &IdentityLog, signed: Signed) -> Result<Applied, RefError> {
        self.check_log(log)?;
        let id = signed.id();
        if let Some(known) = self.entries.get_mut(&id) {
            let signatures = known.signed.merge(Context::Ref, &signed);
            return Ok(Applied::Known { signatures });
        }
        let record = RefRecord::decode(signed.body())?;
        if record.publisher != self.publisher || record.model != self.model {
            return Err(RefError::WrongModel {
                publisher: self.publisher,
                model: self.model.clone(),
                found_publisher: record.publisher,
                found_model: record.model,
            });
        }
        with_claim(&record, |claim| log.check(&signed, Context::Ref, claim))?;
        self.check_room(log, &record)?;
        self.admit(id, record, signed)
    }

    /// Takes in a record whose signatures were checked.
    pub(super) fn admit(
        &mut self,
        id: RecordId,
        record: RefRecord,
        signed: Signed,
    ) -> Result<Applied, RefError> {
        let (name, signer, seq) = (record.name.clone(), record.signer, record.seq);
        let thread = self.threads.entry(name.clone()).or_default();
        thread.name.clone_from(&name);
        let own = thread.by_signer.entry(signer).or_default();
        let is_void = |id: &RecordId| self.entries[id].weight == Weight::Void;
        let mut later = own.range(seq.saturating_add(1)..).rev();
        let known_later = later
            .find(|(_, ids)| !ids.iter().all(is_void))
            .map(|(seq, _)| *seq);
        let was_cited = thread.cited.contains(&id);
        // in the usual case the heads follow from the record alone
        let below = own.values().next_back().into_iter().flatten();
        let mut direct = record.supersedes.iter().chain(below);
        let simple = known_later.is_none()
            && !was_cited
            && !own.contains_key(&seq)
            && direct.all(|below| {
                let known = self.entries.get(below);
                known
                    .is_none_or(|below| below.weight == Weight::Counts && below.record.name == name)
            });
        if simple {
            let below = own.values().next_back().into_iter().flatten();
            for superseded in record.supersedes.iter().chain(below) {
                thread.heads.remove(superseded);
            }
            thread.heads.insert(id);
        }
        own.entry(seq).or_default().push(id);
        thread.cited.extend(&record.supersedes);

        let twins = self.by_seq.entry(signer).or_default();
        twins.entry(seq).or_default().push(id);
        let weight = Weight::Counts;
        self.entries.insert(
            id,
            Entry {
                record,
                signed,
                weight,
            },
        );
        if let Some(first) = self
            .weigh_twins(signer, seq)
            .into_iter()
            .find(|twin| *twin != id)
        {
            return Err(RefError::Equivocation {
                signer,
                seq,
                first,
                second: id,
            });
        }
        if !simple {
            self.settle_heads(&name);
        }
        if let Some(known) = known_later
            && !was_cited
        {
            return Err(RefError::OlderSequence {
                name,
                signer,
                seq,
                known,
            });
        }
        let in_force = self.threads[&name].heads.contains(&id);
        Ok(match self.resolve(&name) {
            _ if !in_force => Applied::Superseded,
            RefState::Fork { .. } => Applied::Forked,
            RefState::Absent | RefState::At(_) => Applied::InForce,
        })
    }

    /// Weighs every record anew after the identity log went on: keys may have ended, and records that
    /// were in force may not be any more. Answers whether any ref changed.
    ///
    /// # Errors
    /// [`RefError::WrongIdentity`].
    pub fn refresh(&mut self, log: &IdentityLog) -> Result<bool, RefError> {
        self.check_log(log)?;
        let before: Vec<_> = self
            .threads
            .values()
            .map(|thread| thread.heads.clone())
            .collect();
        for entry in self.entries.values_mut() {
            let claim = with_claim(&entry.record, |claim| log.check_claim(claim));
            entry.weight = if claim.is_ok() {
                Weight::Counts
            } else {
                Weight::Void
            };
        }
        let several = self.by_seq.iter().flat_map(|(signer, own)| {
            let several = own.iter().filter(|(_, twins)| twins.len() > 1);
            several.map(|(seq, _)| (*signer, *seq))
        });
        for (signer, seq) in several.collect::<Vec<_>>() {
            self.weigh_twins(signer, seq);
        }
        for name in self.threads.keys().cloned().collect::<Vec<_>>() {
            self.settle_heads(&name);
        }
        Ok(!before
            .iter()
            .eq(self.threads.values().map(|thread| &thread.heads)))
    }

    /// Weighs the records of one signer and sequence: if more than one is not void, none of them
    /// counts. Answers those, if there are several.
    fn weigh_twins(&mut self, signer: KeyId, seq: u64) -> Vec<RecordId> {
        let mut twins = self.by_seq[&signer][&seq].clone();
        twins.retain(|id| self.entries[id].weight != Weight::Void);
        if twins.len() < 2 {
            return Vec::new();
        }
        let mut names = BTreeSet::new();
        for twin in &twins {
            let entry = self
                .entries
                .get_mut(twin)
                .expect("indexed records are known");
            entry.weight = Weight::Equivocated;
            names.insert(entry.record.name.clone());
        }
        for name in names {
            self.settle_heads(&name);
        }
        twins
    }

    /// Refuses what is over the limits, so that no delegate can use up the room of the others.
    fn check_room(&self, log: &IdentityLog, record: &RefRecord) -> Result<(), RefError> {
        let by_keys = matches!(
            log.standing_at(record.signer, &record.identity),
            Some(Standing::Key { .. })
        );
        let max = if by_keys {
            2 * REF_RECORDS_MAX
        } else {
            REF_RECORDS_MAX
        };
        if self.entries.len() >= max {
            return Err(RefError::TooManyRecords { max });
        }
        let Some(own) = self.by_seq.get(&record.signer) else {
            return Ok(());
        };
        if own.len() >= REF_RECORDS_OF_SIGNER_MAX && !by_keys {
            return Err(RefError::TooManyRecords {
                max: REF_RECORDS_OF_SIGNER_MAX,
            });
        }
        if own
            .get(&record.seq)
            .is_some_and(|twins| twins.len() >= EQUIVOCATIONS_MAX)
        {
            return Err(RefError::TooManyRecords {
                max: EQUIVOCATIONS_MAX,
            });
        }
        Ok(())
    }

    fn check_log(&self, log: &IdentityLog) -> Result<(), RefError> {
        if log.publisher() == self.publisher {
            return Ok(());
        }
        Err(RefError::WrongIdentity {
            expected: self.publisher,
            found: log.publisher(),
        })
    }

    /// Whose refs these are.
    pub fn publisher(&self) -> PublisherId {
        self.publisher
    }

    /// Which model's refs these are.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How many records are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The record of this id, if it is known, counting or not.
    pub fn record(&self, id: &RecordId) -> Option<(&RefRecord, &Signed)> {
        self.entries
            .get(id)
            .map(|entry| (&entry.record, &entry.signed))
    }

    /// The highest sequence of `signer` in these records; 0 if there is none. The next one must be
    /// above that of *every* model of the publisher.
    pub fn highest_seq(&self, signer: KeyId) -> u64 {
        let own = self.by_seq.get(&signer);
        own.and_then(|own| own.keys().next_back().copied())
            .unwrap_or(0)
    }

    /// Proofs of signers who signed different records with one sequence.
    pub fn equivocations(&self) -> Vec<Equivocation<'_>> {
        let mut proofs = Vec::new();
        for (signer, own) in &self.by_seq {
            for (seq, twins) in own {
                let entries = twins.iter().map(|id| &self.entries[id]);
                let records: Vec<_> = entries
                    .filter(|entry| entry.weight == Weight::Equivocated)
                    .map(|entry| &entry.signed)
                    .collect();
                if records.is_empty() {
                    continue;
                }
                proofs.push(Equivocation {
                    signer: *signer,
                    seq: *seq,
                    records,
                });
            }
        }
        proofs.sort_by_key(|proof| (proof.signer, proof.seq));
        proofs
    }

    /// Every record that is kept, proofs included, each after those that it supersedes: what a peer
    /// needs to come to the same answers.
    pub fn records(&self) -> Vec<&Signed> {
        let names = self.threads.keys();
        let ids = names.flat_map(|name| self.in_order(name));
        ids.map(|id| &self.entries[&id].signed).collect()
    }
}

/// Calls `check` with what `record` claims.
fn with_claim<T>(record: &RefRecord, check: impl FnOnce(&Claim<'_>) -> T) -> T {
    let name = RefName::parse(&record.name).expect("the name was checked when it was decoded");
    check(&Claim {
        signer: record.signer,
        head: record.identity,
        ops: name.operations(record.version.is_none()),
        model: &record.model,
        seq: Some(record.seq),
        time: record.time,
    })
}
