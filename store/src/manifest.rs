//! The canonical document of a version: what was published, by whom, made from what.
//!
//! Invariant: a [`Version`] that was decoded keeps its limits and names a possible model. Its id is
//! the BLAKE3 of the bytes as received, which are kept ([`VersionBytes`]): keys that this version of
//! Lode does not know are in them. Bytes come from peers and from the store.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::document::{
    DocumentError, FORMAT, MapWriter, Reader, encode_array, encode_bytes, encode_text, require,
};
use crate::limits::{
    ORIGIN_MODEL_BYTES_MAX, VERSION_ANNOTATIONS_MAX, VERSION_BYTES_MAX, VERSION_LINKS_MAX,
    VERSION_NAME_BYTES_MAX, VERSION_PARENTS_MAX, VERSION_TEXT_BYTES_MAX,
};
use crate::name::{NameError, check_model, check_origin_model};
use crate::{ErrorKind, PublisherId, TreeId, VersionId};

/// What a version is a version of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A model.
    Model,
    /// A collection of vectors.
    Collection,
    /// A data set.
    Dataset,
}

impl Kind {
    /// How documents spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Collection => "collection",
            Self::Dataset => "dataset",
        }
    }
}

/// What a version was made from or with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// The versions that it was made from (fine-tuned, merged).
    pub base: Vec<VersionId>,
    /// The recipe that made it from its base: canonical bytes.
    pub recipe: Option<Bytes>,
    /// What made a collection's vectors: the canonical DAG-CBOR of a map.
    pub embedder: Option<Bytes>,
    /// Versions that belong to it and are fetched with it.
    pub bundled: Vec<VersionId>,
    /// Its licence.
    pub license: Option<String>,
    /// Whatever else its author wants to say.
    pub annotations: BTreeMap<String, String>,
}

/// One immutable state of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// What it is a version of.
    pub kind: Kind,
    /// Who publishes it; none for a version that was taken over from another hub.
    pub publisher: Option<PublisherId>,
    /// The model's name.
    pub model: String,
    /// Its files.
    pub tree: TreeId,
    /// The versions that it follows: none, one, or the merged ones.
    pub parents: Vec<VersionId>,
    /// Who made it, as free text.
    pub author: Option<String>,
    /// When, in seconds since 1970 UTC, as its author says.
    pub time: u64,
    /// What changed.
    pub message: String,
    /// What it was made from or with.
    pub links: Links,
}

/// A version with its id and the bytes that the id names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionBytes {
    /// The BLAKE3 of the bytes.
    pub id: VersionId,
    /// The document as received, unknown keys included.
    pub bytes: Bytes,
    /// What this version of Lode understands of it.
    pub doc: Version,
}

/// Why bytes are not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The bytes are not a document of this kind.
    #[error("the version cannot be read: {0}")]
    Document(#[from] DocumentError),
    /// It is a version of something that is not known.
    #[error("the version is of kind {found:?}, which this Lode does not know: update Lode")]
    UnknownKind {
        /// What it says.
        found: String,
    },
    /// The model's name is not one.
    #[error("the version is refused: {0}")]
    Model(#[from] NameError),
    /// The bytes are not those of the id that was asked for.
    #[error(
        "the bytes hash to {found}, the version asked for is {expected}: fetch it from another peer"
    )]
    WrongId {
        /// What was asked for.
        expected: VersionId,
        /// What came.
        found: VersionId,
    },
}

impl VersionError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Document(err) => err.kind(),
            Self::UnknownKind { .. } | Self::Model(_) => ErrorKind::Refused,
            Self::WrongId { .. } => ErrorKind::Corrupt,
        }
    }
}

impl Version {
    /// The document's bytes.
    ///
    /// # Errors
    /// When a field is over its limit or the model's name is not one.
    pub fn encode(&self) -> Result<Bytes, VersionError> {
        self.check_model()?;
        let ids = |out: &mut Vec<u8>, ids: &[VersionId]| {
            encode_array(out, ids.iter(), |out, id| encode_bytes(out, id.as_bytes()));
        };
        let links = |out: &mut Vec<u8>| {
            let Links {
                base,
                recipe,
                embedder,
                bundled,
                license,
                annotations,
            } = &self.links;
            let mut map = MapWriter::new();
            if !base.is_empty() {
                map = map.with("base", |out| ids(out, base));
            }
            if let Some(recipe) = recipe {
                map = map.bytes("recipe", recipe);
            }
            if let Some(embedder) = embedder {
                map = map.with("embedder", |out| out.extend(embedder));
            }
            if !bundled.is_empty() {
                map = map.with("bundled", |out| ids(out, bundled));
            }
            if let Some(license) = license {
                map = map.text("license", license);
            }
            if !annotations.is_empty() {
                map = map.with("annotations", |out| {
                    let mut map = MapWriter::new();
                    for (key, value) in annotations {
                        map = map.with(key, |out| encode_text(out, value));
                    }
                    map.finish_into(out);
                });
            }
            map.finish_into(out);
        };
        let bytes: Bytes = MapWriter::new()
            .u64("lode", FORMAT)
            .text("kind", self.kind.as_str())
            .bytes_or_null(
                "publisher",
                self.publisher.as_ref().map(|id| id.as_bytes().as_slice()),
            )
            .text("model", &self.model)
            .bytes("tree", self.tree.as_bytes())
            .with("parents", |out| ids(out, &self.parents))
            .text_or_null("author", self.author.as_deref())
            .u64("time", self.time)
            .text("message", &self.message)
            .with("links", links)
            .finish()
            .into();
        // what a reader refuses must not be signed
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Reads a version.
    ///
    /// # Errors
    /// When the bytes are malformed, over a limit, or of a kind that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, VersionError> {
        let (mut format, mut kind, mut publisher, mut model) = (None, None, None, None);
        let (mut tree, mut parents, mut author, mut time) = (None, None, None, None);
        let (mut message, mut links) = (None, None);
        let mut reader = Reader::new(bytes, "version", VERSION_BYTES_MAX)?;
        reader.map::<DocumentError>(|key, r| {
            match key {
                "lode" => format = Some(r.u64()?),
                "kind" => kind = Some(r.text(32)?),
                "publisher" => publisher = Some(r.optional(Reader::array_of)?),
                "model" => model = Some(r.text(ORIGIN_MODEL_BYTES_MAX)?),
                "tree" => tree = Some(r.array_of()?),
                "parents" => parents = Some(decode_ids(r, VERSION_PARENTS_MAX)?),
                "author" => author = Some(r.optional(|r| r.text(VERSION_NAME_BYTES_MAX))?),
                "time" => time = Some(r.u64()?),
                "message" => message = Some(r.text(VERSION_TEXT_BYTES_MAX)?),
                "links" => links = Some(Links::decode(r)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        reader.end()?;
        let format = require(format, "lode")?;
        if format != FORMAT {
            let newer = DocumentError::NewerFormat {
                what: "version",
                found: format,
                known: FORMAT,
            };
            return Err(newer.into());
        }
        let kind = match require(kind, "kind")? {
            "model" => Kind::Model,
            "collection" => Kind::Collection,
            "dataset" => Kind::Dataset,
            found => {
                return Err(VersionError::UnknownKind {
                    found: found.to_owned(),
                });
            }
        };
        let version = Self {
            kind,
            publisher: require(publisher, "publisher")?.map(PublisherId::from_bytes),
            model: require(model, "model")?.to_owned(),
            tree: TreeId::from_bytes(require(tree, "tree")?),
            parents: require(parents, "parents")?,
            author: require(author, "author")?.map(str::to_owned),
            time: require(time, "time")?,
            message: require(message, "message")?.to_owned(),
            links: require(links, "links")?,
        };
        version.check_model()?;
        Ok(version)
    }

    fn check_model(&self) -> Result<(), NameError> {
        match self.publisher {
            Some(_) => check_model(&self.model),
            None => check_origin_model(&self.model),
        }
    }
}

impl VersionBytes {
    /// Encodes `doc` and names it.
    ///
    /// # Errors
    /// Those of [`Version::encode`].
    pub fn new(doc: Version) -> Result<Self, VersionError> {
        let bytes = doc.encode()?;
        Ok(Self {
            id: VersionId::of(&bytes),
            bytes,
            doc,
        })
    }

    /// Reads a version and names it.
    ///
    /// # Errors
    /// Those of [`Version::decode`].
    pub fn decode(bytes: Bytes) -> Result<Self, VersionError> {
        let doc = Version::decode(&bytes)?;
        Ok(Self {
            id: VersionId::of(&bytes),
            bytes,
            doc,
        })
    }

    /// Reads the version that was asked for by `id`.
    ///
    /// # Errors
    /// [`VersionError::WrongId`] when it is another one, and those of [`Version::decode`].
    pub fn decode_as(id: VersionId, bytes: Bytes) -> Result<Self, VersionError> {
        let found = VersionId::of(&bytes);
        if found != id {
            return Err(VersionError::WrongId {
                expected: id,
                found,
            });
        }
        Self::decode(bytes)
    }
}

impl Links {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DocumentError> {
        let mut links = Self::default();
        reader.map::<DocumentError>(|key, r| {
            match key {
                "base" => links.base = non_empty("base", decode_ids(r, VERSION_LINKS_MAX)?)?,
                "recipe" => {
                    links.recipe = Some(Bytes::copy_from_slice(r.bytes(VERSION_BYTES_MAX)?))
                }
                "embedder" => links.embedder = Some(decode_embedder(r)?),
                "bundled" => {
                    links.bundled = non_empty("bundled", decode_ids(r, VERSION_LINKS_MAX)?)?;
                }
                "license" => links.license = Some(r.text(VERSION_NAME_BYTES_MAX)?.to_owned()),
                "annotations" => links.annotations = decode_annotations(r)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(links)
    }
}

fn decode_embedder(reader: &mut Reader<'_>) -> Result<Bytes, DocumentError> {
    let raw = reader.raw()?;
    let mut again = Reader::new(raw, "embedder", VERSION_BYTES_MAX)?;
    again.map::<DocumentError>(|_, r| r.raw().map(|_| true))?;
    Ok(Bytes::copy_from_slice(raw))
}

fn decode_annotations(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, DocumentError> {
    let mut annotations = BTreeMap::new();
    reader.map::<DocumentError>(|key, r| {
        if annotations.len() >= VERSION_ANNOTATIONS_MAX {
            let why = format!("more than {VERSION_ANNOTATIONS_MAX} of them");
            return Err(DocumentError::invalid("annotations", why));
        }
        annotations.insert(key.to_owned(), r.text(VERSION_TEXT_BYTES_MAX)?.to_owned());
        Ok(true)
    })?;
    if annotations.is_empty() {
        return Err(DocumentError::invalid(
            "annotations",
            "leave it out when there is none",
        ));
    }
    Ok(annotations)
}

/// Reads distinct ids, in their order.
fn decode_ids(reader: &mut Reader<'_>, max: usize) -> Result<Vec<VersionId>, DocumentError> {
    let mut ids = Vec::new();
    let mut seen = std::collections::HashSet::new();
    reader.array::<DocumentError>(max, |r| {
        let id = VersionId::from_bytes(r.array_of()?);
        if !seen.insert(id) {
            return Err(DocumentError::invalid(
                "parents",
                format!("{id} is there twice"),
            ));
        }
        ids.push(id);
        Ok(())
    })?;
    Ok(ids)
}

fn non_empty(key: &'static str, ids: Vec<VersionId>) -> Result<Vec<VersionId>, DocumentError> {
    if ids.is_empty() {
        return Err(DocumentError::invalid(
            key,
            "leave it out when there is none",
        ));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests;
