//! The content-addressed storage of Xet: what current clients of the Hub send large files with, and read them by
//! where that is switched on.
//!
//! A client cuts a file into chunks, gathers those into *xorbs* of up to 64 MiB, and says in a *shard* which
//! chunks of which xorbs a file is made of. Chunks are named by a keyed BLAKE3, xorbs by the root of a tree over
//! their chunks. Nothing that a client says of its bytes is believed: xorbs are decoded and hashed, and a file
//! made of them must have the SHA-256 of the shard. Layouts are those of the crate `xet-core-structures` 1.8 and
//! of the Xet protocol's specification; formats are read in [`hash`], [`xorb`] and [`shard`].
//!
//! Nothing is stored in xorbs. Those that a client reads are made of a file's bytes while they are sent, and what is kept
//! of a file for that is its [`outline`].

pub(crate) mod cas;
pub mod cutter;
pub mod hash;
pub mod outline;
pub(crate) mod outlines;
pub(crate) mod read;
pub mod shard;
pub mod xorb;
