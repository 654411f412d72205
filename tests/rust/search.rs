//! Search against a float64 brute force, bit for bit, over kernels, threads, sizes and batches.

mod common;

use common::{Random, cosines, matrix};
use proptest::prelude::*;
use relkt_core::{Error, Execution, Hits, Kernel, Matrix, Values, search};

/// Stable sorting keeps lower rows first among equal scores.
fn brute_force(queries: &[f32], passages: &[f32], dim: usize, k: usize) -> Hits {
    let mut hits = Hits { k, scores: Vec::new(), rows: Vec::new() };
    for scores in cosines(queries, passages, dim) {
        let scores: Vec<f32> = scores.into_iter().map(|s| s as f32).collect();
        let mut rows: Vec<usize> = (0..scores.len()).collect();
        rows.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).expect("no NaN"));
        hits.rows.extend(rows[..k].iter().map(|&row| row as i64));
        hits.scores.extend(rows[..k].iter().map(|&row| scores[row]));
    }
    hits
}

fn run(kernel: Kernel, queries: &[f32], passages: &[f32], dim: usize, k: usize, threads: usize) -> Hits {
    let (queries, passages) = (matrix("queries", queries, dim, kernel), matrix("passages", passages, dim, kernel));
    search(kernel, &queries, &passages, k, &Execution::new(Some(threads)).expect("threads")).expect("valid search")
}

#[test]
fn equals_brute_force_on_the_grid() {
    for dim in [1, 2, 15, 16, 17, 65, 384] {
        for rows in [1, 2, 7, 13, 100, 1001] {
            for queries in [1, 2, 3, 4, 5, 16, 17, 33, 64, 65, 130] {
                let mut random = Random::new((dim * 7919 + rows * 31 + queries) as u64);
                let (q, p) = (random.reals(queries * dim), random.reals(rows * dim));
                for k in [1, 10, rows].into_iter().filter(|&k| k <= rows) {
                    let expected = brute_force(&q, &p, dim, k);
                    for kernel in Kernel::available() {
                        for threads in [1, 2] {
                            let case = format!("{} {dim} {rows} {queries} {k} {threads}", kernel.name());
                            assert_eq!(run(kernel, &q, &p, dim, k, threads), expected, "{case}");
                        }
                    }
                }
            }
        }
    }
}

/// Enough rows that they are split over threads, with so few distinct ones that every range ends in ties.
#[test]
fn ties_across_row_ranges_go_to_the_lower_row() {
    let (dim, rows) = (8, 20_000);
    let mut random = Random::new(5);
    let distinct = random.small_rows(40, dim);
    let p: Vec<f32> = (0..rows).flat_map(|row| distinct[row * 17 % 40 * dim..][..dim].to_vec()).collect();
    let q = random.small_rows(20, dim);
    let expected = brute_force(&q, &p, dim, 700);
    for kernel in Kernel::available() {
        for threads in [1, 2, 3, 8] {
            assert_eq!(run(kernel, &q, &p, dim, 700, threads), expected, "{} {threads}", kernel.name());
        }
    }
}

#[test]
fn extreme_magnitudes_keep_their_cosines() {
    let (dim, rows) = (20, 300);
    let mut random = Random::new(11);
    let (q, plain) = (random.reals(5 * dim), random.reals(rows * dim));
    // Powers of two change no cosine at all.
    let scale = |row: usize| [1.0f32, 2f32.powi(100), 2f32.powi(-100), 2f32.powi(-20)][row % 4];
    let scaled: Vec<f32> = plain.iter().enumerate().map(|(i, &v)| v * scale(i / dim)).collect();
    for kernel in Kernel::available() {
        assert_eq!(run(kernel, &q, &scaled, dim, 50, 1), brute_force(&q, &plain, dim, 50), "{}", kernel.name());
    }
}

proptest! {
    /// Near-duplicates, equal rows, rows of one large coordinate: what makes ties and near-ties.
    #[test]
    fn equals_brute_force_on_awkward_rows(
        seed in any::<u64>(), rows in 1usize..300, queries in 1usize..70, dim in 1usize..40, k in 1usize..50, kind in 0u8..4,
    ) {
        let mut random = Random::new(seed);
        let base = random.reals(dim);
        let mut p = match kind {
            0 => random.reals(rows * dim),
            1 => (0..rows * dim).map(|i| base[i % dim] + 1e-7 * random.real()).collect(),
            2 => (0..rows * dim).map(|i| base[i % dim]).collect(),
            _ => random.small_rows(rows, dim),
        };
        let mut q = random.small_rows(queries, dim);
        q[..dim].copy_from_slice(&base);
        p[0] += 2.0;
        q[0] += 2.0;
        let k = k.min(rows);
        let expected = brute_force(&q, &p, dim, k);
        for kernel in Kernel::available() {
            prop_assert_eq!(&run(kernel, &q, &p, dim, k, 2), &expected, "{}", kernel.name());
        }
    }
}

/// A product that underflows on its way to float32 leaves a zero with a sign, which must not break the tie.
#[test]
fn a_negative_zero_ties_with_zero() {
    let (q, p) = ([1e-30, 1.0, 0.0], [-1e-30, 0.0, 1.0, 0.0, 0.0, 1.0]);
    for kernel in Kernel::available() {
        let hits = run(kernel, &q, &p, 3, 2, 1);
        assert_eq!(hits.rows, [0, 1], "{}", kernel.name());
        assert!(hits.scores.iter().all(|score| score.to_bits() == 0), "{}", kernel.name());
    }
}

#[test]
fn a_query_does_not_depend_on_its_batch() {
    let (dim, rows) = (33, 5000);
    let mut random = Random::new(3);
    let (q, p) = (random.reals(100 * dim), random.reals(rows * dim));
    let kernel = Kernel::detect();
    let all = run(kernel, &q, &p, dim, 10, 2);
    for query in [0, 63, 64, 99] {
        let alone = run(kernel, &q[query * dim..][..dim], &p, dim, 10, 1);
        assert_eq!(alone.rows, all.rows[query * 10..][..10]);
        assert_eq!(alone.scores, all.scores[query * 10..][..10]);
    }
}

#[test]
fn bad_input_is_refused() {
    let kernel = Kernel::detect();
    let execution = Execution::new(Some(2)).expect("threads");
    let new = |values: &[f32], rows, dim| {
        let values = Values::copy_of("passages", values)?;
        Matrix::new("passages", values, rows, dim, kernel, &execution).map(|_| ())
    };
    assert_eq!(new(&[], 0, 3), Err(Error::Empty { name: "passages", rows: 0, dim: 3 }));
    assert_eq!(new(&[], 3, 0), Err(Error::Empty { name: "passages", rows: 3, dim: 0 }));
    assert_eq!(new(&[1.0; 5], 2, 3), Err(Error::Length { name: "passages", expected: 6, got: 5 }));
    assert_eq!(new(&[1.0, 0.0, 0.0, 0.0], 2, 2), Err(Error::ZeroRow { name: "passages", row: 1 }));
    // The first offending row is named, also when several threads find one each.
    let mut values = vec![1.0f32; 8000];
    values[2001 * 2 + 1] = f32::INFINITY;
    values[3999 * 2] = f32::INFINITY;
    let expected = Error::NotFinite { name: "passages", row: 2001, column: 1, value: f32::INFINITY };
    assert_eq!(new(&values, 4000, 2), Err(expected));
    values[2001 * 2 + 1] = f32::NAN;
    assert!(matches!(new(&values, 4000, 2), Err(Error::NotFinite { row: 2001, column: 1, .. })));
    // A large but finite value is no infinity.
    assert_eq!(new(&[f32::MAX, f32::MAX], 1, 2), Ok(()));

    let (a, b) = (matrix("queries", &[1.0; 6], 3, kernel), matrix("passages", &[1.0; 6], 2, kernel));
    let refused = |q, p, k| search(kernel, q, p, k, &execution).map(|_| ()).expect_err("bad input");
    assert_eq!(refused(&a, &b, 1), Error::DimMismatch { queries: 3, passages: 2 });
    assert_eq!(refused(&a, &a, 0), Error::K { k: 0, rows: 2 });
    assert_eq!(refused(&a, &a, 3), Error::K { k: 3, rows: 2 });
    for threads in [0, 1025, usize::MAX] {
        let refused = Execution::new(Some(threads)).map(|_| ()).expect_err("no such number of threads");
        assert_eq!(refused, Error::Threads { threads, max: 1024 });
    }
}

#[test]
fn a_cancelled_search_stops() {
    let kernel = Kernel::detect();
    let values = Random::new(1).reals(1000 * 8);
    let (q, p) = (matrix("queries", &values, 8, kernel), matrix("passages", &values, 8, kernel));
    let execution = Execution::new(Some(1)).expect("threads");
    execution.cancel();
    assert_eq!(search(kernel, &q, &p, 5, &execution), Err(Error::Interrupted));
}
