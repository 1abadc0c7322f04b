//! safetensors variants: any range is the slice of the whole, from nothing but what it names; what is read back is near
//! what was given; what cannot be made is refused before a byte is made, or by the weight that is wrong.
//!
//! Without this, two readers of one variant would see different files, or a loader would refuse it. Seeds are printed;
//! set LODE_TEST_SEED to run one again.

use std::collections::BTreeMap;

use crate::inputs::Random;
use crate::safetensors_model::{CONFIG, Model, gather, half_bytes};
use lode_quantize::variant::{FileBytes, LayoutError, layout};
use lode_quantize::{MakeError, Recipe, Scheme, VirtualFile};
use lode_tensors::{ByteRange, Dtype, Header, ShardIndex, Tensor, parse};

fn seed() -> u64 {
    let seed = match std::env::var("LODE_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64,
    };
    eprintln!("LODE_TEST_SEED={seed}");
    seed
}

fn variant(model: &Model, scheme: Scheme) -> Result<BTreeMap<String, FileBytes>, LayoutError> {
    let recipe = recipe(model, scheme.name());
    let files = layout(&recipe, &model.source(&recipe))?;
    assert_eq!(files.len(), model.files.len(), "no file is lost or added");
    Ok(files.into_iter().map(|f| (f.path, f.bytes)).collect())
}

fn recipe(model: &Model, name: &str) -> Recipe {
    Recipe::named(name, model.files.iter().map(|(path, _)| path.as_str())).unwrap()
}

fn made<'f>(files: &'f BTreeMap<String, FileBytes>, path: &str) -> &'f VirtualFile {
    match &files[path] {
        FileBytes::Made(file) => file,
        FileBytes::Same(at) => panic!("{path} stays as file {at}"),
    }
}

fn make(model: &Model, file: &VirtualFile, start: u64, end: u64) -> Result<Vec<u8>, MakeError> {
    let range = ByteRange { start, end };
    let mut out = vec![0x55; range.len() as usize];
    let pieces = gather(model, &file.needs(range));
    file.make(range, &pieces.gathered(), &mut out).map(|()| out)
}

fn whole(model: &Model, files: &BTreeMap<String, FileBytes>, path: &str) -> Vec<u8> {
    let file = made(files, path);
    make(model, file, 0, file.len()).unwrap()
}

fn schemes_of(model: &Model) -> Vec<Scheme> {
    let offered = |scheme: &Scheme| variant(model, *scheme).is_ok();
    let schemes: Vec<_> = Scheme::ALL.iter().copied().filter(offered).collect();
    assert!(schemes.len() >= 5, "only {schemes:?} are offered");
    schemes
}

#[test]
fn any_range_is_the_slice_of_the_whole_in_whatever_order_ranges_are_read() {
    let mut random = Random(seed());
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let model = Model::sharded(dtype, 256, 128, &mut random);
        let schemes = schemes_of(&model);
        let expected = Scheme::ALL.len() - usize::from(dtype != Dtype::F32);
        assert_eq!(schemes.len(), expected, "{dtype}: {schemes:?}");
        for scheme in schemes {
            let files = variant(&model, scheme).unwrap();
            let fresh = variant(&model, scheme).unwrap();
            for path in ["model-00001-of-00002.safetensors", "config.json"] {
                let all = whole(&model, &files, path);
                // The second layout knows no scale yet, and learns them in the order of the ranges.
                let file = made(&fresh, path);
                assert_eq!(file.len(), all.len() as u64);
                for _ in 0..300 {
                    let start = random.next() % file.len();
                    let most = 1 << (random.next() % 16);
                    let end = file.len().min(start + 1 + random.next() % most);
                    let part = make(&model, file, start, end).unwrap();
                    let slice = &all[start as usize..end as usize];
                    assert!(part == slice, "{dtype} {scheme:?} {path} {start}..{end}");
                }
            }
        }
    }
}

#[test]
fn readers_at_the_same_time_see_the_same_file() {
    let seed = seed();
    let model = Model::sharded(Dtype::BF16, 256, 128, &mut Random(seed));
    for scheme in schemes_of(&model) {
        let path = "model-00001-of-00002.safetensors";
        let all = whole(&model, &variant(&model, scheme).unwrap(), path);
        let files = variant(&model, scheme).unwrap();
        let file = made(&files, path);
        std::thread::scope(|scope| {
            for reader in 0..4 {
                let (model, all) = (&model, &all);
                scope.spawn(move || {
                    let mut random = Random(seed + reader);
                    for _ in 0..200 {
                        let start = random.next() % file.len();
                        let end = file.len().min(start + 1 + random.next() % 5000);
                        let part = make(model, file, start, end).unwrap();
                        let slice = &all[start as usize..end as usize];
                        assert!(part == slice, "{scheme:?} {start}..{end}");
                    }
                });
            }
        });
    }
}

#[test]
fn small_ranges_need_little_of_the_source() {
    let mut random = Random(1);
    let model = Model::sharded(Dtype::BF16, 256, 512, &mut random);
    let needed = |scheme, name: &str, bytes: u64| {
        let files = variant(&model, scheme).unwrap();
        let file = made(&files, "model-00001-of-00002.safetensors");
        let tensor = file.tensors().iter().find(|t| t.name == name).unwrap();
        let start = tensor.range.start;
        let needs = |end| {
            let needs = file.needs(ByteRange { start, end });
            needs.iter().map(|at| at.range.len()).sum::<u64>()
        };
        let before = needs(start + bytes);
        make(&model, file, start, start + bytes).unwrap();
        (before, needs(start + bytes))
    };
    let row = 512 * 2;
    let name = "model.layers.0.mlp.up_proj.weight";
    // A row, then what is asked for alone, since its scale is known.
    assert_eq!(needed(Scheme::Fp8, name, 1), (row, 2));
    assert_eq!(needed(Scheme::Int8, name, 600), (2 * row, 1200));
    let square = 128 * 128 * 2;
    assert_eq!(needed(Scheme::Fp8Block, name, 1), (square, 2));
    assert_eq!(needed(Scheme::Fp8Block, name, 513), (128 * row, 1026));
    // Scales that were made are not made again.
    let scales = "model.layers.0.mlp.up_proj.weight_scale";
    assert_eq!(needed(Scheme::Fp8, scales, 4), (2 * row, 0));
    let scales = "model.layers.0.mlp.up_proj.weight_scale_inv";
    assert_eq!(needed(Scheme::Fp8Block, scales, 8), (2 * square, 0));
    // Groups are made anew.
    let packed = "model.layers.0.mlp.up_proj.weight_packed";
    assert_eq!(needed(Scheme::Int4, packed, 65), (512, 512));
}

#[test]
fn a_long_need_is_cut_to_what_a_reader_can_hold() {
    let model = Model::sharded(Dtype::BF16, 256, 512, &mut Random(11));
    let files = variant(&model, Scheme::Fp8).unwrap();
    let file = made(&files, "model-00001-of-00002.safetensors");
    let scales = |t: &&Tensor| t.name.ends_with("up_proj.weight_scale");
    let range = file.tensors().iter().find(scales).unwrap().range;
    let bytes = |range| -> u64 { file.needs(range).iter().map(|at| at.range.len()).sum() };
    let row = 512 * 2;
    assert_eq!(bytes(range), 256 * row);
    let part = file.within(range, 70 * row);
    assert_eq!((part.start, part.len()), (range.start, 128));
    assert_eq!(bytes(part), 64 * row);
    assert_eq!(file.within(range, 256 * row), range);
    assert_eq!(file.within(range, 0).len(), 1);
}

fn header(bytes: &[u8]) -> Header {
    parse(bytes, bytes.len() as u64).unwrap()
}

fn floats(bytes: &[u8], tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.range.of(bytes).unwrap();
    let values = lode_tensors::floats(tensor.dtype, bytes).unwrap();
    values.map(|v| v as f32).collect()
}

#[test]
fn weights_that_are_read_back_are_within_a_step_of_the_source() {
    let mut random = Random(seed());
    let model = Model::sharded(Dtype::BF16, 256, 128, &mut random);
    let path = "model-00001-of-00002.safetensors";
    let source = model.bytes(path);
    let before = header(source);
    for scheme in [Scheme::Fp8, Scheme::Fp8Block, Scheme::Int8, Scheme::Int4] {
        let files = variant(&model, scheme).unwrap();
        let bytes = whole(&model, &files, path);
        let after = header(&bytes);
        let name = "model.layers.0.mlp.up_proj";
        let old = before.tensor(&format!("{name}.weight")).unwrap();
        let old = floats(source, old);
        let find = |end: &str| after.tensor(&format!("{name}.{end}"));
        let new = find("weight_packed").or_else(|| find("weight")).unwrap();
        let codes = new.range.of(&bytes).unwrap();
        let codes: Vec<f32> = match scheme {
            Scheme::Int4 => codes
                .iter()
                .flat_map(|b| [b & 15, b >> 4].map(|c| f32::from(c) - 8.0))
                .collect(),
            Scheme::Int8 => codes.iter().map(|&b| f32::from(b.cast_signed())).collect(),
            _ => floats(&bytes, new),
        };
        let scales = find("weight_scale").or_else(|| find("weight_scale_inv"));
        let scales = scales.unwrap();
        let values = floats(&bytes, scales);
        let columns = scales.shape[1] as usize;
        for (at, (old, code)) in old.iter().zip(&codes).enumerate() {
            let (row, column) = (at / 128, at % 128);
            let rows = 256 / scales.shape[0] as usize;
            let scale = values[row / rows * columns + column * columns / 128];
            let largest = match scheme {
                Scheme::Fp8 | Scheme::Fp8Block => old.abs() / 16.0 + scale / 512.0,
                _ => scale.abs() * 1.05,
            };
            let error = (old - code * scale).abs();
            assert!(error <= largest, "{scheme:?} {at}: {old} {code} {scale}");
        }
    }
}

#[test]
fn what_loaders_are_told_is_what_the_files_hold() {
    let mut random = Random(2);
    let model = Model::sharded(Dtype::BF16, 128, 128, &mut random);
    for scheme in schemes_of(&model) {
        let files = variant(&model, scheme).unwrap();
        let config = whole(&model, &files, "config.json");
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let index = whole(&model, &files, "model.safetensors.index.json");
        let index = ShardIndex::parse(&index).unwrap();
        let mut headers = BTreeMap::new();
        let mut total = 0;
        for path in [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ] {
            let bytes = whole(&model, &files, path);
            let header = header(&bytes);
            total += header.tensor_bytes();
            let ours = made(&files, path).tensors();
            assert_eq!(ours, header.tensors, "{scheme:?} {path}");
            for tensor in &header.tensors {
                let word = tensor.dtype.alignment();
                let at = tensor.range.start;
                assert!(at.is_multiple_of(word), "{scheme:?} {tensor:?}");
            }
            headers.insert(path.to_owned(), header);
        }
        index.check(&headers).unwrap();
        assert_eq!(index.total_size(), Some(total));
        assert_eq!(index.unlisted(&headers).count(), 0);
        let all: BTreeMap<_, _> = headers
            .values()
            .flat_map(|h| &h.tensors)
            .map(|t| (t.name.as_str(), t.dtype))
            .collect();
        assert!(matches!(files["tokenizer.json"], FileBytes::Same(_)));
        if matches!(scheme, Scheme::Bf16 | Scheme::F16) {
            assert!(config.get("quantization_config").is_none());
            continue;
        }
        let how = &config["quantization_config"];
        let ignore = match how.get("ignore") {
            Some(ignore) => ignore,
            None => &how["modules_to_not_convert"],
        };
        let ignore: Vec<_> = ignore.as_array().unwrap().iter().collect();
        let ignore: Vec<_> = ignore.iter().map(|v| v.as_str().unwrap()).collect();
        let expected = ["lm_head", "model.embed_tokens", "model.layers.0.mlp.gate"];
        assert_eq!(ignore[..3], expected);
        // Each matrix is quantized or ignored.
        for (name, dtype) in &all {
            let Some(module) = name.strip_suffix(".weight") else {
                continue;
            };
            let scaled = all
                .keys()
                .any(|n| n.starts_with(&format!("{module}.weight_scale")));
            let shape = headers.values().find_map(|h| h.tensor(name)).unwrap();
            if shape.shape.len() == 2 {
                assert_ne!(scaled, ignore.contains(&module), "{scheme:?} {name}");
            } else {
                assert_eq!(*dtype, Dtype::BF16, "{scheme:?} {name}");
            }
        }
    }
}

#[test]
fn odd_shapes_stay_readable() {
    let mut random = Random(seed());
    // Rows and columns that no word divides; 33 columns cannot be packed.
    for (rows, columns) in [(1, 1), (3, 5), (7, 32), (5, 33), (129, 160)] {
        let model = Model::single(Dtype::BF16, rows, columns, &mut random);
        for scheme in [Scheme::F16, Scheme::Fp8, Scheme::Int8, Scheme::Int4] {
            let files = match variant(&model, scheme) {
                Ok(files) => files,
                Err(LayoutError::NotOffered(_)) => {
                    assert!(scheme == Scheme::Int4 && !columns.is_multiple_of(32));
                    continue;
                }
                Err(error) => panic!("{scheme:?} {rows}x{columns}: {error}"),
            };
            let bytes = whole(&model, &files, "model.safetensors");
            for tensor in header(&bytes).tensors {
                let word = tensor.dtype.alignment();
                assert!(tensor.range.start.is_multiple_of(word), "{tensor:?}");
            }
        }
        let squares = variant(&model, Scheme::Fp8Block);
        assert!(
            matches!(squares, Err(LayoutError::NotOffered(ref text)) if text.contains("up_proj")),
            "{squares:?}"
        );
    }
}

#[test]
fn the_group_is_the_largest_that_divides_every_row() {
    for (columns, group) in [(384, 128), (192, 64), (96, 32)] {
        let model = Model::single(Dtype::BF16, 8, columns, &mut Random(3));
        let files = variant(&model, Scheme::Int4).unwrap();
        let config = String::from_utf8(whole(&model, &files, "config.json")).unwrap();
        let expected = format!("\"group_size\": {group},");
        assert!(config.contains(&expected), "{columns}: {config}");
    }
}

#[test]
fn rows_of_zeros_have_scales_that_readers_can_divide_by() {
    let mut model = Model::single(Dtype::BF16, 128, 128, &mut Random(4));
    model.fill("model.safetensors", "model.layers.0.mlp.up_proj.weight", 0);
    for scheme in [Scheme::Fp8, Scheme::Int8, Scheme::Int4, Scheme::Fp8Block] {
        let files = variant(&model, scheme).unwrap();
        let bytes = whole(&model, &files, "model.safetensors");
        let header = header(&bytes);
        let scales = header.tensors.iter().find(|t| t.name.contains("_scale"));
        let scales = floats(&bytes, scales.unwrap());
        assert!(scales.iter().all(|&s| s == f32::MIN_POSITIVE), "{scheme:?}");
    }
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut model = Model::single(dtype, 128, 128, &mut Random(5));
            let name = "model.layers.0.mlp.up_proj.weight";
            model.set("model.safetensors", name, 700, value);
            for scheme in schemes_of(&model) {
                let files = variant(&model, scheme).unwrap();
                let file = made(&files, "model.safetensors");
                let MakeError::NotFinite { tensor, at } =
                    make(&model, file, 0, file.len()).unwrap_err()
                else {
                    panic!("{dtype} {value} {scheme:?}");
                };
                assert!(tensor.starts_with(name) && at == 700, "{tensor} {at}");
                // Also where another part of the row is asked for, twice.
                if matches!(scheme, Scheme::Fp8 | Scheme::Int8) {
                    let tensor = file.tensors().iter().find(|t| t.name == tensor).unwrap();
                    let at = tensor.range.start + 5 * 128;
                    for _ in 0..2 {
                        let part = make(&model, file, at, at + 1);
                        assert!(matches!(part, Err(MakeError::NotFinite { at: 700, .. })));
                    }
                    assert!(make(&model, file, at - 1, at).is_ok());
                }
            }
        }
    }
}

#[test]
fn source_bytes_that_are_missing_are_named() {
    let model = Model::single(Dtype::BF16, 128, 128, &mut Random(6));
    for scheme in schemes_of(&model) {
        let files = variant(&model, scheme).unwrap();
        let file = made(&files, "model.safetensors");
        for tensor in file.tensors().iter().filter(|t| t.dtype != Dtype::I64) {
            let (start, end) = (tensor.range.start, tensor.range.start + 1);
            let mut out = [0];
            let empty = lode_quantize::Gathered::default();
            let found = file.make(ByteRange { start, end }, &empty, &mut out);
            assert!(
                matches!(found, Err(MakeError::NotGathered { .. })),
                "{tensor:?}"
            );
        }
    }
}

fn refused(model: &Model, scheme: Scheme) -> LayoutError {
    variant(model, scheme).expect_err("it must be refused")
}

#[test]
fn models_that_are_not_whole_are_refused() {
    let full = Model::sharded(Dtype::BF16, 128, 128, &mut Random(7));
    let without = |path: &str| {
        let mut model = full.clone();
        model.files.retain(|(found, _)| found != path);
        model
    };
    let missing = refused(&without("model-00002-of-00002.safetensors"), Scheme::Fp8);
    let what = "model-00002-of-00002.safetensors".to_owned();
    assert_eq!(missing, LayoutError::MissingShard { what });
    let missing = refused(&without("config.json"), Scheme::Int8);
    assert!(matches!(missing, LayoutError::File { ref path, .. } if path == "config.json"));
    // A cast needs none.
    assert!(variant(&without("config.json"), Scheme::F16).is_ok());

    let mut model = full.clone();
    let index = r#"{"weight_map":{"nowhere.weight":"model-00001-of-00002.safetensors"}}"#;
    model.put("model.safetensors.index.json", index.as_bytes().to_vec());
    let error = refused(&model, Scheme::Fp8);
    assert!(error.to_string().contains("nowhere.weight"), "{error}");
    model.put("model.safetensors.index.json", b"{".to_vec());
    assert!(matches!(
        refused(&model, Scheme::Fp8),
        LayoutError::File { .. }
    ));
    model.put("model-00001-of-00002.safetensors", b"GGUF".to_vec());
    assert!(matches!(
        refused(&model, Scheme::F16),
        LayoutError::File { .. }
    ));

    let mut model = full.clone();
    let again = model.bytes("model-00001-of-00002.safetensors").to_vec();
    model.put("model-00002-of-00002.safetensors", again);
    model.files.retain(|(path, _)| !path.contains("index"));
    assert!(matches!(
        refused(&model, Scheme::Fp8),
        LayoutError::TwiceNamed { .. }
    ));
    let elsewhere = Model {
        files: full
            .files
            .iter()
            .flat_map(|(path, bytes)| ["a", "b"].map(|f| (format!("{f}/{path}"), bytes.clone())))
            .collect(),
    };
    let error = refused(&elsewhere, Scheme::Fp8);
    assert!(
        matches!(error, LayoutError::SeveralModels { .. }),
        "{error}"
    );
}

#[test]
fn models_that_are_quantized_already_are_refused() {
    let plain = Model::single(Dtype::BF16, 128, 128, &mut Random(8));
    let mut model = plain.clone();
    let config = CONFIG.replacen(
        '{',
        r#"{"quantization_config": {"quant_method": "awq"},"#,
        1,
    );
    model.put("config.json", config.into_bytes());
    for &scheme in Scheme::ALL {
        let error = refused(&model, scheme);
        assert!(
            error.to_string().contains("not quantized"),
            "{scheme:?} {error}"
        );
    }
    // What was made is itself no source.
    for scheme in [Scheme::Fp8, Scheme::Int8, Scheme::Int4] {
        let files = variant(&plain, scheme).unwrap();
        let mut model = plain.clone();
        model.put(
            "model.safetensors",
            whole(&plain, &files, "model.safetensors"),
        );
        let error = refused(&model, Scheme::F16);
        assert!(error.to_string().contains("quantized already"), "{error}");
    }
    let recipe = recipe(&plain, "fp8-from-quantized");
    let error = layout(&recipe, &plain.source(&recipe)).unwrap_err();
    assert!(matches!(error, LayoutError::NotOffered(_)), "{error}");
    // Nothing would change.
    assert!(matches!(
        refused(&plain, Scheme::Bf16),
        LayoutError::NotOffered(_)
    ));
}

#[test]
fn models_that_loaders_do_not_quantize_are_refused() {
    let mut model = Model::single(Dtype::BF16, 128, 128, &mut Random(9));
    model.put("config.json", CONFIG.replace("llama", "gpt2").into_bytes());
    let error = refused(&model, Scheme::Fp8);
    assert!(error.to_string().contains("gpt2"), "{error}");
    assert!(variant(&model, Scheme::F16).is_ok());
    model.put("config.json", b"{\"a\":1,\"a\":2}".to_vec());
    assert!(matches!(
        refused(&model, Scheme::Fp8),
        LayoutError::File { .. }
    ));
}

#[test]
fn a_cast_that_overflows_is_refused_by_weight() {
    let mut model = Model::single(Dtype::BF16, 128, 128, &mut Random(10));
    let name = "model.layers.0.mlp.up_proj.weight";
    model.set("model.safetensors", name, 9, 65_536.0);
    let files = variant(&model, Scheme::F16).unwrap();
    let file = made(&files, "model.safetensors");
    let found = make(&model, file, 0, file.len()).unwrap_err();
    assert!(
        matches!(found, MakeError::TooLarge { at: 9, .. }),
        "{found}"
    );
    assert_eq!(half_bytes(Dtype::F16, 1.0), 0x3c00_u16.to_le_bytes());
}
