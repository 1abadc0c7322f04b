//! What a pull asks for: the files, or the parts of files, and where their bytes go.
//!
//! Pure: a plan follows from the tree, the chunk lists and the headers of files of tensors.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use globset::{Glob, GlobSet, GlobSetBuilder};
use lode_store::{
    download::{Layout, Segment},
    tree::{ChunkList, File, Mode, Tree},
};
use lode_tensors::{ByteRange, Header};

use crate::command::Failure;

/// One file that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// The file of the version from which it comes.
    pub(crate) file: File,
    /// Its chunk list.
    pub(crate) list: Arc<ChunkList>,
    /// Path of what is written, inside the folder.
    pub(crate) path: String,
    /// Length of what is written in bytes.
    pub(crate) len: u64,
    /// Where its bytes come from.
    pub(crate) layout: Layout,
    /// The chunks that it takes bytes of, and how many.
    pub(crate) parts: Vec<(u32, u64)>,
}

/// Compiles globs; `*` does not cross `/` in paths, and tensor names have none.
pub(crate) fn globs(patterns: &[String], what: &str) -> Result<Option<GlobSet>, Failure> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| {
            Failure::usage(format!("{what} {pattern:?} is no glob: {error}"))
                .advise("write one like '*.json' or 'model.layers.0.*', in quotes")
        })?);
    }
    let set = set
        .build()
        .map_err(|error| Failure::usage(format!("{what}: {error}")))?;
    Ok(Some(set))
}

/// The files of a tree that `include` names; all without it.
pub(crate) fn files<'t>(
    tree: &'t Tree,
    include: Option<&GlobSet>,
) -> Result<Vec<&'t File>, Failure> {
    let files: Vec<&File> = tree
        .files()
        .iter()
        .filter(|file| include.is_none_or(|globs| globs.is_match(&file.path)))
        .collect();
    if files.is_empty() && include.is_some() {
        return Err(
            Failure::not_found("no file of the version matches `--include`")
                .advise("`lode ls NAME` lists the files"),
        );
    }
    Ok(files)
}

/// A file as it is.
pub(crate) fn whole(file: &File, list: Arc<ChunkList>) -> Planned {
    Planned {
        path: file.path.clone(),
        len: file.size,
        layout: Layout::whole(&list),
        parts: (0u32..)
            .zip(list.lengths.iter().map(|length| u64::from(*length)))
            .collect(),
        file: file.clone(),
        list,
    }
}

/// Whether a file may hold tensors that can be pulled alone.
pub(crate) fn may_have_tensors(file: &File) -> bool {
    file.mode != Mode::Link && file.chunks.rule == lode_store::cut::TENSORS_1
}

/// The tensors of one file that `globs` names, as a file of its own; nothing when it names none.
///
/// # Errors
/// When no header can be made for them.
pub(crate) fn tensors(
    file: &File,
    list: &Arc<ChunkList>,
    header: &Header,
    source: &[u8],
    globs: &GlobSet,
) -> Result<Option<Planned>, Failure> {
    let chosen: Vec<usize> = header
        .tensors
        .iter()
        .enumerate()
        .filter(|(_, tensor)| globs.is_match(&tensor.name))
        .map(|(position, _)| position)
        .collect();
    if chosen.is_empty() {
        return Ok(None);
    }
    let subset = lode_tensors::subset(header, source, &chosen)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.path)))?;
    let (mut segments, mut literals) = (Vec::new(), Vec::new());
    let mut end = subset.header.len() as u64;
    let pad = |from: u64, to: u64| {
        let bytes = usize::try_from(to - from).expect("padding is shorter than an alignment");
        (from, Bytes::from(vec![0; bytes]))
    };
    literals.push((0, Bytes::from(subset.header)));
    for placed in &subset.tensors {
        if placed.offset > end {
            literals.push(pad(end, placed.offset));
        }
        segments.extend(segments_of(list, placed.source, placed.offset));
        end = placed.offset + placed.source.len();
    }
    if subset.len > end {
        literals.push(pad(end, subset.len));
    }
    Ok(Some(Planned {
        path: file.path.clone(),
        len: subset.len,
        parts: segments
            .iter()
            .map(|part| (part.chunk, part.range.len() as u64))
            .collect(),
        layout: Layout::parts(literals, segments),
        file: file.clone(),
        list: Arc::clone(list),
    }))
}

/// The segments that put the bytes `source` of a file to `offset`.
fn segments_of(list: &ChunkList, source: ByteRange, offset: u64) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut start = 0u64;
    for (chunk, length) in (0u32..).zip(&list.lengths) {
        let here = ByteRange {
            start,
            end: start + u64::from(*length),
        };
        if here.start >= source.end {
            break;
        }
        if let Some(both) = here.intersection(source) {
            let within =
                |at: u64| u32::try_from(at - here.start).expect("a chunk has at most 16 MiB");
            segments.push(Segment {
                chunk,
                range: within(both.start)..within(both.end),
                offset: offset + (both.start - source.start),
            });
        }
        start = here.end;
    }
    segments
}

/// The whole chunks that a file takes bytes of, one after the other: what the store keeps of it.
pub(crate) fn whole_chunks(planned: &Planned) -> Layout {
    let chunks: BTreeSet<u32> = planned.parts.iter().map(|(chunk, _)| *chunk).collect();
    let mut offset = 0;
    let segments = chunks.into_iter().map(|chunk| {
        let length = planned.list.lengths[chunk as usize];
        let segment = Segment {
            chunk,
            range: 0..length,
            offset,
        };
        offset += u64::from(length);
        segment
    });
    let segments = segments.collect();
    Layout::parts(Vec::new(), segments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use lode_store::ChunkHash;

    use super::*;

    fn list(lengths: &[u32]) -> ChunkList {
        ChunkList {
            hashes: (0..lengths.len())
                .map(|i| ChunkHash::of(&[i as u8]))
                .collect(),
            lengths: lengths.to_vec(),
        }
    }

    #[test]
    fn segments_cover_exactly_the_bytes_that_were_asked_for() {
        let list = list(&[10, 20, 5, 100]);
        for start in 0..135u64 {
            for end in start..=135 {
                let found = segments_of(&list, ByteRange { start, end }, 1000);
                let mut at = 1000;
                let mut source = start;
                for segment in &found {
                    assert_eq!(segment.offset, at);
                    let before: u64 = list.lengths[..segment.chunk as usize]
                        .iter()
                        .map(|n| u64::from(*n))
                        .sum();
                    assert_eq!(before + u64::from(segment.range.start), source);
                    at += segment.range.len() as u64;
                    source += segment.range.len() as u64;
                }
                assert_eq!(source, end.max(start));
            }
        }
    }

    #[test]
    fn a_bad_glob_is_a_usage_error_that_names_it() {
        let error = globs(&["model.[".to_owned()], "--tensors").unwrap_err();
        assert_eq!(error.kind, crate::command::FailureKind::Usage);
        assert!(error.message.contains("model.["), "{error}");
    }
}
