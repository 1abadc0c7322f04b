//! What a gateway promises its clients, over real connections on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

mod access;
#[path = "../common/client.rs"]
mod client;
mod clients;
mod collections;
mod control;
mod distant;
#[path = "../common/guarded.rs"]
mod guarded;
mod hub;
mod limits;
mod matrix;
#[path = "../../../quantize/tests/models/mod.rs"]
mod models;
mod oci;
mod openapi;
#[path = "../common/origin.rs"]
mod origin;
#[path = "../../../node/tests/common/published.rs"]
mod published;
mod qdrant;
mod reading;
#[path = "../../../node/tests/common/hub.rs"]
#[allow(dead_code)]
mod stub_hub;
mod uploads;
mod upstream;
mod xet;
