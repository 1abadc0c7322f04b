//! Which models a token is for: `PUBLISHER/GLOB`, by the name that this home gives to the publisher.

use std::{fmt, str::FromStr};

use lode_store::{
    PublisherId, Store,
    identity::check_glob,
    name::{PublisherName, check_alias},
    store::ReadError,
};
use serde::{Deserialize, Serialize};

use super::TokenError;

/// Models of one publisher, or of all: `acme/tiny`, `acme/tiny-*`, `KEY/*`, `*/tiny`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelsGlob {
    /// Whose; all when absent. An alias stands for whomever it is bound to when the token is used.
    pub publisher: Option<PublisherName>,
    /// Which: `*` stands for any run of characters.
    pub models: String,
}

impl ModelsGlob {
    /// All models.
    pub fn all() -> Self {
        Self {
            publisher: None,
            models: "*".to_owned(),
        }
    }

    /// Whether it is for all models.
    pub fn is_all(&self) -> bool {
        self.publisher.is_none() && self.models.bytes().all(|byte| byte == b'*')
    }

    /// Whether it is for what may be made under `publisher`, a name that is bound to nobody.
    pub fn covers_unbound(&self, publisher: &PublisherName, model: &str) -> bool {
        self.publisher.as_ref().is_none_or(|own| own == publisher)
            && lode_store::identity::glob_matches(&self.models, model)
    }

    /// Whose models: `Some(None)` is everyone's, nothing when the alias is bound to nobody.
    pub(super) fn resolve(&self, store: &Store) -> Result<Option<Option<PublisherId>>, ReadError> {
        match &self.publisher {
            None => Ok(Some(None)),
            Some(PublisherName::Key(id)) => Ok(Some(Some(*id))),
            Some(PublisherName::Alias(alias)) => {
                let bound = store.local_get(&format!("alias/{alias}"))?;
                let id = bound.and_then(|id| <[u8; 32]>::try_from(&id[..]).ok());
                Ok(id.map(|id| Some(PublisherId::from_bytes(id))))
            }
        }
    }
}

impl FromStr for ModelsGlob {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let refuse = |why: String| TokenError::Models {
            found: text.chars().take(100).collect(),
            why,
        };
        if text == "*" {
            return Ok(Self::all());
        }
        let (publisher, models) = text
            .split_once('/')
            .ok_or_else(|| refuse("there is no `/`".to_owned()))?;
        let publisher = match publisher {
            "*" => None,
            name => Some(
                name.parse()
                    .map_err(|error: lode_store::name::NameError| refuse(error.to_string()))?,
            ),
        };
        if let Some(PublisherName::Alias(alias)) = &publisher {
            check_alias(alias).map_err(|error| refuse(error.to_string()))?;
        }
        check_glob(models).map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            publisher,
            models: models.to_owned(),
        })
    }
}

impl fmt::Display for ModelsGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.publisher {
            None if self.models == "*" => f.write_str("*"),
            None => write!(f, "*/{}", self.models),
            Some(publisher) => write!(f, "{publisher}/{}", self.models),
        }
    }
}

impl TryFrom<String> for ModelsGlob {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, TokenError> {
        text.parse()
    }
}

impl From<ModelsGlob> for String {
    fn from(glob: ModelsGlob) -> Self {
        glob.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn globs_are_read_as_they_are_written() {
        let key = "ab".repeat(32);
        for text in [
            "*",
            "acme/*",
            "acme/tiny-*",
            "*/tiny",
            &format!("{key}/m.1_x"),
        ] {
            let glob: ModelsGlob = text.parse().unwrap();
            assert_eq!(glob.to_string(), text);
            assert_eq!(glob.is_all(), text == "*");
        }
        assert!("*/*".parse::<ModelsGlob>().unwrap().is_all());
    }

    #[test]
    fn what_names_no_models_is_refused() {
        for text in [
            "",
            "acme",
            "/m",
            "acme/",
            "ac*/m",
            "acme/a/b",
            "ACME/m",
            "acme/m@v1",
            "acme/..%2f",
            "acme/\0",
            "api/m",
        ] {
            assert!(text.parse::<ModelsGlob>().is_err(), "{text:?}");
        }
    }
}
