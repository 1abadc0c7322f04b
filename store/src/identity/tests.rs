#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;
use crate::limits::*;
use crate::signature::{Context, PublicKey, Signed, SigningKey};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// An identity of key 1, with key 2 as the next one.
fn log() -> IdentityLog {
    IdentityLog::start(create(&key(1), &key(2).public())).unwrap()
}

fn delegation(seed: u8, ops: &[Operation], globs: &[&str]) -> Delegation {
    Delegation::new(key(seed).public(), ops, globs)
}

fn ended(seed: u8, last: u64) -> Ended {
    Ended {
        key: key(seed).id(),
        last,
    }
}

impl IdentityLog {
    fn add(&mut self, signed: Result<Signed, IdentityError>) -> Signed {
        let signed = signed.unwrap();
        assert!(matches!(
            self.apply(signed.clone()),
            Ok(Applied::InForce | Applied::Replaced)
        ));
        signed
    }

    /// Signs `op` after `prev` without checking anything.
    fn forge(&self, prev: RecordId, by: Option<u8>, op: IdentityOp, signers: &[u8]) -> Signed {
        let keys: Vec<_> = signers.iter().map(|seed| key(*seed)).collect();
        let seq = self
            .in_force()
            .find(|(_, signed)| signed.id() == prev)
            .unwrap()
            .0
            .seq
            + 1;
        let by = by.map(|seed| key(seed).id());
        let record = IdentityRecord {
            seq,
            prev: Some(prev),
            by,
            op,
        };
        Signed::new(
            Context::Identity,
            record.encode(),
            &keys.iter().collect::<Vec<_>>(),
        )
    }
}

#[test]
fn a_publisher_is_the_hash_of_its_first_record() {
    let first = create(&key(1), &key(2).public());
    let log = IdentityLog::start(first.clone()).unwrap();
    assert_eq!(log.publisher(), PublisherId::of(first.body()));
    assert_eq!(log.head(), first.id());
    assert_eq!(log.standing(key(1).id()), Standing::Key { threshold: 1 });
    assert_eq!(log.standing(key(3).id()), Standing::Unknown);
    assert!(log.authorises(key(1).id(), Operation::Push, "tiny", Some(5)));
    assert!(!log.authorises(key(2).id(), Operation::Push, "tiny", None));
}

#[test]
fn a_first_record_must_be_signed_by_the_keys_that_it_names() {
    let good = create(&key(1), &key(2).public());
    let forged = Signed::new(Context::Identity, good.body().clone(), &[&key(9)]);
    let err = IdentityLog::start(forged).unwrap_err();
    assert_eq!(
        err,
        IdentityError::NotSigned {
            seq: 0,
            found: 0,
            needed: 1
        }
    );
    assert_eq!(err.kind(), ErrorKind::Refused);
    let other_context = Signed::new(Context::Ref, good.body().clone(), &[&key(1)]);
    assert!(IdentityLog::start(other_context).is_err());
}

#[test]
fn every_operation_round_trips() {
    let keys = KeySet::new(vec![key(1).public(), key(2).public()], 2);
    let prev = Some(RecordId::of(b"prev"));
    let mut given = delegation(3, &[Operation::Push, Operation::Tag], &["a*", "b"]);
    (given.depth, given.expires) = (2, Some(99));
    let all = [
        (
            0,
            None,
            None,
            IdentityOp::Create {
                keys: keys.clone(),
                next: [7; 32],
            },
        ),
        (
            1,
            prev,
            None,
            IdentityOp::Rotate {
                keys,
                next: [8; 32],
                ended: vec![ended(4, 9)],
            },
        ),
        (2, prev, Some(key(5).id()), IdentityOp::Delegate(given)),
        (3, prev, None, IdentityOp::Revoke(ended(6, 0))),
    ];
    for (seq, prev, by, op) in all {
        let record = IdentityRecord { seq, prev, by, op };
        assert_eq!(IdentityRecord::decode(&record.encode()), Ok(record));
    }
}

#[test]
fn the_keys_rotate_to_those_that_were_committed_to_and_no_others() {
    let mut log = log();
    let rotate = |log: &IdentityLog, new: u8, signer: u8, ended: Vec<Ended>| {
        let next = next_commitment(key(9).public());
        log.rotate(KeySet::one(key(new).public()), next, ended, &[&key(signer)])
    };
    assert_eq!(
        rotate(&log, 3, 3, vec![]),
        Err(IdentityError::WrongNextKeys { seq: 1 })
    );
    // today's key cannot take over, even towards the right keys
    let stolen = rotate(&log, 2, 1, vec![]);
    assert_eq!(
        stolen,
        Err(IdentityError::NotSigned {
            seq: 1,
            found: 0,
            needed: 1
        })
    );
    let stays = rotate(&log, 2, 2, vec![ended(2, 5)]);
    assert!(matches!(stays, Err(IdentityError::NotRevocable { .. })));
    let rotated = rotate(&log, 2, 2, vec![ended(1, 5)]);
    log.add(rotated);
    assert_eq!(log.standing(key(2).id()), Standing::Key { threshold: 1 });
    assert_eq!(
        log.standing(key(1).id()),
        Standing::Ended(End { at: 1, last: 5 })
    );
    assert!(!log.authorises(key(1).id(), Operation::Push, "tiny", None));
    assert!(log.ever_authorised(key(1).id(), Operation::Push, "tiny"));
}

#[test]
fn a_threshold_of_keys_is_needed_and_is_committed_to() {
    let keys = KeySet::new((1..=3).map(|seed| key(seed).public()).collect(), 2);
    let next = KeySet::new((4..=6).map(|seed| key(seed).public()).collect(), 2);
    assert!(IdentityLog::create(keys.clone(), next.commitment(), &[&key(1)]).is_err());
    let (mut log, _) = IdentityLog::create(keys, next.commitment(), &[&key(1), &key(3)]).unwrap();
    let given = delegation(7, &[Operation::Push], &["*"]);
    let one = log.delegate(given.clone(), &[&key(2)]);
    assert!(
        matches!(one, Err(IdentityError::NotSigned { .. })),
        "{one:?}"
    );
    let two = log.delegate(given, &[&key(2), &key(3)]);
    log.add(two);
    assert!(!log.authorises(key(2).id(), Operation::Push, "tiny", None));
    assert!(log.authorises(key(7).id(), Operation::Push, "tiny", None));
    // the same keys with another threshold are other keys
    let weaker = KeySet::new(next.keys.clone(), 1);
    let err = log
        .rotate(weaker, [0; 32], vec![], &[&key(4), &key(5), &key(6)])
        .unwrap_err();
    assert_eq!(err, IdentityError::WrongNextKeys { seq: 2 });
    assert!(
        log.rotate(next, [0; 32], vec![], &[&key(4), &key(6)])
            .is_ok()
    );
}

#[test]
fn a_delegate_may_do_what_it_was_given_until_it_ends() {
    let mut log = log();
    let mut given = delegation(3, &[Operation::Push], &["team-*"]);
    given.expires = Some(100);
    let made = log.delegate(given, &[&key(1)]);
    log.add(made);
    let may = |log: &IdentityLog, op, model, now| log.authorises(key(3).id(), op, model, now);
    assert!(may(&log, Operation::Push, "team-a", None));
    assert!(may(&log, Operation::Push, "team-a", Some(99)));
    assert!(!may(&log, Operation::Push, "team-a", Some(100)));
    assert!(!may(&log, Operation::Push, "other", None));
    assert!(!may(&log, Operation::Tag, "team-a", None));
    let revoked = log.revoke(ended(3, 4), &[&key(1)]);
    log.add(revoked);
    assert!(!may(&log, Operation::Push, "team-a", None));
    assert_eq!(
        log.standing(key(3).id()),
        Standing::Ended(End { at: 2, last: 4 })
    );
    // found out later that it was stolen earlier: the end moves back, never on
    let later = log.revoke(ended(3, 5), &[&key(1)]);
    assert!(matches!(later, Err(IdentityError::NotRevocable { .. })));
    let earlier = log.revoke(ended(3, 2), &[&key(1)]);
    log.add(earlier);
    assert_eq!(
        log.standing(key(3).id()),
        Standing::Ended(End { at: 2, last: 2 })
    );
}

#[test]
fn a_delegate_gives_nothing_that_it_lacks() {
    let mut log = log();
    let mut lead = delegation(3, &[Operation::Push, Operation::Delegate], &["team-*"]);
    (lead.depth, lead.expires) = (2, Some(100));
    let made = log.delegate(lead, &[&key(1)]);
    log.add(made);
    let mut narrow = delegation(4, &[Operation::Push], &["team-a*"]);
    (narrow.depth, narrow.expires) = (1, Some(100));
    let wider = |change: &dyn Fn(&mut Delegation)| {
        let mut given = narrow.clone();
        change(&mut given);
        match log.delegate(given, &[&key(3)]) {
            Err(IdentityError::Wider { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wider(&|given| given.depth = 2), "a depth");
    assert_eq!(wider(&|given| given.ops = vec!["tag".into()]), "operations");
    assert_eq!(wider(&|given| given.globs = vec!["*".into()]), "models");
    assert_eq!(wider(&|given| given.globs = vec!["team*".into()]), "models");
    assert_eq!(wider(&|given| given.expires = Some(101)), "a time");
    assert_eq!(wider(&|given| given.expires = None), "a time");
    let made = log.delegate(narrow, &[&key(3)]);
    log.add(made);
    // the new one has no `delegate`, so it stops there
    let further = delegation(5, &[Operation::Push], &["team-a*"]);
    let err = log.delegate(further, &[&key(4)]).unwrap_err();
    assert_eq!(err, IdentityError::NotADelegator { by: key(4).id() });
    let delegates: Vec<_> = log
        .delegates()
        .map(|(given, by)| (given.key.id(), by))
        .collect();
    assert!(delegates.contains(&(key(4).id(), Some(key(3).id()))));
    assert!(delegates.contains(&(key(3).id(), None)));
}

#[test]
fn a_delegate_ends_its_own_delegates_and_no_others() {
    let mut log = log();
    for seed in [3, 4] {
        let mut lead = delegation(seed, &[Operation::Push, Operation::Delegate], &["*"]);
        lead.depth = 3;
        let made = log.delegate(lead, &[&key(1)]);
        log.add(made);
    }
    let mut child = delegation(5, &[Operation::Push, Operation::Delegate], &["*"]);
    child.depth = 2;
    let made = log.delegate(child, &[&key(3)]);
    log.add(made);
    let made = log.delegate(delegation(6, &[Operation::Push], &["*"]), &[&key(5)]);
    log.add(made);
    let by = |signer: u8, target: u8| log.revoke(ended(target, 0), &[&key(signer)]);
    assert!(matches!(by(4, 5), Err(IdentityError::NotRevocable { .. })));
    assert!(matches!(by(5, 3), Err(IdentityError::NotRevocable { .. })));
    assert!(matches!(by(5, 5), Err(IdentityError::NotRevocable { .. })));
    assert!(matches!(by(6, 5), Err(IdentityError::NotADelegator { .. })));
    assert!(by(5, 6).is_ok());
    assert!(by(3, 6).is_ok());
    assert!(by(1, 6).is_ok());
}

#[test]
fn keys_that_have_a_part_get_no_other() {
    let mut log = log();
    let made = log.delegate(delegation(3, &[Operation::Push], &["*"]), &[&key(1)]);
    log.add(made);
    let again = |log: &IdentityLog, seed| {
        log.delegate(delegation(seed, &[Operation::Tag], &["*"]), &[&key(1)])
            .unwrap_err()
    };
    assert!(matches!(again(&log, 3), IdentityError::KeyInUse { .. }));
    assert!(matches!(again(&log, 1), IdentityError::KeyInUse { .. }));
    let revoked = log.revoke(ended(3, 0), &[&key(1)]);
    log.add(revoked);
    assert!(matches!(again(&log, 3), IdentityError::KeyInUse { .. }));
    let unknown = log.revoke(ended(8, 0), &[&key(1)]);
    assert!(matches!(unknown, Err(IdentityError::NotRevocable { .. })));
    let own = log.revoke(ended(1, 0), &[&key(1)]);
    assert!(matches!(own, Err(IdentityError::NotRevocable { .. })));
}

#[test]
fn records_that_do_not_follow_are_refused() {
    let mut log = log();
    let other = create(&key(8), &key(9).public());
    let err = log.apply(other.clone()).unwrap_err();
    assert!(matches!(err, IdentityError::WrongPublisher { .. }));
    let given = IdentityOp::Delegate(delegation(3, &[Operation::Push], &["*"]));
    let record = IdentityRecord {
        seq: 1,
        prev: Some(other.id()),
        by: None,
        op: given.clone(),
    };
    let signed = Signed::new(Context::Identity, record.encode(), &[&key(1)]);
    let err = log.apply(signed).unwrap_err();
    assert_eq!(
        err,
        IdentityError::MissingPrevious {
            seq: 1,
            prev: other.id()
        }
    );
    assert_eq!(err.kind(), ErrorKind::NotFound);
    let record = IdentityRecord {
        seq: 2,
        prev: Some(log.head()),
        by: None,
        op: given,
    };
    let signed = Signed::new(Context::Identity, record.encode(), &[&key(1)]);
    let err = log.apply(signed.clone()).unwrap_err();
    assert_eq!(
        err,
        IdentityError::WrongSequence {
            expected: 1,
            found: 2
        }
    );
    assert!(matches!(
        IdentityLog::start(signed),
        Err(IdentityError::NotACreation)
    ));
    assert_eq!(log.len(), 1, "nothing of it was kept");
    assert_eq!(log.records().len(), 1);
}

#[test]
fn an_operation_of_a_later_lode_is_refused_by_name() {
    let mut body = IdentityRecord {
        seq: 1,
        prev: Some(RecordId::of(b"")),
        by: None,
        op: IdentityOp::Revoke(ended(1, 0)),
    }
    .encode();
    let at = body
        .windows(6)
        .position(|window| window == b"revoke")
        .unwrap();
    body[at..at + 6].copy_from_slice(b"freeze");
    let err = IdentityRecord::decode(&body).unwrap_err();
    assert_eq!(
        err,
        IdentityError::UnknownOp {
            found: "freeze".into()
        }
    );
    assert_eq!(err.kind(), ErrorKind::Refused);
}

/// A log with rivals after its first record: two of delegate 3, one of today's key, and one rotation;
/// and what follows on each.
struct Rivals {
    log: IdentityLog,
    by_delegate: [Signed; 2],
    by_keys: [Signed; 2],
    rotation: Signed,
}

fn rivals() -> Rivals {
    let mut log = log();
    let mut lead = delegation(3, &[Operation::Push, Operation::Delegate], &["*"]);
    lead.depth = 2;
    let made = log.delegate(lead, &[&key(1)]);
    log.add(made);
    let head = log.head();
    let op = |seed| IdentityOp::Delegate(delegation(seed, &[Operation::Push], &["*"]));
    let keys = KeySet::one(key(2).public());
    let rotate = IdentityOp::Rotate {
        keys,
        next: [9; 32],
        ended: vec![],
    };
    Rivals {
        by_delegate: [10, 11].map(|seed| log.forge(head, Some(3), op(seed), &[3])),
        by_keys: [20, 21].map(|seed| log.forge(head, None, op(seed), &[1])),
        rotation: log.forge(head, None, rotate, &[2]),
        log,
    }
}

#[test]
fn of_rivals_the_one_of_higher_right_is_in_force() {
    let Rivals {
        mut log,
        by_delegate,
        by_keys,
        rotation,
    } = rivals();
    assert_eq!(log.apply(by_delegate[0].clone()), Ok(Applied::InForce));
    assert_eq!(log.apply(by_keys[0].clone()), Ok(Applied::Replaced));
    assert_eq!(log.head(), by_keys[0].id());
    assert_eq!(log.standing(key(10).id()), Standing::Unknown);
    assert_eq!(log.apply(by_delegate[1].clone()), Ok(Applied::Rival));
    assert_eq!(log.apply(rotation.clone()), Ok(Applied::Replaced));
    assert_eq!(log.head(), rotation.id());
    assert_eq!(log.apply(by_keys[1].clone()), Ok(Applied::Rival));
    assert_eq!(log.head(), rotation.id());
    assert_eq!(log.forks().len(), 1);
    assert_eq!(log.forks()[0].1.len(), 5);
    assert!(!log.is_stopped());
}

#[test]
fn rivals_of_equal_right_stop_the_log_until_a_rotation() {
    let Rivals {
        mut log,
        by_keys,
        rotation,
        ..
    } = rivals();
    let head = log.head();
    log.apply(by_keys[0].clone()).unwrap();
    assert_eq!(log.apply(by_keys[1].clone()), Ok(Applied::Rival));
    assert_eq!(log.head(), head);
    assert!(log.is_stopped());
    let given = delegation(30, &[Operation::Push], &["*"]);
    assert_eq!(
        log.delegate(given, &[&key(1)]),
        Err(IdentityError::Forked { head })
    );
    assert_eq!(log.apply(rotation.clone()), Ok(Applied::InForce));
    assert_eq!(log.head(), rotation.id());
    assert!(!log.is_stopped());
}

#[test]
fn a_rotation_vouches_for_all_that_it_builds_on() {
    // the owner goes on and rotates; a thief of the first key then forges a rival of an early record
    let mut log = log();
    let first = log.head();
    let made = log.delegate(delegation(3, &[Operation::Push], &["*"]), &[&key(1)]);
    log.add(made);
    let next = next_commitment(key(9).public());
    let rotated = log.rotate(KeySet::one(key(2).public()), next, vec![], &[&key(2)]);
    let rotated = log.add(rotated);
    let thief = IdentityOp::Delegate(delegation(66, &[Operation::Push], &["*"]));
    let forged = log.forge(first, None, thief, &[1]);
    assert_eq!(log.apply(forged), Ok(Applied::Rival));
    assert_eq!(log.head(), rotated.id());
    assert_eq!(log.standing(key(66).id()), Standing::Unknown);
}

#[test]
fn a_known_record_gains_signatures_and_nothing_else() {
    let keys = KeySet::new(vec![key(1).public(), key(2).public()], 1);
    let (mut log, first) = IdentityLog::create(keys, [0; 32], &[&key(1)]).unwrap();
    let again = Signed::new(Context::Identity, first.body().clone(), &[&key(2), &key(7)]);
    assert_eq!(
        log.apply(again.clone()),
        Ok(Applied::Known { signatures: true })
    );
    assert_eq!(log.apply(again), Ok(Applied::Known { signatures: false }));
    assert_eq!(log.records()[0].signatures().len(), 3);
}

#[test]
fn a_log_comes_back_from_its_records_in_any_order() {
    let Rivals {
        mut log,
        by_delegate,
        by_keys,
        rotation,
    } = rivals();
    for signed in by_delegate.into_iter().chain(by_keys).chain([rotation]) {
        log.apply(signed).unwrap();
    }
    let mut records: Vec<_> = log.records().into_iter().cloned().collect();
    records.reverse();
    let (again, refused) = IdentityLog::from_records(log.publisher(), records.clone()).unwrap();
    assert_eq!(again.head(), log.head());
    assert!(refused.is_empty());
    let other = PublisherId::of(b"other");
    let err = IdentityLog::from_records(other, records).unwrap_err();
    assert!(matches!(err, IdentityError::WrongPublisher { .. }));
    assert!(matches!(
        IdentityLog::from_records(other, vec![]),
        Err(IdentityError::NotACreation)
    ));
}

#[test]
fn limits_of_records_hold_by_one() {
    let decode = |record: &IdentityRecord| IdentityRecord::decode(&record.encode()).is_ok();
    let keys = |n: usize| {
        let keys = (0..n).map(|n| PublicKey::ed25519([n as u8; 32])).collect();
        let op = IdentityOp::Create {
            keys: KeySet::new(keys, 1),
            next: [0; 32],
        };
        IdentityRecord {
            seq: 0,
            prev: None,
            by: None,
            op,
        }
    };
    assert!(decode(&keys(IDENTITY_KEYS_MAX)));
    assert!(!decode(&keys(IDENTITY_KEYS_MAX + 1)));
    assert!(!decode(&keys(0)));
    let delegate = |change: &dyn Fn(&mut Delegation)| {
        let mut given = delegation(3, &[Operation::Push], &["*"]);
        change(&mut given);
        let op = IdentityOp::Delegate(given);
        decode(&IdentityRecord {
            seq: 1,
            prev: Some(RecordId::of(b"")),
            by: None,
            op,
        })
    };
    let texts = |n: usize| (0..n).map(|n| format!("x{n:02}")).collect::<Vec<_>>();
    assert!(delegate(
        &|given| given.ops = texts(DELEGATION_OPERATIONS_MAX)
    ));
    assert!(!delegate(
        &|given| given.ops = texts(DELEGATION_OPERATIONS_MAX + 1)
    ));
    assert!(delegate(&|given| given.globs = texts(DELEGATION_GLOBS_MAX)));
    assert!(!delegate(
        &|given| given.globs = texts(DELEGATION_GLOBS_MAX + 1)
    ));
    assert!(!delegate(&|given| given.globs = vec![]));
    assert!(delegate(
        &|given| given.ops = vec!["x".repeat(OPERATION_BYTES_MAX)]
    ));
    assert!(!delegate(
        &|given| given.ops = vec!["x".repeat(OPERATION_BYTES_MAX + 1)]
    ));
    assert!(!delegate(&|given| given.ops = vec!["b".into(), "a".into()]));
    let key_of = |len: usize| {
        move |given: &mut Delegation| {
            given.key = PublicKey {
                alg: "later".into(),
                key: vec![0; len],
            };
        }
    };
    assert!(delegate(&key_of(PUBLIC_KEY_BYTES_MAX)));
    assert!(!delegate(&key_of(PUBLIC_KEY_BYTES_MAX + 1)));
    let alg_of = |len: usize| {
        move |given: &mut Delegation| {
            given.key = PublicKey {
                alg: "x".repeat(len),
                key: vec![0; 32],
            };
        }
    };
    assert!(delegate(&alg_of(ALGORITHM_BYTES_MAX)));
    assert!(!delegate(&alg_of(ALGORITHM_BYTES_MAX + 1)));
    assert!(IdentityRecord::decode(&[0; RECORD_BODY_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_version_is_the_publishers_if_one_of_its_keys_signed_it() {
    use crate::signature::{SignatureError, VersionSignatures};
    let mut log = log();
    let made = log.delegate(delegation(3, &[Operation::Push], &["tiny"]), &[&key(1)]);
    log.add(made);
    let made = log.delegate(delegation(4, &[Operation::Tag], &["tiny"]), &[&key(1)]);
    log.add(made);
    let revoked = log.revoke(ended(3, 0), &[&key(1)]);
    log.add(revoked);
    let id = crate::VersionId::of(b"version");
    let by = |log: &IdentityLog, seed, model| {
        log.check_version(&VersionSignatures::new(id, &[&key(seed)]), model)
    };
    let own = by(&log, 1, "tiny").unwrap();
    assert_eq!(own[0].standing, Standing::Key { threshold: 1 });
    let former = by(&log, 3, "tiny").unwrap();
    assert!(matches!(former[0].standing, Standing::Ended(_)));
    for (seed, model) in [(3, "other"), (4, "tiny")] {
        let err = by(&log, seed, model).unwrap_err();
        assert!(
            matches!(err, AuthError::NotPermitted { op: "push", .. }),
            "{err}"
        );
    }
    let err = by(&log, 9, "tiny").unwrap_err();
    let publisher = log.publisher();
    assert_eq!(
        err,
        AuthError::UnknownKey {
            publisher,
            key: key(9).id()
        }
    );
    assert!(
        err.to_string().contains("not known to the publisher"),
        "{err}"
    );
    let none = log
        .check_version(&VersionSignatures::new(id, &[]), "tiny")
        .unwrap_err();
    assert_eq!(
        none,
        AuthError::Signature(SignatureError::Missing { key: key(1).id() })
    );
    let mut moved = VersionSignatures::new(id, &[&key(1)]).encode();
    let at = moved
        .windows(32)
        .position(|window| window == id.as_bytes())
        .unwrap();
    moved[at] ^= 1;
    let moved = VersionSignatures::decode(&moved).unwrap();
    let wrong = log.check_version(&moved, "tiny").unwrap_err();
    assert_eq!(
        wrong,
        AuthError::Signature(SignatureError::Wrong { key: key(1).id() })
    );
}

#[test]
fn a_log_has_a_bounded_length_and_room_for_a_rotation() {
    let mut log = log();
    let mut lead = delegation(3, &[Operation::Push, Operation::Delegate], &["*"]);
    lead.depth = 2;
    let made = log.delegate(lead, &[&key(1)]);
    log.add(made);
    let [by_keys, by_delegate] = [key(1).id(), key(3).id()];
    let next = |log: &IdentityLog, by: Option<crate::signature::KeyId>| {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&log.len().to_le_bytes());
        let key = PublicKey {
            alg: "later".into(),
            key: bytes.to_vec(),
        };
        let op = IdentityOp::Delegate(Delegation::new(key, &[Operation::Push], &["*"]));
        IdentityRecord {
            seq: log.len(),
            prev: Some(log.head()),
            by,
            op,
        }
    };
    for _ in 0..IDENTITY_DELEGATE_RECORDS_MAX {
        let record = next(&log, Some(by_delegate));
        assert_eq!(
            log.apply_unsigned(record, &[by_delegate]),
            Ok(Applied::InForce)
        );
    }
    let err = log
        .apply_unsigned(next(&log, Some(by_delegate)), &[by_delegate])
        .unwrap_err();
    assert_eq!(
        err,
        IdentityError::TooManyRecords {
            max: IDENTITY_DELEGATE_RECORDS_MAX
        }
    );
    // two records by the keys are there already
    for _ in 2..IDENTITY_RECORDS_MAX {
        assert_eq!(
            log.apply_unsigned(next(&log, None), &[by_keys]),
            Ok(Applied::InForce)
        );
    }
    let err = log
        .apply_unsigned(next(&log, None), &[by_keys])
        .unwrap_err();
    assert_eq!(
        err,
        IdentityError::TooManyRecords {
            max: IDENTITY_RECORDS_MAX
        }
    );
    let rotated = log
        .rotate(KeySet::one(key(2).public()), [0; 32], vec![], &[&key(2)])
        .unwrap();
    assert_eq!(log.apply(rotated), Ok(Applied::InForce));
}

/// The definition of the chain in force, as a recursion over sets.
fn model(all: &[IdentityRecord], at: RecordId) -> RecordId {
    fn right(all: &[IdentityRecord], record: &IdentityRecord) -> u8 {
        let own = match (&record.op, record.by) {
            (IdentityOp::Rotate { .. }, _) => 2,
            (_, None) => 1,
            (_, Some(_)) => 0,
        };
        let id = Some(RecordId::of(&record.encode()));
        let below = all.iter().filter(|other| other.prev == id);
        below.map(|other| right(all, other)).fold(own, u8::max)
    }
    let followers: Vec<_> = all.iter().filter(|other| other.prev == Some(at)).collect();
    let Some(best) = followers.iter().map(|other| right(all, other)).max() else {
        return at;
    };
    let strongest: Vec<_> = followers
        .into_iter()
        .filter(|other| right(all, other) == best)
        .collect();
    match strongest.as_slice() {
        [one] => model(all, RecordId::of(&one.encode())),
        _ => at,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Any part of a tree of records, in any order of arrival, gives the chain that the definition gives.
    #[test]
    fn the_chain_in_force_does_not_depend_on_the_order_of_arrival(
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8), 1..7),
        orders in prop::collection::vec(any::<u64>(), 14),
    ) {
        let Rivals { mut log, .. } = rivals();
        let start = log.clone();
        let mut known = vec![log.head()];
        let mut made = Vec::new();
        for (n, (pick, kind)) in picks.into_iter().enumerate() {
            let prev = known[pick.index(known.len())];
            let op = IdentityOp::Delegate(delegation(100 + n as u8, &[Operation::Push], &["*"]));
            let rotate = IdentityOp::Rotate {
                keys: KeySet::one(key(2).public()),
                next: [n as u8; 32],
                ended: vec![],
            };
            let (by, op, signer) = match kind {
                0 => (Some(key(3).id()), op, 3),
                1 | 2 => (None, op, 1),
                _ => (None, rotate, 2),
            };
            let seq = log.nodes_seq(prev) + 1;
            let record = IdentityRecord { seq, prev: Some(prev), by, op };
            let signed = Signed::new(Context::Identity, record.encode(), &[&key(signer)]);
            if log.apply(signed.clone()).is_ok() {
                known.push(signed.id());
                made.push((record, signed));
            }
        }
        let all: Vec<_> = made.iter().map(|(record, _)| record.clone()).collect();
        prop_assert_eq!(log.head(), model(&all, start.head()));

        let mut shuffled: Vec<_> = made.into_iter().map(|(_, signed)| signed).zip(&orders).collect();
        shuffled.sort_by_key(|(_, order)| **order);
        let mut again = start;
        let mut waiting: Vec<_> = shuffled.into_iter().map(|(signed, _)| signed).collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|signed| match again.apply(signed.clone()) {
                Ok(_) => false,
                Err(IdentityError::MissingPrevious { .. }) => true,
                Err(err) => panic!("{err}"),
            });
            prop_assert!(waiting.len() < before);
        }
        prop_assert_eq!(again.head(), log.head());
        prop_assert_eq!(again.records().len(), log.records().len());
    }
}
