//! The vectors of a field: how they are stored, coded, linked and searched.
//!
//! A vector is there twice. Its *stored* form is what came in, in the dtype of the field. Its *code*, one signed byte a
//! component, lies in a [`records`] entry beside its links: a search finds its way by codes, and scores the best
//! by their stored form. Below some thousand vectors there are no links, and every code is looked at.
//!
//! - [`encode`] checks a vector and makes the stored form; [`Query`] is one that is searched for.
//! - [`LiveRows`] has vectors in memory, before they are in a segment; [`LiveBlocks`] searches several as one, exactly.
//! - [`Linked`] are those of a segment with the links that a [`GraphBuilder`] made, and their order; [`write_vectors`] writes
//!   them.
//! - [`VectorPart`] opens and searches them.

mod beam;
mod check;
mod coder;
mod floor;
mod graph;
mod half;
mod head;
mod kernel;
mod linked;
mod live;
mod order;
mod part;
mod pool;
mod query;
mod records;
mod rotation;
mod scan;
#[cfg(target_arch = "x86_64")]
mod simd;
mod sketch;
mod sketched;
mod stored;
mod write;

pub use check::{CheckVectorsError, Checked};
#[cfg(feature = "hnsw_rs")]
pub use graph::HnswRsBuilder;
pub use graph::{BatchBuilder, Codes, Graph, GraphBuilder, Layer};
pub use linked::Linked;
pub use live::{LiveBlocks, LiveRows};
pub use part::{OpenVectorsError, Plan, VectorPart};
pub use query::{Hit, Query, Search};
pub use stored::{VectorError, decode, encode};
pub use write::{VectorSource, WriteVectorsError, write_vectors};

/// Kind of the section with the parameters of a field.
const PARAMS: &str = "vec-params";

/// Kind of the section with the stored vectors of a field, row after row.
const VECTORS: &str = "vec-rows";

/// Kind of the section with the records of a field: codes and links of layer 0.
const CODES: &str = "vec-codes";

/// Kind of the section with the upper layers of a field's graph.
const LAYERS: &str = "vec-layers";

/// Kind of the section with the sketches of a field.
const SKETCH: &str = "vec-sketch";

#[cfg(test)]
mod tests;
