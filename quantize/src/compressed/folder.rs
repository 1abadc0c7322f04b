//! Which files of a version are the model: those that a loader of the folder would open.

use std::collections::BTreeMap;

use lode_tensors::{Format, Header, IndexError, ShardIndex};

use crate::source::{Source, SourceFile};
use crate::variant::{LayoutError, is};

pub(super) const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = ".safetensors.index.json";
const MAIN_INDEX: &str = "model.safetensors.index.json";

/// The model of a version, by positions of files.
#[derive(Debug)]
pub(super) struct Folder {
    /// `config.json`.
    pub(super) config: Option<usize>,
    /// The index, where the model is sharded.
    pub(super) index: Option<usize>,
    /// The files of its tensors, by path.
    pub(super) shards: Vec<usize>,
}

/// Paths that an error names at most.
const SHOWN_PATHS: usize = 4;

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn header(file: &SourceFile) -> Option<&Header> {
    let (header, _) = file.tensors()?;
    (header.format == Format::Safetensors).then_some(header)
}

fn several<'s>(paths: impl Iterator<Item = &'s str>) -> LayoutError {
    LayoutError::SeveralModels {
        paths: paths.take(SHOWN_PATHS).map(str::to_owned).collect(),
    }
}

impl Folder {
    /// Finds the model: in the root if safetensors files lie there, else in the only folder where they do. There, as
    /// loaders look: `model.safetensors`, else what the index names, else all safetensors files.
    pub(super) fn find(source: &Source) -> Result<Self, LayoutError> {
        let holders: BTreeMap<&str, &str> = source
            .files
            .iter()
            .filter(|file| is(&file.path, "safetensors"))
            .map(|file| (split(&file.path).0, file.path.as_str()))
            .collect();
        let folder = match holders.keys().next() {
            None => return Err(LayoutError::NoModel),
            Some(&first) if first.is_empty() || holders.len() == 1 => first,
            Some(_) => return Err(several(holders.into_values())),
        };
        let here: BTreeMap<&str, usize> = source
            .files
            .iter()
            .enumerate()
            .map(|(at, file)| (split(&file.path), at))
            .filter(|((parent, _), _)| *parent == folder)
            .map(|((_, name), at)| (name, at))
            .collect();
        let indices: Vec<_> = here
            .iter()
            .filter(|(name, _)| name.ends_with(INDEX))
            .map(|(_, &at)| at)
            .collect();
        let index = match indices.as_slice() {
            [] => None,
            [one] => Some(*one),
            _ => Some(*here.get(MAIN_INDEX).ok_or_else(|| {
                several(indices.iter().map(|&at| source.files[at].path.as_str()))
            })?),
        };
        let config = here.get(CONFIG).copied();
        if let Some(&single) = here.get(SINGLE) {
            checked(source, single)?;
            // Also of one shard there may be an index.
            let index = index.filter(|&at| {
                let names = whole(source, at).and_then(|bytes| parse(source, at, bytes));
                names.is_ok_and(|names| names.shards() == [SINGLE])
            });
            return Ok(Self {
                config,
                index,
                shards: vec![single],
            });
        }
        let shards = match index {
            Some(at) => sharded(source, at, &here)?,
            None => here
                .into_iter()
                .filter(|(name, _)| is(name, "safetensors"))
                .map(|(_, at)| at)
                .collect(),
        };
        for &shard in &shards {
            checked(source, shard)?;
        }
        Ok(Self {
            config,
            index,
            shards,
        })
    }
}

/// The bytes of a small file that was wanted whole.
pub(super) fn whole(source: &Source, at: usize) -> Result<&[u8], LayoutError> {
    let file = &source.files[at];
    file.whole().ok_or_else(|| LayoutError::File {
        path: file.path.clone(),
        cause: "it is too long to be read whole".to_owned(),
    })
}

/// The header of a file whose name says safetensors.
pub(super) fn checked(source: &Source, at: usize) -> Result<&Header, LayoutError> {
    let file = &source.files[at];
    header(file).ok_or_else(|| LayoutError::File {
        path: file.path.clone(),
        cause: "its header is not one of safetensors".to_owned(),
    })
}

fn parse(source: &Source, at: usize, bytes: &[u8]) -> Result<ShardIndex, LayoutError> {
    ShardIndex::parse(bytes).map_err(|error| LayoutError::File {
        path: source.files[at].path.clone(),
        cause: error.to_string(),
    })
}

/// The shards that an index names, which must hold what it says.
fn sharded(
    source: &Source,
    at: usize,
    here: &BTreeMap<&str, usize>,
) -> Result<Vec<usize>, LayoutError> {
    let index = parse(source, at, whole(source, at)?)?;
    let mut headers = BTreeMap::new();
    let mut shards = Vec::new();
    for name in index.shards() {
        if let Some(&at) = here.get(name.as_str()) {
            headers.insert(name.clone(), checked(source, at)?.clone());
            shards.push(at);
        }
    }
    index.check(&headers).map_err(|error| match error {
        IndexError::MissingShard { shard, .. } => LayoutError::MissingShard { what: shard },
        other => LayoutError::File {
            path: source.files[at].path.clone(),
            cause: other.to_string(),
        },
    })?;
    Ok(shards)
}
