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
    // One comparison of one number, whose upper half is ordered as `f32::total_cmp` orders, the other way round.
    let key = |hit: &Hit| {
        let bits = hit.score.to_bits();
        let descending = if bits >> 31 == 0 { !bits ^ 1 << 31 } else { bits };
        u64::from(descending) << 32 | u64::from(hit.row)
    };
    key(a).cmp(&key(b))
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

/// A row whose score is known to lie between two limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Row of the passage.
    pub row: u32,
    /// The score is not below this.
    pub lower: f32,
    /// The score is not above this.
    pub upper: f32,
}

/// Gives exact scores.
pub trait Exact {
    /// A row's exact score.
    fn score(&mut self, row: u32) -> f32;
    /// Says that a row's score will be asked for soon.
    fn announce(&mut self, row: u32);
    /// Whether a row may be among the best: asked only of rows whose score is high enough.
    fn admits(&mut self, _row: u32) -> bool {
        true
    }
}

/// How many rows ahead exact scores are announced.
const AHEAD: usize = 4;

/// Keeps the best k rows whose exact score lies in a window, from bounds of their scores.
///
/// Candidates wait; when many wait, they are scored exactly, the most promising first, until none that is left can be
/// among the best. So few rows of a whole stream are ever scored exactly, and memory is O(k).
#[derive(Debug)]
pub struct TopK {
    k: usize,
    window: Window,
    floor: f32,
    guessed: bool,
    /// A few more than k at times, in no order.
    best: Vec<Hit>,
    waiting: Vec<Candidate>,
    refused: Refused,
    /// Only rows before this one are counted as refused.
    last: Option<Hit>,
    scored: usize,
    above_window: u64,
}

impl TopK {
    /// For the best `k` rows in `window`.
    ///
    /// # Panics
    /// If `k` is 0.
    #[must_use]
    pub fn new(k: usize, window: Window) -> Self {
        assert!(k > 0, "the best 0 rows are none");
        // Of an empty window, too, all that scores above it is counted.
        let window = Window { above: window.above.min(window.below), ..window };
        // A float32 at or below the limit, below which no wanted score lies.
        let above = window.above as f32;
        let floor = if f64::from(above) > window.above { above.next_down() } else { above };
        Self {
            k,
            window,
            floor,
            guessed: false,
            best: Vec::new(),
            waiting: Vec::new(),
            refused: Refused::default(),
            last: None,
            scored: 0,
            above_window: 0,
        }
    }

    /// The same, of rows that score at least `guess`: if fewer than k do, the best k are not found.
    #[must_use]
    pub fn with_guess(self, guess: f32) -> Self {
        Self { floor: self.floor.max(guess), guessed: guess > self.floor, ..self }
    }

    /// The same, where the last of the best is known: it only counts what is refused before that.
    #[must_use]
    pub(crate) fn counting_before(self, last: Hit) -> Self {
        Self { last: Some(last), ..self.with_guess(last.score) }
    }

    /// Whether candidates had better be scored soon: a guess leaves few, which are worth it.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        self.guessed
    }

    /// The scores that are wanted.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Rows that score less than this are not among the best.
    #[must_use]
    pub fn floor(&self) -> f32 {
        self.floor
    }

    /// Rows scored exactly so far.
    #[must_use]
    pub fn scored(&self) -> usize {
        self.scored
    }

    /// Rows so far, of those offered, that score at least the window's upper limit. All of them once those that wait are
    /// settled.
    #[must_use]
    pub fn above_window(&self) -> u64 {
        self.above_window
    }

    /// Counts a row that scores at least the window's upper limit and is not offered.
    pub(crate) fn count_above_window(&mut self) {
        self.above_window += 1;
    }

    /// Rows in the window that were not admitted ([`Exact::admits`]).
    pub(crate) fn take_refused(&mut self) -> Refused {
        std::mem::take(&mut self.refused)
    }

    /// Takes note that k rows, seen here or elsewhere, have exact scores of at least `floor`.
    pub fn raise(&mut self, floor: f32) {
        self.floor = self.floor.max(floor);
    }

    /// Considers a row.
    pub fn offer(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        if f64::from(candidate.lower) >= self.window.below {
            self.above_window += 1;
            return;
        }
        if candidate.upper < self.floor || f64::from(candidate.upper) <= self.window.above {
            return;
        }
        if self.guessed {
            exact.announce(candidate.row);
        }
        self.waiting.push(candidate);
        if self.waiting.len() >= self.capacity() {
            self.settle(exact);
        }
    }

    /// Scores those that wait and may be among the best, and raises the floor accordingly.
    pub fn settle(&mut self, exact: &mut impl Exact) {
        // Equal bounds in order of rows, so that the first of equal rows is scored first.
        self.waiting.sort_unstable_by(|a, b| b.upper.total_cmp(&a.upper).then(a.row.cmp(&b.row)));
        for at in 0..self.waiting.len() {
            let candidate = self.waiting[at];
            if candidate.upper < self.floor {
                break;
            }
            if !self.guessed
                && let Some(soon) = self.waiting.get(at + AHEAD)
                && soon.upper >= self.floor
            {
                exact.announce(soon.row);
            }
            self.scored += 1;
            let hit = Hit { score: exact.score(candidate.row), row: candidate.row };
            if f64::from(hit.score) >= self.window.below {
                self.above_window += 1;
            } else if hit.score >= self.floor && self.window.contains(hit.score) {
                if exact.admits(hit.row) {
                    self.keep(hit);
                } else if self.last.is_none_or(|last| rank(&hit, &last).is_lt()) {
                    self.refused.count += 1;
                    if self.last.is_none() {
                        self.refused.keep(hit, self.floor, REFUSED_FOR_EACH * self.k + REFUSED);
                    }
                }
            }
        }
        self.waiting.clear();
    }

    fn keep(&mut self, hit: Hit) {
        self.best.push(hit);
        // Selecting among a few more than k now and then is cheaper than keeping an order.
        if self.best.len() == self.k || self.best.len() > self.k + self.k / 4 {
            self.best.select_nth_unstable_by(self.k - 1, rank);
            self.best.truncate(self.k);
            self.floor = self.floor.max(self.best[self.k - 1].score);
        }
    }

    /// The best rows, best first: k of them, or as many as the window admitted.
    pub fn finish(mut self, exact: &mut impl Exact) -> Vec<Hit> {
        self.settle(exact);
        self.best.sort_unstable_by(rank);
        self.best.truncate(self.k);
        self.best
    }

    fn capacity(&self) -> usize {
        (2 * self.k).max(64)
    }
}

/// Refused rows that are kept: so many, and as many for each that is wanted.
const REFUSED: usize = 256;
const REFUSED_FOR_EACH: usize = 4;

/// Rows in a window that were not admitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    /// Those that score at least the floor.
    hits: Vec<Hit>,
    /// All that were seen.
    count: u64,
    /// There were too many to keep.
    overflowed: bool,
}

impl Refused {
    fn keep(&mut self, hit: Hit, floor: f32, most: usize) {
        if self.overflowed {
            return;
        }
        if self.hits.len() >= most {
            self.hits.retain(|hit| hit.score >= floor);
            if self.hits.len() >= most {
                (self.hits, self.overflowed) = (Vec::new(), true);
                return;
            }
        }
        self.hits.push(hit);
    }

    /// Adds those of other rows.
    pub(crate) fn merge(&mut self, other: Self) {
        self.hits.extend(other.hits);
        self.count += other.count;
        self.overflowed |= other.overflowed;
    }

    /// How many stand before the last of the best; all of them, if the best are fewer than wanted. None where that is not
    /// known any more.
    pub(crate) fn before(&self, last: Option<&Hit>) -> Option<u64> {
        match last {
            None => Some(self.count),
            Some(_) if self.overflowed => None,
            Some(last) => Some(self.hits.iter().filter(|hit| rank(hit, last).is_lt()).count() as u64),
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

    /// Exact scores from a list; counts how often it is asked.
    struct List<'a>(&'a [f32]);

    impl Exact for List<'_> {
        fn score(&mut self, row: u32) -> f32 {
            self.0[row as usize]
        }
        fn announce(&mut self, _row: u32) {}
    }

    fn stream(scores: &[f32], noise: &[f32], error: f32, k: usize, window: Window) -> (Vec<Hit>, usize) {
        let mut exact = List(scores);
        let mut top = TopK::new(k, window);
        for (row, (&score, &noise)) in scores.iter().zip(noise).enumerate() {
            let rough = score + noise * 0.99 * error;
            top.offer(Candidate { row: row as u32, lower: rough - error, upper: rough + error }, &mut exact);
        }
        top.settle(&mut exact);
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
        let (hits, scored) = stream(&scores, &noise, 1e-5, 10, Window::ALL);
        assert_eq!(hits, reference(&scores, 10, Window::ALL));
        assert!(scored < 100, "scored {scored} rows for 10 hits");
    }

    #[test]
    fn memory_stays_bounded_when_all_scores_are_equal() {
        let scores = [0.5; 10_000];
        let mut top = TopK::new(5, Window::ALL);
        for row in 0..10_000 {
            top.offer(Candidate { row, lower: 0.4, upper: 0.6 }, &mut List(&scores));
            assert!(top.waiting.len() + top.best.len() <= top.capacity() + 7);
        }
        let rows: Vec<u32> = top.finish(&mut List(&scores)).iter().map(|hit| hit.row).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_floor_from_elsewhere_spares_work() {
        let scores: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
        let mut top = TopK::new(5, Window::ALL);
        top.raise(0.99);
        for row in 0..1000u32 {
            let score = scores[row as usize];
            top.offer(Candidate { row, lower: score, upper: score }, &mut List(&scores));
        }
        let rows: Vec<u32> = top.finish(&mut List(&scores)).iter().map(|hit| hit.row).collect();
        assert_eq!(rows, [999, 998, 997, 996, 995]);
    }
}
