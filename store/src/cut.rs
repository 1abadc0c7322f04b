//! Cut rules: where a file is divided into chunks when it is first read.
//!
//! `tensors/1` follows the tensors of a model file, `sections/1` the sections of an index segment; both need only
//! its header. `cdc/1` follows the content of any other file. All are fixed for ever (docs/format/cutting.md, golden cuts in
//! testdata/cuts): a change is a new rule under a new name. Readers never cut again: they trust the
//! lengths that were signed.

mod cdc;
mod sections;
mod tensors;

pub use cdc::{CdcCutter, cdc_cuts};
pub use sections::{SECTION_ALIGN_BYTES, is_segment, section_cuts};
pub use tensors::tensor_cuts;

/// Name of the rule for model files.
pub const TENSORS_1: &str = "tensors/1";
/// Name of the rule for index segments.
pub const SECTIONS_1: &str = "sections/1";
/// Name of the rule for all other files.
pub const CDC_1: &str = "cdc/1";

/// Longest chunk that any rule makes, in bytes.
pub const CHUNK_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// How a file is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuts {
    /// The rule's name, as it is written into the chunk list.
    pub rule: &'static str,
    /// Length of each chunk in bytes, 1 to [`CHUNK_BYTES_MAX`] each; their sum is the file's length.
    pub lengths: Vec<u32>,
}
