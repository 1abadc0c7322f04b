//! The means of handlers that read and change collections, and the one place where the gateway decides who may.
//!
//! A handler of scope [`Read`](crate::reader::Read) reaches a collection only as a [`Readable`], one of scope
//! [`Write`](crate::writer::Write) as a [`Writable`]: nothing else proves that the caller may. A collection that
//! the caller may not read and one that is not here answer alike. Everything here blocks.

use hyper::StatusCode;
use lode_index::{Applied, CollectionConfig, View, operation::Operation};
use lode_node::{
    collections::{
        AliasAt, AliasChange, CollectionAt, Collections, CollectionsError, OpenCollection,
        SnapshotAt, SnapshotFile,
    },
    command::{Failure, FailureKind},
};
use lode_store::{
    access::{Caller, Grant},
    name::PublisherName,
};

use crate::{answer::Problem, reader::Reader, writer::Writer};

/// A collection that the caller may read.
#[derive(Debug, Clone)]
pub struct Readable {
    at: CollectionAt,
    open: OpenCollection,
}

/// A collection that the caller may change.
#[derive(Debug, Clone)]
pub struct Writable(Readable);

impl Readable {
    /// Which it is.
    pub fn at(&self) -> &CollectionAt {
        &self.at
    }

    /// The collection as it is now.
    pub fn view(&self) -> View {
        self.open.view()
    }

    /// Why its last maintenance failed, if it did.
    pub fn trouble(&self) -> Option<String> {
        self.open.trouble()
    }
}

impl Writable {
    /// The same collection, to read from.
    pub fn readable(&self) -> &Readable {
        &self.0
    }

    /// Does an operation; durable when this returns.
    ///
    /// # Errors
    /// What the engine says.
    pub fn apply(&self, operation: Operation) -> Result<Applied, CollectionsError> {
        self.0.open.apply(operation)
    }

    /// Makes a snapshot.
    ///
    /// # Errors
    /// What the node says.
    pub fn snapshot(&self) -> Result<SnapshotAt, CollectionsError> {
        self.0.open.snapshot()
    }
}

impl Reader {
    /// The collections that the caller may read, by publisher and name.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn collections(&self) -> Result<Vec<CollectionAt>, Problem> {
        let all = self.all_collections()?;
        let mut found = all.list()?;
        found.retain(|at| all.grant(self.caller(), at).reads());
        Ok(found)
    }

    /// The collection of a name, if the caller may read it. Nothing is opened.
    ///
    /// # Errors
    /// 404, or 401 without a token, where it is not here or may not be seen; 400 for what is no name.
    pub fn find_collection(&self, name: &str) -> Result<CollectionAt, Problem> {
        let all = self.all_collections()?;
        let at = match all.find(name) {
            Err(CollectionsError::Absent { .. }) => None,
            found => Some(found?),
        };
        at.filter(|at| all.grant(self.caller(), at).reads())
            .ok_or_else(|| absent(self.caller(), name))
    }

    /// The collection of a name, to read from.
    ///
    /// # Errors
    /// As [`Self::find_collection`]; when it cannot be read.
    pub fn collection(&self, name: &str) -> Result<Readable, Problem> {
        let at = self.find_collection(name)?;
        match self.all_collections()?.open(&at) {
            // deleted since
            Err(CollectionsError::Absent { .. }) => Err(absent(self.caller(), name)),
            open => Ok(Readable { open: open?, at }),
        }
    }

    /// All of the home, whoever may read them: nothing outside of this module asks for them.
    pub(crate) fn all_collections(&self) -> Result<&Collections, Problem> {
        let none = || {
            let status = StatusCode::NOT_IMPLEMENTED;
            Problem::new(status, FailureKind::Refused, "this node has no collections")
        };
        self.collections.as_ref().ok_or_else(none)
    }

    /// The aliases of collections that the caller may read.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn aliases(&self) -> Result<Vec<AliasAt>, Problem> {
        let readable = self.collections()?;
        let mut aliases = self.all_collections()?.aliases()?;
        aliases.retain(|alias| {
            readable
                .iter()
                .any(|at| at.publisher == alias.publisher && at.name == alias.collection)
        });
        Ok(aliases)
    }

    /// How the caller names a collection: bare where it is the home's own, else with its publisher.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn collection_name(&self, at: &CollectionAt) -> Result<String, Problem> {
        let all = self.all_collections()?;
        Ok(match all.own()? == Some(at.publisher) {
            true => at.name.clone(),
            false => all.full_name(at)?,
        })
    }
}

impl Writer {
    /// The collection of a name, to change.
    ///
    /// # Errors
    /// As [`Reader::collection`]; 403 where the caller may read alone.
    pub fn collection(&self, name: &str) -> Result<Writable, Problem> {
        let readable = self.reader().collection(name)?;
        self.check_grant(name, &readable.at)?;
        Ok(Writable(readable))
    }

    /// Makes a collection.
    ///
    /// # Errors
    /// 409 where there is one that the caller may change, 403 where it may read alone, and what an absent one answers
    /// where it may not even do that.
    pub fn create_collection(
        &self,
        name: &str,
        config: CollectionConfig,
        public: bool,
    ) -> Result<CollectionAt, Problem> {
        self.check_create(name)?;
        let all = self.reader().all_collections()?;
        Ok(all.create(name, config, public)?)
    }

    /// That the caller may make a collection of a name, whether there is one or not.
    ///
    /// # Errors
    /// 403 where the caller may read one alone, and what an absent one answers where it may not even do that.
    pub fn check_create(&self, name: &str) -> Result<(), Problem> {
        let all = self.reader().all_collections()?;
        match all.find(name) {
            Ok(at) => {
                if !all.grant(self.reader().caller(), &at).reads() {
                    return Err(absent(self.reader().caller(), name));
                }
                self.check_grant(name, &at)?;
            }
            Err(CollectionsError::Absent { .. }) => self.check_new(name, all)?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Deletes a collection; whether there was one that the caller may change.
    ///
    /// # Errors
    /// 403 where the caller may read alone, and what an absent one answers where it may not even do that.
    pub fn delete_collection(&self, name: &str) -> Result<(), Problem> {
        let at = self.reader().find_collection(name)?;
        self.check_grant(name, &at)?;
        match self.reader().all_collections()?.delete(&at) {
            Err(CollectionsError::Absent { .. }) => Err(absent(self.reader().caller(), name)),
            done => Ok(done?),
        }
    }

    /// The snapshots of a collection, oldest first.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn snapshots(&self, of: &Writable) -> Result<Vec<SnapshotAt>, Problem> {
        let all = self.reader().all_collections()?;
        Ok(all.snapshots(of.readable().at())?)
    }

    /// A snapshot as one file.
    ///
    /// # Errors
    /// 404 for one that is not there.
    pub fn snapshot_file(
        &self,
        of: &Writable,
        name: &str,
    ) -> Result<(SnapshotAt, SnapshotFile), Problem> {
        let all = self.reader().all_collections()?;
        Ok(all.snapshot_file(of.readable().at(), name)?)
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// 404 for one that is not there.
    pub fn delete_snapshot(&self, of: &Writable, name: &str) -> Result<(), Problem> {
        let all = self.reader().all_collections()?;
        Ok(all.delete_snapshot(of.readable().at(), name)?)
    }

    /// Puts a snapshot of one collection in place of what another holds, or the same.
    ///
    /// # Errors
    /// As [`Self::create_collection`], and [`Self::snapshot_file`].
    pub fn recover_collection(
        &self,
        from: &Writable,
        snapshot: &str,
        to: &str,
    ) -> Result<CollectionAt, Problem> {
        self.check_create(to)?;
        let all = self.reader().all_collections()?;
        Ok(all.recover(from.readable().at(), snapshot, to)?)
    }

    /// Changes aliases, all of them or none. The caller must be one who may change every collection that they stand
    /// for, and make one under every new name.
    ///
    /// # Errors
    /// As [`Self::collection`], for any of them.
    pub fn change_aliases(&self, changes: &[AliasAsked]) -> Result<(), Problem> {
        let all = self.reader().all_collections()?;
        let mut resolved = Vec::new();
        for change in changes {
            match change {
                AliasAsked::Set { alias, collection } => {
                    let at = self.reader().find_collection(collection)?;
                    self.check_grant(collection, &at)?;
                    self.check_new(&format!("{}/{}", at.publisher, short(alias)), all)?;
                    resolved.push(AliasChange::Set(AliasAt {
                        publisher: at.publisher,
                        alias: short(alias),
                        collection: at.name,
                    }));
                }
                AliasAsked::Remove { alias } => {
                    let at = self.reader().find_collection(alias)?;
                    self.check_grant(alias, &at)?;
                    resolved.push(AliasChange::Remove {
                        publisher: at.publisher,
                        alias: short(alias),
                    });
                }
                AliasAsked::Rename { from, to } => {
                    let at = self.reader().find_collection(from)?;
                    self.check_grant(from, &at)?;
                    self.check_new(&format!("{}/{}", at.publisher, short(to)), all)?;
                    resolved.push(AliasChange::Rename {
                        publisher: at.publisher,
                        from: short(from),
                        to: short(to),
                    });
                }
            }
        }
        Ok(all.change_aliases(&resolved)?)
    }

    fn check_grant(&self, name: &str, at: &CollectionAt) -> Result<(), Problem> {
        let all = self.reader().all_collections()?;
        match all.grant(self.reader().caller(), at) {
            Grant::Write => Ok(()),
            Grant::Read => Err(Problem::refused(format!(
                "your token may read {}, and not change it",
                cut(name)
            ))),
            Grant::None => Err(absent(self.reader().caller(), name)),
        }
    }

    /// That the caller may make something under a name: tokens say so by it, bound or not.
    fn check_new(&self, name: &str, all: &Collections) -> Result<(), Problem> {
        let caller = self.reader().caller();
        if matches!(caller, Caller::Owner) {
            return Ok(());
        }
        let granted = match all.grant_new(caller, name)? {
            Some(granted) => granted == Grant::Write,
            None => {
                let unbound = name
                    .split_once('/')
                    .and_then(|(alias, rest)| Some((alias.parse::<PublisherName>().ok()?, rest)));
                let token = self.reader().token();
                match (unbound, token) {
                    (Some((publisher, rest)), Some(token)) => {
                        token.writes_unbound(&publisher, rest)
                    }
                    _ => false,
                }
            }
        };
        match granted {
            true => Ok(()),
            false => Err(absent(caller, name)),
        }
    }
}

/// A change of aliases by names as clients write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasAsked {
    /// An alias stands for a collection.
    Set {
        /// The alias.
        alias: String,
        /// The collection.
        collection: String,
    },
    /// An alias is given up.
    Remove {
        /// The alias.
        alias: String,
    },
    /// An alias is called otherwise.
    Rename {
        /// What it is called.
        from: String,
        /// What it will be called.
        to: String,
    },
}

/// A name without its publisher.
fn short(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

fn absent(caller: &Caller, name: &str) -> Problem {
    let message = format!("Not found: Collection `{}` doesn't exist!", cut(name));
    match caller {
        Caller::Anonymous => Problem::new(StatusCode::UNAUTHORIZED, FailureKind::NotFound, message)
            .advise("send a token of this node, if you have one"),
        _ => Problem::not_found(message),
    }
}

impl From<CollectionsError> for Problem {
    fn from(error: CollectionsError) -> Self {
        let status = match &error {
            CollectionsError::Exists { .. } => StatusCode::CONFLICT,
            error if error.is_no_room() => StatusCode::INSUFFICIENT_STORAGE,
            _ => return Self::from(Failure::from(error)),
        };
        let failure = Failure::from(error);
        Self::new(status, failure.kind, failure.message)
    }
}
