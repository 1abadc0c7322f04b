//! References and digests of a registry: whatever an address says, what is understood is written one way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_gateway::{
    limits::OCI_TAG_CHARS_MAX,
    oci::reference::{Digest, Reference, is_tag},
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<Reference>() {
        Ok(Reference::Digest(digest)) => {
            assert_eq!(digest.to_string(), text);
            assert_eq!(text.parse::<Digest>(), Ok(digest));
        }
        Ok(Reference::Tag(tag)) => {
            assert!(tag == text && is_tag(text) && (1..=OCI_TAG_CHARS_MAX).contains(&text.len()));
            assert!(text.parse::<Digest>().is_err());
        }
        Err(error) => {
            assert!(!is_tag(text) || text.contains(':'));
            assert!(error.to_string().len() < 1024);
        }
    }
});
