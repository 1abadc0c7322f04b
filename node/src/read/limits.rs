//! Bounds of what is kept in memory for readers.

/// Bytes of decoded trees, about.
pub const TREES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of chunk lists, about.
pub const MAPS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of tensor lists, about.
pub const LAYOUTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most versions that are looked at to find those that a prefix may mean.
pub const VERSIONS_WALKED_MAX: usize = 100_000;
