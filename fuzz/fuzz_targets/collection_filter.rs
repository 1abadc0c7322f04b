//! Filters: any JSON and any text ends in a filter or an error, a filter reads back as it is shown, and looking
//! at a payload with it never fails.
//!
//! Input: a filter, as JSON or in its short form; after an empty line, a payload as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_index::{Filter, Payload, PointId, filter::Candidate};

fuzz_target!(|data: &[u8]| {
    let at = data.windows(2).position(|pair| pair == b"\n\n");
    let (filter, payload) = at.map_or((data, &b"{}"[..]), |at| (&data[..at], &data[at + 2..]));
    let payload = serde_json::from_slice(payload).ok();
    let payload = payload.and_then(|json| Payload::from_json(&json).ok()).unwrap_or_default();
    let candidate = Candidate {
        id: PointId::Number(1),
        payload: payload.root(),
        has_vector: &|name| name.is_empty(),
    };
    if let Ok(json) = serde_json::from_slice(filter)
        && let Ok(read) = Filter::from_json(&json)
    {
        assert_eq!(Filter::from_json(&read.to_json()).as_ref(), Ok(&read));
        read.check(&candidate);
    }
    if let Ok(text) = std::str::from_utf8(filter)
        && let Ok(read) = text.parse::<Filter>()
    {
        read.check(&candidate);
    }
});
