//! The cutting and BLAKE3 side of a push, without its SHA-256.

use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use lode_store::{
    cut::tensor_cuts,
    hashing::{FileHashes, Handle, HashOptions, HashedChunk, Plan, Source, Visitor, hash_files},
    sidecar::Pins,
    tree::ChunkList,
};
use lode_tensors::{ParseError, limits::PREFIX_BYTES_FIRST};

#[derive(Default)]
struct Cut {
    done: Mutex<Option<FileHashes>>,
}

impl Visitor for Cut {
    type Error = io::Error;

    fn open(&self, _: usize, handle: &Handle, pins: &Pins) -> io::Result<Plan> {
        let mut wanted = PREFIX_BYTES_FIRST.min(pins.len);
        loop {
            let mut prefix = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
            handle.read_exact_at(&mut prefix, 0)?;
            match lode_tensors::parse(&prefix, pins.len) {
                Ok(header) => return Ok(Plan::Known(tensor_cuts(&header, pins.len))),
                Err(ParseError::NeedMore { bytes }) => wanted = bytes,
                Err(_) => return Ok(Plan::Content),
            }
        }
    }

    fn chunk(&self, chunk: HashedChunk<'_>) -> io::Result<()> {
        std::hint::black_box((chunk.hash, chunk.outboard.len()));
        Ok(())
    }

    fn done(&self, _: usize, hashes: FileHashes) -> io::Result<()> {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(hashes);
        Ok(())
    }
}

/// Cuts and hashes a file on so many threads (0: one a core), as a push does; SHA-256 is left out.
///
/// # Errors
/// When it cannot be read.
pub fn hash(file: &Path, threads: usize) -> io::Result<FileHashes> {
    let options = HashOptions {
        threads,
        digests: false,
        ..HashOptions::default()
    };
    let cut = Cut::default();
    let path = file.to_owned();
    hash_files(&[Source::File { path }], &options, &cut).map_err(io::Error::other)?;
    let done = cut
        .done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    done.ok_or_else(|| io::Error::other("the file was not finished"))
}

/// The chunks of a file, and the rule that cut them.
///
/// # Errors
/// When it cannot be read.
pub fn chunk_list(file: &Path) -> io::Result<(ChunkList, String)> {
    let hashes = hash(file, 0)?;
    let (rule, lengths) = (hashes.rule.to_owned(), hashes.lengths);
    let hashes = hashes.chunks;
    Ok((ChunkList { hashes, lengths }, rule))
}
