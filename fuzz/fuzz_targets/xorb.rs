//! Xorbs: chunks come out as long as their heads say, within the bounds of a xorb, whatever the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_gateway::xet::{
    hash::{XetHash, root},
    xorb::XorbReader,
};

/// Bytes of the longest chunk, and of all chunks.
const CHUNK_BYTES_MAX: usize = 128 << 10;
const XORB_BYTES_MAX: usize = 64 << 20;

fuzz_target!(|data: &[u8]| {
    let mut reader = XorbReader::new(data);
    let (mut leaves, mut len) = (Vec::new(), 0);
    let whole = loop {
        match reader.next_chunk() {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX);
                len += chunk.len();
                assert!(len <= XORB_BYTES_MAX);
                leaves.push((XetHash::of_chunk(chunk), chunk.len() as u64));
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    if whole {
        let name = reader.finish();
        assert_eq!(name, root(leaves));
        assert_eq!(XetHash::parse(&name.to_string()), Some(name));
    }
});
