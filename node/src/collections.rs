//! Collections of vectors that the home holds, beside its models.
//!
//! A collection is reached by name, whoever made it: the command line, the native routes, Qdrant's dialect. `docs`
//! is one of the home's own publisher, `acme/docs` and `KEY/docs` one of any publisher; names follow the rules of
//! models' names and are one whatever their case. What a name stands for is found with [`Collections::find`], which
//! opens nothing and is what access is decided on; [`Collections::open`] gives the collection itself.
//!
//! ```text
//! HOME/collections/
//!   docs.9f31c2d4a0b1c2d3/    lower-cased name and a random number that no other collection had
//!     about                   JSON: publisher, name, public, when it was made
//!     data/                   the collection (docs/format/collection.md); `data-HEX` after a recovery
//!     snapshots/              what it held earlier ([`snapshots`])
//!   aliases                   JSON: other names of collections
//!   .new-*, .gone-*           on their way in or out; removed when collections are first asked for
//! ```
//!
//! Folders are named by no publisher and used once: an alias of a publisher that changes moves nothing, and who still
//! works on a collection that was deleted cannot touch a later one of its name. The home's lock is that of the store;
//! it is held as long as a collection is open. Collections are opened when they are asked for, some
//! [`limits::OPEN_MAX`] stay open, and one thread maintains those that were written ([`work`]). A collection that
//! cannot be read keeps no other from being used. Everything here blocks.

mod aliases;
pub(crate) mod command;
mod error;
mod files;
pub mod limits;
pub(crate) mod replica;
mod slot;
mod snapshots;
mod stage;
mod table;
mod version;
mod work;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use lode_index::{Applied, CollectionConfig, View, operation::Operation};
use lode_store::{
    PublisherId, Store,
    access::{self, AccessView, Caller, Grant},
    identity,
    name::{PublisherName, check_model},
};

use crate::{Node, publisher};

pub use aliases::{AliasAt, AliasChange};
pub use error::CollectionsError;
use slot::{Held, Slot};
pub use snapshots::{SnapshotAt, SnapshotFile};
use table::Table;
use work::Work;

/// The collections of a node. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct Collections {
    node: Node,
}

/// A collection by its name: what it takes to decide who may do what with it, and to open it.
#[derive(Debug, Clone)]
pub struct CollectionAt {
    /// Whose it is.
    pub publisher: PublisherId,
    /// Its name, as it was spelled when it was made.
    pub name: String,
    /// Whether everyone may read it.
    pub public: bool,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    slot: Arc<Slot>,
}

/// An open collection. It is not closed as long as there is one of these.
#[derive(Debug, Clone)]
pub struct OpenCollection {
    state: Arc<State>,
    slot: Arc<Slot>,
    index: Arc<lode_index::Collection>,
    writable: bool,
}

/// What collections take and do at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Collections of the home.
    pub collections: u64,
    /// Those that are open.
    pub open: u64,
    /// Folders that are no collection that can be read.
    pub unreadable: u64,
    /// Bytes of vectors and payloads of open collections that are in memory and in their logs alone.
    pub live_bytes: u64,
    /// Collections that wait to be maintained, with the one that is.
    pub waiting: u64,
    /// Segments that were made of what was in memory.
    pub flushed: u64,
    /// Merges of segments.
    pub merged: u64,
    /// Steps of maintenance that failed.
    pub failed: u64,
}

/// What all handles of a node share.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    /// Keeps the lock of the home.
    _store: Store,
    table: OnceLock<Table>,
    /// Held while the table is read.
    reading: Mutex<()>,
    work: Arc<Work>,
}

impl State {
    pub(crate) fn new(home: &std::path::Path, store: Store) -> Arc<Self> {
        Arc::new(Self {
            folder: home.join("collections"),
            _store: store,
            table: OnceLock::new(),
            reading: Mutex::default(),
            work: Arc::default(),
        })
    }

    /// Ends maintenance with the step that is under way.
    pub(crate) fn stop(&self) {
        self.work.stop();
    }

    /// The collections, read from the home when they are first asked for.
    fn table(self: &Arc<Self>) -> Result<&Table, CollectionsError> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.table.get().is_none() {
            let table = Table::read(&self.folder)?;
            work::start(self)?;
            return Ok(self.table.get_or_init(|| table));
        }
        Ok(self.table.get().expect("it was set"))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.work.stop();
    }
}

impl Collections {
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }

    fn state(&self) -> &Arc<State> {
        self.node.collection_state()
    }

    fn table(&self) -> Result<&Table, CollectionsError> {
        self.state().table()
    }

    /// All collections, by publisher and name. None is opened for it.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn list(&self) -> Result<Vec<CollectionAt>, CollectionsError> {
        Ok(self.table()?.list())
    }

    /// The collection that a name or an alias of a collection stands for.
    ///
    /// # Errors
    /// [`CollectionsError::Name`], [`CollectionsError::Absent`].
    pub fn find(&self, name: &str) -> Result<CollectionAt, CollectionsError> {
        let (publisher, short) = self.split(name)?;
        let absent = || CollectionsError::Absent {
            name: name.to_owned(),
        };
        let publisher = publisher.ok_or_else(absent)?;
        self.table()?.find(publisher, &short).ok_or_else(absent)
    }

    /// The home's own publisher, whose collections need no publisher in their names; nobody before the first push.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn own(&self) -> Result<Option<PublisherId>, CollectionsError> {
        Ok(publisher::own(&self.node)?)
    }

    /// A collection's name in full as this home says it: `acme/docs`, else `KEY/docs`.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn full_name(&self, at: &CollectionAt) -> Result<String, CollectionsError> {
        Ok(publisher::shown_name(&self.node, &at.publisher, &at.name)?)
    }

    /// What `caller` may do with a collection: tokens say so by its name, as of a model.
    pub fn grant(&self, caller: &Caller, at: &CollectionAt) -> Grant {
        struct Public(bool);
        impl AccessView for Public {
            fn is_public(&self, _: &PublisherId, _: &str) -> bool {
                self.0
            }
            fn has_version(&self, _: &PublisherId, _: &str, _: &lode_store::VersionId) -> bool {
                false
            }
        }
        let view = Public(at.public);
        let now = publisher::now();
        access::grant(&view, caller, None, &at.publisher, &at.name, now)
    }

    /// What `caller` may do under a name that no collection has; nothing is said of aliases that nobody has.
    ///
    /// # Errors
    /// [`CollectionsError::Name`].
    pub fn grant_new(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<Grant>, CollectionsError> {
        let (publisher, short) = self.split(name)?;
        struct Nothing;
        impl AccessView for Nothing {
            fn is_public(&self, _: &PublisherId, _: &str) -> bool {
                false
            }
            fn has_version(&self, _: &PublisherId, _: &str, _: &lode_store::VersionId) -> bool {
                false
            }
        }
        let now = publisher::now();
        Ok(publisher.map(|own| access::grant(&Nothing, caller, None, &own, &short, now)))
    }

    /// Makes a collection, private unless `public`. An alias that nobody has becomes the home's own publisher.
    ///
    /// # Errors
    /// [`CollectionsError::Exists`], [`CollectionsError::NotYours`], a configuration that none can have.
    pub fn create(
        &self,
        name: &str,
        config: CollectionConfig,
        public: bool,
    ) -> Result<CollectionAt, CollectionsError> {
        config
            .check()
            .map_err(|error| CollectionsError::index(name, error.into()))?;
        let (publisher, short) = self.claim(name)?;
        self.install(publisher, &short, public, &mut |data| {
            lode_index::Collection::create(data, config.clone())
                .map(drop)
                .map_err(|error| CollectionsError::index(name, error))
        })
    }

    /// Makes a collection of what `make` writes to a folder that is not there yet: a collection as it is on disk.
    ///
    /// # Errors
    /// [`CollectionsError::Exists`], and those of `make`; then nothing stays.
    pub(crate) fn install(
        &self,
        publisher: PublisherId,
        name: &str,
        public: bool,
        make: &mut dyn FnMut(&std::path::Path) -> Result<(), CollectionsError>,
    ) -> Result<CollectionAt, CollectionsError> {
        check_model(name)?;
        self.table()?.install(publisher, name, public, make)
    }

    /// Opens a collection, or hands out the one that is open.
    ///
    /// # Errors
    /// [`CollectionsError::Absent`] if it was deleted, [`CollectionsError::Index`] if it cannot be read.
    pub fn open(&self, at: &CollectionAt) -> Result<OpenCollection, CollectionsError> {
        let table = self.table()?;
        let Held { index, is_new } = at.slot.open()?;
        if is_new {
            table.opened(&at.slot);
            // what a node before this one left to do
            self.state().work.add(&at.slot);
        }
        let writable = match at.slot.writable.get() {
            Some(writable) => *writable,
            None => {
                let writable = self.may_sign(&at.publisher, &at.name)?;
                *at.slot.writable.get_or_init(|| writable)
            }
        };
        Ok(OpenCollection {
            state: Arc::clone(self.state()),
            slot: Arc::clone(&at.slot),
            index,
            writable,
        })
    }

    /// Opens the collection of a name.
    ///
    /// # Errors
    /// As [`Collections::find`] and [`Collections::open`].
    pub fn open_named(&self, name: &str) -> Result<OpenCollection, CollectionsError> {
        self.open(&self.find(name)?)
    }

    /// Deletes a collection with its aliases; it is unknown when this returns, durably, and its files
    /// are removed.
    ///
    /// # Errors
    /// [`CollectionsError::Absent`] if it was deleted before.
    pub fn delete(&self, at: &CollectionAt) -> Result<(), CollectionsError> {
        self.table()?.delete(&at.slot)
    }

    /// Says whether everyone may read a collection.
    ///
    /// # Errors
    /// [`CollectionsError::Absent`] if it was deleted, and what the file system says.
    pub fn set_public(&self, at: &CollectionAt, public: bool) -> Result<(), CollectionsError> {
        self.table()?.set_public(&at.slot, public)
    }

    /// The aliases of all collections.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn aliases(&self) -> Result<Vec<AliasAt>, CollectionsError> {
        Ok(self.table()?.aliases())
    }

    /// Makes, removes and renames aliases: all of it or nothing, durable when this returns.
    ///
    /// # Errors
    /// [`CollectionsError::Absent`], [`CollectionsError::Exists`] where a collection has the name.
    pub fn change_aliases(&self, changes: &[AliasChange]) -> Result<(), CollectionsError> {
        self.table()?.change_aliases(changes)
    }

    /// What collections take and do.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn figures(&self) -> Result<Figures, CollectionsError> {
        let table = self.table()?;
        let mut figures = self.state().work.figures();
        figures.collections = table.len() as u64;
        figures.unreadable = table.unreadable();
        for index in table.open_ones().iter().filter_map(|slot| slot.peek()) {
            figures.open += 1;
            figures.live_bytes += index.view().live_bytes();
        }
        Ok(figures)
    }

    /// Whose a name is, and what is left of it: `docs`, `acme/docs`, `KEY/docs`. Nobody's for an alias that nobody
    /// has, and for a bare name before the home has a publisher.
    fn split(&self, name: &str) -> Result<(Option<PublisherId>, String), CollectionsError> {
        let Some((publisher, short)) = name.split_once('/') else {
            check_model(name)?;
            return Ok((self.own()?, name.to_owned()));
        };
        check_model(short)?;
        let publisher = match publisher.parse()? {
            PublisherName::Key(key) => Some(key),
            PublisherName::Alias(alias) => publisher::bound(&self.node, &alias)?,
        };
        Ok((publisher, short.to_owned()))
    }

    /// As [`Self::split`], for a collection that is to be made.
    fn claim(&self, name: &str) -> Result<(PublisherId, String), CollectionsError> {
        let Some((publisher, short)) = name.split_once('/') else {
            check_model(name)?;
            return Ok((publisher::own_or_create(&self.node)?, name.to_owned()));
        };
        check_model(short)?;
        let publisher: PublisherName = publisher.parse()?;
        let push = identity::Operation::Push;
        let signer = publisher::signer(&self.node, &publisher, push, short)?;
        Ok((signer.publisher, short.to_owned()))
    }

    /// Whether this home may sign versions of a collection, and so may change it.
    fn may_sign(&self, publisher: &PublisherId, name: &str) -> Result<bool, CollectionsError> {
        if self.own()? == Some(*publisher) {
            return Ok(true);
        }
        let key = PublisherName::Key(*publisher);
        let push = identity::Operation::Push;
        Ok(publisher::signer(&self.node, &key, push, name).is_ok())
    }
}

impl OpenCollection {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.slot.name
    }

    /// Whose it is.
    pub fn publisher(&self) -> PublisherId {
        self.slot.publisher
    }

    /// The collection as it is now, to read from.
    pub fn view(&self) -> View {
        self.index.view()
    }

    /// Does an operation; when this returns, it is durable and views have it. Maintenance follows by itself.
    ///
    /// # Errors
    /// [`CollectionsError::NotYours`] for a copy of another publisher's, else what the engine says.
    pub fn apply(&self, operation: Operation) -> Result<Applied, CollectionsError> {
        if !self.writable {
            return Err(CollectionsError::NotYours {
                name: self.slot.name.clone(),
            });
        }
        // not that which was opened: a snapshot may have taken its place, and a write must be where it is seen
        let Held { index, is_new } = self.slot.open()?;
        if is_new && let Some(table) = self.state.table.get() {
            table.opened(&self.slot);
        }
        let applied = index.apply(operation);
        self.state.work.add(&self.slot);
        applied.map_err(|error| CollectionsError::index(&self.slot.name, error))
    }

    /// Whether this home may change it.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Why its last maintenance failed, if it did.
    pub fn trouble(&self) -> Option<String> {
        self.slot.trouble()
    }

    /// The engine, for what has no place here: freezing, compaction, verification, snapshots.
    pub fn engine(&self) -> &lode_index::Collection {
        &self.index
    }
}

/// A number that nobody had before, in hex.
fn random() -> Result<String, CollectionsError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| {
        let what = format!("the system gives no random numbers: {error}");
        CollectionsError::Other(crate::command::Failure::failed(what))
    })?;
    Ok(data_encoding::HEXLOWER.encode(&random))
}

/// Longest time that a collection which nobody asks for stays open.
const IDLE: Duration = Duration::from_secs(limits::IDLE_SECONDS);

#[cfg(test)]
mod tests;
