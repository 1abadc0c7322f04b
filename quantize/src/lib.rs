//! Block formats of quantized weights: rows in, blocks out, and back. No I/O, no async.
//!
//! The bytes are those of llama.cpp's reference code on x86-64, on every machine and every path: each sum
//! runs in the reference's order, products are rounded before they are added (no fused operation), and no
//! function of the C library but `sqrt` and `round`, which are exact, takes part. Blocks do not see one
//! another, so any range of a row can be made alone ([`BlockType::weights_of`]).
//!
//! Each type has a module with its layout and scalar code, which is the specification. The module `simd`
//! holds faster twins, chosen by what the machine has ([`Path`]), which tests hold to the same bytes.

mod affine_k;
mod block;
mod block_rows;
mod compressed;
mod convert;
mod gguf;
mod half;
mod iq4;
mod kernel;
pub mod limits;
mod mxfp4;
mod path;
mod q2_k;
mod q3_k;
mod q4;
mod q5;
mod q6_k;
mod q8_0;
mod recipe;
mod row;
mod search;
#[cfg(target_arch = "x86_64")]
mod simd;
mod source;
pub mod variant;
mod virtual_file;
mod weights;

pub use block::{BlockType, RowError};
pub use compressed::Scheme;
pub use gguf::mixture::Mixture;
pub use path::Path;
pub use recipe::{Method, Recipe, RecipeError};
pub use row::{
    DequantizeError, QuantizeError, dequantize_row, dequantize_row_on, quantize_row,
    quantize_row_on,
};
pub use source::{Content, Gathered, Source, SourceFile, SourceRange, Wanted};
pub use virtual_file::{MakeError, VirtualFile};
pub use weights::Weights;
