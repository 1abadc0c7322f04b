//! Heads of collections, which come from peers: never a panic, whatever they name.
//!
//! Input: a head without the hash at its end, which is made anew, so that what it covers is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_index::collection::read_head;

fuzz_target!(|input: &[u8]| {
    let mut bytes = input.to_vec();
    bytes.extend_from_slice(blake3::hash(input).as_bytes());
    if let Ok(head) = read_head(&bytes) {
        assert!(head.segments().count() <= 4096);
    }
});
