//! `lode pull`: a version, or parts of it, from peers into the store or a folder.
//!
//! Order: tickets and peers, signed records, the version and its documents, the plan, what is held
//! already, the rest from all peers at once, and last the note that the version is kept. Whatever
//! arrives is verified before it is believed; a run that ends early goes on where it stopped.

pub(crate) mod documents;
mod limits;
mod listen;
pub(crate) mod plan;
pub(crate) mod records;
mod select;
pub(crate) mod slice_manifest;
mod transfer;

use std::{path::Path, pin::Pin};

use lode_store::{
    PublisherId, VersionId,
    local::{self, Keep},
    name::{Name, NameRev, PublisherName, Rev},
    refs::RefState,
    ticket::Ticket,
    tree::File,
};

use crate::{
    EventSink, Node,
    command::{Failure, FailureKind, Outcome, Pull, Pulled},
    origin, publisher, resolve,
    variants::{self, VariantPull},
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
    // One type for both, or the compiler gives up on what they are made of.
    type Running<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Failure>> + Send + 'a>>;
    let pull: Running<'_> = match request.name.starts_with(origin::PREFIX) {
        true => Box::pin(origin::pull(node, &request, events)),
        false => Box::pin(run(node, &request, false, events)),
    };
    tokio::select! {
        outcome = pull => outcome,
        () = events.cancel_token().cancelled() => Err(Failure::cancelled()),
    }
}

/// `lode variant make`: makes a variant in the store, whatever others say that it is.
pub(crate) async fn make(
    node: &Node,
    name: String,
    from: Vec<String>,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    events.start("make", &name);
    if name.parse::<NameRev>()?.variant.is_none() {
        return Err(Failure::usage("which variant is to be made?")
            .advise("write NAME@REV:VARIANT; `lode variant ls NAME` lists them"));
    }
    let request = Pull {
        name,
        from,
        ..Pull::default()
    };
    tokio::select! {
        outcome = run(node, &request, true, events) => outcome,
        () = events.cancel_token().cancelled() => Err(Failure::cancelled()),
    }
}

/// `anew` makes a variant even where it could be fetched.
async fn run(
    node: &Node,
    request: &Pull,
    anew: bool,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    let name: NameRev = request.name.parse()?;
    let tickets = request
        .from
        .iter()
        .map(|text| text.parse::<Ticket>())
        .collect::<Result<Vec<_>, _>>()?;
    // Checked before anybody is asked for anything.
    Selector::of(request)?;
    let publisher = publisher_of(node, &name.name, &tickets, events)?;
    let model = name.name.model.clone();
    let peers = Peers::meet(node, &publisher, &model, &tickets, events).await?;
    if !request.dry_run {
        resolve::is_back(node, &publisher, &model)?;
    }
    let heard = peers.take_records(node, &publisher, &model, events).await?;
    let version = choose(node, &name, publisher, &tickets, heard)?;
    let documents = Documents::fetch(node, &peers, publisher, &model, version).await?;
    let (version, received) = match &name.variant {
        None => {
            let receiving = Receiving {
                node,
                peers: &peers,
                request,
                events,
                publisher,
                model: &model,
                version,
                documents: &documents,
                folder: request.to.as_deref().map(Path::new),
                files: None,
            };
            (version, receiving.run().await?)
        }
        Some(variant) => {
            let pull = VariantPull {
                node,
                peers: &peers,
                request,
                events,
                publisher,
                model: &model,
                base: version,
                documents: &documents,
                recipe: variants::recipe(variant, &documents.tree)?,
                anew,
            };
            Box::pin(pull.run()).await?
        }
    };
    let mut shown = publisher::shown_name(node, &publisher, &model)?;
    if let Some(rev) = &name.rev {
        shown.push_str(&format!("@{rev}"));
    }
    if let Some(variant) = &name.variant {
        shown.push_str(&format!(":{variant}"));
    }
    Ok(Outcome::Pulled(Pulled {
        name: shown,
        version: version.to_hex(),
        path: received.path,
        files: received.files,
        size: received.size,
        size_full: received.size_full,
        size_fetched: received.fetched,
        size_held: received.held,
        providers: received.providers,
        dry_run: request.dry_run,
    }))
}

/// A version of which files, or parts of files, are brought to their place.
pub(crate) struct Receiving<'a> {
    pub(crate) node: &'a Node,
    pub(crate) peers: &'a Peers,
    pub(crate) request: &'a Pull,
    pub(crate) events: &'a EventSink,
    pub(crate) publisher: PublisherId,
    pub(crate) model: &'a str,
    pub(crate) version: VersionId,
    pub(crate) documents: &'a Documents,
    /// Where they go; the store alone when absent.
    pub(crate) folder: Option<&'a Path>,
    /// These files as they are, whatever the request says.
    pub(crate) files: Option<Vec<&'a File>>,
}

/// What was brought.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The folder, or the file when it is one; nothing when it stays in the store.
    pub(crate) path: Option<String>,
    /// Files that were asked for.
    pub(crate) files: u64,
    /// Bytes of them.
    pub(crate) size: u64,
    /// Bytes of the whole version.
    pub(crate) size_full: u64,
    /// Bytes that peers sent.
    pub(crate) fetched: u64,
    /// Bytes that were here already.
    pub(crate) held: u64,
    /// Peers that sent some.
    pub(crate) providers: u32,
}

impl Received {
    /// Adds what moved for another part of the same pull.
    pub(crate) fn add(&mut self, other: Self) {
        self.fetched += other.fetched;
        self.held += other.held;
        self.providers = self.providers.max(other.providers);
    }
}

impl Receiving<'_> {
    /// Brings all that is asked for to its place, and keeps the version.
    pub(crate) async fn run(&self) -> Result<Received, Failure> {
        let (node, request, version) = (self.node, self.request, self.version);
        let planned = match (&self.files, Selector::of(request)?) {
            (Some(files), _) => {
                let files = files.clone();
                self.documents.whole(node, self.peers, files).await?
            }
            (None, None) => self.documents.plan_files(node, self.peers, request).await?,
            (None, Some(selector)) => {
                let selection = Selection {
                    node,
                    peers: self.peers,
                    documents: self.documents,
                    request,
                    selector: &selector,
                    events: self.events,
                };
                selection.plan(self.publisher, self.model, version).await?
            }
        };
        let size = planned.iter().map(|file| file.len).sum();
        let size_full = self.documents.tree.files().iter().map(|file| file.size);
        let size_full = size_full.sum();
        let files = planned.len() as u64;
        let job = transfer::Job {
            node,
            peers: self.peers,
            version,
            tree: &self.documents.tree,
            folder: self.folder,
            request,
            events: self.events,
        };
        // Until it is kept, others may read of it what has come.
        let network = node.network_if_up();
        let _pulling = network.map(|network| network.receiving().pull(version));
        let transferred = job.run(planned).await?;
        if !request.dry_run {
            node.blocking(move |node| keep(node, version)).await?;
        }
        Ok(Received {
            path: transferred.path,
            files,
            size,
            size_full,
            fetched: transferred.fetched,
            held: transferred.held,
            providers: transferred.providers,
        })
    }
}

/// Notes that a version is kept.
fn keep(node: &Node, version: VersionId) -> Result<(), Failure> {
    let kept = node.store().local_get(&local::keep_key(&version))?;
    let own = kept
        .and_then(|value| Keep::decode(&value))
        .is_some_and(|keep| keep.own);
    Ok(node
        .store()
        .local_set(&local::keep_key(&version), &Keep::now(own).encode())?)
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
