//! Bodies of Qdrant's dialect: any bytes end in what is asked for or in a refusal with a status of the client's fault.
//!
//! Input: a byte that says which request it is, then its body.
#![no_main]

use lode_gateway::{
    answer::Problem,
    qdrant::{ask, change, config, json, points},
};
use libfuzzer_sys::fuzz_target;

fn refused<T>(result: Result<T, Problem>) {
    if let Err(problem) = result {
        assert!(problem.status().is_client_error(), "{problem:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind {
        b'u' => refused(points::upsert(body)),
        b'v' => refused(points::updates(body)),
        b'b' => refused(change::changes(body)),
        _ => match json::object(body) {
            Ok(map) => match kind {
                b'q' => refused(ask::query(&map)),
                b'Q' => refused(ask::queries(&map)),
                b'g' => refused(ask::groups(&map)),
                b's' => refused(ask::search(&map)),
                b'c' => refused(config::create(&map)),
                b'd' => refused(change::change("delete", &map)),
                b'p' => refused(change::change("set_payload", &map)),
                _ => refused(change::change("delete_payload", &map)),
            },
            problem => refused(problem),
        },
    }
});
