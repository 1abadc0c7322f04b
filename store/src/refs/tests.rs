#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod model;

use super::*;
use crate::VersionId;
use crate::identity::IdentityLog;
use crate::identity::{Delegation, Ended, KeySet, Operation, create, next_commitment};
use crate::limits::*;
use crate::signature::{Context, SignatureError, Signed, SigningKey};

const MAIN: &str = "heads/main";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn version(n: u8) -> VersionId {
    VersionId::from_bytes([n; 32])
}

/// An identity of key 1, with key 2 as the next one and delegates 3 and 4 for everything on `t*`, and 5
/// for pushes to `tiny` alone, until 1000.
fn log() -> IdentityLog {
    let mut log = IdentityLog::start(create(&key(1), &key(2).public())).unwrap();
    for seed in [3, 4] {
        let given = Delegation::new(key(seed).public(), &Operation::ALL, &["t*"]);
        log.apply(log.delegate(given, &[&key(1)]).unwrap()).unwrap();
    }
    let mut given = Delegation::new(key(5).public(), &[Operation::Push], &["tiny"]);
    given.expires = Some(1000);
    log.apply(log.delegate(given, &[&key(1)]).unwrap()).unwrap();
    log
}

fn refs(log: &IdentityLog) -> RefSet {
    RefSet::new(log.publisher(), "tiny")
}

impl RefSet {
    /// Makes and applies a record that sets `name`.
    fn set(&mut self, log: &IdentityLog, seed: u8, name: &str, n: Option<u8>) -> Signed {
        let signed = self
            .make(log, &[&key(seed)], name, n.map(version), 0, 7)
            .unwrap();
        assert_eq!(self.apply(log, signed.clone()), Ok(Applied::InForce));
        signed
    }
}

/// Signs a record with a change, without any check.
fn forge(
    log: &IdentityLog,
    seed: u8,
    seq: u64,
    n: u8,
    change: impl FnOnce(&mut RefRecord),
) -> Signed {
    let mut record = RefRecord {
        publisher: log.publisher(),
        model: "tiny".into(),
        name: MAIN.into(),
        version: Some(version(n)),
        signer: key(seed).id(),
        seq,
        supersedes: vec![],
        identity: log.head(),
        time: 7,
    };
    change(&mut record);
    Signed::new(Context::Ref, record.encode(), &[&key(seed)])
}

#[test]
fn a_ref_moves_and_goes_by_records_that_supersede() {
    let log = log();
    let mut refs = refs(&log);
    assert_eq!(refs.resolve(MAIN), RefState::Absent);
    refs.set(&log, 1, MAIN, Some(1));
    refs.set(&log, 3, MAIN, Some(2));
    refs.set(&log, 1, "tags/v1", Some(1));
    assert_eq!(refs.resolve(MAIN), RefState::At(version(2)));
    let all: Vec<_> = refs
        .iter()
        .map(|(name, state)| (name.to_owned(), state.served()))
        .collect();
    let expected = [
        (MAIN.to_owned(), Some(version(2))),
        ("tags/v1".to_owned(), Some(version(1))),
    ];
    assert_eq!(all, expected);
    assert_eq!(refs.resolve_short("v1").unwrap().0, "tags/v1");
    assert_eq!(refs.resolve_short("v2"), None);
    refs.set(&log, 1, MAIN, None);
    assert_eq!(refs.resolve(MAIN), RefState::Absent);
    assert_eq!(refs.highest_seq(key(1).id()), 3);
    assert_eq!(refs.versions(), [version(1), version(2)].into());
}

#[test]
fn history_shows_moves_and_who_made_them() {
    let log = log();
    let mut refs = refs(&log);
    refs.set(&log, 1, "tags/v1", Some(1));
    refs.set(&log, 3, "tags/v1", Some(2));
    let history = refs.history("tags/v1");
    let seen: Vec<_> = history
        .iter()
        .map(|entry| {
            (
                entry.record.signer,
                entry.record.version,
                entry.from.clone(),
                entry.moves(),
                entry.in_force,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (key(1).id(), Some(version(1)), vec![], false, false),
            (key(3).id(), Some(version(2)), vec![version(1)], true, true),
        ]
    );
    assert!(refs.history("tags/v2").is_empty());
}

#[test]
fn two_signers_who_do_not_know_of_each_other_make_a_fork() {
    let log = log();
    let mut ours = refs(&log);
    ours.set(&log, 1, MAIN, Some(1));
    let mut theirs = ours.clone();
    ours.set(&log, 1, MAIN, Some(2));
    let other = theirs.set(&log, 3, MAIN, Some(3));
    assert_eq!(ours.apply(&log, other), Ok(Applied::Forked));
    let RefState::Fork { common, candidates } = ours.resolve(MAIN) else {
        panic!("no fork")
    };
    assert_eq!(common, Some(version(1)), "the last common one stays served");
    assert_eq!(ours.resolve(MAIN).served(), Some(version(1)));
    let sides: std::collections::BTreeSet<_> = candidates
        .iter()
        .map(|side| (side.signer, side.version))
        .collect();
    assert_eq!(
        sides,
        [
            (key(1).id(), Some(version(2))),
            (key(3).id(), Some(version(3)))
        ]
        .into()
    );
    assert_eq!(ours.forks().count(), 1);
    // whoever knows both settles it
    ours.set(&log, 4, MAIN, Some(3));
    assert_eq!(ours.resolve(MAIN), RefState::At(version(3)));
    assert_eq!(ours.forks().count(), 0);
}

#[test]
fn signers_who_say_the_same_do_not_fork() {
    let log = log();
    let mut ours = refs(&log);
    let mut theirs = ours.clone();
    ours.set(&log, 1, "tags/v1", Some(1));
    let other = theirs.set(&log, 3, "tags/v1", Some(1));
    assert_eq!(ours.apply(&log, other), Ok(Applied::InForce));
    assert_eq!(ours.resolve("tags/v1"), RefState::At(version(1)));
}

#[test]
fn equivocation_is_kept_as_proof_and_refused() {
    let log = log();
    let mut refs = refs(&log);
    refs.set(&log, 1, MAIN, Some(1));
    let before = refs.clone();
    let first = refs.set(&log, 3, MAIN, Some(2));
    let second = before
        .make(&log, &[&key(3)], MAIN, Some(version(3)), 0, 7)
        .unwrap();
    let err = refs.apply(&log, second.clone()).unwrap_err();
    let expected = RefError::Equivocation {
        signer: key(3).id(),
        seq: 1,
        first: first.id(),
        second: second.id(),
    };
    assert_eq!(err, expected);
    assert!(err.is_kept());
    assert_eq!(err.kind(), ErrorKind::Refused);
    assert!(err.to_string().contains("two different records"), "{err}");
    // neither counts: the one before is served
    assert_eq!(refs.resolve(MAIN), RefState::At(version(1)));
    let proofs = refs.equivocations();
    assert_eq!(
        (proofs[0].signer, proofs[0].seq, proofs[0].records.len()),
        (key(3).id(), 1, 2)
    );
    // the proof travels, and is found whichever comes first
    let mut other = RefSet::new(log.publisher(), "tiny");
    let sent: Vec<Signed> = refs.records().into_iter().cloned().collect();
    for signed in sent.into_iter().rev() {
        match other.apply(&log, signed) {
            Ok(_) => {}
            Err(err) => assert!(err.is_kept(), "{err}"),
        }
    }
    assert_eq!(other.resolve(MAIN), RefState::At(version(1)));
    assert_eq!(other.equivocations().len(), 1);
    // setting the ref again settles it
    refs.set(&log, 3, MAIN, Some(4));
    assert_eq!(refs.resolve(MAIN), RefState::At(version(4)));
}

#[test]
fn equivocation_across_refs_of_a_model_is_found() {
    let log = log();
    let mut refs = refs(&log);
    refs.apply(&log, forge(&log, 3, 1, 1, |_| {})).unwrap();
    let tag = forge(&log, 3, 1, 1, |record| record.name = "tags/v1".into());
    assert!(matches!(
        refs.apply(&log, tag),
        Err(RefError::Equivocation { .. })
    ));
    assert_eq!(refs.resolve(MAIN), RefState::Absent);
    assert_eq!(refs.resolve("tags/v1"), RefState::Absent);
}

#[test]
fn an_older_sequence_is_refused_unless_it_is_history() {
    let log = log();
    let mut full = refs(&log);
    let first = full.set(&log, 3, MAIN, Some(1));
    let second = full.set(&log, 3, MAIN, Some(2));
    // history that fills in: the later record names it
    let mut late = refs(&log);
    late.apply(&log, second.clone()).unwrap();
    assert_eq!(late.apply(&log, first), Ok(Applied::Superseded));
    // an old record that nothing names: replayed, or forged with an old number
    let stray = forge(&log, 3, 1, 9, |_| {});
    let mut late = refs(&log);
    late.apply(&log, second).unwrap();
    let err = late.apply(&log, stray).unwrap_err();
    let expected = RefError::OlderSequence {
        name: MAIN.into(),
        signer: key(3).id(),
        seq: 1,
        known: 2,
    };
    assert_eq!(err, expected);
    assert_eq!(err.kind(), ErrorKind::Refused);
    assert_eq!(
        late.resolve(MAIN),
        RefState::At(version(2)),
        "it has no effect"
    );
}

#[test]
fn forged_records_are_refused_each_by_its_own_error() {
    let log = log();
    let mut refs = refs(&log);
    let auth = |refs: &mut RefSet, signed: Signed| match refs.apply(&log, signed) {
        Err(RefError::Auth(err)) => {
            assert_eq!(
                err.kind() == ErrorKind::NotFound,
                matches!(err, AuthError::UnknownHead { .. })
            );
            err
        }
        other => panic!("{other:?}"),
    };
    // a key that the publisher never named
    let stranger = forge(&log, 99, 1, 1, |_| {});
    assert!(matches!(
        auth(&mut refs, stranger),
        AuthError::UnknownKey { .. }
    ));
    // a stranger in the name of the publisher's key
    let forged = forge(&log, 99, 1, 1, |record| record.signer = key(1).id());
    assert!(matches!(
        auth(&mut refs, forged),
        AuthError::Signature(SignatureError::Missing { .. })
    ));
    // a right signature moved onto other bytes
    let good = forge(&log, 1, 1, 1, |_| {});
    let mut encoded = good.encode();
    let at = encoded
        .windows(32)
        .position(|window| window == [1; 32])
        .unwrap();
    encoded[at] = 2;
    let moved = Signed::decode(&encoded).unwrap();
    assert!(matches!(
        auth(&mut refs, moved),
        AuthError::Signature(SignatureError::Wrong { .. })
    ));
    // a signature for another context
    let body = good.body().clone();
    let other = Signed::new(Context::Version, body, &[&key(1)]);
    assert!(matches!(
        auth(&mut refs, other),
        AuthError::Signature(SignatureError::Wrong { .. })
    ));
    // delegates beyond what they were given
    let tag = forge(&log, 5, 1, 1, |record| record.name = "tags/v1".into());
    assert!(matches!(
        auth(&mut refs, tag),
        AuthError::NotPermitted { op: "tag", .. }
    ));
    let public = forge(&log, 5, 1, 1, |record| record.name = PUBLIC_REF.into());
    assert!(matches!(
        auth(&mut refs, public),
        AuthError::NotPermitted { op: "access", .. }
    ));
    let delete = forge(&log, 5, 1, 1, |record| record.version = None);
    assert!(matches!(
        auth(&mut refs, delete),
        AuthError::NotPermitted { op: "branch", .. }
    ));
    let late = forge(&log, 5, 1, 1, |record| record.time = 1000);
    assert!(matches!(
        auth(&mut refs, late),
        AuthError::DelegationExpired { expires: 1000, .. }
    ));
    // an identity record that nobody knows
    let unknown = forge(&log, 1, 1, 1, |record| record.identity = RecordId::of(b"?"));
    assert!(matches!(
        auth(&mut refs, unknown),
        AuthError::UnknownHead { .. }
    ));
    assert!(refs.is_empty(), "nothing of it was kept");
    assert_eq!(refs.apply(&log, good), Ok(Applied::InForce));
}

#[test]
fn records_about_something_else_are_refused() {
    let log = log();
    let mut refs = refs(&log);
    let model = forge(&log, 1, 1, 1, |record| record.model = "other".into());
    assert!(matches!(
        refs.apply(&log, model),
        Err(RefError::WrongModel { .. })
    ));
    let publisher = forge(&log, 1, 1, 1, |record| {
        record.publisher = PublisherId::of(b"x")
    });
    assert!(matches!(
        refs.apply(&log, publisher),
        Err(RefError::WrongModel { .. })
    ));
    let other = IdentityLog::start(create(&key(7), &key(8).public())).unwrap();
    let err = refs
        .apply(&other, forge(&log, 1, 1, 1, |_| {}))
        .unwrap_err();
    assert!(matches!(err, RefError::WrongIdentity { .. }));
    for (name, known) in [
        ("main", false),
        ("access/private", false),
        ("heads/", true),
        ("tags/dead", true),
        ("heads/a/b", true),
    ] {
        let named = forge(&log, 1, 1, 1, |record| record.name = name.into());
        let err = refs.apply(&log, named).unwrap_err();
        assert_eq!(matches!(err, RefError::Name(_)), known, "{name}: {err}");
        assert_eq!(
            matches!(err, RefError::UnknownRef { .. }),
            !known,
            "{name}: {err}"
        );
    }
    let zero = forge(&log, 1, 0, 1, |_| {});
    assert!(matches!(refs.apply(&log, zero), Err(RefError::Document(_))));
}

#[test]
fn a_delegate_outside_its_models_is_refused() {
    let log = log();
    let mut other = RefSet::new(log.publisher(), "other");
    let signed = forge(&log, 3, 1, 1, |record| record.model = "other".into());
    let err = other.apply(&log, signed).unwrap_err();
    assert!(
        matches!(err, RefError::Auth(AuthError::NotPermitted { .. })),
        "{err}"
    );
}

#[test]
fn a_revoked_signers_records_count_up_to_the_last_accepted_one() {
    let mut log = log();
    let mut refs = refs(&log);
    refs.set(&log, 3, MAIN, Some(1));
    refs.set(&log, 3, MAIN, Some(2));
    let early = refs.clone();
    let stolen = refs.set(&log, 3, MAIN, Some(66));
    let old_head = log.head();
    log.apply(
        log.revoke(
            Ended {
                key: key(3).id(),
                last: 2,
            },
            &[&key(1)],
        )
        .unwrap(),
    )
    .unwrap();
    assert_eq!(refs.refresh(&log), Ok(true));
    assert_eq!(refs.resolve(MAIN), RefState::At(version(2)));
    assert_eq!(refs.refresh(&log), Ok(false));
    // it does not come back by another way, nor by naming the head from before the revocation
    let mut fresh = early;
    let err = fresh.apply(&log, stolen).unwrap_err();
    assert!(
        matches!(err, RefError::Auth(AuthError::Revoked { last: 2, .. })),
        "{err}"
    );
    let backdated = forge(&log, 3, 4, 67, |record| record.identity = old_head);
    assert!(matches!(
        fresh.apply(&log, backdated),
        Err(RefError::Auth(AuthError::Revoked { .. }))
    ));
    assert_eq!(fresh.resolve(MAIN), RefState::At(version(2)));
    // the publisher goes on over the void record
    refs.set(&log, 1, MAIN, Some(3));
    assert_eq!(refs.resolve(MAIN), RefState::At(version(3)));
}

#[test]
fn a_key_that_rotated_away_signs_nothing_more() {
    let mut log = log();
    let mut refs = refs(&log);
    let old_head = log.head();
    refs.set(&log, 1, MAIN, Some(1));
    let next = next_commitment(key(9).public());
    let ended = vec![Ended {
        key: key(1).id(),
        last: 1,
    }];
    let rotated = log
        .rotate(KeySet::one(key(2).public()), next, ended, &[&key(2)])
        .unwrap();
    log.apply(rotated).unwrap();
    refs.refresh(&log).unwrap();
    assert_eq!(
        refs.resolve(MAIN),
        RefState::At(version(1)),
        "what it signed before stays"
    );
    for head in [old_head, log.head()] {
        let stolen = forge(&log, 1, 2, 66, |record| record.identity = head);
        let err = refs.apply(&log, stolen).unwrap_err();
        assert!(
            matches!(err, RefError::Auth(AuthError::Revoked { last: 1, .. })),
            "{err}"
        );
    }
    refs.set(&log, 2, MAIN, Some(2));
    assert_eq!(refs.resolve(MAIN), RefState::At(version(2)));
}

#[test]
fn keys_that_sign_together_move_refs_together() {
    let keys = KeySet::new((1..=3).map(|seed| key(seed).public()).collect(), 2);
    let (log, _) = IdentityLog::create(keys, [0; 32], &[&key(1), &key(2)]).unwrap();
    let mut refs = refs(&log);
    let alone = forge(&log, 1, 1, 1, |_| {});
    let err = refs.apply(&log, alone).unwrap_err();
    assert_eq!(
        err,
        RefError::Auth(AuthError::TooFewKeys {
            found: 1,
            needed: 2
        })
    );
    let signed = refs
        .make(&log, &[&key(1), &key(3)], MAIN, Some(version(1)), 0, 7)
        .unwrap();
    assert_eq!(refs.apply(&log, signed), Ok(Applied::InForce));
}

#[test]
fn sequences_count_over_all_models_of_the_publisher() {
    let log = log();
    let refs = refs(&log);
    let signed = refs
        .make(&log, &[&key(1)], MAIN, Some(version(1)), 41, 7)
        .unwrap();
    assert_eq!(RefRecord::decode(signed.body()).unwrap().seq, 42);
    let err = refs
        .make(&log, &[&key(1)], MAIN, None, u64::MAX, 7)
        .unwrap_err();
    assert_eq!(
        err,
        RefError::NoSequenceLeft {
            signer: key(1).id()
        }
    );
}

#[test]
fn a_model_is_private_until_all_say_that_it_is_public() {
    let log = log();
    let mut refs = refs(&log);
    assert!(!refs.is_public());
    refs.set(&log, 1, PUBLIC_REF, Some(1));
    assert!(refs.is_public());
    // a fork of which one side takes it back
    let mut theirs = refs.clone();
    refs.set(&log, 1, PUBLIC_REF, Some(2));
    assert!(refs.is_public());
    let other = theirs.set(&log, 3, PUBLIC_REF, None);
    refs.apply(&log, other).unwrap();
    assert!(!refs.is_public(), "in doubt it is private");
    refs.set(&log, 1, PUBLIC_REF, Some(2));
    assert!(refs.is_public());
    // an equivocation of which one side takes it back
    let before = refs.clone();
    refs.set(&log, 4, PUBLIC_REF, Some(3));
    let taken_back = before
        .make(&log, &[&key(4)], PUBLIC_REF, None, 0, 7)
        .unwrap();
    refs.apply(&log, taken_back).unwrap_err();
    assert!(!refs.is_public(), "in doubt it is private");
    refs.set(&log, 1, PUBLIC_REF, None);
    assert!(!refs.is_public());
}

#[test]
fn a_known_record_changes_nothing() {
    let log = log();
    let mut refs = refs(&log);
    let signed = refs.set(&log, 1, MAIN, Some(1));
    assert_eq!(
        refs.apply(&log, signed.clone()),
        Ok(Applied::Known { signatures: false })
    );
    let more = Signed::new(Context::Ref, signed.body().clone(), &[&key(1), &key(3)]);
    assert_eq!(
        refs.apply(&log, more),
        Ok(Applied::Known { signatures: true })
    );
    assert_eq!(refs.len(), 1);
}

#[test]
fn limits_of_ref_records_hold_by_one() {
    let log = log();
    let with = |n: usize| {
        let mut ids: Vec<_> = (0..n).map(|n| RecordId::of(&n.to_le_bytes())).collect();
        ids.sort();
        RefRecord::decode(forge(&log, 1, 1, 1, |record| record.supersedes = ids).body()).is_ok()
    };
    assert!(with(SUPERSEDES_MAX));
    assert!(!with(SUPERSEDES_MAX + 1));
    let twice = forge(&log, 1, 1, 1, |record| {
        record.supersedes = vec![log.head(); 2]
    });
    assert!(RefRecord::decode(twice.body()).is_err());

    let mut refs = refs(&log);
    for n in 0..EQUIVOCATIONS_MAX as u8 {
        let err = refs.apply(&log, forge(&log, 3, 1, n, |_| {})).err();
        assert!(err.is_none_or(|err| err.is_kept()));
    }
    let err = refs
        .apply(&log, forge(&log, 3, 1, 100, |_| {}))
        .unwrap_err();
    assert_eq!(
        err,
        RefError::TooManyRecords {
            max: EQUIVOCATIONS_MAX
        }
    );
    assert!(!err.is_kept());
    // one delegate's flood leaves room for the others
    for n in 2..=REF_RECORDS_OF_SIGNER_MAX as u64 {
        let signed = unsigned(&record_of(&log, 3, n));
        refs.admit(signed.id(), record_of(&log, 3, n), signed)
            .unwrap();
    }
    let err = refs
        .apply(&log, forge(&log, 3, 1 << 40, 1, |_| {}))
        .unwrap_err();
    assert_eq!(
        err,
        RefError::TooManyRecords {
            max: REF_RECORDS_OF_SIGNER_MAX
        }
    );
    assert!(refs.apply(&log, forge(&log, 4, 1, 1, |_| {})).is_ok());
    // and the flood of all delegates leaves room for the identity's own keys
    let entry = refs.entries.values().next().unwrap().clone();
    for n in refs.len()..REF_RECORDS_MAX {
        refs.entries
            .insert(RecordId::of(&n.to_le_bytes()), entry.clone());
    }
    let err = refs.apply(&log, forge(&log, 4, 2, 1, |_| {})).unwrap_err();
    assert_eq!(
        err,
        RefError::TooManyRecords {
            max: REF_RECORDS_MAX
        }
    );
    assert!(refs.apply(&log, forge(&log, 1, 1, 1, |_| {})).is_ok());
}

fn record_of(log: &IdentityLog, seed: u8, seq: u64) -> RefRecord {
    RefRecord::decode(unsigned_body(log, seed, seq).as_slice()).unwrap()
}

fn unsigned_body(log: &IdentityLog, seed: u8, seq: u64) -> Vec<u8> {
    RefRecord {
        publisher: log.publisher(),
        model: "tiny".into(),
        name: MAIN.into(),
        version: Some(version(1)),
        // of the delegate 3 the id is known; computing it each time takes long without optimisation
        signer: if seed == 3 {
            signer_3()
        } else {
            key(seed).id()
        },
        seq,
        supersedes: vec![],
        identity: log.head(),
        time: 7,
    }
    .encode()
}

fn signer_3() -> crate::signature::KeyId {
    static ID: std::sync::OnceLock<crate::signature::KeyId> = std::sync::OnceLock::new();
    *ID.get_or_init(|| key(3).id())
}

fn unsigned(record: &RefRecord) -> Signed {
    Signed::new(Context::Ref, record.encode(), &[])
}
