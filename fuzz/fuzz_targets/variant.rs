//! Variants of hostile folders: a layout or an error, never a panic; what was laid out has a header that readers
//! accept, and any range is the slice of the whole, made of nothing but what it names.
//!
//! Input: a byte for the recipe, two for a range, then files: a byte for the path, two for the length, the bytes. The
//! last file takes what is left.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_quantize::variant::{FileBytes, layout, wanted};
use lode_quantize::{
    Content, Gathered, MakeError, Recipe, Source, SourceFile, SourceRange, VirtualFile, Wanted,
};
use lode_tensors::{ByteRange, parse};

const PATHS: &[&str] = &[
    "config.json",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "model.gguf",
    "model-00002-of-00002.gguf",
    "tokenizer.json",
    "tokenizer_config.json",
    "sub/model.safetensors",
    "sub/config.json",
    "generation_config.json",
    "tokenizer.model",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];
/// Longest file that is made whole.
const MADE_BYTES_MAX: u64 = 1 << 20;

/// Files by path; the first of each.
fn files(mut bytes: &[u8]) -> Vec<(&'static str, &[u8])> {
    let mut files: Vec<(&str, &[u8])> = Vec::new();
    while let [path, low, high, rest @ ..] = bytes {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (file, rest) = rest.split_at(len);
        bytes = rest;
        let path = PATHS[usize::from(*path) % PATHS.len()];
        if files.iter().all(|(found, _)| *found != path) {
            files.push((path, file));
        }
    }
    files.sort_unstable();
    files
}

fn content(bytes: &[u8], wanted: Wanted) -> Content {
    match wanted {
        Wanted::Whole { bytes_max } if bytes.len() as u64 <= bytes_max => {
            Content::Whole(bytes.to_vec())
        }
        Wanted::Header => match parse(bytes, bytes.len() as u64) {
            Ok(header) => Content::Tensors {
                bytes: bytes[..header.len as usize].to_vec(),
                header,
            },
            Err(_) => Content::Unread,
        },
        _ => Content::Unread,
    }
}

fn make(
    file: &VirtualFile,
    files: &[(&str, &[u8])],
    range: ByteRange,
) -> Result<Vec<u8>, MakeError> {
    let needs = file.needs(range);
    let pieces: Vec<(SourceRange, Vec<u8>)> = needs
        .iter()
        .map(|at| {
            let bytes = at.range.of(files[at.file].1);
            (*at, bytes.expect("a range of the source").to_vec())
        })
        .collect();
    let gathered = Gathered::new(pieces.iter().map(|(at, bytes)| (*at, &bytes[..])));
    let mut out = vec![0; range.len() as usize];
    match file.make(range, &gathered, &mut out) {
        Ok(()) => Ok(out),
        Err(error) => {
            assert!(!matches!(
                error,
                MakeError::NotGathered { .. } | MakeError::Range { .. }
            ));
            Err(error)
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, low, high, rest @ ..] = input else {
        return;
    };
    let files = files(rest);
    let all = Recipe::all(files.iter().map(|(path, _)| *path));
    if all.is_empty() {
        return;
    }
    let recipe = all[usize::from(*choice) % all.len()];
    let lay_out = || {
        let file = |(path, bytes): &(&str, &[u8])| SourceFile {
            path: (*path).to_owned(),
            size: bytes.len() as u64,
            content: content(bytes, wanted(&recipe, path)),
        };
        let source = Source {
            files: files.iter().map(file).collect(),
        };
        layout(&recipe, &source)
    };
    let Ok(variant) = lay_out() else {
        return;
    };
    let again = lay_out().expect("the same files give the same layout");
    for (first, second) in variant.iter().zip(&again) {
        let (FileBytes::Made(file), FileBytes::Made(fresh)) = (&first.bytes, &second.bytes) else {
            continue;
        };
        if file.len() > MADE_BYTES_MAX || file.is_empty() {
            continue;
        }
        let end = file.len();
        let whole = make(file, &files, ByteRange { start: 0, end });
        let start = u64::from(u16::from_le_bytes([*low, *high])) % end;
        let range = ByteRange {
            start,
            end: end.min(start + 1 + u64::from(*high)),
        };
        // The second layout has made nothing yet.
        let part = make(fresh, &files, range);
        let Ok(whole) = whole else {
            continue;
        };
        let part = part.expect("what is whole can be made in part");
        assert!(part == range.of(&whole).expect("it lies in the file"));
        if !file.tensors().is_empty() {
            let header = parse(&whole, end).expect("readers accept what was made");
            assert_eq!(header.tensors, file.tensors());
        }
    }
});
