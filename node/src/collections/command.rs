//! What is asked of collections from the command line and the native routes: one vocabulary, the engine's words.

mod import;
mod points;
mod search;

use std::collections::BTreeMap;

use lode_index::{
    CollectionConfig, Dim, VectorParams,
    collection::{Budget, Maintained},
    operation::Operation,
    schema::{
        Embedder, FieldType, SparseParams, dtype_name, dtype_named, metric_name, metric_named,
    },
    tokenizer::TextRule,
};

use super::{CollectionAt, Collections, CollectionsError, OpenCollection, replica, version};
use crate::{
    EventSink, Node,
    command::{
        CollectionCommand, CollectionCreate, CollectionRow, CollectionShown, Failure, Outcome,
        SparseRow, VectorRow,
    },
};

/// Carries out a command. Blocks.
pub(crate) fn run(
    node: &Node,
    command: CollectionCommand,
    events: &EventSink,
) -> Result<Outcome, Failure> {
    let collections = node.collections();
    match command {
        CollectionCommand::Create(request) => create(&collections, &request),
        CollectionCommand::Ls => {
            let all = collections.list()?;
            let rows = all.iter().map(|at| row(&collections, at));
            let collections = rows.collect::<Result<_, _>>()?;
            Ok(Outcome::Collections { collections })
        }
        CollectionCommand::Show { name } => shown(&collections, &collections.find(&name)?),
        CollectionCommand::Remove { name, force } => remove(&collections, &name, force),
        CollectionCommand::Commit(request) => version::commit(node, &request, events),
        CollectionCommand::Restore(request) => replica::restore(node, &request, events),
        CollectionCommand::Import(request) => import::import(&collections, &request, events),
        CollectionCommand::Search(request) => search::search(&collections, &request, events),
        CollectionCommand::Points(request) => points::read(&collections, &request, events),
        CollectionCommand::DeletePoints(request) => points::delete(&collections, &request),
        CollectionCommand::IndexCreate { name, field, kind } => {
            let path = field.parse().map_err(usage)?;
            let kind = field_type(&kind)?;
            let open = collections.open_named(&name)?;
            changed(open.apply(Operation::CreateIndex { path, kind }))
        }
        CollectionCommand::IndexRemove { name, field } => {
            let path = field.parse().map_err(usage)?;
            let open = collections.open_named(&name)?;
            changed(open.apply(Operation::DeleteIndex { path }))
        }
        CollectionCommand::Compact { name } => {
            let open = writable(&collections, &name)?;
            events.start("compact", &name);
            compact(&open, events)?;
            Ok(Outcome::Ok)
        }
        CollectionCommand::Purge { name } => version::purge(node, &name, events),
    }
}

impl Collections {
    /// Carries out a command, whoever it is that asks. Blocks.
    ///
    /// # Errors
    /// With a kind from which exit code and HTTP status follow.
    pub fn ask(&self, command: CollectionCommand, events: &EventSink) -> Result<Outcome, Failure> {
        run(&self.node, command, events)
    }

    /// A collection as it is listed; one that cannot be read with the reason.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn row(&self, at: &CollectionAt) -> Result<CollectionRow, Failure> {
        row(self, at)
    }
}

/// A mistake in what was asked.
pub(super) fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::usage(error.to_string())
}

/// What the engine says of a collection.
pub(super) fn engine(
    open: &OpenCollection,
) -> impl Fn(lode_index::CollectionError) -> Failure + use<> {
    let name = open.name().to_owned();
    move |error| CollectionsError::index(&name, error).into()
}

/// The collection of a name, which this home may change.
pub(super) fn writable(collections: &Collections, name: &str) -> Result<OpenCollection, Failure> {
    let open = collections.open_named(name)?;
    match open.is_writable() {
        true => Ok(open),
        false => Err(CollectionsError::NotYours {
            name: name.to_owned(),
        }
        .into()),
    }
}

fn changed(applied: Result<lode_index::Applied, CollectionsError>) -> Result<Outcome, Failure> {
    let points = applied?.points;
    Ok(Outcome::PointsChanged { points })
}

/// Does all maintenance that there is to do; whoever asked may leave between steps.
pub(super) fn settle(open: &OpenCollection, events: &EventSink) -> Result<(), Failure> {
    let budget = Budget::default();
    let mut steps = 0;
    loop {
        if events.is_cancelled() {
            return Err(Failure::cancelled());
        }
        events.progress("merge", steps, 0, 0);
        steps += 1;
        if open.engine().maintain(&budget).map_err(engine(open))? == Maintained::Nothing {
            return Ok(());
        }
    }
}

pub(super) fn compact(open: &OpenCollection, events: &EventSink) -> Result<(), Failure> {
    events.progress("compact", 0, 0, 0);
    open.engine().compact().map_err(engine(open))?;
    settle(open, events)
}

fn create(collections: &Collections, request: &CollectionCreate) -> Result<Outcome, Failure> {
    let mut config = CollectionConfig {
        vectors: request
            .vectors
            .iter()
            .map(|(name, row)| Ok((name.clone(), params(row)?)))
            .collect::<Result<_, Failure>>()?,
        sparse: request
            .sparse
            .iter()
            .map(|(name, row)| (name.clone(), SparseParams { idf: row.idf }))
            .collect(),
        embedder: request.embedder.as_ref().map(|name| Embedder {
            name: name.clone(),
            ..Embedder::default()
        }),
        ..CollectionConfig::default()
    };
    for (path, kind) in &request.indexes {
        let path = path.parse().map_err(usage)?;
        config
            .schema
            .insert(path, field_type(kind)?)
            .map_err(usage)?;
    }
    let at = collections.create(&request.name, config, request.public)?;
    shown(collections, &at)
}

fn params(row: &VectorRow) -> Result<VectorParams, Failure> {
    Ok(VectorParams {
        dim: Dim::new(row.size).map_err(usage)?,
        metric: metric_named(&row.metric).ok_or_else(|| {
            usage(format!(
                "no metric {:?}: cosine, dot, euclid or manhattan",
                row.metric
            ))
        })?,
        dtype: dtype_named(&row.dtype).ok_or_else(|| {
            usage(format!(
                "vectors are not stored as {:?}: f32, f16 or u8",
                row.dtype
            ))
        })?,
    })
}

/// What a field is indexed as, by its name.
pub(super) fn field_type(name: &str) -> Result<FieldType, Failure> {
    Ok(match name {
        "keyword" => FieldType::Keyword,
        "integer" => FieldType::Integer,
        "float" => FieldType::Float,
        "datetime" => FieldType::Datetime,
        "bool" => FieldType::Bool,
        "text" => FieldType::Text(TextRule::default()),
        "geo" => FieldType::Geo,
        _ => {
            return Err(usage(format!(
                "no index {name:?}: keyword, integer, float, datetime, bool, text or geo"
            )));
        }
    })
}

fn field_name(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Keyword => "keyword",
        FieldType::Integer => "integer",
        FieldType::Float => "float",
        FieldType::Datetime => "datetime",
        FieldType::Bool => "bool",
        FieldType::Text(_) => "text",
        FieldType::Geo => "geo",
        _ => "other",
    }
}

/// A collection that cannot be read is listed, with the reason.
fn row(collections: &Collections, at: &CollectionAt) -> Result<CollectionRow, Failure> {
    let mut row = CollectionRow {
        name: collections.full_name(at)?,
        publisher: at.publisher.to_hex(),
        points: None,
        size: 0,
        vectors: String::new(),
        own: collections.may_sign(&at.publisher, &at.name)?,
        public: at.public,
        version: version::noted(&collections.node, at)?.map(|noted| noted.version.to_hex()),
        trouble: None,
    };
    match collections.open(at) {
        Ok(open) => {
            let view = open.view();
            row.points = Some(view.len());
            row.size = view.bytes();
            row.vectors = vectors(view.config());
            let damaged = view.damaged().first();
            row.trouble = damaged
                .map(|damaged| format!("segment {} is damaged: {}", damaged.segment, damaged.what))
                .or_else(|| open.trouble());
        }
        Err(error) => row.trouble = Some(error.to_string()),
    }
    Ok(row)
}

fn vectors(config: &CollectionConfig) -> String {
    let named = |name: &str, what: String| match name {
        "" => what,
        name => format!("{name}: {what}"),
    };
    let dense = config.vectors.iter().map(|(name, params)| {
        let dtype = match dtype_name(params.dtype) {
            "f32" => String::new(),
            other => format!(" {other}"),
        };
        let metric = metric_name(params.metric);
        named(name, format!("{} {metric}{dtype}", params.dim.get()))
    });
    let sparse = config
        .sparse
        .keys()
        .map(|name| named(name, "sparse".to_owned()));
    dense.chain(sparse).collect::<Vec<_>>().join(", ")
}

/// All that is to say of a collection.
pub(super) fn shown(collections: &Collections, at: &CollectionAt) -> Result<Outcome, Failure> {
    let open = collections.open(at)?;
    let view = open.view();
    let config = view.config();
    let noted = version::noted(&collections.node, at)?;
    let dense = config.vectors.iter().map(|(name, params)| {
        let row = VectorRow {
            size: u32::try_from(params.dim.get()).unwrap_or(u32::MAX),
            metric: metric_name(params.metric).to_owned(),
            dtype: dtype_name(params.dtype).to_owned(),
        };
        (name.clone(), row)
    });
    let sparse = config.sparse.iter();
    Ok(Outcome::Collection(Box::new(CollectionShown {
        row: row(collections, at)?,
        created: at.created,
        dense: dense.collect(),
        sparse: sparse
            .map(|(name, params)| (name.clone(), SparseRow { idf: params.idf }))
            .collect(),
        indexes: config
            .schema
            .iter()
            .map(|(path, kind)| (path.to_string(), field_name(kind).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        embedder: config
            .embedder
            .as_ref()
            .map(|embedder| embedder.name.clone()),
        segments: view.segments() as u64,
        vectors_indexed: view.indexed_vectors(),
        sequence: view.sequence(),
        changed: noted.is_none_or(|noted| noted.sequence != view.sequence()),
    })))
}

fn remove(collections: &Collections, name: &str, force: bool) -> Result<Outcome, Failure> {
    let at = collections.find(name)?;
    let own = collections.may_sign(&at.publisher, &at.name)?;
    if own && !force {
        let noted = version::noted(&collections.node, &at)?;
        // one that cannot be read has nothing that a version could still be made of
        if let Ok(open) = collections.open(&at)
            && !open.view().is_empty()
            && noted.is_none_or(|noted| noted.sequence != open.view().sequence())
        {
            return Err(Failure::refused(format!(
                "{name} holds points that are in no version of it"
            ))
            .advise(format!(
                "`lode collection commit {name}` makes one; `--force` deletes them"
            )));
        }
    }
    collections.delete(&at)?;
    version::forget_notes(&collections.node, &at)?;
    Ok(Outcome::Ok)
}

/// Holds what somebody says of their vectors against what the collection is bound to.
pub(super) fn check_made(
    open: &OpenCollection,
    using: &str,
    embedder: Option<&str>,
    metric: Option<&str>,
) -> Result<(), Failure> {
    let view = open.view();
    let config = view.config();
    if let Some(given) = embedder {
        match &config.embedder {
            Some(bound) if bound.name == given => {}
            Some(bound) => {
                return Err(Failure::refused(format!(
                    "vectors of {given:?} do not belong to {}, whose vectors are made by {:?}",
                    open.name(),
                    bound.name
                ))
                .advise("embed with that model, or make a collection for this one"));
            }
            None => {
                return Err(
                    Failure::refused(format!("{} is bound to no embedder", open.name()))
                        .advise("leave --embedder out, or make the collection with one"),
                );
            }
        }
    }
    if let (Some(given), Some(params)) = (metric, config.vectors.get(using))
        && metric_name(params.metric) != given
    {
        return Err(Failure::refused(format!(
            "{} compares by {}, not by {given}",
            open.name(),
            metric_name(params.metric)
        )));
    }
    Ok(())
}

/// The publisher that a collection's versions are signed for, as names are written.
pub(super) fn publisher_name(at: &CollectionAt) -> lode_store::name::PublisherName {
    lode_store::name::PublisherName::Key(at.publisher)
}
