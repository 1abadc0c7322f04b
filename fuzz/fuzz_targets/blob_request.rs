//! Requests of `/iroh-bytes/4`: what is read is written as a request that means the same, and whose
//! blobs can be gone through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::sync::{request::BlobRequest, selection::Selection};

/// Blobs that are looked at; a short request may name 2^64.
const BLOBS_MAX: usize = 1000;

fuzz_target!(|data: &[u8]| {
    let Ok(request) = BlobRequest::decode(data) else {
        return;
    };
    let bytes = request.encode();
    assert!(bytes.len() <= data.len().max(35));
    assert_eq!(BlobRequest::decode(&bytes).as_ref(), Ok(&request));
    let (BlobRequest::Get { ranges, .. } | BlobRequest::GetMany { ranges, .. }) = &request else {
        return;
    };
    let mut next = ranges.next_asked(0);
    for _ in 0..BLOBS_MAX {
        let Some(number) = next else { return };
        let boundaries = ranges.of_blob(number);
        for size in [0, 1, 16_384, 1 << 20] {
            let selection = Selection::of_boundaries(size, boundaries);
            assert!(!selection.is_empty() && selection.bytes() <= size);
        }
        next = number
            .checked_add(1)
            .and_then(|number| ranges.next_asked(number));
    }
    assert!(ranges.pieces(BLOBS_MAX).len() <= BLOBS_MAX);
});
