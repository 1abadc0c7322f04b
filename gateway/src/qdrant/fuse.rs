//! One list of points out of several: by the ranks that they have in each, or by their scores.

use std::collections::HashMap;

use lode_index::PointId;

/// Points with scores, best first.
pub(super) type Found = Vec<(PointId, f32)>;

/// Reciprocal rank fusion: a point's score is the sum over lists of 1 / ((rank + 1) / weight + k - 1), ranks from 0.
pub(super) fn rrf(lists: &[Found], k: f32, weights: Option<&[f32]>) -> Found {
    sum(lists, &mut |list, rank, _| {
        let weight = weights.map_or(1.0, |weights| weights[list]);
        #[expect(clippy::cast_precision_loss, reason = "a rank")]
        let rank = rank as f32;
        match weight > 0.0 {
            true => 1.0 / ((rank + 1.0) / weight + k - 1.0),
            false => 0.0,
        }
    })
}

/// Distribution-based score fusion: the scores of each list are brought to 0..1 between three standard deviations on
/// either side of their mean, then summed.
#[expect(clippy::cast_precision_loss, reason = "numbers of points")]
pub(super) fn dbsf(lists: &[Found]) -> Found {
    let spread: Vec<Option<(f32, f32)>> = lists
        .iter()
        .map(|list| {
            let count = list.len() as f32;
            let mean = list.iter().map(|(_, score)| score).sum::<f32>() / count;
            let squares = list.iter().map(|(_, score)| (score - mean).powi(2));
            let variance = squares.sum::<f32>() / (count - 1.0);
            (list.len() > 1 && variance > 0.0).then(|| {
                let reach = 3.0 * variance.sqrt();
                (mean - reach, mean + reach)
            })
        })
        .collect();
    sum(lists, &mut |list, _, score| match spread[list] {
        Some((low, high)) => (score - low) / (high - low),
        None => 0.5,
    })
}

/// Sums what each list gives a point; equal scores in the order in which points were met.
fn sum(lists: &[Found], score_of: &mut dyn FnMut(usize, usize, f32) -> f32) -> Found {
    let mut at: HashMap<PointId, usize> = HashMap::new();
    let mut fused: Found = Vec::new();
    for (list, found) in lists.iter().enumerate() {
        for (rank, (id, score)) in found.iter().enumerate() {
            let score = score_of(list, rank, *score);
            match at.get(id) {
                Some(known) => fused[*known].1 += score,
                None => {
                    at.insert(*id, fused.len());
                    fused.push((*id, score));
                }
            }
        }
    }
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(points: &[(u64, f32)]) -> Found {
        points
            .iter()
            .map(|(id, score)| ((*id).into(), *score))
            .collect()
    }

    #[test]
    fn ranks_are_fused_as_qdrant_fuses_them() {
        let lists = [list(&[(1, 9.0), (2, 8.0)]), list(&[(2, 0.5), (3, 0.1)])];
        let fused = rrf(&lists, 2.0, None);
        assert_eq!(
            fused,
            list(&[(2, 0.5 + 1.0 / 3.0), (1, 0.5), (3, 1.0 / 3.0)])
        );
        let weighted = rrf(&lists, 2.0, Some(&[0.0, 1.0]));
        assert_eq!(weighted, list(&[(2, 0.5), (3, 1.0 / 3.0), (1, 0.0)]));
    }

    #[test]
    fn scores_are_fused_by_their_distribution() {
        let lists = [list(&[(1, 3.0), (2, 1.0)]), list(&[(2, 7.0)])];
        let fused = dbsf(&lists);
        // mean 2, deviation sqrt(2): 3 is (1 + 3 sqrt(2)) / (6 sqrt(2)) of the way
        let high = 0.5 + 1.0 / (6.0 * 2f32.sqrt());
        assert_eq!(fused[0].0, 2.into());
        assert!((fused[0].1 - (1.0 - high + 0.5)).abs() < 1e-6);
        assert!((fused[1].1 - high).abs() < 1e-6);
        assert!(dbsf(&[Vec::new()]).is_empty());
        assert_eq!(
            dbsf(&[list(&[(1, 2.0), (3, 2.0)])]),
            list(&[(1, 0.5), (3, 0.5)])
        );
    }
}
