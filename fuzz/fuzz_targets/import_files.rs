//! Files that are imported: any bytes end in points or an error, in every format.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use lode_index::import::{CsvRecords, JsonLines, Mapping, NpyRows, Records, SafetensorsRows};

fuzz_target!(|data: &[u8]| {
    let mapping = Mapping { id: Some("id".into()), ..Mapping::default() };
    drain(&mut JsonLines::new(data, mapping.clone()), data.len());
    if let Ok(mut records) = CsvRecords::open(data, mapping.clone()) {
        drain(&mut records, data.len());
    }
    if let Ok(mut records) = NpyRows::open(data, mapping) {
        drain(&mut records, data.len());
    }
    if let Ok(mut records) = SafetensorsRows::open(Cursor::new(data), Mapping::default()) {
        drain(&mut records, data.len());
    }
});

/// Every point takes at least a byte of the file.
fn drain(records: &mut dyn Records, bytes: usize) {
    let mut points = 0;
    while let Ok(batch) = records.next_batch(16) {
        if batch.is_empty() {
            break;
        }
        points += batch.len();
        assert!(points <= bytes);
    }
}
