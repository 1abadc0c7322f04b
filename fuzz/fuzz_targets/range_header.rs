//! `Range` headers: whatever they say, the parts selected lie in the body and do not overlap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_gateway::{
    limits::RANGES_MAX,
    range::{Selection, select},
};

// The first 8 bytes are the length of the body, the rest is the header.
fuzz_target!(|data: &[u8]| {
    let Some((len, header)) = data.split_first_chunk::<8>() else {
        return;
    };
    let len = u64::from_le_bytes(*len);
    if let Selection::Parts(mut parts) = select(header, len) {
        assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
        assert!(
            parts
                .iter()
                .all(|part| part.start < part.end && part.end <= len)
        );
        parts.sort();
        assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start));
    }
});
