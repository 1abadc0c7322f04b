//! What refs are at, by the definitions of the module written down plainly, beside what it says of random histories.

use proptest::prelude::*;

use super::*;

/// The definitions of the module's first lines, over a matrix of who supersedes whom.
struct Model {
    records: Vec<RefRecord>,
    ids: Vec<RecordId>,
    /// `above[i][j]`: record i supersedes record j, directly or through others.
    above: Vec<Vec<bool>>,
}

impl Model {
    fn new(records: Vec<RefRecord>) -> Self {
        let ids: Vec<_> = records
            .iter()
            .map(|record| RecordId::of(&record.encode()))
            .collect();
        let n = records.len();
        let mut above = vec![vec![false; n]; n];
        for (i, a) in records.iter().enumerate() {
            for (j, b) in records.iter().enumerate() {
                let own = a.signer == b.signer && a.seq > b.seq;
                above[i][j] = a.name == b.name && (own || a.supersedes.contains(&ids[j]));
            }
        }
        for k in 0..n {
            for i in 0..n {
                for j in 0..n {
                    above[i][j] |= above[i][k] && above[k][j];
                }
            }
        }
        Self {
            records,
            ids,
            above,
        }
    }

    fn equivocates(&self, i: usize) -> bool {
        let a = &self.records[i];
        let twin = |(j, b): (usize, &RefRecord)| j != i && b.signer == a.signer && b.seq == a.seq;
        self.records.iter().enumerate().any(twin)
    }

    fn tips(&self, among: &[usize]) -> Vec<usize> {
        let tip = |i: &usize| !among.iter().any(|j| self.above[*j][*i]);
        among.iter().copied().filter(tip).collect()
    }

    fn agreed(&self, tips: &[usize]) -> Option<Option<VersionId>> {
        let versions: std::collections::BTreeSet<_> =
            tips.iter().map(|i| self.records[*i].version).collect();
        match versions.len() {
            0 => Some(None),
            1 => versions.into_iter().next(),
            _ => None,
        }
    }

    fn of(&self, name: &str) -> Vec<usize> {
        (0..self.records.len())
            .filter(|i| self.records[*i].name == name)
            .collect()
    }

    fn served(&self, name: &str) -> (Option<VersionId>, bool) {
        let counting: Vec<_> = self
            .of(name)
            .into_iter()
            .filter(|i| !self.equivocates(*i))
            .collect();
        let heads = self.tips(&counting);
        match self.agreed(&heads) {
            Some(version) => (version, false),
            None => (self.common(&counting, &heads), true),
        }
    }

    fn common(&self, counting: &[usize], heads: &[usize]) -> Option<VersionId> {
        let below_all =
            |i: &usize| !heads.contains(i) && heads.iter().all(|head| self.above[*head][*i]);
        let common: Vec<_> = counting.iter().copied().filter(below_all).collect();
        let tips = self.tips(&common);
        if tips.is_empty() {
            return None;
        }
        self.agreed(&tips)
            .unwrap_or_else(|| self.common(counting, &tips))
    }

    fn is_public(&self) -> bool {
        let tips = self.tips(&self.of(PUBLIC_REF));
        !tips.is_empty() && tips.iter().all(|i| self.records[*i].version.is_some())
    }
}

/// One step of a random history: signer, what its sequence does, which records it knows, version, ref.
type Step = (u8, u8, Vec<prop::sample::Index>, Option<u8>, u8);

fn history(
    log: &IdentityLog,
    ids: [crate::signature::KeyId; 2],
    steps: Vec<Step>,
) -> Vec<RefRecord> {
    let mut records: Vec<RefRecord> = Vec::new();
    let mut next = [1u64, 1];
    for (signer, seq_kind, known, n, name) in steps {
        let signer = usize::from(signer % 2);
        let seq = match seq_kind {
            // once in a while the same number again, or an older one
            0 => next[signer].saturating_sub(1).max(1),
            1 => next[signer].saturating_sub(2).max(1),
            _ => next[signer],
        };
        next[signer] = next[signer].max(seq + 1);
        let mut supersedes: Vec<_> = known
            .iter()
            .filter(|_| !records.is_empty())
            .map(|at| RecordId::of(&records[at.index(records.len())].encode()))
            .collect();
        supersedes.sort();
        supersedes.dedup();
        let record = RefRecord {
            publisher: log.publisher(),
            model: "tiny".into(),
            name: [MAIN, "tags/v1", PUBLIC_REF, MAIN][usize::from(name % 4)].into(),
            version: n.map(version),
            signer: ids[signer],
            seq,
            supersedes,
            identity: log.head(),
            time: 7,
        };
        if !records.contains(&record) {
            records.push(record);
        }
    }
    records
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let known = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    prop::collection::vec(
        (
            0..2u8,
            0..8u8,
            known,
            prop::option::weighted(0.8, 0..3u8),
            0..4u8,
        ),
        0..12,
    )
}

/// What takes long without optimisation, made once: an identity, its key and a delegate, and the same
/// identity after the delegate ended at several sequences.
struct Fixture {
    log: IdentityLog,
    ids: [crate::signature::KeyId; 2],
    ended: Vec<(IdentityLog, u64)>,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: std::sync::OnceLock<Fixture> = std::sync::OnceLock::new();
    FIXTURE.get_or_init(|| {
        let log = log();
        let ids = [key(1).id(), key(3).id()];
        let ended = (0..5).map(|last| {
            let mut log = log.clone();
            let revoked = log.revoke(Ended { key: ids[1], last }, &[&key(1)]).unwrap();
            log.apply(revoked).unwrap();
            (log, last)
        });
        Fixture {
            ended: ended.collect(),
            log,
            ids,
        }
    })
}

fn record_by(log: &IdentityLog, signer: crate::signature::KeyId, seq: u64) -> RefRecord {
    RefRecord {
        signer,
        ..record_of(log, 3, seq)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Records of two signers, with forks, supersession, equivocation and sequences that go back, give
    /// in any order of arrival what the definitions give.
    #[test]
    fn what_refs_are_at_does_not_depend_on_the_order_of_arrival(
        steps in steps(),
        orders in prop::collection::vec(any::<u32>(), 12),
        ends_at in 0..5u8,
    ) {
        let Fixture { log, ids, ended } = fixture();
        let records = history(log, *ids, steps);
        let model = Model::new(records.clone());
        let mut in_order = refs(log);
        let mut shuffled = refs(log);
        let mut order: Vec<_> = records.iter().zip(orders).collect();
        for record in &records {
            let _ = in_order.admit(RecordId::of(&record.encode()), record.clone(), unsigned(record));
        }
        order.sort_by_key(|(_, order)| *order);
        for (record, _) in order {
            let result = shuffled.admit(RecordId::of(&record.encode()), record.clone(), unsigned(record));
            if let Err(err) = result {
                prop_assert!(err.is_kept());
            }
        }
        // whoever comes after a key has ended gets the rest, and the same answers
        let (ended_log, last) = &ended[usize::from(ends_at)];
        let mut weighed = shuffled.clone();
        weighed.refresh(ended_log).unwrap();
        let left: Vec<_> = records
            .iter()
            .filter(|record| record.signer != ids[1] || record.seq <= *last)
            .cloned()
            .collect();
        let mut late = refs(log);
        for record in &left {
            let _ = late.admit(RecordId::of(&record.encode()), record.clone(), unsigned(record));
        }
        let left = Model::new(left);
        for name in [MAIN, "tags/v1", PUBLIC_REF] {
            let state = weighed.resolve(name);
            prop_assert_eq!(&state, &late.resolve(name));
            let forked = matches!(state, RefState::Fork { .. });
            prop_assert_eq!((state.served(), forked), left.served(name));
        }
        prop_assert_eq!(weighed.is_public(), late.is_public());
        prop_assert_eq!(weighed.is_public(), left.is_public());
        prop_assert_eq!(weighed.equivocations().len(), late.equivocations().len());
        // and later records are weighed alike
        for set in [&mut weighed, &mut late] {
            let next = RefRecord {
                seq: 100,
                supersedes: records.first().map(|record| RecordId::of(&record.encode())).into_iter().collect(),
                ..record_by(log, ids[0], 100)
            };
            let _ = set.admit(RecordId::of(&next.encode()), next.clone(), unsigned(&next));
        }
        prop_assert_eq!(weighed.resolve(MAIN), late.resolve(MAIN));

        for set in [&in_order, &shuffled] {
            prop_assert_eq!(set.len(), records.len(), "everything is kept");
            for name in [MAIN, "tags/v1", PUBLIC_REF] {
                let state = set.resolve(name);
                let forked = matches!(state, RefState::Fork { .. });
                prop_assert_eq!((state.served(), forked), model.served(name));
                // history is complete, and in an order that can be replayed
                let order: Vec<_> = set.history(name).iter().map(|entry| entry.id).collect();
                prop_assert_eq!(order.len(), model.of(name).len());
                let counts_backwards = (0..records.len()).any(|i| model.above[i][i]);
                for (i, a) in order.iter().enumerate().filter(|_| !counts_backwards) {
                    for b in &order[i + 1..] {
                        let [a, b] = [a, b].map(|id| model.ids.iter().position(|own| own == id).unwrap());
                        prop_assert!(!model.above[a][b]);
                    }
                }
            }
            prop_assert_eq!(set.is_public(), model.is_public());
        }
        for name in [MAIN, "tags/v1", PUBLIC_REF] {
            prop_assert_eq!(in_order.resolve(name), shuffled.resolve(name));
        }
        let proofs = |set: &RefSet| set.equivocations().len();
        prop_assert_eq!(proofs(&in_order), proofs(&shuffled));
        // a refresh against the same identity log changes nothing
        let before = shuffled.clone();
        prop_assert_eq!(shuffled.refresh(log), Ok(false));
        prop_assert_eq!(shuffled.resolve(MAIN), before.resolve(MAIN));
    }
}
