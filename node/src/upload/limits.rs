//! Bounds of uploads.

use std::time::Duration;

/// Longest time that a staged file waits for its commit, and a xorb for its file.
pub const STAGED_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long it is remembered where the chunks of a xorb lie, after it was last named. Clients count on three
/// weeks, and do not send a xorb again for so long.
pub const MAP_AGE_MAX: Duration = Duration::from_secs(22 * 24 * 3600);

/// How often is looked for what expired.
pub const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Part of the file system, one in so many bytes, that uploads leave free, as long as it is at most
/// [`RESERVE_BYTES_MAX`].
pub const RESERVE_SHARE: u64 = 50;

/// Most bytes that uploads leave free: 1 GiB. A share alone would keep what many a model needs on a large disk.
pub const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// Bytes of the longest file that is uploaded: 1 TiB.
pub const FILE_BYTES_MAX: u64 = 1 << 40;

/// Bytes of all chunks of a xorb: 64 MiB.
pub const XORB_BYTES_MAX: u64 = 64 << 20;

/// Chunks of a xorb.
pub const XORB_CHUNKS_MAX: usize = 8192;

/// Bytes of the longest chunk of a xorb: 128 KiB.
pub const XORB_CHUNK_BYTES_MAX: usize = 128 << 10;

/// Xorbs that are remembered; beyond, those of the oldest maps are forgotten.
pub const XORBS_KNOWN_MAX: usize = 1 << 20;

/// Bytes of one map file that are read: more is no map.
pub const MAP_BYTES_MAX: u64 = 256 << 20;

/// Bytes of files that are made from xorbs and stored together; a longer file is stored alone.
pub const ASSEMBLED_BYTES_MAX: u64 = 1 << 30;

/// Files that are made from xorbs and stored together.
pub const ASSEMBLED_FILES_MAX: usize = 256;

/// Changes of one commit.
pub const CHANGES_MAX: usize = 100_000;

/// Bytes of all small files whose content is in one commit: 2 GiB.
pub const INLINE_BYTES_MAX: u64 = 2 << 30;
