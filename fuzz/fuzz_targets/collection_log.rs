//! The write-ahead log of a collection and its operations, from any bytes: groups come out in order up to
//! damage or a torn tail, and an operation that is read settles at one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_index::{collection::read_head, log::read_groups, operation::Operation};

fuzz_target!(|data: &[u8]| {
    let mut groups = read_groups(data, 1);
    let mut bytes = 0;
    for group in groups.by_ref().map_while(Result::ok) {
        bytes += group.len();
    }
    assert!(bytes <= groups.end() && groups.end() <= data.len());
    let _ = read_head(data);
    if let Ok(operation) = Operation::decode(data) {
        let mut again = Vec::new();
        operation.encode(&mut again);
        // filters and types are JSON, which has many spellings of one meaning; once written, it is the only one.
        // Bytes are compared: a vector that is not a number, which no collection takes, equals nothing
        let mut settled = Vec::new();
        Operation::decode(&again).expect("it was written").encode(&mut settled);
        assert_eq!(settled, again);
    }
});
