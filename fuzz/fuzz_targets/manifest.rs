//! Versions, and signatures of versions: what is accepted is written back as the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::manifest::Version;
use lode_store::signature::VersionSignatures;

fuzz_target!(|data: &[u8]| {
    if let Ok(version) = Version::decode(data) {
        let bytes = version.encode().expect("what was accepted can be written");
        assert_eq!(Version::decode(&bytes).expect("and read again"), version);
    }
    if let Ok(signatures) = VersionSignatures::decode(data) {
        let again = VersionSignatures::decode(&signatures.encode());
        assert_eq!(
            again.expect("what was accepted can be read again"),
            signatures
        );
    }
});
