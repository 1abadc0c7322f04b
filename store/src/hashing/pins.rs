//! What the file system says of a file, to notice that it changed.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::sidecar::Pins;

/// The pins in `metadata`.
pub(super) fn pins_of(metadata: &Metadata) -> Pins {
    Pins {
        device: metadata.dev(),
        inode: metadata.ino(),
        len: metadata.size(),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// How long after the file's last change `now` is; zero when that lies in the future. Only the time
/// of change counts: every write sets it, and nobody else can.
pub(crate) fn age(pins: &Pins, now: SystemTime) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = u64::try_from(pins.ctime_ns).unwrap_or(0);
    now.saturating_sub(Duration::from_nanos(changed))
}

/// A time of the file system in nanoseconds since 1970.
pub(crate) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
