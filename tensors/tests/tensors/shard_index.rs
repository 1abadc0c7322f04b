//! Shard indexes: what contradicts the shards is named.

use std::collections::BTreeMap;

use lode_tensors::{Header, IndexError, IndexParseError, ShardIndex, limits, parse};

fn shard(tensors: &[&str]) -> Header {
    let entries: Vec<_> = (0_u32..)
        .zip(tensors)
        .map(|(at, name)| {
            format!(
                r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{at},{}]}}"#,
                at + 1
            )
        })
        .collect();
    let json = format!("{{{}}}", entries.join(","));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + tensors.len(), 0);
    parse(&bytes, bytes.len() as u64).unwrap()
}

fn index(map: &str) -> Result<ShardIndex, IndexParseError> {
    ShardIndex::parse(format!(r#"{{"metadata":{{"total_size":3}},"weight_map":{map}}}"#).as_bytes())
}

const MAP: &str = r#"{"b":"2.safetensors","a":"1.safetensors","c":"1.safetensors"}"#;

fn shards() -> BTreeMap<String, Header> {
    [
        ("1.safetensors", shard(&["a", "c"])),
        ("2.safetensors", shard(&["b"])),
    ]
    .map(|(name, header)| (name.to_owned(), header))
    .into()
}

#[test]
fn an_index_that_agrees_passes() {
    let index = index(MAP).unwrap();
    assert_eq!(index.shards(), ["1.safetensors", "2.safetensors"]);
    assert_eq!(index.shard_of("b"), Some("2.safetensors"));
    assert_eq!(index.total_size(), Some(3));
    assert_eq!(index.check(&shards()), Ok(()));
    assert_eq!(index.unlisted(&shards()).count(), 0);
    let bytes = index.subset(|tensor| tensor != "b", 2);
    let part = ShardIndex::parse(&bytes).unwrap();
    assert_eq!(
        (part.shards(), part.total_size()),
        (&["1.safetensors".to_owned()][..], Some(2))
    );
}

#[test]
fn a_tensor_that_no_shard_holds_is_named() {
    let index = index(&MAP.replace(r#""c""#, r#""model.norm.weight""#)).unwrap();
    let error = index.check(&shards()).unwrap_err();
    let expected = IndexError::MissingTensor {
        tensor: "model.norm.weight".into(),
        shard: "1.safetensors".into(),
        elsewhere: None,
    };
    assert_eq!(error, expected);
    let said = error.to_string();
    assert!(
        said.contains("model.norm.weight") && said.contains("1.safetensors"),
        "{said}"
    );
    assert_eq!(
        index.unlisted(&shards()).collect::<Vec<_>>(),
        [("1.safetensors", "c")]
    );
}

#[test]
fn a_tensor_in_another_shard_is_named_with_it() {
    let index = index(&MAP.replace(r#""c":"1."#, r#""c":"2."#)).unwrap();
    let error = index.check(&shards()).unwrap_err();
    assert!(
        matches!(error, IndexError::MissingTensor { elsewhere: Some(at), .. } if at == "1.safetensors")
    );
}

#[test]
fn a_shard_that_is_not_there_is_named() {
    let mut shards = shards();
    shards.remove("1.safetensors");
    let error = index(MAP).unwrap().check(&shards).unwrap_err();
    assert_eq!(
        error,
        IndexError::MissingShard {
            shard: "1.safetensors".into(),
            tensors: 2
        }
    );
}

#[test]
fn shard_names_never_leave_the_folder() {
    for bad in [
        "../x", "a/b", "/etc/x", "..", ".", "", "a\\\\b", "C:x", "x\\u0000",
    ] {
        let error = index(&format!(r#"{{"a":"{bad}"}}"#));
        assert!(
            matches!(error, Err(IndexParseError::Json(_))),
            "{bad}: {error:?}"
        );
    }
    let long = "x".repeat(limits::SHARD_NAME_BYTES_MAX);
    assert!(index(&format!(r#"{{"a":"{long}"}}"#)).is_ok());
    assert!(index(&format!(r#"{{"a":"{long}x"}}"#)).is_err());
}

#[test]
fn what_is_no_index_is_refused() {
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":1}}"#,
        "{\"weight_map\":{}}x",
    ] {
        assert!(ShardIndex::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(
        index(r#"{"a":"x","a":"y"}"#).is_err(),
        "a tensor named twice"
    );
    assert!(ShardIndex::parse(br#"{"weight_map":{},"weight_map":{}}"#).is_err());
    let loose = br#"{"metadata":{"total_size":1.5,"x":[{}]},"weight_map":{},"else":null}"#;
    assert_eq!(ShardIndex::parse(loose).unwrap().total_size(), None);
}
