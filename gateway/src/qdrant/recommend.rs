//! Being like some examples and unlike others: how vectors are compared, and what several comparisons make.

use std::cmp::Ordering;

use lode_index::{Metric, SparseVector, Vector, view::QueryVector};

/// How like two vectors are: higher is nearer, whatever the metric. Distances are negated, and Euclidean ones squared.
#[expect(clippy::cast_possible_truncation, reason = "scores are singles")]
pub(super) fn likeness(metric: Metric, a: &Vector, b: &Vector) -> f32 {
    let (a, b) = match (a, b) {
        (Vector::Dense(a), Vector::Dense(b)) => (a, b),
        (Vector::Sparse(a), Vector::Sparse(b)) => return a.dot(b).unwrap_or(0.0),
        _ => return 0.0,
    };
    let sum = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| term(f64::from(*a), f64::from(*b)))
            .sum()
    };
    let score = match metric {
        Metric::Dot => sum(&|a, b| a * b),
        Metric::Cosine => {
            let norms = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
            match norms > 0.0 {
                true => sum(&|a, b| a * b) / norms,
                false => 0.0,
            }
        }
        Metric::Euclid => -sum(&|a, b| (a - b) * (a - b)),
        Metric::Manhattan => -sum(&|a, b| (a - b).abs()),
    };
    score as f32
}

/// The best comparison with an example, brought to 0..1 if that is a positive one and to -1..0 if not.
pub(super) fn best(
    metric: Metric,
    vector: &Vector,
    positive: &[Vector],
    negative: &[Vector],
) -> f32 {
    let best = |examples: &[Vector]| {
        let scores = examples
            .iter()
            .map(|example| likeness(metric, example, vector));
        scores.fold(f32::NEG_INFINITY, f32::max)
    };
    let (positive, negative) = (best(positive), best(negative));
    match positive > negative {
        true => scaled(positive),
        false => -scaled(negative),
    }
}

/// A score brought to -1..1.
fn squeezed(score: f32) -> f32 {
    match score.is_finite() {
        true => score / (1.0 + score.abs()),
        false => score,
    }
}

/// A score brought to 0..1.
fn scaled(score: f32) -> f32 {
    0.5 * (squeezed(score) + 1.0)
}

/// Of how many more pairs a vector is on the right side than on the wrong one; of equal ones the nearer to the target.
#[expect(clippy::cast_precision_loss, reason = "a number of examples")]
pub(super) fn discovery(
    metric: Metric,
    vector: &Vector,
    target: &Vector,
    pairs: &[(Vector, Vector)],
) -> f32 {
    let side = |(positive, negative): &(Vector, Vector)| {
        let near = likeness(metric, positive, vector);
        match near.total_cmp(&likeness(metric, negative, vector)) {
            Ordering::Greater => 1,
            Ordering::Equal => 0,
            Ordering::Less => -1,
        }
    };
    let rank: i32 = pairs.iter().map(side).sum();
    rank as f32 + scaled(likeness(metric, target, vector))
}

/// How far a vector is on the wrong side of pairs: near 0 if it is of none.
pub(super) fn context(metric: Metric, vector: &Vector, pairs: &[(Vector, Vector)]) -> f32 {
    let loss = |(positive, negative): &(Vector, Vector)| {
        let (near, far) = (
            likeness(metric, positive, vector),
            likeness(metric, negative, vector),
        );
        squeezed((near - far - f32::EPSILON).min(0.0))
    };
    pairs.iter().map(loss).sum()
}

/// All comparisons with positive examples less those with negative ones.
pub(super) fn sum(
    metric: Metric,
    vector: &Vector,
    positive: &[Vector],
    negative: &[Vector],
) -> f32 {
    let sum = |examples: &[Vector]| -> f32 {
        let scores = examples
            .iter()
            .map(|example| likeness(metric, example, vector));
        scores.sum()
    };
    sum(positive) - sum(negative)
}

/// The mean of positive examples, as far again from that of negative ones if there are any.
pub(super) fn average(
    positive: &[QueryVector],
    negative: &[QueryVector],
) -> Result<QueryVector, &'static str> {
    const MIXED: &str = "examples of a recommendation are vectors of one kind and length";
    let mean = Mean::of(positive).ok_or(MIXED)?;
    if negative.is_empty() {
        return mean.into_vector();
    }
    let away = Mean::of(negative).ok_or(MIXED)?;
    match (mean, away) {
        (Mean::Dense(mean), Mean::Dense(away)) if mean.len() == away.len() => {
            let both = mean.iter().zip(&away);
            Mean::Dense(both.map(|(mean, away)| mean + mean - away).collect()).into_vector()
        }
        (Mean::Sparse(mean), Mean::Sparse(away)) => {
            let mut sum = mean.clone();
            for (index, value) in mean {
                *sum.entry(index).or_default() += value;
            }
            for (index, value) in away {
                *sum.entry(index).or_default() -= value;
            }
            Mean::Sparse(sum).into_vector()
        }
        _ => Err(MIXED),
    }
}

enum Mean {
    Dense(Vec<f32>),
    Sparse(std::collections::BTreeMap<u32, f32>),
}

impl Mean {
    #[expect(clippy::cast_precision_loss, reason = "a number of examples")]
    fn of(vectors: &[QueryVector]) -> Option<Self> {
        let count = vectors.len() as f32;
        match vectors.first()? {
            QueryVector::Dense(first) => {
                let mut sum = vec![0.0; first.len()];
                for vector in vectors {
                    let QueryVector::Dense(vector) = vector else {
                        return None;
                    };
                    if vector.len() != sum.len() {
                        return None;
                    }
                    sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += v);
                }
                sum.iter_mut().for_each(|sum| *sum /= count);
                Some(Self::Dense(sum))
            }
            QueryVector::Sparse(_) => {
                let mut sum = std::collections::BTreeMap::<u32, f32>::new();
                for vector in vectors {
                    let QueryVector::Sparse(vector) = vector else {
                        return None;
                    };
                    for (index, value) in vector.iter() {
                        *sum.entry(index).or_default() += value / count;
                    }
                }
                Some(Self::Sparse(sum))
            }
        }
    }

    fn into_vector(self) -> Result<QueryVector, &'static str> {
        match self {
            Self::Dense(numbers) => Ok(QueryVector::Dense(numbers)),
            Self::Sparse(sum) => {
                let (indices, values): (Vec<u32>, Vec<f32>) = sum.into_iter().unzip();
                let sparse = SparseVector::new(&indices, &values);
                sparse
                    .map(QueryVector::Sparse)
                    .map_err(|_| "the examples of a recommendation have too many dimensions")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recommendation_is_as_far_again_from_what_it_should_not_be_like() {
        let dense = |numbers: &[f32]| QueryVector::Dense(numbers.to_vec());
        let positive = [dense(&[1.0, 0.0]), dense(&[3.0, 2.0])];
        let found = average(&positive, &[dense(&[1.0, 1.0])]);
        assert_eq!(found, Ok(dense(&[3.0, 1.0])));
        let sparse = |index, value| {
            QueryVector::Sparse(SparseVector::new(&[index], &[value]).unwrap_or_default())
        };
        let found = average(&[sparse(1, 2.0)], &[sparse(2, 1.0)]);
        let wanted = SparseVector::new(&[1, 2], &[4.0, -1.0]).unwrap_or_default();
        assert_eq!(found, Ok(QueryVector::Sparse(wanted)));
        assert!(average(&positive, &[sparse(1, 1.0)]).is_err());
        assert!(average(&positive, &[dense(&[1.0])]).is_err());
    }

    #[test]
    fn the_best_comparison_decides() {
        let dense = |numbers: &[f32]| Vector::Dense(numbers.to_vec());
        let (a, b) = ([dense(&[1.0, 0.0])], [dense(&[0.0, 1.0])]);
        let near_a = dense(&[2.0, 1.0]);
        let score = best(Metric::Dot, &near_a, &a, &b);
        assert!((score - 0.5 * (2.0 / 3.0 + 1.0)).abs() < 1e-6);
        let score = best(Metric::Dot, &near_a, &b, &a);
        assert!((score + 0.5 * (2.0 / 3.0 + 1.0)).abs() < 1e-6);
        assert!((sum(Metric::Dot, &near_a, &a, &b) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn pairs_say_on_which_side_a_point_should_be() {
        let dense = |numbers: &[f32]| Vector::Dense(numbers.to_vec());
        let pairs = [
            (dense(&[1.0, 0.0]), dense(&[-1.0, 0.0])),
            (dense(&[0.0, 1.0]), dense(&[0.0, -1.0])),
        ];
        let target = dense(&[1.0, 0.0]);
        let score = |x, y| discovery(Metric::Dot, &dense(&[x, y]), &target, &pairs);
        // right of both, of one, of none; the target tells apart what is equal
        assert!((score(1.0, 1.0) - (2.0 + 0.75)).abs() < 1e-6);
        assert!((score(3.0, -1.0) - (0.5 * 1.75)).abs() < 1e-6);
        assert!((score(-1.0, -1.0) - (-2.0 + 0.25)).abs() < 1e-6);
        assert!((score(0.0, 1.0) - (1.0 + 0.5)).abs() < 1e-6);
        let score = |x, y| context(Metric::Dot, &dense(&[x, y]), &pairs);
        assert!(score(5.0, 0.5).abs() < 1e-6);
        assert!((score(-1.0, 1.0) + 2.0 / 3.0).abs() < 1e-6);
        assert!((score(-1.0, -0.5) + 2.0 / 3.0 + 0.5).abs() < 1e-6);
    }
}
