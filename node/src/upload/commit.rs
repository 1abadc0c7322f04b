//! Commits: a branch's tree with some files added, replaced and removed becomes a signed version.
//!
//! Files that a commit does not name are taken over from the parent's tree without being read. A commit that
//! changes nothing makes no version, and one that is sent again, since its answer was lost, gives the version
//! that it made.

use std::collections::BTreeMap;

use lode_store::{
    VersionId,
    identity::Operation,
    manifest::{Links, Version},
    name::{Name, check_ref_name},
    tree::{File, Mode, Tree, check_path},
};

pub use super::incoming::{Inline, InlineFile};
use super::{Inbox, UploadError, Uploads, limits, lock};
use crate::{
    publisher::{self, Signer, now},
    push, resolve,
};

/// What is to be committed.
#[derive(Debug)]
pub struct Commit {
    /// The model.
    pub name: Name,
    /// The branch that moves.
    pub branch: String,
    /// What the client takes for its head: a version id, or the start of one.
    pub parent: Option<String>,
    /// What changes, for people.
    pub message: String,
    /// What changes. Later ones win.
    pub changes: Vec<Change>,
    /// The content of small files.
    pub inline: Inline,
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file whose content came with the commit.
    Inline {
        /// Where.
        path: String,
        /// Its number in [`Commit::inline`].
        number: usize,
    },
    /// A file that was uploaded, or that the model has.
    Uploaded {
        /// Where.
        path: String,
        /// Its SHA-256.
        sha256: [u8; 32],
        /// Its size, where the client says it.
        size: Option<u64>,
    },
    /// Removes a file.
    DeleteFile {
        /// Where.
        path: String,
    },
    /// Removes all files of a folder.
    DeleteFolder {
        /// Where, with or without a slash at the end.
        path: String,
    },
}

/// What came of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The version that the branch is at.
    pub version: VersionId,
    /// Whether it is new.
    pub changed: bool,
}

impl Uploads {
    /// Makes a version of a commit.
    ///
    /// # Errors
    /// [`UploadError::Absent`] without such a model or branch, [`UploadError::Stale`] when the branch has moved,
    /// [`UploadError::NotUploaded`], [`UploadError::Usage`] for paths that no tree may have.
    pub fn commit(&self, commit: Commit) -> Result<Committed, UploadError> {
        check_ref_name(&commit.branch).map_err(|error| UploadError::usage(error.to_string()))?;
        let inbox = self.inbox(&commit.name)?;
        let publisher = inbox.publisher();
        let signer = self.signer(&commit.name, Operation::Push)?;
        let (inlined, guard) = self.import_folder(commit.inline.path(), commit.inline.count)?;
        // Nobody else moves the branch between the look at its head and the record that follows it.
        let _one = lock(&self.state().commits);
        let heads = format!("heads/{}", commit.branch);
        let head = self.head(&inbox, &commit.branch, &heads)?;
        let stated = commit.parent.as_deref().map(str::to_ascii_lowercase);
        let parent = match &stated {
            Some(stated) if !head.to_hex().starts_with(stated) => {
                self.retried(head, stated, &commit.message)?
            }
            _ => head,
        };
        let document = resolve::document(&self.node, parent)?;
        let before = resolve::tree(&self.node, parent)?;
        let uploaded = self.uploaded(&inbox, &before, &commit.changes)?;
        let after = edit(&before, &commit.changes, &inlined, &uploaded)?;
        let (tree, tree_bytes) = after.encode_with_id();
        let committed = if parent != head {
            // The branch has moved from what the client knows. Unless by this very commit, that is for it to see.
            if resolve::document(&self.node, head)?.doc.tree != tree {
                return Err(stale(stated.as_deref().unwrap_or_default(), head));
            }
            Committed {
                version: head,
                changed: false,
            }
        } else if document.doc.tree == tree {
            Committed {
                version: head,
                changed: false,
            }
        } else {
            let version = Version {
                kind: document.doc.kind,
                publisher: Some(publisher),
                model: commit.name.model.clone(),
                tree,
                parents: vec![head],
                author: None,
                time: now(),
                message: commit.message,
                links: Links {
                    license: document.doc.links.license.clone(),
                    ..Links::default()
                },
            };
            self.node.store().put_documents(&[tree_bytes])?;
            let version = push::sign(&self.node, &signer, &version)?;
            signer.move_ref(&self.node, &commit.name.model, &heads, Some(version))?;
            Committed {
                version,
                changed: true,
            }
        };
        drop(guard);
        let taken: Vec<[u8; 32]> = uploaded.into_keys().collect();
        self.unstage(&inbox, &taken)?;
        Ok(committed)
    }

    pub(super) fn signer(&self, name: &Name, operation: Operation) -> Result<Signer, UploadError> {
        let signer = publisher::signer(&self.node, &name.publisher, operation, &name.model);
        Ok(signer?)
    }

    /// The inbox of a model that there is.
    ///
    /// # Errors
    /// [`UploadError::Absent`].
    pub fn inbox(&self, name: &Name) -> Result<Inbox, UploadError> {
        let absent = || UploadError::Absent {
            what: format!("model {name} in this home"),
        };
        let publisher = publisher::resolve(&self.node, &name.publisher).map_err(|_| absent())?;
        match self.node.reads().model(publisher, &name.model) {
            Ok(_) => Ok(Inbox::new(publisher, &name.model)),
            Err(_) => Err(absent()),
        }
    }

    /// The version that a branch of the model is at.
    fn head(&self, inbox: &Inbox, branch: &str, heads: &str) -> Result<VersionId, UploadError> {
        let refs = self
            .node
            .store()
            .ref_set(&inbox.publisher(), inbox.model())?;
        refs.resolve(heads)
            .served()
            .ok_or_else(|| UploadError::NoRev {
                rev: branch.to_owned(),
            })
    }

    /// The parent of the head, where a client that takes it for the head may be sending again what made the
    /// head.
    fn retried(
        &self,
        head: VersionId,
        stated: &str,
        message: &str,
    ) -> Result<VersionId, UploadError> {
        let document = resolve::document(&self.node, head)?.doc;
        let parent = document
            .parents
            .iter()
            .find(|parent| parent.to_hex().starts_with(stated));
        match parent {
            Some(parent) if document.message == message => Ok(*parent),
            _ => Err(stale(stated, head)),
        }
    }

    /// The files that the commit takes from those that were uploaded.
    fn uploaded(
        &self,
        inbox: &Inbox,
        before: &Tree,
        changes: &[Change],
    ) -> Result<BTreeMap<[u8; 32], File>, UploadError> {
        let mut found: BTreeMap<[u8; 32], File> = BTreeMap::new();
        let known: BTreeMap<[u8; 32], &File> = before
            .files()
            .iter()
            .filter(|file| file.mode != Mode::Link)
            .map(|file| (file.sha256, file))
            .collect();
        for change in changes {
            let Change::Uploaded { path, sha256, size } = change else {
                continue;
            };
            let file = match found.get(sha256) {
                Some(file) => file,
                None => {
                    let file = match known.get(sha256) {
                        Some(file) => Some((*file).clone()),
                        None => self.find(inbox, sha256)?,
                    };
                    let file = file.ok_or_else(|| UploadError::NotUploaded {
                        path: path.clone(),
                        sha256: data_encoding::HEXLOWER.encode(sha256),
                    })?;
                    found.entry(*sha256).or_insert(file)
                }
            };
            if let Some(size) = size
                && *size != file.size
            {
                return Err(UploadError::Length {
                    expected: *size,
                    found: file.size,
                });
            }
        }
        Ok(found)
    }
}

fn stale(stated: &str, head: VersionId) -> UploadError {
    UploadError::Stale {
        expected: stated.to_owned(),
        head: head.to_hex(),
    }
}

/// The tree after the changes.
fn edit(
    before: &Tree,
    changes: &[Change],
    inlined: &[File],
    uploaded: &BTreeMap<[u8; 32], File>,
) -> Result<Tree, UploadError> {
    if changes.len() > limits::CHANGES_MAX {
        return Err(UploadError::TooLarge {
            what: "changes of a commit",
            max: limits::CHANGES_MAX as u64,
        });
    }
    let mut files: BTreeMap<String, File> = before
        .files()
        .iter()
        .map(|file| (file.path.clone(), file.clone()))
        .collect();
    for change in changes {
        match change {
            Change::Inline { path, number } => put(&mut files, path, &inlined[*number])?,
            Change::Uploaded { path, sha256, .. } => put(&mut files, path, &uploaded[sha256])?,
            Change::DeleteFile { path } => {
                files.remove(path);
            }
            Change::DeleteFolder { path } => {
                let folder = match path.trim_end_matches('/') {
                    "" => String::new(),
                    folder => format!("{folder}/"),
                };
                // Only what is inside is looked at: a commit may name many folders of a large model.
                let after = files.range(folder.clone()..);
                let inside = after.take_while(|(found, _)| found.starts_with(&folder));
                let inside: Vec<String> = inside.map(|(found, _)| found.clone()).collect();
                for found in inside {
                    files.remove(&found);
                }
            }
        }
    }
    Ok(Tree::new(files.into_values().collect())?)
}

fn put(files: &mut BTreeMap<String, File>, path: &str, file: &File) -> Result<(), UploadError> {
    check_path(path).map_err(|error| UploadError::usage(error.to_string()))?;
    // What could be executed stays so.
    let mode = match files.get(path) {
        Some(known) if known.mode == Mode::Exec => Mode::Exec,
        _ => Mode::File,
    };
    let file = File {
        path: path.to_owned(),
        mode,
        ..file.clone()
    };
    files.insert(path.to_owned(), file);
    Ok(())
}
