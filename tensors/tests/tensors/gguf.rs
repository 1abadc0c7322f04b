//! GGUF headers: every value and tensor type, hostile counts and offsets, prefixes of any length.

use lode_tensors::{
    Cut, Dtype, Format, Header, Invalid, ParseError, SubsetError, Unsupported, Value, ValueKind,
    parse, subset, subset_cut,
};
use proptest::prelude::*;

/// Writes GGUF files, right or wrong.
#[derive(Clone)]
struct Builder {
    version: u32,
    entries: Vec<Vec<u8>>,
    /// (name, dimensions as stored, type id, offset)
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
    alignment: usize,
    data: usize,
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = (value.len() as u64).to_le_bytes().to_vec();
    bytes.extend(value.as_bytes());
    bytes
}

impl Builder {
    fn new() -> Self {
        Self {
            version: 3,
            entries: vec![],
            tensors: vec![],
            alignment: 32,
            data: 0,
        }
    }

    fn entry(mut self, key: &str, kind: u32, value: impl AsRef<[u8]>) -> Self {
        let mut bytes = text(key);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value.as_ref());
        self.entries.push(bytes);
        self
    }

    fn tensor(mut self, name: &str, dims: &[u64], id: u32, offset: u64) -> Self {
        self.tensors.push((name.into(), dims.into(), id, offset));
        self
    }

    fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        out.extend(self.entries.concat());
        for (name, dims, id, offset) in &self.tensors {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(id.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out
    }

    fn file(&self) -> Vec<u8> {
        let mut out = self.head();
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend((0..self.data).map(|at| (at % 251) as u8));
        out
    }

    fn parse(&self) -> Result<Header, ParseError> {
        let file = self.file();
        parse(&file, file.len() as u64)
    }

    fn cause(&self) -> Invalid {
        match self.parse() {
            Err(ParseError::Invalid {
                format: "GGUF",
                cause,
            }) => cause,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_value_type_is_read() {
    let mut array = 8_u32.to_le_bytes().to_vec();
    array.extend(2_u64.to_le_bytes());
    array.extend(text("a"));
    array.extend(text("bc"));
    let mut nested = 9_u32.to_le_bytes().to_vec();
    nested.extend(2_u64.to_le_bytes());
    for numbers in [&[1_u16, 2][..], &[3]] {
        nested.extend(2_u32.to_le_bytes());
        nested.extend((numbers.len() as u64).to_le_bytes());
        nested.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    }
    let builder = Builder::new()
        .entry("general.architecture", 8, text("llama"))
        .entry("u8", 0, [200])
        .entry("i8", 1, [0xff])
        .entry("u16", 2, 65_535_u16.to_le_bytes())
        .entry("i16", 3, (-2_i16).to_le_bytes())
        .entry("u32", 4, u32::MAX.to_le_bytes())
        .entry("i32", 5, (-3_i32).to_le_bytes())
        .entry("f32", 6, 1.5_f32.to_le_bytes())
        .entry("bool", 7, [1])
        .entry("strings", 9, array)
        .entry("nested", 9, nested)
        .entry("u64", 10, u64::MAX.to_le_bytes())
        .entry("i64", 11, (-4_i64).to_le_bytes())
        .entry("f64", 12, 2.5_f64.to_le_bytes())
        .entry("bad utf8", 8, [1, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    let header = builder.parse().unwrap();
    assert_eq!(header.format, Format::Gguf { version: 3 });
    assert_eq!(header.metadata.architecture(), Some("llama"));
    let value = |key: &str| header.metadata.entry(key).unwrap().value.clone();
    assert_eq!(value("u8"), Value::U8(200));
    assert_eq!(value("i8"), Value::I8(-1));
    assert_eq!(value("u16"), Value::U16(65_535));
    assert_eq!(value("i16"), Value::I16(-2));
    assert_eq!(value("u32"), Value::U32(u32::MAX));
    assert_eq!(value("i32"), Value::I32(-3));
    assert_eq!(value("f32"), Value::F32(1.5));
    assert_eq!(value("bool"), Value::Bool(true));
    assert_eq!(
        value("strings"),
        Value::Array {
            of: ValueKind::Text,
            len: 2
        }
    );
    assert_eq!(
        value("nested"),
        Value::Array {
            of: ValueKind::Array,
            len: 2
        }
    );
    assert_eq!(value("u64"), Value::U64(u64::MAX));
    assert_eq!(value("i64"), Value::I64(-4));
    assert_eq!(value("f64"), Value::F64(2.5));
    assert_eq!(value("bad utf8"), Value::Text("\u{fffd}".into()));
    let file = builder.file();
    let entry = header.metadata.entry("i16").unwrap();
    assert_eq!(entry.range.of(&file).unwrap(), builder.entries[4]);
}

#[test]
fn tensors_have_rows_of_blocks_outermost_first() {
    let builder = Builder::new()
        .tensor("blk.0.ffn", &[512, 3], 12, 0)
        .tensor("norm", &[5], 0, 864)
        .tensor("scalar", &[], 30, 896)
        .data(928);
    let header = builder.parse().unwrap();
    let ffn = header.tensor("blk.0.ffn").unwrap();
    assert_eq!(
        (ffn.dtype, ffn.shape.as_slice()),
        (Dtype::Q4_K, [3, 512].as_slice())
    );
    assert_eq!((ffn.range.len(), ffn.row_bytes()), (864, Some(288)));
    let norm = header.tensor("norm").unwrap();
    assert_eq!(norm.range.start, header.len + 864);
    assert_eq!(norm.range.len(), 20);
    assert_eq!(header.tensor("scalar").unwrap().range.len(), 2);
    let mut unpadded = builder.file();
    unpadded.truncate(unpadded.len() - 30);
    assert!(
        parse(&unpadded, unpadded.len() as u64).is_ok(),
        "the last padding may be missing"
    );
}

#[test]
fn every_tensor_type_takes_its_blocks() {
    for &dtype in Dtype::ALL {
        let Some(id) = dtype.ggml_id() else { continue };
        let (elements, bytes) = dtype.block_size();
        let len = usize::try_from(bytes * 6).unwrap();
        let builder = Builder::new()
            .tensor("t", &[elements * 2, 3], id, 0)
            .data(len);
        let header = builder.parse().unwrap();
        assert_eq!(header.tensors[0].range.len(), bytes * 6, "{dtype}");
        if elements > 1 {
            let partial = Builder::new()
                .tensor("t", &[elements * 2 - 1, 4], id, 0)
                .data(len);
            assert_eq!(
                partial.cause(),
                Invalid::PartialBlock {
                    tensor: "t".into(),
                    dtype
                }
            );
        }
    }
}

#[test]
fn alignment_is_obeyed_and_bounded() {
    let align = |bytes: u32| Builder::new().entry("general.alignment", 4, bytes.to_le_bytes());
    let mut builder = align(128)
        .tensor("a", &[3], 0, 0)
        .tensor("b", &[1], 0, 128)
        .data(256);
    builder.alignment = 128;
    let header = builder.parse().unwrap();
    assert_eq!(header.len % 128, 0);
    builder.tensors[1].3 = 64;
    let misaligned = Invalid::Misaligned {
        tensor: "b".into(),
        alignment: 128,
    };
    assert_eq!(builder.cause(), misaligned);
    for bad in [0, 3, 48] {
        assert!(
            matches!(align(bad).cause(), Invalid::MetadataValue { .. }),
            "{bad}"
        );
    }
    assert!(matches!(align(1 << 21).cause(), Invalid::OverLimit { .. }));
    let as_text = Builder::new().entry("general.alignment", 8, text("32"));
    assert!(matches!(as_text.cause(), Invalid::MetadataValue { .. }));
}

#[test]
fn damage_is_named() {
    let two = |offset: u64| {
        Builder::new()
            .tensor("a", &[8], 0, 0)
            .tensor("b", &[8], 0, offset)
            .data(96)
    };
    assert!(two(32).data(64).parse().is_ok());
    assert_eq!(two(0).cause(), Invalid::Overlap { tensor: "b".into() });
    assert_eq!(
        two(64).cause(),
        Invalid::Gap {
            tensor: "b".into(),
            bytes: 32
        }
    );
    assert_eq!(two(32).cause(), Invalid::TrailingBytes { bytes: 32 });
    assert!(matches!(
        two(32).data(40).cause(),
        Invalid::OutOfFile { .. }
    ));
    assert!(matches!(two(u64::MAX - 31).cause(), Invalid::Gap { .. }));
    let late = Builder::new().tensor("a", &[8], 0, 32).data(64);
    assert_eq!(
        late.cause(),
        Invalid::Gap {
            tensor: "a".into(),
            bytes: 32
        }
    );
    let huge = Builder::new().tensor("a", &[1 << 40, 1 << 40], 0, 0);
    assert_eq!(huge.cause(), Invalid::Overflow { tensor: "a".into() });
    let twice = Builder::new()
        .tensor("a", &[8], 0, 0)
        .tensor("a", &[8], 0, 32)
        .data(64);
    assert_eq!(
        twice.cause(),
        Invalid::Duplicate {
            what: "tensor",
            name: "a".into()
        }
    );
    let keys = Builder::new().entry("k", 0, [1]).entry("k", 0, [1]);
    assert_eq!(
        keys.cause(),
        Invalid::Duplicate {
            what: "metadata key",
            name: "k".into()
        }
    );
    assert!(matches!(
        Builder::new().entry("k", 13, [1]).cause(),
        Invalid::MetadataValue { .. }
    ));
    assert!(matches!(
        Builder::new().entry("k", 7, [2]).cause(),
        Invalid::MetadataValue { .. }
    ));
    let unknown = Builder::new()
        .tensor("a", &[32], 4, 0)
        .data(32)
        .parse()
        .unwrap_err();
    let expected = Unsupported::Dtype {
        tensor: "a".into(),
        dtype: "4".into(),
    };
    assert_eq!(unknown, ParseError::Unsupported(expected));
}

#[test]
fn versions_other_than_2_and_3_are_refused_by_name() {
    let mut builder = Builder::new().tensor("a", &[8], 0, 0).data(32);
    builder.version = 2;
    assert_eq!(builder.parse().unwrap().format, Format::Gguf { version: 2 });
    for version in [0, 1, 4] {
        builder.version = version;
        assert_eq!(
            builder.parse(),
            Err(Unsupported::GgufVersion(version).into())
        );
    }
    builder.version = 3_u32.swap_bytes();
    assert_eq!(builder.parse(), Err(Unsupported::BigEndian.into()));
}

#[test]
fn hostile_counts_take_no_memory() {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(u64::MAX.to_le_bytes());
    file.extend(u64::MAX.to_le_bytes());
    let error = parse(&file, file.len() as u64).unwrap_err();
    assert!(matches!(
        error,
        ParseError::Invalid {
            cause: Invalid::OverLimit { .. },
            ..
        }
    ));
    for of in [0_u32, 8, 9, 12] {
        let mut array = of.to_le_bytes().to_vec();
        array.extend(u64::MAX.to_le_bytes());
        let cause = Builder::new().entry("k", 9, array).cause();
        assert!(matches!(
            cause,
            Invalid::Truncated { .. } | Invalid::MetadataValue { .. }
        ));
    }
    let cause = Builder::new().entry("k", 8, u64::MAX.to_le_bytes()).cause();
    assert!(matches!(cause, Invalid::Truncated { .. }));
}

#[test]
fn arrays_nest_up_to_the_limit() {
    let nested = |depth: usize| {
        let mut bytes = Vec::new();
        for _ in 1..depth {
            bytes.extend(9_u32.to_le_bytes());
            bytes.extend(1_u64.to_le_bytes());
        }
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.push(7);
        Builder::new().entry("k", 9, bytes)
    };
    let max = lode_tensors::limits::ARRAY_DEPTH_MAX;
    assert!(nested(max).parse().is_ok());
    assert!(matches!(nested(max + 1).cause(), Invalid::OverLimit { .. }));
}

#[test]
fn a_vocabulary_without_tensors_is_a_header() {
    let builder = Builder::new().entry("general.architecture", 8, text("gpt2"));
    let mut file = builder.file();
    assert_eq!(
        parse(&file, file.len() as u64).unwrap().len,
        file.len() as u64
    );
    file.truncate(builder.head().len());
    assert_eq!(
        parse(&file, file.len() as u64).unwrap().len,
        file.len() as u64
    );
}

fn sample() -> Builder {
    Builder::new()
        .entry("general.architecture", 8, text("llama"))
        .entry("general.name", 8, text(&"x".repeat(3000)))
        .tensor("b", &[64, 2], 2, 96)
        .tensor("a", &[8, 3], 0, 0)
        .tensor("empty", &[0, 4], 0, 96)
        .data(96 + 96)
}

#[test]
fn prefixes_are_asked_for_until_they_hold_the_header() {
    let file = sample().file();
    let file_len = file.len() as u64;
    let expected = parse(&file, file_len).unwrap();
    for first in 0..file.len() {
        let mut len = first;
        let header = loop {
            match parse(&file[..len], file_len) {
                Ok(header) => break header,
                Err(ParseError::NeedMore { bytes }) => {
                    assert!(
                        bytes > len as u64 && bytes <= file_len,
                        "{bytes} after {len}"
                    );
                    len = usize::try_from(bytes).unwrap();
                }
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(header, expected);
    }
}

#[test]
fn a_subset_is_a_gguf_file_with_the_same_metadata() {
    let file = sample().file();
    let header = parse(&file, file.len() as u64).unwrap();
    let position = header.tensors.iter().position(|t| t.name == "b").unwrap();
    let subset = subset(&header, &file[..header.len as usize], &[position]).unwrap();
    let mut made = subset.header.clone();
    for placed in &subset.tensors {
        made.resize(usize::try_from(placed.offset).unwrap(), 0);
        made.extend(placed.source.of(&file).unwrap());
    }
    made.resize(usize::try_from(subset.len).unwrap(), 0);
    let again = parse(&made, made.len() as u64).unwrap();
    assert_eq!(again.tensors.len(), 1);
    assert_eq!(again.metadata, header.metadata);
    let (new, old) = (&again.tensors[0], header.tensor("b").unwrap());
    assert_eq!((&new.shape, new.dtype), (&old.shape, old.dtype));
    assert_eq!(new.range.of(&made), old.range.of(&file));
}

#[test]
fn rows_and_whole_blocks_of_a_quantized_tensor_can_be_cut() {
    let mut file = sample().file();
    let header = parse(&file, file.len() as u64).unwrap();
    let position = header.tensors.iter().position(|t| t.name == "b").unwrap();
    let tensor = &header.tensors[position];
    let start = usize::try_from(tensor.range.start).unwrap();
    // two rows of two blocks of 18 bytes
    for (block, bytes) in file[start..start + 72].chunks_mut(18).enumerate() {
        bytes.fill(u8::try_from(block).unwrap() + 1);
    }
    let part = |dim, start, end| Cut::Part {
        dim,
        parts: std::iter::once(start..end).collect(),
    };
    for (cut, shape, expected) in [
        (Cut::rows(1..2), [1, 64], vec![3, 4]),
        (part(1, 0, 32), [2, 32], vec![1, 3]),
    ] {
        let made = subset_cut(&header, &file, &[(position, cut)]).unwrap();
        let placed = &made.tensors[0];
        assert_eq!(placed.shape, shape);
        let parts = placed.runs.iter().flat_map(|runs| runs.inside(runs.span()));
        let bytes: Vec<u8> = parts
            .flat_map(|part| part.range.of(&file).unwrap().to_vec())
            .collect();
        let blocks: Vec<u8> = bytes.chunks(18).map(|block| block[0]).collect();
        assert_eq!(blocks, expected);
        let again = parse(&made.header, made.len).unwrap();
        assert_eq!(again.tensors[0].shape, shape);
    }
    let refused = subset_cut(&header, &file, &[(position, part(1, 0, 16))]);
    assert!(matches!(refused, Err(SubsetError::Cut { .. })));
}

proptest! {
    #[test]
    fn damaged_files_end_in_an_answer(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = sample().file();
        for (at, to) in flips {
            let at = at.index(file.len());
            file[at] = to;
        }
        let prefix = &file[..cut.index(file.len() + 1)];
        if let Ok(header) = parse(prefix, file.len() as u64) {
            let mut end = header.len;
            for tensor in &header.tensors {
                prop_assert!(tensor.range.start >= end && tensor.range.end <= file.len() as u64);
                end = tensor.range.end;
            }
        }
    }
}
