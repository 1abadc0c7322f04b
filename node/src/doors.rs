//! What peers may see of the store: the source, the access rule and the records behind both protocols.
//!
//! Every question ends in `access::grant`. Documents and chunks are reachable through the versions
//! that name them; which documents belong to which versions is kept in memory and made anew when
//! versions or refs change.

use std::{
    collections::{HashMap, HashSet},
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use iroh::EndpointId;
use lode_store::{
    ChunkHash, ChunkReader, PublisherId, Store, VersionId,
    access::{self, AccessView, Visible},
    capability::Capability,
    identity::Operation,
    manifest::VersionBytes,
    outboard,
    refs::RefRecord,
    signature::Signed,
    sync::{
        grants::Grants,
        hub::{Hub, VersionFiles},
        message::{ChunkPieces, OriginFile, OriginQuery, PeerAddr},
        source::{Access, Caller, ChunkRead, ChunkSource, HeldMap, ModelRecords, RefSource},
    },
    tree::{ChunkList, ChunkListRef, Mode, Tree},
};

use crate::{
    origin::{self, Stage, listing::Digest, record},
    publisher::now,
    receiving::{OpenReceived, Receiving},
    variants::kept,
};

/// Chunk hashes whose models were looked up lately: how many are remembered.
const CHUNKS_REMEMBERED_MAX: usize = 4096;

/// Versions that are walked from those that refs name, to find one that none names.
const ANCESTORS_MAX: usize = 10_000;

/// The doors of one store.
#[derive(Debug)]
pub(crate) struct StoreDoors {
    store: Store,
    receiving: Receiving,
    hub: Hub,
    grants: Grants,
    origins: Arc<origin::State>,
    reach: Mutex<Reach>,
}

/// Which versions lead to a document.
#[derive(Debug, Default)]
struct Reach {
    /// What it was looked up in: [`Store::changes`], and the versions that were being received.
    as_of: Option<(u64, HashSet<VersionId>)>,
    /// The versions that were walked, with their models.
    versions: HashMap<VersionId, Walked>,
    /// Documents by hash: the versions that need them.
    documents: HashMap<ChunkHash, Vec<VersionId>>,
    /// Roots of whole files: the versions that claim them, each for a file of its own.
    roots: HashMap<ChunkHash, Vec<(VersionId, Rooted)>>,
    /// Both blobs of Collections: a version that makes them. They are among the documents too.
    collections: HashMap<ChunkHash, VersionId>,
    /// Chunks that were asked for by their own hash.
    chunks: HashMap<ChunkHash, Vec<VersionId>>,
}

#[derive(Debug, Clone)]
struct Walked {
    publisher: PublisherId,
    model: String,
    sequences: Vec<ChunkHash>,
}

/// A file that has a root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rooted {
    size: u64,
    chunks: ChunkListRef,
}

impl StoreDoors {
    pub(crate) fn new(
        store: Store,
        receiving: Receiving,
        hub: Hub,
        grants: Grants,
        origins: Arc<origin::State>,
    ) -> Self {
        Self {
            store,
            receiving,
            hub,
            grants,
            origins,
            reach: Mutex::default(),
        }
    }

    /// The versions that lead to `hash`.
    fn versions_of(&self, hash: &ChunkHash) -> Vec<(VersionId, Walked)> {
        let mut reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.refresh(&mut reach) {
            tracing::warn!(%error, "the versions of the home cannot be listed");
            return Vec::new();
        }
        let found = match reach.documents.get(hash) {
            Some(found) => found.clone(),
            None => match reach.chunks.get(hash) {
                Some(found) => found.clone(),
                None => {
                    let found = self.holders(&reach, hash);
                    if reach.chunks.len() >= CHUNKS_REMEMBERED_MAX {
                        reach.chunks.clear();
                    }
                    reach.chunks.insert(*hash, found.clone());
                    found
                }
            },
        };
        found
            .into_iter()
            .filter_map(|id| Some((id, reach.versions.get(&id)?.clone())))
            .collect()
    }

    /// Looks again at which versions there are, if anything has changed.
    fn refresh(&self, reach: &mut Reach) -> Result<(), lode_store::store::ReadError> {
        let as_of = Some((self.store.changes(), self.receiving.versions()));
        if reach.as_of != as_of {
            self.walk_all(reach)?;
            reach.as_of = as_of;
        }
        Ok(())
    }

    /// Walks versions that are new and forgets those that are no longer kept.
    fn walk_all(&self, reach: &mut Reach) -> Result<(), lode_store::store::ReadError> {
        let mut kept: HashSet<VersionId> = self
            .store
            .local_prefix("keep/")?
            .into_iter()
            .filter_map(|(key, _)| key.strip_prefix("keep/")?.parse().ok())
            .collect();
        kept.extend(self.receiving.versions());
        if reach.versions.len() == kept.len()
            && kept.iter().all(|id| reach.versions.contains_key(id))
        {
            return Ok(());
        }
        let gone: Vec<VersionId> = reach
            .versions
            .keys()
            .filter(|id| !kept.contains(*id))
            .copied()
            .collect();
        if !gone.is_empty() {
            *reach = Reach::default();
        }
        for id in kept {
            if !reach.versions.contains_key(&id) {
                self.walk(reach, id)?;
            }
        }
        reach.chunks.clear();
        Ok(())
    }

    fn walk(&self, reach: &mut Reach, id: VersionId) -> Result<(), lode_store::store::ReadError> {
        let Some(bytes) = self.store.document(&id.into())? else {
            return Ok(());
        };
        let Ok(version) = VersionBytes::decode_as(id, bytes) else {
            return Ok(());
        };
        let Some((publisher, model)) = origin::whose(&version.doc) else {
            return Ok(());
        };
        let model = model.to_owned();
        let mut documents = vec![ChunkHash::from(id), ChunkHash::from(version.doc.tree)];
        let mut sequences = Vec::new();
        if let Some(bytes) = self.store.document(&version.doc.tree.into())?
            && let Ok(tree) = Tree::decode(&bytes)
        {
            for file in tree.files() {
                documents.extend([file.chunks.seq, file.chunks.lengths]);
                sequences.push(file.chunks.seq);
                if let Some(root) = file.root.filter(|_| file.mode != Mode::Link) {
                    let rooted = Rooted {
                        size: file.size,
                        chunks: file.chunks.clone(),
                    };
                    reach.roots.entry(root).or_default().push((id, rooted));
                }
            }
            if let Some(collection) = tree.collection() {
                for blob in [&collection.seq, &collection.names] {
                    let hash = ChunkHash::of(blob);
                    documents.push(hash);
                    reach.collections.insert(hash, id);
                }
            }
        }
        for document in documents {
            let versions = reach.documents.entry(document).or_default();
            if !versions.contains(&id) {
                versions.push(id);
            }
        }
        sequences.sort_unstable();
        sequences.dedup();
        reach.versions.insert(
            id,
            Walked {
                publisher,
                model,
                sequences,
            },
        );
        Ok(())
    }

    /// The versions with a file that has this chunk: reads chunk lists, so answers are remembered.
    fn holders(&self, reach: &Reach, hash: &ChunkHash) -> Vec<VersionId> {
        let mut by_sequence: HashMap<ChunkHash, bool> = HashMap::new();
        let mut found = Vec::new();
        for (id, walked) in &reach.versions {
            let holds = walked.sequences.iter().any(|sequence| {
                *by_sequence.entry(*sequence).or_insert_with(|| {
                    let bytes = self.store.document(sequence).ok().flatten();
                    bytes.is_some_and(|bytes| {
                        bytes.chunks_exact(32).any(|part| part == hash.as_bytes())
                    })
                })
            });
            if holds {
                found.push(*id);
            }
        }
        found
    }

    /// The files of which `root` is said to be the root, by versions that `caller` may read.
    fn rooted(&self, caller: &Caller, root: &ChunkHash) -> Vec<(VersionId, Rooted)> {
        let claims: Vec<_> = {
            let mut reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = self.refresh(&mut reach) {
                tracing::warn!(%error, "the versions of the home cannot be listed");
                return Vec::new();
            }
            let claims = reach.roots.get(root).into_iter().flatten();
            claims
                .filter_map(|(id, file)| Some((*id, file.clone(), reach.versions.get(id)?.clone())))
                .collect()
        };
        // many versions have the same file: one of them is enough
        let mut found: Vec<(VersionId, Rooted)> = Vec::new();
        for (id, file, walked) in claims {
            if found.iter().all(|(_, known)| *known != file)
                && self.may_read_version(caller, &id, &walked)
            {
                found.push((id, file));
            }
        }
        found
    }

    /// Whether a version needs the chunk or document `hash` that `caller` may read.
    fn may_read_stored(&self, caller: &Caller, hash: &ChunkHash) -> bool {
        self.versions_of(hash)
            .iter()
            .any(|(id, walked)| self.may_read_version(caller, id, walked))
    }

    /// One of the two blobs of the Collection of a version.
    fn collection_blob(&self, hash: &ChunkHash) -> io::Result<Option<Bytes>> {
        let Some(version) = self.collection_of(hash) else {
            return Ok(None);
        };
        let document = |hash| self.store.document(&hash).map_err(io::Error::other);
        let Some(bytes) = document(version.into())? else {
            return Ok(None);
        };
        let version = VersionBytes::decode_as(version, bytes).map_err(io::Error::other)?;
        let Some(bytes) = document(version.doc.tree.into())? else {
            return Ok(None);
        };
        let tree = Tree::decode(&bytes).map_err(io::Error::other)?;
        let blobs = tree.collection().map(|made| [made.seq, made.names]);
        let mut blobs = blobs.into_iter().flatten();
        Ok(blobs.find(|blob| ChunkHash::of(blob) == *hash))
    }

    fn collection_of(&self, hash: &ChunkHash) -> Option<VersionId> {
        let reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        reach.collections.get(hash).copied()
    }

    /// A whole file by its root: read from the chunks of a version that `caller` may read, and of no
    /// other, so that a root which a tree claims and which is not its file's leads nowhere.
    fn open_root(
        &self,
        caller: &Caller,
        root: &ChunkHash,
    ) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        for (_, file) in self.rooted(caller, root) {
            let opened = self.store.file_blob(*root, file.size, &file.chunks);
            if let Some(blob) = opened.map_err(io::Error::other)? {
                return Ok(Some(blob));
            }
        }
        Ok(None)
    }

    /// The caller as the access function knows it: with the capabilities that hold.
    fn known(&self, caller: &Caller, publisher: &PublisherId) -> access::Caller {
        let log = self.store.identity(publisher).ok().flatten();
        let capabilities = caller
            .capabilities
            .iter()
            .filter_map(|bytes| {
                Capability::verify(&Signed::decode(bytes).ok()?, log.as_deref()?, now()).ok()
            })
            .collect();
        access::Caller::Peer {
            id: *caller.id.as_bytes(),
            capabilities,
        }
    }

    /// The tree of a version that `caller` may read.
    fn readable_tree(&self, caller: &Caller, version: &VersionId) -> Option<Tree> {
        let (_, walked) = self
            .versions_of(&ChunkHash::from(*version))
            .into_iter()
            .find(|(id, _)| id == version)?;
        if !self.may_read_version(caller, version, &walked) {
            return None;
        }
        let bytes = self.store.document(&(*version).into()).ok().flatten()?;
        let document = VersionBytes::decode_as(*version, bytes).ok()?;
        let bytes = self
            .store
            .document(&document.doc.tree.into())
            .ok()
            .flatten()?;
        Tree::decode(&bytes).ok()
    }

    fn may_read_version(&self, caller: &Caller, id: &VersionId, walked: &Walked) -> bool {
        let known = self.known(caller, &walked.publisher);
        access::grant(
            self,
            &known,
            Some(id),
            &walked.publisher,
            &walked.model,
            now(),
        )
        .reads()
    }
}

impl AccessView for StoreDoors {
    fn is_public(&self, publisher: &PublisherId, model: &str) -> bool {
        self.store
            .ref_set(publisher, model)
            .is_ok_and(|refs| refs.is_public())
            || record::is_public(&self.store, publisher, model)
    }

    fn has_version(&self, publisher: &PublisherId, model: &str, version: &VersionId) -> bool {
        vouched_here(&self.store, publisher, model, version)
    }
}

/// Whether records of this home tie a version to its model: a signed ref names it or a version that
/// follows from it, or a key of the publisher signed it; or it is a variant that was made here of such a one.
pub(crate) fn vouched_here(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
    version: &VersionId,
) -> bool {
    if vouched_by_records(store, publisher, model, version)
        || record::has_version(store, publisher, model, version)
    {
        return true;
    }
    let base = kept::made_here_from(store, version);
    base.is_some_and(|base| vouched_by_records(store, publisher, model, &base))
}

fn vouched_by_records(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
    version: &VersionId,
) -> bool {
    let Ok(refs) = store.ref_set(publisher, model) else {
        return false;
    };
    let mut named: Vec<VersionId> = refs.versions().into_iter().collect();
    if named.contains(version) {
        return true;
    }
    let log = store.identity(publisher).ok().flatten();
    let signatures = store.version_signatures(version).ok().flatten();
    if let (Some(log), Some(signatures)) = (log, signatures)
        && signatures
            .verified()
            .into_iter()
            .any(|key| log.ever_authorised(key, Operation::Push, model))
    {
        return true;
    }
    let mut walked = HashSet::new();
    while let Some(next) = named.pop() {
        if walked.len() == ANCESTORS_MAX || !walked.insert(next) {
            continue;
        }
        let Ok(Some(bytes)) = store.document(&next.into()) else {
            continue;
        };
        let Ok(document) = VersionBytes::decode_as(next, bytes) else {
            continue;
        };
        if document.doc.parents.contains(version) {
            return true;
        }
        named.extend(document.doc.parents);
    }
    false
}

impl Access for StoreDoors {
    fn may_read(&self, caller: &Caller, root: &ChunkHash) -> bool {
        self.may_read_stored(caller, root) || !self.rooted(caller, root).is_empty()
    }

    fn is_public(&self, version: &VersionId, root: &ChunkHash) -> bool {
        let anyone = access::Caller::Anonymous;
        let reads = |walked: &Walked| {
            let (publisher, model) = (&walked.publisher, &walked.model);
            access::grant(self, &anyone, Some(version), publisher, model, now()).reads()
        };
        self.versions_of(root)
            .iter()
            .any(|(id, walked)| id == version && reads(walked))
    }
}

impl ChunkSource for StoreDoors {
    fn open(&self, hash: &ChunkHash) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let chunk = self.store.chunk(hash).map_err(io::Error::other)?;
        if let Some(chunk) = chunk {
            return Ok(Some(Arc::new(OpenChunk(chunk))));
        }
        let received = self.receiving.open(hash);
        Ok(received.map(|chunk| Arc::new(OpenReceived(chunk)) as Arc<dyn ChunkRead>))
    }

    fn open_for(
        &self,
        caller: &Caller,
        parent: Option<&ChunkHash>,
        hash: &ChunkHash,
    ) -> io::Result<Option<Arc<dyn ChunkRead>>> {
        let made = |bytes| Some(Arc::new(OpenMade(bytes)) as Arc<dyn ChunkRead>);
        match parent {
            // chunks of a file
            Some(parent) if self.collection_of(parent).is_none() => self.open(hash),
            // files of a version, and their names
            Some(_) => match self.collection_blob(hash)? {
                Some(names) => Ok(made(names)),
                None => self.open_root(caller, hash),
            },
            None => {
                if let Some(blob) = self.collection_blob(hash)? {
                    return Ok(made(blob));
                }
                if self.may_read_stored(caller, hash)
                    && let Some(chunk) = self.open(hash)?
                {
                    return Ok(Some(chunk));
                }
                self.open_root(caller, hash)
            }
        }
    }
}

/// A small blob that was made a moment ago.
struct OpenMade(Bytes);

impl ChunkRead for OpenMade {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn is_mapped(&self) -> bool {
        false
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let at = |at: u64| usize::try_from(at).map_err(io::Error::other);
        let range = at(range.start)?..at(range.end)?;
        if range.start > range.end || range.end > self.0.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.0.slice(range))
    }

    fn outboard(&self) -> io::Result<Bytes> {
        Ok(outboard::compute(&self.0).1.into())
    }
}

/// A chunk of the store as the provider reads it.
struct OpenChunk(ChunkReader);

impl ChunkRead for OpenChunk {
    fn size(&self) -> u64 {
        u64::from(self.0.len())
    }

    fn is_mapped(&self) -> bool {
        self.0.is_trusted()
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let narrow = |at: u64| u32::try_from(at).map_err(io::Error::other);
        self.0
            .read(narrow(range.start)?..narrow(range.end)?)
            .map_err(io::Error::other)
    }

    fn outboard(&self) -> io::Result<Bytes> {
        self.0.outboard().map_err(io::Error::other)
    }
}

impl StoreDoors {
    /// The records of the model of exactly this name.
    fn records(
        &self,
        caller: &Caller,
        publisher: &PublisherId,
        model: &str,
    ) -> Option<ModelRecords> {
        let visible = access::visible(
            self,
            &self.known(caller, publisher),
            publisher,
            model,
            now(),
        );
        if visible == Visible::Nothing {
            return None;
        }
        let log = self.store.identity(publisher).ok().flatten()?;
        let refs = self.store.ref_set(publisher, model).ok()?;
        let records: Vec<Bytes> = refs
            .records()
            .into_iter()
            .filter(|signed| match &visible {
                Visible::Everything => true,
                seen => RefRecord::decode(signed.body()).is_ok_and(|record| {
                    record
                        .version
                        .is_some_and(|version| seen.contains(&version))
                }),
            })
            .map(|signed| signed.encode().into())
            .collect();
        if records.is_empty() {
            return None;
        }
        let signatures = refs
            .versions()
            .iter()
            .filter(|id| visible.contains(id))
            .filter_map(|id| self.store.version_signatures(id).ok().flatten())
            .map(|signatures| signatures.encode().into())
            .collect();
        let identities = log
            .records()
            .into_iter()
            .map(|signed| signed.encode().into())
            .collect();
        Some(ModelRecords {
            identities,
            refs: records,
            signatures,
        })
    }
}

impl RefSource for StoreDoors {
    /// Those of a model in another case stand in for one that is not there: names of registries have no upper case.
    fn refs(&self, caller: &Caller, publisher: &PublisherId, model: &str) -> Option<ModelRecords> {
        self.records(caller, publisher, model).or_else(|| {
            let models = self.store.models().ok()?.into_iter();
            let mut same = models.filter(|(owner, name)| {
                owner == publisher && name != model && name.eq_ignore_ascii_case(model)
            });
            same.find_map(|(_, name)| self.records(caller, publisher, &name))
        })
    }

    fn files(&self, caller: &Caller, version: &VersionId) -> Option<VersionFiles> {
        let tree = self.readable_tree(caller, version)?;
        let files = tree.files().iter().filter(|file| file.chunks.count > 0);
        let count = |count: u64| u32::try_from(count).ok();
        files
            .map(|file| Some((file.chunks.seq, count(file.chunks.count)?)))
            .collect()
    }

    fn receiving(&self, version: &VersionId) -> Vec<ChunkPieces> {
        self.receiving.pieces(version)
    }

    fn held(&self, caller: &Caller, version: &VersionId) -> Option<HeldMap> {
        let tree = self.readable_tree(caller, version)?;
        let mut held = Vec::new();
        for file in tree.files().iter().filter(|file| file.chunks.count > 0) {
            let documents = (
                self.store.document(&file.chunks.seq).ok().flatten(),
                self.store.document(&file.chunks.lengths).ok().flatten(),
            );
            let list = match documents {
                (Some(sequence), Some(lengths)) => {
                    ChunkList::from_documents(&file.chunks, file.size, &sequence, &lengths).ok()
                }
                _ => None,
            };
            match list {
                Some(list) => {
                    held.extend(
                        list.hashes
                            .iter()
                            .map(|hash| self.store.holds(hash).unwrap_or(false)),
                    );
                }
                None => held.extend((0..file.chunks.count).map(|_| false)),
            }
        }
        Some(HeldMap::of(held))
    }

    /// Those that watched it lately, to whom may read it. Of a private version, those that are connected and
    /// may read it still.
    fn peers(&self, caller: &Caller, version: &VersionId) -> Vec<PeerAddr> {
        let versions = self.versions_of(&ChunkHash::from(*version));
        let Some((_, walked)) = versions.into_iter().find(|(id, _)| id == version) else {
            return Vec::new();
        };
        if !self.may_read_version(caller, version, &walked) {
            return Vec::new();
        }
        let reads = |peer: &PeerAddr| {
            EndpointId::from_bytes(&peer.id)
                .is_ok_and(|id| self.may_read_version(&self.grants.caller(id), version, &walked))
        };
        let mut met = self.hub.met(version);
        met.retain(|peer| peer.id != *caller.id.as_bytes() && reads(peer));
        met
    }

    /// Of models alone that everyone may read at their hub: others are not spoken of.
    fn origin(
        &self,
        caller: &Caller,
        asker: &PeerAddr,
        query: &OriginQuery,
    ) -> Option<(Vec<OriginFile>, Vec<PeerAddr>)> {
        self.origins.heard_of(asker);
        let (publisher, model) = (&query.publisher, &query.model);
        if !record::is_public(&self.store, publisher, model) {
            return None;
        }
        let repository = record::repository(&self.store, publisher, model)?;
        let mut peers: HashMap<[u8; 32], PeerAddr> = HashMap::new();
        let mut file = |digest: Digest| {
            // A file that is being brought is recorded first, and not being brought any more after: who looks the other way
            // round may find neither, and sends the asker to the hub.
            let Some(spool) = self.origins.spool(publisher, model, digest) else {
                let kept = record::file(&self.store, &repository, digest);
                return OriginFile {
                    version: kept.map(|(_, version)| version),
                    ..OriginFile::default()
                };
            };
            let stage = spool.asked_by(asker.clone());
            let others = spool.interested().into_iter();
            let others = others.filter(|peer| peer.id != *caller.id.as_bytes());
            peers.extend(others.map(|peer| (peer.id, peer)));
            OriginFile {
                version: None,
                wanted: true,
                fetching: match stage {
                    Stage::Wanted => None,
                    Stage::Fetching(bytes) => Some(bytes),
                },
            }
        };
        let digests = query.files.iter().map(|bytes| Digest::from_bytes(bytes));
        let files = digests
            .map(|digest| digest.map(&mut file).unwrap_or_default())
            .collect();
        Some((files, peers.into_values().collect()))
    }

    fn hinted(&self, _caller: &Caller, _version: Option<VersionId>, _peers: Vec<PeerAddr>) {}
}
