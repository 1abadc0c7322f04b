//! The documents of a version, from the store or from peers.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use lode_store::{
    ChunkHash, PublisherId, VersionId, limits,
    manifest::VersionBytes,
    store::Protection,
    sync::receiver::fetch_documents,
    tree::{ChunkList, File, Tree},
};

use super::{
    no_peer,
    plan::{self, Planned},
    records::Peers,
};
use crate::{
    Node,
    command::{Failure, Pull},
    resolve,
};

/// Parents that are walked from a version that a signed ref names, to find one that none names.
const ANCESTORS_MAX: usize = 10_000;

/// A version whose manifest and tree are here.
pub(crate) struct Documents {
    pub(crate) tree: Arc<Tree>,
    /// Keeps the collector off what this pull brings, until the version is noted as kept.
    pub(crate) _guard: Protection,
}

impl Documents {
    /// Brings manifest and tree, and checks that the publisher stands behind the version.
    pub(crate) async fn fetch(
        node: &Node,
        peers: &Peers,
        publisher: PublisherId,
        model: &str,
        id: VersionId,
    ) -> Result<Self, Failure> {
        let guard = node.store().protect();
        let bytes = documents(node, peers, &[id.into()], limits::VERSION_BYTES_MAX as u64).await?;
        let version = VersionBytes::decode_as(id, bytes.into_iter().next().unwrap_or_default())?;
        if version.doc.publisher != Some(publisher) || version.doc.model != model {
            return Err(Failure::refused(format!(
                "version {id} is of another model: {}",
                version.doc.model
            )));
        }
        vouched(node, peers, publisher, model, &version).await?;
        let tree = documents(
            node,
            peers,
            &[version.doc.tree.into()],
            limits::TREE_BYTES_MAX as u64,
        )
        .await?;
        let tree = Tree::decode(&tree.into_iter().next().unwrap_or_default())?;
        Ok(Self {
            tree: Arc::new(tree),
            _guard: guard,
        })
    }

    /// The documents of a version that this home made or pulled.
    pub(crate) async fn held(node: &Node, id: VersionId) -> Result<Self, Failure> {
        let guard = node.store().protect();
        Ok(Self {
            tree: node.blocking(move |node| resolve::tree(node, id)).await?,
            _guard: guard,
        })
    }

    /// A tree whose files are held.
    pub(crate) fn of(node: &Node, tree: Tree) -> Self {
        Self {
            tree: Arc::new(tree),
            _guard: node.store().protect(),
        }
    }

    /// The chunk lists of some files, in order.
    pub(super) async fn lists(
        &self,
        node: &Node,
        peers: &Peers,
        files: &[&File],
    ) -> Result<Vec<Arc<ChunkList>>, Failure> {
        let wanted: Vec<ChunkHash> = files
            .iter()
            .filter(|file| file.chunks.count > 0)
            .flat_map(|file| [file.chunks.seq, file.chunks.lengths])
            .collect();
        let found = documents(node, peers, &wanted, limits::DOCUMENT_BYTES_MAX as u64).await?;
        let found: HashMap<ChunkHash, Bytes> = wanted.into_iter().zip(found).collect();
        files
            .iter()
            .map(|file| {
                let of = |hash: &ChunkHash| found.get(hash).cloned().unwrap_or_default();
                let (sequence, lengths) = (of(&file.chunks.seq), of(&file.chunks.lengths));
                Ok(Arc::new(ChunkList::from_documents(
                    &file.chunks,
                    file.size,
                    &sequence,
                    &lengths,
                )?))
            })
            .collect()
    }

    /// Whole files, those that `request` includes.
    pub(super) async fn plan_files(
        &self,
        node: &Node,
        peers: &Peers,
        request: &Pull,
    ) -> Result<Vec<Planned>, Failure> {
        let include = plan::globs(&request.include, "--include")?;
        let files = plan::files(&self.tree, include.as_ref())?;
        self.whole(node, peers, files).await
    }

    /// These files as they are.
    pub(super) async fn whole(
        &self,
        node: &Node,
        peers: &Peers,
        files: Vec<&File>,
    ) -> Result<Vec<Planned>, Failure> {
        let lists = self.lists(node, peers, &files).await?;
        let files = files.into_iter().zip(lists);
        Ok(files.map(|(file, list)| plan::whole(file, list)).collect())
    }
}

/// Documents by hash: those of the store, and from peers what it lacks, which it then keeps.
pub(crate) async fn documents(
    node: &Node,
    peers: &Peers,
    hashes: &[ChunkHash],
    limit: u64,
) -> Result<Vec<Bytes>, Failure> {
    let wanted = hashes.to_vec();
    let mut found = node
        .blocking(move |node| {
            wanted
                .iter()
                .map(|hash| Ok(node.store().document(hash)?))
                .collect::<Result<Vec<_>, Failure>>()
        })
        .await?;
    let missing: Vec<ChunkHash> = hashes
        .iter()
        .zip(&found)
        .filter(|(_, found)| found.is_none())
        .map(|(hash, _)| *hash)
        .collect();
    if !missing.is_empty() {
        let providers = peers.providers("the version's documents")?;
        let fetched = fetch_documents(providers, &missing, limit, &node.fetch_options())
            .await
            .map_err(|error| no_peer(error.to_string()))?;
        let keep = fetched.clone();
        node.blocking(move |node| Ok(node.store().put_documents(&keep)?))
            .await?;
        let fetched: HashMap<ChunkHash, Bytes> = missing.into_iter().zip(fetched).collect();
        for (hash, slot) in hashes.iter().zip(&mut found) {
            if slot.is_none() {
                *slot = fetched.get(hash).cloned();
            }
        }
    }
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

/// Whole chunks by hash, of the store or of peers; not kept.
pub(super) async fn chunks(
    node: &Node,
    peers: &Peers,
    hashes: &[ChunkHash],
) -> Result<Vec<Bytes>, Failure> {
    let mut all = Vec::with_capacity(hashes.len());
    for hash in hashes {
        let wanted = *hash;
        let held = node
            .blocking(move |node| match node.store().chunk(&wanted)? {
                Some(chunk) => Ok(Some(chunk.read(0..chunk.len())?)),
                None => Ok(None),
            })
            .await?;
        all.push(match held {
            Some(bytes) => bytes,
            None => {
                let providers = peers.providers("a file's header")?;
                let mut found = fetch_documents(
                    providers,
                    &[*hash],
                    limits::CHUNK_BYTES_MAX,
                    &node.fetch_options(),
                )
                .await
                .map_err(|error| no_peer(error.to_string()))?;
                found.pop().unwrap_or_default()
            }
        });
    }
    Ok(all)
}

/// Checks that the publisher stands behind a version: a signed ref names it or a descendant of it, or
/// it carries a signature of a key that may sign.
async fn vouched(
    node: &Node,
    peers: &Peers,
    publisher: PublisherId,
    model: &str,
    version: &VersionBytes,
) -> Result<(), Failure> {
    let (id, name) = (version.id, model.to_owned());
    let (known, mut named) = node
        .blocking(move |node| {
            let named: Vec<VersionId> = node
                .store()
                .ref_set(&publisher, &name)?
                .versions()
                .into_iter()
                .collect();
            Ok((
                crate::doors::vouched_here(node.store(), &publisher, &name, &id),
                named,
            ))
        })
        .await?;
    if known {
        return Ok(());
    }
    let mut walked = std::collections::HashSet::new();
    while let Some(next) = named.pop() {
        if walked.len() == ANCESTORS_MAX || !walked.insert(next) {
            continue;
        }
        let Ok(bytes) = documents(
            node,
            peers,
            &[next.into()],
            limits::VERSION_BYTES_MAX as u64,
        )
        .await
        else {
            continue;
        };
        let Ok(version) =
            VersionBytes::decode_as(next, bytes.into_iter().next().unwrap_or_default())
        else {
            continue;
        };
        if version.doc.parents.contains(&id) {
            return Ok(());
        }
        named.extend(version.doc.parents);
    }
    Err(Failure::refused(format!(
        "nothing that the publisher {publisher} signed names version {id}"
    ))
    .advise("ask who gave you the version id; it may be forged, or of another publisher"))
}
