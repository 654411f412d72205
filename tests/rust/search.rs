//! Search against a float64 brute force, bit for bit, over kernels, threads, sizes and batches.

mod common;

use common::{Random, cosines, half, matrix, passages, value_of};
use proptest::prelude::*;
use relkt_core::kernel::{F16, MAX_DIM};
use relkt_core::{Allow, Buffer, Error, Execution, Kernel, Matrix, Passages, Values, search};

/// Results of a search, without the number of scored rows.
#[derive(Debug, Clone, PartialEq)]
struct Hits {
    k: usize,
    scores: Vec<f32>,
    rows: Vec<i64>,
}

impl From<relkt_core::Hits> for Hits {
    fn from(hits: relkt_core::Hits) -> Self {
        assert!(hits.scored.iter().all(|&scored| scored >= hits.k));
        Self { k: hits.k, scores: hits.scores, rows: hits.rows }
    }
}

fn allow_mask(mask: &[bool]) -> Allow {
    Allow::mask(&mask.iter().map(|&allowed| u8::from(allowed)).collect::<Vec<_>>())
}

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
    let (queries, passages) = (matrix("queries", queries, dim, kernel), self::passages(passages, dim, kernel));
    Hits::from(
        search(&queries, &passages, k, None, &Execution::new(kernel, Some(threads)).expect("threads"))
            .expect("valid search"),
    )
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

/// Enough rows to be split over threads, with few distinct values, so that every range ends in ties.
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

/// Few rows are scored if rows have much in common (codes are relative to a mean; otherwise all would be scored) or
/// single large coordinates (codes are rotated).
#[test]
fn rows_with_much_in_common_stay_fast() {
    let (dim, rows, kernel) = (128, 4000, Kernel::detect());
    let mut random = Random::new(3);
    let common = random.reals(dim);
    let alike: Vec<f32> = (0..rows * dim).map(|i| 4.0 * common[i % dim] + random.real()).collect();
    let large: Vec<f32> =
        (0..rows * dim).map(|i| if i % dim == 5 { 30.0 * random.real() } else { random.real() }).collect();
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    for (p, centred, rotated) in [(alike, true, false), (large, false, true)] {
        let q = p[..5 * dim].to_vec();
        let stored = passages(&p, dim, kernel);
        assert_eq!((stored.codes().is_centred(), stored.codes().is_rotated()), (centred, rotated));
        let hits = search(&matrix("queries", &q, dim, kernel), &stored, 10, None, &execution);
        let hits = hits.expect("valid search");
        assert!(hits.scored.iter().all(|&scored| scored < rows / 10), "{:?}", hits.scored);
        assert_eq!(Hits::from(hits), brute_force(&q, &p, dim, 10));
    }
}

/// A sketch does not change results, for any number of queries, results and threads, with a filter, and after rows are
/// added and removed. Some queries are unlike all rows, so that the sketch rules out little.
#[test]
fn a_sketch_changes_no_result() {
    let (dim, rows) = (128, 20_000);
    let mut random = Random::new(12);
    let centres = random.reals(250 * dim);
    let mut near = |count: usize| -> Vec<f32> {
        (0..count * dim).map(|i| centres[i / dim * 7 % 250 * dim + i % dim] + 0.3 * random.real()).collect()
    };
    let (p, more, mut q) = (near(rows), near(100), near(40));
    q.extend(random.reals(10 * dim));
    let mask: Vec<bool> = (0..rows + 100).map(|row| row % 7 < 3).collect();
    for kernel in Kernel::available().into_iter().filter(|kernel| kernel.name() != "scalar") {
        let execution = Execution::new(kernel, Some(2)).expect("threads");
        let mut plain = passages(&p, dim, kernel);
        let mut sketched = passages(&p, dim, kernel).with_sketch(&execution).expect("memory");
        assert!(sketched.sketch().is_some() && plain.sketch().is_none());
        for passages in [&mut plain, &mut sketched] {
            passages.append(&matrix("passages", &more, dim, kernel), &execution).expect("memory");
        }
        let thinned = (plain.select(&mask, &execution), sketched.select(&mask, &execution));
        let thinned = (thinned.0.expect("memory"), thinned.1.expect("memory"));
        assert!(thinned.1.sketch().is_some());
        for count in [1, 5, 50] {
            let queries = matrix("queries", &q[(50 - count) * dim..], dim, kernel);
            for k in [1, 10, 300] {
                for threads in [1, 2] {
                    let execution = Execution::new(kernel, Some(threads)).expect("threads");
                    let run = |passages: &Passages, allow: Option<&Allow>| {
                        Hits::from(search(&queries, passages, k, allow, &execution).expect("valid search"))
                    };
                    let case = format!("{} {count} {k} {threads}", kernel.name());
                    assert_eq!(run(&sketched, None), run(&plain, None), "{case}");
                    let allow = allow_mask(&mask);
                    assert_eq!(run(&sketched, Some(&allow)), run(&plain, Some(&allow)), "{case}");
                    assert_eq!(run(&thinned.1, None), run(&thinned.0, None), "{case}");
                }
            }
        }
    }
}

/// Many queries and results, where a sample of the rows suggests thresholds. For some queries, the best rows all lie in
/// the sample (the first of every 24 blocks), so that the threshold is far too high.
#[test]
fn a_misleading_sample_costs_no_results() {
    let (dim, rows, k) = (12, 20_000, 40);
    let mut random = Random::new(6);
    let mut p = random.reals(rows * dim);
    let q = random.reals(50 * dim);
    for (row, values) in p.chunks_exact_mut(dim).enumerate() {
        if row / 16 % 24 == 0 && row % 16 < 6 {
            let query = &q[row / (16 * 24) % 25 * dim..][..dim];
            values.iter_mut().zip(query).for_each(|(value, q)| *value = q + 0.01 * *value);
        }
    }
    let expected = brute_force(&q, &p, dim, k);
    for kernel in Kernel::available() {
        for threads in [1, 2] {
            assert_eq!(run(kernel, &q, &p, dim, k, threads), expected, "{} {threads}", kernel.name());
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
    /// Rows that make ties, near-ties and large coding errors: near-duplicates, equal rows, sign flips, rows with one
    /// huge coordinate, tiny and subnormal rows, rows that differ only in the last place.
    #[test]
    fn equals_brute_force_on_awkward_rows(
        seed in any::<u64>(), rows in 1usize..300, queries in 1usize..70, dim in 1usize..40, k in 1usize..50, kind in 0u8..9,
    ) {
        let mut random = Random::new(seed);
        let base = random.reals(dim);
        let mut p = match kind {
            0 => random.reals(rows * dim),
            1 => (0..rows * dim).map(|i| base[i % dim] + 1e-7 * random.real()).collect(),
            2 => (0..rows * dim).map(|i| base[i % dim]).collect(),
            3 => (0..rows * dim).map(|i| base[i % dim] * [1.0, -1.0][(random.next() % 2) as usize]).collect(),
            4 => (0..rows * dim).map(|i| if i % dim == dim / 2 { 1e4 } else { random.real() }).collect(),
            5 => random.reals(rows * dim).iter().map(|v| v * 1e-30).collect(),
            6 => random.reals(rows * dim).iter().map(|v| v * 1e-41).collect(),
            7 => (0..rows * dim).map(|i| f32::from_bits(base[i % dim].to_bits() ^ (random.next() % 2) as u32)).collect(),
            _ => random.small_rows(rows, dim),
        };
        let mut q = random.small_rows(queries, dim);
        q[..dim].copy_from_slice(&base);
        for row in p.chunks_exact_mut(dim).filter(|row| row.iter().all(|&v| v == 0.0)) {
            row[0] = f32::MIN_POSITIVE;
        }
        q[0] += 2.0;
        let k = k.min(rows);
        let expected = brute_force(&q, &p, dim, k);
        for kernel in Kernel::available() {
            prop_assert_eq!(&run(kernel, &q, &p, dim, k, 2), &expected, "{}", kernel.name());
        }
    }

    /// Sums and products of float16 rows are those of their float32 values.
    #[test]
    fn half_rows_score_as_their_values(seed in any::<u64>(), rows in 1usize..200, dim in 1usize..70, scale in -5i32..6) {
        let mut random = Random::new(seed);
        let halves: Vec<F16> = (0..rows * dim).map(|_| half(random.real() * 2f32.powi(3 * scale))).collect();
        let mut halves = halves;
        for row in halves.chunks_exact_mut(dim) {
            row[0] = half(1.0);
        }
        let values: Vec<f32> = halves.iter().map(|&h| value_of(h)).collect();
        let q = random.reals(3 * dim);
        let expected = brute_force(&q, &values, dim, rows.min(9));
        for kernel in Kernel::available() {
            let execution = Execution::new(kernel, Some(1)).expect("threads");
            let stored = Values::F16(Buffer::copy_of(&halves).expect("memory"));
            let stored = Matrix::new("passages", stored, rows, dim, &execution).expect("valid rows");
            let stored = Passages::new(stored, &execution).expect("memory");
            prop_assert!(stored.is_f16());
            let q = matrix("queries", &q, dim, kernel);
            prop_assert_eq!(Hits::from(search(&q, &stored, rows.min(9), None, &execution).expect("valid")), expected.clone());
        }
    }

    /// Only allowed rows, and all of them if they are fewer than k; a mask and a list of rows give the same results.
    #[test]
    fn allowed_rows_alone_are_found(
        seed in any::<u64>(), rows in 1usize..3000, queries in 1usize..40, k in 1usize..60, share in 0u64..101, ties in any::<bool>(),
    ) {
        let dim = 9;
        let mut random = Random::new(seed);
        let p = if ties { random.small_rows(rows, dim) } else { random.reals(rows * dim) };
        let q = random.reals(queries * dim);
        let mask: Vec<bool> = (0..rows).map(|_| random.next() % 100 < share).collect();
        let left: Vec<i64> = (0..rows as i64).filter(|&row| mask[row as usize]).collect();
        let allowed: Vec<f32> = left.iter().flat_map(|&row| p[row as usize * dim..][..dim].to_vec()).collect();
        let k = k.min(rows);
        let mut expected = brute_force(&q, &allowed, dim, k.min(left.len()));
        expected.rows.iter_mut().for_each(|row| *row = left[*row as usize]);
        for kernel in Kernel::available() {
            let (queries, stored) = (matrix("queries", &q, dim, kernel), passages(&p, dim, kernel));
            for allow in [allow_mask(&mask), Allow::rows(rows, &left).expect("in range")] {
                for threads in [1, 2] {
                    let execution = Execution::new(kernel, Some(threads)).expect("threads");
                    let hits = search(&queries, &stored, k, Some(&allow), &execution).expect("valid search");
                    prop_assert_eq!(&Hits::from(hits), &expected);
                }
            }
        }
    }

    /// After appends and removals, passages equal new passages with the same rows.
    #[test]
    fn grown_and_thinned_passages_are_like_new_ones(
        seed in any::<u64>(), first in 1usize..60, more in prop::collection::vec(1usize..40, 0..4), dim in 1usize..20,
    ) {
        let mut random = Random::new(seed);
        let kernel = Kernel::detect();
        let execution = Execution::new(kernel, Some(2)).expect("threads");
        let mut all = random.reals(first * dim);
        let mut grown = passages(&all, dim, kernel);
        for rows in more {
            let values = random.reals(rows * dim);
            grown.append(&matrix("passages", &values, dim, kernel), &execution).expect("memory");
            all.extend(values);
        }
        let rows = all.len() / dim;
        let q = random.reals(5 * dim);
        let queries = matrix("queries", &q, dim, kernel);
        let hits = Hits::from(search(&queries, &grown, rows, None, &execution).expect("valid search"));
        prop_assert_eq!(hits, brute_force(&q, &all, dim, rows));

        let keep: Vec<bool> = (0..rows).map(|row| row == rows / 2 || random.next().is_multiple_of(3)).collect();
        let thinned = grown.select(&keep, &execution).expect("memory");
        let left: Vec<f32> =
            all.chunks_exact(dim).zip(&keep).filter(|(_, keep)| **keep).flat_map(|(row, _)| row.to_vec()).collect();
        let rows = left.len() / dim;
        let hits = Hits::from(search(&queries, &thinned, rows, None, &execution).expect("valid search"));
        prop_assert_eq!(hits, brute_force(&q, &left, dim, rows));
    }
}

/// A failed append leaves everything as it was, including rows in the block being filled.
#[test]
fn an_interrupted_append_changes_nothing() {
    let (dim, kernel) = (7, Kernel::detect());
    let mut random = Random::new(2);
    let (p, more, q) = (random.reals(20 * dim), random.reals(5000 * dim), random.reals(3 * dim));
    let mut grown = passages(&p, dim, kernel);
    let cancelled = Execution::new(kernel, Some(1)).expect("threads");
    cancelled.cancel();
    let refused = grown.append(&matrix("passages", &more, dim, kernel), &cancelled);
    assert_eq!(refused, Err(Error::Interrupted));
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    let hits =
        Hits::from(search(&matrix("queries", &q, dim, kernel), &grown, 20, None, &execution).expect("valid search"));
    assert_eq!(hits, brute_force(&q, &p, dim, 20));
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
    let (dim, rows) = (33, 2000);
    let mut random = Random::new(3);
    // More queries than one block of a search.
    let (q, p) = (random.reals(3000 * dim), random.reals(rows * dim));
    let kernel = Kernel::detect();
    let all = run(kernel, &q, &p, dim, 10, 2);
    for query in [0, 63, 64, 99, 1023, 1024, 2047, 2048, 2999] {
        let alone = run(kernel, &q[query * dim..][..dim], &p, dim, 10, 1);
        assert_eq!(alone.rows, all.rows[query * 10..][..10]);
        assert_eq!(alone.scores, all.scores[query * 10..][..10]);
    }
}

#[test]
fn bad_input_is_refused() {
    let kernel = Kernel::detect();
    let execution = Execution::new(kernel, Some(2)).expect("threads");
    let new = |values: &[f32], rows, dim| {
        let values = Values::F32(Buffer::copy_of(values)?);
        Matrix::new("passages", values, rows, dim, &execution).map(|_| ())
    };
    assert_eq!(new(&[], 0, 3), Err(Error::Empty { name: "passages", rows: 0, dim: 3 }));
    assert_eq!(new(&[], 3, 0), Err(Error::Empty { name: "passages", rows: 3, dim: 0 }));
    assert_eq!(new(&[1.0; 5], 2, 3), Err(Error::Length { name: "passages", expected: 6, got: 5 }));
    assert_eq!(new(&[1.0, 0.0, 0.0, 0.0], 2, 2), Err(Error::ZeroRow { name: "passages", row: 1 }));
    // The error names the first bad row, even when several threads each find a bad row.
    let mut values = vec![1.0f32; 8000];
    values[2001 * 2 + 1] = f32::INFINITY;
    values[3999 * 2] = f32::INFINITY;
    let expected = Error::NotFinite { name: "passages", row: 2001, column: 1, value: f32::INFINITY };
    assert_eq!(new(&values, 4000, 2), Err(expected));
    values[2001 * 2 + 1] = f32::NAN;
    assert!(matches!(new(&values, 4000, 2), Err(Error::NotFinite { row: 2001, column: 1, .. })));
    // A large but finite value is valid.
    assert_eq!(new(&[f32::MAX, f32::MAX], 1, 2), Ok(()));

    let too_wide = Error::TooWide { name: "passages", dim: MAX_DIM + 1, max: MAX_DIM };
    assert_eq!(new(&[1.0; MAX_DIM + 1], 1, MAX_DIM + 1), Err(too_wide));
    for (bits, value) in [(0x7c00, f32::INFINITY), (0xfc00, f32::NEG_INFINITY), (0x7e01, f32::NAN)] {
        let values = Values::F16(Buffer::copy_of(&[half(1.0), half(2.0), half(3.0), F16(bits)]).expect("memory"));
        let refused = Matrix::new("passages", values, 2, 2, &execution).map(|_| ()).expect_err("not finite");
        let Error::NotFinite { row: 1, column: 1, value: got, .. } = refused else { panic!("{refused:?}") };
        assert!(got == value || got.is_nan() && value.is_nan());
    }

    let (a, b) = (matrix("queries", &[1.0; 6], 3, kernel), passages(&[1.0; 6], 2, kernel));
    let refused = |q, p, k| search(q, p, k, None, &execution).map(|_| ()).expect_err("bad input");
    assert_eq!(refused(&a, &b, 1), Error::DimMismatch { name: "queries", expected: 2, got: 3 });
    let b = passages(&[1.0; 6], 3, kernel);
    let short = Allow::mask(&[1]);
    let refused_allow = search(&a, &b, 1, Some(&short), &execution);
    assert_eq!(refused_allow, Err(Error::AllowLength { expected: 2, got: 1 }));
    assert_eq!(refused(&a, &b, 0), Error::KOutOfRange { k: 0, rows: 2 });
    assert_eq!(refused(&a, &b, 3), Error::KOutOfRange { k: 3, rows: 2 });
    for threads in [0, 1025, usize::MAX] {
        let refused = Execution::new(kernel, Some(threads)).map(|_| ()).expect_err("no such number of threads");
        assert_eq!(refused, Error::Threads { threads, max: 1024 });
    }
}

#[test]
fn a_cancelled_search_stops() {
    let kernel = Kernel::detect();
    let values = Random::new(1).reals(1000 * 8);
    let (q, p) = (matrix("queries", &values, 8, kernel), passages(&values, 8, kernel));
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    execution.cancel();
    assert_eq!(search(&q, &p, 5, None, &execution), Err(Error::Interrupted));
}
