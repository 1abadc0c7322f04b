//! What a node promises, over real homes and real endpoints.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod collections;
mod common;
#[path = "../common/hub.rs"]
mod hub;
mod lan;
#[path = "../../../quantize/tests/models/mod.rs"]
mod models;
mod origins;
mod peers;
#[path = "../common/published.rs"]
#[allow(dead_code)]
mod published;
mod read;
mod slices;
mod stock;
mod swarm;
mod transfers;
mod uploads;
mod variants;
mod versions;
