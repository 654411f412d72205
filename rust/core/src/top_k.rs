//! The exact top k of a stream of rows whose scores are known within bounds.

use std::cmp::Ordering;

/// A row and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Cosine, rounded to float32.
    pub score: f32,
    /// Row of the passage.
    pub row: u32,
}

/// Order of results: higher score first, then lower row.
#[must_use]
pub fn rank(a: &Hit, b: &Hit) -> Ordering {
    // A single integer comparison: the upper half has the reverse order of `f32::total_cmp`.
    let key = |hit: &Hit| {
        let bits = hit.score.to_bits();
        let descending = if bits >> 31 == 0 { !bits ^ 1 << 31 } else { bits };
        u64::from(descending) << 32 | u64::from(hit.row)
    };
    key(a).cmp(&key(b))
}

/// An open interval of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Lower limit, exclusive.
    pub above: f64,
    /// Upper limit, exclusive.
    pub below: f64,
}

impl Window {
    /// All scores.
    pub const ALL: Self = Self { above: f64::NEG_INFINITY, below: f64::INFINITY };

    fn contains(&self, score: f32) -> bool {
        self.above < f64::from(score) && f64::from(score) < self.below
    }
}

/// A row with bounds of its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Row of the passage.
    pub row: u32,
    /// Lower bound of the score.
    pub lower: f32,
    /// Upper bound of the score.
    pub upper: f32,
}

/// Computes exact scores of one query.
pub trait Exact {
    /// A row's exact score.
    fn score(&mut self, row: u32) -> f32;
    /// Announces that a row's score will be needed soon, so that its values can be prefetched.
    fn prefetch(&mut self, row: u32);
}

/// Conditions beyond the score, which mining has; `()` accepts all rows, at no cost.
pub(crate) trait Conditions {
    /// A row that scores at or above the window's upper limit.
    fn above_window(&mut self);
    /// True if a row in the window that scores at least `threshold` may be among the top k.
    fn accepts(&mut self, hit: Hit, threshold: f32) -> bool;
}

impl Conditions for () {
    fn above_window(&mut self) {}

    fn accepts(&mut self, _hit: Hit, _threshold: f32) -> bool {
        true
    }
}

/// Prefetch distance of exact scores, in rows.
const PREFETCH_DISTANCE: usize = 4;

/// Keeps the best k rows whose exact score lies in a window, given bounds of their scores.
///
/// Candidates stay pending until there are many. Then they are rescored exactly, in descending order of their upper
/// bounds, until no remaining candidate can be among the best. So only a small part of a stream is scored exactly, and
/// memory is O(k).
#[derive(Debug)]
pub struct TopK {
    k: usize,
    window: Window,
    threshold: f32,
    /// The threshold was estimated, not proven.
    estimated: bool,
    /// At times slightly more than k hits, unordered.
    best: Vec<Hit>,
    pending: Vec<Candidate>,
    scored: usize,
}

impl TopK {
    /// Keeps the best `k` rows in `window`.
    ///
    /// # Panics
    /// If `k` is 0.
    #[must_use]
    pub fn new(k: usize, window: Window) -> Self {
        assert!(k > 0, "k must be at least 1");
        // An empty window gets two equal limits, so that rows above it are counted as for any other window.
        let window = Window { above: window.above.min(window.below), ..window };
        // The largest float32 at or below the limit.
        let above = window.above as f32;
        let threshold = if f64::from(above) > window.above { above.next_down() } else { above };
        Self { k, window, threshold, estimated: false, best: Vec::new(), pending: Vec::new(), scored: 0 }
    }

    /// Starts from an estimated threshold. If fewer than k rows reach it, the result is incomplete.
    #[must_use]
    pub fn with_estimate(self, estimate: f32) -> Self {
        Self { threshold: self.threshold.max(estimate), estimated: estimate > self.threshold, ..self }
    }

    /// True to rescore early: an estimated threshold leaves few candidates, and most of them are needed.
    #[must_use]
    pub fn rescores_early(&self) -> bool {
        self.estimated
    }

    /// Number of rows to keep.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// The window of scores.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Rows that score less than this are not among the best.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Number of rows scored exactly so far.
    #[must_use]
    pub fn scored(&self) -> usize {
        self.scored
    }

    /// Raises the threshold: k rows, here or elsewhere, score at least `threshold`.
    pub fn raise(&mut self, threshold: f32) {
        self.threshold = self.threshold.max(threshold);
    }

    /// Adds a candidate.
    pub fn push(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        self.push_if(candidate, exact, &mut ());
    }

    /// Adds a candidate, under conditions.
    pub(crate) fn push_if(&mut self, candidate: Candidate, exact: &mut impl Exact, conditions: &mut impl Conditions) {
        if f64::from(candidate.lower) >= self.window.below {
            conditions.above_window();
            return;
        }
        if candidate.upper < self.threshold || f64::from(candidate.upper) <= self.window.above {
            return;
        }
        if self.estimated {
            exact.prefetch(candidate.row);
        }
        self.pending.push(candidate);
        if self.pending.len() >= self.capacity() {
            self.rescore_if(exact, conditions);
        }
    }

    /// Rescores the pending candidates that may be among the best, and raises the threshold accordingly.
    pub fn rescore(&mut self, exact: &mut impl Exact) {
        self.rescore_if(exact, &mut ());
    }

    /// Rescores the pending candidates, under conditions.
    pub(crate) fn rescore_if(&mut self, exact: &mut impl Exact, conditions: &mut impl Conditions) {
        // Candidates with equal bounds come in order of rows, so that the first of equal rows is scored first.
        self.pending.sort_unstable_by(|a, b| b.upper.total_cmp(&a.upper).then(a.row.cmp(&b.row)));
        for at in 0..self.pending.len() {
            let candidate = self.pending[at];
            if candidate.upper < self.threshold {
                break;
            }
            // With an estimate, `push` has prefetched the row.
            if !self.estimated
                && let Some(later) = self.pending.get(at + PREFETCH_DISTANCE)
                && later.upper >= self.threshold
            {
                exact.prefetch(later.row);
            }
            self.scored += 1;
            let hit = Hit { score: exact.score(candidate.row), row: candidate.row };
            if f64::from(hit.score) >= self.window.below {
                conditions.above_window();
            } else if hit.score >= self.threshold
                && self.window.contains(hit.score)
                && conditions.accepts(hit, self.threshold)
            {
                self.keep(hit);
            }
        }
        self.pending.clear();
    }

    fn keep(&mut self, hit: Hit) {
        self.best.push(hit);
        // Selecting from slightly more than k hits now and then is cheaper than keeping them ordered.
        if self.best.len() == self.k || self.best.len() > self.k + self.k / 4 {
            self.best.select_nth_unstable_by(self.k - 1, rank);
            self.best.truncate(self.k);
            self.threshold = self.threshold.max(self.best[self.k - 1].score);
        }
    }

    /// The best rows in descending order: k of them, or all rows in the window if there are fewer.
    pub fn finish(mut self, exact: &mut impl Exact) -> Vec<Hit> {
        self.rescore(exact);
        self.into_best()
    }

    /// The best rows in descending order, if no candidates are pending.
    pub(crate) fn into_best(mut self) -> Vec<Hit> {
        debug_assert!(self.pending.is_empty());
        self.best.sort_unstable_by(rank);
        self.best.truncate(self.k);
        self.best
    }

    fn capacity(&self) -> usize {
        (2 * self.k).max(64)
    }
}

/// Merges the top k of several streams of distinct rows into the top `k` of all.
#[must_use]
pub fn merge(parts: impl IntoIterator<Item = Vec<Hit>>, k: usize) -> Vec<Hit> {
    let mut parts = parts.into_iter();
    let mut merged = parts.next().unwrap_or_default();
    let first = merged.len();
    for part in parts {
        merged.extend(part);
    }
    if merged.len() > first {
        merged.sort_unstable_by(rank);
    }
    merged.truncate(k);
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hits_are_ordered_by_score_and_row() {
        let scores = [-0.0f32, 0.0, 1.0, -1.0, 0.5, -0.5, f32::MIN_POSITIVE, f32::NEG_INFINITY, f32::INFINITY, 1e-45];
        let hits: Vec<Hit> = scores.iter().flat_map(|&score| [0, 7, u32::MAX].map(|row| Hit { score, row })).collect();
        for a in &hits {
            for b in &hits {
                assert_eq!(rank(a, b), b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)), "{a:?} {b:?}");
            }
        }
    }

    /// The definition of the top k.
    fn reference(scores: &[f32], k: usize, window: Window) -> Vec<Hit> {
        let mut hits: Vec<Hit> = scores
            .iter()
            .enumerate()
            .map(|(row, &score)| Hit { score, row: row as u32 })
            .filter(|hit| window.above < f64::from(hit.score) && f64::from(hit.score) < window.below)
            .collect();
        hits.sort_by(rank);
        hits.truncate(k);
        hits
    }

    /// Exact scores from a list.
    struct List<'a>(&'a [f32]);

    impl Exact for List<'_> {
        fn score(&mut self, row: u32) -> f32 {
            self.0[row as usize]
        }
        fn prefetch(&mut self, _row: u32) {}
    }

    fn stream(scores: &[f32], noise: &[f32], error: f32, k: usize, window: Window) -> (Vec<Hit>, usize) {
        let mut exact = List(scores);
        let mut top = TopK::new(k, window);
        for (row, (&score, &noise)) in scores.iter().zip(noise).enumerate() {
            let rough = score + noise * 0.99 * error;
            top.push(Candidate { row: row as u32, lower: rough - error, upper: rough + error }, &mut exact);
        }
        top.rescore(&mut exact);
        let scored = top.scored();
        (top.finish(&mut exact), scored)
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            rows in prop::collection::vec((-20i8..=20, -1.0f32..=1.0), 0..400),
            k in 1usize..40,
            error in prop::sample::select(vec![0.0f32, 1e-4, 0.06, 0.5]),
            above in prop::sample::select(vec![f64::NEG_INFINITY, -0.5, 0.0, 0.4]),
            width in prop::sample::select(vec![f64::INFINITY, 0.3, 0.05]),
        ) {
            // Few distinct values, so that ties and scores at the window's limits are frequent.
            let scores: Vec<f32> = rows.iter().map(|&(s, _)| f32::from(s) / 20.0).collect();
            let noise: Vec<f32> = rows.iter().map(|&(_, n)| n).collect();
            let window = Window { above, below: above.max(-1.0) + width };
            let (hits, _) = stream(&scores, &noise, error, k, window);
            prop_assert_eq!(hits, reference(&scores, k, window));
        }
    }

    #[test]
    fn scores_few_rows_exactly() {
        let scores: Vec<f32> = (0..20_000).map(|i| ((i * 7919) % 20_011) as f32 / 20_011.0).collect();
        let noise: Vec<f32> = (0..20_000).map(|i| ((i * 31) % 200) as f32 / 100.0 - 1.0).collect();
        let (hits, scored) = stream(&scores, &noise, 1e-5, 10, Window::ALL);
        assert_eq!(hits, reference(&scores, 10, Window::ALL));
        assert!(scored < 100, "scored {scored} rows for 10 hits");
    }

    #[test]
    fn memory_stays_bounded_when_all_scores_are_equal() {
        let scores = [0.5; 10_000];
        let mut top = TopK::new(5, Window::ALL);
        for row in 0..10_000 {
            top.push(Candidate { row, lower: 0.4, upper: 0.6 }, &mut List(&scores));
            assert!(top.pending.len() + top.best.len() <= top.capacity() + 7);
        }
        let rows: Vec<u32> = top.finish(&mut List(&scores)).iter().map(|hit| hit.row).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_external_threshold_saves_work() {
        let scores: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
        let mut top = TopK::new(5, Window::ALL);
        top.raise(0.99);
        for row in 0..1000u32 {
            let score = scores[row as usize];
            top.push(Candidate { row, lower: score, upper: score }, &mut List(&scores));
        }
        let rows: Vec<u32> = top.finish(&mut List(&scores)).iter().map(|hit| hit.row).collect();
        assert_eq!(rows, [999, 998, 997, 996, 995]);
    }
}
