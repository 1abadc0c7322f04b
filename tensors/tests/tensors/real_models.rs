//! Headers of real models, as other tools wrote them, and what other tools read of ours.
//!
//! Models come from `scripts/fetch-models` (or `LODE_TEST_MODELS=FOLDER`), Python from `LODE_PYTHON`
//! (else `python3`) with the packages `safetensors`, `numpy` and `gguf`. What is missing is said and
//! skipped, but fails where the variable was set.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use lode_tensors::{
    ByteRange, Dtype, Format, Header, ParseError, difference, floats, limits, parse, subset,
};

/// The folder of a model, if it was fetched.
fn model(name: &str) -> Option<PathBuf> {
    let (folder, asked) = match std::env::var_os("LODE_TEST_MODELS") {
        Some(folder) => (PathBuf::from(folder), true),
        None => (
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/models"),
            false,
        ),
    };
    let model = folder.join(name);
    if model.is_dir() {
        return Some(model);
    }
    assert!(!asked, "{} is not there", model.display());
    eprintln!("SKIPPED: no {}: run scripts/fetch-models", model.display());
    None
}

fn header(path: &Path) -> Header {
    let mut file = File::open(path).unwrap();
    let file_len = file.metadata().unwrap().len();
    let mut want = limits::PREFIX_BYTES_FIRST.min(file_len);
    for _ in 0..8 {
        file.rewind().unwrap();
        let mut prefix = Vec::new();
        Read::by_ref(&mut file)
            .take(want)
            .read_to_end(&mut prefix)
            .unwrap();
        match parse(&prefix, file_len) {
            Err(ParseError::NeedMore { bytes }) => want = bytes,
            other => return other.unwrap(),
        }
    }
    panic!("{} never ends", path.display());
}

fn read(path: &Path, range: ByteRange) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    file.seek(SeekFrom::Start(range.start)).unwrap();
    let mut bytes = vec![0; range.len() as usize];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn minilm_is_read() {
    let Some(model) = model("all-minilm-l6-v2") else {
        return;
    };
    let path = model.join("model.safetensors");
    let header = header(&path);
    assert_eq!(header.format, Format::Safetensors);
    assert_eq!(header.metadata.text("format"), Some("pt"));
    assert_eq!(header.parameter_count(), 22_713_728);
    let words = header.tensor("embeddings.word_embeddings.weight").unwrap();
    assert_eq!(
        (words.dtype, words.shape.as_slice()),
        (Dtype::F32, [30_522, 384].as_slice())
    );
    let bytes = read(&path, words.rows(100, 110).unwrap());
    let values: Vec<f64> = floats(words.dtype, &bytes).unwrap().collect();
    assert_eq!(values.len(), 3840);
    let largest = values
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    let mean = values.iter().sum::<f64>() / 3840.0;
    // What numpy says of these rows.
    assert!((largest - 1.0494).abs() < 1e-4, "{largest}");
    assert!((mean - 0.000_391_231_3).abs() < 1e-9, "{mean}");
    let same = difference((Dtype::F32, &bytes), (Dtype::F32, &bytes)).unwrap();
    assert_eq!((same.compared, same.changed), (3840, 0));
}

#[test]
fn smollm2_is_read() {
    let Some(model) = model("smollm2-135m") else {
        return;
    };
    let header = header(&model.join("SmolLM2-135M-Instruct.Q4_1.gguf"));
    assert_eq!(header.format, Format::Gguf { version: 3 });
    assert_eq!(header.metadata.architecture(), Some("llama"));
    assert_eq!(header.parameter_count(), 134_515_008);
    assert_eq!(header.tensors.len(), 272);
    let layers = header
        .metadata
        .entry("llama.block_count")
        .unwrap()
        .value
        .as_u64();
    assert_eq!(layers, Some(30));
}

#[test]
fn gemma3_is_read_with_a_header_over_the_first_prefix() {
    let Some(model) = model("gemma3-270m") else {
        return;
    };
    let header = header(&model.join("gemma-3-270m-q4_k_m.gguf"));
    assert_eq!(header.metadata.architecture(), Some("gemma3"));
    assert!(header.len > limits::PREFIX_BYTES_FIRST, "{}", header.len);
    assert_eq!(header.parameter_count(), 268_098_176);
}

/// Runs a Python program with these arguments, unless Python lacks `packages`.
fn python(packages: &str, program: &str, arguments: &[&Path]) {
    let (python, asked) = match std::env::var_os("LODE_PYTHON") {
        Some(python) => (python, true),
        None => ("python3".into(), false),
    };
    let has = Command::new(&python)
        .args(["-c", &format!("import {packages}")])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        assert!(!asked, "{python:?} has no {packages}");
        eprintln!("SKIPPED: {python:?} has no {packages}");
        return;
    }
    let output = Command::new(&python)
        .args(["-c", program])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Writes the file that holds only some tensors of another.
fn write_subset(source: &Path, to: &Path, keep: impl Fn(&str) -> bool) {
    let header = header(source);
    let head = read(
        source,
        ByteRange {
            start: 0,
            end: header.len,
        },
    );
    let chosen: Vec<_> = (0..header.tensors.len())
        .filter(|&at| keep(&header.tensors[at].name))
        .collect();
    assert!(!chosen.is_empty());
    let subset = subset(&header, &head, &chosen).unwrap();
    let mut file = File::create(to).unwrap();
    file.write_all(&subset.header).unwrap();
    for placed in subset.tensors {
        file.seek(SeekFrom::Start(placed.offset)).unwrap();
        file.write_all(&read(source, placed.source)).unwrap();
    }
    file.set_len(subset.len).unwrap();
}

#[test]
fn a_subset_of_minilm_opens_in_python() {
    let Some(model) = model("all-minilm-l6-v2") else {
        return;
    };
    let source = model.join("model.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("part.safetensors");
    write_subset(&source, &part, |name| {
        name.contains("layer.3.") || name.contains("position")
    });
    let program = "
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], 'np') as whole, safe_open(sys.argv[2], 'np') as part:
    names = {n for n in whole.keys() if 'layer.3.' in n or 'position' in n}
    assert set(part.keys()) == names and len(names) > 10, part.keys()
    assert part.metadata() == whole.metadata()
    for name in names:
        a, b = whole.get_tensor(name), part.get_tensor(name)
        assert a.dtype == b.dtype and (a == b).all(), name
";
    python("safetensors, numpy", program, &[&source, &part]);
}

#[test]
fn a_subset_of_smollm2_opens_in_python() {
    let Some(model) = model("smollm2-135m") else {
        return;
    };
    let source = model.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("part.gguf");
    write_subset(&source, &part, |name| name.starts_with("blk.7."));
    let program = "
import sys
from gguf import GGUFReader
whole, part = GGUFReader(sys.argv[1]), GGUFReader(sys.argv[2])
expected = {t.name: t for t in whole.tensors if t.name.startswith('blk.7.')}
found = {t.name: t for t in part.tensors}
assert found.keys() == expected.keys() and len(found) > 5, found.keys()
for name, t in found.items():
    e = expected[name]
    assert t.tensor_type == e.tensor_type and (t.shape == e.shape).all() and (t.data == e.data).all(), name
counts = ('GGUF.version', 'GGUF.tensor_count', 'GGUF.kv_count')
assert [k for k in whole.fields if k not in counts] == [k for k in part.fields if k not in counts]
";
    python("gguf", program, &[&source, &part]);
}
