//! One pass over files gives what plain one-shot hashing of their bytes gives, on any number of threads.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use sha1::Digest as _;

use super::*;
use crate::{
    cut::{CDC_1, Cuts, TENSORS_1, cdc_cuts},
    outboard,
};

/// Bytes that do not repeat, from a seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// What a visitor was told of one file.
#[derive(Default)]
struct Seen {
    chunks: BTreeMap<u32, (u64, ChunkHash, Vec<u8>, Vec<u8>)>,
    hashes: Option<FileHashes>,
}

#[derive(Default)]
struct Recorder {
    plans: Vec<Option<Vec<u32>>>,
    seen: Mutex<BTreeMap<usize, Seen>>,
    bytes: AtomicU64,
    cancel_after: Option<u64>,
    fail_chunk: bool,
    on_open: Option<fn(&Path)>,
    path: Option<PathBuf>,
}

impl Visitor for Recorder {
    type Error = &'static str;

    fn open(&self, file: usize, _: &Handle, _: &Pins) -> Result<Plan, Self::Error> {
        if let (Some(act), Some(path)) = (self.on_open, &self.path) {
            act(path);
        }
        Ok(match self.plans.get(file).cloned().flatten() {
            Some(lengths) => Plan::Known(Cuts {
                rule: TENSORS_1,
                lengths,
            }),
            None => Plan::Content,
        })
    }

    fn chunk(&self, chunk: HashedChunk<'_>) -> Result<(), Self::Error> {
        if self.fail_chunk {
            return Err("no room");
        }
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.entry(chunk.file).or_default();
        let value = (
            chunk.offset,
            chunk.hash,
            chunk.data.to_vec(),
            chunk.outboard,
        );
        assert!(seen.chunks.insert(chunk.index, value).is_none());
        Ok(())
    }

    fn done(&self, file: usize, hashes: FileHashes) -> Result<(), Self::Error> {
        self.seen.lock().unwrap().entry(file).or_default().hashes = Some(hashes);
        Ok(())
    }

    fn progress(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.cancel_after
            .is_some_and(|bytes| self.bytes.load(Ordering::Relaxed) >= bytes)
    }
}

/// Random lengths from 1 to the longest chunk that sum to `len`.
fn lengths(seed: u64, len: usize) -> Vec<u32> {
    let mut left = len;
    let mut lengths = Vec::new();
    for word in noise(seed, 1 << 16).as_chunks::<4>().0.iter().cycle() {
        if left == 0 {
            break;
        }
        let word = u32::from_le_bytes(*word);
        let length = (1 + word as usize % (1 << (4 + word % 21))).min(left);
        lengths.push(length as u32);
        left -= length;
    }
    lengths
}

fn check(seen: &Seen, data: &[u8], cuts: &[u32], known: bool) {
    let hashes = seen.hashes.as_ref().unwrap();
    assert_eq!(hashes.rule, if known { TENSORS_1 } else { CDC_1 });
    assert_eq!(hashes.lengths, cuts);
    let mut offset = 0;
    for (index, &length) in cuts.iter().enumerate() {
        let bytes = &data[offset..offset + length as usize];
        let (hash, pairs) = outboard::compute(bytes);
        let (at, found, content, found_pairs) = &seen.chunks[&(index as u32)];
        assert_eq!((*at, *found), (offset as u64, hash));
        assert!(content == bytes && *found_pairs == pairs);
        assert_eq!(hashes.chunks[index], hash);
        offset += length as usize;
    }
    assert_eq!(seen.chunks.len(), cuts.len());
    assert_eq!(hashes.sha256, <[u8; 32]>::from(sha2::Sha256::digest(data)));
    let git = sha1::Sha1::new_with_prefix(format!("blob {}\0", data.len())).chain_update(data);
    let small = data.len() as u64 <= crate::limits::GIT_HASH_FILE_BYTES_MAX;
    assert_eq!(hashes.git, small.then(|| git.finalize().into()));
    assert_eq!(hashes.root, Some(ChunkHash::of(data)));
    assert_eq!(hashes.pins.len, data.len() as u64);
}

#[test]
fn all_hashes_are_those_of_the_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [
        0,
        1,
        1024,
        300_000,
        1 << 20,
        (1 << 20) + 1,
        5_000_000,
        (10 << 20) + 1,
    ];
    let mut files = Vec::new();
    let mut plans = Vec::new();
    let mut contents = Vec::new();
    let mut cuts = Vec::new();
    for (seed, &len) in (0..).zip(sizes.iter().chain(&sizes)) {
        let data = noise(seed, len);
        let path = dir.path().join(seed.to_string());
        fs::write(&path, &data).unwrap();
        files.push(Source::File { path });
        let plan = (seed >= sizes.len() as u64).then(|| lengths(seed, len));
        cuts.push(plan.clone().unwrap_or_else(|| cdc_cuts(&data).lengths));
        plans.push(plan);
        contents.push(data);
    }
    let given: Vec<Source> = contents.iter().map(|data| as_given(data)).collect();
    for (threads, files) in [(1, &files), (3, &files), (1, &given), (3, &given)] {
        let recorder = Recorder {
            plans: plans.clone(),
            ..Recorder::default()
        };
        let options = HashOptions {
            threads,
            roots: true,
            digests: true,
        };
        hash_files(files, &options, &recorder).unwrap();
        let seen = recorder.seen.into_inner().unwrap();
        assert_eq!(seen.len(), files.len());
        for (file, data) in contents.iter().enumerate() {
            check(&seen[&file], data, &cuts[file], plans[file].is_some());
        }
        let total: usize = contents.iter().map(Vec::len).sum();
        assert_eq!(recorder.bytes.into_inner(), total as u64);
    }
}

#[derive(Debug)]
struct InMemory(Vec<u8>);

impl Content for InMemory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = self.0.get(offset as usize..);
        let found = rest.and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn as_given(data: &[u8]) -> Source {
    Source::Given {
        name: "given".into(),
        content: Arc::new(InMemory(data.to_vec())),
    }
}

fn one_file(len: usize) -> (tempfile::TempDir, Vec<Source>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, noise(1, len)).unwrap();
    (dir, vec![Source::File { path }])
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let acts: [fn(&Path); 4] = [
        |path| {
            File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_len(10)
                .unwrap()
        },
        |path| fs::write(path, noise(2, 3_000_000)).unwrap(),
        |path| {
            let other = path.with_extension("new");
            fs::write(&other, noise(1, 3_000_000)).unwrap();
            fs::rename(&other, path).unwrap();
        },
        |path| fs::remove_file(path).unwrap(),
    ];
    for act in acts {
        let (_dir, files) = one_file(3_000_000);
        let recorder = Recorder {
            on_open: Some(act),
            path: Some(files[0].path().to_owned()),
            ..Recorder::default()
        };
        let error = hash_files(&files, &HashOptions::default(), &recorder).unwrap_err();
        assert!(matches!(error, HashError::Changed { .. }), "{error}");
    }
}

#[test]
fn cancelling_and_errors_stop_the_work() {
    let (_dir, files) = one_file(14_000_000);
    let recorder = Recorder {
        cancel_after: Some(1),
        ..Recorder::default()
    };
    let result = hash_files(&files, &HashOptions::default(), &recorder);
    assert!(matches!(result, Err(HashError::Cancelled)));
    let recorder = Recorder {
        fail_chunk: true,
        ..Recorder::default()
    };
    let result = hash_files(&files, &HashOptions::default(), &recorder);
    assert!(matches!(result, Err(HashError::Visitor("no room"))));
    let missing = [Source::File {
        path: files[0].path().with_file_name("missing"),
    }];
    let result = hash_files(&missing, &HashOptions::default(), &Recorder::default());
    assert!(matches!(result, Err(HashError::Io { .. })));
}

#[test]
fn a_pipe_or_symlink_in_place_of_a_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link");
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [path, socket] {
        let result = hash_files(
            &[Source::File { path }],
            &HashOptions::default(),
            &Recorder::default(),
        );
        assert!(matches!(result, Err(HashError::Io { .. })));
    }
}

#[test]
fn a_file_just_written_counts_as_recent() {
    let (_dir, files) = one_file(10);
    let recorder = Recorder::default();
    hash_files(&files, &HashOptions::default(), &recorder).unwrap();
    let seen = recorder.seen.into_inner().unwrap();
    let hashes = seen[&0].hashes.clone().unwrap();
    assert!(hashes.recent);
    let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1 << 33);
    assert!(age(&hashes.pins, later) > std::time::Duration::from_secs(2));
}
