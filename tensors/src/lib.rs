//! What a model file is: headers, tensor names, shapes and byte ranges. No I/O, no async.
//!
//! Everything here is a plain function over bytes that somebody else read: hostile bytes give an
//! error, never a panic, and no memory is taken for a length before it is bounded.

mod dtype;
mod float;
mod gguf;
mod header;
pub mod limits;
mod metadata;
mod range;
mod runs;
mod safetensors;
mod shard_index;
pub mod slice;
mod subset;

pub use dtype::{Dtype, DtypeParseError};
pub use float::{Difference, Floats, difference, floats};
pub use header::{Format, Header, Invalid, ParseError, Tensor, Unsupported, parse};
pub use metadata::{Entry, Metadata, Value, ValueKind};
pub use range::ByteRange;
pub use runs::{RunPart, Runs};
pub use shard_index::{IndexError, IndexParseError, ShardIndex};
pub use slice::Cut;
pub use subset::{Placed, Subset, SubsetError, subset, subset_cut};
