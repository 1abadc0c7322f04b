//! Sync between peers over iroh: the endpoint, what we answer, and what we fetch.
//!
//! Two protocols share one UDP port. `/lode/1` ([`control`], [`session`]) carries hellos, capabilities,
//! refs, have-maps and peers. `/iroh-bytes/4` carries bytes: our [`provider`] speaks it to any iroh-blobs peer,
//! and [`receiver`] fetches from any. Every byte is verified before it reaches a sink.
//! The doors know no disk and no access rule: they see the traits of [`source`].

mod answer;
pub mod control;
mod decode;
mod encode;
pub mod endpoint;
pub mod frame;
pub mod grants;
pub mod hub;
pub mod lan;
pub mod lanes;
pub mod limits;
pub mod message;
pub mod neighbours;
pub mod provider;
pub mod rate;
pub mod receiver;
pub mod request;
#[doc(hidden)]
pub mod response;
pub mod selection;
pub mod session;
mod slots;
pub mod source;
pub mod uploads;
mod walk;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
