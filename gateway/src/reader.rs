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
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
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

/// The version whose bytes these are.
const VERSION: HeaderName = HeaderName::from_static("lode-version");
/// The versions that signers disagree about, where a ref forked and the last common one is served.
const FORK: HeaderName = HeaderName::from_static("lode-fork");

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
        let this = self.clone();
        let (publisher, model) = (
            params.get("publisher").to_owned(),
            params.get("model").to_owned(),
        );
        let absent = absent_model(&publisher, &model);
        let found = blocking(move || this.find(&publisher, &model)).await?;
        found.ok_or(absent)
    }

    /// The version that an address names.
    ///
    /// # Errors
    /// 404 when it is absent or the caller may not see it; 503 when its documents are not held.
    pub async fn version(&self, params: &Params) -> Result<OpenVersion, Problem> {
        let this = self.clone();
        let (publisher, model) = (
            params.get("publisher").to_owned(),
            params.get("model").to_owned(),
        );
        let rev = params.get("rev").to_owned();
        let absent = (absent_model(&publisher, &model), absent_version(&rev));
        // One turn on the reading thread for all of it: most requests are for a few bytes.
        let found = blocking(move || {
            let Some(model) = this.find(&publisher, &model)? else {
                return Ok(Err(absent.0));
            };
            let Ok(rev) = rev.parse::<Rev>() else {
                return Ok(Err(absent.1));
            };
            let resolved = this
                .reads
                .resolve(model.at.publisher, &model.at.model, &rev);
            let resolved = match resolved {
                Err(ReadError::Absent { .. }) => return Ok(Err(absent.1)),
                resolved => resolved?,
            };
            let opened = this.open(model, resolved.version, resolved.fork)?;
            Ok(opened.ok_or(absent.1))
        });
        found.await?
    }

    /// Opens a chunk or document by its hash.
    ///
    /// # Errors
    /// 404 when it is not held, or the caller may not ask for chunks by hash: nobody can tell a hash
    /// that is not held now from one that never was anything.
    pub async fn chunk(&self, hash: ChunkHash) -> Result<ChunkSource, Problem> {
        let absent = || Problem::not_found(format!("chunk {hash} is not here"));
        // Which versions a chunk belongs to is not known here, so only who may read all of them asks.
        if !matches!(self.caller, Caller::Owner) {
            return Err(absent());
        }
        let reads = self.reads.clone();
        let opened = blocking(move || match reads.chunk(hash) {
            Err(ReadError::NotHeld { .. }) => Ok(None),
            opened => opened.map(Some),
        });
        opened.await?.ok_or_else(absent)
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

    fn find(&self, publisher: &str, model: &str) -> Result<Option<OpenModel>, ReadError> {
        let Ok(name) = publisher.parse::<PublisherName>() else {
            return Ok(None);
        };
        let found = self
            .reads
            .publisher(&name)
            .and_then(|id| self.reads.model(id, model));
        match found {
            Ok(at) => self.admit(at, None),
            Err(ReadError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(
        &self,
        model: OpenModel,
        id: VersionId,
        fork: Vec<VersionId>,
    ) -> Result<Option<OpenVersion>, ReadError> {
        let Some(model) = self.admit(model.at, Some(id))? else {
            return Ok(None);
        };
        let version = self.reads.version(id)?;
        let tree = self.reads.tree(version.doc.tree)?;
        Ok(Some(OpenVersion {
            model,
            version,
            tree,
            fork,
        }))
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
        let opened = blocking(move || this.reader.clone().open(this, id, fork)).await?;
        opened.ok_or_else(|| absent_version(&id.to_hex()))
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

    /// Says in a head which version this is, and what signers say instead who disagree about its ref.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let text =
            |text: String| HeaderValue::try_from(text).expect("hex digits are visible ASCII");
        headers.insert(VERSION, text(self.id().to_hex()));
        if !self.fork.is_empty() {
            let fork: Vec<String> = self.fork.iter().map(|id| id.to_hex()).collect();
            headers.insert(FORK, text(fork.join(", ")));
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::published::{Held, Published};

    fn reader(home: &Published, caller: Caller) -> Reader {
        Reader {
            reads: Reads::new(home.store.clone()),
            caller,
        }
    }

    #[test]
    fn private_and_absent_models_answer_alike() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Published::new(folder.path());
        let files = |bytes: &'static [u8]| [("a.txt", Held::Pack, bytes)];
        home.push("private", &files(b"secret"), &[], &["heads/main"]);
        let open = home.push(
            "open",
            &files(b"open"),
            &[],
            &["heads/main", "access/public"],
        );
        let anyone = reader(&home, Caller::Anonymous);
        assert!(anyone.find("acme", "private").unwrap().is_none());
        assert!(anyone.find("acme", "absent").unwrap().is_none());
        assert!(anyone.find("nobody", "open").unwrap().is_none());
        let model = anyone.find("acme", "open").unwrap().unwrap();
        assert!(model.is_public());
        assert!(anyone.open(model, open, Vec::new()).unwrap().is_some());
        let owner = reader(&home, Caller::Owner);
        assert!(owner.find("acme", "private").unwrap().is_some());
        assert!(owner.find("acme", "absent").unwrap().is_none());
    }

    #[test]
    fn a_version_that_no_ref_named_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Published::new(folder.path());
        let file = [("a.txt", Held::Pack, &b"one"[..])];
        home.push("open", &file, &[], &["heads/main", "access/public"]);
        let loose = home.push("open", &[("a.txt", Held::Pack, &b"two"[..])], &[], &[]);
        for (caller, sees) in [(Caller::Anonymous, false), (Caller::Owner, true)] {
            let reader = reader(&home, caller);
            let model = reader.find("acme", "open").unwrap().unwrap();
            assert_eq!(
                reader.open(model, loose, Vec::new()).unwrap().is_some(),
                sees
            );
        }
    }

    #[tokio::test]
    async fn chunks_by_hash_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Published::new(folder.path());
        let hash = ChunkHash::of(b"open");
        home.push(
            "open",
            &[("a.txt", Held::Pack, b"open")],
            &[],
            &["heads/main", "access/public"],
        );
        assert!(reader(&home, Caller::Owner).chunk(hash).await.is_ok());
        let error = reader(&home, Caller::Anonymous)
            .chunk(hash)
            .await
            .unwrap_err();
        assert_eq!(error.status().as_u16(), 404);
    }
}
