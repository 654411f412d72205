//! Every kernel of this processor against plain loops, on a grid of awkward sizes.

mod common;

use common::Random;
use relkt_core::kernel::{DIRECT_MAX, Kernel, NAMES, Panel, Survivor, error_bound};

/// Widths around every vector length and unrolling, and real ones.
const DIMS: [usize; 26] =
    [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 47, 48, 63, 64, 65, 100, 127, 384, 768, 1023];
/// Row counts around every tile.
const ROWS: [usize; 14] = [1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 16, 17, 23, 49];

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// All survivors of a kernel call, in order of query and row.
fn survivors(
    kernel: Kernel,
    queries: &[f32],
    count: usize,
    packed: bool,
    panel: &Panel<'_>,
    dim: usize,
    thresholds: &[f32],
) -> Vec<Survivor> {
    let mut found = Vec::new();
    if packed {
        let mut values = vec![0.0; count * dim];
        for query in 0..count {
            for column in 0..dim {
                values[column * count + query] = queries[query * dim + column];
            }
        }
        kernel.packed(&values, panel, thresholds, &mut found);
    } else {
        kernel.direct(queries, panel, thresholds, &mut found);
    }
    found.sort_by_key(|s| (s.query, s.row));
    found
}

fn shapes(kernel: Kernel) -> Vec<(usize, bool)> {
    let direct = (1..=DIRECT_MAX).filter(|&q| q == 1 || q.is_multiple_of(kernel.group())).map(|q| (q, false));
    direct.chain(kernel.widths().iter().map(|&q| (q, true))).collect()
}

#[test]
#[allow(clippy::print_stdout)]
fn which_kernels_run_here() {
    let available: Vec<&str> = Kernel::available().into_iter().map(Kernel::name).collect();
    for name in NAMES {
        let state = if available.contains(&name) { "tested" } else { "skipped: not on this processor" };
        // The test harness shows it with --nocapture, as CI does.
        println!("kernel {name}: {state}");
        assert_eq!(Kernel::by_name(name).is_ok(), available.contains(&name));
    }
    assert!(available.contains(&"scalar"));
    assert!(Kernel::by_name("sse9").is_err());
}

/// Whole numbers make every order of summation exact, so that all kernels must agree with the loop bit for bit, ties with
/// the threshold included.
#[test]
fn whole_numbers_are_scored_exactly() {
    for kernel in Kernel::available() {
        for (seed, &dim) in DIMS.iter().enumerate() {
            for rows in ROWS {
                let mut random = Random::new(seed as u64 * 1000 + rows as u64);
                let values = random.smalls(rows * dim);
                let norms: Vec<f32> = (0..rows).map(|row| [0.5, 1.0, 2.0][row % 3]).collect();
                let panel = Panel::new(&values, &norms, dim, 7);
                for (count, packed) in shapes(kernel) {
                    let queries = random.smalls(count * dim);
                    let score = |q: usize, r: usize| {
                        dot(&queries[q * dim..][..dim], &values[r * dim..][..dim]) as f32 * norms[r]
                    };
                    // A threshold that one of the query's own scores equals, or that everything passes.
                    let threshold = |q: usize| if q.is_multiple_of(3) { f32::NEG_INFINITY } else { score(q, q % rows) };
                    let thresholds: Vec<f32> = (0..count).map(threshold).collect();
                    let expected: Vec<Survivor> = (0..count)
                        .flat_map(|q| (0..rows).map(move |r| (q, r)))
                        .map(|(q, r)| Survivor { query: q as u32, row: r as u32 + 7, score: score(q, r) })
                        .filter(|s| s.score > thresholds[s.query as usize])
                        .collect();
                    let found = survivors(kernel, &queries, count, packed, &panel, dim, &thresholds);
                    let case = format!("{} dim {dim} rows {rows} queries {count} packed {packed}", kernel.name());
                    assert_eq!(found, expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn real_numbers_are_within_the_bound() {
    for kernel in Kernel::available() {
        for &dim in &DIMS {
            let mut random = Random::new(dim as u64);
            let rows = 13;
            let unit = |values: Vec<f32>| -> Vec<f32> {
                values
                    .chunks_exact(dim)
                    .flat_map(|row| {
                        let norm = dot(row, row).sqrt();
                        row.iter().map(move |&v| (f64::from(v) / norm) as f32).collect::<Vec<_>>()
                    })
                    .collect()
            };
            let values = unit(random.reals(rows * dim));
            let norms = vec![1.0; rows];
            let panel = Panel::new(&values, &norms, dim, 0);
            for (count, packed) in shapes(kernel) {
                let queries = unit(random.reals(count * dim));
                let thresholds = vec![f32::NEG_INFINITY; count];
                let found = survivors(kernel, &queries, count, packed, &panel, dim, &thresholds);
                assert_eq!(found.len(), count * rows);
                for s in found {
                    let (q, r) = (s.query as usize, s.row as usize);
                    let exact = dot(&queries[q * dim..][..dim], &values[r * dim..][..dim]);
                    let error = (f64::from(s.score) - exact).abs();
                    assert!(error <= f64::from(error_bound(dim)), "{} dim {dim}: off by {error}", kernel.name());
                }
            }
        }
    }
}

/// Products of one sign add up to scores near 1, where rounding errors are largest and do not cancel: of those that every
/// kernel can make, (dim + 6) units of rounding cover all, and the bound must cover them twice.
#[test]
fn the_bound_has_room_for_the_worst_rounding() {
    for kernel in Kernel::available() {
        for dim in [384, 768, 1023, 4096] {
            let value = (1.0 / (dim as f64).sqrt()) as f32;
            for step in 0..20u32 {
                let values = vec![f32::from_bits(value.to_bits() + step); dim];
                let norm = dot(&values, &values).sqrt();
                let inverse = [(1.0 / norm) as f32];
                let panel = Panel::new(&values, &inverse, dim, 0);
                let query: Vec<f32> = values.iter().map(|&v| (f64::from(v) / norm) as f32).collect();
                let found = survivors(kernel, &query, 1, false, &panel, dim, &[f32::NEG_INFINITY]);
                let error = (f64::from(found[0].score) - 1.0).abs();
                assert!(error <= (dim as f64 + 6.0) * 0.5f64.powi(24), "{} dim {dim}: off by {error}", kernel.name());
                assert!(2.0 * (dim as f64 + 6.0) * 0.5f64.powi(24) <= f64::from(error_bound(dim)));
            }
        }
    }
}

#[test]
#[should_panic(expected = "a panel holds dim values for each row")]
fn a_panel_whose_size_overflows_is_refused() {
    let _ = Panel::new(&[], &[1.0; 4], 1 << 62, 0);
}

#[test]
fn double_precision_dot_is_the_same_for_every_kernel() {
    for dim in 0..1100 {
        let mut random = Random::new(dim as u64);
        let (a, b) = (random.reals(dim), random.reals(dim));
        let scalar = Kernel::by_name("scalar").expect("always there").dot_f64(&a, &b);
        assert!((scalar - dot(&a, &b)).abs() <= 1e-15 * dim as f64, "dim {dim}");
        for kernel in Kernel::available() {
            assert_eq!(kernel.dot_f64(&a, &b).to_bits(), scalar.to_bits(), "{} dim {dim}", kernel.name());
        }
    }
}
