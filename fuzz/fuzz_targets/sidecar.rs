//! Sidecars: any bytes, and any fields under a right checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::{
    outboard,
    sidecar::{ContainerKind, ENTRY_BYTES, Encoding, HEADER_BYTES, parse_bytes},
};

fuzz_target!(|data: &[u8]| {
    let _ = parse_bytes(data);
    if let Some(bytes) = with_checksum(data)
        && let Ok((header, table)) = parse_bytes(&bytes)
    {
        assert_eq!(table.len(), header.chunks as usize);
        for entry in table {
            assert!(entry.offset + u64::from(entry.stored_len) <= header.len);
            assert!(entry.encoding != Encoding::Plain || entry.stored_len == entry.plain_len);
            assert!(entry.encoding == Encoding::Plain || header.kind == ContainerKind::Pack);
            if let Some(at) = entry.outboard {
                assert!(at + u64::from(outboard::size(entry.plain_len)) <= header.outboards_len);
            }
        }
    }
});

/// Makes magic, format, counts and checksum right for what is there.
fn with_checksum(data: &[u8]) -> Option<Vec<u8>> {
    let (head, entry) = (
        usize::try_from(HEADER_BYTES).ok()?,
        usize::try_from(ENTRY_BYTES).ok()?,
    );
    let mut bytes = data.to_vec();
    let body = bytes.len().checked_sub(head)?;
    let path = usize::from(bytes[76]).min(body);
    let count = usize::from(bytes[72]).min((body - path) / entry);
    let outboards = body - path - count * entry;
    bytes[..8].copy_from_slice(b"lodeside");
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[64..72].copy_from_slice(&(outboards as u64).to_le_bytes());
    bytes[72..76].copy_from_slice(&u32::try_from(count).ok()?.to_le_bytes());
    bytes[76..80].copy_from_slice(&u32::try_from(path).ok()?.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&bytes[..head])
        .update(&bytes[head + outboards..]);
    bytes.extend_from_slice(hasher.finalize().as_bytes());
    Some(bytes)
}
