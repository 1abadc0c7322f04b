//! Every bound on collections. Each has a test that passes it by one.

/// Most components of a dense vector. The widest embedding models in use have 12,288.
pub const DIM_MAX: u32 = 65_536;

/// Most points of a segment: rows are 32-bit numbers, and one of them means *none*.
pub const SEGMENT_ROWS_MAX: u32 = u32::MAX - 1;

/// Most sections of a segment: what fits beside the header into its first 16 KiB.
pub const SECTIONS_MAX: usize = 255;

/// Longest name of a kind of section, in bytes.
pub const SECTION_KIND_BYTES_MAX: usize = 16;
