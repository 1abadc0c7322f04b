//! What a pull asks for: the files, or the parts of files, and where their bytes go.
//!
//! Pure: a plan follows from the tree, the chunk lists and the headers of files of tensors.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use globset::{Glob, GlobSet, GlobSetBuilder};
use lode_store::{
    ChunkHash,
    download::{Layout, Segment},
    tree::{ChunkList, File, Mode, Tree},
};
use lode_tensors::{ByteRange, Cut, Header, Runs, SubsetError};

use crate::command::Failure;

/// One file that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// What it is.
    pub(crate) mode: Mode,
    /// The HashSeq under which the chunks of its source are asked for.
    pub(crate) seq: ChunkHash,
    /// The chunks of its source: the file of the version at the same path.
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
        mode: file.mode,
        seq: file.chunks.seq,
        list,
    }
}

/// A file that is made here and has nothing of the version's bytes.
pub(crate) fn made(path: &str, bytes: Vec<u8>) -> Planned {
    Planned {
        mode: Mode::File,
        seq: ChunkHash::of(b""),
        list: Arc::default(),
        path: path.to_owned(),
        len: bytes.len() as u64,
        layout: Layout::parts(vec![(0, Bytes::from(bytes))], Vec::new()),
        parts: Vec::new(),
    }
}

/// Whether a file may hold tensors that can be pulled alone.
pub(crate) fn may_have_tensors(file: &File) -> bool {
    file.mode != Mode::Link && file.chunks.rule == lode_store::cut::TENSORS_1
}

/// Chosen tensors of one file, cut, as a file of its own; nothing when none are chosen.
///
/// # Errors
/// When no header can be made for them.
pub(crate) fn tensors(
    file: &File,
    list: &Arc<ChunkList>,
    header: &Header,
    source: &[u8],
    chosen: &[(usize, Cut)],
) -> Result<Option<Planned>, Failure> {
    if chosen.is_empty() {
        return Ok(None);
    }
    let subset = lode_tensors::subset_cut(header, source, chosen).map_err(|error| {
        let message = format!("{}: {error}", file.path);
        match error {
            SubsetError::Cut { .. } => {
                Failure::usage(message).advise("`lode tensors NAME` shows the shapes")
            }
            _ => Failure::failed(message),
        }
    })?;
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
        let mut offset = placed.offset;
        for runs in &placed.runs {
            let runs = *runs;
            segments.push(Segment { runs, offset });
            offset += runs.bytes();
        }
        end = placed.offset + placed.len;
    }
    if subset.len > end {
        literals.push(pad(end, subset.len));
    }
    Ok(Some(Planned {
        path: file.path.clone(),
        len: subset.len,
        parts: parts_of(list, &segments),
        layout: Layout::parts(literals, segments),
        mode: file.mode,
        seq: file.chunks.seq,
        list: Arc::clone(list),
    }))
}

/// The chunks in which segments lie, and how many bytes of each they take.
fn parts_of(list: &ChunkList, segments: &[Segment]) -> Vec<(u32, u64)> {
    let mut starts = Vec::with_capacity(list.lengths.len() + 1);
    let mut end = 0;
    starts.push(end);
    for length in &list.lengths {
        end += u64::from(*length);
        starts.push(end);
    }
    let mut parts = BTreeMap::<u32, u64>::new();
    for Segment { runs, .. } in segments {
        let span = runs.span();
        let first = starts.partition_point(|start| *start <= span.start) - 1;
        let bounds = starts[first..].windows(2);
        for (chunk, bounds) in (first..).zip(bounds.take_while(|bounds| bounds[0] < span.end)) {
            let bytes = runs.bytes_before(bounds[1]) - runs.bytes_before(bounds[0]);
            if bytes > 0 {
                let chunk = u32::try_from(chunk).expect("chunk lists are bounded");
                *parts.entry(chunk).or_default() += bytes;
            }
        }
    }
    parts.into_iter().collect()
}

/// The whole chunks that a file takes bytes of, one after the other: what the store keeps of it. When that is all
/// of them, it is the layout of the whole file.
pub(crate) fn whole_chunks(planned: &Planned) -> Layout {
    if planned.parts.len() == planned.list.len() {
        return Layout::whole(&planned.list);
    }
    let mut wanted = planned.parts.iter().map(|(chunk, _)| *chunk).peekable();
    let (mut start, mut offset) = (0, 0);
    let mut segments = Vec::with_capacity(planned.parts.len());
    for (chunk, length) in (0u32..).zip(&planned.list.lengths) {
        let end = start + u64::from(*length);
        if wanted.next_if_eq(&chunk).is_some() {
            let runs = Runs::of(ByteRange { start, end }).expect("chunks are not empty");
            segments.push(Segment { runs, offset });
            offset += u64::from(*length);
        }
        start = end;
    }
    Layout::parts(Vec::new(), segments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
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
    fn each_chunk_is_named_with_the_bytes_that_are_taken_of_it() {
        let list = list(&[10, 20, 5, 100]);
        for (start, len, step, count) in
            [(0, 135, 135, 1), (9, 2, 2, 1), (3, 2, 30, 4), (36, 1, 2, 9)]
        {
            let runs = Runs::new(start, len, step, count).unwrap();
            let mut expected = BTreeMap::<u32, u64>::new();
            for at in runs
                .inside(runs.span())
                .flat_map(|part| part.range.start..part.range.end)
            {
                let chunk = [10, 30, 35].iter().filter(|end| at >= **end).count();
                *expected.entry(chunk as u32).or_default() += 1;
            }
            let parts = parts_of(&list, &[Segment { runs, offset: 0 }]);
            assert_eq!(parts, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_bad_glob_is_a_usage_error_that_names_it() {
        let error = globs(&["model.[".to_owned()], "--tensors").unwrap_err();
        assert_eq!(error.kind, crate::command::FailureKind::Usage);
        assert!(error.message.contains("model.["), "{error}");
    }
}
