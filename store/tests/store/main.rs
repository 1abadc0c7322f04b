//! The store on disk, from outside: promises, planted damage, crashes, collection, formats.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

mod basic;
mod common;
mod content;
mod crash;
mod format_examples;
mod gc;
mod golden_cuts;
mod hand;
mod planted;
mod signed;
