//! The running peer: the only place that joins the store with everything built on it.

mod book;
mod capabilities;
mod check;
pub mod collections;
pub mod command;
mod diff;
mod doors;
mod events;
mod failure;
pub mod fetch;
pub mod keys;
mod lineage;
mod models;
mod network;
mod node;
pub mod origin;
mod publisher;
mod pull;
mod push;
pub mod read;
mod receiving;
mod refs;
mod remove;
mod resolve;
mod share;
mod status;
pub mod tokens;
pub mod upload;
pub mod variants;

pub use events::{EventSink, JobGuard, Jobs};
pub use network::{Network, NetworkOptions};
pub use node::{Node, NodeOptions};
