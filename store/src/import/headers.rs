//! Reading the headers of model files and segments, and holding shard indexes against them.

use std::{collections::BTreeMap, fs, io, path::Path};

use lode_tensors::{Header, ParseError, ShardIndex, limits::INDEX_BYTES_MAX, parse};

use crate::{
    cut::{Cuts, SECTION_ALIGN_BYTES, is_segment, section_cuts},
    hashing::Handle,
};

/// A prefix that tells most formats apart.
const PREFIX_BYTES_FIRST: u64 = 4096;

/// How the name of a shard index ends.
const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// What the first bytes of a file say.
pub(super) enum Found {
    /// A model file.
    Header(Box<Header>),
    /// A segment of an index.
    Segment(Cuts),
    /// Any other file.
    Plain,
    /// A file that claims to be a model file, by its name or its bytes, and is not.
    Malformed(String),
}

/// Parses the header of a file of `len` bytes that is named `path` in the tree.
pub(super) fn read_header(path: &str, handle: &Handle, len: u64) -> io::Result<Found> {
    let mut prefix = Vec::new();
    let mut wanted = PREFIX_BYTES_FIRST.min(len);
    loop {
        let before = prefix.len();
        let Ok(wanted_len) = usize::try_from(wanted) else {
            return Ok(Found::Malformed(
                "its header does not fit the memory".into(),
            ));
        };
        prefix.resize(wanted_len, 0);
        handle.read_exact_at(&mut prefix[before..], before as u64)?;
        match parse(&prefix, len) {
            Ok(header) => return Ok(Found::Header(header.into())),
            Err(ParseError::NotATensorFile) if is_segment(&prefix) => {
                let cuts = read_segment(handle, len)?;
                return Ok(cuts.map_or(Found::Plain, Found::Segment));
            }
            Err(ParseError::NotATensorFile) if !named_like_one(path) => return Ok(Found::Plain),
            // the parser bounds what it asks for
            Err(ParseError::NeedMore { bytes }) if bytes > wanted && bytes <= len => wanted = bytes,
            Err(ParseError::NeedMore { .. }) => {
                return Ok(Found::Malformed("its header is cut short".into()));
            }
            Err(error) => return Ok(Found::Malformed(error.to_string())),
        }
    }
}

/// Where a segment of `len` bytes is cut, if it is one.
fn read_segment(handle: &Handle, len: u64) -> io::Result<Option<Cuts>> {
    let Some(head_len) = usize::try_from(SECTION_ALIGN_BYTES)
        .ok()
        .filter(|_| len >= SECTION_ALIGN_BYTES)
    else {
        return Ok(None);
    };
    let mut head = vec![0; head_len];
    handle.read_exact_at(&mut head, 0)?;
    Ok(section_cuts(&head, len))
}

fn named_like_one(path: &str) -> bool {
    let extension = Path::new(path).extension().unwrap_or_default();
    extension.eq_ignore_ascii_case("safetensors") || extension.eq_ignore_ascii_case("gguf")
}

/// Whether a file of this path in the tree is a shard index.
pub(super) fn is_shard_index(path: &str) -> bool {
    path.ends_with(INDEX_SUFFIX)
}

/// Says how the shard index at `source` contradicts the headers of the shards beside it, if it does.
pub(super) fn index_fault(
    source: &Path,
    shards: &BTreeMap<String, Header>,
) -> io::Result<Option<String>> {
    if fs::metadata(source)?.len() > INDEX_BYTES_MAX as u64 {
        return Ok(Some(format!(
            "a shard index of more than {INDEX_BYTES_MAX} bytes"
        )));
    }
    let index = match ShardIndex::parse(&fs::read(source)?) {
        Ok(index) => index,
        Err(error) => return Ok(Some(error.to_string())),
    };
    if let Err(error) = index.check(shards) {
        return Ok(Some(error.to_string()));
    }
    let mut unlisted = index.unlisted(shards);
    Ok(unlisted.next().map(|(shard, tensor)| {
        let others = unlisted.count();
        let more = if others > 0 {
            format!(" (and {others} more)")
        } else {
            String::new()
        };
        format!("the index leaves out tensor {tensor:?} of shard {shard:?}{more}: loaders skip it")
    }))
}
