//! Identities, refs and signatures are what was applied, also after a restart and without the index.

use std::fs;

use lode_store::{
    VersionId,
    identity::{self, Applied, next_commitment},
    refs::{self, RefError, RefState},
    signature::{Signed, SigningKey, VersionSignatures},
    store::ApplyError,
};

use crate::common::Home;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

#[test]
fn signed_records_are_folded_again_after_a_restart_and_a_lost_index() {
    let home = Home::new();
    let store = home.open();
    let (device, next) = (key(1), key(2));
    let first = identity::create(&device, &next.public());
    assert_eq!(
        store.apply_identity(first.clone()).unwrap(),
        Applied::InForce
    );
    assert_eq!(
        store.apply_identity(first).unwrap(),
        Applied::Known { signatures: false }
    );
    let publisher = store.publishers().unwrap()[0];

    let log = store.identity(&publisher).unwrap().unwrap();
    let (one, two) = (VersionId::of(b"1"), VersionId::of(b"2"));
    for (model, version, time) in [("tiny", one, 5), ("tiny", two, 6), ("large", one, 7)] {
        let refs = store.ref_set(&publisher, model).unwrap();
        let after = store.highest_sequence(&publisher, device.id()).unwrap();
        let signed = refs
            .make(&log, &[&device], "heads/main", Some(version), after, time)
            .unwrap();
        assert_eq!(
            store.apply_ref(signed.clone()).unwrap(),
            refs::Applied::InForce
        );
        let again = store.apply_ref(signed).unwrap();
        assert_eq!(again, refs::Applied::Known { signatures: false });
    }
    // rotation to the key that was committed to: refs are weighed anew
    let rotated = log
        .rotate(
            identity::KeySet::one(next.public()),
            next_commitment(key(3).public()),
            vec![identity::Ended {
                key: device.id(),
                last: 2,
            }],
            &[&next],
        )
        .unwrap();
    store.apply_identity(rotated).unwrap();
    let signatures = VersionSignatures::new(two, &[&next]);
    assert!(store.add_version_signatures(&signatures).unwrap());
    assert!(!store.add_version_signatures(&signatures).unwrap());
    assert!(
        store
            .add_version_signatures(&VersionSignatures::new(two, &[&device]))
            .unwrap()
    );
    drop(store);

    for round in 0..3 {
        if round == 1 {
            fs::remove_file(home.path().join("index.redb")).unwrap();
        }
        let store = home.open();
        if round == 2 {
            store.rebuild_index().unwrap();
        }
        assert_eq!(store.publishers().unwrap(), [publisher]);
        let models = store.models().unwrap();
        assert_eq!(
            models,
            [
                (publisher, "large".to_owned()),
                (publisher, "tiny".to_owned())
            ]
        );
        assert_eq!(store.identity(&publisher).unwrap().unwrap().len(), 2);
        let tiny = store.ref_set(&publisher, "tiny").unwrap();
        assert_eq!(tiny.resolve("heads/main"), RefState::At(two));
        // signed after the last record that counts
        let large = store.ref_set(&publisher, "large").unwrap();
        assert_eq!(large.resolve("heads/main"), RefState::Absent);
        assert!(store.ref_set(&publisher, "none").unwrap().is_empty());
        let signatures = store.version_signatures(&two).unwrap().unwrap();
        assert_eq!(signatures.verified().len(), 2);
        assert_eq!(store.version_signatures(&one).unwrap(), None);
    }
}

#[test]
fn proof_of_equivocation_is_kept_and_refused_and_strangers_are_not_kept() {
    let home = Home::new();
    let store = home.open();
    let device = key(1);
    let first = identity::create(&device, &key(2).public());
    let publisher = lode_store::PublisherId::from_bytes(*first.id().as_bytes());
    store.apply_identity(first).unwrap();
    let log = store.identity(&publisher).unwrap().unwrap();
    let refs = store.ref_set(&publisher, "m").unwrap();
    let make = |version: &[u8]| {
        let version = Some(VersionId::of(version));
        refs.make(&log, &[&device], "heads/main", version, 0, 1)
            .unwrap()
    };
    store.apply_ref(make(b"1")).unwrap();
    let error = store.apply_ref(make(b"2")).unwrap_err();
    assert!(
        matches!(error, ApplyError::Ref(RefError::Equivocation { .. })),
        "{error}"
    );
    drop(store);
    let store = home.open();
    assert_eq!(
        store
            .ref_set(&publisher, "m")
            .unwrap()
            .equivocations()
            .len(),
        1
    );

    let stranger = identity::create(&key(9), &key(2).public());
    let other = lode_store::identity::IdentityLog::start(stranger).unwrap();
    let foreign = lode_store::refs::RefSet::new(other.publisher(), "m");
    let signed: Signed = foreign
        .make(&other, &[&key(9)], "heads/main", None, 0, 1)
        .unwrap();
    assert!(matches!(
        store.apply_ref(signed),
        Err(ApplyError::UnknownPublisher { .. })
    ));
    assert_eq!(store.models().unwrap().len(), 1);
}
