//! Shard indexes: never a panic, names that stay in the folder, what is written is read the same.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use lode_tensors::ShardIndex;

fuzz_target!(|input: &[u8]| {
    let Ok(index) = ShardIndex::parse(input) else {
        return;
    };
    for shard in index.shards() {
        assert!(!shard.contains(['/', '\\']) && shard != "..");
    }
    let again = ShardIndex::parse(&index.subset(|_| true, 1)).expect("what is written is valid");
    assert!(again.tensors().eq(index.tensors()));
    assert_eq!(
        index.check(&BTreeMap::new()).is_ok(),
        index.shards().is_empty()
    );
});
