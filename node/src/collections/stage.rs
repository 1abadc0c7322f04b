//! A folder in which a collection is made, or a snapshot of one is taken apart; it is gone when it is dropped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::CollectionsError;
use crate::command::Failure;

/// A folder beside the collections that goes away by itself. What a crash leaves of it is removed when the
/// collections are read next.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
}

impl Stage {
    /// Makes an empty one.
    pub(super) fn new(collections: &Path) -> Result<Self, Failure> {
        let name = format!(".new-{}", super::random()?);
        let dir = collections.join(name);
        fs::create_dir_all(&dir).map_err(CollectionsError::io(&dir))?;
        Ok(Self { dir })
    }

    /// Where the collection goes; nothing is there yet.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "a folder stays until the home is opened next");
        }
    }
}
