//! The collections of the home by name, as their folders say. One change at a time, durable before it is seen.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use lode_store::{PublisherId, name::fold_model};
use serde::{Deserialize, Serialize};

use super::{
    CollectionAt, CollectionsError,
    aliases::{self, AliasAt, AliasChange, Aliases},
    files,
    limits::{ABOUT_BYTES_MAX, COLLECTIONS_MAX, OPEN_MAX},
    slot::Slot,
    snapshots,
};
use crate::publisher::now;

/// The file that says what a folder is.
const ABOUT: &str = "about";

/// The folder of a collection's engine until another takes its place.
const DATA: &str = "data";

/// Whose and what a collection is; the name is lower-cased.
pub(super) type Key = (PublisherId, String);

/// The collections of a home.
#[derive(Debug)]
pub(super) struct Table {
    folder: PathBuf,
    /// Folders that are no collection that can be read.
    unreadable: u64,
    inner: Mutex<Inner>,
    /// Held while folders and files are changed.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: BTreeMap<Key, Arc<Slot>>,
    /// Those that were opened and may be open still, by folder.
    open: BTreeMap<PathBuf, Arc<Slot>>,
    aliases: Arc<Aliases>,
}

/// What is kept about a collection beside its data.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    publisher: String,
    name: String,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    created: u64,
    /// The folder of the engine, if that is not the first one any more: then the format is 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

impl About {
    fn of(slot: &Slot, public: bool, data: &str) -> Self {
        let data = (data != DATA).then(|| data.to_owned());
        Self {
            format: if data.is_some() { 2 } else { 1 },
            data,
            publisher: slot.publisher.to_hex(),
            name: slot.name.clone(),
            public,
            created: slot.created,
        }
    }

    fn write(&self, dir: &Path) -> Result<(), CollectionsError> {
        let bytes = serde_json::to_vec(self).expect("texts and numbers");
        files::replace(dir, ABOUT, &bytes).map_err(CollectionsError::io(dir.join(ABOUT)))
    }

    fn read(dir: &Path) -> Result<Arc<Slot>, CollectionsError> {
        let path = dir.join(ABOUT);
        let damaged = |what: String| CollectionsError::Damaged {
            path: path.clone(),
            what,
        };
        let bytes = files::read(&path, ABOUT_BYTES_MAX).map_err(CollectionsError::io(&path))?;
        let about: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if !(1..=2).contains(&about.format) {
            let what = format!(
                "format {}; this version of Lode reads 1 and 2",
                about.format
            );
            return Err(damaged(what));
        }
        let data = about.data.unwrap_or_else(|| DATA.to_owned());
        if !is_data(&data) {
            return Err(damaged("no folder of a collection".to_owned()));
        }
        lode_store::name::check_model(&about.name)?;
        let publisher = about
            .publisher
            .parse()
            .map_err(|_| damaged("no publisher".to_owned()))?;
        let dir = dir.to_owned();
        let slot = Slot::new(
            publisher,
            about.name,
            about.public,
            about.created,
            dir,
            data,
        );
        Ok(slot)
    }
}

impl Table {
    /// Reads what is there, and removes what was on its way in or out.
    pub(super) fn read(folder: &Path) -> Result<Self, CollectionsError> {
        let mut inner = Inner::default();
        let mut unreadable = 0;
        for name in files::names(folder).map_err(CollectionsError::io(folder))? {
            let dir = folder.join(&name);
            if name == aliases::FILE || name.ends_with(".part") {
                continue;
            }
            if name.starts_with(".new-") || name.starts_with(".gone-") {
                fs::remove_dir_all(&dir).map_err(CollectionsError::io(&dir))?;
                continue;
            }
            match About::read(&dir) {
                Ok(slot) => {
                    let key = (slot.publisher, fold_model(&slot.name));
                    if let Some(other) = inner.slots.get(&key) {
                        unreadable += 1;
                        tracing::warn!(dir = %dir.display(), other = %other.dir.display(), "two collections of one name");
                        continue;
                    }
                    if let Err(error) = tidy(&slot) {
                        tracing::warn!(%error, "what a node left of a collection stays");
                    }
                    inner.slots.insert(key, slot);
                }
                Err(error) => {
                    unreadable += 1;
                    tracing::warn!(%error, "a folder is no collection");
                }
            }
        }
        let mut aliases = Aliases::read(folder)?;
        aliases.retain(&|key| inner.slots.contains_key(key));
        inner.aliases = Arc::new(aliases);
        Ok(Self {
            folder: folder.to_owned(),
            unreadable,
            inner: Mutex::new(inner),
            changing: Mutex::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.inner().slots.len()
    }

    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    pub(super) fn list(&self) -> Vec<CollectionAt> {
        self.inner().slots.values().map(at).collect()
    }

    /// The collection of a name, or of an alias.
    pub(super) fn find(&self, publisher: PublisherId, name: &str) -> Option<CollectionAt> {
        let key = (publisher, fold_model(name));
        let inner = self.inner();
        let slot = inner.slots.get(&key).or_else(|| {
            let target = inner.aliases.target(&key)?;
            inner.slots.get(&(publisher, target.to_owned()))
        });
        slot.map(at)
    }

    /// Makes a collection under a name that none has.
    pub(super) fn install(
        &self,
        publisher: PublisherId,
        name: &str,
        public: bool,
        make: &mut dyn FnMut(&Path) -> Result<(), CollectionsError>,
    ) -> Result<CollectionAt, CollectionsError> {
        let _changing = self.changing();
        let key = (publisher, fold_model(name));
        {
            let inner = self.inner();
            if inner.slots.contains_key(&key) || inner.aliases.target(&key).is_some() {
                return Err(CollectionsError::Exists {
                    name: name.to_owned(),
                });
            }
            if inner.slots.len() >= COLLECTIONS_MAX {
                return Err(CollectionsError::TooMany);
            }
        }
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(CollectionsError::io(folder))?;
        let id = unused(&key.1)?;
        let (new, dir) = (folder.join(format!(".new-{id}")), folder.join(&id));
        let data = DATA.to_owned();
        let slot = Slot::new(publisher, name.to_owned(), public, now(), dir.clone(), data);
        let made = (|| {
            fs::create_dir(&new).map_err(CollectionsError::io(&new))?;
            make(&new.join(DATA))?;
            About::of(&slot, public, DATA).write(&new)?;
            fs::rename(&new, &dir).map_err(CollectionsError::io(&dir))?;
            files::sync(folder).map_err(CollectionsError::io(folder))
        })();
        if let Err(error) = made {
            // what cannot be removed now is when the home is opened next
            let _ = fs::remove_dir_all(&new);
            return Err(error);
        }
        let found = at(&slot);
        self.inner().slots.insert(key, slot);
        Ok(found)
    }

    pub(super) fn delete(&self, slot: &Arc<Slot>) -> Result<(), CollectionsError> {
        let changing = self.changing();
        if !slot.delete() {
            return Err(CollectionsError::Absent {
                name: slot.name.clone(),
            });
        }
        let key = (slot.publisher, fold_model(&slot.name));
        let aliases = {
            let mut inner = self.inner();
            inner.slots.remove(&key);
            inner.open.remove(&slot.dir);
            let mut aliases = (*inner.aliases).clone();
            let fewer = aliases.retain(&|target| *target != key);
            inner.aliases = Arc::new(aliases);
            fewer.then(|| Arc::clone(&inner.aliases))
        };
        let id = slot.dir.file_name().unwrap_or_default().to_string_lossy();
        let gone = self.folder.join(format!(".gone-{id}"));
        fs::rename(&slot.dir, &gone).map_err(CollectionsError::io(&slot.dir))?;
        files::sync(&self.folder).map_err(CollectionsError::io(&self.folder))?;
        if let Some(aliases) = aliases {
            aliases.write(&self.folder)?;
        }
        drop(changing);
        // who works on it still may make a file behind the back of this: the next opening removes it
        match fs::remove_dir_all(&gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, dir = %gone.display(), "a deleted collection is not removed yet");
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn set_public(
        &self,
        slot: &Arc<Slot>,
        public: bool,
    ) -> Result<(), CollectionsError> {
        let _changing = self.changing();
        self.check_known(slot)?;
        About::of(slot, public, &slot.data()).write(&slot.dir)?;
        slot.public.store(public, Ordering::Relaxed);
        Ok(())
    }

    /// Has a collection hold what a folder on the same file system holds, which is moved.
    pub(super) fn replace_data(
        &self,
        slot: &Arc<Slot>,
        data: &Path,
    ) -> Result<(), CollectionsError> {
        let _changing = self.changing();
        self.check_known(slot)?;
        let name = format!("{DATA}-{}", super::random()?);
        let place = slot.dir.join(&name);
        fs::rename(data, &place).map_err(CollectionsError::io(&place))?;
        files::sync(&slot.dir).map_err(CollectionsError::io(&slot.dir))?;
        let public = slot.public.load(Ordering::Relaxed);
        let about = About::of(slot, public, &name);
        let replaced = slot.replace(&name, || about.write(&slot.dir));
        let gone = match &replaced {
            Ok(before) => slot.dir.join(before),
            Err(_) => place,
        };
        // who works on it still may make a file behind the back of this: the next opening removes it
        if let Err(error) = fs::remove_dir_all(&gone) {
            tracing::warn!(%error, dir = %gone.display(), "what a collection held is not removed yet");
        }
        replaced.map(drop)
    }

    fn check_known(&self, slot: &Arc<Slot>) -> Result<(), CollectionsError> {
        let key = (slot.publisher, fold_model(&slot.name));
        let known = self.inner().slots.get(&key).cloned();
        match known.is_some_and(|known| Arc::ptr_eq(&known, slot)) {
            true => Ok(()),
            false => Err(CollectionsError::Absent {
                name: slot.name.clone(),
            }),
        }
    }

    pub(super) fn aliases(&self) -> Vec<AliasAt> {
        let inner = self.inner();
        let named = |key: &Key| inner.slots.get(key).map(|slot| slot.name.clone());
        inner.aliases.list(&named)
    }

    pub(super) fn change_aliases(&self, changes: &[AliasChange]) -> Result<(), CollectionsError> {
        let _changing = self.changing();
        let mut aliases = (*self.inner().aliases).clone();
        for change in changes {
            let exists = |key: &Key| self.inner().slots.contains_key(key);
            aliases.change(change, &exists)?;
        }
        fs::create_dir_all(&self.folder).map_err(CollectionsError::io(&self.folder))?;
        aliases.write(&self.folder)?;
        self.inner().aliases = Arc::new(aliases);
        Ok(())
    }

    /// Notes that a collection is open; closes some that nobody uses if there are too many.
    pub(super) fn opened(&self, slot: &Arc<Slot>) {
        let open = {
            let mut inner = self.inner();
            inner.open.insert(slot.dir.clone(), Arc::clone(slot));
            inner.open.len()
        };
        if open > OPEN_MAX {
            let mut slots = self.open_ones();
            // They are used meanwhile, so each is asked once: an order that changes is none.
            slots.sort_by_cached_key(|slot| slot.used());
            // some at once, so that this is not done for each
            let surplus = open - OPEN_MAX + OPEN_MAX / 8;
            for slot in slots.iter().take(surplus) {
                self.close(slot);
            }
        }
    }

    /// Closes a collection if nobody uses it.
    pub(super) fn close(&self, slot: &Arc<Slot>) {
        if !slot.waits.load(Ordering::Relaxed) && slot.close() {
            let mut inner = self.inner();
            // it may be open again
            if slot.used().is_none() {
                inner.open.remove(&slot.dir);
            }
        }
    }

    /// The collections that are open, or were a moment ago.
    pub(super) fn open_ones(&self) -> Vec<Arc<Slot>> {
        self.inner().open.values().cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at(slot: &Arc<Slot>) -> CollectionAt {
    CollectionAt {
        publisher: slot.publisher,
        name: slot.name.clone(),
        public: slot.public.load(Ordering::Relaxed),
        created: slot.created,
        slot: Arc::clone(slot),
    }
}

/// Whether a name is that of an engine's folder: `data`, `data-` and hex digits.
fn is_data(name: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_hexdigit();
    name == DATA
        || name
            .strip_prefix("data-")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(hex))
}

/// Removes what a node left on its way in or out of a collection's folder when it ended.
fn tidy(slot: &Slot) -> Result<(), CollectionsError> {
    let dir = &slot.dir;
    let current = slot.data();
    for name in files::names(dir).map_err(CollectionsError::io(dir))? {
        if is_data(&name) && name != current {
            let path = dir.join(name);
            fs::remove_dir_all(&path).map_err(CollectionsError::io(&path))?;
        } else if name == snapshots::FOLDER {
            snapshots::tidy(dir)?;
        }
    }
    Ok(())
}

/// The name of a folder that there never was.
fn unused(folded: &str) -> Result<String, CollectionsError> {
    Ok(format!("{folded}.{}", super::random()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_collection_more_than_there_may_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let table = Table::read(folder.path()).unwrap();
        let publisher = PublisherId::from_bytes([7; 32]);
        {
            let mut inner = table.inner();
            // all but one are there in name alone
            for number in 1..COLLECTIONS_MAX {
                let name = format!("c{number}");
                let dir = folder.path().join(&name);
                let slot = Slot::new(publisher, name.clone(), false, 0, dir, DATA.to_owned());
                inner.slots.insert((publisher, name), slot);
            }
        }
        let make = &mut |place: &Path| fs::create_dir(place).map_err(CollectionsError::io(place));
        table.install(publisher, "last", false, make).unwrap();
        assert_eq!(table.len(), COLLECTIONS_MAX);
        let refused = table.install(publisher, "more", false, make);
        assert!(matches!(refused, Err(CollectionsError::TooMany)));
        let there = table.install(publisher, "last", false, make);
        assert!(matches!(there, Err(CollectionsError::Exists { .. })));
    }
}
