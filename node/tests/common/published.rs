//! A home with models in it, made with the store's own parts.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use lode_store::{
    PublisherId, Store, VersionId,
    cut::{CDC_1, Cuts, cdc_cuts, tensor_cuts},
    identity::{self, Delegation, IdentityLog, Operation},
    log::Record,
    manifest::{Kind, Links, Version, VersionBytes},
    outboard,
    sidecar::ChunkEntry,
    signature::SigningKey,
    store::Options,
    tree::{ChunkList, File, Mode, Tree},
};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// How the bytes of a file are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// In a pack.
    Pack,
    /// In a container of its own.
    Whole,
    /// In a file of the user's.
    Outside,
    /// Not at all.
    Nowhere,
}

/// A home whose owner publishes as `acme`.
pub(crate) struct Published {
    pub(crate) store: Store,
    pub(crate) publisher: PublisherId,
    pub(crate) folder: PathBuf,
    device: SigningKey,
    identity: IdentityLog,
    time: u64,
}

impl Published {
    pub(crate) fn new(folder: &Path) -> Self {
        let store = Store::open(&folder.join("home"), Options::default()).unwrap();
        let (device, next) = (SigningKey::generate(), SigningKey::generate());
        let created = identity::create(&device, &next.public());
        let identity = IdentityLog::start(created.clone()).unwrap();
        store.apply_identity(created).unwrap();
        let publisher = identity.publisher();
        let alias = Record::local_set("alias/acme", publisher.as_bytes()).unwrap();
        store.append(&[alias]).unwrap();
        let folder = folder.to_owned();
        Self {
            store,
            publisher,
            folder,
            device,
            identity,
            time: 1000,
        }
    }

    /// Makes a version of these files and points the refs to it.
    pub(crate) fn push(
        &mut self,
        model: &str,
        files: &[(&str, Held, &[u8])],
        parents: &[VersionId],
        refs: &[&str],
    ) -> VersionId {
        self.push_linked(model, files, parents, refs, Links::default())
    }

    /// The same, of a version that says what it was made from.
    pub(crate) fn push_linked(
        &mut self,
        model: &str,
        files: &[(&str, Held, &[u8])],
        parents: &[VersionId],
        refs: &[&str],
        links: Links,
    ) -> VersionId {
        let files = files
            .iter()
            .map(|(path, held, bytes)| self.file(path, *held, bytes))
            .collect();
        let (tree, tree_bytes) = Tree::new(files).unwrap().encode_with_id();
        self.time += 1;
        let version = VersionBytes::new(Version {
            kind: Kind::Model,
            publisher: Some(self.publisher),
            model: model.to_owned(),
            tree,
            parents: parents.to_vec(),
            author: Some("tester".to_owned()),
            time: self.time,
            message: "a message".to_owned(),
            links,
        })
        .unwrap();
        self.store
            .put_documents(&[tree_bytes, version.bytes.clone()])
            .unwrap();
        for name in refs {
            self.point(model, name, version.id);
        }
        version.id
    }

    /// Points a ref (`heads/main`) to a version.
    pub(crate) fn point(&mut self, model: &str, name: &str, version: VersionId) {
        let set = self.store.ref_set(&self.publisher, model).unwrap();
        self.time += 1;
        let (signers, at) = ([&self.device], Some(version));
        let record = set
            .make(&self.identity, &signers, name, at, self.time, self.time)
            .unwrap();
        self.store.apply_ref(record).unwrap();
    }

    /// Points a ref to two versions at once, by two signers who do not know of each other.
    pub(crate) fn fork(&mut self, model: &str, name: &str, versions: [VersionId; 2]) {
        let delegate = SigningKey::generate();
        let given = Delegation::new(delegate.public(), &[Operation::Push], &["*"]);
        let record = self.identity.delegate(given, &[&self.device]).unwrap();
        self.identity.apply(record.clone()).unwrap();
        self.store.apply_identity(record).unwrap();
        let set = self.store.ref_set(&self.publisher, model).unwrap();
        for (signer, version) in [&self.device, &delegate].into_iter().zip(versions) {
            self.time += 1;
            let (after, at) = (self.time, Some(version));
            let record = set
                .make(&self.identity, &[signer], name, at, after, self.time)
                .unwrap();
            self.store.apply_ref(record).unwrap();
        }
    }

    /// The path of an outside file.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        self.folder.join("outside").join(path)
    }

    fn file(&self, path: &str, held: Held, bytes: &[u8]) -> File {
        let link = path.starts_with("link");
        let cuts = match lode_tensors::parse(bytes, bytes.len() as u64) {
            Ok(header) => tensor_cuts(&header, bytes.len() as u64),
            Err(_) if link => Cuts {
                rule: CDC_1,
                lengths: vec![bytes.len() as u32],
            },
            Err(_) => cdc_cuts(bytes),
        };
        let (mut list, mut table, mut outboards) =
            (ChunkList::default(), Vec::new(), Vec::<u8>::new());
        let mut pack = self.store.pack_writer();
        let mut at = 0;
        for length in &cuts.lengths {
            let chunk = &bytes[at..at + *length as usize];
            let (hash, pairs) = outboard::compute(chunk);
            if held == Held::Pack {
                pack.add(hash, chunk, &pairs).unwrap();
            }
            let outboard = (!pairs.is_empty()).then_some(outboards.len() as u64);
            table.push(ChunkEntry::plain(hash, at as u64, *length, outboard));
            outboards.extend(pairs);
            list.hashes.push(hash);
            list.lengths.push(*length);
            at += *length as usize;
        }
        match held {
            Held::Pack => drop(pack.seal().unwrap()),
            Held::Whole => {
                let whole = self.store.whole_writer(bytes.len() as u64).unwrap();
                whole.write_at(0, bytes).unwrap();
                whole.write_outboard_at(0, &outboards).unwrap();
                whole.seal(&table, outboards.len() as u64).unwrap();
            }
            Held::Outside => {
                let path = self.outside(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut file = std::fs::File::create(&path).unwrap();
                file.write_all(bytes).unwrap();
                drop(file);
                let pins = self.store.pins(&path).unwrap();
                self.store
                    .add_outside(&path, pins, &table, &outboards)
                    .unwrap();
            }
            Held::Nowhere => {}
        }
        self.store
            .put_documents(&[list.seq_bytes(), list.length_bytes()])
            .unwrap();
        let git = Sha1::new()
            .chain_update(format!("blob {}\0", bytes.len()))
            .chain_update(bytes)
            .finalize();
        File {
            path: path.to_owned(),
            mode: if link { Mode::Link } else { Mode::File },
            size: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
            git: (bytes.len() <= 10 << 20).then_some(git.into()),
            chunks: list.reference(cuts.rule),
            root: None,
        }
    }
}

/// Bytes that look like nothing, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A safetensors file of F32 tensors with these names and shapes, and noise for values.
pub(crate) fn safetensors(tensors: &[(&str, &[u64])]) -> Vec<u8> {
    let (mut header, mut offset) = (serde_json::Map::new(), 0u64);
    for (name, shape) in tensors {
        let end = offset + shape.iter().product::<u64>() * 4;
        let row =
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] });
        header.insert((*name).to_owned(), row);
        offset = end;
    }
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes.extend(noise(offset, offset as usize));
    bytes
}

/// A quick source of small numbers; the seed is printed by whoever fails.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}
