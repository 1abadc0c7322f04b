//! Queries by examples: what points should be like, and what not.

use lode_index::{
    PointId, Vector,
    view::{QueryVector, Report},
};

use super::{Asked, no_vector, noted, wrong_dim};
use crate::{
    answer::Problem,
    qdrant::{
        ask::{Ask, Input, Strategy},
        fuse::Found,
        recommend, wrong_input,
    },
};

/// Inputs as vectors, and the points that were named for them: these are not found themselves.
struct Examples<'a> {
    asked: &'a Asked<'a>,
    using: &'a str,
    named: Vec<PointId>,
}

impl Examples<'_> {
    fn query_vector(&mut self, input: &Input) -> Result<QueryVector, Problem> {
        match input {
            Input::Vector(vector) => Ok(vector.clone()),
            Input::Id(id) => {
                self.named.push(*id);
                self.asked.vector_of(*id, self.using)
            }
        }
    }

    fn query_vectors(&mut self, inputs: &[Input]) -> Result<Vec<QueryVector>, Problem> {
        let vector = |input| self.query_vector(input);
        inputs.iter().map(vector).collect()
    }

    /// As a vector of the collection.
    fn vector(&mut self, input: &Input) -> Result<Vector, Problem> {
        let vector = self.query_vector(input)?;
        self.asked.as_stored(vector, self.using)
    }
}

impl Asked<'_> {
    fn examples<'a>(&'a self, ask: &'a Ask) -> Examples<'a> {
        Examples {
            asked: self,
            using: &ask.using,
            named: Vec::new(),
        }
    }

    pub(super) fn recommend(
        &self,
        ask: &Ask,
        positive: &[Input],
        negative: &[Input],
        strategy: Strategy,
        limit: usize,
    ) -> Result<Found, Problem> {
        let mut examples = self.examples(ask);
        let positive = examples.query_vectors(positive)?;
        let negative = examples.query_vectors(negative)?;
        let mut rest = ask.clone();
        rest.leave_out(examples.named);
        if strategy == Strategy::AverageVector {
            let vector = recommend::average(&positive, &negative).map_err(wrong_input)?;
            return self.search(&rest, vector, limit);
        }
        let metric = self.metric(&ask.using)?;
        let stored = |vectors: Vec<QueryVector>| {
            let vectors = vectors.into_iter();
            vectors
                .map(|vector| self.as_stored(vector, &ask.using))
                .collect::<Result<Vec<_>, _>>()
        };
        let (positive, negative) = (stored(positive)?, stored(negative)?);
        Ok(self.ranked(&rest, limit, &|vector| match strategy {
            Strategy::BestScore => recommend::best(metric, vector, &positive, &negative),
            _ => recommend::sum(metric, vector, &positive, &negative),
        }))
    }

    /// Points by the pairs of whose better side they are; near a target, if there is one.
    pub(super) fn discover(
        &self,
        ask: &Ask,
        target: Option<&Input>,
        context: &[(Input, Input)],
        limit: usize,
    ) -> Result<Found, Problem> {
        let metric = self.metric(&ask.using)?;
        let mut examples = self.examples(ask);
        let mut pairs = Vec::with_capacity(context.len());
        for (positive, negative) in context {
            pairs.push((examples.vector(positive)?, examples.vector(negative)?));
        }
        let target = target.map(|target| examples.vector(target)).transpose()?;
        let mut rest = ask.clone();
        rest.leave_out(examples.named);
        Ok(self.ranked(&rest, limit, &|vector| match &target {
            Some(target) => recommend::discovery(metric, vector, target, &pairs),
            None => recommend::context(metric, vector, &pairs),
        }))
    }

    /// Every point that may be found is looked at.
    fn ranked(&self, ask: &Ask, limit: usize, score: &dyn Fn(&Vector) -> f32) -> Found {
        let mut report = Report::default();
        let found = self
            .view
            .rank(&ask.using, &ask.filter, limit, score, &mut report);
        noted(&report);
        let wanted = |score: f32| ask.threshold.is_none_or(|least| score >= least);
        found
            .iter()
            .filter(|point| wanted(point.score))
            .map(|point| (point.id, point.score))
            .collect()
    }

    /// An example as a vector of the collection.
    fn as_stored(&self, example: QueryVector, name: &str) -> Result<Vector, Problem> {
        let dim = self.view.config().vectors.get(name).map(|p| p.dim.get());
        match (example, dim) {
            (QueryVector::Dense(numbers), Some(dim)) if numbers.len() == dim => {
                Ok(Vector::Dense(numbers))
            }
            (QueryVector::Dense(numbers), Some(dim)) => Err(wrong_dim(dim, numbers.len())),
            (QueryVector::Sparse(sparse), None) => Ok(Vector::Sparse(sparse)),
            _ => Err(no_vector(name)),
        }
    }
}
