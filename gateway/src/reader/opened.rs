//! What a [`Reader`] has opened: a model, and a version of it with its files, tensors and variants.
//!
//! Neither is made but by a reader that asked who may.

use std::sync::Arc;

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use lode_node::{
    command::{Failure, FailureKind},
    fetch::Of,
    origin::{self, Origin},
    read::{Layout, ModelAt, ReadError, Reads, RefAt},
    variants::{self, Opener, VariantAt},
};
use lode_store::{
    VersionId,
    manifest::{Version, VersionBytes},
    name::Rev,
    tree::{File, Tree},
};

use super::{Reader, absent_version, blocking, split_variant};
use crate::{answer::Problem, dialect::REVISION_NOT_FOUND, stored::OpenFile, upstream};

/// The version whose bytes these are.
const VERSION: HeaderName = HeaderName::from_static("lode-version");
/// The variant of it that these bytes are, and the recipe that makes it.
const VARIANT: HeaderName = HeaderName::from_static("lode-variant");
const RECIPE: HeaderName = HeaderName::from_static("lode-recipe");
/// The versions that signers disagree about, where a ref forked and the last common one is served.
const FORK: HeaderName = HeaderName::from_static("lode-fork");

/// A model that the caller may read.
#[derive(Debug, Clone)]
pub struct OpenModel {
    pub(super) reader: Reader,
    pub(super) at: ModelAt,
    pub(super) public: bool,
}

/// A version that the caller may read.
#[derive(Debug)]
pub struct OpenVersion {
    pub(super) model: OpenModel,
    pub(super) version: VersionBytes,
    pub(super) tree: Arc<Tree>,
    pub(super) fork: Vec<VersionId>,
    /// The variant of it that is asked for.
    pub(super) variant: Option<Arc<VariantAt>>,
    /// The commit of another hub that it will be, before all of its files are here.
    pub(super) origin: Option<Arc<Origin>>,
}

impl OpenModel {
    /// Which model it is.
    pub fn at(&self) -> &ModelAt {
        &self.at
    }

    /// Whether everyone may read it.
    pub fn is_public(&self) -> bool {
        self.public
    }

    /// Its branches and tags.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn refs(&self) -> Result<Vec<RefAt>, Problem> {
        let this = self.clone();
        blocking(move || this.reader.reads.refs(this.at.publisher, &this.at.model)).await
    }

    /// Asks peers for the documents of one of its versions, when they are not here. It is shown without
    /// them otherwise.
    pub async fn complete(&self, id: Option<VersionId>) {
        let (Some(id), Some(fetcher)) = (id, &self.reader.fetcher) else {
            return;
        };
        if self.version(id, Vec::new()).await.is_ok() {
            return;
        }
        let Ok(rev) = id.to_hex().parse::<Rev>() else {
            return;
        };
        let learnt = fetcher.learn(self.at.publisher, &self.at.model, Some(&rev));
        if let Err(failure) = learnt.await {
            tracing::debug!(%failure, "a model is shown without its version");
        }
    }

    /// One of its versions; `fork` are those that signers disagree about.
    ///
    /// # Errors
    /// 404 when the caller may not see it; 503 when its documents are not held.
    pub async fn version(
        &self,
        id: VersionId,
        fork: Vec<VersionId>,
    ) -> Result<OpenVersion, Problem> {
        let this = self.clone();
        let opened = blocking(move || this.reader.clone().open(this, id, fork)).await?;
        opened.ok_or_else(|| absent_version(&id.to_hex()))
    }
}

impl OpenVersion {
    /// A commit of another hub whose files are not all here.
    ///
    /// # Errors
    /// Its list makes no tree.
    pub(crate) fn pending(model: OpenModel, origin: Arc<Origin>) -> Result<Self, Problem> {
        let (version, tree) = upstream::provisional(&origin)?;
        Ok(Self {
            model,
            version,
            tree: Arc::new(tree),
            fork: Vec::new(),
            variant: None,
            origin: Some(origin),
        })
    }

    /// The commit of another hub that it will be, if not all of its files are here.
    pub(crate) fn origin(&self) -> Option<&Arc<Origin>> {
        self.origin.as_ref()
    }

    /// The commit of another hub that it is.
    pub fn origin_commit(&self) -> Option<String> {
        origin::commit(self.doc()).map(|commit| commit.to_string())
    }

    /// Whether it is a version already, of which something can be made.
    ///
    /// # Errors
    /// 503 when it will be one once all of its files are here.
    pub(crate) fn all_here(&self) -> Result<(), Problem> {
        match self.origin.is_some() {
            true => Err(self.not_all_here()),
            false => Ok(()),
        }
    }

    fn not_all_here(&self) -> Problem {
        let hub = self
            .origin
            .as_ref()
            .map(|origin| origin.hub())
            .unwrap_or_default();
        Problem::from(Failure {
            kind: FailureKind::NoPeer,
            message: format!("not all files of this commit of {hub} are here yet"),
            advice: Some("download them through this node first, or `lode pull` them".to_owned()),
        })
    }

    /// Its model.
    pub fn model(&self) -> &OpenModel {
        &self.model
    }

    /// Its id.
    pub fn id(&self) -> VersionId {
        self.version.id
    }

    /// Its document.
    pub fn doc(&self) -> &Version {
        &self.version.doc
    }

    /// Its files.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// The versions that signers disagree about, when it was named by a ref that forked.
    pub fn fork(&self) -> &[VersionId] {
        &self.fork
    }

    /// A variant of it, by its name.
    ///
    /// # Errors
    /// 404 for one that there is not, and as [`Opener::variant`].
    pub async fn of_variant(mut self, name: &str) -> Result<Self, Problem> {
        self.all_here()?;
        let recipe = variants::recipe(name, &self.tree)
            .map_err(|failure| Problem::from(failure).code(REVISION_NOT_FOUND))?;
        self.variant = Some(self.opener().variant(recipe).await?);
        Ok(self)
    }

    /// The variant of it that was asked for, if one was.
    pub fn variant(&self) -> Option<&Arc<VariantAt>> {
        self.variant.as_ref()
    }

    /// It and what came before it, as far as that is here: each before its parents, else the youngest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn history(&self) -> Result<Vec<VersionId>, Problem> {
        if self.origin.is_some() {
            return Ok(vec![self.id()]);
        }
        let (reads, id) = (self.model.reader.reads.clone(), self.id());
        blocking(move || Ok(reads.log(id))).await
    }

    /// Opens its variants.
    pub fn opener(&self) -> Opener {
        let reader = &self.model.reader;
        Opener::new(
            reader.reads.clone(),
            reader.fetcher.clone(),
            self.of(),
            self.version.doc.tree,
            Arc::clone(&self.tree),
        )
    }

    /// Says in a head which version this is, and what signers say instead who disagree about its ref.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if self.origin.is_some() {
            headers.insert(upstream::VERIFIED, upstream::PENDING);
            return;
        }
        let text =
            |text: String| HeaderValue::try_from(text).expect("hex digits are visible ASCII");
        headers.insert(VERSION, text(self.id().to_hex()));
        if let Some(variant) = &self.variant {
            headers.insert(VARIANT, text(variant.id.to_hex()));
            let recipe = String::from_utf8_lossy(&variant.recipe.encode()).into_owned();
            headers.insert(RECIPE, text(recipe));
        }
        if !self.fork.is_empty() {
            let fork: Vec<String> = self.fork.iter().map(|id| id.to_hex()).collect();
            headers.insert(FORK, text(fork.join(", ")));
        }
    }

    /// Whether `rev` names this version and can never name another.
    pub fn is_pinned_by(&self, rev: &str) -> bool {
        split_variant(rev).0.parse() == Ok(self.id())
    }

    /// Opens one of its files.
    ///
    /// # Errors
    /// 503 when its chunk list is nowhere to be had.
    pub async fn reader(&self, file: File) -> Result<OpenFile, Problem> {
        self.all_here()?;
        let reads = self.model.reader.reads.clone();
        let version = self.version.id;
        let open = move |reads: Reads, file: File| {
            blocking(move || {
                // Others leave before it when room is needed. It is read all the same if that fails.
                if let Err(error) = reads.store().touch(&version) {
                    tracing::debug!(%error, "the use of a version is not noted");
                }
                match reads.file(&file) {
                    Err(error @ ReadError::NotHeld { .. }) => Ok(Err(error)),
                    opened => opened.map(Ok),
                }
            })
        };
        let fetcher = self.model.reader.fetcher.as_ref();
        let opened = match (open(reads.clone(), file.clone()).await?, fetcher) {
            (Err(_), Some(fetcher)) => {
                fetcher.lists(&self.of(), &[&file]).await?;
                open(reads, file).await??
            }
            (opened, _) => opened?,
        };
        let opened = Arc::new(opened);
        let remote = fetcher
            .map(|fetcher| fetcher.file(self.of(), Arc::clone(&self.tree), Arc::clone(&opened)));
        Ok(OpenFile::new(opened, remote))
    }

    /// Its tensors.
    ///
    /// # Errors
    /// 503 when a header is nowhere to be had.
    pub async fn layout(&self) -> Result<Arc<Layout>, Problem> {
        if let Some(variant) = &self.variant {
            return Ok(Arc::clone(variant.layout()));
        }
        Ok(self.opener().layout().await?)
    }

    /// What peers are asked for it by.
    fn of(&self) -> Of {
        Of {
            publisher: self.model.at.publisher,
            model: self.model.at.model.clone(),
            version: self.version.id,
        }
    }
}
