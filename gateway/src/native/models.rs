//! Models, their branches and tags, and single versions.

use hyper::StatusCode;
use lode_node::read::{ModelAt, RefAt, RefKind};
use lode_store::VersionId;
use serde::Serialize;

use crate::{
    answer::{Answer, Problem, json},
    reader::{OpenModel, Reader},
    route::Request,
    target::encode_segment,
};

/// One model.
#[derive(Serialize)]
struct ModelRow {
    name: String,
    publisher: String,
    model: String,
    public: bool,
    version: Option<String>,
    time: Option<u64>,
    size: Option<u64>,
    url: String,
}

/// One branch or tag.
#[derive(Serialize)]
struct RefRow {
    kind: &'static str,
    name: String,
    version: Option<String>,
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
    #[derive(Serialize)]
    struct List {
        models: Vec<ModelRow>,
    }
    let mut models = Vec::new();
    for model in reader.models().await? {
        models.push(row(&model).await?.0);
    }
    Ok(json(StatusCode::OK, &List { models }))
}

/// `GET /lode/v1/models/{publisher}/{model}`
pub(super) async fn show(reader: Reader, request: Request) -> Answer {
    #[derive(Serialize)]
    struct Shown {
        #[serde(flatten)]
        row: ModelRow,
        refs: Vec<RefRow>,
    }
    let model = reader.model(&request.params).await?;
    model.complete(head(&model.refs().await?)).await;
    let (row, refs) = row(&model).await?;
    let refs = refs.into_iter().map(RefRow::new).collect();
    Ok(json(StatusCode::OK, &Shown { row, refs }))
}

/// `GET /lode/v1/models/{publisher}/{model}/{rev}`
pub(super) async fn version(reader: Reader, request: Request) -> Answer {
    #[derive(Serialize)]
    struct Shown<'a> {
        name: String,
        publisher: Option<String>,
        model: &'a str,
        version: String,
        tree: String,
        kind: &'static str,
        parents: Vec<String>,
        author: Option<&'a str>,
        time: u64,
        message: &'a str,
        refs: Vec<RefRow>,
        fork: Vec<String>,
        base: Vec<String>,
        license: Option<&'a str>,
        annotations: &'a std::collections::BTreeMap<String, String>,
        public: bool,
        files: usize,
        size: u64,
        url: String,
    }
    let version = reader.version(&request.params).await?;
    let mut refs = version.model().refs().await?;
    refs.retain(|at| at.version == Some(version.id()));
    let (doc, at) = (version.doc(), version.model().at());
    let shown = Shown {
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
