//! Models of another hub for whoever reads here: what is said there of a commit, and its bytes as they come.
//!
//! Before all files of a commit are here, no version is; what clients are told follows from the hub's list alone
//! then, and bytes come unchecked, marked `Lode-Verified: pending`. Nobody but the owner, or a token for the
//! model, makes this node ask a hub for one that it does not know yet.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use lode_node::{
    command::{Failure, FailureKind},
    origin::{Origin, OriginReader, Origins, Repository, listing::Digest},
    read::ModelAt,
};
use lode_store::{
    ChunkHash,
    limits::GIT_HASH_FILE_BYTES_MAX,
    manifest::VersionBytes,
    tree::{ChunkListRef, File, Mode},
};
use lode_tensors::ByteRange;

use crate::{
    answer::Problem,
    body::{Pending, Source},
    dialect::{REPO_NOT_FOUND, REVISION_NOT_FOUND},
    limits::UPSTREAM_FIRST_WAIT,
    reader::{OpenModel, OpenVersion, Reader, absent_model, absent_version, blocking},
};

/// Whether bytes were checked before they were sent: `pending` when they were not.
pub(crate) const VERIFIED: HeaderName = HeaderName::from_static("lode-verified");
pub(crate) const PENDING: HeaderValue = HeaderValue::from_static("pending");

/// Bytes of the longest chunk: a list of chunks that is not known yet is taken to have as few as can be.
const CHUNK_BYTES_MAX: u64 = lode_store::limits::CHUNK_BYTES_MAX;

impl Reader {
    /// The model of the hub that this node was told of, if the caller may have it asked for.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn model_upstream(
        &self,
        organisation: &str,
        name: &str,
    ) -> Result<Option<(OpenModel, Repository)>, Problem> {
        let coordinates = |origins: &Origins| origins.coordinates(organisation, name);
        let Some(repository) = self.origins().and_then(coordinates) else {
            return Ok(None);
        };
        let (this, known) = (self.clone(), repository.clone());
        let model = blocking(move || {
            let at = ModelAt {
                alias: Some(known.organisation().to_owned()),
                publisher: known.publisher(),
                model: known.name().to_owned(),
            };
            this.admit(at, None)
        });
        Ok(model.await?.map(|model| (model, repository)))
    }

    /// Whether the hub has the model.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) async fn is_upstream(&self, repository: &Repository) -> Result<bool, Problem> {
        let Some(origins) = self
            .origins()
            .filter(|origins| origins.upstream().is_some())
        else {
            return Ok(false);
        };
        match origins.look(repository, "main").await {
            Ok(_) => Ok(true),
            Err(failure) if is_absent(&failure) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The version that `rev` names of a model of the hub, or what is known of it before it is here; and how the
    /// hub writes the model's name.
    ///
    /// # Errors
    /// 404 when there is none, and 503 when the hub cannot be asked and it is not here.
    pub(crate) async fn version_upstream(
        &self,
        model: &OpenModel,
        repository: &Repository,
        rev: &str,
    ) -> Result<(OpenVersion, Repository), Problem> {
        if let Some(here) = self.origin_here(model, rev, true).await? {
            return Ok((here, repository.clone()));
        }
        let absent = || absent_version(rev);
        let origins = self
            .origins()
            .filter(|origins| origins.upstream().is_some());
        let Some(origins) = origins else {
            let here = self.origin_here(model, rev, false).await?;
            return Ok((here.ok_or_else(absent)?, repository.clone()));
        };
        let (organisation, name) = (repository.organisation(), repository.name());
        let origin = match origins.open(None, organisation, name, rev).await {
            Ok(origin) => origin,
            Err(failure) if is_absent(&failure) => {
                return Err(match rev != "main" && self.is_upstream(repository).await? {
                    true => absent().code(REVISION_NOT_FOUND),
                    false => absent_model(self.caller(), organisation, name).code(REPO_NOT_FOUND),
                });
            }
            // What was there when the hub could last be asked is better than nothing.
            Err(failure) => match self.origin_here(model, rev, false).await? {
                Some(here) => return Ok((here, repository.clone())),
                None => return Err(failure.into()),
            },
        };
        // Only now it is known whether everyone may read it.
        let written = origin.repository().clone();
        let admitted = self
            .model_upstream(written.organisation(), written.name())
            .await?;
        let (model, _) = admitted.ok_or_else(|| absent_model(self.caller(), organisation, name))?;
        let commit = origin.listing().commit.to_string();
        if let Some(here) = self.origin_here(&model, &commit, true).await? {
            return Ok((here, written));
        }
        Ok((OpenVersion::pending(model, origin)?, written))
    }

    /// The version that `rev` names here; with `commits`, if it is a commit.
    async fn origin_here(
        &self,
        model: &OpenModel,
        rev: &str,
        commits: bool,
    ) -> Result<Option<OpenVersion>, Problem> {
        if commits && !crate::hub::commit::is_one(rev) {
            return Ok(None);
        }
        let (at, name) = (model.at(), &model.at().model);
        let publisher = at.publisher.to_hex();
        Ok(self.version_here(&publisher, name, rev).await?.ok())
    }
}

fn is_absent(failure: &Failure) -> bool {
    failure.kind == FailureKind::NotFound
}

/// The document and tree of a commit whose files are not all here, as far as the hub's list says. What it does not
/// say (chunks, and the other hash of each file) is empty, and nobody is shown it.
///
/// # Errors
/// The list makes no tree.
pub(crate) fn provisional(
    origin: &Origin,
) -> Result<(VersionBytes, lode_store::tree::Tree), Failure> {
    // A file of no bytes has empty lists; of others they are not known.
    let list = |size: u64| match size {
        0 => ChunkHash::of(b""),
        _ => ChunkHash::from_bytes([0; 32]),
    };
    let files = origin.listing().files.iter().map(|file| File {
        path: file.path.clone(),
        mode: Mode::File,
        size: file.size,
        sha256: match file.digest {
            Digest::Sha256(sha256) => sha256,
            Digest::Git(_) => [0; 32],
        },
        git: (file.size <= GIT_HASH_FILE_BYTES_MAX).then_some(match file.digest {
            Digest::Git(git) => git,
            Digest::Sha256(_) => [0; 20],
        }),
        chunks: ChunkListRef {
            rule: "cdc/1".to_owned(),
            count: file.size.div_ceil(CHUNK_BYTES_MAX),
            seq: list(file.size),
            lengths: list(file.size),
        },
        root: None,
    });
    let (version, tree) = origin
        .repository()
        .version(origin.listing(), files.collect())?;
    Ok((VersionBytes::new(version)?, tree))
}

fn not_here(reader: &OriginReader) -> Failure {
    Failure {
        kind: FailureKind::NoPeer,
        message: format!("{:?} is not here yet", reader.file().path),
        advice: None,
    }
}

impl Source for OriginReader {
    fn read(&self, _: ByteRange) -> Result<Bytes, Failure> {
        Err(not_here(self))
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        Err(not_here(self))
    }

    /// Waits for the first bytes for a moment, so that a failure is said in the head.
    fn reach(self: Arc<Self>, ranges: Vec<ByteRange>) -> Option<Pending<()>> {
        Some(Box::pin(async move {
            if let Some(first) = ranges.first() {
                let nothing = self.peek(*first);
                let reached = tokio::time::timeout(UPSTREAM_FIRST_WAIT, nothing).await;
                reached.unwrap_or(Ok(()))?;
            }
            Ok(())
        }))
    }

    fn fetch(self: Arc<Self>, range: ByteRange, until: u64) -> Option<Pending<Bytes>> {
        Some(Box::pin(
            async move { Self::read(&self, range, until).await },
        ))
    }
}
