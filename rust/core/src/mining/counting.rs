//! A top k that counts the rows that it rejects.

use crate::matrix::cosine;
use crate::scan::Scan;
use crate::top_k::{Candidate, Conditions, Exact, Hit, TopK, Window, rank};

/// Number of rejected rows to keep: a constant, plus a multiple of k.
const KEPT_REJECTED: usize = 256;
const KEPT_REJECTED_PER_K: usize = 4;

/// The best k rows of one query in a window, with counts of the rows above the window and of the rejected rows.
#[derive(Debug)]
pub(super) struct CountingTopK {
    top: TopK,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    above_window: u64,
    rejected: Rejected,
    /// Only rejected rows that rank before this one are counted.
    last: Option<Hit>,
}

impl CountingTopK {
    pub(super) fn new(k: usize, window: Window) -> Self {
        Self { top: TopK::new(k, window), counts: Counts::default() }
    }

    /// Starts from an estimated threshold, like [`TopK::with_estimate`].
    pub(super) fn with_estimate(self, estimate: f32) -> Self {
        Self { top: self.top.with_estimate(estimate), ..self }
    }

    /// Starts a second pass, which counts the rejected rows that rank before `last`, the last row of the known top k.
    pub(super) fn count_before(&mut self, last: Hit) {
        let top = TopK::new(self.top.k(), self.top.window());
        (self.top, self.counts.last) = (top.with_estimate(last.score), Some(last));
    }

    pub(super) fn window(&self) -> Window {
        self.top.window()
    }

    pub(super) fn threshold(&self) -> f32 {
        self.top.threshold()
    }

    pub(super) fn rescores_early(&self) -> bool {
        self.top.rescores_early()
    }

    pub(super) fn raise(&mut self, threshold: f32) {
        self.top.raise(threshold);
    }

    /// Number of pushed rows that score at least the window's upper limit; exact once no rows are pending.
    pub(super) fn above_window(&self) -> u64 {
        self.counts.above_window
    }

    /// Counts a row that scores at least the window's upper limit and is not pushed.
    pub(super) fn count_above_window(&mut self) {
        self.counts.above_window += 1;
    }

    pub(super) fn push(&mut self, candidate: Candidate, exact: &mut impl Exact, screen: &Screen<'_>) {
        let kept = KEPT_REJECTED_PER_K * self.top.k() + KEPT_REJECTED;
        self.top.push_if(candidate, exact, &mut Screened { counts: &mut self.counts, screen, kept });
    }

    pub(super) fn rescore(&mut self, exact: &mut impl Exact, screen: &Screen<'_>) {
        let kept = KEPT_REJECTED_PER_K * self.top.k() + KEPT_REJECTED;
        self.top.rescore_if(exact, &mut Screened { counts: &mut self.counts, screen, kept });
    }

    /// The best rows in descending order, and the rejected rows; call after the last [`CountingTopK::rescore`].
    pub(super) fn finish(self) -> (Vec<Hit>, Rejected) {
        (self.top.into_best(), self.counts.rejected)
    }
}

/// Finds near-duplicates of one query's positives.
pub(super) struct Screen<'a> {
    pub(super) scan: Scan<'a>,
    /// Rows whose cosine with a positive is above this are rejected.
    pub(super) most: Option<f64>,
    pub(super) positives: Vec<u32>,
}

impl Screen<'_> {
    fn accepts(&self, row: u32) -> bool {
        let Some(most) = self.most else { return true };
        let (kernel, passages) = (self.scan.execution.kernel(), self.scan.passages.matrix());
        let near =
            |&positive: &u32| f64::from(cosine(kernel, passages, positive as usize, passages, row as usize)) > most;
        !self.positives.iter().any(near)
    }
}

/// The conditions of one list.
struct Screened<'c, 's> {
    counts: &'c mut Counts,
    screen: &'s Screen<'s>,
    /// Number of rejected rows to keep.
    kept: usize,
}

impl Conditions for Screened<'_, '_> {
    fn above_window(&mut self) {
        self.counts.above_window += 1;
    }

    fn accepts(&mut self, hit: Hit, threshold: f32) -> bool {
        if self.screen.accepts(hit.row) {
            return true;
        }
        match self.counts.last {
            None => self.counts.rejected.keep(hit, threshold, self.kept),
            Some(last) if rank(&hit, &last).is_lt() => self.counts.rejected.count += 1,
            Some(_) => {}
        }
        false
    }
}

/// Rows in a window that were rejected as near-duplicates of a positive.
#[derive(Debug, Clone, Default)]
pub(super) struct Rejected {
    /// The rejected rows that score at least the threshold.
    hits: Vec<Hit>,
    /// Number of all rejected rows.
    count: u64,
    /// There were too many rows to keep.
    overflowed: bool,
}

impl Rejected {
    fn keep(&mut self, hit: Hit, threshold: f32, most: usize) {
        self.count += 1;
        if self.overflowed {
            return;
        }
        if self.hits.len() >= most {
            self.hits.retain(|hit| hit.score >= threshold);
            if self.hits.len() >= most {
                (self.hits, self.overflowed) = (Vec::new(), true);
                return;
            }
        }
        self.hits.push(hit);
    }

    /// Adds the rejected rows of another part of the rows.
    pub(super) fn merge(&mut self, other: Self) {
        self.hits.extend(other.hits);
        self.count += other.count;
        self.overflowed |= other.overflowed;
    }

    /// Number of rejected rows that rank before `last`, the last row of the top k. If the top k is incomplete (`last`
    /// is `None`), all rejected rows count. Returns `None` if there were too many rejected rows to keep.
    pub(super) fn before(&self, last: Option<&Hit>) -> Option<u64> {
        match last {
            None => Some(self.count),
            Some(_) if self.overflowed => None,
            Some(last) => Some(self.hits.iter().filter(|hit| rank(hit, last).is_lt()).count() as u64),
        }
    }
}
