//! What variants promise: bytes of reference tools, ranges equal to the whole, refusals that say why.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stderr
)]

mod conversions;
mod golden;
#[path = "../inputs/mod.rs"]
mod inputs;
#[path = "../models/mod.rs"]
mod models;
mod refusals;
#[path = "../safetensors_model/mod.rs"]
mod safetensors_model;
mod safetensors_variants;
mod twins;
mod variants;
