//! Every kernel of this processor against plain loops, on a grid of awkward sizes.

mod common;

use common::{Random, half, value_of};
use relkt_core::kernel::{
    BLOCK_ROWS, F16, GROUP_BYTES, Kernel, NAMES, Panel, QueryBlock, QueryCodes, Row, Survivor, Survivors, groups,
};

/// Widths around every vector length and unrolling, and widths of real embeddings.
const DIMS: [usize; 18] = [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 33, 63, 64, 65, 100, 384, 1023];
/// Numbers of blocks around every tile.
const BLOCKS: [usize; 7] = [1, 2, 3, 4, 5, 8, 9];
/// Numbers of queries around every tile.
const QUERIES: [usize; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 25, 55];

#[test]
#[allow(clippy::print_stdout)]
fn which_kernels_run_here() {
    let available: Vec<&str> = Kernel::available().into_iter().map(Kernel::name).collect();
    for name in NAMES {
        let state = if available.contains(&name) { "tested" } else { "skipped: not on this processor" };
        // Shown with --nocapture, which CI uses.
        println!("kernel {name}: {state}");
        assert_eq!(Kernel::by_name(name).is_ok(), available.contains(&name));
    }
    assert!(available.contains(&"scalar"));
    assert!(Kernel::by_name("sse9").is_err());
}

/// Fails if a kernel in RELKT_REQUIRE_KERNELS (names as in RELKT_KERNEL, separated by commas) cannot run here, so that
/// a CI machine with another processor does not skip a kernel unnoticed.
#[test]
fn required_kernels_run_here() {
    let required = std::env::var("RELKT_REQUIRE_KERNELS").unwrap_or_default();
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if let Err(error) = Kernel::by_name(name) {
            panic!("RELKT_REQUIRE_KERNELS={required}: {error}");
        }
    }
}

/// Codes of rows as plain numbers, and in the stored layout, made by its definition.
struct Rows {
    codes: Vec<Vec<i8>>,
    stored: Vec<u8>,
    scales: Vec<f32>,
    errors: Vec<f32>,
}

impl Rows {
    fn new(blocks: usize, dim: usize, mut code: impl FnMut() -> i8) -> Self {
        let rows = blocks * BLOCK_ROWS;
        let codes: Vec<Vec<i8>> = (0..rows).map(|_| (0..dim).map(|_| code()).collect()).collect();
        let mut stored = vec![128; blocks * groups(dim) * GROUP_BYTES];
        for (row, codes) in codes.iter().enumerate() {
            for (column, &code) in codes.iter().enumerate() {
                let block = row / BLOCK_ROWS * groups(dim) * GROUP_BYTES;
                stored[block + column / 4 * GROUP_BYTES + row % BLOCK_ROWS * 4 + column % 4] =
                    (i32::from(code) + 128) as u8;
            }
        }
        let scales = (0..rows).map(|row| [1.0, 0.5, 2.0, 0.25][row % 4]).collect();
        let errors = (0..rows).map(|row| (row % 7) as f32).collect();
        Self { codes, stored, scales, errors }
    }
}

/// Whole numbers and powers of two make every operation of a kernel exact (sums of codes stay below 2^24), so that all
/// kernels must agree with the loop bit for bit, ties with the limit included.
#[test]
#[expect(clippy::too_many_lines, reason = "one grid of cases, whose loops share their data")]
fn whole_numbers_are_scored_exactly() {
    for kernel in Kernel::available() {
        let levels = i64::from(kernel.query_levels());
        for (seed, &dim) in DIMS.iter().enumerate() {
            for blocks in BLOCKS {
                let mut random = Random::new(seed as u64 * 1000 + blocks as u64);
                // Every third panel holds only the largest codes, for the largest sums.
                let extreme = blocks % 3 == 0;
                let rows = Rows::new(blocks, dim, || match random.next() {
                    r if extreme => [127, -127][(r % 2 * r / 7 % 2) as usize],
                    r => (r % 255) as i8,
                });
                let panel = Panel::new(&rows.stored, &rows.scales, &rows.errors, groups(dim), 32);
                for count in QUERIES {
                    let plain: Vec<(Vec<i8>, f32, f32)> = (0..count)
                        .map(|q| {
                            let mut code = || match random.next() {
                                r if extreme && q % 2 == 0 => levels * [1, -1][(r % 2) as usize],
                                _ if extreme => levels,
                                r => (r % (2 * levels as u64 + 1)) as i64 - levels,
                            };
                            let mut codes: Vec<i8> = (0..dim).map(|_| code() as i8).collect();
                            codes.resize(groups(dim) * 4, 0);
                            (codes, [1.0, 0.5][q % 2], [1.0, 2.0][q % 2])
                        })
                        .collect();
                    let queries: Vec<QueryCodes> = plain
                        .iter()
                        .map(|(codes, scale, slope)| QueryCodes::new(codes.clone(), *scale, *slope))
                        .collect();
                    let bound = |q: usize, row: usize| {
                        let (codes, scale, slope) = &plain[q];
                        let products = codes.iter().zip(&rows.codes[row]);
                        let sum: i32 = products.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                        sum as f32 * scale * rows.scales[row] + slope * rows.errors[row]
                    };
                    // A limit equal to one of the query's bounds, one below all bounds, or one above all.
                    let limit = |q: usize| match q % 4 {
                        0 => f32::NEG_INFINITY,
                        3 => f32::INFINITY,
                        _ => bound(q, q % (blocks * BLOCK_ROWS)),
                    };
                    let mut block = QueryBlock::new(kernel, groups(dim), &queries.iter().collect::<Vec<_>>());
                    assert_eq!(block.len(), count);
                    for q in 0..count {
                        block.set_limit(q, limit(q));
                    }
                    let expected: Vec<Survivor> = (0..count)
                        .flat_map(|q| (0..blocks * BLOCK_ROWS).map(move |row| (q, row)))
                        .map(|(q, row)| Survivor { query: q as u32, row: row as u32 + 32, bound: bound(q, row) })
                        .filter(|s| s.bound > limit(s.query as usize))
                        .collect();
                    let mut found = Survivors::default();
                    kernel.scan(&block, &panel, &mut found);
                    assert_eq!(found.above_window, vec![0; count]);
                    let mut found = found.rows;
                    let case = format!("{} dim {dim} blocks {blocks} queries {count}", kernel.name());
                    // Survivors of one query are in order of rows; those of a tile's queries are interleaved.
                    let in_order = |q: u32| found.iter().filter(move |s| s.query == q).map(|s| s.row);
                    assert!((0..count as u32).all(|q| in_order(q).is_sorted()), "{case}");
                    found.sort_by_key(|s| (s.query, s.row));
                    assert_eq!(found, expected, "{case}");
                    // The same, block by block and query by query.
                    let mut alone = Vec::new();
                    for (q, query) in queries.iter().enumerate() {
                        for at in 0..blocks {
                            let bytes = groups(dim) * GROUP_BYTES;
                            let lanes = at * BLOCK_ROWS..(at + 1) * BLOCK_ROWS;
                            let codes = &rows.stored[at * bytes..(at + 1) * bytes];
                            let (scales, errors) = (&rows.scales[lanes.clone()], &rows.errors[lanes]);
                            let panel = Panel::new(codes, scales, errors, groups(dim), 0);
                            let mut bounds = [0.0; BLOCK_ROWS];
                            let above = kernel.score_block(query, limit(q), &panel, &mut bounds);
                            let survivor = |lane: usize| Survivor {
                                query: q as u32,
                                row: (at * BLOCK_ROWS + lane) as u32 + 32,
                                bound: bounds[lane],
                            };
                            alone.extend((0..BLOCK_ROWS).filter(|lane| above >> lane & 1 == 1).map(survivor));
                        }
                    }
                    assert_eq!(alone, expected, "{case}");
                }
            }
        }
    }
}

/// With a window, a row survives if its upper bound is above `always`, or if its upper bound is above `limit` and its
/// lower bound is below `below`.
#[test]
fn windows_hold() {
    let dim = 33;
    for kernel in Kernel::available() {
        for blocks in BLOCKS {
            let mut random = Random::new(blocks as u64);
            let rows = Rows::new(blocks, dim, || (random.next() % 31) as i8 - 15);
            let panel = Panel::new(&rows.stored, &rows.scales, &rows.errors, groups(dim), 0);
            let mut codes: Vec<i8> = (0..dim).map(|_| (random.next() % 31) as i8 - 15).collect();
            codes.resize(groups(dim) * 4, 0);
            let query = QueryCodes::new(codes, 1.0, 2.0);
            let survivors = |window: Option<(f32, f32, f32)>| {
                let mut block = QueryBlock::new(kernel, groups(dim), &[&query; 7]);
                let (limit, always, below) = window.unwrap_or((f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY));
                (0..7).for_each(|q| block.set_window(q, limit, always, below));
                let mut found = Survivors::default();
                kernel.scan(&block, &panel, &mut found);
                found.rows.sort_by_key(|s| (s.query, s.row));
                (found.rows, found.above_window)
            };
            let (all, above_window) = survivors(None);
            assert_eq!(above_window, [0; 7]);
            assert_eq!(all.len(), 7 * blocks * BLOCK_ROWS);
            let mut bounds: Vec<f32> = all.iter().map(|s| s.bound).collect();
            bounds.sort_by(f32::total_cmp);
            let (limit, always) = (bounds[bounds.len() / 4], bounds[bounds.len() / 4 * 3]);
            let below = bounds[bounds.len() / 2];
            let wanted = |s: &&Survivor| {
                let lower = s.bound - 2.0 * 2.0 * rows.errors[s.row as usize];
                s.bound > always || s.bound > limit && lower < below
            };
            let expected: Vec<Survivor> = all.iter().filter(wanted).copied().collect();
            let passed = all.iter().filter(|s| s.bound > limit).count();
            let above_window = ((passed - expected.len()) / 7) as u32;
            let found = survivors(Some((limit, always, below)));
            assert_eq!(found, (expected.clone(), vec![above_window; 7]), "{}", kernel.name());
            assert!(!expected.is_empty() && expected.len() < all.len());
        }
    }
}

/// The largest sums that 32 bits must hold, at the maximum width.
#[test]
fn the_largest_sums_fit() {
    let dim = relkt_core::kernel::MAX_DIM;
    let rows = Rows::new(1, dim, || 127);
    for kernel in Kernel::available() {
        let panel = Panel::new(&rows.stored, &rows.scales, &rows.errors, groups(dim), 0);
        for sign in [1, -1] {
            let code = sign * kernel.query_levels();
            let query = QueryCodes::new(vec![code; dim], 1.0, 1.0);
            let mut block = QueryBlock::new(kernel, groups(dim), &[&query]);
            block.set_limit(0, f32::NEG_INFINITY);
            let mut found = Survivors::default();
            kernel.scan(&block, &panel, &mut found);
            let expected = (127 * i64::from(code) * dim as i64) as f32;
            let error = (found.rows[0].bound - expected).abs();
            assert!(
                error <= expected.abs() * 2f32.powi(-22),
                "{}: {} for {expected}",
                kernel.name(),
                found.rows[0].bound
            );
        }
    }
}

#[test]
fn padding_never_survives() {
    for kernel in Kernel::available() {
        let panel = Panel::new(&[128; 2 * GROUP_BYTES], &[0.0; 16], &[f32::NEG_INFINITY; 16], 2, 0);
        let query = QueryCodes::new(vec![1; 8], 1.0, 1.0);
        let mut block = QueryBlock::new(kernel, 2, &[&query]);
        block.set_limit(0, f32::NEG_INFINITY);
        let mut found = Survivors::default();
        kernel.scan(&block, &panel, &mut found);
        assert_eq!(found.rows, [], "{}", kernel.name());
    }
}

#[test]
#[should_panic(expected = "a panel holds four codes of each row and group")]
fn a_panel_whose_size_overflows_is_refused() {
    let _ = Panel::new(&[], &[1.0; 16], &[1.0; 16], 1 << 62, 0);
}

#[test]
#[should_panic(expected = "queries and rows of the same number of columns")]
fn queries_of_another_width_are_refused() {
    let kernel = Kernel::detect();
    let block = QueryBlock::new(kernel, 2, &[&QueryCodes::new(vec![1; 8], 1.0, 1.0)]);
    kernel.scan(&block, &Panel::new(&[128; 4 * GROUP_BYTES], &[0.0; 16], &[0.0; 16], 4, 0), &mut Survivors::default());
}

/// |values / norm - scale * codes| <= error, by a plain loop.
#[test]
fn the_error_of_codes_holds() {
    let mut cases: Vec<Vec<f32>> = Vec::new();
    for dim in DIMS {
        let mut random = Random::new(dim as u64);
        cases.push(random.reals(dim));
        cases.push(random.reals(dim).iter().map(|v| v * 1e30).collect());
        cases.push(random.reals(dim).iter().map(|v| v * 1e-42 + 1e-44).collect());
        cases.push((0..dim).map(|i| if i == dim / 2 { 1e4 } else { random.real() }).collect());
        cases.push(vec![f32::MAX; dim]);
        cases.push(vec![f32::from_bits(1); dim]);
        cases.push(random.small_rows(1, dim));
    }
    for kernel in Kernel::available() {
        for values in &cases {
            let norm = kernel.dot_f64(Row::F32(values), Row::F32(values)).sqrt();
            for levels in [127, kernel.query_levels()] {
                let mut codes = vec![0; values.len()];
                let (scale, error) = kernel.quantize(Row::F32(values), norm, levels, &mut codes);
                assert!(codes.iter().all(|code| (-levels..=levels).contains(code)));
                assert!(codes.iter().any(|code| code.abs() == levels));
                let left = values.iter().zip(&codes);
                let left = left.map(|(&v, &c)| f64::from(v) / norm - f64::from(scale) * f64::from(c));
                let left = left.map(|difference| difference * difference).sum::<f64>().sqrt();
                assert!(left <= f64::from(error), "{}: {left} > {error} for {values:?}", kernel.name());
                assert!(f64::from(error) <= left * 1.000_001 + 3e-7, "{}: {error} for {left}", kernel.name());
                assert!(error < 1.000_001);
            }
        }
    }
}

#[test]
fn products_are_within_their_bound() {
    for kernel in Kernel::available() {
        for dim in [1, 3, 15, 16, 17, 100, 384] {
            for (rows, columns) in [(1, 1), (2, 3), (4, 4), (5, 9), (13, 2)] {
                let mut random = Random::new((dim * 31 + rows) as u64);
                let (a, b) = (random.reals(rows * dim), random.reals(columns * dim));
                let mut out = vec![f32::NAN; rows * columns];
                kernel.products(&a, &b, dim, &mut out);
                for (i, a) in a.chunks_exact(dim).enumerate() {
                    for (j, b) in b.chunks_exact(dim).enumerate() {
                        let terms = || a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y));
                        let bound = (dim as f64 / 4.0 + 24.0) * 0.5f64.powi(24) * terms().map(f64::abs).sum::<f64>();
                        let error = (f64::from(out[i * columns + j]) - terms().sum::<f64>()).abs();
                        assert!(error <= bound, "{} dim {dim}: off by {error}", kernel.name());
                    }
                }
            }
        }
    }
}

#[test]
fn double_precision_dot_is_the_same_for_every_kernel() {
    let plain = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    for dim in 0..1100 {
        let mut random = Random::new(dim as u64);
        let (a, b) = (random.reals(dim), random.reals(dim));
        let halves: Vec<F16> = b.iter().map(|&x| half(x)).collect();
        let widened: Vec<f32> = halves.iter().map(|&h| value_of(h)).collect();
        let scalar = Kernel::by_name("scalar").expect("always there");
        let expected = scalar.dot_f64(Row::F32(&a), Row::F32(&b));
        let expected_half = scalar.dot_f64(Row::F32(&a), Row::F32(&widened));
        assert!((expected - plain(&a, &b)).abs() <= 1e-15 * dim as f64, "dim {dim}");
        for kernel in Kernel::available() {
            let case = format!("{} dim {dim}", kernel.name());
            assert_eq!(kernel.dot_f64(Row::F32(&a), Row::F32(&b)).to_bits(), expected.to_bits(), "{case}");
            for (x, y) in [(Row::F32(&a), Row::F16(&halves)), (Row::F16(&halves), Row::F32(&a))] {
                assert_eq!(kernel.dot_f64(x, y).to_bits(), expected_half.to_bits(), "{case}");
            }
        }
    }
}

/// Every finite float16, subnormal ones included.
#[test]
fn every_half_has_its_value() {
    let halves: Vec<F16> = (0..=u16::MAX).map(F16).filter(|h| h.0 & 0x7c00 != 0x7c00).collect();
    for kernel in Kernel::available() {
        for &h in &halves {
            let got = kernel.dot_f64(Row::F32(&[1.0]), Row::F16(&[h]));
            assert_eq!(got, f64::from(value_of(h)), "{} {:#x}", kernel.name(), h.0);
        }
    }
    // The tests' rounding to float16 is the inverse of its value.
    assert!(halves.iter().all(|&h| half(value_of(h)) == h));
}

/// Nonzero rows look like zeros if subnormal values are flushed to zero. Such a row must not be lost.
#[test]
fn values_that_look_like_zeros_get_the_largest_error() {
    for kernel in Kernel::available() {
        let mut codes = [7i8; 20];
        let (scale, error) = kernel.quantize(Row::F32(&[0.0; 20]), 1.0, kernel.query_levels(), &mut codes);
        assert_eq!((scale, codes), (0.0, [0; 20]), "{}", kernel.name());
        assert!((1.0..1.001).contains(&error), "{error}");
    }
}
