//! What is asked of a collection, as clients write it: queries and the prefetches inside them, of bounded number
//! and depth. Nothing here looks at a collection.

use lode_index::{
    Filter, PointId,
    filter::Condition,
    payload::PayloadPath,
    view::{OrderValue, QueryVector, WithVectors},
};
use serde_json::{Map, Value};

mod query;

use super::{
    json::{Fields, format_error, texts},
    show::WithPayload,
    wrong_input,
};
use crate::{
    answer::Problem,
    limits::{QDRANT_PREFETCH_DEPTH_MAX, QDRANT_QUERIES_MAX},
};
pub(super) use query::order_by;
use query::{query_vector, read_query};

/// How many points are found when nobody says.
const LIMIT: usize = 10;

/// One query, or a prefetch of one.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Asked first: the query is about what they find.
    pub prefetch: Vec<Ask>,
    /// What for; points in the order of their ids without it.
    pub query: Option<Query>,
    /// The vector that is compared.
    pub using: String,
    /// Which points may be found.
    pub filter: Filter,
    /// How many points.
    pub limit: usize,
    /// How many of the best are left out.
    pub offset: usize,
    /// The worst score that is wanted.
    pub threshold: Option<f32>,
    /// How many near points a search keeps in sight.
    pub breadth: Option<usize>,
    /// Whether all points are compared.
    pub exact: bool,
}

/// What is shown of the points that are found.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Their payloads.
    pub payload: WithPayload,
    /// Their vectors.
    pub vectors: WithVectors,
}

/// What points are found for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Query {
    /// Nearness.
    Nearest(Input),
    /// Nearness, and not being like one another.
    Mmr {
        /// To what.
        nearest: Input,
        /// From 0, nearness alone, to 1.
        diversity: f32,
        /// Among how many of the nearest; as many as are wanted without it.
        candidates: Option<usize>,
    },
    /// Being like some and unlike others.
    Recommend {
        /// Like these.
        positive: Vec<Input>,
        /// Unlike these.
        negative: Vec<Input>,
        /// In what sense.
        strategy: Strategy,
    },
    /// Being on the right side of pairs, and near to a target where that is as good.
    Discover {
        /// The target.
        target: Input,
        /// Pairs of what points should rather be like, and what not.
        context: Vec<(Input, Input)>,
    },
    /// Being on the right side of pairs, or not far on the wrong one.
    Context(Vec<(Input, Input)>),
    /// The values of a field.
    OrderBy(OrderBy),
    /// Nothing: any points.
    Sample,
    /// The ranks that prefetches gave.
    Rrf {
        /// How little the first ranks matter.
        k: f32,
        /// One for each prefetch.
        weights: Option<Vec<f32>>,
    },
    /// The scores that prefetches gave, by their distribution.
    Dbsf,
}

/// An order by the values of a field.
#[derive(Debug, Clone)]
pub struct OrderBy {
    /// The field.
    pub path: PayloadPath,
    /// Whether the highest come first.
    pub descending: bool,
    /// The first value that is wanted.
    pub from: Option<OrderValue>,
}

/// What points are compared with.
#[derive(Debug, Clone)]
pub enum Input {
    /// A vector.
    Vector(QueryVector),
    /// The vector of a point, which is not found itself.
    Id(PointId),
}

/// In what sense a point is like some and unlike others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Near to the mean of these, away from the mean of the others.
    AverageVector,
    /// By the best of all comparisons.
    BestScore,
    /// By the sum of all comparisons.
    SumScores,
}

/// A query for points by groups.
#[derive(Debug, Clone)]
pub struct Groups {
    /// The query; its limit is of groups.
    pub ask: Ask,
    /// What is shown of points.
    pub shown: Shown,
    /// The field whose values are groups.
    pub by: PayloadPath,
    /// Points of each.
    pub size: usize,
}

/// The query that a body is.
///
/// # Errors
/// 400 for what is not of the grammar or not done, 422 for what is out of range.
pub fn query(body: &Map<String, Value>) -> Result<(Ask, Shown), Problem> {
    let mut left = QDRANT_QUERIES_MAX;
    one(body, &mut left)
}

/// The queries that a body is.
///
/// # Errors
/// As [`query`].
pub fn queries(body: &Map<String, Value>) -> Result<Vec<(Ask, Shown)>, Problem> {
    each(body, &mut |body, left| one(body, left))
}

/// The searches of older clients that a body is.
///
/// # Errors
/// As [`query`].
pub fn searches(body: &Map<String, Value>) -> Result<Vec<(Ask, Shown)>, Problem> {
    each(body, &mut |body, _| search(body))
}

/// Reads one of several queries; the number is how many there may still be.
type ReadOne<'a> = dyn FnMut(&Map<String, Value>, &mut usize) -> Result<(Ask, Shown), Problem> + 'a;

fn each(body: &Map<String, Value>, read: &mut ReadOne<'_>) -> Result<Vec<(Ask, Shown)>, Problem> {
    let mut fields = Fields::new(body);
    let list = fields.list("searches")?;
    fields.end()?;
    let list = list.ok_or_else(|| format_error("missing field `searches`"))?;
    if list.len() > QDRANT_QUERIES_MAX {
        return Err(too_many());
    }
    let mut left = QDRANT_QUERIES_MAX;
    list.iter()
        .map(|item| {
            let item = item.as_object();
            read(
                item.ok_or_else(|| format_error("a search is no object"))?,
                &mut left,
            )
        })
        .collect()
}

fn one(body: &Map<String, Value>, left: &mut usize) -> Result<(Ask, Shown), Problem> {
    let mut fields = Fields::new(body);
    let ask = ask(&mut fields, left, 0)?;
    let shown = shown(&mut fields, false)?;
    fields.end()?;
    Ok((ask, shown))
}

/// The grouped query that a body is.
///
/// # Errors
/// As [`query`].
pub fn groups(body: &Map<String, Value>) -> Result<Groups, Problem> {
    let mut fields = Fields::new(body);
    let ask = ask(&mut fields, &mut { QDRANT_QUERIES_MAX }, 0)?;
    let by = fields.text("group_by")?;
    let by = by.ok_or_else(|| format_error("missing field `group_by`"))?;
    let by = by.parse().map_err(format_error)?;
    let size = fields.count("group_size")?.unwrap_or(3);
    let shown = shown(&mut fields, false)?;
    fields.end()?;
    Ok(Groups {
        ask,
        shown,
        by,
        size,
    })
}

/// The search of an older client that a body is.
///
/// # Errors
/// As [`query`].
pub fn search(body: &Map<String, Value>) -> Result<(Ask, Shown), Problem> {
    let mut fields = Fields::new(body);
    let vector = fields.need("vector")?;
    let (using, vector) = match vector {
        Value::Object(named) => {
            let mut named = Fields::new(named);
            let name = named.text("name")?.unwrap_or_default();
            let vector = named.need("vector")?;
            named.end()?;
            (name.to_owned(), vector)
        }
        other => (String::new(), other),
    };
    let query = Query::Nearest(Input::Vector(query_vector(vector)?));
    let limit = fields.count("limit")?;
    let mut ask = Ask {
        prefetch: Vec::new(),
        query: Some(query),
        using,
        filter: fields.filter("filter")?.unwrap_or_default(),
        limit: limit.ok_or_else(|| format_error("missing field `limit`"))?,
        offset: fields.size("offset")?.unwrap_or(0),
        threshold: threshold(&mut fields)?,
        breadth: None,
        exact: false,
    };
    params(&mut fields, &mut ask)?;
    let shown = shown(&mut fields, false)?;
    fields.end()?;
    Ok((ask, shown))
}

/// What of points is shown; payloads without being asked for when one asks for points alone.
pub(super) fn shown(fields: &mut Fields<'_>, payload: bool) -> Result<Shown, Problem> {
    let payload = match fields.get("with_payload") {
        Some(value) => WithPayload::read(value)?,
        None => WithPayload::of(payload),
    };
    // newer servers know both spellings
    let vectors = fields.get("with_vector").or(fields.get("with_vectors"));
    let vectors = match vectors {
        None | Some(Value::Bool(false)) => WithVectors::None,
        Some(Value::Bool(true)) => WithVectors::All,
        Some(Value::Array(names)) => WithVectors::Named(texts(names, "with_vector")?),
        Some(_) => return Err(format_error("`with_vector` must be true, false or names")),
    };
    Ok(Shown { payload, vectors })
}

fn ask(fields: &mut Fields<'_>, left: &mut usize, depth: usize) -> Result<Ask, Problem> {
    *left = left.checked_sub(1).ok_or_else(too_many)?;
    if depth > QDRANT_PREFETCH_DEPTH_MAX {
        let max = QDRANT_PREFETCH_DEPTH_MAX;
        return Err(wrong_input(format!(
            "prefetches nested more than {max} deep"
        )));
    }
    let prefetch = match fields.get("prefetch") {
        None => Vec::new(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| prefetch(item, left, depth))
            .collect::<Result<_, _>>()?,
        Some(item) => vec![prefetch(item, left, depth)?],
    };
    let query = fields.get("query").map(read_query).transpose()?;
    match &query {
        None if !prefetch.is_empty() => {
            return Err(wrong_input(
                "A query is needed to merge the prefetches. Can't have prefetches without defining a query.",
            ));
        }
        Some(Query::Rrf { .. } | Query::Dbsf) if prefetch.is_empty() => {
            return Err(wrong_input("cannot do fusion without prefetches"));
        }
        Some(Query::Rrf {
            weights: Some(weights),
            ..
        }) if weights.len() != prefetch.len() => {
            return Err(wrong_input("as many weights as prefetches are needed"));
        }
        _ => {}
    }
    let mut ask = Ask {
        prefetch,
        query,
        using: fields.text("using")?.unwrap_or_default().to_owned(),
        filter: fields.filter("filter")?.unwrap_or_default(),
        limit: fields.count("limit")?.unwrap_or(LIMIT),
        offset: 0,
        threshold: threshold(fields)?,
        breadth: None,
        exact: false,
    };
    if depth == 0 {
        ask.offset = fields.size("offset")?.unwrap_or(0);
    }
    params(fields, &mut ask)?;
    Ok(ask)
}

fn prefetch(value: &Value, left: &mut usize, depth: usize) -> Result<Ask, Problem> {
    let mut fields = Fields::of(value, "a prefetch")?;
    let ask = ask(&mut fields, left, depth + 1)?;
    fields.end()?;
    Ok(ask)
}

fn too_many() -> Problem {
    wrong_input(format!(
        "more than {QDRANT_QUERIES_MAX} queries and prefetches in one request"
    ))
}

#[expect(clippy::cast_possible_truncation, reason = "scores are singles")]
fn threshold(fields: &mut Fields<'_>) -> Result<Option<f32>, Problem> {
    Ok(fields.number("score_threshold")?.map(|score| score as f32))
}

fn params(fields: &mut Fields<'_>, ask: &mut Ask) -> Result<(), Problem> {
    let Some(params) = fields.get("params") else {
        return Ok(());
    };
    let mut params = Fields::of(params, "`params`")?;
    ask.breadth = params.count("hnsw_ef")?;
    ask.exact = params.bool("exact")?.unwrap_or(false);
    // hints of how to search, which change no answer but its quality
    params.skip(&["quantization", "indexed_only", "acorn"]);
    params.end()
}

impl Ask {
    /// Leaves points out.
    pub(super) fn leave_out(&mut self, ids: impl IntoIterator<Item = PointId>) {
        let ids: std::collections::BTreeSet<_> = ids.into_iter().collect();
        if !ids.is_empty() {
            self.filter.must_not.push(Condition::HasId(ids));
        }
    }

    /// Has every prefetch find as many points as there may be.
    pub(super) fn widen(&mut self, limit: usize) {
        for prefetch in &mut self.prefetch {
            prefetch.limit = prefetch.limit.max(limit);
            prefetch.widen(limit);
        }
    }
}

/// What must hold for a filter around another: clause by clause, as Qdrant merges them.
pub(super) fn merged(outer: &Filter, inner: &Filter) -> Filter {
    let both = |outer: &[Condition], inner: &[Condition]| [outer, inner].concat();
    Filter {
        must: both(&outer.must, &inner.must),
        should: both(&outer.should, &inner.should),
        must_not: both(&outer.must_not, &inner.must_not),
        min_should: match (&outer.min_should, &inner.min_should) {
            (Some((a, outer)), Some((b, inner))) => Some((*a.max(b), both(outer, inner))),
            (one, other) => one.clone().or_else(|| other.clone()),
        },
    }
}
