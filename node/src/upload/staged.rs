//! Files that were uploaded and await their commit.
//!
//! A staged file is a version without publisher that holds this file alone, kept like an own one, so that the
//! collector sees it without a rule of its own. The local key `upload/INBOX/SHA256` (time, version) finds it.

use std::{path::Path, sync::Arc};

use lode_store::{
    VersionId,
    hashing::Content,
    import::{ImportOptions, ImportSink, Imported, import, import_given},
    local::{self, Keep},
    log::Record,
    manifest::{Kind, Links, Version},
    store::Protection,
    tree::{File, Tree},
};

use super::{Inbox, InboxId, UploadError, Uploads};
use crate::resolve;

/// Local keys of staged files.
pub(super) const PREFIX: &str = "upload/";

/// Nobody watches an upload's import: the client waits for its answer.
pub(crate) struct Quiet;

impl ImportSink for Quiet {
    fn progress(&self, _: u64, _: u64) {}

    fn warning(&self, text: &str) {
        tracing::info!(text, "an uploaded file is not what it claims");
    }

    fn cancelled(&self) -> bool {
        false
    }
}

fn key(inbox: InboxId, sha256: &[u8; 32]) -> String {
    let sha256 = data_encoding::HEXLOWER.encode(sha256);
    format!("{PREFIX}{inbox}/{sha256}")
}

/// When a file was staged, in seconds since 1970, and the version that holds it.
pub(super) fn parse(value: &[u8]) -> Option<(u64, VersionId)> {
    let (time, id) = value.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*time), VersionId::try_from(id).ok()?))
}

impl Uploads {
    /// Stores the files `0`, `1`, .. of a folder, taking those that become containers. Gives them in order.
    pub(super) fn import_folder(
        &self,
        folder: &Path,
        count: usize,
    ) -> Result<(Vec<File>, Option<Protection>), UploadError> {
        if count == 0 {
            return Ok((Vec::new(), None));
        }
        let options = ImportOptions {
            adopt: true,
            ..ImportOptions::default()
        };
        let imported = import(self.node.store(), folder, &options, &Quiet)?;
        let files = self.numbered(&imported, count)?;
        Ok((files, Some(imported.guard)))
    }

    /// The files `0`, `1`, .. of what was stored.
    fn numbered(&self, imported: &Imported, count: usize) -> Result<Vec<File>, UploadError> {
        let tree = self.node.reads().tree(imported.tree)?;
        let file = |number: usize| {
            let file = tree.file(&number.to_string()).cloned();
            file.ok_or_else(|| UploadError::usage("a file that was received is not in its tree"))
        };
        (0..count).map(file).collect()
    }

    /// Stores and stages the files `0`, `1`, .. of a folder. None is, if the SHA-256 of one is not as announced.
    /// Gives what they are.
    pub(super) fn stage(
        &self,
        inbox: &Inbox,
        folder: &Path,
        announced: &[Option<[u8; 32]>],
    ) -> Result<Vec<File>, UploadError> {
        let (files, guard) = self.import_folder(folder, announced.len())?;
        self.stage_stored(inbox, &files, announced)?;
        drop(guard);
        Ok(files)
    }

    /// As [`Self::stage`], of files that lie in no folder.
    pub(super) fn stage_given(
        &self,
        inbox: &Inbox,
        given: Vec<Arc<dyn Content>>,
        announced: &[Option<[u8; 32]>],
    ) -> Result<Vec<File>, UploadError> {
        let options = ImportOptions::default();
        let imported = import_given(self.node.store(), given, &options, &Quiet)?;
        let files = self.numbered(&imported, announced.len())?;
        self.stage_stored(inbox, &files, announced)?;
        drop(imported.guard);
        Ok(files)
    }

    fn stage_stored(
        &self,
        inbox: &Inbox,
        files: &[File],
        announced: &[Option<[u8; 32]>],
    ) -> Result<(), UploadError> {
        let mut records = Vec::new();
        for (file, announced) in files.iter().zip(announced) {
            if let Some(expected) = announced
                && *expected != file.sha256
            {
                let hex = |hash: &[u8; 32]| data_encoding::HEXLOWER.encode(hash);
                return Err(UploadError::Digest {
                    expected: hex(expected),
                    found: hex(&file.sha256),
                });
            }
            records.extend(self.records(inbox, file)?);
        }
        self.node.store().append(&records)?;
        Ok(())
    }

    /// Stages a file that is stored already.
    pub(super) fn stage_known(&self, inbox: &Inbox, file: &File) -> Result<(), UploadError> {
        self.node.store().append(&self.records(inbox, file)?)?;
        Ok(())
    }

    fn records(&self, inbox: &Inbox, file: &File) -> Result<[Record; 4], UploadError> {
        let path = data_encoding::HEXLOWER.encode(&file.sha256);
        let file = File {
            path,
            ..file.clone()
        };
        let sha256 = file.sha256;
        let (tree, tree_bytes) = Tree::new(vec![file])?.encode_with_id();
        let version = Version {
            kind: Kind::Model,
            publisher: None,
            model: format!("upload/{}", inbox.id()),
            tree,
            parents: Vec::new(),
            author: None,
            time: 0,
            message: String::new(),
            links: Links::default(),
        };
        let bytes = version.encode()?;
        let id = VersionId::of(&bytes);
        let keep = Keep::now(true);
        let mut value = keep.time.to_le_bytes().to_vec();
        value.extend_from_slice(id.as_bytes());
        Ok([
            Record::document(tree_bytes),
            Record::document(bytes),
            Record::local_set(&local::keep_key(&id), &keep.encode())?,
            Record::local_set(&key(inbox.id(), &sha256), &value)?,
        ])
    }

    /// The staged file of this SHA-256.
    pub(super) fn staged(
        &self,
        inbox: &Inbox,
        sha256: &[u8; 32],
    ) -> Result<Option<File>, UploadError> {
        let value = self.node.store().local_get(&key(inbox.id(), sha256))?;
        let Some((_, id)) = value.as_deref().and_then(parse) else {
            return Ok(None);
        };
        let tree = resolve::tree(&self.node, id)?;
        Ok(tree.files().first().cloned())
    }

    /// Lets staged files go: a version holds them now.
    pub(super) fn unstage(&self, inbox: &Inbox, hashes: &[[u8; 32]]) -> Result<(), UploadError> {
        let keys: Vec<String> = hashes
            .iter()
            .map(|sha256| key(inbox.id(), sha256))
            .collect();
        self.unstage_keys(&keys)
    }

    pub(super) fn unstage_keys(&self, keys: &[String]) -> Result<(), UploadError> {
        let store = self.node.store();
        let mut records = Vec::new();
        for key in keys {
            let Some(value) = store.local_get(key)? else {
                continue;
            };
            if let Some((_, id)) = parse(&value) {
                records.push(Record::local_delete(&local::keep_key(&id)));
            }
            records.push(Record::local_delete(key));
        }
        if !records.is_empty() {
            store.append(&records)?;
        }
        Ok(())
    }
}
