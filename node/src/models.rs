//! `lode ls`, `show`, `tensors`, `path`, `log`: what the home holds, for people.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use lode_store::{
    ChunkHash, PublisherId, VersionId,
    identity::Operation,
    name::{FileName, NameRev},
    refs::RefName,
    tree::{File, Tree},
};
use lode_tensors::ByteRange;

use crate::{
    Node,
    command::{
        Failure, FailureKind, FileRow, LogRow, ModelRow, Outcome, Shown, SignatureRow, TensorRow,
    },
    publisher,
    read::Layout,
    resolve,
};

/// Bytes of a `config.json` that are read for the architecture.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// `lode ls`.
pub(crate) fn list(node: &Node) -> Result<Outcome, Failure> {
    let own = publisher::own(node)?;
    let mut models = Vec::new();
    for at in node.reads().models()? {
        let refs = node.reads().refs(at.publisher, &at.model)?;
        let main = refs
            .iter()
            .find(|r| r.name == "main" && r.kind.as_str() == "branch");
        let version = main.or(refs.first()).and_then(|r| r.version);
        let (mut size, mut size_held, mut time) = (0, 0, None);
        if let Some(id) = version
            && let Ok(version) = resolve::document(node, id)
            && let Ok(tree) = node.reads().tree(version.doc.tree)
        {
            time = Some(version.doc.time);
            size = tree.size();
            size_held = held(node, &tree)?;
        }
        models.push(ModelRow {
            name: at.name(),
            publisher: at.publisher.to_hex(),
            version: version.map(VersionId::to_hex),
            size,
            size_held,
            public: node.reads().is_public(at.publisher, &at.model)?,
            own: Some(at.publisher) == own,
            time,
        });
    }
    Ok(Outcome::Models { models })
}

/// `lode ls NAME`.
pub(crate) fn files(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let found = resolve::version(node, &name.parse::<NameRev>()?)?;
    let tree = resolve::tree(node, found.id)?;
    Ok(Outcome::Files {
        version: found.id.to_hex(),
        files: file_rows(node, &tree)?,
    })
}

/// Bytes of a tree that are held.
fn held(node: &Node, tree: &Tree) -> Result<u64, Failure> {
    let mut sum = 0;
    for file in tree.files() {
        sum += file_held(node, file)?;
    }
    Ok(sum)
}

/// Bytes of a file that are held; none when not even its chunk list is.
pub(crate) fn file_held(node: &Node, file: &File) -> Result<u64, Failure> {
    match node.reads().file(file) {
        Ok(reader) => Ok(reader.bytes_held()?),
        Err(error) if error.kind() == FailureKind::NoPeer => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn file_rows(node: &Node, tree: &Tree) -> Result<Vec<FileRow>, Failure> {
    tree.files()
        .iter()
        .map(|file| {
            Ok(FileRow {
                path: file.path.clone(),
                size: file.size,
                sha256: data_encoding::HEXLOWER.encode(&file.sha256),
                rule: file.chunks.rule.clone(),
                chunks: file.chunks.count,
                size_held: file_held(node, file)?,
                root: file.root.map(ChunkHash::to_hex),
            })
        })
        .collect()
}

/// `lode tensors`.
pub(crate) fn tensors(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let found = resolve::version(node, &name.parse::<NameRev>()?)?;
    let layout = node
        .reads()
        .layout(resolve::document(node, found.id)?.doc.tree)?;
    Ok(Outcome::Tensors {
        version: found.id.to_hex(),
        tensors: tensor_rows(&layout),
    })
}

/// The tensors of a version or variant.
pub(crate) fn tensor_rows(layout: &Layout) -> Vec<TensorRow> {
    let rows = layout.files().iter().flat_map(|file| {
        file.tensors.iter().map(|tensor| TensorRow {
            name: tensor.name.clone(),
            file: file.path.clone(),
            dtype: tensor.dtype.to_string(),
            shape: tensor.shape.clone(),
            offset: tensor.range.start,
            size: tensor.range.len(),
        })
    });
    rows.collect()
}

/// Elements by type, the most first.
pub(crate) fn elements_by_dtype(layout: &Layout) -> Vec<(String, u64)> {
    let mut dtypes: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in layout.files().iter().flat_map(|file| &file.tensors) {
        *dtypes.entry(tensor.dtype.to_string()).or_default() +=
            tensor.shape.iter().product::<u64>();
    }
    let mut dtypes: Vec<(String, u64)> = dtypes.into_iter().collect();
    dtypes.sort_by_key(|(_, elements)| std::cmp::Reverse(*elements));
    dtypes
}

/// `lode path`.
pub(crate) fn path(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let name: FileName = name.parse()?;
    let found = resolve::version(node, &name.of)?;
    let tree = resolve::tree(node, found.id)?;
    let file = tree.file(&name.path).ok_or_else(|| {
        Failure::not_found(format!("the version has no file {:?}", name.path))
            .advise(format!("`lode ls {}` lists its files", name.of))
    })?;
    let reader = node.reads().file(file)?;
    let chunks: Vec<ChunkHash> = reader
        .chunks(ByteRange {
            start: 0,
            end: file.size,
        })
        .map(|chunk| chunk.hash)
        .collect();
    let place = node
        .store()
        .place_of_file(file.size, &chunks)?
        .ok_or_else(|| {
            Failure::not_found(format!(
                "no single file on disk holds {:?}: it lies in packs",
                name.path
            ))
            .advise(format!("`lode pull {} --to DIR` writes it out", name.of))
        })?;
    let path = place.path.to_str().ok_or_else(|| {
        Failure::failed(format!("the path {} is not UTF-8", place.path.display()))
    })?;
    Ok(Outcome::Path {
        path: path.to_owned(),
    })
}

/// `lode show`.
pub(crate) fn show(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let found = resolve::version(node, &name.parse::<NameRev>()?)?;
    let version = resolve::document(node, found.id)?;
    let tree = node.reads().tree(version.doc.tree)?;
    // A version of which only a part is here may lack the headers that say it.
    let layout = match node.reads().layout(version.doc.tree) {
        Err(error) if error.kind() == FailureKind::NoPeer => Arc::default(),
        layout => layout?,
    };
    let dtypes = elements_by_dtype(&layout);
    let files = file_rows(node, &tree)?;
    Ok(Outcome::Shown(Box::new(Shown {
        name: publisher::shown_name(node, &found.publisher, &found.model)?,
        version: found.id.to_hex(),
        tree: version.doc.tree.to_hex(),
        publisher: version.doc.publisher.map(PublisherId::to_hex),
        kind: version.doc.kind.as_str().to_owned(),
        parents: version.doc.parents.iter().map(|id| id.to_hex()).collect(),
        author: version.doc.author.clone(),
        time: version.doc.time,
        message: version.doc.message.clone(),
        refs: refs_of(node, &found.publisher, &found.model)?
            .remove(&found.id)
            .unwrap_or_default(),
        public: node.reads().is_public(found.publisher, &found.model)?,
        architecture: architecture(node, &tree),
        parameters: dtypes.iter().map(|(_, elements)| elements).sum(),
        dtypes,
        tensors: layout.len() as u64,
        size: tree.size(),
        size_held: files.iter().map(|file| file.size_held).sum(),
        size_own: size_own(node, found.id, &tree)?,
        collection: tree.collection().map(|made| made.hash().to_hex()),
        files,
        license: version.doc.links.license.clone(),
        base: version
            .doc
            .links
            .base
            .iter()
            .map(|id| id.to_hex())
            .collect(),
        signatures: signatures(node, &found.publisher, &found.model, found.id)?,
        pinned: node
            .store()
            .local_get(&format!("pin/{}", found.id))?
            .is_some(),
    })))
}

/// The branches and tags of a model, by the version that they name.
fn refs_of(
    node: &Node,
    publisher: &PublisherId,
    model: &str,
) -> Result<HashMap<VersionId, Vec<String>>, Failure> {
    let mut names: HashMap<VersionId, Vec<String>> = HashMap::new();
    for at in node.reads().refs(*publisher, model)? {
        let text = if at.fork.is_empty() {
            at.name.clone()
        } else {
            format!("{} (forked)", at.name)
        };
        for id in at.version.into_iter().chain(at.fork) {
            let names = names.entry(id).or_default();
            if !names.contains(&text) {
                names.push(text.clone());
            }
        }
    }
    Ok(names)
}

/// What the model says that it is: `config.json`, else GGUF metadata.
fn architecture(node: &Node, tree: &Tree) -> Option<String> {
    if let Some(file) = tree
        .file("config.json")
        .filter(|file| file.size <= CONFIG_BYTES_MAX)
    {
        let bytes = node
            .reads()
            .file(file)
            .ok()?
            .read_all(ByteRange {
                start: 0,
                end: file.size,
            })
            .ok()?;
        let config: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let named = config
            .get("architectures")
            .and_then(|list| list.get(0))
            .or(config.get("model_type"));
        if let Some(name) = named.and_then(|name| name.as_str()) {
            return Some(name.to_owned());
        }
    }
    let gguf = tree
        .files()
        .iter()
        .find(|file| file.path.to_ascii_lowercase().ends_with(".gguf"))?;
    node.reads()
        .header(gguf)
        .ok()??
        .metadata
        .architecture()
        .map(str::to_owned)
}

/// Bytes of held chunks that no other kept version has.
fn size_own(node: &Node, id: VersionId, tree: &Tree) -> Result<u64, Failure> {
    let mut own: HashMap<ChunkHash, u64> = HashMap::new();
    for_chunks(node, tree, |hash, length| {
        own.insert(hash, u64::from(length));
    })?;
    for other in resolve::kept(node)? {
        if other == id || own.is_empty() {
            continue;
        }
        let Ok(tree) = resolve::tree(node, other) else {
            continue;
        };
        for_chunks(node, &tree, |hash, _| {
            own.remove(&hash);
        })?;
    }
    let mut sum = 0;
    for (hash, length) in own {
        if node.store().holds(&hash)? {
            sum += length;
        }
    }
    Ok(sum)
}

/// Calls `visit` with each chunk of each file whose chunk list is held.
pub(crate) fn for_chunks(
    node: &Node,
    tree: &Tree,
    mut visit: impl FnMut(ChunkHash, u32),
) -> Result<(), Failure> {
    for file in tree.files() {
        let Ok(reader) = node.reads().file(file) else {
            continue;
        };
        for chunk in reader.chunks(ByteRange {
            start: 0,
            end: file.size,
        }) {
            visit(chunk.hash, chunk.length);
        }
    }
    Ok(())
}

/// The signatures of a version with a verdict each.
fn signatures(
    node: &Node,
    publisher: &PublisherId,
    model: &str,
    id: VersionId,
) -> Result<Vec<SignatureRow>, Failure> {
    let Some(signatures) = node.store().version_signatures(&id)? else {
        return Ok(Vec::new());
    };
    let log = node.store().identity(publisher)?;
    Ok(signatures
        .signatures()
        .iter()
        .map(|signature| {
            let verdict = if signatures.verify(signature.key).is_err() {
                "does not verify".to_owned()
            } else if log
                .as_ref()
                .is_some_and(|log| log.ever_authorised(signature.key, Operation::Push, model))
            {
                "valid".to_owned()
            } else {
                "verifies, by a key that may not sign for this publisher".to_owned()
            };
            SignatureRow {
                algorithm: signature.alg.clone(),
                signer: data_encoding::HEXLOWER.encode(signature.key.as_bytes()),
                verdict,
            }
        })
        .collect())
}

/// `lode log NAME[@REV]`: the version and its parents, newest first, each once.
pub(crate) fn log(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let name: NameRev = name.parse()?;
    let found = resolve::version(node, &name)?;
    let refs = refs_of(node, &found.publisher, &found.model)?;
    let mut moves = tag_moves(node, &found.publisher, &found.model)?;
    let mut rows = Vec::new();
    let mut seen = HashSet::new();
    let mut next = vec![found.id];
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Ok(version) = resolve::document(node, id) else {
            continue;
        };
        let tree = node.reads().tree(version.doc.tree);
        let (size, size_held) = match &tree {
            Ok(tree) => (tree.size(), held(node, tree)?),
            Err(_) => (0, 0),
        };
        rows.push(LogRow {
            version: id.to_hex(),
            time: version.doc.time,
            author: version.doc.author.clone(),
            message: version.doc.message.clone(),
            refs: refs.get(&id).cloned().unwrap_or_default(),
            moves: moves.remove(&id).unwrap_or_default(),
            size,
            size_held,
        });
        next.extend(version.doc.parents.iter().rev());
    }
    Ok(Outcome::Log { versions: rows })
}

/// For each version, the refs that left it.
fn tag_moves(
    node: &Node,
    publisher: &PublisherId,
    model: &str,
) -> Result<HashMap<VersionId, Vec<String>>, Failure> {
    let set = node.store().ref_set(publisher, model)?;
    let mut moves: HashMap<VersionId, Vec<String>> = HashMap::new();
    let names: Vec<String> = set.names().map(str::to_owned).collect();
    for full in names {
        let Ok(RefName::Tag(tag)) = RefName::parse(&full) else {
            continue;
        };
        for entry in set.history(&full).iter().filter(|entry| entry.moves()) {
            let text = match entry.record.version {
                Some(to) => format!("tag {tag} moved to {}", &to.to_hex()[..12]),
                None => format!("tag {tag} deleted"),
            };
            for from in &entry.from {
                moves.entry(*from).or_default().push(text.clone());
            }
        }
    }
    Ok(moves)
}
