//! Top-k search.

use std::ops::Range;

use crate::error::{Error, Result, with_capacity};
use crate::kernel::Kernel;
use crate::matrix::Matrix;
use crate::parallel::Execution;
use crate::passages::Passages;
use crate::scan::{Collector, GROUP, QUERIES_PER_THREAD, Scan, SharedFloor, scan};
use crate::selection::{Allow, Selection};
use crate::shortlist::{Listing, Shortlist, best_of, most_listed, unlikely};
use crate::top_k::{Candidate, Exact, Hit, TopK, Window, merge};

/// Results of a search: for query q, entries q * k to (q + 1) * k, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Hits {
    /// Number of results for each query.
    pub k: usize,
    /// Cosines.
    pub scores: Vec<f32>,
    /// Rows of the passages.
    pub rows: Vec<i64>,
    /// For each query, how many rows were scored exactly: what the work depends on, beside the sizes.
    pub scored: Vec<usize>,
}

/// The best rows of a part, and how many were scored to find them.
pub(crate) struct Found {
    best: Vec<Hit>,
    scored: usize,
}

/// Rows that are listed for all queries of a block together, at most (unless few queries list more).
const LISTED: usize = 2 << 20;

/// Blocks of which one is sampled, and the fewest results, or queries, for which that pays.
const SAMPLE_STRIDE: usize = 24;
const SAMPLE_MIN_K: usize = 32;
const SAMPLE_MIN_QUERIES: usize = 8;

/// The `k` passages of highest cosine for each query: higher score first, then lower row. With `allow`, only those rows
/// are considered, and where they are fewer than `k`, all of them are returned.
///
/// # Errors
/// [`Error::DimMismatch`], [`Error::K`], [`Error::AllowLength`], [`Error::Memory`], [`Error::Interrupted`],
/// [`Error::ThreadPool`], [`Error::Damaged`].
pub fn search(
    kernel: Kernel,
    queries: &Matrix,
    passages: &Passages,
    k: usize,
    allow: Option<&Allow>,
    execution: &Execution,
) -> Result<Hits> {
    check_dims(queries, passages)?;
    if k == 0 || k > passages.rows() {
        return Err(Error::K { k, rows: passages.rows() });
    }
    if let Some(allow) = allow
        && allow.total() != passages.rows()
    {
        return Err(Error::AllowLength { expected: passages.rows(), got: allow.total() });
    }
    let rows = allow.map_or(passages.rows(), Allow::len);
    let k = k.min(rows);
    let total = queries.rows().saturating_mul(k);
    let mut hits = Hits {
        k,
        scores: with_capacity("results", total)?,
        rows: with_capacity("results", total)?,
        scored: vec![0; queries.rows()],
    };
    if k == 0 {
        return Ok(hits);
    }
    let selection = Selection::new(passages.codes().blocks(), allow);
    let request = Scan { kernel, queries, passages, selection, use_sketch: true, execution };
    // What is listed of a block's queries is in memory at a time.
    let threads = execution.threads();
    let block = (LISTED / most_listed(k)).clamp(threads * QUERIES_PER_THREAD, threads * GROUP);
    for first in (0..queries.rows()).step_by(block) {
        search_block(request, first..(first + block).min(queries.rows()), rows, &mut hits)?;
    }
    Ok(hits)
}

/// Appends the results of some queries.
fn search_block(request: Scan<'_>, block: Range<usize>, rows: usize, hits: &mut Hits) -> Result<()> {
    let k = hits.k;
    let first = block.start;
    let all: Vec<usize> = block.collect();
    let guesses = guess(request, &all, k, rows)?;
    let unlikely = unlikely(request.passages.dim());
    let lists = scan(request, &all, |query| Shortlist::new(k, guesses[query - first], unlikely))?;
    let found = best_of(request, first, lists, k)?;
    // A floor that was too high may have cost results; those queries go once more, with proven floors.
    let missed = |&query: &usize| {
        let found = &found[query - first];
        found.hits.get(k - 1).is_none_or(|worst| worst.score < found.floor)
    };
    let again: Vec<usize> = all.into_iter().filter(missed).collect();
    let mut best = Vec::with_capacity(found.len());
    for (at, found) in found.into_iter().enumerate() {
        hits.scored[first + at] += found.scored;
        best.push(found.hits);
    }
    if !again.is_empty() {
        let proven = |query: usize| best[query - first].get(k - 1).map_or(f32::NEG_INFINITY, |hit: &Hit| hit.score);
        let parts = scan(request, &again, |query| {
            let mut top = TopK::new(k, Window::ALL);
            top.raise(proven(query));
            top
        })?;
        let found = merge_parts(parts, &again, k, &mut hits.scored);
        for (query, found) in again.into_iter().zip(found) {
            best[query - first] = found;
        }
    }
    for best in best {
        if best.len() != k {
            return Err(Error::Damaged);
        }
        hits.scores.extend(best.iter().map(|hit| hit.score));
        hits.rows.extend(best.iter().map(|hit| i64::from(hit.row)));
    }
    Ok(())
}

/// For each query, a score that the k-th best probably reaches: that of a rank in a sample of the rows which the best k
/// very rarely have so many rows in. Where no sample pays, minus infinity.
fn guess(request: Scan<'_>, queries: &[usize], k: usize, rows: usize) -> Result<Vec<f32>> {
    let Some(sample) = Sample::of(request.passages, queries.len(), k, rows) else {
        return Ok(vec![f32::NEG_INFINITY; queries.len()]);
    };
    let rank = sample.rank(k);
    let unlikely = unlikely(request.passages.dim());
    let lists = scan(sample.scan(request), queries, |_| Shortlist::new(rank, f32::NEG_INFINITY, unlikely))?;
    Ok(lists.into_iter().map(|parts| Listing::merge(parts, rank).floor()).collect())
}

/// Every `stride`-th block of the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    stride: usize,
}

impl Sample {
    /// One for the best `k` of so many rows, if it pays.
    pub(crate) fn of(passages: &Passages, queries: usize, k: usize, rows: usize) -> Option<Self> {
        let sample = Self { stride: if k < SAMPLE_MIN_K { 2 * SAMPLE_STRIDE } else { SAMPLE_STRIDE } };
        // With a sketch, which is of no use before floors are high, it pays for few results, too.
        let pays = k >= SAMPLE_MIN_K || passages.sketch().is_some() && queries >= SAMPLE_MIN_QUERIES;
        (pays && rows / sample.stride >= 4 * sample.rank(k)).then_some(sample)
    }

    /// The rank in the sample whose score the k-th best of all rows very probably reaches.
    pub(crate) fn rank(self, k: usize) -> usize {
        // The number of the best k in the sample is about Poisson distributed, or a little wider: neighbours are alike.
        let expected = k as f64 / self.stride as f64;
        (expected + 4.0 * expected.sqrt()).ceil() as usize + 1
    }

    /// The pass over it.
    pub(crate) fn scan(self, request: Scan<'_>) -> Scan<'_> {
        Scan { selection: request.selection.sample(self.stride), use_sketch: false, ..request }
    }
}

/// The best `k` of each query's parts; what they cost is added up in `scored`.
fn merge_parts(parts: Vec<Vec<Found>>, queries: &[usize], k: usize, scored: &mut [usize]) -> Vec<Vec<Hit>> {
    let mut merged = Vec::with_capacity(parts.len());
    for (parts, &query) in parts.into_iter().zip(queries) {
        scored[query] += parts.iter().map(|part| part.scored).sum::<usize>();
        merged.push(merge(parts.into_iter().map(|part| part.best), k));
    }
    merged
}

pub(crate) fn check_dims(queries: &Matrix, passages: &Passages) -> Result<()> {
    if queries.dim() == passages.dim() {
        Ok(())
    } else {
        Err(Error::DimMismatch { name: "queries", expected: passages.dim(), got: queries.dim() })
    }
}

impl Collector for TopK {
    type Output = Found;

    fn floor(&self) -> f32 {
        Self::floor(self)
    }

    fn is_eager(&self) -> bool {
        Self::is_eager(self)
    }

    fn offer(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        Self::offer(self, candidate, exact);
    }

    fn settle(&mut self, exact: &mut impl Exact) {
        Self::settle(self, exact);
    }

    fn share(&mut self, floor: &SharedFloor) {
        self.raise(floor.raise(Self::floor(self)));
    }

    fn finish(mut self, exact: &mut impl Exact) -> Found {
        Self::settle(&mut self, exact);
        let scored = self.scored();
        Found { best: Self::finish(self, exact), scored }
    }
}
