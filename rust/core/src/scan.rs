//! One pass of many queries over many rows, split for the machine: blocks of queries by panels of rows, so that a panel
//! is scored against every block while it lies in the cache, and row ranges over threads when queries are few.

use std::ops::Range;

use crate::error::Result;
use crate::kernel::{DIRECT_MAX, Kernel, Panel, Survivor};
use crate::matrix::{Matrix, cosine};
use crate::parallel::{self, Execution};

/// Bytes of a panel of rows, roughly, for packed blocks and for direct scoring: a part of common L2 caches, and of L1.
const PACKED_PANEL: usize = 256 << 10;
const DIRECT_PANEL: usize = 32 << 10;
/// Panels are a multiple of this many rows, which is one of every kernel's rows per tile (6 packed; 16, 8, 4 or 2 direct),
/// so that only the last panel has rows that fill no tile.
const ROW_STEP: usize = 48;
/// Packed blocks of one task: what is packed at a time stays within a few MiB.
const GROUP: usize = 16;
/// Row ranges for each thread when rows are split, so that a slow thread does not hold up the others, and the fewest
/// rows that make a range.
const RANGES_PER_THREAD: usize = 4;
const RANGE_MIN: usize = 4096;
/// Multiply-adds below which starting threads costs more than it brings.
const PARALLEL_MIN: usize = 1 << 20;

/// What one query makes of the rows that pass its threshold.
pub(crate) trait Collector {
    /// What it ends up with.
    type Output: Send;
    /// Rows with a rough score at or below this need not be offered.
    fn threshold(&self) -> f32;
    /// Considers a row; `exact` gives a row's exact score.
    fn offer(&mut self, row: u32, score: f32, exact: &mut dyn FnMut(u32) -> f32);
    /// The outcome for the rows it has seen.
    fn finish(self, exact: &mut dyn FnMut(u32) -> f32) -> Self::Output;
}

/// Offers every row to the collector of every query and returns, for each query, the outcomes of the row ranges in which
/// the rows were scanned (one, unless rows were split over threads).
pub(crate) fn scan<C: Collector>(
    kernel: Kernel,
    queries: &Matrix,
    passages: &Matrix,
    execution: &Execution,
    collector: impl Fn(usize) -> C + Sync,
) -> Result<Vec<Vec<C::Output>>> {
    let work = queries.rows().saturating_mul(passages.rows()).saturating_mul(passages.dim());
    let execution = if work < PARALLEL_MIN { execution.single_threaded() } else { execution.clone() };
    let blocks = blocks(kernel, queries.rows());
    let (groups, ranges) = plan(&blocks, passages.rows(), execution.threads());
    let tasks = groups.iter().flat_map(|group| ranges.iter().map(move |range| (group.clone(), range.clone())));
    let outcomes = parallel::for_each(&execution, tasks, |(group, range)| {
        scan_group(kernel, queries, passages, &blocks[group], range, &execution, &collector)
    })?;
    let mut by_query: Vec<Vec<C::Output>> = (0..queries.rows()).map(|_| Vec::with_capacity(ranges.len())).collect();
    for (task, outcome) in outcomes.into_iter().enumerate() {
        let first = blocks[groups[task / ranges.len()].start].queries.start;
        for (i, output) in outcome?.into_iter().enumerate() {
            by_query[first + i].push(output);
        }
    }
    Ok(by_query)
}

/// Queries that are scored together: packed, or few of them directly.
#[derive(Debug, Clone, PartialEq)]
struct Block {
    queries: Range<usize>,
    packed: bool,
    /// Queries that the kernel wants: those of the block, and padding.
    lanes: usize,
}

impl Block {
    fn new(kernel: Kernel, queries: Range<usize>) -> Self {
        let packed = queries.len() > DIRECT_MAX;
        let lanes = match queries.len() {
            1 => 1,
            len if packed => kernel.widths().iter().copied().find(|&width| width >= len).unwrap_or(len),
            len => len.next_multiple_of(kernel.group()),
        };
        Self { queries, packed, lanes }
    }
}

fn blocks(kernel: Kernel, queries: usize) -> Vec<Block> {
    let widest = kernel.widths().last().copied().unwrap_or(1);
    chunks(queries, widest).into_iter().map(|queries| Block::new(kernel, queries)).collect()
}

/// Groups of blocks, and ranges of rows; each pair of them is a task.
fn plan(blocks: &[Block], rows: usize, threads: usize) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let tasks = 4 * threads;
    if threads == 1 {
        (chunks(blocks.len(), GROUP), chunks(rows, rows))
    } else if blocks.len() >= tasks {
        (chunks(blocks.len(), blocks.len().div_ceil(tasks).min(GROUP)), chunks(rows, rows))
    } else {
        let most = (threads * RANGES_PER_THREAD).min(rows / RANGE_MIN).max(threads.min(rows));
        (chunks(blocks.len(), GROUP), chunks(rows, rows.div_ceil(most)))
    }
}

fn chunks(len: usize, size: usize) -> Vec<Range<usize>> {
    (0..len).step_by(size).map(|start| start..(start + size).min(len)).collect()
}

fn scan_group<C: Collector>(
    kernel: Kernel,
    queries: &Matrix,
    passages: &Matrix,
    blocks: &[Block],
    rows: Range<usize>,
    execution: &Execution,
    collector: &(impl Fn(usize) -> C + Sync),
) -> Result<Vec<C::Output>> {
    let dim = passages.dim();
    let mut states: Vec<BlockState<C>> = blocks.iter().map(|b| BlockState::new(b, queries, collector)).collect();
    let direct = blocks.iter().all(|block| !block.packed);
    let bytes = if direct { DIRECT_PANEL } else { PACKED_PANEL };
    let step = (bytes / size_of::<f32>() / dim / ROW_STEP * ROW_STEP).max(ROW_STEP);
    let mut survivors = Vec::new();
    for start in rows.clone().step_by(step) {
        execution.check()?;
        let range = start..(start + step).min(rows.end);
        let panel =
            Panel::new(passages.slab(range.clone()), passages.inverse_norms(range.clone()), dim, range.start as u32);
        for state in &mut states {
            state.scan(kernel, &panel, queries, passages, &mut survivors);
        }
    }
    Ok(states.into_iter().flat_map(|state| state.finish(kernel, queries, passages)).collect())
}

/// A block's queries as the kernel wants them, their thresholds, and what they have collected.
struct BlockState<C> {
    first: usize,
    packed: bool,
    values: Vec<f32>,
    thresholds: Vec<f32>,
    collectors: Vec<C>,
}

impl<C: Collector> BlockState<C> {
    fn new(block: &Block, queries: &Matrix, collector: &impl Fn(usize) -> C) -> Self {
        let lanes = block.lanes;
        let mut values = vec![0.0; lanes * queries.dim()];
        for (lane, query) in block.queries.clone().enumerate() {
            let norm = queries.norm(query);
            for (column, &value) in queries.row(query).iter().enumerate() {
                let at = if block.packed { column * lanes + lane } else { lane * queries.dim() + column };
                values[at] = (f64::from(value) / norm) as f32;
            }
        }
        let collectors: Vec<C> = block.queries.clone().map(collector).collect();
        // Lanes without a query have a threshold that nothing passes.
        let mut thresholds = vec![f32::INFINITY; lanes];
        for (threshold, collector) in thresholds.iter_mut().zip(&collectors) {
            *threshold = collector.threshold();
        }
        Self { first: block.queries.start, packed: block.packed, values, thresholds, collectors }
    }

    fn scan(
        &mut self,
        kernel: Kernel,
        panel: &Panel<'_>,
        queries: &Matrix,
        passages: &Matrix,
        survivors: &mut Vec<Survivor>,
    ) {
        survivors.clear();
        if self.packed {
            kernel.packed(&self.values, panel, &self.thresholds, survivors);
        } else {
            kernel.direct(&self.values, panel, &self.thresholds, survivors);
        }
        for survivor in survivors.iter() {
            let lane = survivor.query as usize;
            let query = self.first + lane;
            let collector = &mut self.collectors[lane];
            collector
                .offer(survivor.row, survivor.score, &mut |row| cosine(kernel, queries, query, passages, row as usize));
            self.thresholds[lane] = collector.threshold();
        }
    }

    fn finish(self, kernel: Kernel, queries: &Matrix, passages: &Matrix) -> impl Iterator<Item = C::Output> {
        self.collectors.into_iter().enumerate().map(move |(lane, collector)| {
            let query = self.first + lane;
            collector.finish(&mut |row| cosine(kernel, queries, query, passages, row as usize))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_queries_in_order() {
        for kernel in Kernel::available() {
            for queries in 1..300 {
                let blocks = blocks(kernel, queries);
                let mut next = 0;
                for block in &blocks {
                    assert_eq!(block.queries.start, next);
                    assert!(block.queries.len() <= block.lanes);
                    assert!(!block.packed || kernel.widths().contains(&block.lanes));
                    next = block.queries.end;
                }
                assert_eq!(next, queries);
            }
        }
    }

    #[test]
    fn plans_cover_all_pairs_once() {
        let kernel = Kernel::detect();
        for queries in [1, 16, 64, 65, 256, 1000, 5000] {
            for rows in [1, 2, 7, 4096, 4097, 100_000] {
                for threads in [1, 2, 3, 16] {
                    let blocks = blocks(kernel, queries);
                    let (groups, ranges) = plan(&blocks, rows, threads);
                    assert_eq!(groups.iter().map(Range::len).sum::<usize>(), blocks.len());
                    assert_eq!(ranges.iter().map(Range::len).sum::<usize>(), rows);
                    assert!(groups.windows(2).all(|w| w[0].end == w[1].start));
                    assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
                }
            }
        }
    }
}
