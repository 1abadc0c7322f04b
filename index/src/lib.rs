//! Collections of vectors: points, a write-ahead log, immutable segments, search. Plain functions over files and
//! slices; no network, no async.
//!
//! A write goes to the log, and to the *live part*, which is searched exactly. A commit freezes the live part
//! into a *segment*: one immutable file of fixed layout ([`segment`], docs/format/segment.md) that is mapped
//! and searched where it lies. Segments merge into larger ones; a delete is a tombstone until then.
//!
//! ```text
//! points -> log -> live part -> segments -> merged segments
//!                      \____________\____________\____ search, filtered by bitmaps of rows
//! ```
//!
//! Inside a segment a point is a [`Row`]: its rank, the same in every section. What rows mean (ids, payloads)
//! is not known to the vector sections, and vectors are not known to the others.

pub mod limits;
mod mmap;
mod params;
mod rows;
pub mod segment;
pub mod vectors;

pub use params::{Dim, Dtype, Metric, ParamsError, VectorParams};
pub use rows::{Row, RowSet};
