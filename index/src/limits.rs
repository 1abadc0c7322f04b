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

/// Fewest vectors that get a graph: for fewer, looking at all codes is as fast (docs/benchmarks.md).
pub const GRAPH_ROWS_MIN: u32 = 2_048;

/// Fewest components of vectors that get sketches.
pub const SKETCH_DIM_MIN: usize = 32;

/// Fewest components of vectors whose sketches have one bit a component; below, they have two.
pub const SKETCH_ONE_BIT_DIM_MIN: usize = 256;

/// Fewest vectors that get sketches.
pub const SKETCH_VECTORS_MIN: u32 = 1024;

/// Most rows that a search along links keeps in sight, unless more are wanted.
pub const BREADTH_MAX: usize = 65_536;

/// Largest magnitude of a component: sums of squares of the longest vectors stay finite in a single.
pub const COMPONENT_MAX: f32 = 1e15;

/// Bytes of a payload as it is kept: 16 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Objects and arrays inside one another in a payload.
pub const PAYLOAD_DEPTH_MAX: usize = 64;

/// Bytes of the path to a payload field.
pub const PATH_BYTES_MAX: usize = 1024;

/// Steps of the path to a payload field.
pub const PATH_STEPS_MAX: usize = 64;

/// Bytes of a word of a text field; longer ones are not found.
pub const TOKEN_BYTES_MAX: usize = 256;

/// Conditions of a filter, in all of its clauses together.
pub const FILTER_CONDITIONS_MAX: usize = 4096;

/// Filters inside one another.
pub const FILTER_DEPTH_MAX: usize = 16;

/// Ids, values to compare with and corners of areas of a filter, together.
pub const FILTER_VALUES_MAX: usize = 65_536;

/// Bytes of a filter in its short form, and of a text to look for.
pub const FILTER_TEXT_BYTES_MAX: usize = 64 << 10;

/// Dense and sparse vectors of a point.
pub const VECTORS_MAX: usize = 32;

/// Bytes of the name of a vector.
pub const NAME_BYTES_MAX: usize = 255;

/// Payload fields that are indexed.
pub const PAYLOAD_INDEXES_MAX: usize = 64;

/// Components of a sparse vector that are not zero.
pub const SPARSE_NONZERO_MAX: usize = 65_536;

/// Bytes of what writers hand in together to the log: 64 MiB.
pub const LOG_GROUP_BYTES_MAX: usize = 64 << 20;

/// Bytes of one file of the log: what live parts of [`LIVE_BYTES_MAX`] and operations without points may make.
pub const LOG_FILE_BYTES_MAX: u64 = 1 << 30;

/// Points of the live part, dead ones too; the write that fills it seals it. A search looks at all of it.
pub const LIVE_POINTS_MAX: u32 = 16_384;

/// Points of segments without a graph, which a search looks at one by one; where there are more, they become one segment
/// that has one.
pub const SCANNED_POINTS_MAX: u64 = 16_384;

/// Bytes of vectors and payloads of the live part: 64 MiB.
pub const LIVE_BYTES_MAX: usize = 64 << 20;

/// Sealed live parts that wait to become segments; a writer that would make one more waits itself.
pub const SEALED_PARTS_MAX: usize = 4;

/// Points of an operation.
pub const OPERATION_POINTS_MAX: usize = 65_536;

/// Bytes of a collection's head: configuration, segments, tombstones.
pub const HEAD_BYTES_MAX: u64 = 1 << 30;

/// Segments of a collection.
pub const SEGMENTS_MAX: usize = 4096;

/// Results of a search, a scroll or a facet.
pub const RESULTS_MAX: usize = 65_536;

/// Bytes of the longest text that a keyword index has; longer ones are found by looking at payloads.
pub const TERM_BYTES_MAX: usize = 512;

/// Bytes of a file of the log after which the live part is sealed, so that another file begins: 128 MiB.
pub const LOG_SEAL_BYTES: u64 = 128 << 20;

/// Segments of one size that merge at once.
pub const MERGE_SEGMENTS: usize = 8;

/// Bytes of what a segment says of its fields: 1 MiB.
pub const META_BYTES_MAX: usize = 1 << 20;

/// Bytes of a line of JSON or CSV that is imported: 32 MiB.
pub const IMPORT_RECORD_BYTES_MAX: usize = 32 << 20;

/// Bytes of records after which a batch that is imported ends: 8 MiB.
pub const IMPORT_BATCH_BYTES: usize = 8 << 20;

/// Bytes of the header of a `.npy` file: 64 KiB.
pub const NPY_HEADER_BYTES_MAX: usize = 64 << 10;

/// Columns of a CSV file.
pub const CSV_COLUMNS_MAX: usize = 4096;

/// Points that a change by filter changes at once: each becomes a row of the live part.
pub const CHANGE_POINTS_MAX: usize = 8192;

/// Bytes of the footer of a Parquet file, which names its columns and pages: 64 MiB.
pub const PARQUET_FOOTER_BYTES_MAX: u32 = 64 << 20;

/// Columns of a Parquet file.
pub const PARQUET_COLUMNS_MAX: usize = 4096;
