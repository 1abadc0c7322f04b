//! GGUF variants are, byte for byte, what llama-quantize writes, whole and by any range.
//!
//! Without this, a pulled variant would not be the file that others know, its size would not be what was listed, and a
//! range of it would not fit the rest. golden/llama-quantize.py ran llama-quantize on the models of tests/models.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use crate::models::{Gguf, Random, Type, models, source};
use lode_quantize::variant::{FileBytes, LayoutError, layout};
use lode_quantize::{Gathered, MakeError, Recipe, RecipeError, Source, VirtualFile};
use lode_tensors::{ByteRange, Dtype};
use sha2::{Digest, Sha256};

const GOLDEN: &str = include_str!("../golden/llama-quantize.txt");

fn recipe(name: &str) -> Recipe {
    Recipe::named(name, ["model.gguf"]).unwrap()
}

fn lay_out(name: &str, source: &Source) -> Result<Arc<VirtualFile>, LayoutError> {
    let files = layout(&recipe(name), source)?;
    let [file] = &files[..] else {
        panic!("{} files", files.len());
    };
    assert_eq!(file.path, "model.gguf");
    match &file.bytes {
        FileBytes::Made(made) => Ok(Arc::clone(made)),
        FileBytes::Same(_) => panic!("a variant is made"),
    }
}

/// Makes a range from nothing but the bytes that it needs.
fn make(file: &VirtualFile, range: ByteRange, sources: &[&[u8]]) -> Result<Vec<u8>, MakeError> {
    let needs = file.needs(range);
    let pieces = needs
        .iter()
        .map(|at| (*at, at.range.of(sources[at.file]).unwrap()));
    let mut out = vec![0xaa; range.len() as usize];
    file.make(range, &Gathered::new(pieces), &mut out)?;
    Ok(out)
}

fn whole(file: &VirtualFile) -> ByteRange {
    ByteRange {
        start: 0,
        end: file.len(),
    }
}

fn hash(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in &Sha256::digest(bytes)[..8] {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

#[test]
fn variants_are_the_files_that_llama_quantize_writes() {
    let golden: BTreeMap<(&str, &str), (u64, &str)> = GOLDEN
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            ((words[0], words[1]), (words[2].parse().unwrap(), words[3]))
        })
        .collect();
    let mut checked = 0;
    for (model, file) in models() {
        let bytes = file.bytes();
        let source = source(&[("model.gguf", &bytes)]);
        for recipe in Recipe::all(["model.gguf"]) {
            let name = recipe.name();
            let made = lay_out(&name, &source).unwrap();
            let (len, expected) = golden[&(model, name.as_str())];
            assert_eq!(made.len(), len, "{model} {name}: its length");
            let bytes = make(&made, whole(&made), &[&bytes]).unwrap();
            assert_eq!(hash(&bytes), expected, "{model} {name}: its bytes");
            let header = lode_tensors::parse(&bytes, len).unwrap();
            let named = |file: &[lode_tensors::Tensor]| {
                let mut tensors = file.to_vec();
                tensors.sort_by(|a, b| a.name.cmp(&b.name));
                tensors
            };
            assert_eq!(
                named(&header.tensors),
                named(made.tensors()),
                "{model} {name}"
            );
            checked += 1;
        }
    }
    assert_eq!(checked, golden.len(), "a golden line is not checked");
}

#[test]
fn any_range_is_that_part_of_the_whole() {
    let seed = 20_261_126;
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    for (model, file) in models() {
        let bytes = file.bytes();
        let source = source(&[("model.gguf", &bytes)]);
        for name in ["q4_k_m", "q8_0", "q3_k_s", "f16"] {
            let made = lay_out(name, &source).unwrap();
            let all = make(&made, whole(&made), &[&bytes]).unwrap();
            for _ in 0..60 {
                let start = random.below(made.len() + 1);
                let most = if random.below(2) == 0 { 40 } else { 9000 };
                let end = (start + random.below(most)).min(made.len());
                let range = ByteRange { start, end };
                let part = make(&made, range, &[&bytes]).unwrap();
                assert_eq!(
                    Some(&part[..]),
                    range.of(&all),
                    "{model} {name} {start}..{end}"
                );
            }
        }
    }
}

#[test]
fn a_short_range_needs_little_of_the_source() {
    let mut file = Gguf::default();
    file.text("general.architecture", "llama");
    file.random("blk.0.ffn_up.weight", Type::Bf16, &[64, 4096]);
    let bytes = file.bytes();
    let made = lay_out("q4_k_m", &source(&[("model.gguf", &bytes)])).unwrap();
    let start = made.tensors()[0].range.start + 1000;
    let end = start + 4096;
    let needs = made.needs(ByteRange { start, end });
    let needed: u64 = needs.iter().map(|at| at.range.len()).sum();
    assert_eq!(needs.len(), 1);
    assert!(needed <= 16 * 1024, "4 KiB of q4_k_m need {needed} bytes");
}

#[test]
fn a_split_model_becomes_one_file_and_a_missing_part_is_named() {
    let part = |number: u32, tensor: &str| {
        let mut file = Gguf::default();
        file.text("general.architecture", "llama")
            .u32("split.no", number)
            .u32("split.count", 2)
            .u32("split.tensors.count", 2)
            .random(tensor, Type::Bf16, &[2, 256]);
        file.bytes()
    };
    let (first, second) = (
        part(0, "blk.1.ffn_up.weight"),
        part(1, "blk.0.ffn_up.weight"),
    );
    let one = {
        let mut file = Gguf::default();
        file.text("general.architecture", "llama")
            .random("blk.0.ffn_up.weight", Type::Bf16, &[2, 256])
            .random("blk.1.ffn_up.weight", Type::Bf16, &[2, 256]);
        file.bytes()
    };
    // The second part stands first in the tree.
    let split = source(&[("a.gguf", &second), ("b.gguf", &first)]);
    let made = lay_out("q8_0", &split).unwrap();
    let expected = lay_out("q8_0", &source(&[("m.gguf", &one)])).unwrap();
    assert_eq!(
        make(&made, whole(&made), &[&second, &first]).unwrap(),
        make(&expected, whole(&expected), &[&one]).unwrap()
    );
    let error = lay_out("q8_0", &source(&[("b.gguf", &first)])).unwrap_err();
    assert!(error.to_string().contains("part 2 of 2"), "{error}");
    let several = source(&[("a.gguf", &one), ("b.gguf", &one)]);
    let error = lay_out("q8_0", &several).unwrap_err();
    assert!(
        matches!(error, LayoutError::SeveralModels { .. }),
        "{error}"
    );
}

#[test]
fn what_is_quantized_already_is_made_only_when_that_is_said() {
    let mut file = Gguf::default();
    file.text("general.architecture", "llama");
    file.random("blk.0.ffn_up.weight", Type::Q8_0, &[2, 256]);
    let bytes = file.bytes();
    let source = source(&[("model.gguf", &bytes)]);
    let error = lay_out("q4_k_m", &source).unwrap_err();
    assert!(
        matches!(
            &error,
            LayoutError::QuantizedSource {
                dtype: Dtype::Q8_0,
                ..
            }
        ),
        "{error}"
    );
    let made = lay_out("q4_k_m-from-quantized", &source).unwrap();
    assert_eq!(made.tensors()[0].dtype, Dtype::Q4_K);
    make(&made, whole(&made), &[&bytes]).unwrap();
    // The same type is a copy, and nothing is lost.
    let copied = lay_out("q8_0", &source).unwrap();
    make(&copied, whole(&copied), &[&bytes]).unwrap();
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for (bad, at) in [(f32::NAN, 300_u64), (f32::INFINITY, 7)] {
        let weights: Vec<u8> = (0..512)
            .flat_map(|i| if i == at { bad } else { 0.5 }.to_le_bytes())
            .collect();
        let mut file = Gguf::default();
        file.text("general.architecture", "llama");
        file.tensor("blk.0.ffn_up.weight", Type::F32, &[2, 256], &weights);
        let bytes = file.bytes();
        let made = lay_out("q4_k_m", &source(&[("model.gguf", &bytes)])).unwrap();
        let error = make(&made, whole(&made), &[&bytes]).unwrap_err();
        let tensor = "blk.0.ffn_up.weight".to_owned();
        assert_eq!(error, MakeError::NotFinite { tensor, at });
    }
}

#[test]
fn models_without_a_name_or_twice_named_tensors_are_refused() {
    let mut file = Gguf::default();
    file.random("blk.0.ffn_up.weight", Type::Bf16, &[2, 256]);
    let bytes = file.bytes();
    let error = lay_out("q8_0", &source(&[("model.gguf", &bytes)])).unwrap_err();
    assert!(
        error.to_string().contains("general.architecture"),
        "{error}"
    );
    assert_eq!(
        lay_out("q8_0", &source(&[("model.gguf", b"not one")])).unwrap_err(),
        LayoutError::NoModel
    );
    let part = |number: u32| {
        let mut file = Gguf::default();
        file.text("general.architecture", "llama")
            .u32("split.no", number)
            .u32("split.count", 2)
            .random("output.weight", Type::Bf16, &[2, 256]);
        file.bytes()
    };
    let error = lay_out(
        "q8_0",
        &source(&[("a.gguf", &part(0)), ("b.gguf", &part(1))]),
    );
    assert!(
        matches!(error, Err(LayoutError::TwiceNamed { .. })),
        "{error:?}"
    );
    assert_eq!(Recipe::named("q8_0", ["a.txt"]), Err(RecipeError::NoModel));
}

#[test]
fn ranges_outside_and_sources_that_were_not_gathered_are_errors() {
    let (_, file) = models().remove(0);
    let bytes = file.bytes();
    let made = lay_out("q8_0", &source(&[("model.gguf", &bytes)])).unwrap();
    let end = made.len() + 1;
    let mut out = vec![0; 2];
    let outside = ByteRange {
        start: end - 2,
        end,
    };
    let nothing = Gathered::default();
    assert!(matches!(
        made.make(outside, &nothing, &mut out),
        Err(MakeError::Range { .. })
    ));
    let start = made.tensors()[0].range.start;
    let inside = ByteRange {
        start,
        end: start + 2,
    };
    assert!(matches!(
        made.make(inside, &nothing, &mut out),
        Err(MakeError::NotGathered { .. })
    ));
}
