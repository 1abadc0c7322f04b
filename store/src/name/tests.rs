#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;
use crate::{PublisherId, VersionId};

#[test]
fn names_are_read_as_they_are_written() {
    let key = PublisherId::of(b"key");
    for text in ["acme/tiny", "acme/Tiny-1.1_B", &format!("{key}/tiny")] {
        assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
    }
    let full: NameRev = "acme/tiny@v1.0+cu12:q4_k_m".parse().unwrap();
    assert_eq!(full.name, "acme/tiny".parse().unwrap());
    assert_eq!(full.rev, Some(Rev::Ref("v1.0+cu12".into())));
    assert_eq!(full.variant.as_deref(), Some("q4_k_m"));
    let of_main: NameRev = "acme/tiny:Q8_0".parse().unwrap();
    assert_eq!(
        (of_main.rev, of_main.variant.as_deref()),
        (None, Some("Q8_0"))
    );
    let file: FileName = "acme/tiny@main/sub/日本.bin".parse().unwrap();
    assert_eq!(file.path, "sub/日本.bin");
    assert_eq!(file.of.rev, Some(Rev::Ref("main".into())));
    let file: FileName = "acme/tiny/a@b:c".parse().unwrap();
    assert_eq!(file.path, "a@b:c");
}

#[test]
fn hex_names_a_version_and_never_a_ref() {
    let id = VersionId::of(b"v");
    let hex = id.to_hex();
    for len in [8, 40, 64] {
        let Rev::Version(prefix) = hex[..len].to_uppercase().parse().unwrap() else {
            panic!("not a version");
        };
        assert!(prefix.matches(&id));
        assert_eq!(prefix.full(), (len == 64).then_some(id));
        assert!(!prefix.matches(&VersionId::of(b"w")));
    }
    let err = hex[..VERSION_PREFIX_DIGITS_MIN - 1]
        .parse::<Rev>()
        .unwrap_err();
    assert!(matches!(err, NameError::VersionPrefix { .. }));
    assert!(format!("{hex}0").parse::<Rev>().is_err());
    assert!(check_ref_name("deadbeef").is_err());
    assert!(check_ref_name("beef").is_err());
}

#[test]
fn what_is_not_a_name_is_refused_each_by_its_own_error() {
    let err = |text: &str| text.parse::<NameRev>().unwrap_err();
    assert!(matches!(err("tiny"), NameError::NoModel { .. }));
    assert!(matches!(err(""), NameError::NoModel { .. }));
    assert!(matches!(err("/tiny"), NameError::Publisher { .. }));
    assert!(matches!(err("Acme/tiny"), NameError::Publisher { .. }));
    assert!(matches!(err("-a/tiny"), NameError::Publisher { .. }));
    assert!(matches!(err("a_b/tiny"), NameError::Publisher { .. }));
    assert!(matches!(err("api/tiny"), NameError::ReservedAlias { .. }));
    assert!(matches!(err("acme/"), NameError::Model { .. }));
    assert!(matches!(err("acme/.."), NameError::Model { .. }));
    assert!(matches!(err("acme/ti ny"), NameError::Model { .. }));
    assert!(matches!(err("acme/tiny/x"), NameError::Unexpected { .. }));
    assert!(matches!(err("acme/tiny@"), NameError::Ref { .. }));
    assert!(matches!(err("acme/tiny@a/b"), NameError::Unexpected { .. }));
    assert!(matches!(err("acme/tiny@a@b"), NameError::Unexpected { .. }));
    assert!(matches!(err("acme/tiny@.a"), NameError::Ref { .. }));
    assert!(matches!(err("acme/tiny@a--b"), NameError::Ref { .. }));
    assert!(matches!(
        err("acme/tiny@ab"),
        NameError::VersionPrefix { .. }
    ));
    assert!(matches!(err("acme/tiny@main:"), NameError::Variant { .. }));
    assert!(matches!(
        err("acme/tiny@main:a:b"),
        NameError::Unexpected { .. }
    ));
    assert!(matches!(
        "acme/tiny".parse::<FileName>(),
        Err(NameError::NoFile { .. })
    ));
    assert!(matches!(
        "acme/tiny/../x".parse::<FileName>(),
        Err(NameError::Path(_))
    ));
    assert!(matches!(
        "acme/tiny/".parse::<FileName>(),
        Err(NameError::Path(_))
    ));
    assert!(matches!(
        "acme/tiny@v1".parse::<Name>(),
        Err(NameError::Unexpected { .. })
    ));
    assert_eq!(err("api/tiny").kind(), ErrorKind::Usage);
    assert!(err("tiny").to_string().contains("acme/tiny"));
}

#[test]
fn lengths_of_names_hold_by_one() {
    let long = |len: usize| "x".repeat(len);
    assert!(check_alias(&long(ALIAS_BYTES_MAX)).is_ok());
    assert!(check_alias(&long(ALIAS_BYTES_MAX + 1)).is_err());
    assert!(check_model(&long(MODEL_BYTES_MAX)).is_ok());
    assert!(check_model(&long(MODEL_BYTES_MAX + 1)).is_err());
    assert!(check_ref_name(&long(REF_NAME_BYTES_MAX)).is_ok());
    assert!(check_ref_name(&long(REF_NAME_BYTES_MAX + 1)).is_err());
    assert!(check_variant(&long(VARIANT_BYTES_MAX)).is_ok());
    assert!(check_variant(&long(VARIANT_BYTES_MAX + 1)).is_err());
}

proptest! {
    #[test]
    fn what_is_read_is_written_back(text in "[a-c]{1,3}/[A-c.]{1,4}(@[a-z0-9.-]{1,9})?(:[a-z_]{1,4})?(/[a-z./]{1,5})?") {
        if let Ok(name) = text.parse::<NameRev>() {
            prop_assert_eq!(name.to_string(), text.clone());
        }
        if let Ok(name) = text.parse::<FileName>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }
}
