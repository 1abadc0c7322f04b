//! Carries out what is asked, on one view of a collection: nothing that is written meanwhile shows in half of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lode_index::{
    Filter, Metric, PointId, SearchRequest, Vector, View,
    filter::Condition,
    limits::RESULTS_MAX,
    view::{OrderRequest, OrderValue, QueryError, QueryVector, Record, Report, With, WithVectors},
};

mod examples;

use super::{
    ask::{Ask, Groups, Input, OrderBy, Query, Shown, merged},
    fuse::{self, Found},
    recommend,
    show::{PointJson, Room},
    wrong_input,
};
use crate::answer::Problem;

/// Points with scores, as they are read.
pub(super) type Scored = Vec<(Record, f32)>;

/// A view of a collection that is asked.
pub(super) struct Asked<'a> {
    pub(super) view: &'a View,
}

impl Asked<'_> {
    /// The points that are asked for, as clients read them.
    pub(super) fn points(
        &self,
        ask: &Ask,
        shown: &Shown,
        room: &mut Room,
    ) -> Result<Vec<PointJson>, Problem> {
        if let Some(Query::OrderBy(order)) = &ask.query {
            return match self.among_prefetched(ask)? {
                None => Ok(Vec::new()),
                Some(ask) => self.ordered(&ask.filter, order, (ask.offset, ask.limit), shown, room),
            };
        }
        let mut points = Vec::new();
        for (record, score) in self.scored(ask, &shown.with())? {
            room.take(&record)?;
            points.push(shown.point(record, Some(score)));
        }
        Ok(points)
    }

    /// The points that are asked for, best first, with what of them is wanted.
    pub(super) fn scored(&self, ask: &Ask, with: &With) -> Result<Scored, Problem> {
        if ask.limit.saturating_add(ask.offset) > RESULTS_MAX {
            return Err(wrong_input(QueryError::TooMany));
        }
        // one search is what most ask for: what is wanted is read with it
        if let (true, Some(Query::Nearest(input))) = (ask.prefetch.is_empty(), &ask.query) {
            let (ask, vector) = self.resolved(ask, input)?;
            let request = request(&ask, vector, ask.limit, ask.offset);
            let mut report = Report::default();
            let found = self.view.search_with(&request, with, &mut report);
            noted(&report);
            return found.map_err(|error| self.query_problem(&ask.using, &error));
        }
        let mut found = self.find(ask, ask.limit.saturating_add(ask.offset))?;
        found.drain(..ask.offset.min(found.len()));
        self.read(found, with)
    }

    /// Reads points by their ids.
    fn read(&self, found: Found, with: &With) -> Result<Scored, Problem> {
        let ids: Vec<PointId> = found.iter().map(|(id, _)| *id).collect();
        let records = self.view.retrieve(&ids, with).map_err(damaged)?;
        let mut records: HashMap<PointId, Record> = records
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        let scored = found
            .into_iter()
            .filter_map(|(id, score)| Some((records.remove(&id)?, score)));
        Ok(scored.collect())
    }

    /// The best points, at most so many.
    fn find(&self, ask: &Ask, limit: usize) -> Result<Found, Problem> {
        let mut found = match &ask.query {
            Some(Query::Rrf { k, weights }) => {
                fuse::rrf(&self.prefetched(ask)?, *k, weights.as_deref())
            }
            Some(Query::Dbsf) => fuse::dbsf(&self.prefetched(ask)?),
            _ => {
                return match self.among_prefetched(ask)? {
                    None => Ok(Vec::new()),
                    Some(ask) => self.find_all(&ask, limit),
                };
            }
        };
        found.truncate(limit);
        found.retain(|(_, score)| ask.threshold.is_none_or(|least| *score >= least));
        Ok(found)
    }

    /// What each prefetch of a query finds.
    fn prefetched(&self, ask: &Ask) -> Result<Vec<Found>, Problem> {
        let found = |prefetch: &Ask| {
            // what may be found at all may be found by a prefetch
            let mut prefetch = prefetch.clone();
            prefetch.filter = merged(&ask.filter, &prefetch.filter);
            let limit = prefetch.limit.min(RESULTS_MAX);
            self.find(&prefetch, limit)
        };
        ask.prefetch.iter().map(found).collect()
    }

    /// The query without its prefetches, of the points that these find; nothing if they find none.
    fn among_prefetched(&self, ask: &Ask) -> Result<Option<Ask>, Problem> {
        if ask.prefetch.is_empty() {
            return Ok(Some(ask.clone()));
        }
        let lists = self.prefetched(ask)?;
        let ids: BTreeSet<PointId> = lists.iter().flatten().map(|(id, _)| *id).collect();
        let mut among = Ask {
            prefetch: Vec::new(),
            ..ask.clone()
        };
        let any = !ids.is_empty();
        among.filter.must.push(Condition::HasId(ids));
        Ok(any.then_some(among))
    }

    /// Points in the order of a field, as clients read them, after some that are left out.
    pub(super) fn ordered(
        &self,
        filter: &Filter,
        order: &OrderBy,
        (offset, limit): (usize, usize),
        shown: &Shown,
        room: &mut Room,
    ) -> Result<Vec<PointJson>, Problem> {
        let wanted = offset.saturating_add(limit);
        if wanted > RESULTS_MAX {
            return Err(wrong_input(QueryError::TooMany));
        }
        let found = self.first(filter, order, wanted);
        let mut points = Vec::new();
        for some in found.get(offset..).unwrap_or_default().chunks(STEP_POINTS) {
            let ids: Vec<PointId> = some.iter().map(|(id, _)| *id).collect();
            let records = self.view.retrieve(&ids, &shown.with()).map_err(damaged)?;
            for (record, (_, value)) in records.into_iter().zip(some) {
                room.take(&record)?;
                points.push((record, *value));
            }
        }
        let shown = |(record, value)| shown.point(record, Some(1.0)).standing_at(value);
        Ok(points.into_iter().map(shown).collect())
    }

    fn first(&self, filter: &Filter, order: &OrderBy, limit: usize) -> Vec<(PointId, OrderValue)> {
        let request = OrderRequest {
            path: order.path.clone(),
            descending: order.descending,
            from: order.from,
            filter: filter.clone(),
            limit,
        };
        let mut report = Report::default();
        let found = self.view.ordered(&request, &mut report);
        noted(&report);
        found
    }

    /// The best points of the collection.
    fn find_all(&self, ask: &Ask, limit: usize) -> Result<Found, Problem> {
        match &ask.query {
            None => {
                let mut report = Report::default();
                let with = With::default();
                let page = self
                    .view
                    .scroll(None, limit, &ask.filter, &with, &mut report);
                noted(&report);
                Ok(page.records.iter().map(|record| (record.id, 1.0)).collect())
            }
            Some(Query::Nearest(input)) => {
                let (ask, vector) = self.resolved(ask, input)?;
                self.search(&ask, vector, limit)
            }
            Some(Query::Mmr {
                nearest,
                diversity,
                candidates,
            }) => {
                let (ask, vector) = self.resolved(ask, nearest)?;
                let among = candidates.unwrap_or(limit);
                self.diverse(&ask, vector, *diversity, among, limit)
            }
            Some(Query::Recommend {
                positive,
                negative,
                strategy,
            }) => self.recommend(ask, positive, negative, *strategy, limit),
            Some(Query::Discover { target, context }) => {
                self.discover(ask, Some(target), context, limit)
            }
            Some(Query::Context(pairs)) => self.discover(ask, None, pairs, limit),
            Some(Query::OrderBy(order)) => {
                let mut found = self.first(&ask.filter, order, limit);
                // a point stands at each of its values
                let mut seen = BTreeSet::new();
                found.retain(|(id, _)| seen.insert(*id));
                Ok(found.into_iter().map(|(id, _)| (id, 1.0)).collect())
            }
            Some(Query::Sample) => Ok(self.sample(ask, limit)),
            Some(Query::Rrf { .. } | Query::Dbsf) => {
                Err(wrong_input("cannot do fusion without prefetches"))
            }
        }
    }

    fn sample(&self, ask: &Ask, limit: usize) -> Found {
        let mut random = Random::new();
        let mut report = Report::default();
        let ids = self.view.sample(
            limit,
            &ask.filter,
            &mut |bound| random.below(bound),
            &mut report,
        );
        noted(&report);
        ids.into_iter().map(|id| (id, 1.0)).collect()
    }

    fn search(&self, ask: &Ask, vector: QueryVector, limit: usize) -> Result<Found, Problem> {
        let request = request(ask, vector, limit, 0);
        let mut report = Report::default();
        let found = self.view.search(&request, &mut report);
        noted(&report);
        let found = found.map_err(|error| self.query_problem(&ask.using, &error))?;
        Ok(found.iter().map(|point| (point.id, point.score)).collect())
    }

    /// The vector that an input is, and the query without the point whose it is.
    fn resolved(&self, ask: &Ask, input: &Input) -> Result<(Ask, QueryVector), Problem> {
        let mut ask = ask.clone();
        let vector = match input {
            Input::Vector(vector) => vector.clone(),
            Input::Id(id) => {
                let vector = self.vector_of(*id, &ask.using)?;
                ask.leave_out([*id]);
                vector
            }
        };
        Ok((ask, vector))
    }

    fn vector_of(&self, id: PointId, name: &str) -> Result<QueryVector, Problem> {
        let config = self.view.config();
        if !config.vectors.contains_key(name) && !config.sparse.contains_key(name) {
            return Err(no_vector(name));
        }
        let with = With {
            payload: false,
            vectors: WithVectors::Named(vec![name.to_owned()]),
        };
        let record = self.view.retrieve(&[id], &with).map_err(damaged)?.pop();
        let record = record
            .ok_or_else(|| Problem::not_found(format!("Not found: No point with id {id} found")))?;
        match record.vectors.into_values().next() {
            Some(Vector::Dense(numbers)) => Ok(QueryVector::Dense(numbers)),
            Some(Vector::Sparse(sparse)) => Ok(QueryVector::Sparse(sparse)),
            None => Err(wrong_input(format!(
                "point {id} has no vector with name {name:?}"
            ))),
        }
    }

    /// The vectors of points by their ids, of those that have it.
    fn vectors_of(
        &self,
        ids: &[PointId],
        name: &str,
    ) -> Result<BTreeMap<PointId, Vector>, Problem> {
        let with = With {
            payload: false,
            vectors: WithVectors::Named(vec![name.to_owned()]),
        };
        let records = self.view.retrieve(ids, &with).map_err(damaged)?;
        let vector = |record: Record| Some((record.id, record.vectors.into_values().next()?));
        Ok(records.into_iter().filter_map(vector).collect())
    }

    /// Of the nearest those that are near and unlike those that were chosen before.
    fn diverse(
        &self,
        ask: &Ask,
        vector: QueryVector,
        diversity: f32,
        among: usize,
        limit: usize,
    ) -> Result<Found, Problem> {
        let most = crate::limits::QDRANT_MMR_CANDIDATES_MAX;
        let found = self.search(ask, vector.clone(), among.min(most))?;
        let ids: Vec<PointId> = found.iter().map(|(id, _)| *id).collect();
        let vectors = self.vectors_of(&ids, &ask.using)?;
        let metric = self.metric(&ask.using)?;
        let query = match vector {
            QueryVector::Dense(numbers) => Vector::Dense(numbers),
            QueryVector::Sparse(sparse) => Vector::Sparse(sparse),
        };
        let near: Vec<f32> = found
            .iter()
            .map(|(id, _)| recommend::likeness(metric, &query, &vectors[id]))
            .collect();
        let mut pending: Vec<usize> = (0..found.len()).collect();
        // how like each is to the one of those chosen that it is most like
        let mut likest = vec![f32::NEG_INFINITY; found.len()];
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < limit && !pending.is_empty() {
            let worth = |at: usize| match chosen.is_empty() {
                true => near[at],
                false => (1.0 - diversity) * near[at] - diversity * likest[at],
            };
            // the last of equal ones, as Qdrant has it
            let best = (0..pending.len())
                .max_by(|a, b| worth(pending[*a]).total_cmp(&worth(pending[*b])))
                .unwrap_or(0);
            let next = pending.swap_remove(best);
            for at in &pending {
                let (a, b) = (&vectors[&found[next].0], &vectors[&found[*at].0]);
                likest[*at] = likest[*at].max(recommend::likeness(metric, a, b));
            }
            chosen.push(next);
        }
        Ok(chosen.into_iter().map(|at| found[at]).collect())
    }

    /// How vectors of a name are compared; sparse ones by the dot product.
    fn metric(&self, name: &str) -> Result<Metric, Problem> {
        let config = self.view.config();
        match config.vectors.get(name) {
            Some(params) => Ok(params.metric),
            None if config.sparse.contains_key(name) => Ok(Metric::Dot),
            None => Err(no_vector(name)),
        }
    }

    /// The groups that are asked for, with their points.
    pub(super) fn groups(
        &self,
        asked: &Groups,
    ) -> Result<Vec<(serde_json::Value, Vec<PointJson>)>, Problem> {
        let mut ask = asked.ask.clone();
        let groups = ask.limit;
        let mut limit = groups
            .saturating_mul(asked.size)
            .saturating_mul(4)
            .clamp(64, RESULTS_MAX);
        let key = With {
            payload: true,
            vectors: WithVectors::None,
        };
        let mut room = Room::default();
        loop {
            ask.limit = limit;
            ask.offset = 0;
            ask.widen(limit);
            let scored = self.scored(&ask, &key)?;
            let is_all = scored.len() < limit || limit == RESULTS_MAX;
            let mut found: Vec<(serde_json::Value, Found)> = Vec::new();
            for (record, score) in &scored {
                let Some(values) = group_ids(record, asked) else {
                    continue;
                };
                for value in values {
                    let more = found.len() < groups;
                    match found.iter_mut().find(|(known, _)| *known == value) {
                        Some((_, points)) if points.len() < asked.size => {
                            points.push((record.id, *score));
                        }
                        Some(_) => {}
                        // later points of groups that were met still count
                        None if more => {
                            found.push((value, vec![(record.id, *score)]));
                        }
                        None => {}
                    }
                }
            }
            let full =
                found.len() == groups && found.iter().all(|(_, points)| points.len() == asked.size);
            if !full && !is_all {
                limit = limit.saturating_mul(8).min(RESULTS_MAX);
                continue;
            }
            let mut shown = Vec::with_capacity(found.len());
            for (value, points) in found {
                let mut hits = Vec::with_capacity(points.len());
                for (record, score) in self.read(points, &asked.shown.with())? {
                    room.take(&record)?;
                    hits.push(asked.shown.point(record, Some(score)));
                }
                shown.push((value, hits));
            }
            return Ok(shown);
        }
    }

    fn query_problem(&self, name: &str, error: &QueryError) -> Problem {
        match error {
            QueryError::Unknown { .. } => no_vector(name),
            QueryError::Vector(lode_index::vectors::VectorError::Dim { found, expected }) => {
                wrong_dim(*expected, *found)
            }
            error => wrong_input(error),
        }
    }
}

/// Points that are read before it is looked at how much that is.
pub(super) const STEP_POINTS: usize = 1024;

/// Numbers that nobody can tell beforehand.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let mut seed = [0; 8];
        // a sample is no secret: one that the system gives no numbers for is merely the same each time
        let _ = getrandom::fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    /// A number below a bound (splitmix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        // the upper half of the product: as even as a remainder, without a division
        u64::try_from((u128::from(x) * u128::from(bound)) >> 64).unwrap_or(0)
    }
}

/// The groups that a point is in; none if one of its values is neither text nor a whole number.
fn group_ids(record: &Record, asked: &Groups) -> Option<Vec<serde_json::Value>> {
    let payload = record.payload.as_ref()?;
    let mut values: Vec<serde_json::Value> = Vec::new();
    let mut sound = true;
    asked.by.each_flat(payload.root(), &mut |value| {
        let value = value.to_json();
        sound &= value.is_string() || value.is_i64() || value.is_u64();
        if !values.contains(&value) {
            values.push(value);
        }
    });
    (sound && !values.is_empty()).then_some(values)
}

fn request(ask: &Ask, query: QueryVector, limit: usize, offset: usize) -> SearchRequest {
    SearchRequest {
        vector: ask.using.clone(),
        query,
        filter: ask.filter.clone(),
        limit,
        offset,
        breadth: ask.breadth,
        exact: ask.exact,
        threshold: ask.threshold,
    }
}

pub(super) fn wrong_dim(expected: usize, found: usize) -> Problem {
    wrong_input(format!(
        "Vector dimension error: expected dim: {expected}, got {found}"
    ))
}

pub(super) fn no_vector(name: &str) -> Problem {
    let name: String = name.chars().take(100).collect();
    wrong_input(format!("Not existing vector name error: {name}"))
}

/// 500: what is on disk is not what was written.
pub(super) fn damaged(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        hyper::StatusCode::INTERNAL_SERVER_ERROR,
        lode_node::command::FailureKind::Corrupt,
        format!("Service internal error: {error}"),
    )
}

/// Says in the log what a read had to leave out.
pub(super) fn noted(report: &Report) {
    for part in &report.damaged {
        tracing::warn!(part, "an answer lacks points of a damaged part");
    }
}
