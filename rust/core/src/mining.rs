//! The best passages of each query under conditions, which all hold inside the search pass: no query runs out of negatives
//! while there is a candidate.
//!
//! A candidate is a passage that is none of the query's positives, not in the group (document) of one, not excluded, and
//! not a near-duplicate of a positive; a list takes the best candidates whose score lies in a window. What the windows are
//! (margins, limits, hard and semi-hard negatives) is the caller's.

use crate::error::{Error, Result, with_capacity};
use crate::kernel::Kernel;
use crate::matrix::{Matrix, cosine};
use crate::parallel::{self, Execution};
use crate::passages::Passages;
use crate::row_lists::RowLists;
use crate::scan::{Collector, Scan, SharedFloor, scan};
use crate::search::{Sample, check_dims};
use crate::selection::Selection;
use crate::top_k::{Candidate, Exact, Hit, Refused, TopK, Window, merge};

/// Queries whose positives are scored in one task.
const CHUNK: usize = 1024;

/// A list of negatives that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Negatives for each query, at most; 1 or more.
    pub num: usize,
    /// Scores that are wanted, for each query.
    pub windows: &'a [Window],
}

/// What to mine.
#[derive(Debug, Clone, Copy)]
pub struct MiningOptions<'a> {
    /// The lists.
    pub lists: &'a [Wanted<'a>],
    /// Rows that answer each query, never candidates.
    pub positives: RowLists<'a>,
    /// Further rows that are no candidates, for each query.
    pub exclude: Option<RowLists<'a>>,
    /// The group (document) of each passage; those of a positive's group are no candidates.
    pub groups: Option<&'a [i64]>,
    /// Passages whose cosine with a positive of the query is above this are no candidates.
    pub max_positive_similarity: Option<f64>,
}

/// One list of every query: for query q, entries q * num to (q + 1) * num, highest score first, then lower row; where there
/// are fewer, the rest is row -1 with score NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Negatives {
    /// Rows of the passages.
    pub rows: Vec<i64>,
    /// Their scores.
    pub scores: Vec<f32>,
    /// For each query, the passages, positives apart, that score at least the window's upper limit.
    pub too_similar: Vec<i64>,
    /// For each query, passages in the window that were refused as near-duplicates of a positive and would stand before
    /// the last one returned; all of them, if fewer than `num` were found.
    pub near_positive: Vec<i64>,
}

/// The lowest score among each query's positives; NaN for a query without.
///
/// # Errors
/// [`Error::DimMismatch`], [`Error::Lists`], [`Error::RowOutOfRange`], [`Error::Interrupted`], [`Error::ThreadPool`].
pub fn lowest_positive(
    kernel: Kernel,
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
        let score = |query: usize, row: i64| cosine(kernel, queries, query, passages.matrix(), row as usize);
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
/// [`Error::DimMismatch`], [`Error::NothingToMine`], [`Error::Count`], [`Error::Windows`], [`Error::NoWindow`],
/// [`Error::Lists`], [`Error::RowOutOfRange`], [`Error::Groups`], [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
pub fn mine(
    kernel: Kernel,
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
            too_similar: with_capacity("results", queries.rows())?,
            near_positive: with_capacity("results", queries.rows())?,
        });
    }
    let selection = Selection::new(passages.codes().blocks(), None);
    let request = Scan { kernel, queries, passages, selection, use_sketch: true, execution };
    let all: Vec<usize> = (0..queries.rows()).collect();
    let guesses = guess(request, options, &all)?;
    let miner = |query: usize| Miner::new(request, options, query);
    let outcomes = scan(request, &all, |query| miner(query).with_guesses(&guesses[query]))?;
    let mut found: Vec<Vec<Found>> = outcomes.into_iter().map(|parts| combine(parts, options)).collect();
    // A guess that was too high may have cost negatives; those queries go once more, without.
    let missed = |&query: &usize| {
        let lists = found[query].iter().zip(options.lists).zip(&guesses[query]);
        lists.into_iter().any(|((found, list), &guess)| {
            guess > f32::NEG_INFINITY && found.best.get(list.num - 1).is_none_or(|worst| worst.score < guess)
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
    let similar = count_similar_positives(request, options)?;
    for (query, found) in found.into_iter().enumerate() {
        for (at, (mined, found)) in mined.iter_mut().zip(found).enumerate() {
            mined.too_similar.push(found.above_window as i64 - similar[query][at]);
            mined.near_positive.push(near[query][at] as i64);
            append(mined, &found.best, options.lists[at].num);
        }
    }
    Ok(mined)
}

/// For each query and list, how many near-duplicates of positives stand before the last negative. Where too many were
/// refused to keep them all, the query is searched once more, now that its last negative is known.
fn count_near_positives(request: Scan<'_>, options: &MiningOptions<'_>, found: &[Vec<Found>]) -> Result<Vec<Vec<u64>>> {
    let last = |query: usize, list: usize| found[query][list].best.get(options.lists[list].num - 1);
    let known = |query: usize, list: usize| found[query][list].refused.before(last(query, list));
    let lists = || 0..options.lists.len();
    let mut counts: Vec<Vec<u64>> =
        (0..found.len()).map(|query| lists().map(|list| known(query, list).unwrap_or(0)).collect()).collect();
    let unknown: Vec<usize> =
        (0..found.len()).filter(|&query| lists().any(|list| known(query, list).is_none())).collect();
    let outcomes = scan(request, &unknown, |query| {
        let mut miner = Miner::new(request, options, query);
        let known = |(at, list): (usize, TopK)| match last(query, at) {
            Some(last) => list.counting_before(*last),
            None => list,
        };
        miner.lists = miner.lists.into_iter().enumerate().map(known).collect();
        miner
    })?;
    for (query, parts) in unknown.into_iter().zip(outcomes) {
        for (at, recounted) in combine(parts, options).iter().enumerate() {
            counts[query][at] = recounted.refused.before(None).unwrap_or(0);
        }
    }
    Ok(counts)
}

/// For each query and list, how many of the positives score at least the window's upper limit.
fn count_similar_positives(request: Scan<'_>, options: &MiningOptions<'_>) -> Result<Vec<Vec<i64>>> {
    let Scan { kernel, queries, passages, execution, .. } = request;
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

/// For each query and list, a score that the last negative probably reaches; minus infinity where a sample of the rows does
/// not pay.
fn guess(request: Scan<'_>, options: &MiningOptions<'_>, queries: &[usize]) -> Result<Vec<Vec<f32>>> {
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
    let guesses = |parts| {
        let found = combine(parts, &options);
        found.iter().zip(&lists).map(|pair| last(pair).unwrap_or(f32::NEG_INFINITY)).collect()
    };
    Ok(outcomes.into_iter().map(guesses).collect())
}

fn check(queries: &Matrix, passages: &Passages, options: &MiningOptions<'_>) -> Result<()> {
    check_dims(queries, passages)?;
    if options.lists.is_empty() {
        return Err(Error::NothingToMine);
    }
    for list in options.lists {
        if list.num == 0 || list.num > passages.rows() {
            return Err(Error::Count { num: list.num, rows: passages.rows() });
        }
        if list.windows.len() != queries.rows() {
            return Err(Error::Windows { expected: queries.rows(), got: list.windows.len() });
        }
        if let Some(query) = list.windows.iter().position(|window| window.above.is_nan() || window.below.is_nan()) {
            return Err(Error::NoWindow { query });
        }
    }
    options.positives.check(queries.rows(), passages.rows())?;
    options.exclude.map_or(Ok(()), |exclude| exclude.check(queries.rows(), passages.rows()))?;
    match options.groups {
        Some(groups) if groups.len() != passages.rows() => {
            Err(Error::Groups { expected: passages.rows(), got: groups.len() })
        }
        _ => Ok(()),
    }
}

fn append(mined: &mut Negatives, hits: &[Hit], num: usize) {
    mined.rows.extend(hits.iter().map(|hit| i64::from(hit.row)));
    mined.scores.extend(hits.iter().map(|hit| hit.score));
    mined.rows.extend(std::iter::repeat_n(-1, num - hits.len()));
    mined.scores.extend(std::iter::repeat_n(f32::NAN, num - hits.len()));
}

fn distinct(rows: &[i64]) -> Vec<u32> {
    let mut rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// One list of one query, of some of the rows or of all.
#[derive(Debug, Default)]
struct Found {
    best: Vec<Hit>,
    refused: Refused,
    above_window: u64,
}

/// What was found in all parts of the rows, for each list.
fn combine(parts: Vec<Vec<Found>>, options: &MiningOptions<'_>) -> Vec<Found> {
    let mut combined: Vec<(Vec<Vec<Hit>>, Found)> = options.lists.iter().map(|_| Default::default()).collect();
    for part in parts {
        for ((best, all), found) in combined.iter_mut().zip(part) {
            best.push(found.best);
            all.refused.merge(found.refused);
            all.above_window += found.above_window;
        }
    }
    let lists = combined.into_iter().zip(options.lists);
    lists.map(|((best, all), list)| Found { best: merge(best, list.num), ..all }).collect()
}

/// Collects one query's negatives.
struct Miner<'a> {
    scan: Scan<'a>,
    options: MiningOptions<'a>,
    positives: Vec<u32>,
    excluded: Vec<u32>,
    excluded_groups: Vec<i64>,
    lists: Vec<TopK>,
    /// Rows that the kernel left out, as they score above all windows that end.
    left_out: u64,
}

impl<'a> Miner<'a> {
    fn new(scan: Scan<'a>, options: &MiningOptions<'a>, query: usize) -> Self {
        let positives = options.positives.of(query);
        let excluded = options.exclude.map_or(&[][..], |exclude| exclude.of(query));
        let mut excluded_groups: Vec<i64> =
            options.groups.map_or_else(Vec::new, |groups| positives.iter().map(|&row| groups[row as usize]).collect());
        excluded_groups.sort_unstable();
        excluded_groups.dedup();
        Self {
            scan,
            options: *options,
            positives: distinct(positives),
            excluded: distinct(&[positives, excluded].concat()),
            excluded_groups,
            lists: options.lists.iter().map(|list| TopK::new(list.num, list.windows[query])).collect(),
            left_out: 0,
        }
    }

    fn with_guesses(self, guesses: &[f32]) -> Self {
        let lists = self.lists.into_iter().zip(guesses).map(|(list, &guess)| list.with_guess(guess)).collect();
        Self { lists, ..self }
    }

    fn is_candidate(&self, row: u32) -> bool {
        let same_group =
            self.options.groups.is_some_and(|groups| self.excluded_groups.binary_search(&groups[row as usize]).is_ok());
        !same_group && self.excluded.binary_search(&row).is_err()
    }

    fn each(&mut self, exact: &mut impl Exact, mut apply: impl FnMut(&mut TopK, &mut Screened<'_, '_>)) {
        let Self { scan, options, positives, lists, .. } = self;
        let mut screened = Screened { scan, options, positives, exact };
        lists.iter_mut().for_each(|list| apply(list, &mut screened));
    }
}

impl Collector for Miner<'_> {
    type Output = Vec<Found>;

    fn floor(&self) -> f32 {
        self.lists.iter().map(TopK::floor).fold(f32::INFINITY, f32::min)
    }

    fn window(&self) -> Option<(f32, f64)> {
        let (open, closed): (Vec<&TopK>, Vec<&TopK>) =
            self.lists.iter().partition(|list| list.window().below == f64::INFINITY);
        let sure = open.iter().map(|list| list.floor()).fold(f32::INFINITY, f32::min);
        let below = closed.iter().map(|list| list.window().below).fold(f64::NEG_INFINITY, f64::max);
        (!closed.is_empty()).then_some((sure, below))
    }

    fn leave_out(&mut self, rows: u32) {
        self.left_out += u64::from(rows);
    }

    fn is_eager(&self) -> bool {
        self.lists.iter().all(TopK::is_eager)
    }

    fn offer(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        let Candidate { row, lower, upper } = candidate;
        if self.is_candidate(row) {
            self.each(exact, |list, exact| list.offer(candidate, exact));
            return;
        }
        // The kernel leaves out whatever scores above the windows, so all of that is counted.
        self.each(exact, |list, exact| {
            let below = list.window().below;
            if f64::from(lower) >= below || f64::from(upper) >= below && f64::from(exact.score(row)) >= below {
                list.count_above_window();
            }
        });
    }

    fn settle(&mut self, exact: &mut impl Exact) {
        self.each(exact, |list, exact| list.settle(exact));
    }

    /// Several floors would have to be shared.
    fn share(&mut self, floor: &SharedFloor) {
        if let [list] = &mut self.lists[..] {
            list.raise(floor.raise(list.floor()));
        }
    }

    fn finish(mut self, exact: &mut impl Exact) -> Self::Output {
        self.settle(exact);
        let left_out = self.left_out;
        let found = |mut list: TopK| {
            let above_window = if list.window().below < f64::INFINITY { list.above_window() + left_out } else { 0 };
            Found { refused: list.take_refused(), above_window, best: list.finish(exact) }
        };
        self.lists.into_iter().map(found).collect()
    }
}

/// Exact scores, and whether a row is no near-duplicate of a positive.
struct Screened<'s, 'a> {
    scan: &'s Scan<'a>,
    options: &'s MiningOptions<'a>,
    positives: &'s [u32],
    exact: &'s mut dyn Exact,
}

impl Exact for Screened<'_, '_> {
    fn score(&mut self, row: u32) -> f32 {
        self.exact.score(row)
    }

    fn announce(&mut self, row: u32) {
        self.exact.announce(row);
    }

    fn admits(&mut self, row: u32) -> bool {
        let Some(most) = self.options.max_positive_similarity else { return true };
        let passages = self.scan.passages.matrix();
        let near = |&positive: &u32| {
            f64::from(cosine(self.scan.kernel, passages, positive as usize, passages, row as usize)) > most
        };
        !self.positives.iter().any(near)
    }
}
