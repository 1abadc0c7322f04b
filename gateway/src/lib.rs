//! HTTP over a node: its dialects, control over a Unix socket, health and figures.
//!
//! A request passes [`guard`] (who asks), [`route`] (what for), its scope (with what means) and a
//! handler. Bodies are read step by step ([`body`]), whatever their length.

pub mod answer;
pub mod body;
pub mod collections;
pub mod condition;
pub mod content;
pub mod control;
mod cors;
mod crowd;
pub mod describe;
pub mod dialect;
mod file;
pub mod gateway;
pub mod guard;
mod hub;
mod in_place;
mod intake;
pub mod kept;
pub mod limits;
mod made;
pub mod metrics;
pub mod multipart;
mod native;
pub mod oci;
mod openapi;
mod pace;
mod patience;
mod place;
pub mod policy;
pub mod qdrant;
pub mod range;
pub mod reader;
pub mod route;
pub mod scope;
mod server;
mod stall;
pub mod stored;
pub mod target;
pub mod tls;
mod upstream;
pub mod visitor;
pub mod writer;
pub mod xet;

pub use server::{Running, ServeError, ServeOptions, serve};

#[cfg(test)]
#[path = "../../node/tests/common/published.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation)]
mod published;
