//! Which tensors a pull takes, and what of them: `--tensors`, `--rows`, `--slice`.
//!
//! A slice is cut from the safetensors checkpoint at the top of the version: the shards that
//! `model.safetensors.index.json` names, else `model.safetensors`, else all safetensors files there. Each
//! becomes a file of the same name, the index is written anew, other files come as they are, and
//! `lode-slice.json` says what was cut. Files of tensors that are not of the checkpoint are left out.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use globset::GlobSet;
use lode_store::{
    ChunkHash, PublisherId, VersionId,
    tree::{ChunkList, File, Mode},
};
use lode_tensors::{
    Cut, Format, Header, ParseError, ShardIndex, limits,
    slice::{Architecture, ArchitectureError, Slice, SliceError, Slicer, parse_range},
};

use super::{
    documents::{Documents, chunks},
    plan::{self, Planned},
    records::Peers,
    slice_manifest::{self, Manifest},
};
use crate::{
    EventSink, Node,
    command::{Failure, FailureKind, Pull},
};

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Files that a note names one by one.
const NAMED_MAX: usize = 5;

/// What a pull takes of the tensors.
#[derive(Debug)]
pub(crate) struct Selector {
    /// Only those that are named.
    globs: Option<GlobSet>,
    /// What a rank or stage has of them.
    slice: Option<Slice>,
    /// Only these rows of each.
    rows: Option<Range<u64>>,
}

impl Selector {
    /// What `request` says of tensors; nothing when it wants whole files.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(crate) fn of(request: &Pull) -> Result<Option<Self>, Failure> {
        let globs = plan::globs(&request.tensors, "--tensors")?;
        let slice = Slice::parse(request.slice.iter().map(String::as_str)).map_err(|error| {
            Failure::usage(format!("--slice: {error}"))
                .advise("write --slice tp=2/8 for rank 2 of 8, --slice layers=0..16, or --slice experts=0..8")
        })?;
        let slice = Some(slice).filter(|slice| !slice.is_whole());
        let rows = request.rows.as_deref().map(parse_range).transpose();
        let rows = rows.map_err(|error| {
            Failure::usage(format!("--rows: {error}")).advise("write --rows 0..1024")
        })?;
        if rows.is_some() && (globs.is_none() || slice.is_some()) {
            return Err(
                Failure::usage("--rows goes with --tensors, and not with --slice").advise(
                    "name the tensors, as in --tensors 'model.embed_tokens.*' --rows 0..1024",
                ),
            );
        }
        let parts = rows.is_some() || slice.as_ref().is_some_and(|slice| slice.tp.is_some());
        if parts && request.to.is_none() {
            let what = if rows.is_some() {
                "--rows"
            } else {
                "--slice tp=R/N"
            };
            return Err(Failure::usage(format!(
                "{what} needs --to: the store keeps whole chunks, and these are parts of them"
            ))
            .advise("name a folder with --to DIR"));
        }
        if globs.is_none() && slice.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { globs, slice, rows }))
    }

    fn names(&self, tensor: &str) -> bool {
        self.globs
            .as_ref()
            .is_none_or(|globs| globs.is_match(tensor))
    }
}

/// A selection that is being made.
pub(crate) struct Selection<'a> {
    pub(crate) node: &'a Node,
    pub(crate) peers: &'a Peers,
    pub(crate) documents: &'a Documents,
    pub(crate) request: &'a Pull,
    pub(crate) selector: &'a Selector,
    pub(crate) events: &'a EventSink,
}

/// The files that a model is loaded from.
struct Checkpoint<'t> {
    architecture: Architecture,
    index: Option<ShardIndex>,
    shards: Vec<&'t File>,
}

/// A file of tensors, and its header.
struct Source<'t> {
    file: &'t File,
    list: Arc<ChunkList>,
    header: Header,
    /// The file's first chunk.
    bytes: Bytes,
}

impl Selection<'_> {
    /// The files to write.
    ///
    /// # Errors
    /// When the model cannot be sliced so, when nothing is left, or no peer sends what must be known.
    pub(crate) async fn plan(
        &self,
        publisher: PublisherId,
        model: &str,
        version: VersionId,
    ) -> Result<Vec<Planned>, Failure> {
        let include = plan::globs(&self.request.include, "--include")?;
        let mut manifest = Manifest::new(publisher.to_string(), model.to_owned(), version.to_hex());
        manifest.slice.clone_from(&self.request.slice);
        manifest.tensors_named.clone_from(&self.request.tensors);
        manifest.rows.clone_from(&self.selector.rows);
        let checkpoint = match &self.selector.slice {
            Some(_) => Some(self.checkpoint().await?),
            None => None,
        };
        let sources = match &checkpoint {
            Some(checkpoint) => self.sources(&checkpoint.shards).await?,
            None => {
                let files = self.documents.tree.files().iter();
                let files: Vec<&File> = files.filter(|file| plan::may_have_tensors(file)).collect();
                self.sources(&files).await?
            }
        };
        let slicer = match (&checkpoint, &self.selector.slice) {
            (Some(checkpoint), Some(slice)) => Some(slicer(checkpoint, slice, &sources)?),
            _ => None,
        };
        manifest.architecture = checkpoint.as_ref().map(|c| c.architecture.name.clone());
        let index = checkpoint.as_ref().and_then(|c| c.index.as_ref());
        let mut planned = self.cut(&sources, slicer.as_ref(), index, &mut manifest)?;
        if manifest.is_empty() {
            let what = match (&self.selector.globs, &self.selector.slice) {
                (Some(_), Some(_)) => "no tensor of the slice matches `--tensors`",
                (Some(_), None) => "no tensor of the version matches `--tensors`",
                _ => "the slice has no tensor",
            };
            return Err(Failure::not_found(what)
                .advise("`lode tensors NAME` lists them; put the glob in quotes"));
        }
        let made = self.request.to.is_some();
        if made && let Some(index) = index {
            let bytes = index.subset(|tensor| manifest.has(tensor), manifest.size());
            planned.push(plan::made(INDEX, bytes));
        }
        if made && (checkpoint.is_some() || self.selector.rows.is_some()) {
            planned.push(plan::made(slice_manifest::NAME, manifest.encode()));
        }
        let others = self.others(checkpoint.is_some(), include.as_ref(), &planned)?;
        planned.extend(self.documents.whole(self.node, self.peers, others).await?);
        Ok(planned)
    }

    /// Files that come as they are: with a slice all that hold no tensors, or those that `include` names;
    /// else only the latter.
    fn others(
        &self,
        slice: bool,
        include: Option<&GlobSet>,
        planned: &[Planned],
    ) -> Result<Vec<&File>, Failure> {
        if !slice && include.is_none() {
            return Ok(Vec::new());
        }
        let made = [INDEX, slice_manifest::NAME];
        let written = |file: &File| {
            planned.iter().any(|planned| planned.path == file.path)
                || (slice && made.contains(&file.path.as_str()))
        };
        let mut files = plan::files(&self.documents.tree, include)?;
        files.retain(|file| !written(file));
        if slice {
            let left_out: Vec<&str> = files
                .iter()
                .filter(|file| plan::may_have_tensors(file))
                .map(|file| file.path.as_str())
                .collect();
            if !left_out.is_empty() {
                let mut names = left_out[..left_out.len().min(NAMED_MAX)].join(", ");
                if left_out.len() > NAMED_MAX {
                    names = format!("{names} and {} more", left_out.len() - NAMED_MAX);
                }
                self.events.note(format!(
                    "left out, since the slice has nothing of them: {names}"
                ));
            }
            files.retain(|file| !plan::may_have_tensors(file));
        }
        Ok(files)
    }

    /// The files to slice, and how the model is built.
    async fn checkpoint(&self) -> Result<Checkpoint<'_>, Failure> {
        let files = self.documents.tree.files();
        let at = |path: &str| {
            files
                .iter()
                .find(|file| file.path == path && file.mode != Mode::Link)
        };
        let config = at(CONFIG).ok_or_else(|| {
            Failure::refused(
                "the version has no config.json, which says how its tensors are sliced",
            )
            .advise("take tensors by name with --tensors, and rows of them with --rows")
        })?;
        let config = self.content(config, limits::CONFIG_BYTES_MAX).await?;
        let architecture = Architecture::parse(&config).map_err(|error| {
            let failure = Failure::refused(error.to_string());
            match error {
                ArchitectureError::Unsupported { .. } | ArchitectureError::Quantized => failure
                    .advise("take tensors by name with --tensors, and rows of them with --rows"),
                _ => failure,
            }
        })?;
        let index = match at(INDEX) {
            None => None,
            Some(file) => {
                let bytes = self.content(file, limits::INDEX_BYTES_MAX).await?;
                let index = ShardIndex::parse(&bytes);
                Some(index.map_err(|error| corrupt(format!("{INDEX}: {error}")))?)
            }
        };
        let shards = match (&index, at(SINGLE)) {
            (Some(index), _) => index
                .shards()
                .iter()
                .map(|shard| {
                    at(shard).ok_or_else(|| {
                        corrupt(format!("{INDEX} names {shard:?}, which is not there"))
                    })
                })
                .collect::<Result<_, _>>()?,
            (None, Some(single)) => vec![single],
            (None, None) => files
                .iter()
                .filter(|file| !file.path.contains('/') && file.path.ends_with(".safetensors"))
                .collect(),
        };
        Ok(Checkpoint {
            architecture,
            index,
            shards,
        })
    }

    /// The bytes of a small file.
    async fn content(&self, file: &File, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        if file.size > bytes_max as u64 {
            return Err(Failure::refused(format!(
                "{} has {} bytes, more than {bytes_max}",
                file.path, file.size
            )));
        }
        let lists = self.documents.lists(self.node, self.peers, &[file]).await?;
        let hashes = lists.first().map_or(&[][..], |list| &list.hashes);
        Ok(chunks(self.node, self.peers, hashes).await?.concat())
    }

    /// The headers of files; those that are no files of tensors are left aside.
    async fn sources<'t>(&self, files: &[&'t File]) -> Result<Vec<Source<'t>>, Failure> {
        let files: Vec<&'t File> = files
            .iter()
            .copied()
            .filter(|file| plan::may_have_tensors(file))
            .collect();
        let lists = self.documents.lists(self.node, self.peers, &files).await?;
        // A header with its padding is the first chunk of its file.
        let headers: Vec<ChunkHash> = lists
            .iter()
            .filter_map(|list| list.hashes.first().copied())
            .collect();
        let headers = chunks(self.node, self.peers, &headers).await?;
        let mut sources = Vec::new();
        for ((file, list), bytes) in files.into_iter().zip(lists).zip(headers) {
            match lode_tensors::parse(&bytes, file.size) {
                Ok(header) => sources.push(Source {
                    file,
                    list,
                    header,
                    bytes,
                }),
                Err(error @ ParseError::NeedMore { .. }) => {
                    return Err(corrupt(format!("{}: {error}", file.path)));
                }
                Err(_) => {}
            }
        }
        Ok(sources)
    }

    /// The parts of files that hold what is selected, noted in the manifest.
    fn cut(
        &self,
        sources: &[Source<'_>],
        slicer: Option<&Slicer>,
        index: Option<&ShardIndex>,
        manifest: &mut Manifest,
    ) -> Result<Vec<Planned>, Failure> {
        let mut planned = Vec::new();
        for source in sources {
            let mut chosen = Vec::new();
            for (position, tensor) in source.header.tensors.iter().enumerate() {
                let path = source.file.path.as_str();
                if index.is_some_and(|index| index.shard_of(&tensor.name) != Some(path)) {
                    // loaders take it from where the index says, or not at all
                    continue;
                }
                if slicer.is_some() && manifest.has(&tensor.name) {
                    return Err(corrupt(format!(
                        "tensor {:?} is in more than one file, and no {INDEX} says which counts",
                        tensor.name
                    )));
                }
                let cut = match slicer {
                    Some(slicer) => slicer.cut(&tensor.name, &tensor.shape).map_err(failure)?,
                    None => Some(self.selector.rows.clone().map_or(Cut::Whole, Cut::rows)),
                };
                let Some(cut) = cut.filter(|_| self.selector.names(&tensor.name)) else {
                    continue;
                };
                manifest.add(path, tensor, &cut);
                chosen.push((position, cut));
            }
            let Source {
                file,
                list,
                header,
                bytes,
            } = source;
            let part = plan::tensors(file, list, header, bytes, &chosen)?;
            let size = part
                .as_ref()
                .map_or(0, |part| part.parts.iter().map(|p| p.1).sum());
            manifest.add_bytes(size, header.tensor_bytes());
            planned.extend(part);
        }
        Ok(planned)
    }
}

/// Holds slice, configuration, index and headers against one another.
fn slicer(
    checkpoint: &Checkpoint<'_>,
    slice: &Slice,
    sources: &[Source<'_>],
) -> Result<Slicer, Failure> {
    if let Some(other) = sources
        .iter()
        .find(|source| source.header.format != Format::Safetensors)
    {
        return Err(Failure::refused(format!(
            "{} is no safetensors file, and slices are cut from those alone",
            other.file.path
        )));
    }
    if sources.is_empty() {
        return Err(Failure::refused(
            "the version has no safetensors files at its top, and slices are cut from those alone",
        ));
    }
    let tensors = sources.iter().flat_map(|source| &source.header.tensors);
    if tensors.clone().count() > limits::INDEX_ENTRIES_MAX {
        return Err(Failure::refused(format!(
            "the model has more than {} tensors",
            limits::INDEX_ENTRIES_MAX
        )));
    }
    if let Some(index) = &checkpoint.index {
        let headers: BTreeMap<String, Header> = sources
            .iter()
            .map(|source| (source.file.path.clone(), source.header.clone()))
            .collect();
        let checked = index.check(&headers);
        checked.map_err(|error| corrupt(format!("{INDEX}: {error}")))?;
    }
    let has_head = tensors
        .clone()
        .any(|tensor| tensor.name.ends_with("lm_head.weight"));
    Slicer::new(checkpoint.architecture.clone(), slice.clone(), has_head).map_err(failure)
}

fn corrupt(message: String) -> Failure {
    Failure::new(FailureKind::Corrupt, message)
}

fn failure(error: SliceError) -> Failure {
    let message = format!("--slice: {error}");
    match error {
        SliceError::Layers { .. } | SliceError::Experts { .. } | SliceError::Divide { .. } => {
            Failure::usage(message).advise("`lode tensors NAME` and config.json show what there is")
        }
        _ => Failure::refused(message)
            .advise("take tensors by name with --tensors, and rows of them with --rows"),
    }
}
