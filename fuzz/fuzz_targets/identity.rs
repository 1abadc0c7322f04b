//! Identity records: bodies, signed records, and logs that they are applied to.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use lode_store::capability::Capability;
use lode_store::identity::{IdentityLog, IdentityRecord, create};
use lode_store::signature::{Context, Signed, SigningKey};

fn log() -> &'static IdentityLog {
    static LOG: OnceLock<IdentityLog> = OnceLock::new();
    LOG.get_or_init(|| {
        let [device, next] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
        IdentityLog::start(create(&device, &next.public())).expect("a first record")
    })
}

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = IdentityRecord::decode(data) {
        let again = IdentityRecord::decode(&record.encode());
        assert_eq!(again.expect("what was accepted can be read again"), record);
        // signed by the right key, so that the rules behind the signatures are reached
        let signed = Signed::new(
            Context::Identity,
            data.to_vec(),
            &[&SigningKey::from_bytes(&[1; 32])],
        );
        let _ = IdentityLog::start(signed.clone());
        let mut log = log().clone();
        let before = log.records().len();
        let kept = log.apply(signed).is_ok();
        assert!(kept || log.records().len() == before);
    }
    if let Ok(signed) = Signed::decode(data) {
        assert_eq!(
            Signed::decode(&signed.encode()).expect("read again"),
            signed
        );
        let _ = IdentityLog::start(signed.clone());
        let _ = log().clone().apply(signed);
    }
    if let Ok(capability) = Capability::decode(data) {
        let again = Capability::decode(&capability.encode());
        assert_eq!(
            again.expect("what was accepted can be read again"),
            capability
        );
    }
});
