//! The running peer: the only place that joins the store with everything built on it.

pub mod command;
mod events;
pub mod keys;
pub mod read;

pub use events::{EventSink, JobGuard, Jobs};
