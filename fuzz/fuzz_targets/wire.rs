//! Frames of `/lode/1`: any bytes, and any body in a frame of each type. What is read is written again as
//! what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::sync::frame::{decode_all, encode, kind};

const KINDS: [u16; 18] = [
    kind::HELLO,
    kind::SHOW,
    kind::SHOWN,
    kind::PEERS,
    kind::REFS,
    kind::HAVE,
    kind::WHO_HAS,
    kind::WATCH,
    kind::IDENTITIES,
    kind::REF_RECORDS,
    kind::SIGNATURES,
    kind::HELD,
    kind::GAINED,
    kind::GIVEN,
    kind::CHOKE,
    kind::END,
    kind::BUSY,
    kind::REFUSED,
];

fuzz_target!(|data: &[u8]| {
    check(data);
    if let Some((at, body)) = data.split_first() {
        let kind = KINDS[usize::from(*at) % KINDS.len()];
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut frame = len.to_le_bytes().to_vec();
        frame.extend_from_slice(&kind.to_le_bytes());
        frame.extend_from_slice(body);
        check(&frame);
    }
});

fn check(bytes: &[u8]) {
    let Ok(messages) = decode_all(bytes) else {
        return;
    };
    let again: Vec<u8> = messages
        .iter()
        .flat_map(|message| encode(message).expect("what fitted into a frame fits again"))
        .collect();
    let read = decode_all(&again).expect("what we write can be read");
    assert_eq!(read, messages);
}
