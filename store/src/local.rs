//! Local keys and values: what this home wants for itself. Nothing of it is sent or signed.
//!
//! | key | value |
//! |---|---|
//! | `keep/VERSION` | DAG-CBOR `{"own": bool, "time": u64}`: held here, made here or pulled, since when |
//! | `pin/VERSION` | the same: stays whatever the home's size |
//! | `used/VERSION` | the same: when it was last used, to the hour |
//! | `gone/PUBLISHER/MODEL` | empty: the model was removed from this home, and is not listed |
//! | `part/DOWNLOAD` | pins of a part of a file that was written to a user's folder, 40 bytes |
//! | `own/publisher` | the home's own publisher, 32 bytes |
//! | `alias/ALIAS` | publisher, 32 bytes |
//! | `peer/NODE` | DAG-CBOR: its addresses, whether a ticket named it, when it was last seen |
//! | `cap/PUBLISHER/MODEL` | a signed capability |
//! | `shown/PUBLISHER/MODEL` | node keys of the peers that it may be shown to, 32 bytes each |
//! | `token/ID` | DAG-CBOR: the hash of a token's text, and what it is for |
//! | `origin/..`, `origin-at/..`, `origin-ref/..`, `origin-file/..` | models of other hubs: `lode_node`'s `origin::record` |
//! | `tokens/rule` | empty: there has been a token, so tokens rule over HTTP |

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{
    Store, VersionId,
    store::{ReadError, WriteError},
};

/// Why and since when a version is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// Whether it was made here: then it is never dropped for room.
    pub own: bool,
    /// Seconds since 1970.
    pub time: u64,
}

impl Keep {
    /// Made or pulled now.
    pub fn now(own: bool) -> Self {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self { own, time }
    }

    /// The value of a `keep/` key.
    pub fn encode(&self) -> Vec<u8> {
        serde_ipld_dagcbor::to_vec(self).expect("a flag and a number can be encoded")
    }

    /// Reads the value of a `keep/` key.
    pub fn decode(value: &[u8]) -> Option<Self> {
        serde_ipld_dagcbor::from_slice(value).ok()
    }
}

/// The value of a `keep/` or `pin/` key.
pub fn keep_value(own: bool, time: u64) -> Vec<u8> {
    Keep { own, time }.encode()
}

/// The key that holds a version.
pub fn keep_key(version: &VersionId) -> String {
    format!("keep/{version}")
}

/// The key that pins a version.
pub fn pin_key(version: &VersionId) -> String {
    format!("pin/{version}")
}

/// The key that says when a version was last used.
pub fn used_key(version: &VersionId) -> String {
    format!("used/{version}")
}

/// Seconds between two notes that a version is in use.
const USED_STEP_S: u64 = 3600;

impl Store {
    /// The versions that are kept, with what is known of each, sorted by id.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn kept(&self) -> Result<Vec<(VersionId, Keep)>, ReadError> {
        let keys = self.local_prefix("keep/")?;
        let versions = keys.into_iter().filter_map(|(key, value)| {
            Some((
                key.strip_prefix("keep/")?.parse().ok()?,
                Keep::decode(&value)?,
            ))
        });
        Ok(versions.collect())
    }

    /// Notes that a version is in use, so that others leave before it when room is needed. Written at
    /// most once an hour.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn touch(&self, version: &VersionId) -> Result<(), WriteError> {
        let (key, now) = (used_key(version), Keep::now(false));
        let known = self
            .index()
            .local(&key)?
            .and_then(|value| Keep::decode(&value));
        if known.is_some_and(|known| known.time + USED_STEP_S > now.time) {
            return Ok(());
        }
        self.local_set(&key, &now.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_and_strange_ones_are_no_values() {
        let keep = Keep { own: true, time: 7 };
        assert_eq!(Keep::decode(&keep.encode()), Some(keep));
        assert_eq!(keep_value(true, 7), keep.encode());
        assert_eq!(Keep::decode(b"yes"), None);
        let version = VersionId::of(b"v");
        assert_eq!(keep_key(&version), format!("keep/{version}"));
    }
}
