//! `lode pull NAME@REV:VARIANT` and `lode variant make`: a variant into a folder or the store.
//!
//! A kept variant that is here, or that the publisher made and is fewer bytes than what is missing of its base, is
//! pulled like any version. Else the base comes first, whole or as far as the chosen tensors need it, and the variant
//! is made of it here. What was made whole is kept from then on: as chunks in the store, or in place in the folder,
//! which seeds.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use lode_quantize::Recipe;
use lode_store::{
    PublisherId, VersionId,
    import::{ImportOptions, import},
    manifest::VersionBytes,
    store::Protection,
    tree::File,
};
use lode_tensors::slice::Slice;

use super::{
    Opener, VariantAt,
    kept::{self, Claims},
    write::{Done, Writer},
};
use crate::{
    EventSink, Node,
    command::{Failure, FailureKind, Pull},
    fetch::Of,
    pull::{Received, Receiving, documents::Documents, plan::globs, records::Peers},
    push::Importing,
};

/// A pull of a variant.
pub(crate) struct VariantPull<'a> {
    pub(crate) node: &'a Node,
    pub(crate) peers: &'a Peers,
    pub(crate) request: &'a Pull,
    pub(crate) events: &'a EventSink,
    pub(crate) publisher: PublisherId,
    pub(crate) model: &'a str,
    pub(crate) base: VersionId,
    pub(crate) documents: &'a Documents,
    pub(crate) recipe: Recipe,
    /// Makes it even where it could be fetched.
    pub(crate) anew: bool,
}

impl VariantPull<'_> {
    /// Brings the variant to its place. Gives the version that is kept of it, or its base.
    pub(crate) async fn run(&self) -> Result<(VersionId, Received), Failure> {
        let slice = self.request.slice.iter().map(String::as_str);
        let slice =
            Slice::parse(slice).map_err(|error| Failure::usage(format!("--slice: {error}")))?;
        let claims = self.claims().await?;
        if claims.disagree() {
            self.events.warn(disagreement(&self.recipe, claims));
        }
        // The slice of a kept variant is cut from it as it is made: its own configuration says nothing of how.
        let kept = match slice.is_whole() {
            true => self.worth_fetching(claims).await?,
            false => None,
        };
        if let Some((version, documents)) = kept {
            let receiving = self.receiving(version, &documents, self.request.to.as_deref());
            return Ok((version, receiving.run().await?));
        }
        let opener = self.opener().await?;
        let at = opener.variant(self.recipe).await?;
        let include = globs(&self.request.include, "--include")?;
        let tensors = globs(&self.request.tensors, "--tensors")?;
        if tensors.is_some() || !slice.is_whole() {
            return self.parts(&opener, &at, include, tensors, slice).await;
        }
        let named = |file: &usize| {
            let include = include.as_ref();
            include.is_none_or(|include| include.is_match(&at.files[*file].path))
        };
        let chosen: Vec<usize> = (0..at.files.len()).filter(named).collect();
        if chosen.is_empty() {
            return Err(
                Failure::not_found("no file of the variant matches `--include`")
                    .advise("`lode ls NAME:VARIANT` lists the files"),
            );
        }
        self.whole_files(&opener, &at, &chosen).await
    }

    async fn claims(&self) -> Result<Claims, Failure> {
        let (publisher, model) = (self.publisher, self.model.to_owned());
        let (base, recipe) = (self.base, self.recipe);
        let find =
            move |node: &Node| kept::claims(node.store(), &publisher, &model, &base, &recipe);
        self.node.blocking(find).await
    }

    async fn opener(&self) -> Result<Opener, Failure> {
        let version = self.base_document().await?;
        let of = Of {
            publisher: self.publisher,
            model: self.model.to_owned(),
            version: self.base,
        };
        let tree = Arc::clone(&self.documents.tree);
        Ok(Opener::of_node(self.node, of, version.doc.tree, tree))
    }

    async fn base_document(&self) -> Result<VersionBytes, Failure> {
        let base = self.base;
        self.node
            .blocking(move |node| Ok(node.reads().version(base)?))
            .await
    }

    /// The kept variant, when reading or fetching it costs less than making it.
    async fn worth_fetching(
        &self,
        claims: Claims,
    ) -> Result<Option<(VersionId, Documents)>, Failure> {
        let Some(version) = claims.version().filter(|_| !self.anew) else {
            return Ok(None);
        };
        let missing = {
            let tree = Arc::clone(&self.documents.tree);
            self.node
                .blocking(move |node| Ok(missing_bytes(node, tree.files())))
                .await?
        };
        let fetched = match claims.own {
            Some(own) => Documents::held(self.node, own).await,
            None if missing == 0 => return Ok(None),
            None => {
                let (publisher, model) = (self.publisher, self.model);
                Documents::fetch(self.node, self.peers, publisher, model, version).await
            }
        };
        let documents = match fetched {
            Ok(documents) => documents,
            // It can be made all the same.
            Err(failure) if failure.kind == FailureKind::NoPeer => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let (tree, made_from) = (Arc::clone(&documents.tree), (self.base, self.recipe));
        let look = move |node: &Node| {
            // A ref may name any version of the model.
            let is_it = kept::made_from(&node.reads().version(version)?) == Some(made_from);
            Ok(is_it.then(|| missing_bytes(node, tree.files())))
        };
        let Some(to_fetch) = self.node.blocking(look).await? else {
            let recipe = &self.recipe;
            self.events.warn(format!(
                "the publisher's claim of {recipe} names a version that says to be something else: left aside"
            ));
            return Ok(None);
        };
        let worth = to_fetch == 0 || (missing > 0 && to_fetch <= missing);
        Ok(worth.then_some((version, documents)))
    }

    fn receiving<'r>(
        &'r self,
        version: VersionId,
        documents: &'r Documents,
        folder: Option<&'r str>,
    ) -> Receiving<'r> {
        Receiving {
            node: self.node,
            peers: self.peers,
            request: self.request,
            events: self.events,
            publisher: self.publisher,
            model: self.model,
            version,
            documents,
            folder: folder.map(Path::new),
            files: None,
        }
    }

    /// Brings files of the base to the store, or to the folder.
    pub(super) async fn base_files(
        &self,
        files: &[usize],
        folder: Option<&str>,
    ) -> Result<Received, Failure> {
        let all = self.documents.tree.files();
        let mut receiving = self.receiving(self.base, self.documents, folder);
        receiving.files = Some(files.iter().map(|&at| &all[at]).collect());
        receiving.run().await
    }

    async fn whole_files(
        &self,
        opener: &Opener,
        at: &Arc<VariantAt>,
        chosen: &[usize],
    ) -> Result<(VersionId, Received), Failure> {
        let to = self.request.to.as_deref();
        let (made, same): (Vec<usize>, Vec<usize>) = chosen
            .iter()
            .partition(|&&file| at.files[file].made().is_some());
        let sources = |files: &[usize]| {
            let mut sources: Vec<usize> = files
                .iter()
                .flat_map(|&file| at.files[file].sources.iter().copied())
                .collect();
            sources.sort_unstable();
            sources.dedup();
            sources
        };
        let size: u64 = chosen.iter().map(|&file| at.files[file].len).sum();
        let mut received = Received {
            files: chosen.len() as u64,
            size,
            size_full: at.size(),
            ..Received::default()
        };
        received.add(self.base_files(&sources(&made), None).await?);
        if !same.is_empty() {
            received.add(self.base_files(&sources(&same), to).await?);
        }
        received.path = to.map(|folder| match chosen {
            [one] => Path::new(folder)
                .join(&at.files[*one].path)
                .display()
                .to_string(),
            _ => folder.to_owned(),
        });
        if self.request.dry_run {
            return Ok((self.base, received));
        }
        let made_size = made.iter().map(|&file| at.files[file].len).sum();
        let temporary = match to {
            Some(_) => None,
            None => Some(Temporary::new(self.node, at)?),
        };
        let folder: Arc<Path> = match (&temporary, to) {
            (Some(temporary), _) => temporary.0.as_path().into(),
            (None, to) => Path::new(to.unwrap_or_default()).into(),
        };
        let writer = Writer {
            node: self.node.clone(),
            opener: opener.clone(),
            at: Arc::clone(at),
            folder: Arc::clone(&folder),
            force: self.request.force,
            events: self.events.clone(),
        };
        let mut done = Done {
            bytes: 0,
            total: made_size,
        };
        for &file in &made {
            writer.write(writer.whole(file), &mut done).await?;
        }
        if chosen.len() < at.files.len() {
            return Ok((self.base, received));
        }
        let base = self.base_document().await?;
        let (recipe, at) = (self.recipe, Arc::clone(at));
        let (events, in_place) = (self.events.clone(), to.is_some());
        let keep = move |node: &Node| {
            let (files, guards) = import_made(node, &at, &folder, in_place, &events)?;
            let kept = kept::keep(node, &base, &recipe, files)?;
            drop((temporary, guards));
            Ok(kept)
        };
        Ok((self.node.blocking(keep).await?, received))
    }
}

/// That two claims name different bytes.
pub(super) fn disagreement(recipe: &Recipe, claims: Claims) -> String {
    let short =
        |id: Option<VersionId>| id.map(VersionId::to_hex).unwrap_or_default()[..12].to_owned();
    format!(
        "the claims of {recipe} disagree: this home made {}, the publisher says {}; `lode variant check` finds out who is wrong",
        short(claims.own),
        short(claims.publisher)
    )
}

/// Bytes of files that are not held; all of a file whose chunk list is not.
fn missing_bytes(node: &Node, files: &[File]) -> u64 {
    let missing = |file: &File| {
        let held = node
            .reads()
            .file(file)
            .and_then(|reader| reader.bytes_held());
        file.size - held.unwrap_or(0).min(file.size)
    };
    files.iter().map(missing).sum()
}

/// Stores the files that were written to a folder. Gives all files of the variant, and what keeps the collector off
/// them until they are kept.
fn import_made(
    node: &Node,
    at: &VariantAt,
    folder: &Path,
    in_place: bool,
    events: &EventSink,
) -> Result<(Vec<File>, Vec<Protection>), Failure> {
    let options = ImportOptions {
        in_place,
        // What was written to the home on its way into the store need not be written again.
        adopt: !in_place,
        ..ImportOptions::default()
    };
    let (mut files, mut guards) = (Vec::new(), Vec::new());
    for file in &at.files {
        if let Some(same) = file.same_as(&at.tree) {
            files.push(File {
                path: file.path.clone(),
                ..same.clone()
            });
            continue;
        }
        let imported = import(
            node.store(),
            &folder.join(&file.path),
            &options,
            &Importing {
                events,
                phase: "store",
            },
        )?;
        let tree = node.reads().tree(imported.tree)?;
        let stored = tree
            .files()
            .first()
            .ok_or_else(|| Failure::failed("a file that was imported is not in its tree"))?;
        files.push(File {
            path: file.path.clone(),
            ..stored.clone()
        });
        guards.push(imported.guard);
    }
    Ok((files, guards))
}

/// The folder in a home for files on their way into the store.
const TEMPORARY: &str = "variants";

/// Removes what a node that was killed left of variants. For the owner of the home alone.
pub(crate) fn discard_temporary(home: &Path) {
    let path = home.join(TEMPORARY);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "files of variants are left");
        }
        _ => {}
    }
}

/// A folder of the home for files on their way into the store.
struct Temporary(PathBuf);

impl Temporary {
    fn new(node: &Node, at: &VariantAt) -> Result<Self, Failure> {
        let folder = node.home().join(TEMPORARY).join(at.id.to_hex());
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
        Ok(Self(folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a folder of a variant is left");
        }
    }
}
