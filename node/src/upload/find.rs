//! Files that a model has already.

use std::sync::Arc;

use lode_store::{
    VersionId,
    tree::{File, Mode, Tree},
};

use super::{Inbox, UploadError, Uploads};
use crate::resolve;

impl Uploads {
    /// The file of this SHA-256 that was uploaded to the model, or that a version of it has.
    pub(super) fn find(
        &self,
        inbox: &Inbox,
        sha256: &[u8; 32],
    ) -> Result<Option<File>, UploadError> {
        if let Some(staged) = self.staged(inbox, sha256)? {
            return Ok(Some(staged));
        }
        self.find_in(std::slice::from_ref(inbox), sha256)
    }

    /// The file of this SHA-256 in a kept version of one of these models.
    fn find_in(&self, models: &[Inbox], sha256: &[u8; 32]) -> Result<Option<File>, UploadError> {
        let store = self.node.store();
        let Some(known) = store.file_by_sha256(sha256)? else {
            return Ok(None);
        };
        let mut found = None;
        store.versions_of(&known.chunks.seq, &mut |id| {
            found = self.file_of(id, models, sha256);
            found.is_none()
        })?;
        Ok(found)
    }

    fn file_of(&self, id: VersionId, models: &[Inbox], sha256: &[u8; 32]) -> Option<File> {
        let doc = resolve::document(&self.node, id).ok()?.doc;
        models
            .iter()
            .find(|model| doc.publisher == Some(model.publisher) && doc.model == model.model)?;
        let tree: Arc<Tree> = self.node.reads().tree(doc.tree).ok()?;
        let same = |file: &&File| file.sha256 == *sha256 && file.mode != Mode::Link;
        tree.files().iter().find(same).cloned()
    }

    /// Whether the model has a file of this SHA-256, every byte of it here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has(&self, inbox: &Inbox, sha256: &[u8; 32]) -> Result<bool, UploadError> {
        let Some(file) = self.find(inbox, sha256)? else {
            return Ok(false);
        };
        let reader = self.node.reads().file(&file)?;
        Ok(reader.bytes_held()? == file.size)
    }

    /// Stages for `inbox` a file that another model has, which the caller may read.
    ///
    /// # Errors
    /// [`UploadError::Absent`] when that has no such file.
    pub fn duplicate(
        &self,
        inbox: &Inbox,
        from: &Inbox,
        sha256: &[u8; 32],
    ) -> Result<(), UploadError> {
        if self.staged(inbox, sha256)?.is_some() {
            return Ok(());
        }
        let file = self.find_in(&[inbox.clone(), from.clone()], sha256)?;
        let file = file.ok_or_else(|| UploadError::Absent {
            what: format!(
                "file of SHA-256 {} in {}",
                data_encoding::HEXLOWER.encode(sha256),
                from.model
            ),
        })?;
        self.stage_known(inbox, &file)
    }
}
