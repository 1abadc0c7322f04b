//! `lode pull hf:ORG/MODEL[@REV]`: a commit of another hub into the home, without a client.

use std::{path::Path, sync::Arc, time::Duration};

use lode_store::{
    VersionId,
    ticket::Ticket,
    tree::{File, Mode, Tree},
};
use tokio::task::JoinSet;

use super::{
    Origin, PREFIX, Using,
    listing::{FileAt, split_id},
    record,
};
use crate::{
    EventSink, Node, book,
    command::{Command, Failure, FailureKind, Outcome, Pull, Pulled},
    network::from_ticket,
    pull::{Received, Receiving, documents::Documents, plan, records::Peers},
    resolve,
    variants::{self, VariantPull},
};

/// Files that are brought at a time; few of them come from the hub at once, the others wait for other nodes.
const FILES_AT_A_TIME: usize = 64;

/// How often it is said how far a pull has come.
const TICK: Duration = Duration::from_millis(200);

/// `hf:ORG/MODEL[@REV][:VARIANT]`.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    organisation: &'a str,
    name: &'a str,
    rev: Option<&'a str>,
    variant: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        let usage = || {
            Failure::usage(format!("{text:?} names no model of another hub"))
                .advise("write hf:ORG/MODEL, hf:ORG/MODEL@COMMIT or hf:ORG/MODEL@BRANCH")
        };
        let rest = text.strip_prefix(PREFIX).ok_or_else(usage)?;
        let (rest, variant) = match rest.rsplit_once(':') {
            Some((rest, variant)) => (rest, Some(variant)),
            None => (rest, None),
        };
        let (id, rev) = match rest.split_once('@') {
            Some((id, rev)) => (id, Some(rev)),
            None => (rest, None),
        };
        let (organisation, name) = split_id(id).ok_or_else(usage)?;
        if rev.is_some_and(str::is_empty) || variant.is_some_and(str::is_empty) {
            return Err(usage());
        }
        Ok(Self {
            organisation,
            name,
            rev,
            variant,
        })
    }
}

/// The names of a command, those of models of other hubs as this home has them.
pub(crate) fn named(node: &Node, command: &mut Command) -> Result<(), Failure> {
    for name in command.names() {
        if name.starts_with(PREFIX) {
            *name = here(node, name)?;
        }
    }
    Ok(())
}

/// `KEY/MODEL..` for `hf:ORG/MODEL..`. What follows the model's name stays.
fn here(node: &Node, text: &str) -> Result<String, Failure> {
    let rest = text.strip_prefix(PREFIX).unwrap_or(text);
    let end = rest.find(['@', ':']).unwrap_or(rest.len());
    let (organisation, after) = rest[..end].split_once('/').unwrap_or((&rest[..end], ""));
    let name = after.split('/').next().unwrap_or_default();
    let same = |text: &str, other: &str| text.eq_ignore_ascii_case(other);
    let mut known = record::all(node.store())?;
    known.retain(|known| same(known.organisation(), organisation) && same(known.name(), name));
    let configured = node.origins().coordinates(organisation, name);
    let found = match (known.as_slice(), configured) {
        ([one], _) => one,
        ([], _) => {
            return Err(Failure::not_found(format!(
                "there is no model hf:{organisation}/{name} in this home"
            ))
            .advise(format!("`lode pull hf:{organisation}/{name}` fetches it")));
        }
        (several, Some(configured)) if several.contains(&configured) => {
            let at = several.iter().position(|known| *known == configured);
            &several[at.unwrap_or(0)]
        }
        (several, _) => {
            let keys: Vec<String> = several
                .iter()
                .map(|known| {
                    format!(
                        "{}/{} ({})",
                        known.publisher(),
                        known.name(),
                        known.namespace()
                    )
                })
                .collect();
            return Err(Failure::usage(format!(
                "hf:{organisation}/{name} is a model of several hubs here: {}",
                keys.join(", ")
            )));
        }
    };
    let behind = &rest[organisation.len() + 1 + name.len()..];
    Ok(format!("{}/{}{behind}", found.publisher(), found.name()))
}

impl Command {
    /// The names of versions that must be here already.
    pub(crate) fn names(&mut self) -> Vec<&mut String> {
        match self {
            Self::Ls { name } => name.iter_mut().collect(),
            Self::Push(push) => push.base.iter_mut().collect(),
            Self::Diff { from, to, .. } => vec![from, to],
            Self::VariantCheck(check) => vec![&mut check.name],
            Self::Show { name }
            | Self::Tensors { name }
            | Self::Path { name }
            | Self::Log { name }
            | Self::Lineage { name }
            | Self::Branches { name }
            | Self::Remove { name, .. }
            | Self::Pin { name }
            | Self::Unpin { name }
            | Self::Verify { name }
            | Self::VariantLs { name }
            | Self::VariantMake { name, .. } => vec![name],
            _ => Vec::new(),
        }
    }
}

/// Carries out a pull from another hub.
pub(crate) async fn pull(
    node: &Node,
    request: &Pull,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    let named = Named::parse(&request.name)?;
    let upstream = request.upstream.as_deref();
    if upstream.is_none() && node.origins().upstream().is_none() && node.options().network.offline {
        return Err(Failure::refused(
            "this node sends nothing but to addresses that are given, and no hub is",
        )
        .advise("name one with --upstream URL, or leave LODE_OFFLINE and --no-relay out"));
    }
    for text in &request.from {
        for peer in &text.parse::<Ticket>()?.addrs {
            book::give(node, &from_ticket(peer))?;
        }
    }
    let include = plan::globs(&request.include, "--include")?;
    let rev = named.rev.unwrap_or("main");
    let origins = node.origins();
    let origin = origins
        .open(upstream, named.organisation, named.name, rev)
        .await?;
    let listing = origin.listing();
    let included = |file: &&FileAt| {
        include
            .as_ref()
            .is_none_or(|globs| globs.is_match(&file.path))
    };
    let wanted: Vec<usize> = (0..listing.files.len())
        .filter(|at| included(&&listing.files[*at]))
        .collect();
    if wanted.is_empty() && include.is_some() {
        return Err(Failure::not_found(
            "no file of the commit matches `--include`",
        ));
    }
    let repository = origin.repository().clone();
    let (publisher, model) = (repository.publisher(), repository.name().to_owned());
    let shown = format!(
        "{PREFIX}{}/{model}@{}",
        repository.organisation(),
        listing.commit
    );
    events.note(format!(
        "{} is commit {} of {}",
        request.name,
        listing.commit,
        origin.hub()
    ));
    let size = wanted.iter().map(|at| listing.files[*at].size).sum();
    let mut pulled = Pulled {
        name: shown,
        version: String::new(),
        path: None,
        files: wanted.len() as u64,
        size,
        size_full: listing.size(),
        size_fetched: 0,
        size_held: 0,
        providers: 0,
        dry_run: request.dry_run,
    };
    if request.dry_run {
        for at in &wanted {
            let file = &listing.files[*at];
            match origin.held(file.digest).await? {
                Some(_) => pulled.size_held += file.size,
                None => pulled.size_fetched += file.size,
            }
        }
        pulled.version = version_of(&origin)
            .await?
            .map(VersionId::to_hex)
            .unwrap_or_default();
        return Ok(Outcome::Pulled(pulled));
    }
    resolve::is_back(node, &publisher, &model)?;
    pulled.size_fetched = bring(&origin, &wanted, events).await?;
    pulled.size_held = size - pulled.size_fetched;
    let version = origin.finish().await?;
    pulled.version = version.map(VersionId::to_hex).unwrap_or_default();
    let peers = Peers::of([]);
    let (documents, version) = match version {
        Some(version) => (Documents::held(node, version).await?, version),
        None => partial(node, &origin, &wanted).await?,
    };
    if let Some(variant) = named.variant {
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
            anew: false,
        };
        let (version, received) = Box::pin(pull.run()).await?;
        pulled.name.push_str(&format!(":{variant}"));
        pulled.version = version.to_hex();
        return Ok(placed(pulled, received));
    }
    if request.to.is_none() {
        return Ok(Outcome::Pulled(pulled));
    }
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
    let received = Box::pin(receiving.run()).await?;
    Ok(placed(pulled, received))
}

fn placed(mut pulled: Pulled, received: Received) -> Outcome {
    pulled.path = received.path;
    (pulled.files, pulled.size) = (received.files, received.size);
    Outcome::Pulled(pulled)
}

async fn version_of(origin: &Origin) -> Result<Option<VersionId>, Failure> {
    let (repository, commit) = (origin.repository().clone(), origin.listing().commit);
    let look = move |node: &Node| {
        Ok(record::at(
            node.store(),
            &repository.publisher(),
            repository.name(),
            commit,
        ))
    };
    origin.node().blocking(look).await
}

/// The files of a commit of which not all are here, for what is written to a folder; and a version that keeps one.
async fn partial(
    node: &Node,
    origin: &Arc<Origin>,
    wanted: &[usize],
) -> Result<(Documents, VersionId), Failure> {
    let (mut files, mut of) = (Vec::new(), None);
    for at in wanted {
        let listed = &origin.listing().files[*at];
        let held = origin.held(listed.digest).await?;
        let (file, version) = held.ok_or_else(|| {
            Failure::failed(format!(
                "{:?} left this home for room while others came",
                listed.path
            ))
        })?;
        of = Some(version);
        files.push(File {
            path: listed.path.clone(),
            mode: Mode::File,
            ..file
        });
    }
    let version = of.ok_or_else(|| Failure::not_found("the commit has no files"))?;
    Ok((Documents::of(node, Tree::new(files)?), version))
}

/// Brings files; gives the bytes of those that were not here.
async fn bring(origin: &Arc<Origin>, wanted: &[usize], events: &EventSink) -> Result<u64, Failure> {
    let total = wanted
        .iter()
        .map(|at| origin.listing().files[*at].size)
        .sum();
    let (mut done, mut came) = (0, 0);
    let mut waiting = wanted.iter().copied();
    let mut under_way: JoinSet<Result<(), Failure>> = JoinSet::new();
    let mut spools: Vec<Using> = Vec::new();
    let mut paused = events.paused();
    loop {
        while under_way.len() < FILES_AT_A_TIME && !*paused.borrow_and_update() {
            let Some(at) = waiting.next() else { break };
            let size = origin.listing().files[at].size;
            let Some(using) = origin.bring(at).await? else {
                done += size;
                continue;
            };
            came += size;
            spools.push(using.clone());
            let origin = Arc::clone(origin);
            under_way.spawn(async move { whole(&origin, at, using).await });
        }
        let moved: u64 = spools.iter().map(|spool| spool.written()).sum();
        events.progress("fetch", done + moved, total, 0);
        if under_way.is_empty() && waiting.len() == 0 {
            return Ok(came);
        }
        tokio::select! {
            Some(ended) = under_way.join_next() => {
                ended.map_err(|error| Failure::failed(error.to_string()))??;
            }
            () = tokio::time::sleep(TICK) => {}
        }
        let ended = |spool: &Using| spool.progress().end.is_some();
        done += spools
            .iter()
            .filter(|spool| ended(spool))
            .map(|spool| spool.file().size)
            .sum::<u64>();
        spools.retain(|spool| !ended(spool));
    }
}

/// Waits until a file is in the store. One that peers, or an earlier run, had wrong is brought once more, from the hub.
async fn whole(origin: &Arc<Origin>, at: usize, using: Using) -> Result<(), Failure> {
    let ended = using.stored().await;
    let digest = using.file().digest;
    drop(using);
    match ended {
        Err(failure) if failure.kind == FailureKind::Corrupt && origin.may_come_right(digest) => {
            tracing::warn!(%failure, "a file is brought again, from its hub alone");
            match origin.bring(at).await? {
                Some(again) => again.stored().await.map(drop),
                None => Ok(()),
            }
        }
        ended => ended.map(drop),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lode_store::name::NameRev;

    use super::*;

    #[test]
    fn names_of_models_of_other_hubs_have_four_parts() {
        let named = Named::parse("hf:Acme/Tiny-1B@refs/pr/1:q4_k_m").unwrap();
        assert_eq!((named.organisation, named.name), ("Acme", "Tiny-1B"));
        assert_eq!(
            (named.rev, named.variant),
            (Some("refs/pr/1"), Some("q4_k_m"))
        );
        assert_eq!(Named::parse("hf:a/b").unwrap().rev, None);
        for text in [
            "", "a/b", "hf:", "hf:a", "hf:a/b/c", "hf:a/b@", "hf:a/b:", "hf:../b", "hf:a/..",
        ] {
            assert!(Named::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_model_of_another_hub_is_named_by_what_stands_for_its_publisher() {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), crate::NodeOptions::default()).unwrap();
        assert_eq!(
            here(&node, "hf:Acme/Tiny").unwrap_err().kind,
            FailureKind::NotFound
        );
        let one = super::super::Repository::new("hub.example", "Acme", "Tiny").unwrap();
        record::note(node.store(), &one, true).unwrap();
        for behind in ["", "@main", "@main:q4_k_m", "@main/config.json"] {
            let name = here(&node, &format!("hf:acme/tiny{behind}")).unwrap();
            assert_eq!(name, format!("{}/Tiny{behind}", one.publisher()));
        }
        let named: NameRev = here(&node, "hf:Acme/Tiny@main").unwrap().parse().unwrap();
        assert_eq!(named.name.model, "Tiny");
        let other = super::super::Repository::new("hub.other", "Acme", "Tiny").unwrap();
        record::note(node.store(), &other, true).unwrap();
        assert_eq!(
            here(&node, "hf:Acme/Tiny").unwrap_err().kind,
            FailureKind::Usage
        );
    }
}
