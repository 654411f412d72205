//! A scan of many rows for many queries. Every panel of rows stays in the cache while a group of queries is scored
//! against it. The queries are divided among the threads, or the rows if there are few queries.

mod cost;
mod gathered;
mod group;
mod threshold;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::kernel::BLOCK_ROWS;
use crate::matrix::Matrix;
use crate::parallel::{self, Execution};
use crate::passages::Passages;
use crate::selection::Selection;
use crate::top_k::{Candidate, Exact};

use group::Group;
pub(crate) use threshold::SharedThreshold;

/// Maximum number of queries per task, so that the packed queries fit in a few MiB.
pub(crate) const GROUP: usize = 1024;
/// With fewer queries per thread than this, rows are split over threads instead of queries.
pub(crate) const QUERIES_PER_THREAD: usize = 64;
/// Tasks per thread, so that a slow thread does not delay the others; and the smallest range, in blocks.
const TASKS_PER_THREAD: usize = 4;
const RANGE_MIN: usize = 256;
/// Number of multiply-adds below which starting threads takes longer than the scan.
const PARALLEL_MIN: usize = 4 << 20;

/// Collects the candidate rows of one query.
pub(crate) trait Collector {
    /// The outcome of a scan.
    type Output: Send;
    /// Rows whose score is certainly less than this need not be pushed.
    fn threshold(&self) -> f32;
    /// For collectors with upper limits on scores: rows that reach the score `.0` are always pushed, other rows only if
    /// they may score below `.1`.
    fn window(&self) -> Option<(f32, f64)> {
        None
    }
    /// For collectors with a window: counts `rows` more rows, which score at least `.1` and were not pushed.
    fn add_above_window(&mut self, _rows: u32) {}
    /// True to rescore pending candidates after every panel, while rows are in the cache.
    fn rescores_early(&self) -> bool;
    /// Adds a candidate.
    fn push(&mut self, candidate: Candidate, exact: &mut impl Exact);
    /// Rescores pending candidates, if that can raise the threshold.
    fn rescore(&mut self, exact: &mut impl Exact);
    /// Exchanges thresholds with the same query's collectors on other row ranges.
    fn share(&mut self, threshold: &SharedThreshold);
    /// The outcome for all rows scanned.
    fn finish(self, exact: &mut impl Exact) -> Self::Output;
}

/// A scan: its inputs, and how it runs.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) queries: &'a Matrix,
    pub(crate) passages: &'a Passages,
    pub(crate) selection: Selection<'a>,
    pub(crate) use_sketch: bool,
    pub(crate) execution: &'a Execution,
}

/// Pushes the rows that may matter to a query to its collector. Returns, for each query, the outcomes of all parts of
/// the rows: one outcome, unless rows are split over threads.
pub(crate) fn scan<C: Collector>(
    scan: Scan<'_>,
    queries: &[usize],
    collector: impl Fn(usize) -> C + Sync,
) -> Result<Vec<Vec<C::Output>>> {
    let rows = scan.selection.len() * BLOCK_ROWS;
    let work = queries.len().saturating_mul(rows).saturating_mul(scan.passages.dim());
    let execution = if work < PARALLEL_MIN { scan.execution.single_threaded() } else { scan.execution.clone() };
    let (groups, ranges) = plan(queries.len(), scan.selection.len(), execution.threads());
    let thresholds: Vec<SharedThreshold> = queries.iter().map(|_| SharedThreshold::new()).collect();
    // A thread takes one range of rows after another. It keeps its collectors and their thresholds.
    let workers = execution.threads().min(ranges.len());
    let taken: Vec<AtomicUsize> = groups.iter().map(|_| AtomicUsize::new(0)).collect();
    let tasks = groups.iter().zip(&taken).flat_map(|task| std::iter::repeat_n(task, workers));
    let outcomes = parallel::for_each(&execution, tasks, |(group, taken)| {
        let thresholds = (ranges.len() > 1).then(|| &thresholds[group.clone()]);
        let mut state = None;
        while let Some(range) = ranges.get(taken.fetch_add(1, Ordering::Relaxed)) {
            let state = state.get_or_insert_with(|| Group::new(scan, &queries[group.clone()], &collector));
            state.scan(range.clone(), thresholds)?;
        }
        Ok(state.map_or_else(Vec::new, Group::finish))
    })?;
    let mut by_query: Vec<Vec<C::Output>> = queries.iter().map(|_| Vec::with_capacity(workers)).collect();
    for (task, outcome) in outcomes.into_iter().enumerate() {
        let first = groups[task / workers].start;
        for (i, output) in outcome?.into_iter().enumerate() {
            by_query[first + i].push(output);
        }
    }
    Ok(by_query)
}

/// Groups of queries and ranges of blocks; each pair is a task.
fn plan(queries: usize, blocks: usize, threads: usize) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    if threads == 1 {
        (chunks(queries, GROUP), chunks(blocks, blocks))
    } else if queries >= threads * QUERIES_PER_THREAD {
        let size = queries.div_ceil(TASKS_PER_THREAD * threads).next_multiple_of(24);
        (chunks(queries, size.clamp(QUERIES_PER_THREAD, GROUP)), chunks(blocks, blocks))
    } else {
        let most = (threads * TASKS_PER_THREAD).min(blocks / RANGE_MIN).max(threads.min(blocks));
        (chunks(queries, GROUP), chunks(blocks, blocks.div_ceil(most)))
    }
}

fn chunks(len: usize, size: usize) -> Vec<Range<usize>> {
    (0..len).step_by(size).map(|start| start..(start + size).min(len)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_cover_all_pairs_once() {
        for queries in [1, 16, 64, 65, 256, 1000, 5000] {
            for blocks in [1, 2, 7, 256, 257, 10_000] {
                for threads in [1, 2, 3, 16] {
                    let (groups, ranges) = plan(queries, blocks, threads);
                    assert_eq!(groups.iter().map(Range::len).sum::<usize>(), queries);
                    assert_eq!(ranges.iter().map(Range::len).sum::<usize>(), blocks);
                    assert!(groups.windows(2).all(|w| w[0].end == w[1].start));
                    assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
                }
            }
        }
    }
}
