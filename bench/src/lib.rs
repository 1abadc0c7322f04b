//! What the programs of this folder share.

pub mod cut;
pub mod llama;
pub mod plain;
pub mod size;
