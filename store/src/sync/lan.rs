//! The LAN path: answers of `/iroh-bytes/4` over plain TCP, for public models between machines of one network.
//!
//! QUIC spends four times the processor time of TCP on a byte. So a peer whose connection of `/lode/1` comes
//! from a private address may ask there for tokens ([`token`]), each good for one TCP connection
//! ([`server`], [`client`]) and for the bytes of one public version. Requests and answers are those of
//! `/iroh-bytes/4`, framed by [`wire`]: verification and access stay the same code.
//! The layout, and what an attacker on the wire can and cannot do: docs/format/lan.md.

pub(super) mod address;
pub(super) mod client;
pub(super) mod server;
mod token;
pub mod wire;

pub use client::LanDialler;
pub use server::{Lan, LanDoor};

/// What a hello names when the LAN path is on.
pub const FEATURE: &str = "lan/1";
