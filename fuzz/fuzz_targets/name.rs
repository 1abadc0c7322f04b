//! Names: what is accepted is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::name::{FileName, Name, NameRev, Rev};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // hex digits may be written in either case
    let same = |written: String| assert!(written.eq_ignore_ascii_case(text));
    if let Ok(name) = text.parse::<Name>() {
        same(name.to_string());
    }
    if let Ok(name) = text.parse::<NameRev>() {
        same(name.to_string());
    }
    if let Ok(name) = text.parse::<FileName>() {
        same(name.to_string());
    }
    if let Ok(rev) = text.parse::<Rev>() {
        same(rev.to_string());
    }
});
