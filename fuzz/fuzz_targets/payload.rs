//! Payloads: bytes that are taken are the only spelling of their JSON, and paths into them never fail.
//!
//! Input: a path, a line feed, the bytes of a payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_index::{Payload, payload::PayloadPath};

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (path, bytes) = data.split_at(at);
    let Ok(payload) = Payload::from_bytes(bytes.get(1..).unwrap_or_default()) else {
        return;
    };
    let json = payload.to_json();
    let again = Payload::from_json(&json).expect("read once, written again");
    assert_eq!(again.as_bytes(), payload.as_bytes());
    let path = std::str::from_utf8(path).ok().and_then(|path| path.parse::<PayloadPath>().ok());
    if let Some(path) = path {
        let mut found = 0;
        path.each(payload.root(), &mut |_| found += 1);
        let mut removed = json.clone();
        path.remove(&mut removed);
        // what is removed was there
        assert!(found > 0 || removed == json);
    }
});
