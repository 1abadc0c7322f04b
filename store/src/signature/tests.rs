#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use super::*;
use crate::VersionId;
use crate::limits::{RECORD_BODY_BYTES_MAX, SIGNATURE_BYTES_MAX, SIGNATURES_MAX, SIGNED_BYTES_MAX};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

#[test]
fn a_signature_holds_for_its_bytes_key_and_context_alone() {
    let signed = Signed::new(Context::Ref, &b"body"[..], &[&key(1)]);
    assert_eq!(signed.verify(Context::Ref, key(1).id()), Ok(()));
    assert_eq!(signed.verified(Context::Ref), [key(1).id()]);
    let wrong = SignatureError::Wrong { key: key(1).id() };
    assert_eq!(
        signed.verify(Context::Identity, key(1).id()),
        Err(wrong.clone())
    );
    assert_eq!(
        signed.verify(Context::Ref, key(2).id()),
        Err(SignatureError::Missing { key: key(2).id() })
    );
    let forged = Signed {
        body: "other".into(),
        sigs: signed.sigs.clone(),
    };
    assert_eq!(forged.verify(Context::Ref, key(1).id()), Err(wrong.clone()));
    assert!(forged.verified(Context::Ref).is_empty());
    assert_eq!(wrong.kind(), ErrorKind::Refused);
    assert!(wrong.to_string().contains("forged"), "{wrong}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_signature_is_found() {
    let signed = Signed::new(Context::Version, &b"body"[..], &[&key(1)]);
    for bit in (0..512).step_by(13) {
        let mut flipped = signed.clone();
        flipped.sigs[0].sig[bit / 8] ^= 1 << (bit % 8);
        assert!(flipped.verified(Context::Version).is_empty(), "bit {bit}");
    }
}

#[test]
fn an_unknown_algorithm_is_kept_and_counts_as_not_verified() {
    let mut signed = Signed::new(Context::Ref, &b"body"[..], &[&key(1)]);
    let later = Signature {
        alg: "ml-dsa-65".into(),
        key: key(9).id(),
        sig: vec![7; 3309],
    };
    signed.sigs.push(later.clone());
    let again = Signed::decode(&signed.encode()).unwrap();
    assert_eq!(again, signed);
    assert_eq!(again.verified(Context::Ref), [key(1).id()]);
    let err = again.verify(Context::Ref, key(9).id()).unwrap_err();
    assert_eq!(
        err,
        SignatureError::UnknownAlgorithm {
            key: key(9).id(),
            alg: "ml-dsa-65".into()
        }
    );
}

#[test]
fn the_order_of_signers_does_not_change_the_bytes() {
    let a = Signed::new(Context::Ref, &b"body"[..], &[&key(1), &key(2), &key(1)]);
    let b = Signed::new(Context::Ref, &b"body"[..], &[&key(2), &key(1)]);
    assert_eq!(a.encode(), b.encode());
    assert_eq!(a.signatures().len(), 2);
}

#[test]
fn merging_takes_right_signatures_and_leaves_wrong_ones() {
    let mut a = Signed::new(Context::Ref, &b"body"[..], &[&key(1)]);
    let mut b = Signed::new(Context::Ref, &b"body"[..], &[&key(2), &key(3)]);
    b.sigs[0].sig[0] ^= 1;
    let wrong = b.sigs[0].key;
    assert!(a.merge(Context::Ref, &b));
    assert_eq!(a.verified(Context::Ref).len(), 2);
    assert!(a.verify(Context::Ref, wrong).is_err());
    assert!(!a.merge(Context::Ref, &b));

    let mut damaged = a.clone();
    for sig in &mut damaged.sigs {
        sig.sig[0] ^= 1;
    }
    assert!(
        damaged.merge(Context::Ref, &a),
        "a right signature replaces a wrong one"
    );
    assert_eq!(damaged, a);
}

#[test]
fn a_record_full_of_strangers_signatures_takes_right_ones() {
    let mut full = Signed::new(Context::Ref, &b"body"[..], &[]);
    let stranger = |n| Signature {
        alg: "later".into(),
        key: KeyId([n; 32]),
        sig: vec![],
    };
    full.sigs = (0..SIGNATURES_MAX as u8).map(stranger).collect();
    let right = Signed::new(Context::Ref, &b"body"[..], &[&key(1)]);
    assert!(full.merge(Context::Ref, &right));
    assert_eq!(full.verified(Context::Ref), [key(1).id()]);
    assert_eq!(
        Signed::decode(&full.encode()).unwrap().signatures().len(),
        SIGNATURES_MAX
    );
}

#[test]
fn version_signatures_travel_without_the_version() {
    let id = VersionId::of(b"version");
    let signatures = VersionSignatures::new(id, &[&key(1)]);
    let again = VersionSignatures::decode(&signatures.encode()).unwrap();
    assert_eq!(again.version(), id);
    assert_eq!(again.verify(key(1).id()), Ok(()));
    assert_eq!(again.verified(), [key(1).id()]);
    // the same as signing the version's bytes
    let signed = Signed::new(Context::Version, &b"version"[..], &[&key(1)]);
    assert_eq!(signed.signatures(), again.signatures());
}

#[test]
fn lengths_are_bounded() {
    let sig = |alg: &str, n: u8, len: usize| Signature {
        alg: alg.into(),
        key: KeyId([n; 32]),
        sig: vec![0; len],
    };
    let decode = |sigs: Vec<Signature>| {
        Signed::decode(
            &Signed {
                body: "b".into(),
                sigs,
            }
            .encode(),
        )
        .map(drop)
    };
    assert_eq!(decode(vec![sig("later", 0, SIGNATURE_BYTES_MAX)]), Ok(()));
    assert!(decode(vec![sig("later", 0, SIGNATURE_BYTES_MAX + 1)]).is_err());
    assert_eq!(
        decode(
            (0..SIGNATURES_MAX as u8)
                .map(|n| sig("later", n, 0))
                .collect()
        ),
        Ok(())
    );
    assert!(
        decode(
            (0..=SIGNATURES_MAX as u8)
                .map(|n| sig("later", n, 0))
                .collect()
        )
        .is_err()
    );
    assert!(decode(vec![sig(ED25519, 0, 63)]).is_err());
    assert!(decode(vec![sig("later", 1, 0), sig("later", 0, 0)]).is_err());
    assert!(decode(vec![sig("later", 1, 0), sig("later", 1, 1)]).is_err());
}

#[test]
fn a_record_has_a_bounded_length() {
    let body = |len| {
        Signed {
            body: vec![0; len].into(),
            sigs: vec![],
        }
        .encode()
    };
    assert!(Signed::decode(&body(RECORD_BODY_BYTES_MAX)).is_ok());
    assert!(Signed::decode(&body(RECORD_BODY_BYTES_MAX + 1)).is_err());
    let over = Signed::decode(&[0; SIGNED_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(
        over,
        DocumentError::TooLarge {
            max: SIGNED_BYTES_MAX,
            ..
        }
    ));
}

#[test]
fn a_key_of_another_algorithm_has_an_id_too() {
    let key = PublicKey {
        alg: "ml-dsa-65".into(),
        key: vec![1; 1952],
    };
    let mut bytes = Vec::new();
    key.encode_into(&mut bytes);
    assert_eq!(key.id(), KeyId(*blake3::hash(&bytes).as_bytes()));
    let mut reader = Reader::new(&bytes, "key", 4096).unwrap();
    assert_eq!(PublicKey::decode(&mut reader), Ok(key));
}

#[test]
fn a_secret_key_is_not_printed() {
    let text = format!("{:?}", key(0xab));
    assert!(!text.contains("abab"), "{text}");
}
