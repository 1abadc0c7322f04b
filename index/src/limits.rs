//! Every bound on collections. Each has a test that passes it by one.

/// Most components of a dense vector. The widest embedding models in use have 12,288.
pub const DIM_MAX: u32 = 65_536;

/// Most points of a segment: rows have 31 bits.
pub const SEGMENT_ROWS_MAX: u32 = 1 << 31;

/// Most sections of a segment: what fits beside the header into its first 16 KiB.
pub const SECTIONS_MAX: usize = 255;

/// Longest name of a kind of section, in bytes.
pub const SECTION_KIND_BYTES_MAX: usize = 16;

/// Most links of a point on layer 0 of a graph.
pub const LINKS_MAX: usize = 128;

/// Most layers of a graph above layer 0. With 16 links, a billion points have 7.
pub const LAYERS_MAX: usize = 16;

/// Fewest vectors that get a graph: for fewer, looking at all codes is as fast.
pub const GRAPH_ROWS_MIN: u32 = 4_000;

/// Most rows that a search along links keeps in sight, unless more are wanted.
pub const BREADTH_MAX: usize = 65_536;

/// Largest magnitude of a component: sums of squares of the longest vectors stay finite in a single.
pub const COMPONENT_MAX: f32 = 1e15;
