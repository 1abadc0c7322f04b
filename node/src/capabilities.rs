//! What lets this home read a private model, and the peers that it may be shown to.
//!
//! Whoever has a capability reads with it. So it goes to those alone who have it, or the model, already:
//! the peers of the ticket that brought it, and peers that one of these names. Others of the address book
//! or of the local network are asked without it.

use std::collections::HashMap;

use bytes::Bytes;
use iroh::EndpointId;
use lode_store::{PublisherId, ticket::Ticket};

use crate::{Node, command::Failure};

/// Peers that the capability of one model may be shown to; the oldest give way.
pub(crate) const SHOWN_TO_MAX: usize = 1024;

/// The capabilities of one model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capabilities {
    /// `PUBLISHER/MODEL`.
    model: String,
    /// The one that is kept.
    kept: Option<Bytes>,
    /// Whom it may be shown to: keys of nodes, oldest first.
    to: Vec<[u8; 32]>,
    /// Those of further tickets, for the peers that these name.
    further: HashMap<[u8; 32], Vec<Bytes>>,
}

impl Capabilities {
    /// Those that the home has.
    pub(crate) fn of(node: &Node, publisher: &PublisherId, model: &str) -> Result<Self, Failure> {
        let model = format!("{publisher}/{model}");
        let to = node.store().local_get(&shown_key(&model))?;
        let to = to.unwrap_or_default();
        Ok(Self {
            kept: node.store().local_get(&format!("cap/{model}"))?,
            to: to.as_chunks().0.to_vec(),
            further: HashMap::new(),
            model,
        })
    }

    /// Those that the home has and those of tickets for the model; the first of these is kept.
    pub(crate) fn take(
        node: &Node,
        publisher: &PublisherId,
        model: &str,
        tickets: &[Ticket],
    ) -> Result<Self, Failure> {
        let mut held = Self::of(node, publisher, model)?;
        let mut first = true;
        for ticket in tickets {
            let Some(capability) = &ticket.capability else {
                continue;
            };
            let capability = Bytes::from(capability.encode());
            if std::mem::take(&mut first) && held.kept.as_ref() != Some(&capability) {
                // Who was shown another one need not have this one.
                held.to.clear();
                held.save(node)?;
                node.store()
                    .local_set(&format!("cap/{}", held.model), &capability)?;
                held.kept = Some(capability.clone());
            }
            let peers = ticket.addrs.iter().map(|peer| peer.id);
            if held.kept.as_ref() == Some(&capability) {
                held.trust(node, peers)?;
            } else {
                for peer in peers {
                    let shown = held.further.entry(peer).or_default();
                    shown.push(capability.clone());
                }
            }
        }
        Ok(held)
    }

    /// What this peer may be shown.
    pub(crate) fn for_peer(&self, peer: &EndpointId) -> Vec<Bytes> {
        let id = peer.as_bytes();
        let kept = self.kept.iter().filter(|_| self.to.contains(id));
        let further = self.further.get(id).into_iter().flatten();
        kept.chain(further).cloned().collect()
    }

    /// Whether the one that is kept is among these.
    pub(crate) fn is_kept(&self, shown: &[Bytes]) -> bool {
        self.kept.as_ref().is_some_and(|kept| shown.contains(kept))
    }

    /// Notes that these peers may be shown the one that is kept.
    pub(crate) fn trust(
        &mut self,
        node: &Node,
        peers: impl Iterator<Item = [u8; 32]>,
    ) -> Result<(), Failure> {
        let before = self.to.len();
        for peer in peers {
            if !self.to.contains(&peer) {
                self.to.push(peer);
            }
        }
        if self.to.len() == before {
            return Ok(());
        }
        let surplus = self.to.len().saturating_sub(SHOWN_TO_MAX);
        self.to.drain(..surplus);
        self.save(node)
    }

    fn save(&self, node: &Node) -> Result<(), Failure> {
        Ok(node
            .store()
            .local_set(&shown_key(&self.model), self.to.as_flattened())?)
    }
}

fn shown_key(model: &str) -> String {
    format!("shown/{model}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use iroh::SecretKey;
    use lode_store::{
        RecordId,
        signature::{Context, Signed, SigningKey},
        ticket::PeerAddr,
    };

    use super::*;
    use crate::NodeOptions;

    fn ticket(publisher: PublisherId, peers: &[EndpointId], capability: Option<&[u8]>) -> Ticket {
        let key = SigningKey::generate();
        let signed = |body: &[u8]| Signed::new(Context::Capability, body.to_vec(), &[&key]);
        Ticket {
            addrs: peers
                .iter()
                .map(|peer| PeerAddr {
                    id: *peer.as_bytes(),
                    ip: Vec::new(),
                    relay: Vec::new(),
                })
                .collect(),
            publisher,
            identity: RecordId::of(b"head"),
            model: "m".to_owned(),
            version: None,
            name: None,
            capability: capability.map(signed),
            alias: None,
        }
    }

    #[test]
    fn a_capability_is_shown_to_those_it_came_from_and_to_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let node = Node::open(home.path(), NodeOptions::default()).unwrap();
        let publisher = PublisherId::of(b"someone");
        let [a, b, c, d] = std::array::from_fn(|_| SecretKey::generate().public());
        let tickets = [
            ticket(publisher, &[a], Some(b"one")),
            ticket(publisher, &[b], Some(b"two")),
            ticket(publisher, &[c], None),
        ];
        let taken = Capabilities::take(&node, &publisher, "m", &tickets).unwrap();
        assert!(taken.is_kept(&taken.for_peer(&a)));
        assert_eq!(taken.for_peer(&b).len(), 1);
        assert!(!taken.is_kept(&taken.for_peer(&b)), "it sees what it gave");
        assert!(taken.for_peer(&c).is_empty() && taken.for_peer(&d).is_empty());

        let mut kept = Capabilities::of(&node, &publisher, "m").unwrap();
        assert_eq!(kept.for_peer(&a), taken.for_peer(&a));
        assert!(kept.for_peer(&b).is_empty());
        kept.trust(&node, std::iter::once(*d.as_bytes())).unwrap();
        let kept = Capabilities::of(&node, &publisher, "m").unwrap();
        assert_eq!(kept.for_peer(&d), taken.for_peer(&a));
        let other = Capabilities::of(&node, &publisher, "other").unwrap();
        assert!(other.for_peer(&a).is_empty());

        // Another capability begins with its own peers.
        let next = [ticket(publisher, &[c], Some(b"three"))];
        let next = Capabilities::take(&node, &publisher, "m", &next).unwrap();
        assert!(next.is_kept(&next.for_peer(&c)));
        assert!(next.for_peer(&a).is_empty() && next.for_peer(&d).is_empty());
    }

    #[test]
    fn the_peers_that_see_a_capability_are_bounded() {
        let home = tempfile::tempdir().unwrap();
        let node = Node::open(home.path(), NodeOptions::default()).unwrap();
        let publisher = PublisherId::of(b"someone");
        let mut held = Capabilities::of(&node, &publisher, "m").unwrap();
        let peers = (0..=SHOWN_TO_MAX as u64).map(|number| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        });
        held.trust(&node, peers).unwrap();
        let kept = Capabilities::of(&node, &publisher, "m").unwrap();
        assert_eq!(kept.to.len(), SHOWN_TO_MAX);
        assert!(!kept.to.contains(&[0; 32]), "the first gave way");
    }
}
