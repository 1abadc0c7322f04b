//! Repositories and their revisions: a model with its versions, or the GGUF files that are made of one.
//!
//! `acme/tiny-GGUF` is every GGUF variant of `acme/tiny`, unless there is a model of that name. A revision is a
//! branch, a tag, a commit id (or the start of a version's id), or `REV--VARIANT`. What a revision names has one
//! commit id ([`commit`]), by which it is found again.

use lode_node::{
    command::FailureKind,
    origin::{self, Repository},
    read::{RefAt, RefKind},
    variants::{self, Recipe},
};
use lode_store::{VersionId, tree::Tree};

use super::{commit, files::Files};
use crate::{
    answer::Problem,
    dialect::X_REPO_COMMIT,
    file::ascii,
    reader::{OpenModel, OpenVersion, Reader, absent_model, absent_version},
    route::Params,
    target::{Target, encode_segment},
};

/// What ends the name of a repository of GGUF files.
const GGUF_SUFFIX: &str = "-GGUF";
/// What stands between a revision and a variant of it.
pub(crate) const VARIANT_SEPARATOR: &str = "--";
/// The branch that stands for a repository.
const MAIN: &str = "main";

/// Whether a repository is a model, or what is made of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Model,
    Gguf,
}

/// A repository that the caller may read.
#[derive(Debug)]
pub(super) struct Repo {
    reader: Reader,
    model: OpenModel,
    view: View,
    /// The publisher as the address names it.
    publisher: String,
    /// The model of another hub that it is.
    upstream: Option<Repository>,
    /// The address that named it.
    target: Option<Target>,
}

/// What a revision of a repository names.
#[derive(Debug)]
pub(super) struct Revision {
    /// The version that it is, or is made of.
    pub(super) version: OpenVersion,
    /// Its files.
    pub(super) files: Files,
    /// Its commit id.
    pub(super) commit: String,
}

impl Repo {
    /// The repository that an address names. One that is not here is asked for among peers.
    ///
    /// # Errors
    /// 404 when nobody has it or the caller may not see it; 307 when it is written in another case.
    pub(super) async fn open(
        reader: &Reader,
        target: &Target,
        params: &Params,
    ) -> Result<Self, Problem> {
        let (publisher, name) = (params.get("publisher"), params.get("model"));
        let open = |model, view| Self {
            reader: reader.clone(),
            model,
            view,
            publisher: publisher.to_owned(),
            upstream: None,
            target: Some(target.clone()),
        };
        if let Some(model) = reader.model_here(publisher, name).await? {
            return Ok(open(model, View::Model));
        }
        let models = reader.models().await?;
        let written = |model: &OpenModel| spelling(model, publisher, name);
        if let Some((publisher, name)) = models.iter().find_map(written) {
            return Err(moved(target, &publisher, &name));
        }
        if let Some(model) = reader.model_elsewhere(publisher, name).await? {
            if let Some((publisher, name)) = written(&model) {
                return Err(moved(target, &publisher, &name));
            }
            return Ok(open(model, View::Model));
        }
        let gguf = split_gguf(name);
        if let Some((model, repository)) = reader.model_upstream(publisher, name).await? {
            // What is made of a model of the hub is asked for under a name that the hub does not know.
            if gguf.is_none() || reader.is_upstream(&repository).await? {
                return Ok(Self {
                    upstream: Some(repository),
                    ..open(model, View::Model)
                });
            }
        }
        let Some((base, suffix)) = gguf else {
            return Err(absent_model(reader.caller(), publisher, name));
        };
        let written = |model: &OpenModel| spelling(model, publisher, base);
        let other = models.iter().find_map(written);
        if other.is_some() || suffix != GGUF_SUFFIX {
            let (publisher, base) = other.unwrap_or((publisher.to_owned(), base.to_owned()));
            return Err(moved(target, &publisher, &format!("{base}{GGUF_SUFFIX}")));
        }
        let mut model = reader.model_here(publisher, base).await?;
        if model.is_none() {
            model = reader.model_elsewhere(publisher, base).await?;
            if let Some((publisher, base)) = model.as_ref().and_then(written) {
                return Err(moved(target, &publisher, &format!("{base}{GGUF_SUFFIX}")));
            }
        }
        let mut upstream = None;
        if model.is_none()
            && let Some((found, repository)) = reader.model_upstream(publisher, base).await?
        {
            (model, upstream) = (Some(found), Some(repository));
        }
        let model = model.ok_or_else(|| absent_model(reader.caller(), publisher, name))?;
        Ok(Self {
            upstream,
            ..open(model, View::Gguf)
        })
    }

    /// One of the models of the home, as a repository.
    pub(super) fn of(reader: &Reader, model: OpenModel) -> Self {
        let at = model.at();
        let publisher = at.alias.clone();
        let publisher = publisher.unwrap_or_else(|| at.publisher.to_hex());
        Self {
            reader: reader.clone(),
            publisher: match publisher.strip_prefix(origin::PREFIX) {
                Some(organisation) => organisation.to_owned(),
                None => publisher,
            },
            upstream: None,
            target: None,
            view: View::Model,
            model,
        }
    }

    /// The model that it is, or is made of.
    pub(super) fn model(&self) -> &OpenModel {
        &self.model
    }

    /// Whether it is a model of another hub.
    fn is_origin(&self) -> bool {
        let alias = self.model.at().alias.as_deref();
        self.upstream.is_some() || alias.is_some_and(|alias| alias.starts_with(origin::PREFIX))
    }

    /// Its publisher's name.
    pub(super) fn author(&self) -> &str {
        &self.publisher
    }

    /// Its name without the publisher's.
    pub(super) fn name(&self) -> String {
        match self.view {
            View::Model => self.model.at().model.clone(),
            View::Gguf => format!("{}{GGUF_SUFFIX}", self.model.at().model),
        }
    }

    /// Its full name.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.publisher, self.name())
    }

    /// What `rev` names. A version that is not here is asked for among peers.
    ///
    /// # Errors
    /// 404 when it names nothing; 503 when what it depends on is nowhere to be had.
    pub(super) async fn revision(&self, rev: &str) -> Result<Revision, Problem> {
        let (rev, variant) = match rev.split_once(VARIANT_SEPARATOR) {
            Some((rev, variant)) => (rev, Some(variant)),
            None => (rev, None),
        };
        let (at, name) = (self.model.at(), &self.model.at().model);
        let publisher = at.publisher.to_hex();
        let is_commit = commit::is_one(rev);
        let revs = match (is_commit, self.view, variant) {
            (true, View::Model, None) => vec![rev, commit::base(rev)],
            (true, View::Gguf, None) => vec![commit::base(rev)],
            _ => vec![rev],
        };
        let version = match &self.upstream {
            Some(repository) if !(is_commit && self.view == View::Gguf) => {
                self.upstream(repository, rev, &revs).await?
            }
            _ => self.reader.first_version(&publisher, name, &revs).await?,
        };
        let absent = || absent_version(rev);
        let opened = match (self.view, variant) {
            (View::Gguf, None) => self.gguf(version).await?,
            // Its files are the variants already.
            (View::Gguf, Some(_)) => return Err(absent()),
            (View::Model, Some(variant)) => self.variant(version, variant).await?,
            (View::Model, None) if is_commit && commit_id(&version) != rev => {
                let made = variants::recipes(version.tree());
                let named = |recipe: &&Recipe| commit::of_made(version.id(), &[**recipe]) == rev;
                let recipe = made.iter().find(named).ok_or_else(absent)?;
                self.variant(version, &recipe.name()).await?
            }
            (View::Model, None) => Revision {
                commit: commit_id(&version),
                files: Files::stored(&version),
                version,
            },
        };
        if is_commit && variant.is_none() && opened.commit != rev {
            return Err(absent());
        }
        Ok(opened)
    }

    /// What `rev` names at the hub; what is made of a version has commit ids that the hub does not know.
    async fn upstream(
        &self,
        repository: &Repository,
        rev: &str,
        revs: &[&str],
    ) -> Result<OpenVersion, Problem> {
        let model = &self.model;
        match self.reader.version_upstream(model, repository, rev).await {
            Ok((version, written)) => match &self.target {
                Some(target) if written != *repository && self.view == View::Model => {
                    Err(moved(target, written.organisation(), written.name()))
                }
                _ => Ok(version),
            },
            Err(problem) if revs.len() > 1 && problem.kind() == FailureKind::NotFound => {
                let (publisher, name) = (model.at().publisher.to_hex(), &model.at().model);
                let found = self.reader.first_version(&publisher, name, revs).await;
                found.map_err(|_| problem)
            }
            Err(problem) => Err(problem),
        }
    }

    async fn variant(&self, version: OpenVersion, name: &str) -> Result<Revision, Problem> {
        let version = version.of_variant(name).await?;
        let variant = version.variant().cloned();
        let variant = variant.expect("it was just asked for");
        let kept = version.opener().kept(variant.recipe).await?;
        Ok(Revision {
            commit: commit::of_made(version.id(), &[variant.recipe]),
            files: Files::variant(variant, kept),
            version,
        })
    }

    async fn gguf(&self, version: OpenVersion) -> Result<Revision, Problem> {
        version.all_here()?;
        let commit = self.commit_of(version.id(), version.tree());
        let commit = commit
            .ok_or_else(|| absent_model(self.reader.caller(), &self.publisher, &self.name()))?;
        let opener = version.opener();
        let mut made = Vec::new();
        for (recipe, laid_out) in opener.all().await? {
            match laid_out {
                Ok(at) if recipe.makes_gguf() => made.push((at, opener.kept(recipe).await?)),
                Ok(_) => {}
                Err(failure) => tracing::debug!(%recipe, %failure, "a variant is not listed"),
            }
        }
        Ok(Revision {
            commit,
            files: Files::gguf(&self.model.at().model, made),
            version,
        })
    }

    /// The commit id of a version here; nothing when nothing is made of it.
    fn commit_of(&self, version: VersionId, tree: &Tree) -> Option<String> {
        match self.view {
            View::Model => Some(commit::of(version)),
            View::Gguf => {
                let mut recipes = variants::recipes(tree);
                recipes.retain(Recipe::makes_gguf);
                (!recipes.is_empty()).then(|| commit::of_made(version, &recipes))
            }
        }
    }

    /// The version that stands for the repository: that of `main`, or of the only branch.
    ///
    /// # Errors
    /// 404 when there is none, 503 when it is nowhere to be had.
    pub(super) async fn head(&self) -> Result<Revision, Problem> {
        if self.upstream.is_some() {
            return self.revision(MAIN).await;
        }
        let refs = self.model.refs().await?;
        self.revision(head(&refs).map_or(MAIN, |head| &head.name))
            .await
    }

    /// The same, if it is here.
    pub(super) async fn head_here(&self) -> Option<Revision> {
        let refs = self.model.refs().await.ok()?;
        let id = head(&refs)?.version?;
        let version = self.model.version(id, Vec::new()).await.ok()?;
        let revision = Revision {
            commit: commit_id(&version),
            files: Files::stored(&version),
            version,
        };
        revision.linked().await.ok()
    }

    /// Its branches and tags with their commit ids. Those of which too little is here are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn refs(&self) -> Result<Vec<(RefAt, String)>, Problem> {
        let mut named = Vec::new();
        if self.upstream.is_some() {
            let main = self.revision(MAIN).await?;
            let at = RefAt {
                kind: RefKind::Branch,
                name: MAIN.to_owned(),
                version: Some(main.version.id()),
                fork: Vec::new(),
            };
            named.push((at, main.commit));
        }
        for at in self.model.refs().await? {
            let Some(id) = at.version else { continue };
            if self.upstream.is_some() && at.name == MAIN {
                continue;
            }
            let commit = match self.view {
                View::Model => self.commit(id).await,
                View::Gguf => {
                    if at.name == MAIN {
                        self.model.complete(Some(id)).await;
                    }
                    self.commit(id).await
                }
            };
            named.extend(commit.map(|commit| (at, commit)));
        }
        Ok(named)
    }

    /// The commit id of one of the model's versions here, if it is here as far as that needs.
    pub(super) async fn commit(&self, id: VersionId) -> Option<String> {
        match self.view {
            View::Model if self.is_origin() => {
                let version = self.model.version(id, Vec::new()).await.ok()?;
                Some(commit_id(&version))
            }
            View::Model => Some(commit::of(id)),
            View::Gguf => {
                let version = self.model.version(id, Vec::new()).await.ok()?;
                self.commit_of(id, version.tree())
            }
        }
    }
}

impl Revision {
    /// The same with its links followed: for lists.
    ///
    /// # Errors
    /// 503 when a link is nowhere to be had.
    pub(super) async fn linked(mut self) -> Result<Self, Problem> {
        self.files.follow(&self.version, None).await?;
        Ok(self)
    }

    /// A failure about one of its files, which says of which commit.
    pub(super) fn mark(&self, problem: Problem) -> Problem {
        problem.with(X_REPO_COMMIT, ascii(self.commit.clone()))
    }

    /// The commit's title and the rest of its message.
    pub(super) fn title(&self) -> (String, String) {
        title(&self.version)
    }
}

/// The commit id of a version: its hub's own, if it has one.
fn commit_id(version: &OpenVersion) -> String {
    version
        .origin_commit()
        .unwrap_or_else(|| commit::of(version.id()))
}

/// The branch that stands for a repository: `main`, or the only one.
pub(crate) fn head(refs: &[RefAt]) -> Option<&RefAt> {
    let mut branches = refs.iter().filter(|at| at.kind == RefKind::Branch);
    let main = branches.clone().find(|at| at.name == MAIN);
    main.or_else(|| branches.next().filter(|_| branches.next().is_none()))
}

/// The first line of a version's message, and the rest.
pub(super) fn title(version: &OpenVersion) -> (String, String) {
    let message = version.doc().message.trim();
    let (title, rest) = message.split_once('\n').unwrap_or((message, ""));
    match title.trim() {
        "" => (
            format!("version {}", &version.id().to_hex()[..8]),
            String::new(),
        ),
        title => (title.to_owned(), rest.trim().to_owned()),
    }
}

/// How a model is written that an address names in another case.
pub(crate) fn spelling(model: &OpenModel, publisher: &str, name: &str) -> Option<(String, String)> {
    let at = model.at();
    let alias = at.alias.clone().unwrap_or_else(|| at.publisher.to_hex());
    let same = alias.eq_ignore_ascii_case(publisher) && at.model.eq_ignore_ascii_case(name);
    (same && (alias != publisher || at.model != name)).then(|| (alias, at.model.clone()))
}

/// The base and the suffix, as it is written, of a repository of GGUF files.
pub(crate) fn split_gguf(name: &str) -> Option<(&str, &str)> {
    let at = name.len().checked_sub(GGUF_SUFFIX.len())?;
    let (base, suffix) = name.split_at_checked(at)?;
    (!base.is_empty() && suffix.eq_ignore_ascii_case(GGUF_SUFFIX)).then_some((base, suffix))
}

/// That the repository is at another address: the same path with its name as it is written.
fn moved(target: &Target, publisher: &str, name: &str) -> Problem {
    let mut segments: Vec<&str> = target.segments().iter().map(String::as_str).collect();
    let at = usize::from(segments.first() == Some(&"api")) * 2;
    (segments[at], segments[at + 1]) = (publisher, name);
    redirect(target, &segments)
}

/// That what was asked for is at the address of these segments, with the query as it was.
pub(super) fn redirect(target: &Target, segments: &[&str]) -> Problem {
    let mut location = String::new();
    for segment in segments {
        location.push('/');
        location.push_str(&encode_segment(segment));
    }
    location.push_str(&target.query_text());
    Problem::moved(&location)
}
