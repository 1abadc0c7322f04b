//! `lode variant check`: groups of a kept variant, chosen at random, beside what the recipe makes of the base.

use std::sync::Arc;

use lode_store::{VersionId, limits::GROUP_BYTES, name::NameRev, ticket::Ticket};
use lode_tensors::ByteRange;

use super::{Opener, VariantAt, kept, list};
use crate::{
    EventSink, Node,
    command::{Checked, Failure, Finding, Outcome, VariantCheck},
    fetch::Of,
    pull::{documents::Documents, records::Peers},
};

/// Carries out the command.
pub(crate) async fn check(
    node: &Node,
    request: &VariantCheck,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    events.start("check", &request.name);
    tokio::select! {
        outcome = run(node, request, events) => outcome,
        () = events.cancel_token().cancelled() => Err(Failure::cancelled()),
    }
}

async fn run(node: &Node, request: &VariantCheck, events: &EventSink) -> Result<Outcome, Failure> {
    let name: NameRev = request.name.parse()?;
    if name.variant.is_none() {
        return Err(Failure::usage("which variant is to be checked?")
            .advise("write NAME@REV:VARIANT; `lode variant ls NAME` lists them"));
    }
    let tickets = request
        .from
        .iter()
        .map(|text| text.parse::<Ticket>())
        .collect::<Result<Vec<_>, _>>()?;
    let (found, opener, at) = list::named(node, &name).await?;
    let (publisher, model) = (found.publisher, found.model.as_str());
    let peers = Peers::meet(node, &publisher, model, &tickets, events).await?;
    peers.take_records(node, &publisher, model, events).await?;
    let claims = {
        let (model, base, recipe) = (model.to_owned(), found.id, at.recipe);
        let claims =
            move |node: &Node| kept::claims(node.store(), &publisher, &model, &base, &recipe);
        node.blocking(claims).await?
    };
    let mut checked = Checked {
        chunks: 0,
        bytes: 0,
        missing: 0,
        findings: Vec::new(),
    };
    let mut copies: Vec<VersionId> = claims.own.into_iter().chain(claims.publisher).collect();
    copies.dedup();
    if copies.is_empty() {
        return Err(Failure::not_found(format!(
            "nobody who was asked claims to keep {}",
            request.name
        ))
        .advise("`lode variant make` keeps one; a peer's is found with `--from TICKET`"));
    }
    for version in copies {
        let documents = match claims.own == Some(version) {
            true => Documents::held(node, version).await?,
            false => Documents::fetch(node, &peers, publisher, model, version).await?,
        };
        let of = Of {
            publisher,
            model: model.to_owned(),
            version,
        };
        let tree_id = node
            .blocking(move |node| Ok(node.reads().version(version)?.doc.tree))
            .await?;
        let copy = Copy {
            version,
            files: Opener::of_node(node, of, tree_id, Arc::clone(&documents.tree)),
            opener: &opener,
            at: &at,
        };
        copy.compare(request.groups, &mut checked, events).await?;
    }
    Ok(Outcome::Checked(checked))
}

/// A kept variant beside the recipe.
struct Copy<'a> {
    version: VersionId,
    /// Its files, as they are held here or by peers.
    files: Opener,
    /// The base's, of which they are made.
    opener: &'a Opener,
    at: &'a Arc<VariantAt>,
}

impl Copy<'_> {
    fn corrupt(&self, text: String) -> Finding {
        Finding {
            level: "corrupt".to_owned(),
            text: format!("version {}: {text}", &self.version.to_hex()[..12]),
            advice: Some(
                "its signer did not make it by the recipe: do not use it, and make the variant here"
                    .to_owned(),
            ),
        }
    }

    async fn compare(
        &self,
        groups: u32,
        checked: &mut Checked,
        events: &EventSink,
    ) -> Result<(), Failure> {
        let tree = self.files.tree();
        let mut made = Vec::new();
        let names = |paths: Vec<&str>| paths.join(", ");
        let (here, there) = (
            self.at.files.iter().map(|file| file.path.as_str()),
            tree.files().iter().map(|file| file.path.as_str()),
        );
        let (here, there): (Vec<_>, Vec<_>) = (here.collect(), there.collect());
        if here != there {
            let text = format!(
                "it has the files {}, where the recipe makes {}",
                names(there),
                names(here)
            );
            checked.findings.push(self.corrupt(text));
            return Ok(());
        }
        for (position, (file, copy)) in self.at.files.iter().zip(tree.files()).enumerate() {
            if file.len != copy.size {
                let text = format!(
                    "{} has {} bytes, where the recipe makes {}",
                    file.path, copy.size, file.len
                );
                checked.findings.push(self.corrupt(text));
            } else if let Some(same) = file.same_as(&self.at.tree) {
                if same.sha256 != copy.sha256 {
                    let text = format!("{} is not the file of the version", file.path);
                    checked.findings.push(self.corrupt(text));
                }
            } else {
                made.push(position);
            }
        }
        for (done, (position, range)) in self.choose(&made, groups)?.into_iter().enumerate() {
            events.progress("check", done as u64, u64::from(groups), 0);
            checked.chunks += 1;
            checked.bytes += range.len();
            if let Some(text) = self.compare_group(position, range).await? {
                checked.findings.push(self.corrupt(text));
                // One wrong byte says enough.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Groups at random, each byte as likely as any other.
    fn choose(&self, made: &[usize], groups: u32) -> Result<Vec<(usize, ByteRange)>, Failure> {
        let group = u64::from(GROUP_BYTES);
        let groups_of = |position: usize| self.at.files[position].len.div_ceil(group);
        let all: u64 = made.iter().map(|&position| groups_of(position)).sum();
        let mut chosen = std::collections::BTreeSet::new();
        if u64::from(groups) >= all {
            chosen.extend(0..all);
        }
        while (chosen.len() as u64) < all.min(groups.into()) {
            let mut random = [0; 8];
            getrandom::fill(&mut random)
                .map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
            chosen.insert(u64::from_le_bytes(random) % all);
        }
        let mut first = 0;
        let mut ranges = Vec::with_capacity(chosen.len());
        let mut chosen = chosen.into_iter().peekable();
        for &position in made {
            let end = first + groups_of(position);
            while let Some(at) = chosen.next_if(|at| *at < end) {
                let start = (at - first) * group;
                let end = self.at.files[position].len.min(start + group);
                ranges.push((position, ByteRange { start, end }));
            }
            first = end;
        }
        Ok(ranges)
    }

    /// What is wrong with a group of a file, if something is.
    async fn compare_group(
        &self,
        position: usize,
        range: ByteRange,
    ) -> Result<Option<String>, Failure> {
        let file = &self.at.files[position];
        let reader = Arc::new(self.opener.reader(self.at, position).await?);
        let expected = reader.make(range).await?;
        let found = self.files.open(position).await?.read_all(range).await?;
        let Some(at) = expected.iter().zip(&found).position(|(a, b)| a != b) else {
            return Ok(None);
        };
        let byte = range.start + at as u64;
        let tensor = self
            .at
            .layout()
            .files()
            .iter()
            .filter(|tensors| tensors.path == file.path)
            .flat_map(|tensors| &tensors.tensors)
            .find(|tensor| (tensor.range.start..tensor.range.end).contains(&byte));
        let of = tensor.map_or_else(String::new, |tensor| format!(", of tensor {}", tensor.name));
        Ok(Some(format!(
            "byte {byte} of {}{of} is {:#04x}, where the recipe makes {:#04x}",
            file.path, found[at], expected[at]
        )))
    }
}
