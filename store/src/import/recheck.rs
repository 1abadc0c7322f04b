//! Files that were changed shortly before they were hashed in place: hashed again.
//!
//! A file system's clock ticks coarsely, so a second change right after the first may leave the same
//! times. Once the times are old enough that the next change must show, the file is hashed again: if
//! it still is what it was, its pins can be trusted from then on.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    cut::Cuts,
    hashing::{
        FileHashes, Handle, HashError, HashOptions, HashedChunk, Plan, Source, Visitor, age,
        hash_files,
    },
    sidecar::Pins,
};

use super::{
    ImportError,
    session::{Session, WaitingOutside},
    target::lock,
};

/// How often a waiting import looks whether it is cancelled.
const WAIT: Duration = Duration::from_millis(20);

impl Session<'_> {
    /// Hashes again what was changed less than `settle` before it was hashed.
    pub(super) fn recheck_recent(&self, settle: Duration) -> Result<(), ImportError> {
        let results = lock(&self.results);
        let recent: Vec<&WaitingOutside> = results
            .outsides
            .iter()
            .filter(|outside| outside.recent)
            .collect();
        if recent.is_empty() {
            return Ok(());
        }
        // a clock that was set back must not make this wait for longer
        let until = Instant::now() + settle;
        let young = |outside: &&WaitingOutside| age(&outside.pins, SystemTime::now()) < settle;
        while recent.iter().any(young) && Instant::now() < until {
            if self.sink.cancelled() {
                return Err(ImportError::Cancelled);
            }
            thread::sleep(WAIT);
        }
        let files: Vec<Source> = recent
            .iter()
            .map(|outside| Source::File {
                path: outside.path.clone(),
            })
            .collect();
        let options = HashOptions {
            threads: self.options.threads,
            roots: false,
            digests: false,
        };
        let again = Again {
            session: self,
            recent: &recent,
        };
        hash_files(&files, &options, &again).map_err(|error| match error {
            HashError::Visitor(Differs { file }) => ImportError::Changed {
                path: recent[file].path.clone(),
            },
            HashError::Io { path, source } => ImportError::Io { path, source },
            HashError::Changed { path } => ImportError::Changed { path },
            HashError::Cancelled => ImportError::Cancelled,
        })
    }
}

struct Again<'a> {
    session: &'a Session<'a>,
    recent: &'a [&'a WaitingOutside],
}

struct Differs {
    file: usize,
}

impl Visitor for Again<'_> {
    type Error = Differs;

    fn open(&self, file: usize, _: &Handle, pins: &Pins) -> Result<Plan, Differs> {
        let known = self.recent[file];
        if known.pins != *pins {
            return Err(Differs { file });
        }
        let lengths = known.table.iter().map(|entry| entry.plain_len).collect();
        Ok(Plan::Known(Cuts { rule: "", lengths }))
    }

    fn chunk(&self, chunk: HashedChunk<'_>) -> Result<(), Differs> {
        let known = &self.recent[chunk.file].table[chunk.index as usize];
        if known.hash == chunk.hash {
            Ok(())
        } else {
            Err(Differs { file: chunk.file })
        }
    }

    fn done(&self, _: usize, _: FileHashes) -> Result<(), Differs> {
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.session.sink.cancelled()
    }
}
