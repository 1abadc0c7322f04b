//! Collections of vectors: points, a write-ahead log, immutable segments, search. Plain functions over files and
//! slices; no network, no async.
//!
//! A write goes to the log, and to the *live part*, all of which a search looks at. A commit freezes the live part
//! into a *segment*: one immutable file of fixed layout ([`segment`], docs/format/segment.md) that is mapped
//! and searched where it lies. Segments merge into larger ones; a delete is a tombstone until then.
//!
//! ```text
//! points -> log -> live part -> segments -> merged segments
//!                      \____________\____________\____ search, filtered by bitmaps of rows
//! ```
//!
//! Begin at [`Collection`]: [`Collection::apply`] writes [`operation::Operation`]s, [`Collection::view`] reads,
//! [`Collection::maintain`] is called in the background. Other files become points by [`import`].
//!
//! Inside a segment a point is a [`Row`]: its rank, the same in every section. What rows mean (ids, payloads)
//! is not known to the vector sections, and vectors are not known to the others.

mod bytes;
pub mod collection;
pub mod datetime;
pub mod disk;
pub mod filter;
pub mod geo;
mod id;
pub mod import;
pub mod limits;
mod live;
pub mod log;
mod mix;
mod mmap;
pub mod operation;
mod params;
mod part;
pub mod payload;
pub mod point;
mod rows;
pub mod schema;
pub mod segment;
mod state;
pub mod tokenizer;
mod top;
pub mod vectors;
pub mod view;

pub use collection::{Applied, Collection, CollectionError};
pub use filter::Filter;
pub use id::{PointId, PointIdError};
pub use params::{Dim, Dtype, Metric, ParamsError, VectorParams};
pub use payload::Payload;
pub use point::{Point, SparseVector, Vector};
pub use rows::{Row, RowSet};
pub use schema::CollectionConfig;
pub use view::{Report, SearchRequest, View};
