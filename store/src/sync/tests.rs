//! The doors and the receiver over real endpoints on loopback, without any relay or lookup.

mod control;
mod fetch;
mod lan;
mod watch;
