//! The asking side of the LAN path: what is accepted is written back and says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::sync::lan::wire;

fuzz_target!(|data: &[u8]| {
    if let Ok((token, requests)) = wire::decode_all(data) {
        let mut bytes = token.greeting().to_vec();
        for request in &requests {
            bytes.extend(wire::write_request(request).expect("what was accepted can be written"));
        }
        // Numbers have more than one spelling, so it is what is said that stays the same.
        assert_eq!(wire::decode_all(&bytes), Ok((token, requests)));
    }
    // past the greeting, and as the other side reads it
    let mut greeted = [0; wire::GREETING_BYTES].to_vec();
    greeted[..wire::MAGIC.len()].copy_from_slice(wire::MAGIC);
    greeted.extend_from_slice(data);
    wire::decode_all(&greeted).ok();
    for head in data.chunks_exact(wire::LENGTH_BYTES + 1) {
        let (length, status) = head.split_first_chunk().expect("it is longer");
        if let Ok(None) = wire::record_len(*length) {
            wire::Status::read(status[0]).ok();
        }
    }
});
