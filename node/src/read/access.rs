//! What the access function asks of a home.

use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use lode_store::{PublisherId, VersionId, access::AccessView};

use super::{Reads, limits::VERSIONS_WALKED_MAX};
use crate::{origin::record, variants::kept};

impl AccessView for Reads {
    fn is_public(&self, publisher: &PublisherId, model: &str) -> bool {
        // In doubt not: what cannot be read is not public.
        self.store()
            .ref_set(publisher, model)
            .is_ok_and(|set| set.is_public())
            || record::is_public(self.store(), publisher, model)
    }

    fn has_version(&self, publisher: &PublisherId, model: &str, version: &VersionId) -> bool {
        let Ok(set) = self.store().ref_set(publisher, model) else {
            return false;
        };
        let named = set.versions();
        if named.contains(version) || record::has_version(self.store(), publisher, model, version) {
            return true;
        }
        let history = self.history(named);
        let base = || kept::made_here_from(self.store(), version);
        history.contains(version) || base().is_some_and(|base| history.contains(&base))
    }
}

impl Reads {
    /// A version and all that came before it, as far as it is held: each before its parents, else the
    /// youngest first.
    pub fn log(&self, from: VersionId) -> Vec<VersionId> {
        let mut todo = BinaryHeap::new();
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        let mut add = |todo: &mut BinaryHeap<(u64, VersionId)>, id: VersionId| {
            if seen.len() < VERSIONS_WALKED_MAX
                && seen.insert(id)
                && let Ok(version) = self.version(id)
            {
                todo.push((version.doc.time, id));
            }
        };
        add(&mut todo, from);
        while let Some((_, id)) = todo.pop() {
            found.push(id);
            if let Ok(version) = self.version(id) {
                for parent in version.doc.parents {
                    add(&mut todo, parent);
                }
            }
        }
        found
    }

    /// These versions and all that came before them, as far as it is held.
    pub(super) fn history(&self, from: impl IntoIterator<Item = VersionId>) -> BTreeSet<VersionId> {
        let mut todo = VecDeque::from_iter(from);
        let mut found = BTreeSet::new();
        while let Some(id) = todo.pop_front() {
            if found.len() == VERSIONS_WALKED_MAX || !found.insert(id) {
                continue;
            }
            // A parent that is not held is still a name.
            if let Ok(version) = self.version(id) {
                todo.extend(version.doc.parents);
            }
        }
        found
    }
}
