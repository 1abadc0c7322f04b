//! `lode share` and `lode peers add`: tickets, made and taken.

use lode_store::{
    capability::Capability,
    identity::Operation,
    name::{NameRev, Rev},
    signature::Signed,
    ticket::Ticket,
};

use crate::{
    Node, book,
    command::{Failure, Outcome},
    network::from_ticket,
    publisher::{self, now},
    resolve,
};

/// `lode share NAME[@REV]`. For a private model, the ticket carries a capability: for one version when
/// a tag or version is named, else for the model.
pub(crate) async fn share(
    node: &Node,
    name: &str,
    expires_seconds: Option<u64>,
) -> Result<Outcome, Failure> {
    let name: NameRev = name.parse()?;
    let network = node.network().await?;
    let addrs = vec![network.ticket_addr()];
    node.blocking(move |node| {
        // A ticket is for the version: whoever has it makes its variants, or finds those that are kept.
        let found = resolve::base(node, &name)?;
        let set = node.store().ref_set(&found.publisher, &found.model)?;
        let full = match &name.rev {
            Some(Rev::Ref(short)) => set.resolve_short(short).map(|(full, _)| full),
            Some(Rev::Version(_)) => None,
            None => Some("heads/main".to_owned()),
        };
        let public = set.is_public();
        let capability = if public {
            None
        } else {
            let fixed = full.as_ref().is_none_or(|full| full.starts_with("tags/"));
            let scope = fixed.then_some(found.id);
            Some(capability(node, &name, &found, scope, expires_seconds)?)
        };
        let log = node.store().identity(&found.publisher)?.ok_or_else(|| {
            Failure::not_found(format!(
                "the identity of the publisher {} is not here",
                found.publisher
            ))
        })?;
        let alias = publisher::aliases(node)?
            .into_iter()
            .find(|(_, bound)| *bound == found.publisher);
        let ticket = Ticket {
            addrs,
            publisher: found.publisher,
            identity: log.head(),
            model: found.model,
            version: Some(found.id),
            name: full,
            capability,
            alias: alias.map(|(alias, _)| alias),
        };
        Ok(Outcome::Ticket {
            ticket: ticket.to_text()?,
            public,
        })
    })
    .await
}

/// A capability of our own making when we may make one, else the one that we were given.
fn capability(
    node: &Node,
    name: &NameRev,
    found: &resolve::Found,
    scope: Option<lode_store::VersionId>,
    expires_seconds: Option<u64>,
) -> Result<Signed, Failure> {
    let expires = expires_seconds.map(|seconds| now().saturating_add(seconds));
    match publisher::signer(node, &name.name.publisher, Operation::Access, &found.model) {
        Ok(signer) => Ok(Capability::make(
            &signer.log,
            &[&signer.device],
            &found.model,
            scope,
            expires,
            now(),
        )?),
        Err(refused) => {
            let key = format!("cap/{}/{}", found.publisher, found.model);
            let Some(bytes) = node.store().local_get(&key)? else {
                return Err(refused);
            };
            Ok(Signed::decode(&bytes)?)
        }
    }
}

/// `lode peers add TICKET`.
pub(crate) async fn add_peers(node: &Node, ticket: &str) -> Result<Outcome, Failure> {
    let ticket: Ticket = ticket.parse()?;
    node.blocking(move |node| {
        for peer in &ticket.addrs {
            book::give(node, &from_ticket(peer))?;
        }
        Ok(Outcome::Ok)
    })
    .await
}
