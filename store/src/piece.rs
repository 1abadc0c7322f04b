//! Where verified bytes of a chunk go: the border between the receiver and what it fills.
//!
//! The receiver checks every 16 KiB group against the chunk's hash before it calls [`PieceSink`], so a
//! sink never sees a wrong byte; what the sink does with it (a container, a part file, memory) is its own.

use std::io;

/// A node of a chunk's outboard: its place in the pre-order outboard (nodes of 64 bytes, counted from 0)
/// and the two chaining values under it.
pub type Parent = (u32, [u8; 64]);

/// Takes verified groups of the chunks of one file, in any order, from several threads.
///
/// A group may come twice (end-game): storing it again must do no harm.
pub trait PieceSink: Send + Sync {
    /// Stores verified bytes of chunk number `chunk` of the file's chunk list, from `offset` in that chunk.
    ///
    /// `data` covers whole 16 KiB groups (the chunk's last one may be short), except where the request
    /// asked for less than a group. `parents` are the nodes of the outboard that came along.
    ///
    /// # Errors
    /// Whatever the target reports (disk full, folder gone); the receiver stops the transfer with it.
    fn store(&self, chunk: u32, offset: u32, data: &[u8], parents: &[Parent]) -> io::Result<()>;

    /// Whether storing may wait for a device. Bytes for memory alone are verified and stored where they are
    /// received, in small steps, so that a reader has the first of them early and no thread is woken for a
    /// few.
    fn may_wait(&self) -> bool {
        true
    }
}
