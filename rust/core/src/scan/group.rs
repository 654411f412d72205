//! The scan of one group of queries over ranges of rows.

use std::ops::Range;
use std::time::Instant;

use super::cost::{CostModel, Pass};
use super::gathered::Gathered;
use super::{Collector, Scan, SharedThreshold};
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, GROUP_BYTES, Kernel, QueryBlock, QueryCodes, Survivor, Survivors};
use crate::matrix::{Matrix, cosine};
use crate::passages::Passages;
use crate::quantize::{CodedQuery, Codes, encode_query};
use crate::sketch::Sketch;
use crate::top_k::{Candidate, Exact};

/// Approximate size of the codes of a panel in bytes, a part of common L2 caches.
const PANEL: usize = 256 << 10;
/// Maximum number of (query, row) pairs in a panel; all of them may survive.
const PAIRS: usize = 2 << 20;
/// Blocks in the first panel, which sets the initial thresholds; panel sizes are multiples of this number.
const FIRST_BLOCKS: usize = 4;
/// Maximum number of queries for which blocks are prefetched, because few queries rarely share a block.
const FEW_QUERIES: usize = 32;

/// Queries coded and arranged for one set of codes: the full codes, or the sketch.
pub(super) struct Level {
    coded: Vec<CodedQuery>,
    pub(super) block: QueryBlock,
    limits: Vec<f32>,
}

impl Level {
    fn new(kernel: Kernel, codes: &Codes, coded: Vec<CodedQuery>) -> Self {
        let arranged: Vec<&QueryCodes> = coded.iter().map(|query| &query.codes).collect();
        let block = QueryBlock::new(kernel, codes.groups(), &arranged);
        let limits = vec![f32::NEG_INFINITY; coded.len()];
        Self { coded, block, limits }
    }

    fn set_limit(&mut self, lane: usize, threshold: f32) {
        let limit = self.coded[lane].limit(threshold);
        self.limits[lane] = limit;
        self.block.set_limit(lane, limit);
    }

    /// Sets a window; must follow [`Level::set_limit`].
    fn set_window(&mut self, lane: usize, always: f32, below: f64) {
        let coded = &self.coded[lane];
        self.block.set_window(lane, self.limits[lane], coded.limit(always), coded.window_limit(below));
    }
}

/// A group of queries, arranged for the kernel, with their collectors.
pub(super) struct Group<'a, C> {
    scan: Scan<'a>,
    queries: &'a [usize],
    full: Level,
    sketch: Option<(&'a Sketch, Level)>,
    costs: CostModel,
    /// Number of panels scanned so far.
    panels: usize,
    collectors: Vec<C>,
    /// Rows that the sketch does not rule out.
    sketched: Survivors,
    survivors: Survivors,
    gathered: Gathered,
}

impl<'a, C: Collector> Group<'a, C> {
    pub(super) fn new(scan: Scan<'a>, queries: &'a [usize], collector: &impl Fn(usize) -> C) -> Self {
        let (kernel, passages) = (scan.execution.kernel(), scan.passages);
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
            costs: CostModel::default(),
            panels: 0,
            collectors: queries.iter().map(|&query| collector(query)).collect(),
            sketched: Survivors::default(),
            survivors: Survivors::default(),
            gathered: Gathered::default(),
        }
    }

    /// Scans a range of the selection's blocks.
    pub(super) fn scan(&mut self, range: Range<usize>, thresholds: Option<&[SharedThreshold]>) -> Result<()> {
        let mut start = range.start;
        while start < range.end {
            self.scan.execution.check()?;
            let pass = if self.sketch.is_some() { self.costs.choose() } else { Pass::Full };
            let codes = match &self.sketch {
                Some((sketch, _)) if pass == Pass::Sketch => sketch.codes(),
                _ => self.scan.passages.codes(),
            };
            let bytes = codes.groups() * GROUP_BYTES;
            let most = (PANEL / bytes).min(PAIRS / BLOCK_ROWS / self.queries.len());
            let most = (most / FIRST_BLOCKS * FIRST_BLOCKS).max(FIRST_BLOCKS);
            // The first panels are short, because their thresholds rule out little.
            let step = if self.panels < 8 { (FIRST_BLOCKS << self.panels).min(most) } else { most };
            let end = (start + step).min(range.end);
            self.set_limits(thresholds);
            let begun = Instant::now();
            self.panel(start..end, pass);
            self.costs.record(pass, begun.elapsed(), end - start);
            self.panels += 1;
            if self.panels.is_power_of_two() || self.collectors[0].rescores_early() {
                self.rescore();
            }
            start = end;
        }
        Ok(())
    }

    fn set_limits(&mut self, shared: Option<&[SharedThreshold]>) {
        for (lane, collector) in self.collectors.iter_mut().enumerate() {
            if let Some(shared) = shared {
                collector.share(&shared[lane]);
            }
            let threshold = collector.threshold();
            self.full.set_limit(lane, threshold);
            if let Some((always, below)) = collector.window() {
                self.full.set_window(lane, always, below);
            }
            if let Some((_, sketch)) = &mut self.sketch {
                sketch.set_limit(lane, threshold);
            }
        }
    }

    fn panel(&mut self, positions: Range<usize>, pass: Pass) {
        let Scan { queries, passages, selection, execution, .. } = self.scan;
        let kernel = execution.kernel();
        let codes = passages.codes();
        self.survivors.clear();
        match &self.sketch {
            Some((sketch, level)) if pass == Pass::Sketch => {
                self.sketched.clear();
                self.gathered.scan(kernel, level, sketch.codes(), selection, positions, &mut self.sketched);
                refine(kernel, &self.full, codes, &self.sketched.rows, &mut self.survivors.rows);
            }
            _ => self.gathered.scan(kernel, &self.full, codes, selection, positions, &mut self.survivors),
        }
        for (collector, &rows) in self.collectors.iter_mut().zip(&self.survivors.above_window) {
            collector.add_above_window(rows);
        }
        for survivor in &self.survivors.rows {
            let lane = survivor.query as usize;
            let error = codes.error(survivor.row as usize);
            let (lower, upper) = self.full.coded[lane].interval(survivor.bound, error);
            let mut exact = Scorer { kernel, queries, query: self.queries[lane], passages };
            self.collectors[lane].push(Candidate { row: survivor.row, lower, upper }, &mut exact);
        }
    }

    fn rescore(&mut self) {
        let Scan { queries, passages, execution, .. } = self.scan;
        let kernel = execution.kernel();
        for (collector, &query) in self.collectors.iter_mut().zip(self.queries) {
            collector.rescore(&mut Scorer { kernel, queries, query, passages });
        }
    }

    /// The outcomes of all collectors.
    pub(super) fn finish(self) -> Vec<C::Output> {
        let Scan { queries, passages, execution, .. } = self.scan;
        let kernel = execution.kernel();
        let outcome =
            |(collector, &query): (C, &usize)| collector.finish(&mut Scorer { kernel, queries, query, passages });
        self.collectors.into_iter().zip(self.queries).map(outcome).collect()
    }
}

/// Scores the full codes of the blocks with rows that the sketch does not rule out.
fn refine(kernel: Kernel, level: &Level, codes: &Codes, sketched: &[Survivor], survivors: &mut Vec<Survivor>) {
    let mut bounds = [0.0; BLOCK_ROWS];
    let block_of = |survivor: &Survivor| (survivor.query, survivor.row / BLOCK_ROWS as u32);
    // Few queries touch scattered blocks: prefetch them. The blocks of many queries are in the cache.
    let prefetch = level.coded.len() <= FEW_QUERIES;
    let mut runs = sketched.chunk_by(|a, b| block_of(a) == block_of(b)).peekable();
    while let Some(run) = runs.next() {
        let (query, block) = block_of(&run[0]);
        if prefetch && let Some(next) = runs.peek() {
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

/// Computes exact scores of one query.
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

    fn prefetch(&mut self, row: u32) {
        self.kernel.prefetch(self.passages.matrix().row(row as usize));
    }
}
