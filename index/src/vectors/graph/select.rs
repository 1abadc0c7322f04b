//! Which of many near points become links: those that are not nearer to a chosen one than to the point itself, so that
//! links lead into different directions (algorithm 4 of arXiv 1603.09320).

use super::super::pool::Entry;
use super::Codes;

/// Chosen points that are compared with a candidate at a time: most candidates fall at the first few.
const STEP: usize = 8;

/// Memory of [`select`].
#[derive(Debug, Default)]
pub(super) struct Selection {
    keys: Vec<f32>,
}

impl Selection {
    /// Chooses at most `count` of `candidates`, which are sorted by their keys to a point of bias `bias`.
    pub(super) fn select(
        &mut self,
        codes: &Codes<'_>,
        bias: f32,
        candidates: &[Entry],
        count: usize,
    ) -> Vec<u32> {
        let mut chosen: Vec<u32> = Vec::with_capacity(count);
        for candidate in candidates {
            if chosen.len() == count {
                break;
            }
            let query = codes.query(candidate.row());
            let far = candidate.key() + bias;
            let covered = chosen.chunks(STEP).any(|some| {
                codes
                    .kernel
                    .keys(&codes.records, &query, some, &mut self.keys);
                self.keys.iter().any(|key| key + query.bias < far)
            });
            if !covered {
                chosen.push(candidate.row());
            }
        }
        chosen
    }

    /// Chooses at most `count` of `links` for `point`; each may stand there twice.
    pub(super) fn prune(
        &mut self,
        codes: &Codes<'_>,
        point: u32,
        links: &[u32],
        count: usize,
    ) -> Vec<u32> {
        let query = codes.query(point);
        codes
            .kernel
            .keys(&codes.records, &query, links, &mut self.keys);
        let pairs = links.iter().zip(&self.keys);
        let mut candidates: Vec<_> = pairs.map(|(row, key)| Entry::new(*key, *row)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        self.select(codes, query.bias, &candidates, count)
    }
}
