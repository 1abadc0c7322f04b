//! What refs are at: pure functions of the records that are known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::set::{Entry, Thread};
use super::{PUBLIC_REF, RefName, RefRecord, RefSet};
use crate::signature::{KeyId, Signed};
use crate::{RecordId, VersionId};

/// Whether a known record counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It counts.
    Counts,
    /// Its signer signed another record with the same sequence.
    Equivocated,
    /// Its signer has ended, and this record is after the last that counts; or the identity record that
    /// it names is not in force.
    Void,
}

/// What a ref is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefState {
    /// It is not there, or deleted.
    Absent,
    /// It is at this version.
    At(VersionId),
    /// Several signers moved it without knowing of each other.
    Fork {
        /// What the last record said that all of them knew: this is served.
        common: Option<VersionId>,
        /// What they say, by record id.
        candidates: Vec<Candidate>,
    },
}

/// One side of a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The record.
    pub record: RecordId,
    /// Who signed it.
    pub signer: KeyId,
    /// What it says; none deletes the ref.
    pub version: Option<VersionId>,
    /// When, as its signer says.
    pub time: u64,
}

/// One record of a ref's history.
#[derive(Debug, Clone)]
pub struct HistoryEntry<'a> {
    /// The record's id.
    pub id: RecordId,
    /// The record.
    pub record: &'a RefRecord,
    /// The record with its signatures.
    pub signed: &'a Signed,
    /// Whether it counts.
    pub weight: Weight,
    /// Whether it is in force.
    pub in_force: bool,
    /// The versions that the ref was at in the records that this one replaces directly.
    pub from: Vec<VersionId>,
}

impl HistoryEntry<'_> {
    /// Whether this record takes the ref from a version to another one: for a tag, that is news.
    pub fn moves(&self) -> bool {
        self.from
            .iter()
            .any(|from| Some(*from) != self.record.version)
    }
}

impl RefState {
    /// The version that is served: in a fork, the last one that all sides knew.
    pub fn served(&self) -> Option<VersionId> {
        match self {
            Self::Absent => None,
            Self::At(version) => Some(*version),
            Self::Fork { common, .. } => *common,
        }
    }
}

impl RefSet {
    /// What the ref of this full name (`heads/main`) is at.
    pub fn resolve(&self, name: &str) -> RefState {
        let Some(thread) = self.threads.get(name) else {
            return RefState::Absent;
        };
        match self.agreed(&thread.heads) {
            Some(None) => RefState::Absent,
            Some(Some(version)) => RefState::At(version),
            None => RefState::Fork {
                common: self.common(thread, &thread.heads),
                candidates: thread.heads.iter().map(|id| self.candidate(*id)).collect(),
            },
        }
    }

    /// The branch `name`, else the tag `name`, as a user means it; with its full name.
    pub fn resolve_short(&self, name: &str) -> Option<(String, RefState)> {
        [RefName::Branch(name), RefName::Tag(name)]
            .into_iter()
            .find_map(|full| {
                let full = full.to_string();
                match self.resolve(&full) {
                    RefState::Absent => None,
                    state => Some((full, state)),
                }
            })
    }

    /// All refs that are there, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, RefState)> {
        let all = self
            .threads
            .keys()
            .map(|name| (name.as_str(), self.resolve(name)));
        all.filter(|(_, state)| *state != RefState::Absent)
    }

    /// The full names of all refs that a record ever set, those that are deleted too.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.threads.keys().map(String::as_str)
    }

    /// The refs that are forked, by name.
    pub fn forks(&self) -> impl Iterator<Item = (&str, RefState)> {
        self.iter()
            .filter(|(_, state)| matches!(state, RefState::Fork { .. }))
    }

    /// Every version that a record that counts names, in force or not.
    pub fn versions(&self) -> BTreeSet<VersionId> {
        let counting = self
            .entries
            .values()
            .filter(|entry| entry.weight == Weight::Counts);
        counting.filter_map(|entry| entry.record.version).collect()
    }

    /// Whether everyone may read the model. In doubt not: every side of a fork must say so, and those of
    /// an equivocation too.
    pub fn is_public(&self) -> bool {
        let Some(thread) = self.threads.get(PUBLIC_REF) else {
            return false;
        };
        let tips = self.tips(thread, |weight| weight != Weight::Void);
        !tips.is_empty()
            && tips
                .iter()
                .all(|id| self.entries[id].record.version.is_some())
    }

    /// The history of a ref, each record after those that it replaces; of those that do not know of
    /// each other, the one first whose signer says that it is older.
    pub fn history(&self, name: &str) -> Vec<HistoryEntry<'_>> {
        let Some(thread) = self.threads.get(name) else {
            return Vec::new();
        };
        let entry = |id: RecordId| {
            let entry = &self.entries[&id];
            let cited = self.direct(thread, id).into_iter();
            let mut from: Vec<_> = cited
                .filter_map(|id| self.entry_in(thread, &id)?.record.version)
                .collect();
            from.sort_unstable();
            from.dedup();
            HistoryEntry {
                id,
                record: &entry.record,
                signed: &entry.signed,
                weight: entry.weight,
                in_force: thread.heads.contains(&id),
                from,
            }
        };
        self.in_order(name).into_iter().map(entry).collect()
    }

    fn candidate(&self, id: RecordId) -> Candidate {
        let record = &self.entries[&id].record;
        let RefRecord {
            signer,
            version,
            time,
            ..
        } = *record;
        Candidate {
            record: id,
            signer,
            version,
            time,
        }
    }

    /// What all of `ids` say, if they agree. No record says that the ref is not there.
    fn agreed(&self, ids: &BTreeSet<RecordId>) -> Option<Option<VersionId>> {
        let mut versions = ids.iter().map(|id| self.entries[id].record.version);
        let first = versions.next().unwrap_or(None);
        versions.all(|version| version == first).then_some(first)
    }

    /// What the last record said that all of `heads` supersede.
    fn common(&self, thread: &Thread, heads: &BTreeSet<RecordId>) -> Option<VersionId> {
        let mut common: Option<BTreeSet<RecordId>> = None;
        for head in heads {
            let below = self.superseded_by(thread, [*head]);
            let counts = |id: &RecordId| {
                let counts =
                    self.entry_in(thread, id).map(|entry| entry.weight) == Some(Weight::Counts);
                counts && !heads.contains(id)
            };
            common = Some(match common {
                None => below.into_iter().filter(counts).collect(),
                Some(known) => known.into_iter().filter(|id| below.contains(id)).collect(),
            });
        }
        let common = common?;
        let below = self.superseded_by(thread, common.iter().copied());
        let tips: BTreeSet<_> = common
            .into_iter()
            .filter(|id| !below.contains(id))
            .collect();
        if tips.is_empty() {
            return None;
        }
        // several last ones that disagree are a fork themselves, of fewer records
        self.agreed(&tips)
            .unwrap_or_else(|| self.common(thread, &tips))
    }

    /// A known record, if it is one of this thread.
    fn entry_in(&self, thread: &Thread, id: &RecordId) -> Option<&Entry> {
        self.entries
            .get(id)
            .filter(|entry| entry.record.name == thread.name)
    }

    /// The records of a thread that `id` supersedes directly: those that it names, and its signer's last
    /// ones before it that are not void. They may be unknown.
    fn direct(&self, thread: &Thread, id: RecordId) -> Vec<RecordId> {
        let Some(entry) = self.entry_in(thread, &id) else {
            return Vec::new();
        };
        let record = &entry.record;
        let not_void = |id: &RecordId| self.entries[id].weight != Weight::Void;
        let own = thread.by_signer.get(&record.signer);
        let before = own
            .into_iter()
            .flat_map(|own| own.range(..record.seq).rev());
        let mut last =
            before.map(|(_, ids)| ids.iter().copied().filter(not_void).collect::<Vec<_>>());
        let last = last.find(|ids| !ids.is_empty()).unwrap_or_default();
        [record.supersedes.as_slice(), &last].concat()
    }

    /// Everything that records of `from` supersede, directly or through others that are not void; they
    /// may be unknown. What void records supersede is left alone, as if they were not known: who comes
    /// later never gets them.
    fn superseded_by(
        &self,
        thread: &Thread,
        from: impl IntoIterator<Item = RecordId>,
    ) -> HashSet<RecordId> {
        let mut superseded = HashSet::new();
        let mut todo: Vec<_> = from.into_iter().collect();
        let mut walked: HashSet<_> = todo.iter().copied().collect();
        while let Some(id) = todo.pop() {
            let known = self.entries.get(&id);
            if known.is_some_and(|entry| entry.weight == Weight::Void) {
                continue;
            }
            for below in self.direct(thread, id) {
                superseded.insert(below);
                if walked.insert(below) {
                    todo.push(below);
                }
            }
        }
        superseded
    }

    /// The records of a weight that `counts`, and that no other such record supersedes.
    pub(super) fn tips(
        &self,
        thread: &Thread,
        counts: impl Fn(Weight) -> bool,
    ) -> BTreeSet<RecordId> {
        let all = thread
            .by_signer
            .values()
            .flat_map(BTreeMap::values)
            .flatten();
        let counting: Vec<_> = all
            .copied()
            .filter(|id| counts(self.entries[id].weight))
            .collect();
        let superseded = self.superseded_by(thread, counting.iter().copied());
        counting
            .into_iter()
            .filter(|id| !superseded.contains(id))
            .collect()
    }

    /// Finds the heads of a thread from all of its records.
    pub(super) fn settle_heads(&mut self, name: &str) {
        let thread = &self.threads[name];
        let heads = self.tips(thread, |weight| weight == Weight::Counts);
        let thread = self.threads.get_mut(name).expect("looked up just now");
        thread.heads = heads;
    }

    /// The records of a thread, each after those that it supersedes directly.
    pub(super) fn in_order(&self, name: &str) -> Vec<RecordId> {
        let Some(thread) = self.threads.get(name) else {
            return Vec::new();
        };
        let all: Vec<_> = thread
            .by_signer
            .values()
            .flat_map(BTreeMap::values)
            .flatten()
            .copied()
            .collect();
        let key = |id: RecordId| (self.entries[&id].record.time, id);
        let mut waits: HashMap<RecordId, usize> = HashMap::new();
        let mut above: HashMap<RecordId, Vec<RecordId>> = HashMap::new();
        for id in &all {
            let below: BTreeSet<_> = self.direct(thread, *id).into_iter().collect();
            let known = below.into_iter().filter(|below| {
                self.entries
                    .get(below)
                    .is_some_and(|entry| entry.record.name == name)
            });
            let mut count = 0;
            for below in known {
                above.entry(below).or_default().push(*id);
                count += 1;
            }
            waits.insert(*id, count);
        }
        let mut ready: BTreeSet<_> = all
            .iter()
            .filter(|id| waits[*id] == 0)
            .map(|id| key(*id))
            .collect();
        let mut ordered = Vec::with_capacity(all.len());
        while ordered.len() < all.len() {
            // records that supersede each other in a circle come from signers who count backwards: any
            // order does, as long as it is always the same
            let next = ready.pop_first().map(|(_, id)| id);
            let next = next.or_else(|| waits.keys().copied().min_by_key(|id| key(*id)));
            let Some(id) = next else { break };
            waits.remove(&id);
            ordered.push(id);
            for above in above.remove(&id).into_iter().flatten() {
                if let Some(count) = waits.get_mut(&above) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(key(above));
                    }
                }
            }
        }
        ordered
    }
}
