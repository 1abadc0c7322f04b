//! Models, their branches and tags, and single versions.

use std::collections::BTreeMap;

use hyper::StatusCode;
use lode_node::read::{ModelAt, RefAt, RefKind};
use lode_store::VersionId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    answer::{Answer, Problem, json},
    describe::Description,
    reader::{OpenModel, Reader},
    route::Request,
    target::encode_segment,
};

/// One model.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
struct ModelRow {
    /// What to type.
    name: String,
    /// The publisher's key.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    publisher: String,
    model: String,
    /// Whether everyone may read it.
    public: bool,
    /// That of `main`, or of the only branch.
    #[schema(required, pattern = "^[0-9a-f]{64}$")]
    version: Option<String>,
    /// When that was made, in seconds since 1970.
    #[schema(required)]
    time: Option<u64>,
    /// Its bytes.
    #[schema(required)]
    size: Option<u64>,
    /// Where to go on.
    url: String,
}

/// The models of the home that the caller may read.
#[derive(Serialize, ToSchema)]
struct ModelList {
    models: Vec<ModelRow>,
}

/// A model with its branches and tags.
#[derive(Serialize, ToSchema)]
struct ModelShown {
    #[serde(flatten)]
    row: ModelRow,
    refs: Vec<RefRow>,
}

/// A version.
#[derive(Serialize, ToSchema)]
#[schema(as = Version)]
struct VersionShown<'a> {
    /// The model's name, as to be typed.
    name: String,
    /// The publisher's key; nothing for what nobody signed.
    #[schema(required, pattern = "^[0-9a-f]{64}$")]
    publisher: Option<String>,
    model: &'a str,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    version: String,
    /// Id of the list of its files.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    tree: String,
    /// `model`, `collection` or `dataset`.
    kind: &'static str,
    parents: Vec<String>,
    #[schema(required)]
    author: Option<&'a str>,
    /// Seconds since 1970.
    time: u64,
    message: &'a str,
    /// The branches and tags that name it.
    refs: Vec<RefRow>,
    /// The versions that signers disagree about, if it was named by a ref that forked.
    fork: Vec<String>,
    /// What it was made from.
    base: Vec<String>,
    #[schema(required)]
    license: Option<&'a str>,
    annotations: &'a BTreeMap<String, String>,
    /// Whether everyone may read it.
    public: bool,
    /// How many files.
    files: usize,
    /// Their bytes.
    size: u64,
    /// Where to go on.
    url: String,
}

/// One branch or tag.
#[derive(Serialize, ToSchema)]
#[schema(as = Ref)]
struct RefRow {
    /// `branch` or `tag`.
    kind: &'static str,
    name: String,
    /// The version that it names; the last common one where signers disagree.
    #[schema(required, pattern = "^[0-9a-f]{64}$")]
    version: Option<String>,
    /// The versions that signers disagree about.
    fork: Vec<String>,
}

impl RefRow {
    fn new(at: RefAt) -> Self {
        Self {
            kind: at.kind.as_str(),
            name: at.name,
            version: at.version.map(VersionId::to_hex),
            fork: hexes(&at.fork),
        }
    }
}

fn hexes(ids: &[VersionId]) -> Vec<String> {
    ids.iter().map(|id| id.to_hex()).collect()
}

/// Where a model is found.
fn url(at: &ModelAt) -> String {
    let publisher = at.alias.clone().unwrap_or_else(|| at.publisher.to_hex());
    format!("/lode/v1/models/{publisher}/{}", encode_segment(&at.model))
}

/// The version that stands for a model: that of `main`, or of the only branch.
fn head(refs: &[RefAt]) -> Option<VersionId> {
    let mut branches = refs.iter().filter(|at| at.kind == RefKind::Branch);
    let main = branches.clone().find(|at| at.name == "main");
    main.or_else(|| branches.next().filter(|_| branches.next().is_none()))?
        .version
}

async fn row(model: &OpenModel) -> Result<(ModelRow, Vec<RefAt>), Problem> {
    let refs = model.refs().await?;
    let head = head(&refs);
    let version = match head {
        // A model whose documents are not here is listed without them.
        Some(id) => model.version(id, Vec::new()).await.ok(),
        None => None,
    };
    let at = model.at();
    let row = ModelRow {
        name: at.name(),
        publisher: at.publisher.to_hex(),
        model: at.model.clone(),
        public: model.is_public(),
        version: head.map(VersionId::to_hex),
        time: version.as_ref().map(|version| version.doc().time),
        size: version.as_ref().map(|version| version.tree().size()),
        url: url(at),
    };
    Ok((row, refs))
}

/// `GET /lode/v1/models`
pub(super) async fn list(reader: Reader, _: Request) -> Answer {
    let mut models = Vec::new();
    for model in reader.models().await? {
        models.push(row(&model).await?.0);
    }
    Ok(json(StatusCode::OK, &ModelList { models }))
}

pub(super) fn describe_list() -> Description {
    Description::json::<ModelList>("The models that the caller may read.")
}

/// `GET /lode/v1/models/{publisher}/{model}`
pub(super) async fn show(reader: Reader, request: Request) -> Answer {
    let model = reader.model(&request.params).await?;
    model.complete(head(&model.refs().await?)).await;
    let (row, refs) = row(&model).await?;
    let refs = refs.into_iter().map(RefRow::new).collect();
    Ok(json(StatusCode::OK, &ModelShown { row, refs }))
}

pub(super) fn describe_show() -> Description {
    Description::json::<ModelShown>("The model, its branches and its tags.")
}

/// `GET /lode/v1/models/{publisher}/{model}/{rev}`
pub(super) async fn version(reader: Reader, request: Request) -> Answer {
    let version = reader.version(&request.params).await?;
    let mut refs = version.model().refs().await?;
    refs.retain(|at| at.version == Some(version.id()));
    let (doc, at) = (version.doc(), version.model().at());
    let shown = VersionShown {
        name: at.name(),
        publisher: doc.publisher.map(|publisher| publisher.to_hex()),
        model: &doc.model,
        version: version.id().to_hex(),
        tree: doc.tree.to_hex(),
        kind: doc.kind.as_str(),
        parents: hexes(&doc.parents),
        author: doc.author.as_deref(),
        time: doc.time,
        message: &doc.message,
        refs: refs.into_iter().map(RefRow::new).collect(),
        fork: hexes(version.fork()),
        base: hexes(&doc.links.base),
        license: doc.links.license.as_deref(),
        annotations: &doc.links.annotations,
        public: version.model().is_public(),
        files: version.tree().files().len(),
        size: version.tree().size(),
        url: format!("{}/{}", url(at), version.id()),
    };
    let mut response = json(StatusCode::OK, &shown);
    version.mark(response.headers_mut());
    Ok(response)
}

pub(super) fn describe_version() -> Description {
    Description::json::<VersionShown<'_>>("The version.").of_version()
}
