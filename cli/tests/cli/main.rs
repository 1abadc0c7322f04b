//! What `lode` promises who runs it, with the real binary.
#![allow(clippy::unwrap_used)]

mod access;
mod binary;
mod collections;
mod common;
mod home;
