//! Hard and semi-hard negatives, found inside the search pass. The rule lives here and nowhere else.
//!
//! With s_p the lowest score among a query's positives: a passage is a *hard* negative if its score is above s_p, and a
//! *semi-hard* one if its score lies strictly between s_p - margin and s_p; a score equal to s_p makes neither. Positives,
//! every passage of a positive's group, and explicitly excluded rows are no candidates. (CL-ReLKT, section 2.1, and
//! `2_use_finetune_teacher.py: negative_mining`; there with distances and a single positive.)

use crate::error::{Error, Result, with_capacity};
use crate::kernel::Kernel;
use crate::matrix::{Matrix, cosine};
use crate::parallel::{self, Execution};
use crate::passages::Passages;
use crate::scan::{Collector, Scan, SharedFloor, scan};
use crate::search::check_dims;
use crate::selection::Selection;
use crate::top_k::{Candidate, Exact, Hit, TopK, Window, merge};

/// Queries whose positives are scored in one task.
const CHUNK: usize = 1024;

/// What to mine.
#[derive(Debug, Clone)]
pub struct MiningOptions<'a> {
    /// Hard negatives for each query, at most.
    pub num_hard: usize,
    /// Semi-hard negatives for each query, at most.
    pub num_semi_hard: usize,
    /// Width of the semi-hard window, in units of the cosine.
    pub margin: f64,
    /// Rows that answer each query; none may be empty.
    pub positives: &'a [Vec<i64>],
    /// Further rows that are no candidates, for each query.
    pub exclude: Option<&'a [Vec<i64>]>,
    /// The group (document) of each passage.
    pub groups: Option<&'a [i64]>,
}

/// Negatives: for query q, entries q * num to (q + 1) * num of each list, highest score first; where there are fewer, the
/// rest is row -1 with score NaN.
#[derive(Debug, Clone)]
pub struct Mined {
    /// Rows of hard negatives.
    pub hard_rows: Vec<i64>,
    /// Their scores.
    pub hard_scores: Vec<f32>,
    /// Rows of semi-hard negatives.
    pub semi_hard_rows: Vec<i64>,
    /// Their scores.
    pub semi_hard_scores: Vec<f32>,
    /// s_p of each query.
    pub positive_scores: Vec<f32>,
}

/// Mines negatives for every query.
///
/// # Errors
/// [`Error::DimMismatch`], [`Error::NothingToMine`], [`Error::Count`], [`Error::Memory`], [`Error::Margin`], [`Error::Lists`], [`Error::NoPositive`],
/// [`Error::RowOutOfRange`], [`Error::Groups`], [`Error::Interrupted`], [`Error::ThreadPool`].
pub fn mine(
    kernel: Kernel,
    queries: &Matrix,
    passages: &Passages,
    options: &MiningOptions<'_>,
    execution: &Execution,
) -> Result<Mined> {
    check(queries, passages, options)?;
    let (hard, semi_hard) =
        (queries.rows().saturating_mul(options.num_hard), queries.rows().saturating_mul(options.num_semi_hard));
    let mut mined = Mined {
        hard_rows: with_capacity("results", hard)?,
        hard_scores: with_capacity("results", hard)?,
        semi_hard_rows: with_capacity("results", semi_hard)?,
        semi_hard_scores: with_capacity("results", semi_hard)?,
        positive_scores: with_capacity("results", queries.rows())?,
    };
    let chunks = (0..queries.rows()).step_by(CHUNK).map(|start| start..(start + CHUNK).min(queries.rows()));
    let scores = parallel::for_each(execution, chunks, |chunk| {
        execution.check()?;
        let score = |query: usize, row: i64| cosine(kernel, queries, query, passages.matrix(), row as usize);
        let lowest =
            |query: usize| options.positives[query].iter().map(|&row| score(query, row)).fold(f32::INFINITY, f32::min);
        Ok(chunk.map(lowest).collect::<Vec<f32>>())
    })?;
    for chunk in scores {
        mined.positive_scores.extend(chunk?);
    }
    let selection = Selection::new(passages.codes().blocks(), None);
    let request = Scan { kernel, queries, passages, selection, use_sketch: true, execution };
    let all: Vec<usize> = (0..queries.rows()).collect();
    let outcomes = scan(request, &all, |query| {
        let positive = f64::from(mined.positive_scores[query]);
        let hard = Window { above: positive, below: f64::INFINITY };
        let semi_hard = Window { above: positive - options.margin, below: positive };
        Miner {
            excluded: excluded_rows(query, options),
            excluded_groups: excluded_groups(query, options),
            groups: options.groups,
            hard: (options.num_hard > 0).then(|| TopK::new(options.num_hard, hard)),
            semi_hard: (options.num_semi_hard > 0).then(|| TopK::new(options.num_semi_hard, semi_hard)),
        }
    })?;
    for parts in outcomes {
        let (hard, semi_hard): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        append(&mut mined.hard_rows, &mut mined.hard_scores, &merge(hard, options.num_hard), options.num_hard);
        append(
            &mut mined.semi_hard_rows,
            &mut mined.semi_hard_scores,
            &merge(semi_hard, options.num_semi_hard),
            options.num_semi_hard,
        );
    }
    Ok(mined)
}

/// The rows that a query's lists name, sorted.
fn excluded_rows(query: usize, options: &MiningOptions<'_>) -> Vec<u32> {
    let lists = [Some(&options.positives[query]), options.exclude.map(|exclude| &exclude[query])];
    let mut rows: Vec<u32> = lists.into_iter().flatten().flatten().map(|&row| row as u32).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// The groups of a query's positives, sorted.
fn excluded_groups(query: usize, options: &MiningOptions<'_>) -> Vec<i64> {
    let Some(groups) = options.groups else { return Vec::new() };
    let mut excluded: Vec<i64> = options.positives[query].iter().map(|&row| groups[row as usize]).collect();
    excluded.sort_unstable();
    excluded.dedup();
    excluded
}

fn check(queries: &Matrix, passages: &Passages, options: &MiningOptions<'_>) -> Result<()> {
    check_dims(queries, passages)?;
    if options.num_hard == 0 && options.num_semi_hard == 0 {
        return Err(Error::NothingToMine);
    }
    for (name, num) in [("num_hard", options.num_hard), ("num_semi_hard", options.num_semi_hard)] {
        if num > passages.rows() {
            return Err(Error::Count { name, num, rows: passages.rows() });
        }
    }
    if !(0.0..=2.0).contains(&options.margin) {
        return Err(Error::Margin(options.margin));
    }
    if let Some(groups) = options.groups
        && groups.len() != passages.rows()
    {
        return Err(Error::Groups { expected: passages.rows(), got: groups.len() });
    }
    check_rows("positives", options.positives, queries, passages)?;
    if let Some(query) = options.positives.iter().position(Vec::is_empty) {
        return Err(Error::NoPositive { query });
    }
    options.exclude.map_or(Ok(()), |exclude| check_rows("exclude", exclude, queries, passages))
}

fn check_rows(name: &'static str, lists: &[Vec<i64>], queries: &Matrix, passages: &Passages) -> Result<()> {
    if lists.len() != queries.rows() {
        return Err(Error::Lists { name, expected: queries.rows(), got: lists.len() });
    }
    let max = passages.rows() - 1;
    for (query, rows) in lists.iter().enumerate() {
        if let Some(&row) = rows.iter().find(|&&row| usize::try_from(row).is_err() || row as usize > max) {
            return Err(Error::RowOutOfRange { name, query, row, max });
        }
    }
    Ok(())
}

fn append(rows: &mut Vec<i64>, scores: &mut Vec<f32>, hits: &[Hit], num: usize) {
    rows.extend(hits.iter().map(|hit| i64::from(hit.row)));
    scores.extend(hits.iter().map(|hit| hit.score));
    rows.extend(std::iter::repeat_n(-1, num - hits.len()));
    scores.extend(std::iter::repeat_n(f32::NAN, num - hits.len()));
}

/// Collects one query's negatives.
struct Miner<'a> {
    excluded: Vec<u32>,
    excluded_groups: Vec<i64>,
    groups: Option<&'a [i64]>,
    hard: Option<TopK>,
    semi_hard: Option<TopK>,
}

impl Collector for Miner<'_> {
    type Output = (Vec<Hit>, Vec<Hit>);

    fn floor(&self) -> f32 {
        self.hard.iter().chain(&self.semi_hard).map(TopK::floor).fold(f32::INFINITY, f32::min)
    }

    fn window(&self) -> Option<(f32, f64)> {
        let sure = self.hard.as_ref().map_or(f32::INFINITY, TopK::floor);
        self.semi_hard.as_ref().map(|top| (sure, top.window().below))
    }

    fn is_eager(&self) -> bool {
        false
    }

    fn offer(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        let row = candidate.row;
        let same_group =
            self.groups.is_some_and(|groups| self.excluded_groups.binary_search(&groups[row as usize]).is_ok());
        if same_group || self.excluded.binary_search(&row).is_ok() {
            return;
        }
        for top in self.hard.iter_mut().chain(&mut self.semi_hard) {
            top.offer(candidate, exact);
        }
    }

    fn settle(&mut self, exact: &mut impl Exact) {
        for top in self.hard.iter_mut().chain(&mut self.semi_hard) {
            top.settle(exact);
        }
    }

    /// Two floors would have to be shared; mining has many queries, whose rows are not split over threads.
    fn share(&mut self, _floor: &SharedFloor) {}

    fn finish(self, exact: &mut impl Exact) -> Self::Output {
        let mut finish = |top: Option<TopK>| top.map(|top| top.finish(exact)).unwrap_or_default();
        (finish(self.hard), finish(self.semi_hard))
    }
}
