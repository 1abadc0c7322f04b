//! The address book: peers that tickets named, and peers that sent something useful, those seen last first.
//!
//! Kept in the local keys `peer/NODE`. What others say of peers never enters it: a peer is noted at the
//! address where it answered and proved its key, after bytes of it were verified. Those of tickets stay;
//! of the others a bounded number does.

use std::cmp::Reverse;

use lode_store::sync::{limits::ADDRESSES_PER_PEER_MAX, message::PeerAddr};
use serde::{Deserialize, Serialize};

use crate::{Node, command::Failure};

/// Peers that no ticket named and that are kept: those seen last.
pub(crate) const LEARNED_MAX: usize = 256;

/// Peers that one pull adds: those that sent most.
pub(crate) const LEARNED_PER_PULL_MAX: usize = 16;

/// Seconds after which it is written anew that a peer was seen.
const SEEN_SECONDS: u64 = 3600;

const PREFIX: &str = "peer/";

/// One peer as the book has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(with = "serde_bytes")]
    id: [u8; 32],
    ip: Vec<String>,
    relay: Vec<String>,
    /// Whether a ticket named it; entries of before there were others say nothing.
    #[serde(default = "yes")]
    given: bool,
    /// When it was last connected to, in seconds since 1970; 0 is never.
    #[serde(default)]
    seen: u64,
}

fn yes() -> bool {
    true
}

impl Entry {
    fn of(peer: &PeerAddr, given: bool, seen: u64) -> Self {
        Self {
            id: peer.id,
            ip: peer.ip.clone(),
            relay: peer.relay.clone(),
            given,
            seen,
        }
    }

    fn into_peer(self) -> PeerAddr {
        PeerAddr {
            id: self.id,
            ip: self.ip,
            relay: self.relay,
        }
    }

    /// The addresses of `peer` before those that are known.
    fn met_at(&mut self, peer: &PeerAddr) {
        for (known, new) in [(&mut self.ip, &peer.ip), (&mut self.relay, &peer.relay)] {
            let old = std::mem::replace(known, new.clone());
            let old = old.into_iter().filter(|address| !new.contains(address));
            known.extend(old);
            known.truncate(ADDRESSES_PER_PEER_MAX);
        }
    }
}

/// The peers of the book, those seen last first, and of those never seen the given ones first.
pub(crate) fn list(node: &Node) -> Result<Vec<PeerAddr>, Failure> {
    let mut entries = entries(node)?;
    entries.sort_by_key(|entry| Reverse((entry.seen, entry.given)));
    Ok(entries.into_iter().map(Entry::into_peer).collect())
}

/// Keeps a peer that somebody gave us, where they say that it is.
pub(crate) fn give(node: &Node, peer: &PeerAddr) -> Result<(), Failure> {
    let known = entry(node, &peer.id)?;
    let seen = known.as_ref().map_or(0, |known| known.seen);
    set(node, known.as_ref(), &Entry::of(peer, true, seen))
}

/// Notes that these peers of the book are there, each where it was connected to just now.
pub(crate) fn seen(node: &Node, peers: &[PeerAddr], now: u64) -> Result<(), Failure> {
    for peer in peers {
        if let Some(known) = entry(node, &peer.id)? {
            note(node, peer, Some(known), now)?;
        }
    }
    Ok(())
}

/// Keeps peers that sent verified bytes, the most useful first, each where it was connected to just now.
pub(crate) fn learn(node: &Node, peers: &[PeerAddr], now: u64) -> Result<(), Failure> {
    for peer in peers.iter().take(LEARNED_PER_PULL_MAX) {
        let known = entry(node, &peer.id)?;
        note(node, peer, known, now)?;
    }
    let mut learned = entries(node)?;
    learned.retain(|entry| !entry.given);
    learned.sort_by_key(|entry| Reverse(entry.seen));
    for surplus in learned.iter().skip(LEARNED_MAX) {
        node.store().local_delete(&key(&surplus.id))?;
    }
    Ok(())
}

fn note(node: &Node, peer: &PeerAddr, known: Option<Entry>, now: u64) -> Result<(), Failure> {
    if !peer.is_reachable() {
        return Ok(());
    }
    let new = || Entry::of(peer, false, now);
    let mut entry = known.clone().unwrap_or_else(new);
    entry.met_at(peer);
    if now.abs_diff(entry.seen) >= SEEN_SECONDS {
        entry.seen = now;
    }
    set(node, known.as_ref(), &entry)
}

fn key(id: &[u8; 32]) -> String {
    format!("{PREFIX}{}", data_encoding::HEXLOWER.encode(id))
}

fn entry(node: &Node, id: &[u8; 32]) -> Result<Option<Entry>, Failure> {
    let bytes = node.store().local_get(&key(id))?;
    Ok(bytes.and_then(|bytes| serde_ipld_dagcbor::from_slice(&bytes).ok()))
}

/// All that can be read; what another program wrote there is left alone.
fn entries(node: &Node) -> Result<Vec<Entry>, Failure> {
    let book = node.store().local_prefix(PREFIX)?;
    let entries = book.iter();
    Ok(entries
        .filter_map(|(_, bytes)| serde_ipld_dagcbor::from_slice(bytes).ok())
        .collect())
}

fn set(node: &Node, known: Option<&Entry>, entry: &Entry) -> Result<(), Failure> {
    if known == Some(entry) {
        return Ok(());
    }
    let value =
        serde_ipld_dagcbor::to_vec(entry).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(node.store().local_set(&key(&entry.id), &value)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::NodeOptions;

    const DAY: u64 = 24 * 3600;

    fn peer(number: usize, ip: &str) -> PeerAddr {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        PeerAddr {
            id,
            ip: vec![ip.to_owned()],
            relay: Vec::new(),
        }
    }

    #[test]
    fn those_seen_last_come_first_where_they_were_met() {
        let home = tempfile::tempdir().unwrap();
        let node = Node::open(home.path(), NodeOptions::default()).unwrap();
        give(&node, &peer(1, "10.0.0.1:1")).unwrap();
        give(&node, &peer(2, "10.0.0.2:1")).unwrap();
        learn(&node, &[peer(3, "10.0.0.3:1")], 10 * DAY).unwrap();
        let there = [peer(2, "10.9.9.9:9"), peer(4, "10.0.0.4:1")];
        seen(&node, &there, 11 * DAY).unwrap();
        let book = list(&node).unwrap();
        let ids: Vec<_> = book.iter().map(|peer| peer.id[0]).collect();
        assert_eq!(ids, [2, 3, 1], "and one that was only seen is not learnt");
        assert_eq!(book[0].ip, ["10.9.9.9:9", "10.0.0.2:1"]);
        for port in 0..2 * ADDRESSES_PER_PEER_MAX {
            seen(&node, &[peer(2, &format!("10.0.0.2:{port}"))], 11 * DAY).unwrap();
        }
        assert_eq!(list(&node).unwrap()[0].ip.len(), ADDRESSES_PER_PEER_MAX);
        let nowhere = PeerAddr {
            ip: Vec::new(),
            ..peer(5, "")
        };
        learn(&node, &[nowhere], 12 * DAY).unwrap();
        assert_eq!(list(&node).unwrap().len(), 3, "nobody is nowhere");
    }

    #[test]
    fn an_entry_of_before_there_were_learnt_ones_counts_as_given() {
        let home = tempfile::tempdir().unwrap();
        let node = Node::open(home.path(), NodeOptions::default()).unwrap();
        let old = peer(1, "10.0.0.1:1");
        let value = serde_ipld_dagcbor::to_vec(&old).unwrap();
        node.store().local_set(&key(&old.id), &value).unwrap();
        assert_eq!(list(&node).unwrap(), std::slice::from_ref(&old));
        assert!(entry(&node, &old.id).unwrap().unwrap().given);
    }

    #[test]
    fn peers_that_no_ticket_named_are_kept_within_bounds() {
        let home = tempfile::tempdir().unwrap();
        let node = Node::open(home.path(), NodeOptions::default()).unwrap();
        let given = peer(1_000_000, "10.0.0.1:1");
        give(&node, &given).unwrap();
        let peers: Vec<_> = (0..=LEARNED_PER_PULL_MAX)
            .map(|number| peer(number, "10.0.0.2:1"))
            .collect();
        learn(&node, &peers, DAY).unwrap();
        assert_eq!(list(&node).unwrap().len(), LEARNED_PER_PULL_MAX + 1);
        for number in LEARNED_PER_PULL_MAX..=LEARNED_MAX {
            let now = DAY + number as u64;
            learn(&node, &[peer(number, "10.0.0.2:1")], now).unwrap();
        }
        let book = list(&node).unwrap();
        assert_eq!(
            book.len(),
            LEARNED_MAX + 1,
            "one went, and not the given one"
        );
        assert!(book.contains(&given));
        assert!(book.contains(&peer(LEARNED_MAX, "10.0.0.2:1")));
    }
}
