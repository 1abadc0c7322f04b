//! Reads: of one state of a collection, however long they take and whatever is written meanwhile.
//!
//! A damaged segment does not take the others down: reads answer from what is sound, and their [`Report`] names
//! what is not. Reports also count how conditions were answered, by index or by looking at payloads.

use std::{collections::BTreeMap, io, sync::Arc};

use crate::{
    filter::{Filter, Scalar},
    id::PointId,
    limits::RESULTS_MAX,
    payload::{Payload, PayloadPath},
    point::Vector,
    rows::RowSet,
    schema::CollectionConfig,
    state::{PartKey, State},
    vectors::{Query, Search},
};

mod facet;
mod order;
mod rank;
mod sample;
mod scroll;
mod search;
mod select;

pub use crate::state::Damaged;
pub(crate) use order::Counted;
pub use order::{OrderRequest, OrderValue};
pub use search::{QueryError, QueryVector, SearchRequest};
pub(crate) use select::select as select_rows;

/// Why rows of a part could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// Bytes are not what was written.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] Arc<io::Error>),
}

/// One state of a collection, to read from.
#[derive(Debug, Clone)]
pub struct View {
    state: Arc<State>,
}

/// What a read had to do, and could not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Conditions that an index answered, counted for each part.
    pub indexed: u64,
    /// Payloads that were looked at.
    pub scanned: u64,
    /// Parts that could not be read, and why: their points are missing from the answer.
    pub damaged: Vec<String>,
}

/// A point that a search found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredPoint {
    /// Its id.
    pub id: PointId,
    /// The operation that wrote it.
    pub version: u64,
    /// How near it is: higher is nearer, by the metrics that are distances lower.
    pub score: f32,
}

/// A point as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: PointId,
    /// The operation that wrote it.
    pub version: u64,
    /// Its payload, if it was asked for.
    pub payload: Option<Payload>,
    /// Those of its vectors that were asked for and that it has.
    pub vectors: BTreeMap<String, Vector>,
}

/// What of a point is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct With {
    /// Its payload.
    pub payload: bool,
    /// Its vectors.
    pub vectors: WithVectors,
}

/// Which vectors are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WithVectors {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these names.
    Named(Vec<String>),
}

/// Some points in order of their ids, and where the next ones begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The points.
    pub records: Vec<Record>,
    /// The first id that is not among them, if there are more.
    pub next: Option<PointId>,
}

/// A dense query as parts see it.
#[derive(Debug)]
pub(crate) struct DenseQuery<'a> {
    pub(crate) name: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) breadth: Option<usize>,
    pub(crate) exact: bool,
    pub(crate) threshold: Option<f32>,
}

impl DenseQuery<'_> {
    pub(crate) fn search<'a>(&self, k: usize, filter: Option<&'a RowSet>) -> Search<'a> {
        let nearest = Search::nearest(k);
        Search {
            breadth: self
                .breadth
                .map_or(nearest.breadth, |breadth| breadth.max(k)),
            exact: self.exact,
            threshold: self.threshold,
            filter,
            ..nearest
        }
    }
}

impl View {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// The configuration.
    pub fn config(&self) -> &CollectionConfig {
        &self.state.config
    }

    /// Operations before this state: a later state has a higher one.
    pub fn sequence(&self) -> u64 {
        self.state.sequence
    }

    /// How many points there are.
    pub fn len(&self) -> u64 {
        self.state.count()
    }

    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.state.segments.len()
    }

    /// Bytes of segments, and of vectors and payloads in memory.
    pub fn bytes(&self) -> u64 {
        let segments = self.state.segments.iter();
        let segments: u64 = segments.map(|segment| segment.part.bytes()).sum();
        self.live_bytes() + segments
    }

    /// Bytes of vectors and payloads in memory: they are in the log, and in no segment yet.
    pub fn live_bytes(&self) -> u64 {
        let sealed = self.state.sealed.iter().map(|sealed| &sealed.live);
        let live = sealed.chain([&self.state.live]);
        live.map(|live| live.bytes() as u64).sum()
    }

    /// How many dense vectors are in segments.
    pub fn indexed_vectors(&self) -> u64 {
        self.state
            .segments
            .iter()
            .map(|segment| segment.part.vectors())
            .sum()
    }

    /// Segments that could not be opened.
    pub fn damaged(&self) -> &[Damaged] {
        &self.state.damaged
    }

    /// Points by their ids, in the order that was asked for; what is not there is left out.
    ///
    /// # Errors
    /// [`PartError`] if a part that must be asked is damaged.
    pub fn retrieve(&self, ids: &[PointId], with: &With) -> Result<Vec<Record>, PartError> {
        let mut records = Vec::new();
        for id in ids {
            if let Some((key, row)) = self.state.find(*id)? {
                records.push(self.record(key, row, with)?);
            }
        }
        Ok(records)
    }

    /// How many points pass.
    pub fn count(&self, filter: &Filter, report: &mut Report) -> u64 {
        if filter.is_empty() {
            return self.len();
        }
        let filter = self.bound(filter);
        let mut count = 0;
        for view in self.state.parts() {
            let rows = select::select(view, &filter, report);
            count += report.sound(view.key, rows).map_or(0, |rows| rows.len());
        }
        count
    }

    fn record(&self, key: PartKey, row: u32, with: &With) -> Result<Record, PartError> {
        let view = self
            .state
            .part(key)
            .ok_or(PartError::Damaged("a part is missing"))?;
        let mut vectors = BTreeMap::new();
        let mut read = |name: &String| {
            let vector = view.part.vector(name, row)?;
            vectors.extend(vector.map(|vector| (name.clone(), vector)));
            Ok::<_, PartError>(())
        };
        match &with.vectors {
            WithVectors::None => {}
            WithVectors::All => {
                let config = &self.state.config;
                config
                    .vectors
                    .keys()
                    .chain(config.sparse.keys())
                    .try_for_each(&mut read)?;
            }
            WithVectors::Named(names) => names.iter().try_for_each(&mut read)?,
        }
        Ok(Record {
            id: view.part.id(row)?,
            version: view.part.version(row)?,
            payload: with.payload.then(|| view.part.payload(row)).transpose()?,
            vectors,
        })
    }

    /// The filter with the words that the schema says.
    fn bound(&self, filter: &Filter) -> Filter {
        let mut filter = filter.clone();
        filter.bind(&self.state.config.schema);
        filter
    }
}

impl Report {
    /// What was read, unless the part is damaged: then that is noted.
    fn sound<T>(&mut self, key: PartKey, read: Result<T, PartError>) -> Option<T> {
        read.map_err(|error| self.damaged.push(format!("{key:?}: {error}")))
            .ok()
    }
}

/// A number of results that was asked for, within bounds.
fn bounded(limit: usize) -> usize {
    limit.min(RESULTS_MAX)
}

/// What a facet counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetHit {
    /// The value.
    pub value: Scalar,
    /// How many points have it.
    pub count: u64,
}

/// Of which field values are counted, and how many of the most frequent are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct FacetRequest {
    /// The field.
    pub path: PayloadPath,
    /// In which points.
    pub filter: Filter,
    /// How many values.
    pub limit: usize,
}
