//! Each limit holds at its value and refuses one more.

use std::fmt::Write;

use lode_tensors::{Header, Invalid, ParseError, ShardIndex, limits, parse};

fn safetensors(json: &str, data: u64) -> Result<Header, ParseError> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    let file_len = bytes.len() as u64 + data;
    parse(&bytes, file_len)
}

fn is_json_error(result: Result<Header, ParseError>) -> bool {
    matches!(
        result,
        Err(ParseError::Invalid {
            cause: Invalid::Json(_),
            ..
        })
    )
}

fn is_over_limit(result: Result<Header, ParseError>) -> bool {
    matches!(
        result,
        Err(ParseError::Invalid {
            cause: Invalid::OverLimit { .. },
            ..
        })
    )
}

#[test]
fn header_bytes() {
    let start = |json_len: u64| {
        let mut bytes = json_len.to_le_bytes().to_vec();
        bytes.push(b'{');
        parse(&bytes, u64::MAX)
    };
    let max = limits::HEADER_BYTES_MAX;
    assert_eq!(start(max), Err(ParseError::NeedMore { bytes: max + 8 }));
    assert!(is_over_limit(start(max + 1)));

    // GGUF: one text that would end at the limit, and one past it.
    let text = |end: u64| {
        let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        bytes.extend(b"\x01\0\0\0\0\0\0\0k\x08\0\0\0");
        let len = end - bytes.len() as u64 - 8;
        bytes.extend(len.to_le_bytes());
        parse(&bytes, u64::MAX)
    };
    assert_eq!(text(max), Err(ParseError::NeedMore { bytes: max }));
    assert!(is_over_limit(text(max + 1)));
}

#[test]
fn tensors() {
    let many = |count: usize| {
        let mut json = String::from("{");
        for at in 0..count {
            let comma = if at == 0 { "" } else { "," };
            write!(
                json,
                r#"{comma}"{at}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#
            )
            .unwrap();
        }
        safetensors(&format!("{json}}}"), 0)
    };
    assert_eq!(
        many(limits::TENSORS_MAX).unwrap().tensors.len(),
        limits::TENSORS_MAX
    );
    assert!(is_json_error(many(limits::TENSORS_MAX + 1)));

    let counts = |tensors: usize, entries: usize| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((tensors as u64).to_le_bytes());
        bytes.extend((entries as u64).to_le_bytes());
        parse(&bytes, u64::MAX)
    };
    let entries = limits::METADATA_ENTRIES_MAX;
    assert!(matches!(
        counts(limits::TENSORS_MAX, entries),
        Err(ParseError::NeedMore { .. })
    ));
    assert!(is_over_limit(counts(limits::TENSORS_MAX + 1, entries)));
    assert!(is_over_limit(counts(limits::TENSORS_MAX, entries + 1)));
}

#[test]
fn names() {
    let named = |len: usize| {
        let name = "x".repeat(len);
        safetensors(
            &format!(r#"{{"{name}":{{"dtype":"U8","shape":[],"data_offsets":[0,1]}}}}"#),
            1,
        )
    };
    assert!(named(limits::NAME_BYTES_MAX).is_ok());
    assert!(is_json_error(named(limits::NAME_BYTES_MAX + 1)));
    let key = |len: u64| {
        let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        bytes.extend(len.to_le_bytes());
        parse(&bytes, u64::MAX)
    };
    assert!(matches!(
        key(limits::NAME_BYTES_MAX as u64),
        Err(ParseError::NeedMore { .. })
    ));
    assert!(is_over_limit(key(limits::NAME_BYTES_MAX as u64 + 1)));
}

#[test]
fn ranks() {
    let ranked = |rank: usize| {
        let shape = vec!["1"; rank].join(",");
        safetensors(
            &format!(r#"{{"a":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,1]}}}}"#),
            1,
        )
    };
    assert!(ranked(limits::RANK_MAX).is_ok());
    assert!(is_json_error(ranked(limits::RANK_MAX + 1)));
    let gguf = |rank: u32| {
        let mut bytes = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend(b"\x01\0\0\0\0\0\0\0t");
        bytes.extend(rank.to_le_bytes());
        parse(&bytes, u64::MAX)
    };
    assert!(matches!(
        gguf(limits::GGUF_RANK_MAX as u32),
        Err(ParseError::NeedMore { .. })
    ));
    assert!(is_over_limit(gguf(limits::GGUF_RANK_MAX as u32 + 1)));
}

#[test]
fn metadata_entries() {
    let many = |count: usize| {
        let entries: Vec<_> = (0..count).map(|at| format!(r#""{at}":"""#)).collect();
        safetensors(
            &format!(r#"{{"__metadata__":{{{}}}}}"#, entries.join(",")),
            0,
        )
    };
    assert!(many(limits::METADATA_ENTRIES_MAX).is_ok());
    assert!(is_json_error(many(limits::METADATA_ENTRIES_MAX + 1)));
}

#[test]
fn alignment() {
    let aligned = |bytes: u64| {
        let mut file = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        file.extend(b"\x11\0\0\0\0\0\0\0general.alignment\x04\0\0\0");
        file.extend((bytes as u32).to_le_bytes());
        parse(&file, file.len() as u64)
    };
    assert!(aligned(limits::ALIGNMENT_BYTES_MAX).is_ok());
    assert!(is_over_limit(aligned(limits::ALIGNMENT_BYTES_MAX + 1)));
    assert!(is_over_limit(aligned(limits::ALIGNMENT_BYTES_MAX * 2)));
}

#[test]
fn index_bytes_and_entries() {
    let mut bytes = br#"{"weight_map":{}}"#.to_vec();
    bytes.resize(limits::INDEX_BYTES_MAX, b' ');
    assert!(ShardIndex::parse(&bytes).is_ok());
    bytes.push(b' ');
    assert!(ShardIndex::parse(&bytes).is_err());

    let many = |count: usize| {
        let mut json = String::from(r#"{"weight_map":{"#);
        for at in 0..count {
            let comma = if at == 0 { "" } else { "," };
            write!(json, r#"{comma}"{at}":"s""#).unwrap();
        }
        ShardIndex::parse(format!("{json}}}}}").as_bytes())
    };
    assert_eq!(
        many(limits::INDEX_ENTRIES_MAX).unwrap().tensors().len(),
        limits::INDEX_ENTRIES_MAX
    );
    assert!(many(limits::INDEX_ENTRIES_MAX + 1).is_err());
}
