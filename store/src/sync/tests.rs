//! The doors and the receiver over real endpoints on loopback, without any lookup or public relay.

mod control;
mod fetch;
mod hostile;
mod interop;
mod lan;
mod relay;
mod watch;
