//! Journals of downloads: any bytes, and any fields under right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::download::parse_journal;

const HEADER_BYTES: usize = 64;
const FRAME_BYTES: usize = 64;

fuzz_target!(|data: &[u8]| {
    let _ = parse_journal(data);
    let Some((bytes, frames)) = with_checksums(data) else {
        return;
    };
    let (header, records) = parse_journal(&bytes).expect("the header is right");
    assert_eq!(header.key[..], bytes[32..64]);
    assert_eq!(bytes[64..64 + header.path.len()], header.path[..]);
    let whole = frames
        .iter()
        .take_while(|frame| frame[4] < 16 && frame[5..16] == [0; 11]);
    assert_eq!(records.len(), whole.count());
    for (record, frame) in records.iter().zip(&frames) {
        assert_eq!(record.chunk.to_le_bytes(), frame[..4]);
        assert_eq!(record.piece, frame[4]);
        assert_eq!(record.hash[..], frame[16..48]);
    }
});

/// Makes magic, format, lengths and checksums right for what is there; with the frames.
fn with_checksums(data: &[u8]) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (head, rest) = data.split_at_checked(HEADER_BYTES)?;
    let path = usize::from(head[12]).min(rest.len());
    let mut bytes = head.to_vec();
    bytes[..8].copy_from_slice(b"lodejrnl");
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&u32::try_from(path).ok()?.to_le_bytes());
    bytes[24..32].fill(0);
    bytes.extend_from_slice(&rest[..path]);
    let check = blake3::hash(&bytes);
    bytes.extend_from_slice(check.as_bytes());
    let key: [u8; 32] = head[32..64].try_into().ok()?;
    let mut frames = Vec::new();
    for (index, frame) in rest[path..].chunks_exact(FRAME_BYTES).enumerate() {
        let mut frame = frame.to_vec();
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&(index as u64).to_le_bytes());
        hasher.update(&frame[..48]);
        frame[48..].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        bytes.extend_from_slice(&frame);
        frames.push(frame);
    }
    Some((bytes, frames))
}
