//! The rows that may be among a query's top k, found from bounds of their scores alone, and then rescored together.
//!
//! # Estimated scores
//! A row's score lies between two bounds, nearly always close to their midpoint. The bounds allow for a coding error
//! parallel to the other vector. The direction of the error is nearly random in `dim` dimensions, so its product with
//! that vector is typically 1 / √dim of this worst case. The *estimate* of a score is therefore a likely lower bound,
//! slightly below the midpoint. The k-th highest estimate is the threshold; rows below it are dropped. The threshold is
//! valid if k rows reach it in the end: then dropped rows, which score less, are not among the top k. Otherwise the
//! query is searched again with proven thresholds.

use crate::error::Result;
use crate::matrix::cosine;
use crate::parallel;
use crate::scan::{Collector, Scan, SharedThreshold};
use crate::top_k::{Candidate, Exact, Hit, TopK, Window, rank};

/// The estimate is DOUBT/√dim half-widths below the midpoint of the bounds.
const DOUBT: f32 = 4.0;
/// Number of rows that may stay on a list in addition to 2 k.
const ROOM: usize = 768;
/// Smallest number of new rows after which the threshold is raised; k / 2, if that is more.
const STEP: usize = 32;
/// Number of queries whose rows are scored in one task.
const CHUNK: usize = 1024;
/// Scores computed between cancellation checks.
const CHECK_INTERVAL: usize = 1 << 14;
/// Prefetch distance, in rows.
const PREFETCH_DISTANCE: usize = 4;

/// Position of the estimate between the lower bound (0) and the upper bound (1) of a score.
pub(crate) fn estimate_position(dim: usize) -> f32 {
    0.5 * (1.0 - (DOUBT / (dim as f32).sqrt()).min(1.0))
}

/// Maximum number of rows on a list for the top `k`, apart from the last few.
pub(crate) fn most_listed(k: usize) -> usize {
    2 * k + ROOM
}

/// A row that may be among the top k.
#[derive(Debug, Clone, Copy)]
struct Listed {
    row: u32,
    upper: f32,
    estimate: f32,
}

/// Lists the rows that may be among the top k.
#[derive(Debug)]
pub(crate) struct Shortlist {
    k: usize,
    /// From [`estimate_position`].
    position: f32,
    threshold: f32,
    rows: Vec<Listed>,
    /// Number of rows that the threshold takes into account.
    considered: usize,
    /// Fallback for loose bounds, when the list would grow too long.
    exact: Option<TopK>,
}

impl Shortlist {
    /// Lists the top `k` of the rows that score at least `threshold`. `position` is the [`estimate_position`].
    pub(crate) fn new(k: usize, threshold: f32, position: f32) -> Self {
        Self { k, position, threshold, rows: Vec::with_capacity(2 * k.min(ROOM)), considered: 0, exact: None }
    }

    /// Raises the threshold to the k-th highest estimate, and drops the rows below it.
    fn raise(&mut self) {
        if self.rows.len() >= self.k && self.rows.len() > self.considered {
            let (_, last, _) = self.rows.select_nth_unstable_by(self.k - 1, |a, b| b.estimate.total_cmp(&a.estimate));
            self.threshold = self.threshold.max(last.estimate);
        }
        let threshold = self.threshold;
        self.rows.retain(|row| row.upper >= threshold);
        self.considered = self.rows.len();
    }

    /// Switches to exact scores for all rows on the list, and for the rows still to come.
    fn fall_back(&mut self, exact: &mut impl Exact) {
        let mut top = TopK::new(self.k, Window::ALL);
        top.raise(self.threshold);
        for listed in std::mem::take(&mut self.rows) {
            top.push(Candidate { row: listed.row, lower: f32::NEG_INFINITY, upper: listed.upper }, exact);
        }
        self.exact = Some(top);
    }
}

impl Collector for Shortlist {
    type Output = Listing;

    fn threshold(&self) -> f32 {
        self.threshold
    }

    fn rescores_early(&self) -> bool {
        false
    }

    fn push(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        if let Some(top) = &mut self.exact {
            top.push(candidate, exact);
            self.threshold = top.threshold();
            return;
        }
        let Candidate { row, lower, upper } = candidate;
        if upper < self.threshold {
            return;
        }
        self.rows.push(Listed { row, upper, estimate: lower + self.position * (upper - lower) });
        if self.rows.len() >= self.considered.max(self.k) + (self.k / 2).max(STEP) {
            self.raise();
            if self.rows.len() > most_listed(self.k) {
                self.fall_back(exact);
            }
        }
    }

    fn rescore(&mut self, exact: &mut impl Exact) {
        match &mut self.exact {
            Some(top) => {
                top.rescore(exact);
                self.threshold = top.threshold();
            }
            None => self.raise(),
        }
    }

    fn share(&mut self, threshold: &SharedThreshold) {
        self.threshold = threshold.raise(self.threshold);
        if let Some(top) = &mut self.exact {
            top.raise(self.threshold);
        }
    }

    fn finish(mut self, exact: &mut impl Exact) -> Listing {
        self.rescore(exact);
        let scored = self.exact.as_ref().map_or(0, TopK::scored);
        let best = self.exact.map_or_else(Vec::new, |top| top.finish(exact));
        Listing { threshold: self.threshold, rows: self.rows, best, scored }
    }
}

/// The outcome of a [`Shortlist`].
#[derive(Debug)]
pub(crate) struct Listing {
    /// Rows that score less than this are missing.
    threshold: f32,
    rows: Vec<Listed>,
    /// The best k of the rows that are already scored.
    best: Vec<Hit>,
    scored: usize,
}

impl Listing {
    /// Merges the listings of one query on several row ranges.
    pub(crate) fn merge(parts: Vec<Self>, k: usize) -> Self {
        let several = parts.len() > 1;
        let mut merged = Self { threshold: f32::NEG_INFINITY, rows: Vec::new(), best: Vec::new(), scored: 0 };
        for part in parts {
            merged.threshold = merged.threshold.max(part.threshold);
            merged.scored += part.scored;
            merged.best.extend(part.best);
            if merged.rows.is_empty() { merged.rows = part.rows } else { merged.rows.extend(part.rows) }
        }
        if several && merged.rows.len() > k {
            let (_, last, _) = merged.rows.select_nth_unstable_by(k - 1, |a, b| b.estimate.total_cmp(&a.estimate));
            merged.threshold = merged.threshold.max(last.estimate);
        }
        merged
    }

    /// The threshold of the listing; rows that score less are missing. If k rows are listed, the k-th best probably
    /// reaches it.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The rows that have to be rescored.
    fn pending(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().filter(|listed| listed.upper >= self.threshold).map(|listed| listed.row)
    }
}

/// The top k of a query.
pub(crate) struct Best {
    /// The best k of the listed rows, in descending order.
    pub(crate) hits: Vec<Hit>,
    /// If the k-th best scores less than this, better rows may be missing.
    pub(crate) threshold: f32,
    /// Number of rows scored exactly.
    pub(crate) scored: usize,
}

/// Rescores the listings of consecutive queries, in parallel, and selects the top `k`.
pub(crate) fn best_of(request: Scan<'_>, first: usize, lists: Vec<Vec<Listing>>, k: usize) -> Result<Vec<Best>> {
    let execution = request.execution;
    let lists: Vec<Listing> = lists.into_iter().map(|parts| Listing::merge(parts, k)).collect();
    let (count, mut lists) = (lists.len(), lists.into_iter());
    let size = count.div_ceil(execution.threads()).clamp(1, CHUNK);
    let tasks = (0..count).step_by(size).map(|at| (first + at, lists.by_ref().take(size).collect::<Vec<_>>()));
    let outcomes = parallel::for_each(execution, tasks, |(first, lists)| score(request, first, lists, k))?;
    let mut best = Vec::with_capacity(count);
    for outcome in outcomes {
        best.extend(outcome?);
    }
    Ok(best)
}

/// Rescores the listings of consecutive queries on one thread.
fn score(request: Scan<'_>, first: usize, lists: Vec<Listing>, k: usize) -> Result<Vec<Best>> {
    let Scan { queries, execution, .. } = request;
    let kernel = execution.kernel();
    let passages = request.passages.matrix();
    let pairs = in_row_order(passages.rows(), &lists);
    let begin = |mut list: Listing| {
        list.best.reserve(list.rows.len());
        Best { hits: list.best, threshold: list.threshold, scored: list.scored }
    };
    let mut best: Vec<Best> = lists.into_iter().map(begin).collect();
    for (at, &(row, lane)) in pairs.iter().enumerate() {
        if at % CHECK_INTERVAL == 0 {
            execution.check()?;
        }
        if let Some(soon) = pairs.get(at + PREFETCH_DISTANCE) {
            kernel.prefetch(passages.row(soon.0 as usize));
        }
        let score = cosine(kernel, queries, first + lane as usize, passages, row as usize);
        let best = &mut best[lane as usize];
        best.scored += 1;
        best.hits.push(Hit { score, row });
    }
    for best in &mut best {
        execution.check()?;
        if best.hits.len() > k {
            best.hits.select_nth_unstable_by(k - 1, rank);
            best.hits.truncate(k);
        }
        best.hits.sort_unstable_by(rank);
    }
    Ok(best)
}

/// The rows to rescore, each with the position of its list. They are in order of the rows, so that a row on many lists
/// is read from memory once. With few pairs and many rows, the order is approximate.
fn in_row_order(rows: usize, lists: &[Listing]) -> Vec<(u32, u32)> {
    let total: usize = lists.iter().map(|list| list.pending().count()).sum();
    let shift = (rows / (2 * total + 1)).checked_ilog2().map_or(0, |bits| bits + 1);
    // A counting sort: the place of the next pair of each range of rows.
    let mut places = vec![0usize; (rows >> shift) + 2];
    for row in lists.iter().flat_map(Listing::pending) {
        places[(row >> shift) as usize + 1] += 1;
    }
    for part in 1..places.len() {
        places[part] += places[part - 1];
    }
    let mut pairs = vec![(0, 0); total];
    for (list, lane) in lists.iter().zip(0..) {
        for row in list.pending() {
            let place = &mut places[(row >> shift) as usize];
            pairs[*place] = (row, lane);
            *place += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Exact scores from a list.
    struct List<'a>(&'a [f32]);

    impl Exact for List<'_> {
        fn score(&mut self, row: u32) -> f32 {
            self.0[row as usize]
        }
        fn prefetch(&mut self, _row: u32) {}
    }

    /// The top `k`, and whether the threshold is valid.
    fn stream(scores: &[f32], places: &[f32], error: f32, k: usize, position: f32, threshold: f32) -> (Vec<Hit>, bool) {
        let mut exact = List(scores);
        let mut parts: Vec<Shortlist> = (0..2).map(|_| Shortlist::new(k, threshold, position)).collect();
        let shared = SharedThreshold::new();
        for (row, (&score, &place)) in scores.iter().zip(places).enumerate() {
            let part = &mut parts[usize::from(row > scores.len() / 3)];
            let candidate =
                Candidate { row: row as u32, lower: score - place * error, upper: score + (1.0 - place) * error };
            // As in the kernels.
            if candidate.upper >= part.threshold() {
                part.push(candidate, &mut exact);
            }
            if row % 100 == 0 {
                part.share(&shared);
                part.rescore(&mut exact);
            }
        }
        let listing = Listing::merge(parts.into_iter().map(|part| part.finish(&mut exact)).collect(), k);
        let mut hits: Vec<Hit> = listing.pending().map(|row| Hit { score: scores[row as usize], row }).collect();
        hits.extend(&listing.best);
        hits.sort_unstable_by(rank);
        hits.truncate(k);
        let valid = hits.get(k - 1).is_some_and(|worst| worst.score >= listing.threshold);
        (hits, valid)
    }

    proptest! {
        /// For any position of the scores between their bounds: if the threshold is valid, these are the best rows.
        #[test]
        fn no_row_is_missing_above_a_valid_threshold(
            rows in prop::collection::vec((-40i16..=40, prop_oneof![0.0f32..=1.0, Just(0.0), Just(1.0)]), 1..3000),
            k in 1usize..40,
            error in prop::sample::select(vec![0.0f32, 1e-4, 0.06, 0.5, 3.0]),
            position in 0.0f32..=0.5,
            threshold in prop::sample::select(vec![f32::NEG_INFINITY, -0.5, 0.9, 1.5]),
        ) {
            prop_assume!(k <= rows.len());
            let scores: Vec<f32> = rows.iter().map(|&(s, _)| f32::from(s) / 40.0).collect();
            let places: Vec<f32> = rows.iter().map(|&(_, place)| place).collect();
            let mut expected: Vec<Hit> =
                scores.iter().zip(0..).map(|(&score, row)| Hit { score, row }).collect();
            expected.sort_by(rank);
            expected.truncate(k);
            let (hits, valid) = stream(&scores, &places, error, k, position, threshold);
            if valid {
                prop_assert_eq!(&hits, &expected);
            }
            // Estimates at the lower bounds are certain, so the threshold is valid.
            let (hits, valid) = stream(&scores, &places, error, k, 0.0, f32::NEG_INFINITY);
            prop_assert!(valid);
            prop_assert_eq!(&hits, &expected);
        }
    }

    #[test]
    fn pairs_are_in_order_of_rows() {
        let listed = |row: u32, upper: f32| Listed { row, upper, estimate: upper };
        let list = |rows: &[u32]| Listing {
            threshold: 0.0,
            rows: rows.iter().map(|&row| listed(row, 0.5)).chain([listed(1, -0.5)]).collect(),
            best: Vec::new(),
            scored: 0,
        };
        let lists = [list(&[7, 3, 9]), list(&[]), list(&[9, 0, 3])];
        assert_eq!(in_row_order(10, &lists), [(0, 2), (3, 0), (3, 2), (7, 0), (9, 0), (9, 2)]);
        // With many rows, only the ranges of rows are in order.
        let order: Vec<u32> = in_row_order(10_000, &[list(&[9000, 5, 4000, 9999])]).iter().map(|pair| pair.0).collect();
        assert_eq!(order, [5, 4000, 9000, 9999]);
    }
}
