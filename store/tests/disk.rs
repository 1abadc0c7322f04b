//! The store on disk, from outside: promises, planted damage, crashes, collection.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "disk/basic.rs"]
mod basic;
#[path = "disk/common.rs"]
mod common;
#[path = "disk/content.rs"]
mod content;
#[path = "disk/crash.rs"]
mod crash;
#[path = "disk/gc.rs"]
mod gc;
#[path = "disk/hand.rs"]
mod hand;
#[path = "disk/planted.rs"]
mod planted;
#[path = "disk/signed.rs"]
mod signed;
