//! The means of handlers that read models, and the one place where the gateway decides who may.
//!
//! A handler reaches a version, and through it files and tensors, only by a [`Reader`], and a reader
//! opens nothing that `lode_store::access` does not grant its caller. What is private and what is
//! absent answer alike.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hyper::header::HeaderValue;
use lode_node::{
    command::{Failure, FailureKind},
    read::{ChunkSource, FileReader, FindError, Layout, ModelAt, ReadError, Reads, RefAt},
};
use lode_store::{
    ChunkHash, VersionId,
    access::{self, Caller},
    manifest::{Version, VersionBytes},
    name::{PublisherName, Rev},
    tree::{File, Tree},
};
use lode_tensors::ByteRange;

use crate::{
    answer::Problem, body::Source, gateway::Gateway, guard::Door, route::Params, scope::Scope,
};

/// Whoever may read what is asked for.
#[derive(Debug)]
pub struct Read;

/// The means of [`Read`].
#[derive(Debug, Clone)]
pub struct Reader {
    reads: Reads,
    caller: Caller,
}

/// A model that the caller may read.
#[derive(Debug, Clone)]
pub struct OpenModel {
    reader: Reader,
    at: ModelAt,
    public: bool,
}

/// A version that the caller may read.
#[derive(Debug)]
pub struct OpenVersion {
    model: OpenModel,
    version: VersionBytes,
    tree: Arc<Tree>,
    fork: Vec<VersionId>,
}

impl Scope for Read {
    type Means = Reader;
    const NAME: &'static str = "read";

    fn admit(gateway: &Arc<Gateway>, door: Door) -> Result<Reader, Problem> {
        let caller = match door {
            // Until tokens exist, both doors are the owner's.
            Door::Loopback | Door::Socket => Caller::Owner,
        };
        Ok(Reader {
            reads: gateway.reads().clone(),
            caller,
        })
    }
}

/// Does what blocks on a thread where that is fine.
///
/// # Errors
/// Those of `act`.
pub async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result.map_err(Problem::from),
        Err(error) => Err(Problem::from(Failure {
            kind: FailureKind::Failed,
            message: format!("reading stopped: {error}"),
            advice: None,
        })),
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::from(Failure::from(error))
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Ambiguous { .. } => {
                Self::usage(error.to_string()).advise("add ?file=PATH to say which")
            }
            error => Self::not_found(error.to_string()),
        }
    }
}

impl Reader {
    /// The models that the caller may read.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn models(&self) -> Result<Vec<OpenModel>, Problem> {
        let this = self.clone();
        blocking(move || {
            let mut models = Vec::new();
            for at in this.reads.models()? {
                models.extend(this.admit(at, None)?);
            }
            Ok(models)
        })
        .await
    }

    /// The model that an address names.
    ///
    /// # Errors
    /// 404 when it is absent or the caller may not see it; 400 for what is no name.
    pub async fn model(&self, params: &Params) -> Result<OpenModel, Problem> {
        let (publisher, model) = (params.get("publisher"), params.get("model"));
        let name: PublisherName = publisher
            .parse()
            .map_err(|_| absent_model(publisher, model))?;
        let (this, text) = (self.clone(), model.to_owned());
        let found = blocking(move || this.find(&name, &text)).await;
        match found {
            Ok(Some(model)) => Ok(model),
            Ok(None) => Err(absent_model(publisher, model)),
            Err(problem) => Err(problem),
        }
    }

    /// The version that an address names.
    ///
    /// # Errors
    /// 404 when it is absent or the caller may not see it; 503 when its documents are not held.
    pub async fn version(&self, params: &Params) -> Result<OpenVersion, Problem> {
        let model = self.model(params).await?;
        let text = params.get("rev");
        let rev: Rev = text.parse().map_err(|_| absent_version(text))?;
        let resolve = model.clone();
        let resolved = blocking(move || {
            let (reads, at) = (&resolve.reader.reads, &resolve.at);
            match reads.resolve(at.publisher, &at.model, &rev) {
                Err(ReadError::Absent { .. }) => Ok(None),
                resolved => resolved.map(Some),
            }
        })
        .await?;
        let resolved = resolved.ok_or_else(|| absent_version(text))?;
        model.version(resolved.version, resolved.fork).await
    }

    /// Opens a chunk or document by its hash.
    ///
    /// # Errors
    /// 404 when the caller may not ask for chunks by hash; 503 when it is not held.
    pub async fn chunk(&self, hash: ChunkHash) -> Result<ChunkSource, Problem> {
        // Which versions a chunk belongs to is not known here, so only who may read all of them asks.
        if !matches!(self.caller, Caller::Owner) {
            return Err(Problem::not_found("there is no such chunk"));
        }
        let reads = self.reads.clone();
        blocking(move || reads.chunk(hash)).await
    }

    /// The outboard of a chunk.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub async fn outboard(&self, hash: ChunkHash) -> Result<Bytes, Problem> {
        let chunk = self.chunk(hash).await?;
        blocking(move || chunk.outboard()).await
    }

    /// The model, when the caller may read it, or this version of it. Every read of a model comes
    /// through here.
    fn admit(&self, at: ModelAt, root: Option<VersionId>) -> Result<Option<OpenModel>, ReadError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let (publisher, model) = (&at.publisher, &at.model);
        let granted = access::grant(
            &self.reads,
            &self.caller,
            root.as_ref(),
            publisher,
            model,
            now,
        );
        if !granted.reads() {
            return Ok(None);
        }
        let public = self.reads.is_public(*publisher, model)?;
        Ok(Some(OpenModel {
            reader: self.clone(),
            at,
            public,
        }))
    }

    fn find(&self, name: &PublisherName, model: &str) -> Result<Option<OpenModel>, ReadError> {
        let found = self
            .reads
            .publisher(name)
            .and_then(|id| self.reads.model(id, model));
        match found {
            Ok(at) => self.admit(at, None),
            Err(ReadError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
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
        let opened = blocking(move || {
            let Some(model) = this.reader.admit(this.at, Some(id))? else {
                return Ok(None);
            };
            let reads = &model.reader.reads;
            let version = reads.version(id)?;
            let tree = reads.tree(version.doc.tree)?;
            Ok(Some(OpenVersion {
                model,
                version,
                tree,
                fork,
            }))
        });
        opened.await?.ok_or_else(|| absent_version(&id.to_hex()))
    }
}

impl OpenVersion {
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

    /// Its id, as a header's value.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::try_from(self.id().to_hex()).expect("hex digits are visible ASCII")
    }

    /// Whether `rev` names this version and can never name another.
    pub fn is_pinned_by(&self, rev: &str) -> bool {
        rev.parse() == Ok(self.id())
    }

    /// Opens one of its files.
    ///
    /// # Errors
    /// 503 when its chunk list is not held.
    pub async fn reader(&self, file: File) -> Result<FileReader, Problem> {
        let reads = self.model.reader.reads.clone();
        blocking(move || reads.file(&file)).await
    }

    /// Its tensors.
    ///
    /// # Errors
    /// 503 when a header is not held.
    pub async fn layout(&self) -> Result<Arc<Layout>, Problem> {
        let reads = self.model.reader.reads.clone();
        let tree = self.version.doc.tree;
        blocking(move || reads.layout(tree)).await
    }
}

fn absent_model(publisher: &str, model: &str) -> Problem {
    let cut = |text: &str| text.chars().take(100).collect::<String>();
    Problem::not_found(format!(
        "there is no model {}/{} here",
        cut(publisher),
        cut(model)
    ))
    .advise("/lode/v1/models lists those that there are")
}

fn absent_version(rev: &str) -> Problem {
    let rev: String = rev.chars().take(100).collect();
    Problem::not_found(format!("this model has no branch, tag or version {rev:?}"))
}

/// A part of a file that is a body of its own, such as a tensor.
#[derive(Debug)]
pub struct Window {
    file: FileReader,
    range: ByteRange,
}

impl Window {
    /// The bytes `range` of `file`.
    pub fn new(file: FileReader, range: ByteRange) -> Self {
        Self { file, range }
    }

    fn outer(&self, range: ByteRange) -> ByteRange {
        let shift = |at: u64| self.range.start.saturating_add(at).min(self.range.end);
        ByteRange {
            start: shift(range.start),
            end: shift(range.end),
        }
    }
}

impl Source for Window {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        Ok(self.file.read(self.outer(range))?)
    }

    fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        Ok(self.file.check_held(self.outer(range))?)
    }
}

impl Source for FileReader {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        Ok(Self::read(self, range)?)
    }

    fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        Ok(Self::check_held(self, range)?)
    }
}

impl Source for ChunkSource {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        Ok(Self::read(self, range)?)
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        // It is open.
        Ok(())
    }
}

impl Source for Bytes {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        Ok(self.slice(bound(range.start)..bound(range.end)))
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        Ok(())
    }
}
