//! Which blob a digest names: what manifests named a moment ago, or what is found by looking through the model.
//!
//! What is remembered holds no permission: the version that a blob belongs to is opened anew for whoever asks.

use lode_node::variants;
use lode_store::{PublisherId, VersionId, recent::Recent};

use super::{
    format::{Format, Text, Written, license},
    image::{At, Choice, Image, files_of, gguf_files},
    name::Repository,
    reference::Digest,
};
use crate::{
    answer::Problem,
    limits::{OCI_KNOWN_BYTES_MAX, OCI_MANIFESTS_SEARCHED_MAX, OCI_VERSIONS_SEARCHED_MAX},
    reader::{OpenModel, OpenVersion, Reader},
};

/// Blobs by model and digest.
#[derive(Debug)]
pub(super) struct Known(Recent<Key, Blob>);

type Key = (PublisherId, String, Digest);

/// A blob, and the version that it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) version: VersionId,
    pub(super) what: What,
}

/// What a blob is.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A file.
    File { size: u64, at: At },
    /// A text that was written for a manifest, or a manifest.
    Text(Text),
}

impl Default for Known {
    fn default() -> Self {
        Self(Recent::new(OCI_KNOWN_BYTES_MAX))
    }
}

/// What a digest names never changes.
const ALWAYS: u64 = 0;

impl Known {
    fn get(&self, model: &OpenModel, digest: Digest) -> Option<Blob> {
        self.0.get(&key(model, digest), ALWAYS)
    }

    fn put(&self, model: &OpenModel, digest: Digest, blob: Blob) {
        const KEY_BYTES: usize = 256;
        let bytes = match &blob.what {
            What::File { .. } => 0,
            What::Text(text) => text.bytes.len(),
        };
        self.0
            .put(key(model, digest), blob, KEY_BYTES + bytes, ALWAYS);
    }

    /// Writes the manifest of an image, and remembers what it names.
    pub(super) async fn write(
        &self,
        model: &OpenModel,
        image: &Image,
        format: Format,
    ) -> Result<Written, Problem> {
        let facts = match format.is_gguf() {
            true => image.facts().await?,
            false => None,
        };
        let written = format.write(image, facts.as_ref());
        let version = image.version.id();
        for text in written.texts.iter().chain([&written.manifest]) {
            let what = What::Text(text.clone());
            self.put(model, text.digest, Blob { version, what });
        }
        for file in image.files.iter().cloned().chain(license(image)) {
            let (size, at) = (file.size, file.at);
            let what = What::File { size, at };
            self.put(model, file.digest, Blob { version, what });
        }
        Ok(written)
    }
}

fn key(model: &OpenModel, digest: Digest) -> Key {
    (model.at().publisher, model.at().model.clone(), digest)
}

impl Repository {
    /// The blob with this digest, and the version that it belongs to, which the caller may read.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn find(
        &self,
        reader: &Reader,
        digest: Digest,
    ) -> Result<Option<(OpenVersion, What)>, Problem> {
        let (model, known) = (&self.model, &reader.registry().known);
        if let Some(blob) = known.get(model, digest)
            && let Ok(version) = model.version(blob.version, Vec::new()).await
        {
            return Ok(Some((version, blob.what)));
        }
        let versions = self.versions().await?;
        for version in &versions {
            let files = version.tree().files();
            let found = files
                .iter()
                .position(|file| file.sha256 == *digest.as_bytes());
            if let Some(at) = found {
                let what = What::File {
                    size: files[at].size,
                    at: At::Stored(at),
                };
                return Ok(Some((self.anew(version).await?, what)));
            }
        }
        for version in versions.iter().take(OCI_MANIFESTS_SEARCHED_MAX) {
            self.write_all(reader, version).await?;
            if let Some(blob) = known.get(model, digest) {
                return Ok(Some((self.anew(version).await?, blob.what)));
            }
        }
        Ok(None)
    }

    async fn anew(&self, version: &OpenVersion) -> Result<OpenVersion, Problem> {
        self.model.version(version.id(), Vec::new()).await
    }

    /// Versions of the model: those that refs name, of which the first are asked for among peers, then what came before them as far
    /// as that is here.
    async fn versions(&self) -> Result<Vec<OpenVersion>, Problem> {
        let mut ids: Vec<VersionId> = Vec::new();
        let mut opened = Vec::new();
        let refs = self.model.refs().await?;
        let named = refs.iter().filter_map(|at| at.version);
        for (at, id) in named.take(OCI_VERSIONS_SEARCHED_MAX).enumerate() {
            if ids.contains(&id) {
                continue;
            }
            if at < OCI_MANIFESTS_SEARCHED_MAX {
                self.model.complete(Some(id)).await;
            }
            if let Ok(version) = self.model.version(id, Vec::new()).await {
                ids.push(id);
                opened.push(version);
            }
        }
        for at in 0..opened.len() {
            for id in opened[at].history().await? {
                if opened.len() >= OCI_VERSIONS_SEARCHED_MAX {
                    return Ok(opened);
                }
                if !ids.contains(&id)
                    && let Ok(version) = self.model.version(id, Vec::new()).await
                {
                    ids.push(id);
                    opened.push(version);
                }
            }
        }
        Ok(opened)
    }

    /// Writes all manifests of a version whose digests are known, so that what they name is remembered.
    async fn write_all(&self, reader: &Reader, version: &OpenVersion) -> Result<(), Problem> {
        let model = &self.model;
        let known = &reader.registry().known;
        let mut choices = vec![Choice::All];
        choices.extend(
            gguf_files(version.tree())
                .iter()
                .map(|(at, _)| Choice::Gguf(*at)),
        );
        let opener = version.opener();
        for recipe in variants::recipes(version.tree()) {
            let Some(kept) = opener
                .claimed(recipe)
                .await?
                .and_then(|claimed| claimed.tree)
            else {
                continue;
            };
            // Else it would be made, and nobody asked for it.
            if let Ok(at) = opener.variant(recipe).await
                && files_of(&at, Some(&kept)).is_some()
            {
                choices.push(Choice::Variant(recipe));
            }
        }
        for choice in choices {
            let version = self.anew(version).await?;
            let image = match Image::of(reader, model, version, choice).await {
                Ok(image) => image,
                Err(problem) => {
                    tracing::debug!(?problem, "a manifest is not looked through");
                    continue;
                }
            };
            for format in [Format::ModelPack, Format::Docker, Format::Ollama] {
                if format.is_gguf() && image.gguf().is_none() {
                    continue;
                }
                if let Err(problem) = known.write(model, &image, format).await {
                    tracing::debug!(?problem, "a manifest is not looked through");
                }
            }
        }
        Ok(())
    }
}
