//! Recovery of the record log: from any bytes, and from a real log with any bytes changed.
#![no_main]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use libfuzzer_sys::fuzz_target;
use lode_store::{
    disk::{Disk, sim::SimDisk},
    log::{Kind, Log, Nonces, Record, recover_bytes},
};

fuzz_target!(|data: &[u8]| {
    for salvage in [false, true] {
        if let Ok((_, recovered)) = recover_bytes(data, salvage) {
            assert!(salvage || recovered.damage.is_empty());
        }
    }
    changed_log(data);
});

/// The first bytes say which records a log has (lengths), the rest which of its bytes change, and how.
/// Whatever is read back was written, in this order; without a change, all of it.
fn changed_log(data: &[u8]) {
    let Some((count, data)) = data.split_first() else {
        return;
    };
    let (lengths, changes) = data.split_at(data.len().min(usize::from(count % 16)));
    let records: Vec<Record> = lengths
        .iter()
        .enumerate()
        .map(|(number, len)| {
            let body = vec![u8::try_from(number).expect("at most 15"); usize::from(*len)];
            Record {
                kind: Kind::ALL[number % Kind::ALL.len()],
                body: body.into(),
            }
        })
        .collect();
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let dir = Path::new("/");
    let (log, _) = Log::open(
        disk,
        dir,
        &BTreeMap::new(),
        false,
        Nonces::From(1),
        &mut |_| Ok(()),
    )
    .expect("an empty log");
    for batch in records.chunks(3) {
        log.writer().append(batch).expect("a disk in memory");
    }
    let Some(path) = sim.files().into_iter().next() else {
        return;
    };
    let file = sim
        .open(&path, lode_store::disk::Access::Read)
        .expect("just written");
    let mut bytes = file.map().expect("a disk in memory").to_vec();
    let before = bytes.clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] ^= change[2];
    }
    let (found, _) = match recover_bytes(&bytes, true) {
        Ok(found) => found,
        Err(error) => panic!("salvage never refuses: {error}"),
    };
    let mut rest = records.iter();
    for record in &found {
        assert!(
            rest.any(|written| written == record),
            "a record that was not written, or out of order"
        );
    }
    if bytes == before {
        assert_eq!(found, records);
    }
}
