//! The collector of one query's negatives.

use super::counting::{CountingTopK, Rejected, Screen};
use super::{MiningOptions, distinct};
use crate::scan::{Collector, Scan, SharedThreshold};
use crate::top_k::{Candidate, Exact, Hit, merge};

/// One list of one query, from a part of the rows or from all rows.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) best: Vec<Hit>,
    pub(super) rejected: Rejected,
    /// Number of rows that score at least the window's upper limit.
    pub(super) above_window: u64,
}

/// Combines the parts of the rows, for each list.
pub(super) fn combine(parts: Vec<Vec<Found>>, options: &MiningOptions<'_>) -> Vec<Found> {
    let mut combined: Vec<(Vec<Vec<Hit>>, Found)> = options.lists.iter().map(|_| Default::default()).collect();
    for part in parts {
        for ((best, all), found) in combined.iter_mut().zip(part) {
            best.push(found.best);
            all.rejected.merge(found.rejected);
            all.above_window += found.above_window;
        }
    }
    let lists = combined.into_iter().zip(options.lists);
    lists.map(|((best, all), list)| Found { best: merge(best, list.num), ..all }).collect()
}

/// Collects one query's negatives.
pub(super) struct Miner<'a> {
    options: MiningOptions<'a>,
    screen: Screen<'a>,
    excluded: Vec<u32>,
    excluded_groups: Vec<i64>,
    pub(super) lists: Vec<CountingTopK>,
    /// Number of rows that the kernel dropped because they score above all windows with an upper limit.
    above_window: u64,
}

impl<'a> Miner<'a> {
    pub(super) fn new(scan: Scan<'a>, options: &MiningOptions<'a>, query: usize) -> Self {
        let positives = options.positives.of(query);
        let excluded = options.exclude.map_or(&[][..], |exclude| exclude.of(query));
        let mut excluded_groups: Vec<i64> =
            options.groups.map_or_else(Vec::new, |groups| positives.iter().map(|&row| groups[row as usize]).collect());
        excluded_groups.sort_unstable();
        excluded_groups.dedup();
        Self {
            options: *options,
            screen: Screen { scan, most: options.max_positive_similarity, positives: distinct(positives) },
            excluded: distinct(&[positives, excluded].concat()),
            excluded_groups,
            lists: options.lists.iter().map(|list| CountingTopK::new(list.num, list.windows[query])).collect(),
            above_window: 0,
        }
    }

    pub(super) fn with_estimates(self, estimates: &[f32]) -> Self {
        let lists = self.lists.into_iter().zip(estimates);
        Self { lists: lists.map(|(list, &estimate)| list.with_estimate(estimate)).collect(), ..self }
    }

    fn is_candidate(&self, row: u32) -> bool {
        let same_group =
            self.options.groups.is_some_and(|groups| self.excluded_groups.binary_search(&groups[row as usize]).is_ok());
        !same_group && self.excluded.binary_search(&row).is_err()
    }
}

impl Collector for Miner<'_> {
    type Output = Vec<Found>;

    fn threshold(&self) -> f32 {
        self.lists.iter().map(CountingTopK::threshold).fold(f32::INFINITY, f32::min)
    }

    fn window(&self) -> Option<(f32, f64)> {
        let (open, closed): (Vec<&CountingTopK>, Vec<&CountingTopK>) =
            self.lists.iter().partition(|list| list.window().below == f64::INFINITY);
        let always = open.iter().map(|list| list.threshold()).fold(f32::INFINITY, f32::min);
        let below = closed.iter().map(|list| list.window().below).fold(f64::NEG_INFINITY, f64::max);
        (!closed.is_empty()).then_some((always, below))
    }

    fn add_above_window(&mut self, rows: u32) {
        self.above_window += u64::from(rows);
    }

    fn rescores_early(&self) -> bool {
        self.lists.iter().all(CountingTopK::rescores_early)
    }

    fn push(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        let Candidate { row, lower, upper } = candidate;
        if self.is_candidate(row) {
            for list in &mut self.lists {
                list.push(candidate, exact, &self.screen);
            }
            return;
        }
        // The kernel also counts excluded rows above the window, so these rows must be counted here.
        for list in &mut self.lists {
            let below = list.window().below;
            if f64::from(lower) >= below || f64::from(upper) >= below && f64::from(exact.score(row)) >= below {
                list.count_above_window();
            }
        }
    }

    fn rescore(&mut self, exact: &mut impl Exact) {
        for list in &mut self.lists {
            list.rescore(exact, &self.screen);
        }
    }

    /// Shares the threshold if there is a single list; several lists have different thresholds.
    fn share(&mut self, threshold: &SharedThreshold) {
        if let [list] = &mut self.lists[..] {
            list.raise(threshold.raise(list.threshold()));
        }
    }

    fn finish(mut self, exact: &mut impl Exact) -> Self::Output {
        self.rescore(exact);
        let dropped_by_kernel = self.above_window;
        let found = |list: CountingTopK| {
            let closed = list.window().below < f64::INFINITY;
            let above_window = if closed { list.above_window() + dropped_by_kernel } else { 0 };
            let (best, rejected) = list.finish();
            Found { best, rejected, above_window }
        };
        self.lists.into_iter().map(found).collect()
    }
}
