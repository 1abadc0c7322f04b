//! What a model file is: headers, tensor names, shapes and byte ranges. No I/O, no async.
//!
//! Everything here is a plain function over bytes that somebody else read: hostile bytes give an
//! error, never a panic, and no memory is taken for a length before it is bounded.

mod range;

pub use range::ByteRange;
