//! safetensors headers: nothing that the reference crate refuses gets through, everything that it
//! writes does, and hostile ones end in an error.

use std::collections::{BTreeMap, HashMap};

use lode_tensors::{
    ByteRange, Cut, Dtype, Format, Header, Invalid, Metadata, ParseError, Unsupported, parse,
    subset, subset_cut,
};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// A file with this JSON as its header and `data` bytes after it.
fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + data, 0xa5);
    bytes
}

fn whole(bytes: &[u8]) -> Result<Header, ParseError> {
    parse(bytes, bytes.len() as u64)
}

fn cause(json: &str, data: usize) -> Invalid {
    match whole(&file(json, data)) {
        Err(ParseError::Invalid {
            format: "safetensors",
            cause,
        }) => cause,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn a_header_gives_tensors_by_offset_and_metadata() {
    let json = r#"{"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},
        "__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#;
    let bytes = file(json, 28);
    let header = whole(&bytes).unwrap();
    assert_eq!(header.format, Format::Safetensors);
    assert_eq!(header.len, 8 + json.len() as u64);
    assert_eq!(header.metadata.text("format"), Some("pt"));
    let names: Vec<_> = header.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let b = header.tensor("b").unwrap();
    assert_eq!(
        (b.dtype, b.shape.as_slice()),
        (Dtype::F32, [2, 3].as_slice())
    );
    assert_eq!(
        b.range,
        ByteRange::new(header.len + 4, header.len + 28).unwrap()
    );
    assert_eq!(
        b.rows(1, 2),
        ByteRange::new(header.len + 16, header.len + 28)
    );
    assert_eq!(b.rows(1, 3), None);
    assert_eq!(header.parameter_count(), 8);
}

#[test]
fn a_prefix_asks_for_exactly_the_header() {
    let json = r#"{"a":{"dtype":"U8","shape":[40],"data_offsets":[0,40]}}"#;
    let bytes = file(json, 40);
    let header_len = 8 + json.len();
    for cut in 9..header_len {
        let error = parse(&bytes[..cut], bytes.len() as u64).unwrap_err();
        assert_eq!(
            error,
            ParseError::NeedMore {
                bytes: header_len as u64
            },
            "{cut}"
        );
    }
    assert!(parse(&bytes[..header_len], bytes.len() as u64).is_ok());
}

#[test]
fn other_files_are_not_tensor_files() {
    for bytes in [
        &b""[..],
        b"GGU",
        b"{\"architectures\": []}",
        b"PK\x03\x04 a zip archive",
        &[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20],
        &file("[1,2,3]", 0),
    ] {
        assert_eq!(whole(bytes), Err(ParseError::NotATensorFile), "{bytes:?}");
    }
}

#[test]
fn damage_is_named() {
    let one = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let a = || "a".to_owned();
    let size = Invalid::SizeMismatch {
        tensor: a(),
        expected: 16,
        found: 12,
    };
    assert_eq!(cause(&one("F32", "[4]", 0, 12), 12), size);
    assert_eq!(
        cause(&one("U8", "[4]", 2, 6), 6),
        Invalid::Gap {
            tensor: a(),
            bytes: 2
        }
    );
    assert_eq!(
        cause(&one("U8", "[4]", 4, 0), 4),
        Invalid::Backwards { tensor: a() }
    );
    assert_eq!(
        cause(&one("U8", "[4]", 0, 4), 9),
        Invalid::TrailingBytes { bytes: 5 }
    );
    assert_eq!(
        cause(&one("F4", "[3]", 0, 2), 2),
        Invalid::PartialBlock {
            tensor: a(),
            dtype: Dtype::F4
        }
    );
    assert_eq!(
        cause(&one("F6_E2M3", "[2]", 0, 1), 1),
        Invalid::PartialBlock {
            tensor: a(),
            dtype: Dtype::F6_E2M3
        }
    );
    let overflow = Invalid::Overflow { tensor: a() };
    assert_eq!(
        cause(&one("U8", "[4294967296,4294967296]", 0, 4), 4),
        overflow
    );
    assert_eq!(
        cause(&one("U8", "[4294967296,4294967296,0]", 0, 0), 0),
        overflow
    );
    let json = one("U8", "[9]", 0, 9);
    let len = 8 + json.len() as u64;
    let out = Invalid::OutOfFile {
        tensor: a(),
        end: len + 9,
        file_len: len + 8,
    };
    assert_eq!(cause(&json, 8), out);
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
        "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    assert_eq!(cause(overlap, 6), Invalid::Overlap { tensor: "b".into() });
    let twice = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
        "a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#;
    assert_eq!(
        cause(twice, 8),
        Invalid::Duplicate {
            what: "tensor",
            name: a()
        }
    );
    let mut cut_short = file(&one("U8", "[4]", 0, 4), 4);
    cut_short.truncate(20);
    let error = whole(&cut_short).unwrap_err();
    assert!(matches!(
        error,
        ParseError::Invalid {
            cause: Invalid::Truncated { .. },
            ..
        }
    ));
    let future = whole(&file(&one("F3", "[8]", 0, 3), 3)).unwrap_err();
    let expected = Unsupported::Dtype {
        tensor: a(),
        dtype: "F3".into(),
    };
    assert_eq!(future, ParseError::Unsupported(expected));
    let foreign = whole(&file(&one("Q4_0", "[32]", 0, 18), 18)).unwrap_err();
    assert!(matches!(
        foreign,
        ParseError::Unsupported(Unsupported::Dtype { .. })
    ));
}

#[test]
fn json_that_is_no_header_is_refused() {
    for json in [
        "{",
        "{}x",
        r#"{"a":1}"#,
        r#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#,
        r#"{"__metadata__":{"a":1}}"#,
        r#"{"__metadata__":{"a":"1","a":"2"}}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
    ] {
        assert!(matches!(cause(json, 1), Invalid::Json(_)), "{json}");
    }
}

#[test]
fn empty_and_scalar_tensors_are_tensors() {
    let json = r#"{"none":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},
        "scalar":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}"#;
    let header = whole(&file(json, 8)).unwrap();
    assert_eq!(header.tensors.len(), 2);
    assert_eq!(header.tensor("scalar").unwrap().elements(), 1);
    assert!(whole(&file("{}", 0)).unwrap().tensors.is_empty());
}

fn dtypes() -> impl Strategy<Value = safetensors::Dtype> {
    use safetensors::Dtype as D;
    prop::sample::select(vec![
        D::BOOL,
        D::F4,
        D::F6_E2M3,
        D::F6_E3M2,
        D::U8,
        D::I8,
        D::F8_E5M2,
        D::F8_E4M3,
        D::F8_E8M0,
        D::F8_E4M3FNUZ,
        D::F8_E5M2FNUZ,
        D::I16,
        D::U16,
        D::F16,
        D::BF16,
        D::I32,
        D::U32,
        D::F32,
        D::C64,
        D::F64,
        D::I64,
        D::U64,
    ])
}

prop_compose! {
    /// A file as the reference crate writes it, with different bytes in each tensor. Metadata is never
    /// empty but there: with no tensors either, the crate writes JSON that it cannot read (0.8.0).
    fn written_files()(
        tensors in prop::collection::btree_map(
            "[a-z\u{e9}\"\\\\.0-9]{1,12}", (dtypes(), prop::collection::vec(0_usize..5, 0..4)), 0..12),
        metadata in prop::option::of(prop::collection::hash_map("[a-z_]{1,8}", ".{0,12}", 1..4)),
    ) -> Vec<u8> {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        for (_, (dtype, shape)) in &mut tensors {
            let bits = |shape: &[usize]| shape.iter().product::<usize>() * dtype.bitsize();
            if bits(shape) % 8 != 0 {
                shape.push(4);
            }
        }
        let total = tensors.iter().map(|(_, (d, s))| s.iter().product::<usize>() * d.bitsize() / 8);
        let data: Vec<u8> = (0..total.sum()).map(|at: usize| (at % 251) as u8).collect();
        let mut at = 0;
        let views: Vec<_> = tensors.iter().map(|(name, (dtype, shape))| {
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            at += len;
            let view = TensorView::new(*dtype, shape.clone(), &data[at - len..at]).unwrap();
            (name.clone(), view)
        }).collect();
        safetensors::serialize(views, metadata).unwrap()
    }
}

/// Both read the same from the bytes.
fn assert_same(bytes: &[u8], header: &Header) -> Result<(), TestCaseError> {
    let theirs = SafeTensors::deserialize(bytes);
    prop_assert!(theirs.is_ok(), "{:?}", theirs.err());
    let theirs = theirs.unwrap();
    let (_, their_metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let expected: BTreeMap<_, _> = their_metadata
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    prop_assert_eq!(&header.metadata, &Metadata::Safetensors(expected));
    prop_assert_eq!(theirs.len(), header.tensors.len());
    for tensor in &header.tensors {
        let view = theirs.tensor(&tensor.name).unwrap();
        prop_assert_eq!(tensor.dtype.to_string(), view.dtype().to_string());
        let shape: Vec<u64> = view.shape().iter().map(|&dim| dim as u64).collect();
        prop_assert_eq!(&tensor.shape, &shape);
        prop_assert_eq!(tensor.range.of(bytes).unwrap(), view.data());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_the_reference_writes_is_read_the_same(bytes in written_files()) {
        let header = whole(&bytes);
        prop_assert!(header.is_ok(), "{:?}", header);
        assert_same(&bytes, &header.unwrap())?;
    }

    #[test]
    fn what_is_read_here_the_reference_reads_the_same(
        bytes in written_files(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        grow in -3_i64..4,
    ) {
        let mut bytes = bytes;
        let header_end = whole(&bytes).unwrap().len as usize;
        for (at, to) in flips {
            bytes[at.index(header_end)] = to;
        }
        bytes.resize(bytes.len().saturating_add_signed(grow as isize), 0);
        if let Ok(header) = whole(&bytes) {
            assert_same(&bytes, &header)?;
        }
    }

    #[test]
    fn a_subset_opens_in_the_reference_and_holds_the_same_bytes(
        bytes in written_files(),
        picks in prop::collection::vec(any::<bool>(), 12),
    ) {
        let header = whole(&bytes).unwrap();
        let chosen: Vec<_> =
            (0..header.tensors.len()).filter(|&position| picks[position]).collect();
        let subset = subset(&header, &bytes, &chosen).unwrap();
        prop_assert_eq!(subset.header.len() % 8, 0);
        let mut file = subset.header.clone();
        for placed in &subset.tensors {
            prop_assert_eq!(placed.offset, file.len() as u64);
            file.extend(placed.source.of(&bytes).unwrap());
        }
        prop_assert_eq!(subset.len, file.len() as u64);
        let made = whole(&file).unwrap();
        assert_same(&file, &made)?;
        prop_assert_eq!(&made.metadata, &header.metadata);
        let names = |tensors: &[lode_tensors::Tensor]| -> HashMap<String, Vec<u64>> {
            tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect()
        };
        let expected: Vec<_> = chosen.iter().map(|&at| header.tensors[at].clone()).collect();
        prop_assert_eq!(names(&made.tensors), names(&expected));
        for tensor in &made.tensors {
            let source = header.tensor(&tensor.name).unwrap();
            prop_assert_eq!(tensor.range.of(&file), source.range.of(&bytes));
        }
    }

    #[test]
    fn cut_tensors_open_in_the_reference_and_hold_the_elements_of_the_cut(
        bytes in written_files(),
        picks in prop::collection::vec((any::<bool>(), any::<[u8; 3]>()), 12),
    ) {
        let header = whole(&bytes).unwrap();
        let mut chosen = Vec::new();
        for (position, tensor) in header.tensors.iter().enumerate() {
            let (pick, [dim, start, end]) = picks[position % picks.len()];
            let dim = usize::from(dim) % tensor.shape.len().max(1);
            let cut = match tensor.shape.get(dim).filter(|_| pick) {
                None => Cut::Whole,
                Some(&len) => {
                    let start = u64::from(start) % (len + 1);
                    let end = start + u64::from(end) % (len - start + 1);
                    let parts = std::iter::once(start..end).collect();
                    Cut::Part { dim, parts }
                }
            };
            // parts of bytes are refused, which other tests hold
            if cut.of(tensor).is_ok() {
                chosen.push((position, cut));
            }
        }
        let subset = subset_cut(&header, &bytes, &chosen).unwrap();
        let mut file = subset.header.clone();
        for placed in &subset.tensors {
            prop_assert_eq!(placed.offset, file.len() as u64);
            for runs in &placed.runs {
                for part in runs.inside(runs.span()) {
                    file.extend(part.range.of(&bytes).unwrap());
                }
            }
            prop_assert_eq!(placed.offset + placed.len, file.len() as u64);
        }
        prop_assert_eq!(subset.len, file.len() as u64);
        let made = whole(&file).unwrap();
        assert_same(&file, &made)?;
        for (position, cut) in &chosen {
            let source = &header.tensors[*position];
            let tensor = made.tensor(&source.name).unwrap();
            let (all, found) = (source.range.of(&bytes).unwrap(), tensor.range.of(&file).unwrap());
            let Cut::Part { dim, parts } = cut else {
                prop_assert_eq!(all, found);
                continue;
            };
            let inner: u64 = source.shape[dim + 1..].iter().product();
            let width = source.dtype.bytes_of(inner);
            let Some(width) = width.map(|width| width as usize).filter(|width| *width > 0) else {
                continue;
            };
            let mut expected = Vec::<u8>::new();
            for (number, element) in all.chunks(width).enumerate() {
                if parts[0].contains(&(number as u64 % source.shape[*dim])) {
                    expected.extend(element);
                }
            }
            prop_assert_eq!(&expected[..], found);
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200), zeroes in 0..8) {
        let mut bytes = bytes;
        for byte in bytes.iter_mut().skip(8 - zeroes as usize).take(zeroes as usize) {
            *byte = 0;
        }
        let _ = whole(&bytes);
    }
}
