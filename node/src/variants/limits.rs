//! Bounds of what is kept in memory for variants.

/// Bytes of laid-out variants: headers and tables of tensors, about.
pub const LAYOUTS_BYTES_MAX: usize = 64 << 20;

/// Bytes of a file of a variant that are made, and kept, at once for a reader of more than a few.
pub const BLOCK_BYTES: u64 = 512 << 10;

/// Bytes up to which a range is made by itself: a block would cost many times as much.
pub const SHORT_BYTES_MAX: u64 = 64 << 10;

/// Bytes that one thread makes at a time.
pub const PART_BYTES: usize = 16 << 10;

/// Bytes of a file of a variant that are made at once when it is written to a folder.
pub const WRITE_BYTES: u64 = 4 << 20;

/// Bytes of blocks that are kept.
pub const BLOCKS_BYTES_MAX: usize = 48 << 20;

/// Bytes of the source that are in memory at once for what is made. Scales of a few bytes may need a whole tensor: they are
/// made step by step.
pub const SOURCE_BYTES_MAX: u64 = 8 << 20;

/// Readers that gather source and make something of it at a time; the others wait.
pub const MAKERS_MAX: usize = 16;

/// Bytes of the source that a reader of a variant asks peers for ahead of what it makes.
pub const SOURCE_AHEAD_BYTES_MAX: u64 = 16 << 20;
