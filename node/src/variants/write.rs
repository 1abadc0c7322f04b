//! Writes files of a variant into a folder: all of a file, or chosen tensors of it.

use std::{path::Path, sync::Arc};

use lode_store::download::{MadeFile, Written};
use lode_tensors::{ByteRange, Cut, Tensor};

use super::{Opener, VariantAt, limits::WRITE_BYTES, open::blocking};
use crate::{EventSink, Node, command::Failure};

/// Where files go, and who is told.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) node: Node,
    pub(super) opener: Opener,
    pub(super) at: Arc<VariantAt>,
    pub(super) folder: Arc<Path>,
    pub(super) force: bool,
    pub(super) events: EventSink,
}

/// How far a writer has come, of all bytes that it writes.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) bytes: u64,
    pub(super) total: u64,
}

/// What of a file is written, and how long that is.
pub(super) struct Part {
    file: usize,
    pub(super) len: u64,
    pieces: Vec<Piece>,
}

/// A range of the made file, or bytes that stand before or between ranges.
enum Piece {
    Bytes(Vec<u8>),
    Range(ByteRange),
}

impl Writer {
    /// All of a file.
    pub(super) fn whole(&self, file: usize) -> Part {
        let len = self.at.files[file].len;
        let pieces = vec![Piece::Range(ByteRange { start: 0, end: len })];
        Part { file, len, pieces }
    }

    /// What `choose` says of the tensors of a file, as a file of its own; nothing when that is nothing. Nothing but
    /// headers is read.
    pub(super) async fn tensors(
        &self,
        file: usize,
        choose: &mut (dyn FnMut(&Tensor) -> Result<Option<Cut>, Failure> + Send),
    ) -> Result<Option<Part>, Failure> {
        let reader = Arc::new(self.opener.reader(&self.at, file).await?);
        let (header, bytes) = reader.header().await?;
        let mut chosen = Vec::new();
        for (at, tensor) in header.tensors.iter().enumerate() {
            chosen.extend(choose(tensor)?.map(|cut| (at, cut)));
        }
        if chosen.is_empty() {
            return Ok(None);
        }
        let subset = lode_tensors::subset_cut(&header, &bytes, &chosen)
            .map_err(|error| Failure::usage(format!("{}: {error}", self.at.files[file].path)))?;
        let mut end = subset.header.len() as u64;
        let mut pieces = vec![Piece::Bytes(subset.header)];
        let zeros = |from: u64, to: u64| {
            let len = usize::try_from(to - from).expect("padding is shorter than an alignment");
            Piece::Bytes(vec![0; len])
        };
        for placed in &subset.tensors {
            pieces.push(zeros(end, placed.offset));
            for runs in &placed.runs {
                pieces.extend(
                    runs.inside(runs.span())
                        .map(|part| Piece::Range(part.range)),
                );
            }
            end = placed.offset + placed.len;
        }
        pieces.push(zeros(end, subset.len));
        let len = subset.len;
        Ok(Some(Part { file, len, pieces }))
    }

    /// Writes a small file.
    pub(super) async fn bytes(&self, path: &str, bytes: Vec<u8>) -> Result<Written, Failure> {
        let (store, folder) = (self.node.store().clone(), Arc::clone(&self.folder));
        let (path, force) = (path.to_owned(), self.force);
        let write = move || -> Result<Written, Failure> {
            let mut out = MadeFile::begin(&store, &folder, &path, bytes.len() as u64, force)?;
            out.write(&bytes)?;
            Ok(out.finish()?)
        };
        blocking(write).await
    }

    /// Makes a part of a file and writes it under the file's name.
    pub(super) async fn write(&self, part: Part, done: &mut Done) -> Result<Written, Failure> {
        let Part { file, len, pieces } = part;
        let path = &self.at.files[file].path;
        let (store, folder) = (self.node.store().clone(), Arc::clone(&self.folder));
        let (name, force) = (path.clone(), self.force);
        let begin = move || Ok(MadeFile::begin(&store, &folder, &name, len, force)?);
        let mut out = blocking(begin).await?;
        let reader = Arc::new(self.opener.reader(&self.at, file).await?);
        // The next step is made while the last one is written.
        let mut making: Option<tokio::task::JoinHandle<Result<bytes::Bytes, Failure>>> = None;
        let mut steps = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) if bytes.is_empty() => {}
                Piece::Bytes(bytes) => steps.push(Piece::Bytes(bytes)),
                Piece::Range(range) => steps.extend(in_steps(range).map(Piece::Range)),
            }
        }
        for step in steps.into_iter().map(Some).chain([None]) {
            if self.events.is_cancelled() {
                return Err(Failure::cancelled());
            }
            let next = step.map(|step| {
                let reader = Arc::clone(&reader);
                tokio::spawn(async move {
                    match step {
                        Piece::Bytes(bytes) => Ok(bytes.into()),
                        Piece::Range(range) => reader.make(range).await,
                    }
                })
            });
            if let Some(made) = std::mem::replace(&mut making, next) {
                let bytes = made
                    .await
                    .map_err(|error| Failure::failed(format!("making stopped: {error}")))??;
                done.bytes += bytes.len() as u64;
                let write = move || -> Result<MadeFile, Failure> {
                    out.write(&bytes)?;
                    Ok(out)
                };
                out = blocking(write).await?;
                self.events.progress("make", done.bytes, done.total, 0);
            }
        }
        blocking(move || Ok(out.finish()?)).await
    }
}

/// The steps in which a range is made.
fn in_steps(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let end = range.end.min(start.saturating_add(WRITE_BYTES));
        let step = ByteRange { start, end };
        start = end;
        (!step.is_empty()).then_some(step)
    })
}
