//! Reads `PUBLISHER/MODEL[@REV][:VARIANT][/FILE]`.

use std::{fmt, str::FromStr};

use super::NameError;
use super::check::{check_alias, check_model, check_ref_name, check_variant, shown};
use crate::limits::VERSION_PREFIX_DIGITS_MIN;
use crate::tree::check_path;
use crate::{PublisherId, VersionId};

/// How a publisher is named: by what this home calls it, or by its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PublisherName {
    /// A local alias.
    Alias(String),
    /// The publisher's id.
    Key(PublisherId),
}

/// `PUBLISHER/MODEL`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// Whose model.
    pub publisher: PublisherName,
    /// Which model.
    pub model: String,
}

/// The first hex digits of a version's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionPrefix(String);

/// What follows the `@`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rev {
    /// A branch or a tag: a branch, if there are both.
    Ref(String),
    /// The start of a version's id.
    Version(VersionPrefix),
}

/// `PUBLISHER/MODEL[@REV][:VARIANT]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameRev {
    /// Which model.
    pub name: Name,
    /// Which version of it; none is the branch `main`.
    pub rev: Option<Rev>,
    /// Which variant of that version.
    pub variant: Option<String>,
}

/// `PUBLISHER/MODEL[@REV][:VARIANT]/FILE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileName {
    /// Which version.
    pub of: NameRev,
    /// Which file of it.
    pub path: String,
}

impl VersionPrefix {
    /// The hex digits, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `id` starts with these digits.
    pub fn matches(&self, id: &VersionId) -> bool {
        id.to_hex().starts_with(&self.0)
    }

    /// The id, if all of its digits are there.
    pub fn full(&self) -> Option<VersionId> {
        self.0.parse().ok()
    }
}

impl FromStr for PublisherName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() == 64
            && let Ok(key) = text.parse()
        {
            return Ok(Self::Key(key));
        }
        check_alias(text)?;
        Ok(Self::Alias(text.to_owned()))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (publisher, model) = text
            .split_once('/')
            .ok_or_else(|| NameError::NoModel { found: shown(text) })?;
        let publisher = publisher.parse()?;
        if let Some(at) = model.find(['@', ':', '/']) {
            return Err(NameError::Unexpected {
                found: shown(&model[at..]),
                form: "",
            });
        }
        check_model(model)?;
        Ok(Self {
            publisher,
            model: model.to_owned(),
        })
    }
}

impl FromStr for VersionPrefix {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (VERSION_PREFIX_DIGITS_MIN..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !fits {
            return Err(NameError::VersionPrefix { found: shown(text) });
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl FromStr for Rev {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return text.parse().map(Self::Version);
        }
        check_ref_name(text)?;
        Ok(Self::Ref(text.to_owned()))
    }
}

impl FromStr for NameRev {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (rest, variant) = match text.split_once(':') {
            Some((rest, variant)) => {
                if let Some(at) = variant.find(['@', ':', '/']) {
                    let form = "[@REV][:VARIANT]";
                    return Err(NameError::Unexpected {
                        found: shown(&variant[at..]),
                        form,
                    });
                }
                check_variant(variant)?;
                (rest, Some(variant.to_owned()))
            }
            None => (text, None),
        };
        let (name, rev) = match rest.split_once('@') {
            Some((name, rev)) => {
                if let Some(at) = rev.find(['@', '/']) {
                    let form = "[@REV][:VARIANT]";
                    return Err(NameError::Unexpected {
                        found: shown(&rev[at..]),
                        form,
                    });
                }
                (name, Some(rev.parse()?))
            }
            None => (rest, None),
        };
        Ok(Self {
            name: name.parse()?,
            rev,
            variant,
        })
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let slash = |from: usize| text[from..].find('/').map(|at| from + at);
        let first = slash(0).ok_or_else(|| NameError::NoModel { found: shown(text) })?;
        let second = slash(first + 1).ok_or_else(|| NameError::NoFile { found: shown(text) })?;
        let (of, path) = (text[..second].parse()?, &text[second + 1..]);
        check_path(path)?;
        Ok(Self {
            of,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for PublisherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias(alias) => f.write_str(alias),
            Self::Key(key) => key.fmt(f),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.model)
    }
}

impl fmt::Display for VersionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref(name) => f.write_str(name),
            Self::Version(prefix) => prefix.fmt(f),
        }
    }
}

impl fmt::Display for NameRev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        if let Some(rev) = &self.rev {
            write!(f, "@{rev}")?;
        }
        if let Some(variant) = &self.variant {
            write!(f, ":{variant}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.of, self.path)
    }
}
