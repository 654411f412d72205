//! Mining against its definition, applied to the full matrix of scores.

mod common;

use common::{Random, cosines, matrix, passages};
use proptest::prelude::*;
use relkt_core::top_k::Window;
use relkt_core::{Error, Execution, Kernel, MiningOptions, Negatives, RowLists, Wanted, lowest_positive, mine};

/// Concatenated lists.
#[derive(Debug, Clone)]
struct Lists {
    starts: Vec<i64>,
    rows: Vec<i64>,
}

impl Lists {
    fn of(lists: &[Vec<i64>]) -> Self {
        let ends = lists.iter().scan(0, |end, list| {
            *end += list.len() as i64;
            Some(*end)
        });
        Self { starts: std::iter::once(0).chain(ends).collect(), rows: lists.concat() }
    }

    fn view(&self, name: &'static str) -> RowLists<'_> {
        RowLists::new(name, &self.starts, &self.rows)
    }
}

struct Case {
    dim: usize,
    queries: Vec<f32>,
    passages: Vec<f32>,
    positives: Vec<Vec<i64>>,
    exclude: Option<Vec<Vec<i64>>>,
    groups: Option<Vec<i64>>,
    max_positive_similarity: Option<f64>,
    /// Number of negatives, and the windows.
    lists: Vec<(usize, Vec<Window>)>,
}

impl Case {
    fn mine(&self, kernel: Kernel, threads: usize, sketch: bool) -> Vec<Negatives> {
        let execution = Execution::new(kernel, Some(threads)).expect("threads");
        let q = matrix("queries", &self.queries, self.dim, kernel);
        let mut p = passages(&self.passages, self.dim, kernel);
        if sketch {
            p = p.with_sketch(&execution).expect("memory");
        }
        let (positives, exclude) = (Lists::of(&self.positives), self.exclude.as_deref().map(Lists::of));
        let lists: Vec<Wanted<'_>> = self.lists.iter().map(|(num, windows)| Wanted { num: *num, windows }).collect();
        let options = MiningOptions {
            lists: &lists,
            positives: positives.view("positives"),
            exclude: exclude.as_ref().map(|lists| lists.view("exclude")),
            groups: self.groups.as_deref(),
            max_positive_similarity: self.max_positive_similarity,
        };
        mine(&q, &p, &options, &execution).expect("valid mining")
    }

    /// The result by definition, from float32 scores.
    fn definition(&self) -> Vec<Negatives> {
        let round = |scores: Vec<Vec<f64>>| -> Vec<Vec<f32>> {
            scores.into_iter().map(|row| row.into_iter().map(|s| s as f32 + 0.0).collect()).collect()
        };
        let scores = round(cosines(&self.queries, &self.passages, self.dim));
        let mut positives: Vec<i64> = self.positives.concat();
        positives.sort_unstable();
        positives.dedup();
        let of_positives: Vec<f32> =
            positives.iter().flat_map(|&p| &self.passages[p as usize * self.dim..][..self.dim]).copied().collect();
        let among = self.max_positive_similarity.map(|_| round(cosines(&of_positives, &self.passages, self.dim)));
        let near = |row: usize, own: &[i64]| {
            among.as_ref().is_some_and(|among| {
                let most = self.max_positive_similarity.expect("given");
                let similarity = |p: &i64| among[positives.binary_search(p).expect("listed")][row];
                own.iter().any(|p| f64::from(similarity(p)) > most)
            })
        };
        let list = |&(num, ref windows): &(usize, Vec<Window>)| {
            let mut negatives =
                Negatives { rows: Vec::new(), scores: Vec::new(), above_window: Vec::new(), near_positive: Vec::new() };
            for (query, scores) in scores.iter().enumerate() {
                let (positives, window) = (&self.positives[query], windows[query]);
                let excluded = |row: usize| {
                    let same_group = |&p: &i64| self.groups.as_ref().is_some_and(|g| g[p as usize] == g[row]);
                    positives.contains(&(row as i64))
                        || positives.iter().any(same_group)
                        || self.exclude.as_ref().is_some_and(|e| e[query].contains(&(row as i64)))
                };
                let inside =
                    |row: usize| window.above < f64::from(scores[row]) && f64::from(scores[row]) < window.below;
                let mut rows: Vec<usize> = (0..scores.len()).filter(|&row| !excluded(row) && inside(row)).collect();
                rows.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let mut found = 0;
                let mut refused = 0;
                for row in rows {
                    if found == num {
                        break;
                    }
                    if near(row, positives) {
                        refused += 1;
                    } else {
                        found += 1;
                        negatives.rows.push(row as i64);
                        negatives.scores.push(scores[row]);
                    }
                }
                negatives.rows.extend(std::iter::repeat_n(-1, num - found));
                negatives.scores.extend(std::iter::repeat_n(f32::NAN, num - found));
                negatives.near_positive.push(refused);
                let above = |&row: &usize| !positives.contains(&(row as i64)) && f64::from(scores[row]) >= window.below;
                negatives.above_window.push((0..scores.len()).filter(above).count() as i64);
            }
            negatives
        };
        self.lists.iter().map(list).collect()
    }
}

fn assert_equal(found: &[Negatives], expected: &[Negatives], case: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.rows, expected.rows, "{case}");
        assert_eq!(found.above_window, expected.above_window, "{case}");
        assert_eq!(found.near_positive, expected.near_positive, "{case}");
        let bits = |scores: &[f32]| scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found.scores), bits(&expected.scores), "{case}");
    }
}

/// Windows of several kinds around each query's lowest positive, or around zero.
fn windows(kind: usize, lowest: &[f32], margin: f64) -> Vec<Window> {
    let window = |&lowest: &f32| {
        let at = if lowest.is_nan() { 0.0 } else { f64::from(lowest) };
        match kind {
            0 => Window::ALL,
            1 => Window { above: at, below: f64::INFINITY },
            2 => Window { above: at - margin, below: at },
            3 => Window { above: f64::NEG_INFINITY, below: at - margin },
            4 => Window { above: 0.1, below: 0.1 + margin },
            _ => Window { above: 0.2, below: 0.2 - margin },
        }
    };
    lowest.iter().map(window).collect()
}

fn case(seed: u64, queries: usize, rows: usize, dim: usize, whole_numbers: bool, kinds: &[(usize, usize)]) -> Case {
    let mut random = Random::new(seed);
    let make = |random: &mut Random, count: usize| {
        if whole_numbers { random.small_rows(count, dim) } else { random.reals(count * dim) }
    };
    let (q, p) = (make(&mut random, queries), make(&mut random, rows));
    let mut pick = |least: usize| -> Vec<i64> {
        let count = least + (random.next() % 3) as usize;
        (0..count).map(|_| (random.next() % rows as u64) as i64).collect()
    };
    let positives: Vec<Vec<i64>> = (0..queries).map(|_| pick(0)).collect();
    let exclude = seed.is_multiple_of(2).then(|| (0..queries).map(|_| pick(0)).collect());
    let groups = seed.is_multiple_of(3).then(|| (0..rows).map(|row| (row / 4) as i64 - 2).collect());
    let max_positive_similarity = seed.is_multiple_of(5).then_some(0.6);
    let lowest: Vec<f32> = cosines(&q, &p, dim)
        .iter()
        .zip(&positives)
        .map(|(scores, rows)| rows.iter().map(|&row| scores[row as usize] as f32).fold(f32::NAN, f32::min))
        .collect();
    let margin = [0.0, 0.05, 0.3, 2.0][(seed / 7 % 4) as usize];
    let lists = kinds.iter().map(|&(num, kind)| (num.min(rows), windows(kind, &lowest, margin))).collect();
    Case { dim, queries: q, passages: p, positives, exclude, groups, max_positive_similarity, lists }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn equals_the_definition(
        seed in any::<u64>(), queries in 1usize..80, rows in 1usize..200, dim in 1usize..12, whole in any::<bool>(),
        kinds in prop::collection::vec((1usize..9, 0usize..6), 1..4),
    ) {
        let case = case(seed, queries, rows, dim, whole, &kinds);
        let expected = case.definition();
        for kernel in Kernel::available() {
            assert_equal(&case.mine(kernel, 2, false), &expected, kernel.name());
        }
    }
}

/// Long lists start from a threshold guessed from a sample, and the results of all threads are merged.
#[test]
fn guesses_and_threads_give_the_same() {
    for (seed, queries) in [(30, 10), (31, 70), (32, 200)] {
        for kinds in [&[(50, 0)][..], &[(40, 3)], &[(64, 1), (64, 2)], &[(100, 4), (1, 0)]] {
            let case = case(seed, queries, 9_000, 8, seed == 31, kinds);
            let expected = case.definition();
            for threads in [1, 2, 5] {
                assert_equal(&case.mine(Kernel::detect(), threads, false), &expected, "guesses");
            }
        }
    }
}

/// Rows sorted so that a sample of blocks misleads: the guess is too high for some queries, which are searched again.
#[test]
fn a_wrong_guess_costs_nothing() {
    let dim = 4;
    let mut case = case(60, 40, 8_192, dim, false, &[(40, 0), (40, 3)]);
    // The blocks of the sample hold copies of the queries, all other rows point elsewhere.
    for row in 0..8_192 {
        let query = row % 40;
        let copy: Vec<f32> = case.queries[query * dim..][..dim].to_vec();
        let sign = if row / 16 % 24 == 0 { 1.0 } else { -1.0 };
        for (value, copied) in case.passages[row * dim..][..dim].iter_mut().zip(copy) {
            *value = sign * copied + 0.1 * *value;
        }
    }
    case.lists[1].1 = vec![Window { above: f64::NEG_INFINITY, below: 0.5 }; 40];
    assert_equal(&case.mine(Kernel::detect(), 1, false), &case.definition(), "misled");
}

/// Near-duplicates of positives that are too many to keep, so that a second pass counts them.
#[test]
fn any_number_of_near_duplicates_is_counted() {
    let mut case = case(40, 6, 6_000, 4, false, &[(3, 0), (2, 3)]);
    case.max_positive_similarity = Some(0.3);
    case.positives = (0..6).map(|query| vec![query, query + 9]).collect();
    // Queries are their first positives, so that their best passages are all near-duplicates.
    case.queries = case.passages[..24].to_vec();
    case.lists[1].1 = vec![Window { above: -0.9, below: 0.95 }; 6];
    let expected = case.definition();
    assert!(expected[0].near_positive.iter().all(|&count| count > 1_500), "{:?}", expected[0].near_positive);
    for threads in [1, 3] {
        assert_equal(&case.mine(Kernel::detect(), threads, false), &expected, "near-duplicates");
    }
    // Every passage is a near-duplicate.
    case.max_positive_similarity = Some(-1.0);
    assert_equal(&case.mine(Kernel::detect(), 1, false), &case.definition(), "nothing but near-duplicates");
}

/// A sketch rejects rows first; the rows that pass it are counted and judged as without a sketch.
#[test]
fn a_sketch_changes_nothing() {
    let (dim, rows, queries) = (128, 16_640, 24);
    let mut random = Random::new(8);
    // Few directions carry almost all of the rows.
    let mut make = |count: usize| -> Vec<f32> {
        (0..count)
            .flat_map(|_| {
                let row = random.reals(dim);
                row.into_iter().enumerate().map(|(c, x)| if c < 12 { x } else { x * 0.01 }).collect::<Vec<f32>>()
            })
            .collect()
    };
    let (q, p) = (make(queries), make(rows));
    let lists = vec![(5, vec![Window { above: -1.0, below: 0.8 }; queries]), (40, vec![Window::ALL; queries])];
    let case = Case {
        dim,
        queries: q,
        passages: p,
        positives: (0..queries as i64).map(|q| vec![q, 3 * q]).collect(),
        exclude: None,
        groups: Some((0..rows as i64).map(|row| row / 7).collect()),
        max_positive_similarity: Some(0.9),
        lists,
    };
    let kernel = Kernel::detect();
    let sketched = passages(&case.passages, dim, kernel).with_sketch(&Execution::new(kernel, None).expect("threads"));
    assert!(sketched.expect("memory").sketch().is_some(), "this data has a sketch");
    assert_equal(&case.mine(kernel, 2, true), &case.definition(), "sketch");
}

/// By hand: passages at known angles to one query.
#[test]
fn windows_are_open() {
    let at = |cosine: f32| [cosine, (1.0 - cosine * cosine).sqrt()];
    let passages: Vec<f32> = [0.8, 0.9, 0.8, 0.75, 0.5].into_iter().flat_map(at).collect();
    let kernel = Kernel::detect();
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    let (q, p) = (matrix("queries", &[1.0, 0.0], 2, kernel), common::passages(&passages, 2, kernel));
    let positives = Lists::of(&[vec![0]]);
    let lowest = lowest_positive(&q, &p, positives.view("positives"), &execution).expect("valid");
    assert!((lowest[0] - 0.8).abs() < 1e-6);
    let at = f64::from(lowest[0]);
    let case = Case {
        dim: 2,
        queries: vec![1.0, 0.0],
        passages,
        positives: vec![vec![0]],
        exclude: None,
        groups: None,
        max_positive_similarity: None,
        lists: vec![
            (3, vec![Window { above: at, below: f64::INFINITY }]),
            (3, vec![Window { above: at - 0.1, below: at }]),
        ],
    };
    let mined = case.mine(kernel, 1, false);
    assert_eq!(mined[0].rows, [1, -1, -1]);
    assert_eq!(mined[1].rows, [3, -1, -1]);
    assert_eq!((mined[0].above_window[0], mined[1].above_window[0]), (0, 2));
    assert!(mined[0].scores[1].is_nan() && mined[1].scores[1].is_nan());
}

#[test]
fn bad_input_is_refused() {
    let kernel = Kernel::detect();
    let p = passages(&[1.0, 0.0, 0.0, 1.0], 2, kernel);
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    let (one, two) = (Lists::of(&[vec![0]]), Lists::of(&[vec![0], vec![]]));
    let windows = [Window::ALL; 2];
    let lists = [Wanted { num: 1, windows: &windows }];
    let positives = two.view("positives");
    let good = MiningOptions { lists: &lists, positives, exclude: None, groups: None, max_positive_similarity: None };
    let refused = |options: MiningOptions<'_>| mine(p.matrix(), &p, &options, &execution).map(|_| ()).expect_err("bad");
    assert!(mine(p.matrix(), &p, &good, &execution).is_ok());
    assert_eq!(refused(MiningOptions { lists: &[], ..good }), Error::NothingToMine);
    for num in [0, 3] {
        let lists = [Wanted { num, windows: &windows }];
        assert_eq!(refused(MiningOptions { lists: &lists, ..good }), Error::CountOutOfRange { num, rows: 2 });
    }
    let lists = [Wanted { num: 1, windows: &windows[..1] }];
    assert_eq!(refused(MiningOptions { lists: &lists, ..good }), Error::WindowCountMismatch { expected: 2, got: 1 });
    let nan = [Window::ALL, Window { above: 0.0, below: f64::NAN }];
    let lists = [Wanted { num: 1, windows: &nan }];
    assert_eq!(refused(MiningOptions { lists: &lists, ..good }), Error::NanLimit { query: 1 });
    for (name, options) in [
        ("positives", MiningOptions { positives: one.view("positives"), ..good }),
        ("exclude", MiningOptions { exclude: Some(one.view("exclude")), ..good }),
    ] {
        assert_eq!(refused(options), Error::ListCountMismatch { name, expected: 2, got: 1 });
    }
    for starts in [&[0, 2, 1][..], &[1, 1, 1], &[0, 1, 2], &[]] {
        let lists = RowLists::new("exclude", starts, &[1]);
        let refused = refused(MiningOptions { exclude: Some(lists), ..good });
        assert!(matches!(refused, Error::ListCountMismatch { name: "exclude", .. }), "{refused:?}");
    }
    for row in [-1, 2, i64::MAX] {
        let outside = Lists::of(&[vec![0], vec![1, row]]);
        let error = |name| Error::RowOutOfRange { name, query: 1, row, max: 1 };
        let positives = outside.view("positives");
        assert_eq!(refused(MiningOptions { positives, ..good }), error("positives"));
        assert_eq!(lowest_positive(p.matrix(), &p, positives, &execution), Err(error("positives")));
        assert_eq!(refused(MiningOptions { exclude: Some(outside.view("exclude")), ..good }), error("exclude"));
    }
    assert_eq!(
        refused(MiningOptions { groups: Some(&[1]), ..good }),
        Error::GroupCountMismatch { expected: 2, got: 1 }
    );
}
