//! The document of an origin version (docs/format/origin.md): a pure function of host, repository, commit and files.

use std::collections::BTreeMap;

use lode_store::{
    PublisherId,
    limits::VERSION_TEXT_BYTES_MAX,
    manifest::{Kind, Links, Version},
    name::{NameError, check_origin_model},
    tree::{File, Mode, Tree, TreeError},
};

use super::listing::{CommitId, Digest, Listing};

/// The context in which the id that stands for a publisher is derived.
const PUBLISHER_CONTEXT: &str = "lode 2026-11-27 publisher id of an organisation of another hub";

/// The annotation that holds the commit id.
const COMMIT: &str = "origin.commit";
/// The annotation that holds a bit for each file, in the order of the tree: whether it is of the LFS class.
const CLASSES: &str = "origin.lfs";
/// The annotation of a version that holds one file of a commit, whichever commits have it.
const ONE_FILE: &str = "origin.file";

/// A repository of another hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    namespace: String,
    organisation: String,
    name: String,
}

impl Repository {
    /// The repository `organisation/name` of the hub that is called `namespace` in names of versions.
    ///
    /// # Errors
    /// The names are none, or too long together.
    pub fn new(namespace: &str, organisation: &str, name: &str) -> Result<Self, NameError> {
        lode_store::name::check_model(organisation)?;
        lode_store::name::check_model(name)?;
        let repository = Self {
            namespace: namespace.to_owned(),
            organisation: organisation.to_owned(),
            name: name.to_owned(),
        };
        check_origin_model(&repository.model())?;
        Ok(repository)
    }

    /// The hub.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The organisation.
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's name in documents: host, organisation and name.
    pub fn model(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.organisation, self.name)
    }

    /// What stands for a publisher: no keys belong to it.
    pub fn publisher(&self) -> PublisherId {
        publisher(&self.namespace, &self.organisation)
    }

    /// The document of a commit whose files are all here, sorted as in `listing`, and their tree.
    ///
    /// # Errors
    /// The files make no tree.
    pub fn version(
        &self,
        listing: &Listing,
        files: Vec<File>,
    ) -> Result<(Version, Tree), TreeError> {
        let tree = Tree::new(files)?;
        let mut bits = vec![0_u8; listing.files.len().div_ceil(8)];
        for (at, file) in listing.files.iter().enumerate() {
            if matches!(file.digest, Digest::Sha256(_)) {
                bits[at / 8] |= 1 << (at % 8);
            }
        }
        let annotations = BTreeMap::from([
            (COMMIT.to_owned(), listing.commit.to_string()),
            (CLASSES.to_owned(), data_encoding::HEXLOWER.encode(&bits)),
        ]);
        let (id, _) = tree.encode_with_id();
        Ok((self.document(id, listing.time, annotations), tree))
    }

    /// The document of one file by itself, which is kept until the rest of its commit is here.
    pub(super) fn one_file(
        &self,
        file: File,
        digest: Digest,
    ) -> Result<(Version, Tree), TreeError> {
        let path = digest.to_string();
        let tree = Tree::new(vec![File {
            path: path.clone(),
            mode: Mode::File,
            ..file
        }])?;
        let (id, _) = tree.encode_with_id();
        let annotations = BTreeMap::from([(ONE_FILE.to_owned(), path)]);
        Ok((self.document(id, 0, annotations), tree))
    }

    fn document(
        &self,
        tree: lode_store::TreeId,
        time: u64,
        annotations: BTreeMap<String, String>,
    ) -> Version {
        Version {
            kind: Kind::Model,
            publisher: None,
            model: self.model(),
            tree,
            parents: Vec::new(),
            author: None,
            time,
            message: String::new(),
            links: Links {
                annotations,
                ..Links::default()
            },
        }
    }
}

/// Files of a commit whose version can say the class of each.
pub(super) const FILES_MAX: usize = VERSION_TEXT_BYTES_MAX / 2 * 8;

fn publisher(namespace: &str, organisation: &str) -> PublisherId {
    let mut hasher = blake3::Hasher::new_derive_key(PUBLISHER_CONTEXT);
    hasher
        .update(namespace.as_bytes())
        .update(b"/")
        .update(organisation.as_bytes());
    PublisherId::from_bytes(*hasher.finalize().as_bytes())
}

/// Whose version this is, and of which model: its publisher's, or what stands for one of another hub.
pub(crate) fn whose(document: &Version) -> Option<(PublisherId, &str)> {
    if let Some(publisher) = document.publisher {
        return Some((publisher, &document.model));
    }
    let (rest, name) = document.model.rsplit_once('/')?;
    let (namespace, organisation) = rest.rsplit_once('/')?;
    Some((publisher(namespace, organisation), name))
}

/// The commit that an origin version is.
pub fn commit(document: &Version) -> Option<CommitId> {
    if document.publisher.is_some() {
        return None;
    }
    CommitId::parse(document.links.annotations.get(COMMIT)?)
}

/// Whether each of the `count` files of an origin version's tree is of the LFS class there; nothing when the version
/// is no origin's.
pub fn classes(document: &Version, count: usize) -> Option<Vec<bool>> {
    commit(document)?;
    let bits = document.links.annotations.get(CLASSES)?;
    let bits = data_encoding::HEXLOWER.decode(bits.as_bytes()).ok()?;
    let bit = |at: usize| bits.get(at / 8).map(|byte| byte >> (at % 8) & 1 == 1);
    (0..count).map(bit).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use lode_store::{ChunkHash, VersionId, tree::ChunkListRef};

    use super::*;
    use crate::origin::listing::FileAt;

    /// The version's id, what stands for its publisher, and the document, in hex digits.
    const GOLDEN: &str = "ab35a262813a7586cf704d1449e212abe69d9b909c77eca851a5b7be4fb0a396\n\
         40ad4f650abeb1ddeeea73e761b182ea89cb92d22004431166d0a8a85f261b0a\n\
         aa646b696e64656d6f64656c646c6f6465016474696d651a6b037ef8647472656558202791d25ece04fd1c636df54bdc\
         25dc776069bce6da5ba83b28450df00173ff9d656c696e6b73a16b616e6e6f746174696f6e73a26a6f726967696e2e6c\
         66736230326d6f726967696e2e636f6d6d69747828303132333435363738396162636465663031323334353637383961\
         62636465663031323334353637656d6f64656c78186875622e6578616d706c652f41636d652f54696e792d3142666175\
         74686f72f6676d6573736167656067706172656e747380697075626c6973686572f6";

    fn file(path: &str, size: u64) -> File {
        File {
            path: path.to_owned(),
            mode: Mode::File,
            size,
            sha256: [size as u8; 32],
            git: (size <= lode_store::limits::GIT_HASH_FILE_BYTES_MAX).then_some([7; 20]),
            chunks: ChunkListRef {
                rule: "cdc/1".to_owned(),
                count: size.div_ceil(16 << 20),
                seq: ChunkHash::of(b"seq"),
                lengths: ChunkHash::of(b"lengths"),
            },
            root: None,
        }
    }

    fn example() -> (Repository, Listing, Vec<File>) {
        let repository = Repository::new("hub.example", "Acme", "Tiny-1B").unwrap();
        let files = vec![file("README.md", 5), file("model.safetensors", 20 << 20)];
        let at = |file: &File, digest| FileAt {
            path: file.path.clone(),
            size: file.size,
            digest,
        };
        let listed = vec![
            at(&files[0], Digest::Git([7; 20])),
            at(&files[1], Digest::Sha256(files[1].sha256)),
        ];
        let commit = CommitId::parse("0123456789abcdef0123456789abcdef01234567").unwrap();
        let listing = Listing::new(commit, 1_795_391_224, listed).unwrap();
        (repository, listing, files)
    }

    #[test]
    fn an_origin_version_has_the_bytes_of_the_format_page() {
        let (repository, listing, files) = example();
        let (version, _) = repository.version(&listing, files).unwrap();
        let bytes = version.encode().unwrap();
        let found = format!(
            "{}\n{}\n{}",
            VersionId::of(&bytes).to_hex(),
            repository.publisher().to_hex(),
            data_encoding::HEXLOWER.encode(&bytes)
        );
        assert_eq!(found, GOLDEN);
    }

    #[test]
    fn an_origin_version_says_whose_it_is_which_commit_and_which_class() {
        let (repository, listing, files) = example();
        let (version, _) = repository.version(&listing, files).unwrap();
        assert_eq!(whose(&version), Some((repository.publisher(), "Tiny-1B")));
        assert_eq!(commit(&version), Some(listing.commit));
        assert_eq!(classes(&version, 2), Some(vec![false, true]));
        assert_eq!(classes(&version, 9), None, "more files than it speaks of");
        let signed = Version {
            publisher: Some(PublisherId::from_bytes([1; 32])),
            model: "m".to_owned(),
            ..version
        };
        assert_eq!((commit(&signed), classes(&signed, 2)), (None, None));
        assert_eq!(
            whose(&signed),
            Some((PublisherId::from_bytes([1; 32]), "m"))
        );
    }

    #[test]
    fn every_part_of_an_origin_changes_its_version() {
        let (repository, listing, files) = example();
        let id = |repository: &Repository, listing: &Listing, files: Vec<File>| {
            let (version, _) = repository.version(listing, files).unwrap();
            VersionId::of(&version.encode().unwrap())
        };
        let same = id(&repository, &listing, files.clone());
        assert_eq!(same, id(&repository, &listing, files.clone()));
        for (host, organisation, name) in [
            ("hub.other", "Acme", "Tiny-1B"),
            ("hub.example", "acme", "Tiny-1B"),
            ("hub.example", "Acme", "Tiny"),
        ] {
            let other = Repository::new(host, organisation, name).unwrap();
            assert_ne!(same, id(&other, &listing, files.clone()));
        }
        let mut other = listing.clone();
        other.commit = CommitId::parse(&"a".repeat(40)).unwrap();
        assert_ne!(same, id(&repository, &other, files.clone()));
        let mut other = files.clone();
        other[0].sha256 = [9; 32];
        assert_ne!(same, id(&repository, &listing, other));
    }

    #[test]
    fn what_is_uploaded_is_no_origin() {
        let (repository, listing, files) = example();
        let (mut version, _) = repository.version(&listing, files).unwrap();
        version.model = "upload/0123".to_owned();
        assert_eq!(whose(&version), None);
    }
}
