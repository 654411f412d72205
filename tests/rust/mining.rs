//! Mining against its definition, applied to the full matrix of scores.

mod common;

use common::{Random, cosines, matrix, passages};
use proptest::prelude::*;
use relkt_core::{Error, Execution, Kernel, Mined, MiningOptions, mine};

struct Case {
    dim: usize,
    queries: Vec<f32>,
    passages: Vec<f32>,
    positives: Vec<Vec<i64>>,
    exclude: Option<Vec<Vec<i64>>>,
    groups: Option<Vec<i64>>,
}

impl Case {
    fn mine(&self, kernel: Kernel, num_hard: usize, num_semi_hard: usize, margin: f64, threads: usize) -> Mined {
        let q = matrix("queries", &self.queries, self.dim, kernel);
        let p = passages(&self.passages, self.dim, kernel);
        let options = MiningOptions {
            num_hard,
            num_semi_hard,
            margin,
            positives: &self.positives,
            exclude: self.exclude.as_deref(),
            groups: self.groups.as_deref(),
        };
        mine(kernel, &q, &p, &options, &Execution::new(Some(threads)).expect("threads")).expect("valid mining")
    }

    /// Rows (-1 where there is none) of hard and of semi-hard negatives, by the definition.
    fn definition(&self, num_hard: usize, num_semi_hard: usize, margin: f64) -> (Vec<i64>, Vec<i64>) {
        let (mut hard, mut semi_hard) = (Vec::new(), Vec::new());
        for (query, scores) in cosines(&self.queries, &self.passages, self.dim).into_iter().enumerate() {
            let scores: Vec<f64> = scores.into_iter().map(|s| f64::from(s as f32)).collect();
            let positives = &self.positives[query];
            let limit = positives.iter().map(|&row| scores[row as usize]).fold(f64::INFINITY, f64::min);
            let candidate = |row: usize| {
                let same_group = |&p: &i64| self.groups.as_ref().is_some_and(|g| g[p as usize] == g[row]);
                !positives.contains(&(row as i64))
                    && !positives.iter().any(same_group)
                    && !self.exclude.as_ref().is_some_and(|e| e[query].contains(&(row as i64)))
            };
            let best = |num: usize, wanted: &dyn Fn(f64) -> bool| {
                let mut rows: Vec<usize> =
                    (0..scores.len()).filter(|&row| candidate(row) && wanted(scores[row])).collect();
                rows.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let rows = rows.into_iter().map(|row| row as i64);
                rows.chain(std::iter::repeat(-1)).take(num).collect::<Vec<i64>>()
            };
            hard.extend(best(num_hard, &|s| s > limit));
            semi_hard.extend(best(num_semi_hard, &|s| limit - margin < s && s < limit));
        }
        (hard, semi_hard)
    }
}

fn case(seed: u64, queries: usize, rows: usize, dim: usize, whole_numbers: bool) -> Case {
    let mut random = Random::new(seed);
    let make = |random: &mut Random, count: usize| {
        if whole_numbers { random.small_rows(count, dim) } else { random.reals(count * dim) }
    };
    let (q, p) = (make(&mut random, queries), make(&mut random, rows));
    let mut pick = |least: usize| -> Vec<i64> {
        let count = least + (random.next() % 3) as usize;
        (0..count).map(|_| (random.next() % rows as u64) as i64).collect()
    };
    let positives = (0..queries).map(|_| pick(1)).collect();
    let exclude = seed.is_multiple_of(2).then(|| (0..queries).map(|_| pick(0)).collect());
    let groups = seed.is_multiple_of(3).then(|| (0..rows).map(|row| (row / 4) as i64 - 2).collect());
    Case { dim, queries: q, passages: p, positives, exclude, groups }
}

proptest! {
    #[test]
    fn equals_the_definition(
        seed in any::<u64>(), queries in 1usize..80, rows in 1usize..200, dim in 1usize..12, whole in any::<bool>(),
        num_hard in 0usize..6, num_semi_hard in 0usize..6, margin in prop::sample::select(vec![0.0, 0.05, 0.3, 2.0]),
    ) {
        prop_assume!(num_hard + num_semi_hard > 0);
        let (num_hard, num_semi_hard) = (num_hard.min(rows), num_semi_hard.min(rows));
        let case = case(seed, queries, rows, dim, whole);
        let (hard, semi_hard) = case.definition(num_hard, num_semi_hard, margin);
        for kernel in Kernel::available() {
            let mined = case.mine(kernel, num_hard, num_semi_hard, margin, 2);
            prop_assert_eq!(&mined.hard_rows, &hard, "hard, {}", kernel.name());
            prop_assert_eq!(&mined.semi_hard_rows, &semi_hard, "semi-hard, {}", kernel.name());
        }
    }
}

#[test]
fn rows_split_over_threads_give_the_same() {
    let case = case(6, 10, 20_000, 8, true);
    let (hard, semi_hard) = case.definition(50, 50, 0.1);
    for threads in [1, 2, 5] {
        let mined = case.mine(Kernel::detect(), 50, 50, 0.1, threads);
        assert_eq!((mined.hard_rows, mined.semi_hard_rows), (hard.clone(), semi_hard.clone()));
    }
}

/// By hand: passages at known angles to one query.
#[test]
fn equal_to_the_positive_is_neither() {
    let at = |cosine: f32| [cosine, (1.0 - cosine * cosine).sqrt()];
    let passages: Vec<f32> = [0.8, 0.9, 0.8, 0.75, 0.5].into_iter().flat_map(at).collect();
    let case =
        Case { dim: 2, queries: vec![1.0, 0.0], passages, positives: vec![vec![0]], exclude: None, groups: None };
    let mined = case.mine(Kernel::detect(), 3, 3, 0.1, 1);
    assert_eq!(mined.hard_rows, [1, -1, -1]);
    assert_eq!(mined.semi_hard_rows, [3, -1, -1]);
    assert!(mined.hard_scores[1].is_nan() && mined.semi_hard_scores[1].is_nan());
    assert!((mined.positive_scores[0] - 0.8).abs() < 1e-6);
}

#[test]
fn bad_input_is_refused() {
    let kernel = Kernel::detect();
    let p = passages(&[1.0, 0.0, 0.0, 1.0], 2, kernel);
    let execution = Execution::new(Some(1)).expect("threads");
    let (one, two) = (vec![vec![0]], vec![vec![0], vec![1]]);
    let good =
        MiningOptions { num_hard: 1, num_semi_hard: 1, margin: 0.1, positives: &two, exclude: None, groups: None };
    let refused =
        |options: MiningOptions<'_>| mine(kernel, p.matrix(), &p, &options, &execution).map(|_| ()).expect_err("bad");
    assert!(mine(kernel, p.matrix(), &p, &good, &execution).is_ok());
    assert_eq!(refused(MiningOptions { num_hard: 0, num_semi_hard: 0, ..good.clone() }), Error::NothingToMine);
    assert_eq!(refused(MiningOptions { margin: -0.1, ..good.clone() }), Error::Margin(-0.1));
    assert!(matches!(refused(MiningOptions { margin: f64::NAN, ..good.clone() }), Error::Margin(_)));
    for (options, name) in [
        (MiningOptions { num_hard: 3, ..good.clone() }, "num_hard"),
        (MiningOptions { num_semi_hard: 3, ..good.clone() }, "num_semi_hard"),
    ] {
        assert_eq!(refused(options), Error::Count { name, num: 3, rows: 2 });
    }
    let lists = Error::Lists { name: "positives", expected: 2, got: 1 };
    assert_eq!(refused(MiningOptions { positives: &one, ..good.clone() }), lists);
    let none = vec![vec![0], vec![]];
    assert_eq!(refused(MiningOptions { positives: &none, ..good.clone() }), Error::NoPositive { query: 1 });
    for row in [-1, 2, i64::MAX] {
        let outside = vec![vec![0], vec![row]];
        let error = |name| Error::RowOutOfRange { name, query: 1, row, max: 1 };
        assert_eq!(refused(MiningOptions { positives: &outside, ..good.clone() }), error("positives"));
        assert_eq!(refused(MiningOptions { exclude: Some(&outside), ..good.clone() }), error("exclude"));
    }
    assert_eq!(refused(MiningOptions { groups: Some(&[1]), ..good }), Error::Groups { expected: 2, got: 1 });
}
