//! The documents of a version, from the store or from peers, and the plan that follows from them.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use lode_store::{
    ChunkHash, PublisherId, VersionId, limits,
    manifest::VersionBytes,
    store::Protection,
    sync::receiver::{FetchOptions, fetch_documents},
    tree::{ChunkList, File, Tree},
};
use lode_tensors::ParseError;

use super::{
    no_peer,
    plan::{self, Planned},
    records::Peers,
};
use crate::{
    Node,
    command::{Failure, FailureKind, Pull},
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

    /// The chunk lists of some files, in order.
    async fn lists(
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

    /// What `request` asks for.
    pub(crate) async fn plan(
        &self,
        node: &Node,
        peers: &Peers,
        request: &Pull,
    ) -> Result<Vec<Planned>, Failure> {
        let include = plan::globs(&request.include, "--include")?;
        let Some(tensors) = plan::globs(&request.tensors, "--tensors")? else {
            let files = plan::files(&self.tree, include.as_ref())?;
            let lists = self.lists(node, peers, &files).await?;
            return Ok(files
                .into_iter()
                .zip(lists)
                .map(|(file, list)| plan::whole(file, list))
                .collect());
        };
        let files: Vec<&File> = self
            .tree
            .files()
            .iter()
            .filter(|file| plan::may_have_tensors(file))
            .collect();
        let lists = self.lists(node, peers, &files).await?;
        // A header with its padding is the first chunk of its file.
        let headers: Vec<ChunkHash> = lists
            .iter()
            .filter_map(|list| list.hashes.first().copied())
            .collect();
        let headers = chunks(node, peers, &headers).await?;
        let mut planned = Vec::new();
        for ((file, list), source) in files.into_iter().zip(&lists).zip(headers) {
            let header = match lode_tensors::parse(&source, file.size) {
                Ok(header) => header,
                Err(error @ ParseError::NeedMore { .. }) => {
                    return Err(Failure::new(
                        FailureKind::Corrupt,
                        format!("{}: {error}", file.path),
                    ));
                }
                Err(_) => continue,
            };
            planned.extend(plan::tensors(file, list, &header, &source, &tensors)?);
        }
        if planned.is_empty() {
            return Err(
                Failure::not_found("no tensor of the version matches `--tensors`")
                    .advise("`lode tensors NAME` lists them; put the glob in quotes"),
            );
        }
        if include.is_some() {
            let written: Vec<String> = planned.iter().map(|file| file.path.clone()).collect();
            let more: Vec<&File> = plan::files(&self.tree, include.as_ref())?
                .into_iter()
                .filter(|file| !written.contains(&file.path))
                .collect();
            let lists = self.lists(node, peers, &more).await?;
            planned.extend(
                more.into_iter()
                    .zip(lists)
                    .map(|(file, list)| plan::whole(file, list)),
            );
        }
        Ok(planned)
    }
}

/// Documents by hash: those of the store, and from peers what it lacks, which it then keeps.
async fn documents(
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
        let fetched = fetch_documents(providers, &missing, limit, &FetchOptions::default())
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
async fn chunks(node: &Node, peers: &Peers, hashes: &[ChunkHash]) -> Result<Vec<Bytes>, Failure> {
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
                    &FetchOptions::default(),
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
