//! What is written is read; whatever else is in a file is refused, at open or by `verify`.

use std::io::{Cursor, Write as _};

use super::*;
use crate::segment::{SegmentWriter, WriteError};

const FIRST: SectionName = SectionName::new("first", 0);
const SECOND: SectionName = SectionName::new("second", 7);

fn segment() -> (SegmentId, Vec<u8>) {
    let mut writer = SegmentWriter::new(Cursor::new(Vec::new())).unwrap();
    writer.section(FIRST, b"short").unwrap();
    writer.begin(SECOND).unwrap();
    for part in 0..3u8 {
        writer.write_all(&[part; 20_000]).unwrap();
    }
    let (id, file) = writer.finish().unwrap();
    (id, file.into_inner())
}

#[test]
fn sections_are_read_as_they_were_written() {
    let (id, bytes) = segment();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    for segment in [
        SegmentFile::from_bytes(bytes).unwrap(),
        SegmentFile::map(&file).unwrap(),
    ] {
        assert_eq!(segment.id(), id);
        assert_eq!(&segment.section(FIRST).unwrap()[..], b"short");
        let second = segment.section(SECOND).unwrap();
        assert_eq!((second.len(), second[0], second[59_999]), (60_000, 0, 2));
        assert!(segment.section(SectionName::new("second", 8)).is_none());
        assert!(
            segment
                .sections()
                .iter()
                .all(|info| info.range.start % 16_384 == 0)
        );
        assert_eq!(segment.verify(), Ok(()));
        drop(segment);
        assert_eq!(second[20_000], 1, "a section keeps the map");
    }
}

#[test]
fn a_segment_without_sections_opens() {
    let writer = SegmentWriter::new(Cursor::new(Vec::new())).unwrap();
    let (_, file) = writer.finish().unwrap();
    let segment = SegmentFile::from_bytes(file.into_inner()).unwrap();
    assert!(segment.sections().is_empty());
}

#[test]
fn every_changed_byte_is_found() {
    let (_, bytes) = segment();
    for at in (0..256).chain((256..bytes.len()).step_by(97)) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        if let Ok(segment) = SegmentFile::from_bytes(changed) {
            assert!(segment.verify().is_err(), "byte {at}");
        }
    }
}

#[test]
fn every_other_length_is_refused() {
    let (_, bytes) = segment();
    for len in (0..bytes.len()).step_by(1021).chain([bytes.len() - 1]) {
        assert!(
            SegmentFile::from_bytes(bytes[..len].to_vec()).is_err(),
            "{len} bytes"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(SegmentFile::from_bytes(longer).is_err());
}

/// Rewrites the table and the hash over it, as a stranger would who wants to be believed.
fn forged(change: impl FnOnce(&mut [u8])) -> Result<SegmentFile, OpenError> {
    let (_, mut bytes) = segment();
    let table = HEADER_BYTES..HEADER_BYTES + 2 * ENTRY_BYTES;
    change(&mut bytes[table.clone()]);
    let hash = blake3::hash(&bytes[table]);
    bytes[32..64].copy_from_slice(hash.as_bytes());
    SegmentFile::from_bytes(bytes)
}

#[test]
fn a_forged_table_is_refused() {
    assert!(forged(|_| ()).is_ok());
    assert!(
        forged(|table| table[24..32].fill(0xff)).is_err(),
        "a length that overflows"
    );
    assert!(
        forged(|table| table[24] += 1).is_ok(),
        "padding becomes part of a section: verify finds it"
    );
    assert!(
        forged(|table| table[26] += 1).is_err(),
        "a length that moves the next section"
    );
    assert!(
        forged(|table| table[24 + 64] += 1).is_err(),
        "a section beyond the file"
    );
    assert!(
        forged(|table| table[24 + 64] -= 1).is_err(),
        "bytes that belong to no section"
    );
    assert!(
        forged(|table| table[20] = 1).is_err(),
        "a byte that must be zero"
    );
    assert!(
        forged(|table| table.copy_within(0..24, 64)).is_err(),
        "one name twice"
    );
    assert!(
        forged(|table| table[0] = b'/').is_err(),
        "a name of other letters"
    );
    assert!(
        forged(|table| table[9] = b'x').is_err(),
        "a name after its padding"
    );
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let (_, mut bytes) = segment();
    bytes[8] = 2;
    assert!(matches!(
        SegmentFile::from_bytes(bytes),
        Err(OpenError::Format { format: 2 })
    ));
}

#[test]
fn a_section_is_written_once_and_the_table_has_an_end() {
    let mut writer = SegmentWriter::new(Cursor::new(Vec::new())).unwrap();
    assert!(writer.write_all(b"outside").is_err());
    for field in 0..255 {
        writer.begin(SectionName::new("many", field)).unwrap();
    }
    assert!(matches!(
        writer.begin(SectionName::new("many", 254)),
        Err(WriteError::Twice { .. })
    ));
    assert!(matches!(
        writer.begin(SectionName::new("many", 255)),
        Err(WriteError::TooMany)
    ));
    let (_, file) = writer.finish().unwrap();
    let segment = SegmentFile::from_bytes(file.into_inner()).unwrap();
    assert_eq!(segment.sections().len(), SECTIONS_MAX);
}

#[test]
fn a_table_that_claims_more_than_fits_is_refused() {
    let (_, mut bytes) = segment();
    bytes[12..16].copy_from_slice(&256u32.to_le_bytes());
    assert!(matches!(
        SegmentFile::from_bytes(bytes),
        Err(OpenError::Header(_))
    ));
}
