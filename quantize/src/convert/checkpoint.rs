//! The safetensors files that are one checkpoint, and the small files beside them.
//!
//! The folder is the root of the version, or the only one that has both a `config.json` and safetensors files. An
//! index names the shards; without one, all of the files that begin with `model` are the checkpoint, which leaves out
//! adapters and copies in another layout.

use std::collections::{BTreeMap, BTreeSet};

use lode_tensors::{Format, ShardIndex, Tensor};

use super::config;
use crate::source::{Content, Source, SourceFile};
use crate::variant::{LayoutError, is};

const INDEX: &str = "model.safetensors.index.json";
/// What the files of a checkpoint begin with.
const PREFIX: &str = "model";

/// One checkpoint of a version.
#[derive(Debug)]
pub(super) struct Checkpoint<'s> {
    source: &'s Source,
    /// The folder, with its slash; empty for the root.
    folder: &'s str,
}

/// The folder of a path, with its slash.
fn folder(path: &str) -> &str {
    &path[..path.rfind('/').map_or(0, |slash| slash + 1)]
}

/// Folders that an error names at most.
const SHOWN_PATHS: usize = 4;

impl<'s> Checkpoint<'s> {
    pub(super) fn find(source: &'s Source) -> Result<Self, LayoutError> {
        let paths = || source.files.iter().map(|file| file.path.as_str());
        let weights: BTreeSet<_> = paths()
            .filter(|path| is(path, "safetensors"))
            .map(folder)
            .collect();
        let configured: BTreeSet<_> = paths()
            .filter(|path| path.ends_with(config::FILE))
            .filter(|path| path.len() == folder(path).len() + config::FILE.len())
            .map(folder)
            .collect();
        let both: Vec<_> = weights.intersection(&configured).copied().collect();
        let folder = match both.as_slice() {
            [] if weights.is_empty() => return Err(LayoutError::NoModel),
            [] => {
                return Err(LayoutError::File {
                    path: config::FILE.to_owned(),
                    cause: "there is none beside the safetensors files".to_owned(),
                });
            }
            // The root sorts first.
            ["", ..] => "",
            [one] => one,
            several => {
                return Err(LayoutError::SeveralModels {
                    paths: several
                        .iter()
                        .take(SHOWN_PATHS)
                        .map(|folder| folder.trim_end_matches('/').to_owned())
                        .collect(),
                });
            }
        };
        Ok(Self { source, folder })
    }

    fn file(&self, name: &str) -> Option<(usize, &'s SourceFile)> {
        self.source.file(&format!("{}{name}", self.folder))
    }

    /// A small file beside the weights, if there is one.
    pub(super) fn small(
        &self,
        name: &str,
        bytes_max: u64,
    ) -> Result<Option<&'s [u8]>, LayoutError> {
        let Some((_, file)) = self.file(name) else {
            return Ok(None);
        };
        if file.size > bytes_max {
            return Err(LayoutError::File {
                path: file.path.clone(),
                cause: format!("it has {} bytes, more than {bytes_max}", file.size),
            });
        }
        file.whole().map(Some).ok_or_else(|| unread(file))
    }

    /// Every tensor with the position of its file, by name.
    pub(super) fn tensors(&self) -> Result<BTreeMap<&'s str, (usize, &'s Tensor)>, LayoutError> {
        let index = match self.small(INDEX, lode_tensors::limits::INDEX_BYTES_MAX as u64)? {
            Some(bytes) => Some(ShardIndex::parse(bytes).map_err(|error| wrong(&error))?),
            None => None,
        };
        let names: Vec<String> = match &index {
            Some(index) => index.shards().to_vec(),
            None => self.weight_files()?,
        };
        let mut tensors = BTreeMap::new();
        for name in names {
            let (position, file) = self.file(&name).ok_or(LayoutError::MissingShard {
                what: format!("{}{name}", self.folder),
            })?;
            let (header, _) = file.tensors().ok_or_else(|| unread(file))?;
            if header.format != Format::Safetensors {
                return Err(LayoutError::File {
                    path: file.path.clone(),
                    cause: "it is no safetensors file".to_owned(),
                });
            }
            for tensor in &header.tensors {
                let unlisted = |index: &ShardIndex| index.shard_of(&tensor.name) != Some(&name);
                if index.as_ref().is_some_and(unlisted) {
                    return Err(wrong(&format!(
                        "it does not name the tensor {:?} of {name}",
                        tensor.name
                    )));
                }
                let known = tensors.insert(tensor.name.as_str(), (position, tensor));
                if known.is_some() {
                    return Err(LayoutError::TwiceNamed {
                        tensor: tensor.name.clone(),
                    });
                }
            }
        }
        let lost = index
            .iter()
            .flat_map(ShardIndex::tensors)
            .find(|(tensor, _)| !tensors.contains_key(tensor));
        match lost {
            Some((tensor, shard)) => Err(LayoutError::MissingShard {
                what: format!("tensor {tensor:?} of {shard}"),
            }),
            None => Ok(tensors),
        }
    }

    /// The names of the files of a checkpoint without an index.
    fn weight_files(&self) -> Result<Vec<String>, LayoutError> {
        let mut names: Vec<_> = self
            .source
            .files
            .iter()
            .filter(|file| is(&file.path, "safetensors") && folder(&file.path) == self.folder)
            .map(|file| file.path[self.folder.len()..].to_owned())
            .collect();
        if names.len() > 1 {
            names.retain(|name| name.starts_with(PREFIX));
        }
        names.sort();
        // `model-00001-of-00003.safetensors` says how many there are.
        for name in &names {
            let Some((_, count)) = shard_number(name) else {
                continue;
            };
            let numbers: BTreeSet<_> = names.iter().filter_map(|n| shard_number(n)).collect();
            for number in 1..=count {
                if !numbers.contains(&(number, count)) {
                    return Err(LayoutError::MissingShard {
                        what: format!("shard {number} of {count}"),
                    });
                }
            }
        }
        if names.is_empty() {
            return Err(LayoutError::NoModel);
        }
        Ok(names)
    }
}

/// Which of how many shards a file says that it is.
fn shard_number(name: &str) -> Option<(u32, u32)> {
    let (_, end) = name.rsplit_once("-of-")?;
    let (before, _) = name.split_once("-of-")?;
    let (_, number) = before.rsplit_once('-')?;
    let (count, _) = end.split_once('.')?;
    Some((number.parse().ok()?, count.parse().ok()?))
}

fn wrong(cause: &dyn ToString) -> LayoutError {
    LayoutError::File {
        path: INDEX.to_owned(),
        cause: cause.to_string(),
    }
}

/// A caller did not hand over what [`super::wanted`] asks for.
fn unread(file: &SourceFile) -> LayoutError {
    let cause = match file.content {
        Content::Unread => "it was not read",
        _ => "it is not what its name says",
    };
    LayoutError::File {
        path: file.path.clone(),
        cause: cause.to_owned(),
    }
}
