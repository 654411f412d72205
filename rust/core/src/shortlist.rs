//! The rows that may be among a query's best k, found from bounds of their scores alone, and scored exactly together.
//!
//! # Likely scores
//! A row's score lies between two bounds, and nearly always much closer to their middle: what codes miss points in some
//! direction of `dim`, so that its product with the other vector is of the order of 1 / √dim of the product of the lengths,
//! which the bounds allow for. So a *likely* lower bound stands little below the middle, and the k-th highest of those is
//! the floor below which rows are dropped. It is a guess: it holds if, in the end, k rows do score at least as much. Then
//! every row that was dropped, whose score is below a floor, is not among the best k. Otherwise the query is searched again,
//! with floors that are proven.

use crate::error::Result;
use crate::matrix::cosine;
use crate::parallel;
use crate::scan::{Collector, Scan, SharedFloor};
use crate::top_k::{Candidate, Exact, Hit, TopK, Window, rank};

/// How many times 1 / √dim of the way to the lower bound a likely score stands below the middle.
const DOUBT: f32 = 4.0;
/// Rows that may be left on a list beyond twice as many as are wanted.
const ROOM: usize = 768;
/// Rows after which the floor is raised, if they are more than half as many as are wanted.
const STEP: usize = 32;
/// Queries whose rows are scored in one task.
const CHUNK: usize = 1024;
/// Scores between two looks whether to stop.
const CHECKED: usize = 1 << 14;
/// How many rows ahead the memory is asked for them.
const AHEAD: usize = 4;

/// Of the way between the bounds of a score, the share below which it is not likely to lie.
pub(crate) fn unlikely(dim: usize) -> f32 {
    0.5 * (1.0 - (DOUBT / (dim as f32).sqrt()).min(1.0))
}

/// Rows that a list for the best `k` holds for longer than a step.
pub(crate) fn most_listed(k: usize) -> usize {
    2 * k + ROOM
}

/// A row that may be among the best.
#[derive(Debug, Clone, Copy)]
struct Listed {
    row: u32,
    upper: f32,
    likely: f32,
}

/// Lists the rows that may be among the best k.
#[derive(Debug)]
pub(crate) struct Shortlist {
    k: usize,
    unlikely: f32,
    floor: f32,
    rows: Vec<Listed>,
    /// Rows that the floor takes into account.
    settled: usize,
    /// Takes over where bounds tell so little that lists would become long.
    exact: Option<TopK>,
}

impl Shortlist {
    /// For the best `k` rows of those that score at least `floor`; [`unlikely`] tells what scores are likely.
    pub(crate) fn new(k: usize, floor: f32, unlikely: f32) -> Self {
        Self { k, unlikely, floor, rows: Vec::with_capacity(2 * k.min(ROOM)), settled: 0, exact: None }
    }

    /// Raises the floor to the k-th highest likely score, and drops the rows below it.
    fn raise(&mut self) {
        if self.rows.len() >= self.k && self.rows.len() > self.settled {
            let (_, last, _) = self.rows.select_nth_unstable_by(self.k - 1, |a, b| b.likely.total_cmp(&a.likely));
            self.floor = self.floor.max(last.likely);
        }
        let floor = self.floor;
        self.rows.retain(|row| row.upper >= floor);
        self.settled = self.rows.len();
    }

    /// Scores all rows, and those to come, at once.
    fn take_over(&mut self, exact: &mut impl Exact) {
        let mut top = TopK::new(self.k, Window::ALL);
        top.raise(self.floor);
        for listed in std::mem::take(&mut self.rows) {
            top.offer(Candidate { row: listed.row, lower: f32::NEG_INFINITY, upper: listed.upper }, exact);
        }
        self.exact = Some(top);
    }
}

impl Collector for Shortlist {
    type Output = Listing;

    fn floor(&self) -> f32 {
        self.floor
    }

    fn is_eager(&self) -> bool {
        false
    }

    fn offer(&mut self, candidate: Candidate, exact: &mut impl Exact) {
        if let Some(top) = &mut self.exact {
            top.offer(candidate, exact);
            self.floor = top.floor();
            return;
        }
        let Candidate { row, lower, upper } = candidate;
        if upper < self.floor {
            return;
        }
        self.rows.push(Listed { row, upper, likely: lower + self.unlikely * (upper - lower) });
        if self.rows.len() >= self.settled.max(self.k) + (self.k / 2).max(STEP) {
            self.raise();
            if self.rows.len() > most_listed(self.k) {
                self.take_over(exact);
            }
        }
    }

    fn settle(&mut self, exact: &mut impl Exact) {
        match &mut self.exact {
            Some(top) => {
                top.settle(exact);
                self.floor = top.floor();
            }
            None => self.raise(),
        }
    }

    fn share(&mut self, floor: &SharedFloor) {
        self.floor = floor.raise(self.floor);
        if let Some(top) = &mut self.exact {
            top.raise(self.floor);
        }
    }

    fn finish(mut self, exact: &mut impl Exact) -> Listing {
        self.settle(exact);
        let scored = self.exact.as_ref().map_or(0, TopK::scored);
        let best = self.exact.map_or_else(Vec::new, |top| top.finish(exact));
        Listing { floor: self.floor, rows: self.rows, best, scored }
    }
}

/// What a [`Shortlist`] ends up with.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Rows that score less are missing.
    floor: f32,
    rows: Vec<Listed>,
    /// Rows that were scored already: the best k of them.
    best: Vec<Hit>,
    scored: usize,
}

impl Listing {
    /// Adds what was listed of other rows, for the same query.
    pub(crate) fn merge(parts: Vec<Self>, k: usize) -> Self {
        let several = parts.len() > 1;
        let mut merged = Self { floor: f32::NEG_INFINITY, rows: Vec::new(), best: Vec::new(), scored: 0 };
        for part in parts {
            merged.floor = merged.floor.max(part.floor);
            merged.scored += part.scored;
            merged.best.extend(part.best);
            if merged.rows.is_empty() { merged.rows = part.rows } else { merged.rows.extend(part.rows) }
        }
        if several && merged.rows.len() > k {
            let (_, last, _) = merged.rows.select_nth_unstable_by(k - 1, |a, b| b.likely.total_cmp(&a.likely));
            merged.floor = merged.floor.max(last.likely);
        }
        merged
    }

    /// Rows that score less are missing. If there are k rows, the k-th best probably reaches it.
    pub(crate) fn floor(&self) -> f32 {
        self.floor
    }

    /// The rows that have to be scored.
    fn asked(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().filter(|listed| listed.upper >= self.floor).map(|listed| listed.row)
    }
}

/// The best rows of a query.
pub(crate) struct Best {
    /// The best k of the rows that were listed, best first.
    pub(crate) hits: Vec<Hit>,
    /// If the k-th best scores less than this, better rows may be missing.
    pub(crate) floor: f32,
    /// Rows that were scored exactly.
    pub(crate) scored: usize,
}

/// Scores what was listed for consecutive queries, in parts, and picks the best `k`.
pub(crate) fn best_of(request: Scan<'_>, first: usize, lists: Vec<Vec<Listing>>, k: usize) -> Result<Vec<Best>> {
    let execution = request.execution;
    let lists: Vec<Listing> = lists.into_iter().map(|parts| Listing::merge(parts, k)).collect();
    let (count, mut lists) = (lists.len(), lists.into_iter());
    let size = count.div_ceil(execution.threads()).clamp(1, CHUNK);
    let tasks = (0..count).step_by(size).map(|at| (first + at, lists.by_ref().take(size).collect::<Vec<_>>()));
    let outcomes = parallel::for_each(execution, tasks, |(first, lists)| score(request, first, lists, k))?;
    let mut best = Vec::with_capacity(count);
    for outcome in outcomes {
        best.extend(outcome?);
    }
    Ok(best)
}

/// Scores what was listed for consecutive queries.
fn score(request: Scan<'_>, first: usize, lists: Vec<Listing>, k: usize) -> Result<Vec<Best>> {
    let Scan { kernel, queries, execution, .. } = request;
    let passages = request.passages.matrix();
    let pairs = in_row_order(passages.rows(), &lists);
    let begin = |mut list: Listing| {
        list.best.reserve(list.rows.len());
        Best { hits: list.best, floor: list.floor, scored: list.scored }
    };
    let mut best: Vec<Best> = lists.into_iter().map(begin).collect();
    for (at, &(row, lane)) in pairs.iter().enumerate() {
        if at % CHECKED == 0 {
            execution.check()?;
        }
        if let Some(soon) = pairs.get(at + AHEAD) {
            kernel.prefetch(passages.row(soon.0 as usize));
        }
        let score = cosine(kernel, queries, first + lane as usize, passages, row as usize);
        let best = &mut best[lane as usize];
        best.scored += 1;
        best.hits.push(Hit { score, row });
    }
    for best in &mut best {
        execution.check()?;
        if best.hits.len() > k {
            best.hits.select_nth_unstable_by(k - 1, rank);
            best.hits.truncate(k);
        }
        best.hits.sort_unstable_by(rank);
    }
    Ok(best)
}

/// Rows to be scored, each with the position of the list that it is in, in order of the rows, so that what many queries ask
/// for is read from memory once; nearly so, where they are few among many rows.
fn in_row_order(rows: usize, lists: &[Listing]) -> Vec<(u32, u32)> {
    let total: usize = lists.iter().map(|list| list.asked().count()).sum();
    let shift = (rows / (2 * total + 1)).checked_ilog2().map_or(0, |bits| bits + 1);
    // Where the next pair of each part of the rows goes.
    let mut places = vec![0usize; (rows >> shift) + 2];
    for row in lists.iter().flat_map(Listing::asked) {
        places[(row >> shift) as usize + 1] += 1;
    }
    for part in 1..places.len() {
        places[part] += places[part - 1];
    }
    let mut pairs = vec![(0, 0); total];
    for (list, lane) in lists.iter().zip(0..) {
        for row in list.asked() {
            let place = &mut places[(row >> shift) as usize];
            pairs[*place] = (row, lane);
            *place += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Exact scores from a list.
    struct List<'a>(&'a [f32]);

    impl Exact for List<'_> {
        fn score(&mut self, row: u32) -> f32 {
            self.0[row as usize]
        }
        fn announce(&mut self, _row: u32) {}
    }

    /// The best `k`, and whether the floor holds.
    fn stream(scores: &[f32], places: &[f32], error: f32, k: usize, unlikely: f32, floor: f32) -> (Vec<Hit>, bool) {
        let mut exact = List(scores);
        let mut parts: Vec<Shortlist> = (0..2).map(|_| Shortlist::new(k, floor, unlikely)).collect();
        let shared = SharedFloor::new();
        for (row, (&score, &place)) in scores.iter().zip(places).enumerate() {
            let part = &mut parts[usize::from(row > scores.len() / 3)];
            let candidate =
                Candidate { row: row as u32, lower: score - place * error, upper: score + (1.0 - place) * error };
            // As the kernels do.
            if candidate.upper >= part.floor() {
                part.offer(candidate, &mut exact);
            }
            if row % 100 == 0 {
                part.share(&shared);
                part.settle(&mut exact);
            }
        }
        let listing = Listing::merge(parts.into_iter().map(|part| part.finish(&mut exact)).collect(), k);
        let mut hits: Vec<Hit> = listing.asked().map(|row| Hit { score: scores[row as usize], row }).collect();
        hits.extend(&listing.best);
        hits.sort_unstable_by(rank);
        hits.truncate(k);
        let holds = hits.get(k - 1).is_some_and(|worst| worst.score >= listing.floor);
        (hits, holds)
    }

    proptest! {
        /// Wherever scores lie between their bounds: if the floor holds, these are the best rows.
        #[test]
        fn nothing_is_missing_above_a_floor_that_holds(
            rows in prop::collection::vec((-40i16..=40, prop_oneof![0.0f32..=1.0, Just(0.0), Just(1.0)]), 1..3000),
            k in 1usize..40,
            error in prop::sample::select(vec![0.0f32, 1e-4, 0.06, 0.5, 3.0]),
            unlikely in 0.0f32..=0.5,
            floor in prop::sample::select(vec![f32::NEG_INFINITY, -0.5, 0.9, 1.5]),
        ) {
            prop_assume!(k <= rows.len());
            let scores: Vec<f32> = rows.iter().map(|&(s, _)| f32::from(s) / 40.0).collect();
            let places: Vec<f32> = rows.iter().map(|&(_, place)| place).collect();
            let mut expected: Vec<Hit> =
                scores.iter().zip(0..).map(|(&score, row)| Hit { score, row }).collect();
            expected.sort_by(rank);
            expected.truncate(k);
            let (hits, holds) = stream(&scores, &places, error, k, unlikely, floor);
            if holds {
                prop_assert_eq!(&hits, &expected);
            }
            // Nothing but what is certain: the floor holds.
            let (hits, holds) = stream(&scores, &places, error, k, 0.0, f32::NEG_INFINITY);
            prop_assert!(holds);
            prop_assert_eq!(&hits, &expected);
        }
    }

    #[test]
    fn pairs_come_in_order_of_rows() {
        let listed = |row: u32, upper: f32| Listed { row, upper, likely: upper };
        let list = |rows: &[u32]| Listing {
            floor: 0.0,
            rows: rows.iter().map(|&row| listed(row, 0.5)).chain([listed(1, -0.5)]).collect(),
            best: Vec::new(),
            scored: 0,
        };
        let lists = [list(&[7, 3, 9]), list(&[]), list(&[9, 0, 3])];
        assert_eq!(in_row_order(10, &lists), [(0, 2), (3, 0), (3, 2), (7, 0), (9, 0), (9, 2)]);
        // Among many rows, in order of parts of them.
        let order: Vec<u32> = in_row_order(10_000, &[list(&[9000, 5, 4000, 9999])]).iter().map(|pair| pair.0).collect();
        assert_eq!(order, [5, 4000, 9000, 9999]);
    }
}
