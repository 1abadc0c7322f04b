//! Chunks of a file that is still being received, for those who ask this node for them.
//!
//! What is served are whole pieces that were verified, written and journalled. They lie in files that
//! others may change, and nothing here checks them: whoever passes them on hashes them against the pairs of
//! the outboard, and those up to the chunk's hash.

use std::{
    io,
    ops::Range,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;

use super::{
    Download, State,
    coverage::{each, piece_range, pieces_of},
    lock,
};
use crate::outboard;

impl Download {
    /// The pieces of a chunk (by its number in the list) that others can have already, a bit each. None of a
    /// file that goes to packs, nor of a chunk that is not wanted whole: they keep no outboard.
    pub fn pieces(&self, chunk: u32) -> u16 {
        let Some(chunk) = self.plan.first(chunk) else {
            return 0;
        };
        // Whoever ends the download holds the lock for long; its pieces are in the store after that.
        let Ok(state) = self.state.try_read() else {
            return 0;
        };
        let State::Writing(output) = &*state else {
            return 0;
        };
        let len = self.len_of(chunk);
        if !output.has_outboards() || !self.plan.is_whole(chunk, &(0..len)) {
            return 0;
        }
        lock(&self.coverage).done(chunk) & pieces_of(&(0..len))
    }

    /// Whether what comes is gathered for packs, of which others can have nothing before the end.
    pub fn is_gathered(&self) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Gathering { .. })
    }

    /// A chunk of which others can have some pieces.
    pub fn received(self: &Arc<Self>, chunk: u32) -> Option<ReceivedChunk> {
        let first = self.plan.first(chunk)?;
        let pieces = self.pieces(first);
        (pieces != 0).then(|| ReceivedChunk {
            download: Arc::clone(self),
            chunk: first,
            pieces,
        })
    }
}

/// A chunk that is being received.
#[derive(Debug)]
pub struct ReceivedChunk {
    download: Arc<Download>,
    chunk: u32,
    pieces: u16,
}

impl ReceivedChunk {
    /// Bytes of the chunk.
    pub fn size(&self) -> u32 {
        self.download.len_of(self.chunk)
    }

    /// The ranges of it that are there, in order.
    pub fn held(&self) -> Vec<Range<u32>> {
        let mut held: Vec<Range<u32>> = Vec::new();
        for piece in each(self.pieces) {
            let range = piece_range(piece, self.size());
            match held.last_mut().filter(|last| last.end == range.start) {
                Some(last) => last.end = range.end,
                None => held.push(range),
            }
        }
        held
    }

    /// Reads a range that is there; unchecked.
    ///
    /// # Errors
    /// When the download has ended (look for the chunk in the store), or the file cannot be read.
    pub fn read(&self, range: &Range<u32>) -> io::Result<Bytes> {
        let state = self.download.state.try_read();
        let Some(State::Writing(output)) = state.as_deref().ok() else {
            return Err(moved());
        };
        let bytes = output
            .gather(&self.download.plan, self.chunk, range)
            .map_err(io::Error::other)?;
        Ok(bytes.ok_or_else(moved)?.into())
    }

    /// Its outboard, unchecked: the pairs above what is there, zeros where nothing is known yet.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn outboard(&self) -> io::Result<Bytes> {
        let size = outboard::size(self.size()) as usize;
        if size == 0 {
            return Ok(Bytes::new());
        }
        let state = self.download.state.try_read();
        let Some(State::Writing(output)) = state.as_deref().ok() else {
            return Err(moved());
        };
        let start = self.download.outboards.start(self.chunk);
        if let Some(pairs) = output.read_outboard_at(start, size) {
            return Ok(pairs.into());
        }
        // The file ends before the outboard does, as long as its last pairs have not come.
        let pairs = (0..size / PAIR).flat_map(|index| {
            let pair = output.read_outboard_at(start + (index * PAIR) as u64, PAIR);
            pair.unwrap_or_else(|| vec![0; PAIR])
        });
        Ok(pairs.collect::<Vec<u8>>().into())
    }
}

/// Bytes of a pair of an outboard.
const PAIR: usize = 64;

fn moved() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the download has ended")
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        clippy::single_range_in_vec_init
    )]
    //! The loss that these tests prevent: wrong bytes, or none, for those who ask a node that is still receiving.

    use super::super::{Layout, Options, Target, tests::Source};
    use super::*;
    use crate::{Store, outboard::Outboard};

    #[test]
    fn pieces_are_there_for_others_as_soon_as_they_are_written_and_until_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        let source = Source::new(&[5 << 20, 1 << 20, 100], 1);
        let layout = Layout::whole(&source.list);
        let list = Arc::clone(&source.list);
        let begun = Download::begin(&store, list, &layout, &Target::Store, &Options::default());
        let download = Arc::new(begun.unwrap());
        assert!(!download.is_gathered());
        assert!(download.received(0).is_none());
        source.deliver(&download, 0, 1 << 20..3 << 20).unwrap();
        // Half a piece is nothing yet.
        source
            .deliver(&download, 0, 3 << 20..(3 << 20) + 16_384)
            .unwrap();
        assert_eq!(download.pieces(0), 0b110);
        let chunk = download.received(0).unwrap();
        assert_eq!(
            (chunk.size(), chunk.held()),
            (5 << 20, vec![1 << 20..3 << 20])
        );
        assert_eq!(
            chunk.read(&(1 << 20..2 << 20)).unwrap(),
            source.chunk(0)[1 << 20..2 << 20]
        );
        assert_eq!(
            chunk.outboard().unwrap().len() as u32,
            outboard::size(5 << 20)
        );
        for range in [0..1 << 20, 3 << 20..5 << 20] {
            source.deliver(&download, 0, range).unwrap();
        }
        let whole = download.received(0).unwrap();
        assert_eq!(whole.held(), vec![0..5 << 20]);
        let (hash, len) = (source.list.hashes[0], whole.size());
        Outboard::parse(hash, len, whole.outboard().unwrap()).unwrap();
        source.deliver(&download, 1, 0..1 << 20).unwrap();
        source.deliver(&download, 2, 0..100).unwrap();
        assert_eq!(
            (download.pieces(1), download.pieces(2), download.pieces(9)),
            (1, 1, 0)
        );
        download.finish().unwrap();
        assert_eq!(download.pieces(0), 0);
        assert!(whole.read(&(0..100)).is_err() && whole.outboard().is_err());
        assert!(store.holds(&hash).unwrap());
    }

    #[test]
    fn of_what_is_gathered_for_packs_nothing_is_there_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        let source = Source::new(&[1 << 20, 100], 1);
        let layout = Layout::whole(&source.list);
        let list = Arc::clone(&source.list);
        let begun = Download::begin(&store, list, &layout, &Target::Store, &Options::default());
        let download = Arc::new(begun.unwrap());
        assert!(download.is_gathered());
        source.deliver(&download, 0, 0..1 << 20).unwrap();
        assert!(download.received(0).is_none());
    }

    #[test]
    fn of_two_who_bring_the_last_pieces_of_a_chunk_one_alone_stores_it() {
        // A race once let both, and the second one found nothing. They have to meet, so they try often.
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        let (piece, group) = (1 << 20, 16_384);
        let last = |half: u32| (half + 1) * piece - group..(half + 1) * piece;
        for seed in 0..200 {
            let source = Source::new(&[2 * piece], seed);
            let layout = Layout::whole(&source.list);
            let list = Arc::clone(&source.list);
            let begun = Download::begin(&store, list, &layout, &Target::Store, &Options::default());
            let download = begun.unwrap();
            assert!(download.is_gathered());
            for half in 0..2 {
                let most = half * piece..last(half).start;
                source.deliver(&download, 0, most).unwrap();
            }
            let meet = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for half in 0..2 {
                    let (source, download, meet) = (&source, &download, &meet);
                    scope.spawn(move || {
                        meet.wait();
                        source.deliver(download, 0, last(half)).unwrap();
                    });
                }
            });
            download.finish().unwrap();
        }
    }
}
