//! The peers of a pull, and the signed records that they know.

use std::sync::Arc;

use lode_store::{
    PublisherId,
    refs::RefRecord,
    signature::{Signed, VersionSignatures},
    sync::{receiver::Peer, session::Session},
    ticket::Ticket,
};

use super::{
    limits::{NEIGHBOURS_TIME, PEERS_ASKED_MAX},
    no_peer,
};
use crate::{
    EventSink, Node, book, capabilities::Capabilities, command::Failure, network::from_ticket,
    publisher::now,
};

/// Peers with an open session.
pub(crate) struct Peers {
    pub(crate) sessions: Vec<Arc<Session>>,
    pub(crate) providers: Vec<Peer>,
    /// What each may be shown.
    pub(crate) capabilities: Capabilities,
}

impl Peers {
    /// Peers that were met already, and were shown all that they need.
    pub(crate) fn of(met: impl IntoIterator<Item = (Arc<Session>, Peer)>) -> Self {
        let (sessions, providers) = met.into_iter().unzip();
        Self {
            sessions,
            providers,
            capabilities: Capabilities::default(),
        }
    }

    /// Opens sessions to the peers of the tickets, else to those of the address book, and shows each what it
    /// may see of what lets us read.
    pub(crate) async fn meet(
        node: &Node,
        publisher: &PublisherId,
        model: &str,
        tickets: &[Ticket],
        events: &EventSink,
    ) -> Result<Self, Failure> {
        let capabilities = Capabilities::take(node, publisher, model, tickets)?;
        let mut addresses = Vec::new();
        for peer in tickets.iter().flat_map(|ticket| &ticket.addrs) {
            let peer = from_ticket(peer);
            book::give(node, &peer)?;
            addresses.extend(peer.to_endpoint_addr());
        }
        if tickets.is_empty() {
            let book = book::list(node)?;
            let known = book.iter().filter_map(|peer| peer.to_endpoint_addr());
            addresses.extend(known.take(PEERS_ASKED_MAX));
        }
        if node.options().network.mdns {
            let network = node.network().await?;
            if let Some(neighbours) = network.net().neighbours() {
                addresses.extend(neighbours.known(NEIGHBOURS_TIME).await);
            }
        }
        let mut found = Self {
            sessions: Vec::new(),
            providers: Vec::new(),
            capabilities,
        };
        if addresses.is_empty() {
            return Ok(found);
        }
        let network = node.network().await?;
        let own = network.id();
        let mut opening = tokio::task::JoinSet::new();
        for address in addresses.into_iter().filter(|address| address.id != own) {
            let (node, shown) = (node.clone(), found.capabilities.for_peer(&address.id));
            opening.spawn(async move {
                let session = match node.network().await {
                    Ok(network) => network.session(address.clone(), shown).await,
                    Err(failure) => Err(failure),
                };
                (address, session)
            });
        }
        while let Some(opened) = opening.join_next().await {
            let (address, session) = opened.map_err(|error| Failure::failed(error.to_string()))?;
            match session {
                Ok(session) => {
                    found.sessions.push(session);
                    found.providers.push(Peer::new(network.net(), address));
                }
                Err(failure) if tickets.is_empty() => {
                    tracing::debug!(%failure, "a known peer is away")
                }
                Err(failure) => events.warn(failure.message),
            }
        }
        let there = found.sessions.iter().map(|session| session.addr());
        book::seen(node, &there.collect::<Vec<_>>(), now())?;
        Ok(found)
    }

    /// Takes in the records of a model from every peer; whether any peer answered with some.
    ///
    /// Records are checked one by one; one that a peer forged or broke is refused and said, and harms
    /// no other.
    pub(crate) async fn take_records(
        &self,
        node: &Node,
        publisher: &PublisherId,
        model: &str,
        events: &EventSink,
    ) -> Result<bool, Failure> {
        let mut heard = false;
        for session in &self.sessions {
            let records = match session.refs(*publisher, model).await {
                Ok(Some(records)) => records,
                Ok(None) => continue,
                Err(error) => {
                    events.warn(format!("{}: {error}", session.id().fmt_short()));
                    continue;
                }
            };
            heard = true;
            let from = session.id().fmt_short().to_string();
            let (publisher, model, events) = (*publisher, model.to_owned(), events.clone());
            node.blocking(move |node| {
                let refused = |what: &str, error: &dyn std::error::Error| {
                    events.warn(format!("{from} sent a {what} that is refused: {error}"));
                };
                for bytes in &records.identities {
                    match Signed::decode(bytes) {
                        Ok(signed) => {
                            if let Err(error) = node.store().apply_identity(signed) {
                                refused("record of the publisher's identity", &error);
                            }
                        }
                        Err(error) => refused("record of the publisher's identity", &error),
                    }
                }
                for bytes in &records.refs {
                    let signed = match Signed::decode(bytes) {
                        Ok(signed) => signed,
                        Err(error) => {
                            refused("ref record", &error);
                            continue;
                        }
                    };
                    match RefRecord::decode(signed.body()) {
                        Ok(record)
                            if record.publisher == publisher
                                && record.model.eq_ignore_ascii_case(&model) =>
                        {
                            if let Err(error) = node.store().apply_ref(signed) {
                                refused("ref record", &error);
                            }
                        }
                        Ok(record) => events.warn(format!(
                            "{from} sent a ref record of another model, {}/{}: left aside",
                            record.publisher, record.model
                        )),
                        Err(error) => refused("ref record", &error),
                    }
                }
                for bytes in &records.signatures {
                    match VersionSignatures::decode(bytes) {
                        Ok(signatures) => {
                            node.store().add_version_signatures(&signatures)?;
                        }
                        Err(error) => refused("version signature", &error),
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(heard)
    }

    /// The peers, or that there are none.
    pub(crate) fn providers(&self, what: &str) -> Result<&[Peer], Failure> {
        if self.providers.is_empty() {
            return Err(no_peer(format!("no peer could be asked for {what}")));
        }
        Ok(&self.providers)
    }
}
