//! Shards: files come out only with all their rows, and every segment has chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_gateway::xet::shard;

/// Bytes of a row: no file or segment takes less.
const ROW_BYTES: usize = 48;

fuzz_target!(|data: &[u8]| {
    let Ok(files) = shard::read(&mut &data[..]) else {
        return;
    };
    let mut rows = 2 + files.len();
    for file in &files {
        rows += file.pieces.len() + usize::from(file.sha256.is_some());
        assert!(file.pieces.iter().all(|piece| !piece.chunks.is_empty()));
    }
    assert!(rows * ROW_BYTES <= data.len());
});
