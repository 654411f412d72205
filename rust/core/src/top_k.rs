//! The best k of a stream of roughly scored rows, exactly.

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
    b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
}

/// Scores that are wanted: those strictly between two limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Lower limit, exclusive.
    pub above: f64,
    /// Upper limit, exclusive.
    pub below: f64,
}

impl Window {
    /// Every score.
    pub const ALL: Self = Self { above: f64::NEG_INFINITY, below: f64::INFINITY };

    fn contains(&self, score: f32) -> bool {
        self.above < f64::from(score) && f64::from(score) < self.below
    }
}

/// Keeps the best k rows whose exact score lies in a window, from scores known to within `error`.
///
/// Roughly scored rows wait; when too many wait, those that certainly lose are dropped, and only if that leaves too many
/// are the rest scored exactly. So about k rows of a whole stream are ever scored exactly, and memory is O(k) even when
/// all scores are equal.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    error: f32,
    window: Window,
    threshold: f32,
    exact: Vec<Hit>,
    waiting: Vec<Hit>,
    bounds: Vec<f32>,
}

impl TopK {
    /// For the best `k` rows in `window`, from scores off by less than `error`, a few units in the last place less: the
    /// arithmetic with thresholds rounds, too.
    ///
    /// # Panics
    /// If `k` is 0.
    #[must_use]
    pub fn new(k: usize, error: f32, window: Window) -> Self {
        assert!(k > 0, "the best 0 rows are none");
        let threshold = just_below(window.above as f32, error);
        Self { k, error, window, threshold, exact: Vec::new(), waiting: Vec::new(), bounds: Vec::new() }
    }

    /// Rows with a rough score at or below this cannot be among the best.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Considers a row with its rough score; `exact` gives a row's exact score.
    pub fn offer(&mut self, row: u32, score: f32, exact: &mut dyn FnMut(u32) -> f32) {
        if score <= self.threshold {
            return;
        }
        let (low, high) = (f64::from(score) - f64::from(self.error), f64::from(score) + f64::from(self.error));
        if high <= self.window.above || low >= self.window.below {
            return;
        }
        if low > self.window.above && high < self.window.below {
            self.waiting.push(Hit { score, row });
        } else {
            let score = exact(row);
            if self.window.contains(score) {
                self.exact.push(Hit { score, row });
            }
        }
        if self.waiting.len() + self.exact.len() >= self.capacity() {
            self.make_room(exact);
        }
    }

    /// The best rows, best first: k of them, or as many as the window admitted.
    pub fn finish(mut self, exact: &mut dyn FnMut(u32) -> f32) -> Vec<Hit> {
        if self.waiting.len() + self.exact.len() > self.k {
            self.drop_losers();
        }
        self.score_waiting(exact);
        self.exact.sort_unstable_by(rank);
        self.exact
    }

    fn capacity(&self) -> usize {
        (2 * self.k).max(self.k + 22)
    }

    fn make_room(&mut self, exact: &mut dyn FnMut(u32) -> f32) {
        let mut kth = self.drop_losers();
        if self.waiting.len() + self.exact.len() > self.capacity() - self.k / 4 - 2 {
            self.score_waiting(exact);
            kth = self.exact.iter().map(|hit| hit.score).fold(f32::INFINITY, f32::min);
        }
        self.threshold = self.threshold.max(just_below(kth, self.error));
    }

    /// Drops what k others certainly beat, and returns the k-th best of what scores are at least.
    fn drop_losers(&mut self) -> f32 {
        self.bounds.clear();
        self.bounds.extend(self.exact.iter().map(|hit| hit.score));
        self.bounds.extend(self.waiting.iter().map(|hit| hit.score - self.error));
        let (_, &mut kth, _) = self.bounds.select_nth_unstable_by(self.k - 1, |a, b| b.total_cmp(a));
        self.exact.retain(|hit| hit.score >= kth);
        self.waiting.retain(|hit| hit.score + self.error >= kth);
        kth
    }

    fn score_waiting(&mut self, exact: &mut dyn FnMut(u32) -> f32) {
        // A score that is certainly inside the window stays inside: both were decided with the same error.
        self.exact.extend(self.waiting.drain(..).map(|hit| Hit { score: exact(hit.row), row: hit.row }));
        if self.exact.len() > self.k {
            self.exact.select_nth_unstable_by(self.k - 1, rank);
            self.exact.truncate(self.k);
        }
    }
}

/// The best `k` of the best of several streams of distinct rows.
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

/// The largest float32 below every rough score that can belong to an exact score of `score` or more.
fn just_below(score: f32, error: f32) -> f32 {
    (score - error).next_down()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition.
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

    fn stream(scores: &[f32], noise: &[f32], error: f32, k: usize, window: Window) -> (Vec<Hit>, usize) {
        let mut rescored = 0;
        let mut exact = |row: u32| {
            rescored += 1;
            scores[row as usize]
        };
        let mut top = TopK::new(k, error, window);
        for (row, (&score, &noise)) in scores.iter().zip(noise).enumerate() {
            top.offer(row as u32, score + noise * 0.99 * error, &mut exact);
        }
        let hits = top.finish(&mut exact);
        (hits, rescored)
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
            // Few distinct values, so that ties and values on the window's edge abound.
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
        let (hits, rescored) = stream(&scores, &noise, 1e-5, 10, Window::ALL);
        assert_eq!(hits, reference(&scores, 10, Window::ALL));
        assert!(rescored < 20, "rescored {rescored} rows for 10 hits");
    }

    #[test]
    fn memory_stays_bounded_when_all_scores_are_equal() {
        let mut top = TopK::new(5, 1e-4, Window::ALL);
        for row in 0..10_000 {
            top.offer(row, 0.5, &mut |_| 0.5);
            assert!(top.waiting.len() + top.exact.len() <= top.capacity());
        }
        let rows: Vec<u32> = top.finish(&mut |_| 0.5).iter().map(|hit| hit.row).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
    }
}
