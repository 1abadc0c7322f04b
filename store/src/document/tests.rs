#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use ipld_core::ipld::Ipld;
use proptest::prelude::*;

use super::*;

fn check(bytes: &[u8]) -> Result<(), DocumentError> {
    let mut reader = Reader::new(bytes, "document", 1 << 20)?;
    reader.raw()?;
    reader.end()
}

fn arbitrary_value() -> impl Strategy<Value = Ipld> {
    let leaf = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        any::<u64>().prop_map(|v| Ipld::Integer(v.into())),
        any::<i64>().prop_map(|v| Ipld::Integer(v.into())),
        (0..70_000u64).prop_map(|v| Ipld::Integer(v.into())),
        prop::num::f64::NORMAL.prop_map(Ipld::Float),
        "\\PC{0,40}".prop_map(Ipld::String),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Ipld::Bytes),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Ipld::List),
            prop::collection::btree_map("[a-z]{0,30}", inner, 0..6).prop_map(Ipld::Map),
        ]
    })
}

proptest! {
    /// The reader agrees with another implementation of DAG-CBOR: what that writes, it accepts.
    #[test]
    fn what_another_implementation_writes_is_canonical(value in arbitrary_value()) {
        let bytes = serde_ipld_dagcbor::to_vec(&value).unwrap();
        prop_assert_eq!(check(&bytes), Ok(()));
    }

    /// And what the reader accepts, that one reads and writes back as the same bytes.
    #[test]
    fn what_is_accepted_has_one_encoding(value in arbitrary_value(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        let mut bytes = serde_ipld_dagcbor::to_vec(&value).unwrap();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if check(&bytes).is_ok() {
            let again: Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
            prop_assert_eq!(serde_ipld_dagcbor::to_vec(&again).unwrap(), bytes);
        }
    }

    #[test]
    fn every_cut_of_a_document_is_refused(value in arbitrary_value(), cut in any::<prop::sample::Index>()) {
        let bytes = serde_ipld_dagcbor::to_vec(&value).unwrap();
        let cut = cut.index(bytes.len());
        prop_assert!(check(&bytes[..cut]).is_err());
    }
}

#[test]
fn other_spellings_are_refused() {
    let why = |bytes: &[u8]| match check(bytes) {
        Err(DocumentError::NotCanonical { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(&[0x18, 0x17]).contains("shortly"));
    assert!(why(&[0x19, 0x00, 0xff]).contains("shortly"));
    assert!(why(&[0x1b, 0, 0, 0, 0, 1, 2, 3, 4]).contains("shortly"));
    assert!(why(&[0x5f, 0x41, 0x00, 0xff]).contains("definite"));
    assert!(why(&[0xf9, 0x00, 0x00]).contains("64 bits"));
    assert!(why(&[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]).contains("finite"));
    assert!(why(&[0xc1, 0x00]).contains("tags"));
    assert!(why(&[0xf7]).contains("simple"));
    assert!(why(&[0x61, 0xff]).contains("UTF-8"));
    // {"b": 0, "a": 0} and {"aa": 0, "b": 0}
    assert!(why(&[0xa2, 0x61, b'b', 0, 0x61, b'a', 0]).contains("sorted"));
    assert!(why(&[0xa2, 0x62, b'a', b'a', 0, 0x61, b'b', 0]).contains("sorted"));
    let twice = [0xa2, 0x61, b'a', 0, 0x61, b'a', 0];
    assert_eq!(
        check(&twice),
        Err(DocumentError::DuplicateKey {
            at: 4,
            key: "a".into()
        })
    );
    assert_eq!(
        check(&[0, 0]),
        Err(DocumentError::Trailing { at: 1, extra: 1 })
    );
    assert_eq!(check(&[]), Err(DocumentError::CutShort { at: 0 }));
}

#[test]
fn a_length_from_outside_takes_no_memory() {
    for major in [0x5b, 0x7b] {
        let bytes = [major, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(check(&bytes), Err(DocumentError::CutShort { at: 9 }));
    }
    let array = [0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    assert_eq!(check(&array), Err(DocumentError::CutShort { at: 10 }));
}

#[test]
fn depth_is_bounded() {
    use crate::limits::DOCUMENT_DEPTH_MAX as MAX;
    let nested = |depth: usize| [vec![0x81; depth], vec![0xf6]].concat();
    assert_eq!(check(&nested(MAX)), Ok(()));
    assert_eq!(
        check(&nested(MAX + 1)),
        Err(DocumentError::TooDeep { at: MAX, max: MAX })
    );
}

#[test]
fn a_key_has_a_bounded_length() {
    use crate::limits::DOCUMENT_KEY_BYTES_MAX as MAX;
    let with = |len: usize| {
        let key = "k".repeat(len);
        MapWriter::new().u64(&key, 0).finish()
    };
    assert_eq!(check(&with(MAX)), Ok(()));
    assert!(matches!(
        check(&with(MAX + 1)),
        Err(DocumentError::TooLong { .. })
    ));
}

#[test]
fn a_document_over_its_limit_is_refused_before_it_is_read() {
    assert_eq!(Reader::new(&[0; 4], "ticket", 4).err(), None);
    let err = Reader::new(&[0; 5], "ticket", 4).unwrap_err();
    assert_eq!(
        err,
        DocumentError::TooLarge {
            what: "ticket",
            found: 5,
            max: 4
        }
    );
}

#[test]
fn unknown_keys_are_skipped_and_critical_ones_refused_by_name() {
    let read = |bytes: &[u8]| {
        let mut known: Option<u64> = None;
        let mut reader = Reader::new(bytes, "document", 100).unwrap();
        reader.map::<DocumentError>(|key, r| {
            match key {
                "a" => known = Some(r.u64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        reader.end()?;
        Ok(known)
    };
    let skipped = MapWriter::new().u64("a", 7).text("later", "x").finish();
    assert_eq!(read(&skipped), Ok(Some(7)));
    let critical = MapWriter::new().u64("a", 7).text("!sealed", "x").finish();
    let err: DocumentError = read(&critical).unwrap_err();
    assert_eq!(
        err,
        DocumentError::CriticalKey {
            key: "!sealed".into()
        }
    );
    assert_eq!(err.kind(), crate::ErrorKind::Refused);
    assert!(err.to_string().contains("update Lode"), "{err}");
}

#[test]
fn errors_say_which_key_and_what_was_expected() {
    let bytes = MapWriter::new().text("count", "three").finish();
    let mut reader = Reader::new(&bytes, "document", 100).unwrap();
    let err = reader
        .map::<DocumentError>(|_, r| r.u64().map(|_| true))
        .unwrap_err();
    assert_eq!(
        err.to_string(),
        "`count` is text where an unsigned integer belongs (byte 7)"
    );
}
