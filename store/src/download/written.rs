//! Parts of files that were written into folders of the user, known again by what they look like.
//!
//! A whole file that was pulled is an outside place. Of a part (`pull --tensors`, `--slice`) no chunk may
//! be whole, so nothing could be checked against a hash; what is noted is that this home wrote all of it,
//! and the file's pins right after. Whoever pulls the same to the same place again is told that it is
//! there, as long as they have not changed.

use std::path::Path;

use super::DownloadError;
use crate::{Store, disk::Access, sidecar::Pins};

/// Bytes of a note: five numbers.
const NOTE_BYTES: usize = 40;

fn key(download: &[u8; 32]) -> String {
    format!("part/{}", blake3::Hash::from(*download).to_hex())
}

fn encode(pins: &Pins) -> [u8; NOTE_BYTES] {
    let mut out = [0; NOTE_BYTES];
    let numbers = [
        pins.device.to_le_bytes(),
        pins.inode.to_le_bytes(),
        pins.len.to_le_bytes(),
        pins.mtime_ns.to_le_bytes(),
        pins.ctime_ns.to_le_bytes(),
    ];
    out.copy_from_slice(numbers.as_flattened());
    out
}

/// Notes that a download was written to the end, and what the file looked like then.
pub(super) fn note(store: &Store, download: &[u8; 32], pins: &Pins) -> Result<(), DownloadError> {
    Ok(store.local_set(&key(download), &encode(pins))?)
}

/// Whether the file at `path` is the one that a download wrote, unchanged.
pub(super) fn is_there(
    store: &Store,
    download: &[u8; 32],
    path: &Path,
) -> Result<bool, DownloadError> {
    let Some(noted) = store.local_get(&key(download))? else {
        return Ok(false);
    };
    let io = DownloadError::io(path);
    let file = store.inner().disk.open(path, Access::Read).map_err(&io)?;
    let pins = Pins::from(file.stat().map_err(&io)?);
    Ok(noted[..] == encode(&pins))
}

/// Forgets a download whose file is gone.
pub(super) fn forget(store: &Store, download: &[u8; 32]) -> Result<(), DownloadError> {
    Ok(store.local_delete(&key(download))?)
}
