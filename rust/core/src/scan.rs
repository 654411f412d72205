//! One pass of many queries over many rows, split for the machine: panels of rows that stay in the cache while every query
//! of a group is scored against them, and row ranges over threads when queries are few.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, GROUP_BYTES, Kernel, Panel, QueryBlock, QueryCodes, Survivor, Survivors};
use crate::matrix::{Matrix, cosine};
use crate::parallel::{self, Execution};
use crate::passages::Passages;
use crate::quantize::{CodedQuery, Codes, encode_query};
use crate::selection::Selection;
use crate::sketch::Sketch;
use crate::top_k::{Candidate, Exact};

/// Bytes of codes in a panel, roughly: a part of common L2 caches.
const PANEL: usize = 256 << 10;
/// The most pairs of query and row in a panel, all of which may survive.
const PAIRS: usize = 2 << 20;
/// Blocks in the first panel, which sets the first floors, and in steps of which panels end.
const FIRST_BLOCKS: usize = 4;
/// Queries of one task: what is arranged at a time stays within a few MiB.
pub(crate) const GROUP: usize = 1024;
/// Fewer queries than this for each thread are not split; the rows are.
pub(crate) const QUERIES_PER_THREAD: usize = 64;
/// Tasks for each thread, so that a slow one does not hold up the others, and the fewest blocks that make a range.
const TASKS_PER_THREAD: usize = 4;
const RANGE_MIN: usize = 256;
/// Multiply-adds below which starting threads costs more than it brings.
const PARALLEL_MIN: usize = 4 << 20;

/// Panels after which all codes are tried for the first time, and after which the slower of two ways is tried again.
const FIRST_TRY: usize = 5;
const RETRY: usize = 24;

/// So few queries hardly ever look at the same blocks.
const FEW: usize = 32;

/// What one query makes of the rows that may matter to it.
pub(crate) trait Collector {
    /// What it ends up with.
    type Output: Send;
    /// Rows that certainly score less need not be offered.
    fn floor(&self) -> f32;
    /// For a collector that wants rows below a score, beside those above another: scores at least as high as the first number
    /// are wanted whatever they are, others only if they may be below the second.
    fn window(&self) -> Option<(f32, f64)> {
        None
    }
    /// For a collector with a window: so many rows more lie between its two parts, and were not offered.
    fn leave_out(&mut self, _rows: u32) {}
    /// Whether what waits had better be settled after each panel, while its rows are in the cache.
    fn is_eager(&self) -> bool;
    /// Considers a row.
    fn offer(&mut self, candidate: Candidate, exact: &mut impl Exact);
    /// Raises the floor, if what waits can do so.
    fn settle(&mut self, exact: &mut impl Exact);
    /// Tells the collectors of the same query in other row ranges, and hears from them.
    fn share(&mut self, floor: &SharedFloor);
    /// The outcome for the rows it has seen.
    fn finish(self, exact: &mut impl Exact) -> Self::Output;
}

/// A floor that only rises, for all threads.
#[derive(Debug)]
pub(crate) struct SharedFloor(AtomicU32);

impl SharedFloor {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(ordered(f32::NEG_INFINITY)))
    }

    /// Raises it to `floor`, if that is higher, and returns it.
    pub(crate) fn raise(&self, floor: f32) -> f32 {
        // No other memory depends on it.
        let before = self.0.fetch_max(ordered(floor), Ordering::Relaxed);
        floor.max(unordered(before))
    }
}

/// Bits that compare as the numbers do.
fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn unordered(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

/// What is scanned, and how.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) queries: &'a Matrix,
    pub(crate) passages: &'a Passages,
    pub(crate) selection: Selection<'a>,
    pub(crate) use_sketch: bool,
    pub(crate) execution: &'a Execution,
}

/// Offers every row that may matter to the collector of each of `queries` and returns, in their order, the outcomes of the
/// parts of the rows that were scanned together (one, unless rows were split over threads).
pub(crate) fn scan<C: Collector>(
    scan: Scan<'_>,
    queries: &[usize],
    collector: impl Fn(usize) -> C + Sync,
) -> Result<Vec<Vec<C::Output>>> {
    let rows = scan.selection.len() * BLOCK_ROWS;
    let work = queries.len().saturating_mul(rows).saturating_mul(scan.passages.dim());
    let execution = if work < PARALLEL_MIN { scan.execution.single_threaded() } else { scan.execution.clone() };
    let (groups, ranges) = plan(queries.len(), scan.selection.len(), execution.threads());
    let floors: Vec<SharedFloor> = queries.iter().map(|_| SharedFloor::new()).collect();
    // Threads take ranges of rows one after the other, and go on with what they know of their queries' floors.
    let workers = execution.threads().min(ranges.len());
    let taken: Vec<AtomicUsize> = groups.iter().map(|_| AtomicUsize::new(0)).collect();
    let tasks = groups.iter().zip(&taken).flat_map(|task| std::iter::repeat_n(task, workers));
    let outcomes = parallel::for_each(&execution, tasks, |(group, taken)| {
        let floors = (ranges.len() > 1).then(|| &floors[group.clone()]);
        let mut state = None;
        while let Some(range) = ranges.get(taken.fetch_add(1, Ordering::Relaxed)) {
            let state = state.get_or_insert_with(|| Group::new(scan, &queries[group.clone()], &collector));
            state.scan(range.clone(), floors)?;
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

/// Groups of queries, and ranges of blocks of rows; each pair of them is a task.
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

/// Queries coded and arranged for one kind of codes.
struct Level {
    coded: Vec<CodedQuery>,
    block: QueryBlock,
    limits: Vec<f32>,
}

impl Level {
    fn new(kernel: Kernel, codes: &Codes, coded: Vec<CodedQuery>) -> Self {
        let arranged: Vec<&QueryCodes> = coded.iter().map(|query| &query.codes).collect();
        let block = QueryBlock::new(kernel, codes.groups(), &arranged);
        let limits = vec![f32::NEG_INFINITY; coded.len()];
        Self { coded, block, limits }
    }

    fn set_limit(&mut self, lane: usize, floor: f32) {
        let limit = self.coded[lane].limit(floor);
        self.limits[lane] = limit;
        self.block.set_limit(lane, limit);
    }

    /// After [`Level::set_limit`].
    fn set_window(&mut self, lane: usize, sure: f32, below: f64) {
        let coded = &self.coded[lane];
        self.block.set_window(lane, self.limits[lane], coded.limit(sure), coded.ceiling(below));
    }
}

/// Some queries, arranged for the kernel, and what they have collected.
struct Group<'a, C> {
    scan: Scan<'a>,
    queries: &'a [usize],
    full: Level,
    sketch: Option<(&'a Sketch, Level)>,
    pace: Pace,
    /// Panels scanned so far.
    panels: usize,
    collectors: Vec<C>,
    passed: Survivors,
    survivors: Survivors,
    gathered: Gathered,
}

impl<'a, C: Collector> Group<'a, C> {
    fn new(scan: Scan<'a>, queries: &'a [usize], collector: &impl Fn(usize) -> C) -> Self {
        let Scan { kernel, passages, .. } = scan;
        let coded = queries.iter().map(|&query| encode_query(scan.queries, query, passages.codes(), kernel)).collect();
        let sketch = passages.sketch().filter(|_| scan.use_sketch).map(|sketch| {
            let coded = sketch.basis().encode_queries(scan.queries, queries, kernel);
            (sketch, Level::new(kernel, sketch.codes(), coded))
        });
        Self {
            scan,
            queries,
            full: Level::new(kernel, passages.codes(), coded),
            sketch,
            pace: Pace::default(),
            panels: 0,
            collectors: queries.iter().map(|&query| collector(query)).collect(),
            passed: Survivors::default(),
            survivors: Survivors::default(),
            gathered: Gathered::default(),
        }
    }

    /// Scans a range of the selection's blocks.
    fn scan(&mut self, range: Range<usize>, floors: Option<&[SharedFloor]>) -> Result<()> {
        let mut start = range.start;
        while start < range.end {
            self.scan.execution.check()?;
            let way = if self.sketch.is_some() { self.pace.choose() } else { Way::Full };
            let codes = match &self.sketch {
                Some((sketch, _)) if way == Way::Sketch => sketch.codes(),
                _ => self.scan.passages.codes(),
            };
            let bytes = codes.groups() * GROUP_BYTES;
            let most = (PANEL / bytes).min(PAIRS / BLOCK_ROWS / self.queries.len());
            let most = (most / FIRST_BLOCKS * FIRST_BLOCKS).max(FIRST_BLOCKS);
            // The first panels are short, since nothing is known of the floors yet.
            let step = if self.panels < 8 { (FIRST_BLOCKS << self.panels).min(most) } else { most };
            let end = (start + step).min(range.end);
            self.set_limits(floors);
            let begun = Instant::now();
            self.panel(start..end, way);
            self.pace.note(way, begun.elapsed(), end - start);
            self.panels += 1;
            if self.panels.is_power_of_two() || self.collectors[0].is_eager() {
                self.settle();
            }
            start = end;
        }
        Ok(())
    }

    fn set_limits(&mut self, floors: Option<&[SharedFloor]>) {
        for (lane, collector) in self.collectors.iter_mut().enumerate() {
            if let Some(floors) = floors {
                collector.share(&floors[lane]);
            }
            let floor = collector.floor();
            self.full.set_limit(lane, floor);
            if let Some((sure, below)) = collector.window() {
                self.full.set_window(lane, sure, below);
            }
            if let Some((_, sketch)) = &mut self.sketch {
                sketch.set_limit(lane, floor);
            }
        }
    }

    fn panel(&mut self, positions: Range<usize>, way: Way) {
        let Scan { kernel, queries, passages, selection, .. } = self.scan;
        let codes = passages.codes();
        self.survivors.clear();
        match &self.sketch {
            Some((sketch, level)) if way == Way::Sketch => {
                self.passed.clear();
                self.gathered.scan(kernel, level, sketch.codes(), selection, positions, &mut self.passed);
                refine(kernel, &self.full, codes, &self.passed.rows, &mut self.survivors.rows);
            }
            _ => self.gathered.scan(kernel, &self.full, codes, selection, positions, &mut self.survivors),
        }
        for (collector, &rows) in self.collectors.iter_mut().zip(&self.survivors.dropped) {
            collector.leave_out(rows);
        }
        for survivor in &self.survivors.rows {
            let lane = survivor.query as usize;
            let error = codes.error(survivor.row as usize);
            let (lower, upper) = self.full.coded[lane].interval(survivor.bound, error);
            let mut exact = Scorer { kernel, queries, query: self.queries[lane], passages };
            self.collectors[lane].offer(Candidate { row: survivor.row, lower, upper }, &mut exact);
        }
    }

    fn settle(&mut self) {
        let Scan { kernel, queries, passages, .. } = self.scan;
        for (collector, &query) in self.collectors.iter_mut().zip(self.queries) {
            collector.settle(&mut Scorer { kernel, queries, query, passages });
        }
    }

    fn finish(self) -> Vec<C::Output> {
        let Scan { kernel, queries, passages, .. } = self.scan;
        let outcome =
            |(collector, &query): (C, &usize)| collector.finish(&mut Scorer { kernel, queries, query, passages });
        self.collectors.into_iter().zip(self.queries).map(outcome).collect()
    }
}

/// Which codes a panel is scanned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sketch,
    Full,
}

/// How fast both ways have been of late: how much a sketch rules out depends on the queries, on how far their floors have
/// risen, and on where the codes lie. Only the speed depends on it, never the result.
#[derive(Debug, Default)]
struct Pace {
    /// Seconds for a block, by sketch and by all codes; 0 before the first panel.
    sketch: f64,
    full: f64,
    since_retry: usize,
}

impl Pace {
    /// The faster way, or now and then the other.
    fn choose(&mut self) -> Way {
        let faster = if self.sketch <= self.full { Way::Sketch } else { Way::Full };
        self.since_retry += 1;
        let retry = if self.full == 0.0 { FIRST_TRY } else { RETRY };
        if self.since_retry <= retry {
            return faster;
        }
        self.since_retry = 0;
        if faster == Way::Sketch { Way::Full } else { Way::Sketch }
    }

    fn note(&mut self, way: Way, time: Duration, blocks: usize) {
        let pace = time.as_secs_f64() / blocks as f64;
        match way {
            Way::Sketch => self.sketch = pace,
            Way::Full => self.full = pace,
        }
    }
}

/// Looks at all codes of the blocks in which rows passed the sketch.
fn refine(kernel: Kernel, level: &Level, codes: &Codes, passed: &[Survivor], survivors: &mut Vec<Survivor>) {
    let mut bounds = [0.0; BLOCK_ROWS];
    let block_of = |survivor: &Survivor| (survivor.query, survivor.row / BLOCK_ROWS as u32);
    // Few queries look at blocks here and there, which the memory is asked for ahead; those of many are in the cache.
    let fetch = level.coded.len() <= FEW;
    let mut runs = passed.chunk_by(|a, b| block_of(a) == block_of(b)).peekable();
    while let Some(run) = runs.next() {
        let (query, block) = block_of(&run[0]);
        if fetch && let Some(next) = runs.peek() {
            let next = block_of(&next[0]).1 as usize;
            kernel.prefetch_panel(&codes.panel(next..next + 1));
        }
        let lane = query as usize;
        let panel = codes.panel(block as usize..block as usize + 1);
        let above = kernel.score_block(&level.coded[lane].codes, level.limits[lane], &panel, &mut bounds);
        for survivor in run {
            let at = survivor.row as usize % BLOCK_ROWS;
            if above >> at & 1 == 1 {
                survivors.push(Survivor { bound: bounds[at], ..*survivor });
            }
        }
    }
}

/// Blocks that do not lie together, or of which not all rows count, made into a panel.
#[derive(Default)]
struct Gathered {
    blocks: Vec<u32>,
    codes: Vec<u8>,
    scales: Vec<f32>,
    errors: Vec<f32>,
}

impl Gathered {
    /// Scans the blocks of the selection at these positions, where they lie if that is possible.
    fn scan(
        &mut self,
        kernel: Kernel,
        level: &Level,
        codes: &Codes,
        selection: Selection<'_>,
        positions: Range<usize>,
        survivors: &mut Survivors,
    ) {
        let (first, blocks) = (selection.block(positions.start), positions.len());
        let consecutive = selection.block(positions.end - 1) - first == blocks - 1;
        if consecutive && !selection.is_masked() {
            kernel.scan(&level.block, &codes.panel(first..first + blocks), survivors);
        } else {
            kernel.scan(&level.block, &self.panel(codes, selection, positions, consecutive), survivors);
            for survivor in &mut survivors.rows {
                survivor.row = self.row(survivor.row);
            }
        }
    }

    /// Rows that do not count get an error of minus infinity, which makes a bound that nothing is above.
    fn panel<'a>(
        &'a mut self,
        codes: &'a Codes,
        selection: Selection<'_>,
        positions: Range<usize>,
        consecutive: bool,
    ) -> Panel<'a> {
        self.blocks.clear();
        self.blocks.extend(positions.map(|position| selection.block(position) as u32));
        let (all, scales, errors) = codes.parts();
        self.scales.clear();
        self.errors.clear();
        for &block in &self.blocks {
            let block = block as usize;
            let rows = block * BLOCK_ROWS..(block + 1) * BLOCK_ROWS;
            let mask = selection.mask(block);
            self.scales.extend_from_slice(&scales[rows.clone()]);
            let error = |(lane, &error): (usize, &f32)| if mask >> lane & 1 == 1 { error } else { f32::NEG_INFINITY };
            self.errors.extend(errors[rows].iter().enumerate().map(error));
        }
        let bytes = codes.groups() * GROUP_BYTES;
        let codes_of = |block: u32| &all[block as usize * bytes..(block as usize + 1) * bytes];
        let gathered = if consecutive {
            let first = self.blocks[0] as usize;
            &all[first * bytes..(first + self.blocks.len()) * bytes]
        } else {
            self.codes.clear();
            for &block in &self.blocks {
                self.codes.extend_from_slice(codes_of(block));
            }
            &self.codes[..]
        };
        Panel::new(gathered, &self.scales, &self.errors, codes.groups(), 0)
    }

    /// The row that stands at a place in the panel.
    fn row(&self, place: u32) -> u32 {
        let block = self.blocks[place as usize / BLOCK_ROWS];
        block * BLOCK_ROWS as u32 + place % BLOCK_ROWS as u32
    }
}

/// Exact scores of one query.
struct Scorer<'a> {
    kernel: Kernel,
    queries: &'a Matrix,
    query: usize,
    passages: &'a Passages,
}

impl Exact for Scorer<'_> {
    fn score(&mut self, row: u32) -> f32 {
        cosine(self.kernel, self.queries, self.query, self.passages.matrix(), row as usize)
    }

    fn announce(&mut self, row: u32) {
        self.kernel.prefetch(self.passages.matrix().row(row as usize));
    }
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

    #[test]
    fn a_shared_floor_rises_and_never_falls() {
        let floor = SharedFloor::new();
        assert_eq!(floor.raise(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(floor.raise(-0.5), -0.5);
        assert_eq!(floor.raise(-0.75), -0.5);
        assert_eq!(floor.raise(0.25), 0.25);
        assert_eq!(floor.raise(-1.0), 0.25);
    }
}
