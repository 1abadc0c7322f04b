//! Makes a variant of a folder, for tests with loaders and for measurements.
//!
//! usage: variant FOLDER NAME OUT [THREADS], where NAME is that of a precision, such as `fp8`, and OUT a folder that is
//! made, or `-` to make every byte and keep none. Prints what was made and how long it took.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use lode_quantize::variant::{FileBytes, layout, wanted};
use lode_quantize::{Content, Gathered, Recipe, Source, SourceFile, VirtualFile, Wanted};
use lode_tensors::{ByteRange, ParseError, limits::PREFIX_BYTES_FIRST, parse};

/// What a thread makes at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Bytes of source that a thread holds at a time.
const NEEDS_BYTES_MAX: u64 = 16 << 20;

fn walk(folder: &Path, root: &Path, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, root, paths);
        } else {
            let path = path.strip_prefix(root).unwrap();
            paths.push(path.to_str().unwrap().to_owned());
        }
    }
}

fn read(file: &File, range: ByteRange) -> Vec<u8> {
    let mut bytes = vec![0; range.len() as usize];
    file.read_exact_at(&mut bytes, range.start).unwrap();
    bytes
}

fn content(file: &File, size: u64, wanted: Wanted) -> Content {
    let prefix = |len: u64| {
        let end = len.min(size);
        read(file, ByteRange { start: 0, end })
    };
    match wanted {
        Wanted::Whole { bytes_max } if size <= bytes_max => Content::Whole(prefix(size)),
        Wanted::Header => {
            let mut bytes = prefix(PREFIX_BYTES_FIRST);
            loop {
                match parse(&bytes, size) {
                    Ok(header) => return Content::Tensors { header, bytes },
                    Err(ParseError::NeedMore { bytes: more }) => bytes = prefix(more),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        _ => Content::Unread,
    }
}

/// Makes a file on several threads; gives the bytes of source that were read.
fn make(file: &VirtualFile, sources: &[File], out: Option<&File>, threads: usize) -> u64 {
    let (next, read_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut made = vec![0; PIECE_BYTES as usize];
                loop {
                    let start = next.fetch_add(PIECE_BYTES, Ordering::Relaxed);
                    let end = file.len().min(start + PIECE_BYTES);
                    let Some(range) = ByteRange::new(start, end).filter(|r| !r.is_empty()) else {
                        return;
                    };
                    let mut at = range;
                    while !at.is_empty() {
                        let part = file.within(at, NEEDS_BYTES_MAX);
                        let needs = file.needs(part);
                        let gathered: Vec<_> = needs
                            .iter()
                            .map(|at| (*at, read(&sources[at.file], at.range)))
                            .collect();
                        let bytes: u64 = needs.iter().map(|at| at.range.len()).sum();
                        read_bytes.fetch_add(bytes, Ordering::Relaxed);
                        let gathered = Gathered::new(gathered.iter().map(|(at, b)| (*at, &b[..])));
                        let made = &mut made[..part.len() as usize];
                        file.make(part, &gathered, made).unwrap();
                        if let Some(out) = out {
                            out.write_all_at(made, part.start).unwrap();
                        }
                        at.start = part.end;
                    }
                }
            });
        }
    });
    read_bytes.into_inner()
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (folder, name, out, threads) = match &arguments[..] {
        [folder, name, out] => (folder, name, out, 2),
        [folder, name, out, threads] => (folder, name, out, threads.parse().unwrap()),
        _ => panic!("usage: variant FOLDER NAME OUT [THREADS]"),
    };
    let folder = Path::new(folder);
    let out = (out != "-").then(|| PathBuf::from(out));
    let mut paths = Vec::new();
    walk(folder, folder, &mut paths);
    paths.sort();
    let recipe = Recipe::named(name, paths.iter().map(String::as_str)).unwrap();
    let sources: Vec<_> = paths
        .iter()
        .map(|path| File::open(folder.join(path)).unwrap())
        .collect();
    let start = Instant::now();
    let files = paths.iter().zip(&sources).map(|(path, file)| {
        let size = file.metadata().unwrap().len();
        let content = content(file, size, wanted(&recipe, path));
        SourceFile {
            path: path.clone(),
            size,
            content,
        }
    });
    let source = Source {
        files: files.collect(),
    };
    let files = layout(&recipe, &source).unwrap_or_else(|error| {
        println!("not made: {error}");
        std::process::exit(1)
    });
    println!("laid out in {:?}", start.elapsed());
    for file in &files {
        let target = out.as_ref().map(|out| {
            let path = out.join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap()
        });
        match &file.bytes {
            FileBytes::Same(at) => {
                if let Some(mut target) = target {
                    target
                        .write_all(&fs::read(folder.join(&paths[*at])).unwrap())
                        .unwrap();
                }
            }
            FileBytes::Made(virtual_file) => {
                let start = Instant::now();
                let read = make(virtual_file, &sources, target.as_ref(), threads);
                println!(
                    "{}: {} bytes of {read} in {:?}",
                    file.path,
                    virtual_file.len(),
                    start.elapsed()
                );
            }
        }
    }
    println!("cpu {:.3} s", cpu_seconds());
}

/// User and system time of all threads, in hundredths of a second as the kernel counts.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = text.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
