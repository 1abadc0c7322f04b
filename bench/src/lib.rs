//! What the programs of this folder share.

pub mod llama;
pub mod size;
