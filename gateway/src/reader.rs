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
use hyper::StatusCode;
use lode_node::{
    collections::Collections,
    command::{Failure, FailureKind},
    fetch::Fetcher,
    origin::Origins,
    read::{ChunkSource, FindError, ModelAt, ReadError, Reads},
    tokens::Token,
};
use lode_store::{
    ChunkHash, PublisherId, VersionId,
    access::{self, Caller},
    name::{Name, PublisherName, Rev},
    outboard,
};

use crate::{
    answer::Problem,
    dialect::{REPO_NOT_FOUND, REVISION_NOT_FOUND},
    gateway::Gateway,
    hub::repo::spelling,
    kept::{Kept, Whose},
    oci::Registry,
    route::Params,
    scope::Scope,
    visitor::Visitor,
    xet::read::XetReads,
};

mod opened;

pub use opened::{OpenModel, OpenVersion};

/// Whoever may read what is asked for.
#[derive(Debug)]
pub struct Read;

/// The means of [`Read`].
#[derive(Debug, Clone)]
pub struct Reader {
    reads: Reads,
    caller: Caller,
    /// What the caller showed, if that is a token.
    token: Option<Arc<Token>>,
    /// Asks peers for what is not here; nothing where there are none.
    fetcher: Option<Fetcher>,
    pub(crate) collections: Option<Collections>,
    /// Asks another hub for what nobody else has; nothing where there is no node.
    origins: Option<Origins>,
    kept: Arc<Kept>,
    registry: Arc<Registry>,
    /// Hands out files by Xet; nothing where that is switched off.
    xet: Option<XetReads>,
}

/// A chunk or document that the caller may read.
#[derive(Debug)]
pub enum OpenChunk {
    /// In the home.
    Held(ChunkSource),
    /// From a peer: its bytes, verified.
    Fetched(Bytes),
}

/// What an address names.
#[derive(Debug, Clone)]
struct Asked {
    publisher: String,
    model: String,
    rev: Option<String>,
    /// What stands behind the colon of the rev.
    variant: Option<String>,
}

impl Asked {
    fn model(params: &Params) -> Self {
        Self::named(params.get("publisher"), params.get("model"), None)
    }

    fn named(publisher: &str, model: &str, rev: Option<&str>) -> Self {
        Self {
            publisher: publisher.to_owned(),
            model: model.to_owned(),
            rev: rev.map(str::to_owned),
            variant: None,
        }
    }

    fn version(params: &Params) -> Self {
        let (rev, variant) = split_variant(params.get("rev"));
        Self {
            rev: Some(rev.to_owned()),
            variant: variant.map(str::to_owned),
            ..Self::model(params)
        }
    }

    fn absent_model(&self, caller: &Caller) -> Problem {
        absent_model(caller, &self.publisher, &self.model)
    }

    fn absent_version(&self) -> Problem {
        absent_version(self.rev.as_deref().unwrap_or_default())
    }
}

impl Scope for Read {
    type Means = Reader;
    const NAME: &'static str = "read";

    fn admit(gateway: &Arc<Gateway>, visitor: &Visitor) -> Result<Reader, Problem> {
        Ok(Reader {
            reads: gateway.reads().clone(),
            caller: visitor.reads()?,
            token: visitor.token().cloned(),
            fetcher: gateway.fetcher(),
            collections: gateway.backend().collections(),
            origins: gateway.origins(),
            kept: Arc::clone(gateway.kept()),
            registry: Arc::clone(gateway.registry()),
            xet: gateway.xet().cloned(),
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
    /// Who asks, as the access function knows it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The token that was shown.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_deref()
    }

    /// For whom what was found is remembered: what one may read is not shown to another.
    pub(crate) fn whose(&self) -> Whose {
        match (&self.caller, &self.token) {
            (Caller::Owner, _) => Whose::Owner,
            (_, Some(token)) => Whose::Token(token.id),
            (_, None) => Whose::Anyone,
        }
    }

    /// On whose behalf something is handed out: a token's holds as long as the token.
    pub(crate) fn behalf(&self) -> Whose {
        match &self.token {
            Some(token) => Whose::Token(token.id),
            None => self.whose(),
        }
    }

    pub(crate) fn xet(&self) -> Option<&XetReads> {
        self.xet.as_ref()
    }

    pub(crate) fn origins(&self) -> Option<&Origins> {
        self.origins.as_ref()
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

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

    /// The model that an address names. One that is not here is asked for among peers.
    ///
    /// # Errors
    /// 404 when nobody has it or the caller may not see it; 400 for what is no name.
    pub async fn model(&self, params: &Params) -> Result<OpenModel, Problem> {
        let asked = Asked::model(params);
        if let Some(found) = self.find_model(&asked).await? {
            return Ok(found);
        }
        self.learn(&asked).await?;
        let found = self.find_model(&asked).await?;
        found.ok_or_else(|| asked.absent_model(&self.caller))
    }

    async fn find_model(&self, asked: &Asked) -> Result<Option<OpenModel>, Problem> {
        let (this, asked) = (self.clone(), asked.clone());
        blocking(move || this.find(&asked.publisher, &asked.model)).await
    }

    /// The version that an address names. One that is not here is asked for among peers.
    ///
    /// # Errors
    /// 404 when nobody has it or the caller may not see it; 503 when its documents are nowhere to be had.
    pub async fn version(&self, params: &Params) -> Result<OpenVersion, Problem> {
        let asked = Asked::version(params);
        let version = self.stored_version(&asked).await?;
        match &asked.variant {
            Some(name) => version.of_variant(name).await,
            None => Ok(version),
        }
    }

    /// The model of this name, if it is here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn model_here(
        &self,
        publisher: &str,
        model: &str,
    ) -> Result<Option<OpenModel>, Problem> {
        self.find_model(&Asked::named(publisher, model, None)).await
    }

    /// The model of this name, in whatever case, that known peers are asked for.
    ///
    /// # Errors
    /// The store cannot be read; 503 when too much is being searched for.
    pub(crate) async fn model_elsewhere(
        &self,
        publisher: &str,
        model: &str,
    ) -> Result<Option<OpenModel>, Problem> {
        let asked = Asked::named(publisher, model, None);
        if !self.learn(&asked).await? {
            return Ok(None);
        }
        if let Some(model) = self.find_model(&asked).await? {
            return Ok(Some(model));
        }
        let models = self.models().await?;
        let mut same = models
            .into_iter()
            .filter(|found| spelling(found, publisher, model).is_some());
        Ok(same.next())
    }

    /// The version of this rev that is here, or what to say if nobody else has it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn version_here(
        &self,
        publisher: &str,
        model: &str,
        rev: &str,
    ) -> Result<Result<OpenVersion, Problem>, Problem> {
        self.find_version(&Asked::named(publisher, model, Some(rev)))
            .await
    }

    /// The version that the first of `revs` names which names one: here if one of them does, else at peers.
    ///
    /// # Errors
    /// 404 when none does or the caller may not see it; 503 when its documents are nowhere to be had.
    pub(crate) async fn first_version(
        &self,
        publisher: &str,
        model: &str,
        revs: &[&str],
    ) -> Result<OpenVersion, Problem> {
        let asked = |rev: &&str| Asked::named(publisher, model, Some(rev));
        let all: Vec<Asked> = revs.iter().map(asked).collect();
        let mut lacking = absent_model(&self.caller, publisher, model);
        for asked in &all {
            match self.find_version(asked).await? {
                Ok(found) => return Ok(found),
                Err(problem) => lacking = problem,
            }
        }
        for asked in &all {
            if self.learn(asked).await?
                && let Ok(found) = self.find_version(asked).await?
            {
                return Ok(found);
            }
        }
        Err(lacking)
    }

    async fn stored_version(&self, asked: &Asked) -> Result<OpenVersion, Problem> {
        let lacking = match self.find_version(asked).await? {
            Ok(found) => return Ok(found),
            Err(lacking) => lacking,
        };
        if !self.learn(asked).await? {
            return Err(lacking);
        }
        self.find_version(asked).await?
    }

    /// The version that is here, or what to say if nobody else has it.
    async fn find_version(&self, asked: &Asked) -> Result<Result<OpenVersion, Problem>, Problem> {
        let (this, asked) = (self.clone(), asked.clone());
        // One turn on the reading thread for all of it: most requests are for a few bytes.
        let found = blocking(move || {
            let Some(model) = this.find(&asked.publisher, &asked.model)? else {
                return Ok(Err(asked.absent_model(&this.caller)));
            };
            let Ok(rev) = asked.rev.as_deref().unwrap_or_default().parse::<Rev>() else {
                return Ok(Err(asked.absent_version()));
            };
            let resolved = this
                .reads
                .resolve(model.at.publisher, &model.at.model, &rev);
            let resolved = match resolved {
                Err(ReadError::Absent { .. }) => return Ok(Err(asked.absent_version())),
                resolved => resolved?,
            };
            match this.open(model, resolved.version, resolved.fork) {
                Ok(opened) => Ok(opened.ok_or_else(|| asked.absent_version())),
                Err(error @ ReadError::NotHeld { .. }) => Ok(Err(error.into())),
                Err(error) => Err(error),
            }
        });
        found.await
    }

    /// Asks peers for what an address names; whether it is here now. Only for a caller who may read it
    /// once it is, and only under a key or an alias that is bound.
    async fn learn(&self, asked: &Asked) -> Result<bool, Problem> {
        let Some(fetcher) = &self.fetcher else {
            return Ok(false);
        };
        let (this, wanted) = (self.clone(), asked.clone());
        let Some((publisher, rev)) = blocking(move || this.may_learn(&wanted)).await? else {
            return Ok(false);
        };
        Ok(fetcher.learn(publisher, &asked.model, rev.as_ref()).await?)
    }

    fn may_learn(&self, asked: &Asked) -> Result<Option<(PublisherId, Option<Rev>)>, ReadError> {
        let Ok(name) = format!("{}/{}", asked.publisher, asked.model).parse::<Name>() else {
            return Ok(None);
        };
        let publisher = match self.reads.publisher(&name.publisher) {
            Err(ReadError::Absent { .. }) => return Ok(None),
            publisher => publisher?,
        };
        let rev = match asked.rev.as_deref().map(str::parse::<Rev>) {
            Some(Err(_)) => return Ok(None),
            rev => rev.and_then(Result::ok),
        };
        let granted = access::grant(
            &self.reads,
            &self.caller,
            None,
            &publisher,
            &asked.model,
            now(),
        );
        Ok(granted.reads().then_some((publisher, rev)))
    }

    /// Opens a chunk or document by its hash. One that is not held is asked for among peers.
    ///
    /// # Errors
    /// 404 when nobody has it, or the caller may not ask for chunks by hash: nobody can tell a hash
    /// that is not held now from one that never was anything.
    pub async fn chunk(&self, hash: ChunkHash) -> Result<OpenChunk, Problem> {
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
        if let Some(held) = opened.await? {
            return Ok(OpenChunk::Held(held));
        }
        let fetched = match &self.fetcher {
            Some(fetcher) => fetcher.chunk(hash).await?,
            None => None,
        };
        fetched.map(OpenChunk::Fetched).ok_or_else(absent)
    }

    /// The outboard of a chunk.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub async fn outboard(&self, hash: ChunkHash) -> Result<Bytes, Problem> {
        let chunk = self.chunk(hash).await?;
        blocking(move || match chunk {
            OpenChunk::Held(chunk) => chunk.outboard(),
            OpenChunk::Fetched(bytes) => Ok(outboard::compute(&bytes).1.into()),
        })
        .await
    }

    /// The model, when the caller may read it, or this version of it. Every read of a model comes
    /// through here.
    pub(crate) fn admit(
        &self,
        at: ModelAt,
        root: Option<VersionId>,
    ) -> Result<Option<OpenModel>, ReadError> {
        let (publisher, model) = (&at.publisher, &at.model);
        let granted = access::grant(
            &self.reads,
            &self.caller,
            root.as_ref(),
            publisher,
            model,
            now(),
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
            variant: None,
            origin: None,
        }))
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The rev and the variant of `REV:VARIANT`.
fn split_variant(rev: &str) -> (&str, Option<&str>) {
    match rev.rsplit_once(':') {
        Some((rev, variant)) => (rev, Some(variant)),
        None => (rev, None),
    }
}

/// What is answered for a model that is not here, and for one that the caller may not read.
pub(crate) fn absent_model(caller: &Caller, publisher: &str, model: &str) -> Problem {
    let cut = |text: &str| text.chars().take(100).collect::<String>();
    let name = format!("{}/{}", cut(publisher), cut(model));
    let problem = match caller {
        Caller::Anonymous => Problem::new(
            StatusCode::UNAUTHORIZED,
            FailureKind::NotFound,
            format!("there is no model {name} here that everyone may read"),
        )
        .advise("send a token of this node, if you have one"),
        _ => Problem::not_found(format!("there is no model {name} here"))
            .advise("/lode/v1/models lists those that there are"),
    };
    problem.code(REPO_NOT_FOUND)
}

pub(crate) fn absent_version(rev: &str) -> Problem {
    let rev: String = rev.chars().take(100).collect();
    Problem::not_found(format!("this model has no branch, tag or version {rev:?}"))
        .code(REVISION_NOT_FOUND)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::{
        control::{Backend, Run},
        policy::Policy,
        published::{Held, Published},
    };
    use lode_node::{EventSink, command::Command};
    use tokio_util::sync::CancellationToken;

    /// A home that takes no commands.
    struct Idle(Reads);

    impl Backend for Idle {
        fn run(&self, _: Command, _: EventSink) -> Run<'_> {
            unreachable!("no command is sent")
        }

        fn reads(&self) -> &Reads {
            &self.0
        }
    }

    fn reader(home: &Published, caller: Caller) -> Reader {
        let backend = Arc::new(Idle(Reads::new(home.store.clone())));
        let gateway = Gateway::new(backend, Policy::default(), CancellationToken::new());
        let owner = Visitor::owner();
        let reader = Read::admit(&Arc::new(gateway), &owner).unwrap();
        Reader { caller, ..reader }
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
