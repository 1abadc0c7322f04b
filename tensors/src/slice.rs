//! What one rank of a model needs: which tensors, and which rows or columns of them.
//!
//! A [`Slice`] is what a person asks for (`tp=2/8`, `layers=0..16`, `experts=0..8`), an
//! [`Architecture`] what `config.json` says, and a [`Slicer`] makes of both a [`Cut`] for every tensor.
//! It knows tensors by their names, and holds their shapes against the architecture: what does not
//! match is refused, never cut by guess.

mod architecture;
mod cut;
mod expr;
mod rules;

pub use architecture::{Architecture, ArchitectureError, Family};
pub use cut::{Cut, CutError};
pub use expr::{Ranks, Slice, SliceParseError, parse_range};
pub use rules::{SliceError, Slicer};
