//! `lode pull`: a version, or parts of it, from peers into the store or a folder.
//!
//! Order: tickets and peers, signed records, the version and its documents, the plan, what is held
//! already, the rest from all peers at once, and last the note that the version is kept. Whatever
//! arrives is verified before it is believed; a run that ends early goes on where it stopped.

pub(crate) mod documents;
mod limits;
mod listen;
mod plan;
pub(crate) mod records;
mod select;
mod slice_manifest;
mod transfer;

use std::path::PathBuf;

use lode_store::{
    PublisherId, VersionId,
    local::{self, Keep},
    name::{Name, NameRev, PublisherName, Rev},
    refs::RefState,
    ticket::Ticket,
};

use crate::{
    EventSink, Node,
    command::{Failure, FailureKind, Outcome, Pull, Pulled},
    publisher, resolve,
};
use documents::Documents;
use records::Peers;
use select::{Selection, Selector};

/// Carries out a pull.
pub(crate) async fn pull(
    node: &Node,
    request: Pull,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    events.start("pull", &request.name);
    tokio::select! {
        outcome = run(node, &request, events) => outcome,
        () = events.cancel_token().cancelled() => Err(Failure::cancelled()),
    }
}

async fn run(node: &Node, request: &Pull, events: &EventSink) -> Result<Outcome, Failure> {
    let name: NameRev = request.name.parse()?;
    if let Some(variant) = &name.variant {
        return Err(Failure::refused(format!(
            "this release makes no variants, so none named {variant:?}"
        ))
        .advise("leave out the `:VARIANT`"));
    }
    let tickets = request
        .from
        .iter()
        .map(|text| text.parse::<Ticket>())
        .collect::<Result<Vec<_>, _>>()?;
    let selector = Selector::of(request)?;
    let publisher = publisher_of(node, &name.name, &tickets, events)?;
    let model = name.name.model.clone();
    let peers = Peers::meet(node, &publisher, &model, &tickets, events).await?;
    if !request.dry_run {
        resolve::is_back(node, &publisher, &model)?;
    }
    let heard = peers.take_records(node, &publisher, &model, events).await?;
    let version = choose(node, &name, publisher, &tickets, heard)?;
    let documents = Documents::fetch(node, &peers, publisher, &model, version).await?;
    let planned = match &selector {
        None => documents.plan_files(node, &peers, request).await?,
        Some(selector) => {
            let selection = Selection {
                node,
                peers: &peers,
                documents: &documents,
                request,
                selector,
                events,
            };
            selection.plan(publisher, &model, version).await?
        }
    };
    let target = request.to.as_ref().map(PathBuf::from);
    let size = planned.iter().map(|file| file.len).sum();
    let size_full = documents.tree.files().iter().map(|file| file.size).sum();
    let files = planned.len() as u64;
    let job = transfer::Job {
        node,
        peers: &peers,
        version,
        tree: &documents.tree,
        folder: target.as_deref(),
        request,
        events,
    };
    // Until it is kept, others may read of it what has come.
    let network = node.network_if_up();
    let _pulling = network.map(|network| network.receiving().pull(version));
    let transferred = job.run(planned).await?;
    if !request.dry_run {
        node.blocking(move |node| {
            let kept = node.store().local_get(&local::keep_key(&version))?;
            let own = kept
                .and_then(|value| Keep::decode(&value))
                .is_some_and(|keep| keep.own);
            Ok(node
                .store()
                .local_set(&local::keep_key(&version), &Keep::now(own).encode())?)
        })
        .await?;
    }
    let shown = publisher::shown_name(node, &publisher, &model)?;
    Ok(Outcome::Pulled(Pulled {
        name: name
            .rev
            .as_ref()
            .map_or_else(|| shown.clone(), |rev| format!("{shown}@{rev}")),
        version: version.to_hex(),
        path: transferred.path,
        files,
        size,
        size_full,
        size_fetched: transferred.fetched,
        size_held: transferred.held,
        providers: transferred.providers,
        dry_run: request.dry_run,
    }))
}

/// Whose model is meant. A ticket binds an unbound alias, and that is said aloud; it never moves one.
fn publisher_of(
    node: &Node,
    name: &Name,
    tickets: &[Ticket],
    events: &EventSink,
) -> Result<PublisherId, Failure> {
    let named = match &name.publisher {
        PublisherName::Key(key) => Some(*key),
        PublisherName::Alias(alias) => publisher::bound(node, alias)?,
    };
    for ticket in tickets {
        if !ticket.model.eq_ignore_ascii_case(&name.model) {
            return Err(Failure::usage(format!(
                "the ticket is for the model {:?}, not {:?}",
                ticket.model, name.model
            ))
            .advise("give the ticket that belongs to the model"));
        }
        if named.is_some_and(|named| named != ticket.publisher) {
            return Err(Failure::refused(format!(
                "the ticket is of the publisher {}, and {name} is of another here",
                ticket.publisher
            ))
            .advise(format!(
                "if you trust it, pull {}/{}",
                ticket.publisher, name.model
            )));
        }
    }
    let (Some(ticket), None) = (tickets.first(), named) else {
        return named.map_or_else(|| publisher::resolve(node, &name.publisher), Ok);
    };
    if let Some(other) = tickets
        .iter()
        .find(|other| other.publisher != ticket.publisher)
    {
        return Err(Failure::refused(format!(
            "the tickets are of different publishers: {} and {}",
            ticket.publisher, other.publisher
        )));
    }
    if let PublisherName::Alias(alias) = &name.publisher {
        publisher::bind(node, alias, ticket.publisher)?;
        events.note(format!(
            "{alias:?} is now the publisher {} here: trusted on first use",
            ticket.publisher
        ));
    }
    Ok(ticket.publisher)
}

/// The version that is meant: by a branch or tag, by a prefix, or as the ticket says.
fn choose(
    node: &Node,
    name: &NameRev,
    publisher: PublisherId,
    tickets: &[Ticket],
    heard: bool,
) -> Result<VersionId, Failure> {
    let ticket = tickets.first();
    let rev = match &name.rev {
        Some(rev) => rev.clone(),
        None => match ticket.and_then(|ticket| ticket.name.as_ref()) {
            Some(full) => Rev::Ref(
                full.split_once('/')
                    .map_or(full.as_str(), |(_, short)| short)
                    .to_owned(),
            ),
            None => match ticket.and_then(|ticket| ticket.version) {
                Some(version) => return Ok(version),
                None => Rev::Ref("main".to_owned()),
            },
        },
    };
    match &rev {
        Rev::Version(prefix) => {
            let asked = ticket
                .and_then(|ticket| ticket.version)
                .filter(|version| prefix.matches(version));
            if let Some(version) = prefix.full().or(asked) {
                return Ok(version);
            }
        }
        Rev::Ref(short) => {
            let set = node.store().ref_set(&publisher, &name.name.model)?;
            if let Some((_, RefState::Fork { common: None, .. })) = set.resolve_short(short) {
                return Err(Failure::refused(format!(
                    "{short:?} is forked: its signers disagree, and never agreed"
                ))
                .advise("pull one of the versions that `lode branch` lists by its id"));
            }
        }
    }
    match node.reads().resolve(publisher, &name.name.model, &rev) {
        Ok(found) => Ok(found.version),
        Err(_) if heard => Err(Failure::not_found(format!(
            "{} has no branch, tag or version {rev}",
            name.name
        ))),
        Err(_) => Err(Failure::not_found(format!(
            "nobody who was asked has {name}, or lets you read it"
        ))
        .advise(
            "a private model needs a ticket with a capability: ask its publisher for `lode share`",
        )),
    }
}

/// A failure because no peer has or gives something.
pub(crate) fn no_peer(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::NoPeer, message)
        .advise("start a node that has it, or give a ticket with `--from TICKET`; a later run goes on from here")
}
