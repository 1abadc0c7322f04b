//! Ref records: bodies, and a model's refs that two of them are applied to in either order.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use lode_store::identity::{IdentityLog, create};
use lode_store::refs::{RefRecord, RefSet};
use lode_store::signature::{Context, Signed, SigningKey};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn log() -> &'static IdentityLog {
    static LOG: OnceLock<IdentityLog> = OnceLock::new();
    LOG.get_or_init(|| {
        let next = SigningKey::from_bytes(&[2; 32]);
        IdentityLog::start(create(&key(), &next.public())).expect("a first record")
    })
}

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = RefRecord::decode(data) {
        let again = RefRecord::decode(&record.encode());
        assert_eq!(again.expect("what was accepted can be read again"), record);
    }
    // two bodies, which a right key signs
    let at = data
        .first()
        .map_or(0, |len| usize::from(*len) + 1)
        .min(data.len());
    let bodies = [data.get(1..at).unwrap_or_default(), &data[at..]];
    let mut records = Vec::new();
    for body in bodies {
        if let Ok(mut record) = RefRecord::decode(body) {
            (record.publisher, record.identity) = (log().publisher(), log().head());
            (record.signer, record.model) = (key().id(), "tiny".into());
            records.push(Signed::new(Context::Ref, record.encode(), &[&key()]));
        }
    }
    if let [a, b] = records.as_slice() {
        let apply = |order: [&Signed; 2]| {
            let mut refs = RefSet::new(log().publisher(), "tiny");
            for signed in order {
                if let Err(err) = refs.apply(log(), signed.clone()) {
                    assert!(err.is_kept(), "{err}");
                }
            }
            let state: Vec<_> = refs
                .iter()
                .map(|(name, at)| (name.to_owned(), at))
                .collect();
            (state, refs.is_public(), refs.equivocations().len())
        };
        assert_eq!(apply([a, b]), apply([b, a]));
    }
});
