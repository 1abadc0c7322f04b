//! What a download takes from the store itself, before anything is fetched.

use std::sync::PoisonError;

use super::{
    Download, DownloadError, Output, State, all,
    coverage::{each, piece_range},
    layout::merge,
    lock,
};
use crate::{
    ErrorKind,
    outboard::{self, Outboard},
    store::ChunkReader,
};

/// Places of one chunk that are tried.
const TRIES: usize = 3;

impl Download {
    /// Copies what the store holds of what is missing, hashed on the way; returns the bytes that came so.
    ///
    /// # Errors
    /// What writing says. A chunk that cannot be read, or is not what it should be, stays missing.
    pub fn fill_local(&self) -> Result<u64, DownloadError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let before = self.done_bytes();
        let missing: Vec<u32> = {
            let coverage = lock(&self.coverage);
            let chunks = self.plan.chunks();
            chunks
                .filter(|chunk| !coverage.is_done(*chunk, self.plan.pieces(*chunk)))
                .collect()
        };
        match &*state {
            State::Writing(output) => {
                all(&missing, self.wanted_bytes - before, |chunk| {
                    self.fill_chunk(output, *chunk).map(|()| true)
                })?;
            }
            State::Gathering { gather, .. } => {
                for chunk in missing {
                    if self.protection.holds(&self.list.hashes[chunk as usize])? {
                        self.mark_all(chunk);
                        gather.forget(chunk);
                    }
                }
            }
            State::Kept(_) | State::KeptPart | State::Held | State::Ended => {}
        }
        Ok(self.done_bytes() - before)
    }

    fn fill_chunk(&self, output: &Output, chunk: u32) -> Result<(), DownloadError> {
        let hash = self.list.hashes[chunk as usize];
        for _ in 0..TRIES {
            let reader = match self.store.chunk(&hash) {
                Ok(Some(reader)) if reader.len() == self.len_of(chunk) => reader,
                Ok(_) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%hash, %error, "a chunk that is held cannot be read; it is fetched");
                    return Ok(());
                }
            };
            match self.copy(output, chunk, &reader) {
                // the place was given up: there may be another
                Err(DownloadError::Read(error))
                    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                Err(DownloadError::Read(error)) => {
                    tracing::warn!(%hash, %error, "a chunk that is held cannot be read; it is fetched");
                    return Ok(());
                }
                done => return done,
            }
        }
        Ok(())
    }

    fn copy(&self, output: &Output, chunk: u32, reader: &ChunkReader) -> Result<(), DownloadError> {
        let (hash, len) = (self.list.hashes[chunk as usize], self.len_of(chunk));
        let wrong = || {
            tracing::error!(%hash, "the store holds wrong bytes for a chunk; it is fetched (`lode scrub` finds it)");
        };
        if self.plan.is_whole(chunk, &(0..len)) {
            let bytes = reader.read(0..len)?;
            let (root, pairs) = outboard::compute(&bytes);
            if root != hash {
                wrong();
                return Ok(());
            }
            output.spread(&self.plan, chunk, 0, &bytes)?;
            output.write_outboard_at(self.outboards.start(chunk), &pairs)?;
            let nodes: Vec<_> = (0..)
                .zip(pairs.as_chunks::<64>().0.iter().copied())
                .collect();
            return self.wrote(output, chunk, &(0..len), &nodes);
        }
        let Ok(outboard) = Outboard::parse(hash, len, reader.outboard()?) else {
            wrong();
            return Ok(());
        };
        for piece in each(self.plan.pieces(chunk)) {
            // columns want something of nearly every group: each is read and hashed once
            let wanted = self.plan.wanted(chunk, &piece_range(piece, len));
            let groups = wanted.into_iter().map(|range| outboard.around(range));
            for groups in merge(groups) {
                let bytes = reader.read(groups.clone())?;
                if outboard.verify(groups.start, &bytes).is_err() {
                    wrong();
                    return Ok(());
                }
                output.spread(&self.plan, chunk, groups.start, &bytes)?;
                self.wrote(output, chunk, &groups, &[])?;
            }
        }
        Ok(())
    }
}
