//! Other names of collections. An alias belongs to a publisher and stands for one of its collections.

use std::{collections::BTreeMap, io, path::Path};

use lode_store::{
    PublisherId,
    name::{check_model, fold_model},
};
use serde::{Deserialize, Serialize};

use super::{
    CollectionsError, files,
    limits::{ALIASES_BYTES_MAX, ALIASES_MAX},
    table::Key,
};

/// The file of all of them.
pub(super) const FILE: &str = "aliases";

/// An alias of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasAt {
    /// Whose alias and collection.
    pub publisher: PublisherId,
    /// The alias.
    pub alias: String,
    /// The collection's name.
    pub collection: String,
}

/// A change of aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasChange {
    /// An alias stands for a collection from now on, whatever it stood for.
    Set(AliasAt),
    /// An alias is given up.
    Remove {
        /// Whose.
        publisher: PublisherId,
        /// The alias.
        alias: String,
    },
    /// An alias is called otherwise.
    Rename {
        /// Whose.
        publisher: PublisherId,
        /// What it is called.
        from: String,
        /// What it will be called.
        to: String,
    },
}

/// All aliases: by publisher and lower-cased name, as spelled, and the lower-cased name of the collection.
#[derive(Debug, Clone, Default)]
pub(super) struct Aliases(BTreeMap<Key, (String, String)>);

#[derive(Serialize, Deserialize)]
struct FileJson {
    format: u32,
    aliases: Vec<RowJson>,
}

#[derive(Serialize, Deserialize)]
struct RowJson {
    publisher: String,
    alias: String,
    collection: String,
}

impl Aliases {
    pub(super) fn read(folder: &Path) -> Result<Self, CollectionsError> {
        let path = folder.join(FILE);
        let bytes = match files::read(&path, ALIASES_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(CollectionsError::io(&path)(error)),
        };
        let damaged = |what: String| CollectionsError::Damaged {
            path: path.clone(),
            what,
        };
        let file: FileJson =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if file.format != 1 {
            let what = format!("format {}; this version of Lode reads 1", file.format);
            return Err(damaged(what));
        }
        let mut aliases = BTreeMap::new();
        for row in file.aliases {
            let publisher = row
                .publisher
                .parse()
                .map_err(|_| damaged("no publisher".to_owned()))?;
            aliases.insert(
                (publisher, fold_model(&row.alias)),
                (row.alias, row.collection),
            );
        }
        Ok(Self(aliases))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), CollectionsError> {
        let rows = self
            .0
            .iter()
            .map(|((publisher, _), (alias, target))| RowJson {
                publisher: publisher.to_hex(),
                alias: alias.clone(),
                collection: target.clone(),
            });
        let file = FileJson {
            format: 1,
            aliases: rows.collect(),
        };
        let bytes = serde_json::to_vec(&file).expect("texts");
        files::replace(folder, FILE, &bytes).map_err(CollectionsError::io(folder.join(FILE)))
    }

    /// The lower-cased name of the collection that an alias stands for.
    pub(super) fn target(&self, alias: &Key) -> Option<&str> {
        self.0.get(alias).map(|(_, target)| target.as_str())
    }

    /// Keeps the aliases of those collections alone that pass; whether some went.
    pub(super) fn retain(&mut self, keep: &dyn Fn(&Key) -> bool) -> bool {
        let before = self.0.len();
        self.0
            .retain(|(publisher, _), (_, target)| keep(&(*publisher, target.clone())));
        self.0.len() < before
    }

    pub(super) fn list(&self, named: &dyn Fn(&Key) -> Option<String>) -> Vec<AliasAt> {
        let row = |((publisher, _), (alias, target)): (&Key, &(String, String))| AliasAt {
            publisher: *publisher,
            alias: alias.clone(),
            collection: named(&(*publisher, target.clone())).unwrap_or_else(|| target.clone()),
        };
        self.0.iter().map(row).collect()
    }

    pub(super) fn change(
        &mut self,
        change: &AliasChange,
        exists: &dyn Fn(&Key) -> bool,
    ) -> Result<(), CollectionsError> {
        let free = |publisher: PublisherId, alias: &str| {
            check_model(alias)?;
            match exists(&(publisher, fold_model(alias))) {
                true => Err(CollectionsError::Exists {
                    name: alias.to_owned(),
                }),
                false => Ok(()),
            }
        };
        let absent = |name: &str| CollectionsError::Absent {
            name: name.to_owned(),
        };
        match change {
            AliasChange::Set(set) => {
                free(set.publisher, &set.alias)?;
                let target = fold_model(&set.collection);
                if !exists(&(set.publisher, target.clone())) {
                    return Err(absent(&set.collection));
                }
                let key = (set.publisher, fold_model(&set.alias));
                if self.0.len() >= ALIASES_MAX && !self.0.contains_key(&key) {
                    return Err(CollectionsError::TooManyAliases);
                }
                self.0.insert(key, (set.alias.clone(), target));
            }
            AliasChange::Remove { publisher, alias } => {
                let found = self.0.remove(&(*publisher, fold_model(alias)));
                found.ok_or_else(|| absent(alias))?;
            }
            AliasChange::Rename {
                publisher,
                from,
                to,
            } => {
                free(*publisher, to)?;
                let found = self.0.remove(&(*publisher, fold_model(from)));
                let (_, target) = found.ok_or_else(|| absent(from))?;
                let key = (*publisher, fold_model(to));
                self.0.insert(key, (to.clone(), target));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn as_many_aliases_as_there_may_be_are_read_back_and_one_more_is_refused() {
        let publisher = PublisherId::from_bytes([7; 32]);
        let mut aliases = Aliases::default();
        // names as long as they can be: the file is as long as it can be too
        let mut set = |number: usize| {
            let change = AliasChange::Set(AliasAt {
                publisher,
                alias: format!("{number:a>96}"),
                collection: "b".repeat(96),
            });
            let is_collection = |key: &Key| key.1.starts_with('b');
            let done = aliases.change(&change, &is_collection);
            (done, aliases.0.len())
        };
        for number in 0..ALIASES_MAX {
            set(number).0.unwrap();
        }
        let (refused, count) = set(ALIASES_MAX);
        assert!(matches!(refused, Err(CollectionsError::TooManyAliases)));
        assert_eq!(count, ALIASES_MAX);
        assert!(set(0).0.is_ok(), "one that is there");
        let folder = tempfile::tempdir().unwrap();
        aliases.write(folder.path()).unwrap();
        assert_eq!(Aliases::read(folder.path()).unwrap().0, aliases.0);
        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.resize(usize::try_from(ALIASES_BYTES_MAX).unwrap(), b' ');
        std::fs::write(&path, &bytes).unwrap();
        assert!(Aliases::read(folder.path()).is_ok());
        bytes.push(b' ');
        std::fs::write(&path, &bytes).unwrap();
        assert!(Aliases::read(folder.path()).is_err());
    }
}
