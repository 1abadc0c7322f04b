#![allow(clippy::unwrap_used)]

use super::*;
use crate::identity::{Delegation, Ended, KeySet, create, next_commitment};
use crate::signature::SignatureError;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn log() -> IdentityLog {
    IdentityLog::start(create(&key(1), &key(2).public())).unwrap()
}

fn version(n: u8) -> VersionId {
    VersionId::from_bytes([n; 32])
}

#[test]
fn a_capability_permits_what_it_names_until_it_ends() {
    let log = log();
    let signed =
        Capability::make(&log, &[&key(1)], "tiny", Some(version(1)), Some(100), 5).unwrap();
    let capability = Capability::verify(&signed, &log, 99).unwrap();
    let permits = |model: &str, root: Option<u8>, now| {
        capability.permits(&log.publisher(), model, root.map(version).as_ref(), now)
    };
    assert!(permits("tiny", Some(1), 99));
    assert!(!permits("tiny", Some(1), 100));
    assert!(!permits("tiny", Some(2), 99));
    assert!(!permits("tiny", None, 99));
    assert!(!permits("other", Some(1), 99));
    assert!(!capability.permits(&PublisherId::of(b""), "tiny", Some(&version(1)), 99));
    let err = Capability::verify(&signed, &log, 100).unwrap_err();
    assert_eq!(err, CapabilityError::Expired { expires: 100 });
    assert_eq!(err.kind(), ErrorKind::Refused);
    assert!(err.to_string().contains("new ticket"));

    let all = Capability::make(&log, &[&key(1)], "tiny", None, None, 5).unwrap();
    let all = Capability::verify(&all, &log, u64::MAX).unwrap();
    assert!(all.permits(&log.publisher(), "tiny", None, u64::MAX));
    assert!(all.permits(&log.publisher(), "tiny", Some(&version(9)), 0));
}

#[test]
fn a_forged_capability_is_refused() {
    let log = log();
    let good = Capability::make(&log, &[&key(1)], "tiny", None, Some(100), 5).unwrap();
    let mut wider = Capability::decode(good.body()).unwrap();
    wider.expires = None;
    for keys in [vec![], vec![key(3)]] {
        let keys: Vec<_> = keys.iter().collect();
        let forged = Signed::new(Context::Capability, wider.encode(), &keys);
        let err = Capability::verify(&forged, &log, 5).unwrap_err();
        let missing = SignatureError::Missing { key: key(1).id() };
        assert_eq!(err, CapabilityError::Auth(missing.into()));
    }
    let other_context = Signed::new(Context::Ref, good.body().clone(), &[&key(1)]);
    assert!(Capability::verify(&other_context, &log, 5).is_err());
    wider.signer = key(3).id();
    let stranger = Signed::new(Context::Capability, wider.encode(), &[&key(3)]);
    let err = Capability::verify(&stranger, &log, 5).unwrap_err();
    assert!(matches!(
        err,
        CapabilityError::Auth(AuthError::UnknownKey { .. })
    ));
    let other = IdentityLog::start(create(&key(7), &key(8).public())).unwrap();
    let err = Capability::verify(&good, &other, 5).unwrap_err();
    assert!(matches!(err, CapabilityError::WrongPublisher { .. }));
}

#[test]
fn only_those_with_access_sign_capabilities_and_theirs_end_with_them() {
    let mut log = log();
    let mut given = Delegation::new(key(3).public(), &[Operation::Access], &["tiny"]);
    given.expires = Some(50);
    log.apply(log.delegate(given, &[&key(1)]).unwrap()).unwrap();
    let push = Delegation::new(key(4).public(), &[Operation::Push], &["*"]);
    log.apply(log.delegate(push, &[&key(1)]).unwrap()).unwrap();
    let by =
        |log: &IdentityLog, seed, model| Capability::make(log, &[&key(seed)], model, None, None, 5);
    let not_permitted = |err| {
        matches!(
            err,
            Err(CapabilityError::Auth(AuthError::NotPermitted { .. }))
        )
    };
    assert!(not_permitted(by(&log, 4, "tiny")));
    assert!(not_permitted(by(&log, 3, "other")));
    let signed = by(&log, 3, "tiny").unwrap();
    assert!(Capability::verify(&signed, &log, 49).is_ok());
    assert!(matches!(
        Capability::verify(&signed, &log, 50),
        Err(CapabilityError::Auth(AuthError::DelegationExpired { .. }))
    ));
    let revoked = log
        .revoke(
            Ended {
                key: key(3).id(),
                last: 9,
            },
            &[&key(1)],
        )
        .unwrap();
    log.apply(revoked).unwrap();
    assert!(matches!(
        Capability::verify(&signed, &log, 5),
        Err(CapabilityError::Auth(AuthError::Revoked { .. }))
    ));
    let own = by(&log, 1, "tiny").unwrap();
    let next = next_commitment(key(9).public());
    let rotated = log
        .rotate(KeySet::one(key(2).public()), next, vec![], &[&key(2)])
        .unwrap();
    log.apply(rotated).unwrap();
    assert!(matches!(
        Capability::verify(&own, &log, 5),
        Err(CapabilityError::Auth(AuthError::Revoked { .. }))
    ));
}

#[test]
fn a_capability_for_no_possible_model_is_refused() {
    let err = Capability::make(&log(), &[&key(1)], "a/b", None, None, 0).unwrap_err();
    assert!(matches!(err, CapabilityError::Name(_)));
}
