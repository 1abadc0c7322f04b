//! A token as the home keeps it: what it is for, and the hash of its text.
//!
//! DAG-CBOR `{"digest": 32 bytes, "name", "power": "read" | "write" | "admin", "models": [GLOB],
//! "created": seconds, "expires": seconds or null}` under `token/ID`. ID is the first 8 bytes of the
//! digest, in hex.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{TokenError, limits::TOKEN_NAME_BYTES_MAX, models::ModelsGlob};

/// Local keys of tokens.
pub(super) const PREFIX: &str = "token/";

/// What names a token without giving it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId([u8; 8]);

impl TokenId {
    pub(super) fn of(digest: &blake3::Hash) -> Self {
        let (id, _) = digest
            .as_bytes()
            .split_first_chunk()
            .expect("32 are more than 8");
        Self(*id)
    }

    pub(super) fn key(self) -> String {
        format!("{PREFIX}{self}")
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// What a token is for. Each includes those before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Reading models.
    Read,
    /// Changing them, and making new ones.
    Write,
    /// All that the owner may do over HTTP.
    Admin,
}

impl Power {
    /// `read`, `write` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// A token of the home, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Names it.
    pub id: TokenId,
    /// What the owner calls it; no two are called the same.
    pub name: String,
    /// What it is for.
    pub power: Power,
    /// Which models.
    pub models: Vec<ModelsGlob>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends; never when absent.
    pub expires: Option<u64>,
    /// The hash of its text, which compares in constant time.
    pub(super) digest: blake3::Hash,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "serde_bytes")]
    digest: [u8; 32],
    name: String,
    power: Power,
    models: Vec<ModelsGlob>,
    created: u64,
    expires: Option<u64>,
}

impl Token {
    /// Whether it may change or make a model under a publisher's name that is bound to nobody yet.
    pub fn writes_unbound(&self, publisher: &lode_store::name::PublisherName, model: &str) -> bool {
        self.power >= Power::Write
            && self
                .models
                .iter()
                .any(|glob| glob.covers_unbound(publisher, model))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            digest: *self.digest.as_bytes(),
            name: self.name.clone(),
            power: self.power,
            models: self.models.clone(),
            created: self.created,
            expires: self.expires,
        };
        serde_ipld_dagcbor::to_vec(&stored).expect("text, numbers and bytes can be encoded")
    }

    /// Reads the value of a local key; nothing when it is not one that this program understands.
    pub(super) fn decode(key: &str, value: &[u8]) -> Option<Self> {
        let stored: Stored = serde_ipld_dagcbor::from_slice(value).ok()?;
        let digest = blake3::Hash::from_bytes(stored.digest);
        let id = TokenId::of(&digest);
        (key == id.key()).then_some(Self {
            id,
            name: stored.name,
            power: stored.power,
            models: stored.models,
            created: stored.created,
            expires: stored.expires,
            digest,
        })
    }
}

pub(super) fn check_name(name: &str) -> Result<(), TokenError> {
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=TOKEN_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(permitted);
    match fits {
        true => Ok(()),
        false => Err(TokenError::Name(name.chars().take(100).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_strange_ones_are_none() {
        let digest = blake3::hash(b"x");
        let token = Token {
            id: TokenId::of(&digest),
            name: "ci".to_owned(),
            power: Power::Write,
            models: vec![ModelsGlob::all()],
            created: 7,
            expires: Some(8),
            digest,
        };
        let bytes = token.encode();
        assert_eq!(Token::decode(&token.id.key(), &bytes), Some(token.clone()));
        assert_eq!(Token::decode("token/0011223344556677", &bytes), None);
        assert_eq!(Token::decode(&token.id.key(), b"yes"), None);
        assert_eq!(
            Token::decode(&token.id.key(), &bytes[..bytes.len() - 1]),
            None
        );
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(check_name(&"a".repeat(TOKEN_NAME_BYTES_MAX)).is_ok());
        for name in [
            "",
            "a b",
            "a/b",
            "\u{1b}[1m",
            &"a".repeat(TOKEN_NAME_BYTES_MAX + 1),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
