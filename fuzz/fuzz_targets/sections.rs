//! `sections/1` over any head of a segment: chunks cover the file, and none is empty or over 16 MiB.
//!
//! Input: the first bytes of a segment, filled with zeros to 16 KiB; what it says of its length is believed up to 64 GiB.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::cut::{CHUNK_BYTES_MAX, SECTION_ALIGN_BYTES, section_cuts};

fuzz_target!(|input: &[u8]| {
    let mut head = input.to_vec();
    head.resize(SECTION_ALIGN_BYTES as usize, 0);
    let len = u64::from_le_bytes(*head[16..].first_chunk().expect("8 bytes")).min(1 << 36);
    let Some(cuts) = section_cuts(&head, len) else {
        return;
    };
    assert!(cuts.lengths.iter().all(|length| (1..=CHUNK_BYTES_MAX).contains(length)));
    assert_eq!(cuts.lengths.iter().map(|length| u64::from(*length)).sum::<u64>(), len);
});
