//! Top-k search.

use std::ops::Range;

use crate::error::{Error, Result, with_capacity};
use crate::matrix::Matrix;
use crate::parallel::Execution;
use crate::passages::Passages;
use crate::scan::{Collector, GROUP, QUERIES_PER_THREAD, Scan, SharedThreshold, scan};
use crate::selection::{Allow, Selection};
use crate::shortlist::{Listing, Shortlist, best_of, estimate_position, most_listed};
use crate::top_k::{Candidate, Exact, Hit, TopK, Window, merge};

/// Results of a search: entries q * k to (q + 1) * k belong to query q, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Hits {
    /// Number of results for each query.
    pub k: usize,
    /// Cosines.
    pub scores: Vec<f32>,
    /// Rows of the passages.
    pub rows: Vec<i64>,
    /// For each query, the number of rows scored exactly, which affects the time of a search.
    pub scored: Vec<usize>,
}

/// The best rows of a part of the rows, and the number of rows scored to find them.
pub(crate) struct Found {
    best: Vec<Hit>,
    scored: usize,
}

/// Maximum number of listed rows in a block of queries; the smallest block may list more.
const LISTED: usize = 2 << 20;

/// Sampling stride in blocks; smallest k and query count for which sampling pays.
const SAMPLE_STRIDE: usize = 24;
const SAMPLE_MIN_K: usize = 32;
const SAMPLE_MIN_QUERIES: usize = 8;

/// The `k` passages of highest cosine for each query, in order of descending score, then ascending row. With `allow`,
/// only allowed rows are considered; if they are fewer than `k`, all of them are returned.
///
/// # Errors
/// [`Error::DimMismatch`], [`Error::KOutOfRange`], [`Error::AllowLength`], [`Error::Memory`], [`Error::Interrupted`],
/// [`Error::ThreadPool`], [`Error::Damaged`].
pub fn search(
    queries: &Matrix,
    passages: &Passages,
    k: usize,
    allow: Option<&Allow>,
    execution: &Execution,
) -> Result<Hits> {
    check_dims(queries, passages)?;
    if k == 0 || k > passages.rows() {
        return Err(Error::KOutOfRange { k, rows: passages.rows() });
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
    let request = Scan { queries, passages, selection, use_sketch: true, execution };
    // Bounds the memory of the listings, which exist for one block of queries at a time.
    let threads = execution.threads();
    let block = (LISTED / most_listed(k)).clamp(threads * QUERIES_PER_THREAD, threads * GROUP);
    for first in (0..queries.rows()).step_by(block) {
        search_block(request, first..(first + block).min(queries.rows()), rows, &mut hits)?;
    }
    Ok(hits)
}

/// Searches for a block of queries and appends their results.
fn search_block(request: Scan<'_>, block: Range<usize>, rows: usize, hits: &mut Hits) -> Result<()> {
    let k = hits.k;
    let first = block.start;
    let all: Vec<usize> = block.collect();
    let estimates = estimate(request, &all, k, rows)?;
    let position = estimate_position(request.passages.dim());
    let lists = scan(request, &all, |query| Shortlist::new(k, estimates[query - first], position))?;
    let found = best_of(request, first, lists, k)?;
    // If an estimated threshold was too high, results may be missing: search these queries with proven thresholds.
    let missed = |&query: &usize| {
        let found = &found[query - first];
        found.hits.get(k - 1).is_none_or(|worst| worst.score < found.threshold)
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

/// For each query, a score that the k-th best row probably reaches: the score at [`Sample::rank`] of a sample. Minus
/// infinity if sampling does not pay.
fn estimate(request: Scan<'_>, queries: &[usize], k: usize, rows: usize) -> Result<Vec<f32>> {
    let Some(sample) = Sample::of(request.passages, queries.len(), k, rows) else {
        return Ok(vec![f32::NEG_INFINITY; queries.len()]);
    };
    let rank = sample.rank(k);
    let position = estimate_position(request.passages.dim());
    let lists = scan(sample.scan(request), queries, |_| Shortlist::new(rank, f32::NEG_INFINITY, position))?;
    Ok(lists.into_iter().map(|parts| Listing::merge(parts, rank).threshold()).collect())
}

/// A sample of the rows: every `stride`-th block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    stride: usize,
}

impl Sample {
    /// A sample for the top `k` of `rows` rows; `None` if it does not pay.
    pub(crate) fn of(passages: &Passages, queries: usize, k: usize, rows: usize) -> Option<Self> {
        let sample = Self { stride: if k < SAMPLE_MIN_K { 2 * SAMPLE_STRIDE } else { SAMPLE_STRIDE } };
        // With a sketch it also pays for small k, because a sketch rules out little while thresholds are low.
        let pays = k >= SAMPLE_MIN_K || passages.sketch().is_some() && queries >= SAMPLE_MIN_QUERIES;
        (pays && rows / sample.stride >= 4 * sample.rank(k)).then_some(sample)
    }

    /// A rank in the sample. The k-th best of all rows very probably reaches the score at this rank.
    pub(crate) fn rank(self, k: usize) -> usize {
        // The number of top-k rows in the sample is roughly Poisson distributed, with a slightly larger variance,
        // because neighbouring rows are often similar.
        let expected = k as f64 / self.stride as f64;
        (expected + 4.0 * expected.sqrt()).ceil() as usize + 1
    }

    /// The scan of the sample.
    pub(crate) fn scan(self, request: Scan<'_>) -> Scan<'_> {
        Scan { selection: request.selection.sample(self.stride), use_sketch: false, ..request }
    }
}

/// The top `k` of each query's parts. Adds the numbers of scored rows to `scored`.
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

    fn threshold(&self) -> f32 {
        Self::threshold(self)
    }

    fn rescores_early(&self) -> bool {
        Self::rescores_early(self)
    }

    fn push(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        Self::push(self, candidate, exact);
    }

    fn rescore(&mut self, exact: &mut impl Exact) {
        Self::rescore(self, exact);
    }

    fn share(&mut self, threshold: &SharedThreshold) {
        self.raise(threshold.raise(Self::threshold(self)));
    }

    fn finish(mut self, exact: &mut impl Exact) -> Found {
        Self::rescore(&mut self, exact);
        let scored = self.scored();
        Found { best: Self::finish(self, exact), scored }
    }
}
