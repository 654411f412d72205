//! Mining of negatives: the best passages of each query that meet all conditions. The conditions are applied inside the
//! search, so a query gets its negatives whenever they exist.
//!
//! A candidate is a passage that is not a positive of the query, not in the group (document) of a positive, not
//! excluded, and not a near-duplicate of a positive. A list holds the best candidates whose score lies in a window. The
//! caller translates margins, limits, hard and semi-hard negatives into windows.

mod counting;
mod miner;

use crate::error::{Error, Result, with_capacity};
use crate::matrix::{Matrix, cosine};
use crate::parallel::{self, Execution};
use crate::passages::Passages;
use crate::row_lists::RowLists;
use crate::scan::{Scan, scan};
use crate::search::{Sample, check_dims};
use crate::selection::Selection;
use crate::top_k::{Hit, Window};

use miner::{Found, Miner, combine};

/// Number of queries whose positives are scored in one task.
const CHUNK: usize = 1024;

/// A requested list of negatives.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Maximum number of negatives per query, at least 1.
    pub num: usize,
    /// Window of scores of each query.
    pub windows: &'a [Window],
}

/// The lists to mine, and the conditions.
#[derive(Debug, Clone, Copy)]
pub struct MiningOptions<'a> {
    /// The lists.
    pub lists: &'a [Wanted<'a>],
    /// Rows that answer each query; not candidates.
    pub positives: RowLists<'a>,
    /// For each query, further rows that are not candidates.
    pub exclude: Option<RowLists<'a>>,
    /// The group (document) of each passage; passages of a positive's group are not candidates.
    pub groups: Option<&'a [i64]>,
    /// Passages whose cosine with a positive of the query is above this are not candidates.
    pub max_positive_similarity: Option<f64>,
}

/// One list of every query: entries q * num to (q + 1) * num belong to query q, in order of descending score, then
/// ascending row. Missing entries have row -1 and score NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Negatives {
    /// Rows of the passages.
    pub rows: Vec<i64>,
    /// Their scores.
    pub scores: Vec<f32>,
    /// For each query, the number of passages other than positives that score at least the window's upper limit.
    pub above_window: Vec<i64>,
    /// For each query, the number of passages in the window that were rejected as near-duplicates of a positive and
    /// rank before the last negative. If fewer than `num` negatives were found, all rejected passages count.
    pub near_positive: Vec<i64>,
}

/// The lowest score among each query's positives; NaN for a query without positives.
///
/// # Errors
/// [`Error::DimMismatch`], [`Error::ListCountMismatch`], [`Error::RowOutOfRange`], [`Error::Interrupted`],
/// [`Error::ThreadPool`].
pub fn lowest_positive(
    queries: &Matrix,
    passages: &Passages,
    positives: RowLists<'_>,
    execution: &Execution,
) -> Result<Vec<f32>> {
    check_dims(queries, passages)?;
    positives.check(queries.rows(), passages.rows())?;
    let chunks = (0..queries.rows()).step_by(CHUNK).map(|start| start..(start + CHUNK).min(queries.rows()));
    let scores = parallel::for_each(execution, chunks, |chunk| {
        execution.check()?;
        let score =
            |query: usize, row: i64| cosine(execution.kernel(), queries, query, passages.matrix(), row as usize);
        let lowest = |query: usize| positives.of(query).iter().map(|&row| score(query, row)).fold(f32::NAN, f32::min);
        Ok(chunk.map(lowest).collect::<Vec<f32>>())
    })?;
    let mut lowest = with_capacity("results", queries.rows())?;
    for chunk in scores {
        lowest.extend(chunk?);
    }
    Ok(lowest)
}

/// Mines every list for every query, in one pass.
///
/// # Errors
/// [`Error::DimMismatch`], [`Error::NothingToMine`], [`Error::CountOutOfRange`], [`Error::WindowCountMismatch`],
/// [`Error::NanLimit`], [`Error::ListCountMismatch`], [`Error::RowOutOfRange`], [`Error::GroupCountMismatch`],
/// [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
pub fn mine(
    queries: &Matrix,
    passages: &Passages,
    options: &MiningOptions<'_>,
    execution: &Execution,
) -> Result<Vec<Negatives>> {
    check(queries, passages, options)?;
    let mut mined = Vec::with_capacity(options.lists.len());
    for list in options.lists {
        let total = queries.rows().saturating_mul(list.num);
        mined.push(Negatives {
            rows: with_capacity("results", total)?,
            scores: with_capacity("results", total)?,
            above_window: with_capacity("results", queries.rows())?,
            near_positive: with_capacity("results", queries.rows())?,
        });
    }
    let selection = Selection::new(passages.codes().blocks(), None);
    let request = Scan { queries, passages, selection, use_sketch: true, execution };
    let all: Vec<usize> = (0..queries.rows()).collect();
    let estimates = estimate(request, options, &all)?;
    let miner = |query: usize| Miner::new(request, options, query);
    let outcomes = scan(request, &all, |query| miner(query).with_estimates(&estimates[query]))?;
    let mut found: Vec<Vec<Found>> = outcomes.into_iter().map(|parts| combine(parts, options)).collect();
    // If an estimated threshold was too high, negatives may be missing: search these queries without an estimate.
    let missed = |&query: &usize| {
        let lists = found[query].iter().zip(options.lists).zip(&estimates[query]);
        lists.into_iter().any(|((found, list), &estimate)| {
            estimate > f32::NEG_INFINITY && found.best.get(list.num - 1).is_none_or(|worst| worst.score < estimate)
        })
    };
    let again: Vec<usize> = all.into_iter().filter(missed).collect();
    if !again.is_empty() {
        let outcomes = scan(request, &again, miner)?;
        for (query, parts) in again.into_iter().zip(outcomes) {
            found[query] = combine(parts, options);
        }
    }
    let near = count_near_positives(request, options, &found)?;
    let positives = count_positives_above(request, options)?;
    for (query, found) in found.into_iter().enumerate() {
        for (at, (mined, found)) in mined.iter_mut().zip(found).enumerate() {
            mined.above_window.push(found.above_window as i64 - positives[query][at]);
            mined.near_positive.push(near[query][at] as i64);
            append(mined, &found.best, options.lists[at].num);
        }
    }
    Ok(mined)
}

/// For each query and list, the number of near-duplicates of positives that rank before the last negative. If there
/// were too many rejected rows to keep, the query is searched again, with its last negative known.
fn count_near_positives(request: Scan<'_>, options: &MiningOptions<'_>, found: &[Vec<Found>]) -> Result<Vec<Vec<u64>>> {
    let last = |query: usize, list: usize| found[query][list].best.get(options.lists[list].num - 1);
    let known = |query: usize, list: usize| found[query][list].rejected.before(last(query, list));
    let lists = || 0..options.lists.len();
    let mut counts: Vec<Vec<u64>> =
        (0..found.len()).map(|query| lists().map(|list| known(query, list).unwrap_or(0)).collect()).collect();
    let unknown: Vec<usize> =
        (0..found.len()).filter(|&query| lists().any(|list| known(query, list).is_none())).collect();
    let outcomes = scan(request, &unknown, |query| {
        let mut miner = Miner::new(request, options, query);
        for (at, list) in miner.lists.iter_mut().enumerate() {
            if let Some(last) = last(query, at) {
                list.count_before(*last);
            }
        }
        miner
    })?;
    for (query, parts) in unknown.into_iter().zip(outcomes) {
        for (at, recounted) in combine(parts, options).iter().enumerate() {
            counts[query][at] = recounted.rejected.before(None).unwrap_or(0);
        }
    }
    Ok(counts)
}

/// For each query and list, the number of positives that score at least the window's upper limit.
fn count_positives_above(request: Scan<'_>, options: &MiningOptions<'_>) -> Result<Vec<Vec<i64>>> {
    let Scan { queries, passages, execution, .. } = request;
    let kernel = execution.kernel();
    let chunks = (0..queries.rows()).step_by(CHUNK).map(|start| start..(start + CHUNK).min(queries.rows()));
    let counted = parallel::for_each(execution, chunks, |chunk| {
        execution.check()?;
        let count = |query: usize| -> Vec<i64> {
            let below = || options.lists.iter().map(|list| list.windows[query].below);
            let wanted = below().any(|below| below < f64::INFINITY);
            let positives = distinct(if wanted { options.positives.of(query) } else { &[] });
            let score = |&row: &u32| f64::from(cosine(kernel, queries, query, passages.matrix(), row as usize));
            let scores: Vec<f64> = positives.iter().map(score).collect();
            below().map(|below| scores.iter().filter(|&&score| score >= below).count() as i64).collect()
        };
        Ok(chunk.map(count).collect::<Vec<_>>())
    })?;
    let mut all = Vec::with_capacity(queries.rows());
    for chunk in counted {
        all.extend(chunk?);
    }
    Ok(all)
}

/// For each query and list, a score that the last negative probably reaches; minus infinity, if sampling does not pay.
fn estimate(request: Scan<'_>, options: &MiningOptions<'_>, queries: &[usize]) -> Result<Vec<Vec<f32>>> {
    let most = options.lists.iter().map(|list| list.num).max().unwrap_or(0);
    let Some(sample) = Sample::of(request.passages, queries.len(), most, request.passages.rows()) else {
        return Ok(vec![vec![f32::NEG_INFINITY; options.lists.len()]; queries.len()]);
    };
    let lists: Vec<Wanted<'_>> =
        options.lists.iter().map(|list| Wanted { num: sample.rank(list.num), ..*list }).collect();
    let options = MiningOptions { lists: &lists, ..*options };
    let request = sample.scan(request);
    let outcomes = scan(request, queries, |query| Miner::new(request, &options, query))?;
    let last = |(found, list): (&Found, &Wanted<'_>)| found.best.get(list.num - 1).map(|hit| hit.score);
    let estimates = |parts| {
        let found = combine(parts, &options);
        found.iter().zip(&lists).map(|pair| last(pair).unwrap_or(f32::NEG_INFINITY)).collect()
    };
    Ok(outcomes.into_iter().map(estimates).collect())
}

fn check(queries: &Matrix, passages: &Passages, options: &MiningOptions<'_>) -> Result<()> {
    check_dims(queries, passages)?;
    if options.lists.is_empty() {
        return Err(Error::NothingToMine);
    }
    for list in options.lists {
        if list.num == 0 || list.num > passages.rows() {
            return Err(Error::CountOutOfRange { num: list.num, rows: passages.rows() });
        }
        if list.windows.len() != queries.rows() {
            return Err(Error::WindowCountMismatch { expected: queries.rows(), got: list.windows.len() });
        }
        if let Some(query) = list.windows.iter().position(|window| window.above.is_nan() || window.below.is_nan()) {
            return Err(Error::NanLimit { query });
        }
    }
    options.positives.check(queries.rows(), passages.rows())?;
    options.exclude.map_or(Ok(()), |exclude| exclude.check(queries.rows(), passages.rows()))?;
    match options.groups {
        Some(groups) if groups.len() != passages.rows() => {
            Err(Error::GroupCountMismatch { expected: passages.rows(), got: groups.len() })
        }
        _ => Ok(()),
    }
}

/// Appends one query's list, padded to `num` entries.
fn append(mined: &mut Negatives, hits: &[Hit], num: usize) {
    mined.rows.extend(hits.iter().map(|hit| i64::from(hit.row)));
    mined.scores.extend(hits.iter().map(|hit| hit.score));
    mined.rows.extend(std::iter::repeat_n(-1, num - hits.len()));
    mined.scores.extend(std::iter::repeat_n(f32::NAN, num - hits.len()));
}

/// The rows in ascending order, without repeats.
fn distinct(rows: &[i64]) -> Vec<u32> {
    let mut rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}
