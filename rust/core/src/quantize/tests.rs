//! The bound against exact scores, and the choice of a frame.

use proptest::prelude::*;

use super::frame::Frame;
use super::*;
use crate::kernel::{Kernel, QueryBlock, Survivors};
use crate::matrix::{Values, cosine};

fn matrix(name: &'static str, values: &[f32], dim: usize, kernel: Kernel) -> Matrix {
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    let rows = values.len() / dim;
    let values = Values::F32(Buffer::copy_of(values).expect("memory"));
    Matrix::new(name, values, rows, dim, &execution).expect("valid rows")
}

/// Values with small or large coding errors, of any magnitude.
fn values(dim: usize) -> impl Strategy<Value = Vec<f32>> {
    let coordinate = prop_oneof![
        6 => -1.0f32..1.0,
        1 => Just(0.0f32),
        1 => prop::sample::select(vec![1.0f32, -1.0, 100.0, -3000.0, 1e-6, 127.0, 63.5, 0.5]),
    ];
    let magnitude = prop::sample::select(vec![1.0f32, 1e-40, 1e-20, 1e20, 1e34]);
    (prop::collection::vec(coordinate, dim), magnitude).prop_map(|(mut row, magnitude)| {
        row.iter_mut().for_each(|v| *v *= magnitude);
        if row.iter().all(|&v| v == 0.0) {
            row[0] = magnitude;
        }
        row
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// The score lies in the interval for every kernel. Some rows are equal or opposite to the query.
    #[test]
    fn the_bound_holds(
        (dim, rows, query) in (1usize..80).prop_flat_map(|dim| {
            (Just(dim), prop::collection::vec(values(dim), 1..30), values(dim))
        }),
    ) {
        let opposite = query.iter().map(|v| -v);
        let all: Vec<f32> = rows.iter().flatten().copied().chain(query.iter().copied()).chain(opposite).collect();
        for kernel in Kernel::available() {
            let (q, p) = (matrix("queries", &query, dim, kernel), matrix("passages", &all, dim, kernel));
            let execution = Execution::new(kernel, Some(1)).expect("threads");
            let mean: Vec<f32> = p.unit_row(0).iter().map(|v| 0.9 * v).collect();
            let zeros = vec![0.0; dim];
            for (mean, rotated) in [(&zeros, false), (&zeros, true), (&mean, false), (&mean, true)] {
            let rotation = Frame::new(mean, rotated).expect("a short mean");
            let codes = Codes::with(&p, rotation, &execution).expect("memory");
            let coded = encode_query(&q, 0, &codes, kernel);
            let mut block = QueryBlock::new(kernel, codes.groups(), &[&coded.codes]);
            block.set_limit(0, f32::NEG_INFINITY);
            let mut found = Survivors::default();
            kernel.scan(&block, &codes.panel(0..codes.blocks()), &mut found);
            prop_assert_eq!(found.rows.len(), p.rows());
            for survivor in found.rows {
                let row = survivor.row as usize;
                let score = cosine(kernel, &q, 0, &p, row);
                let (lower, upper) = coded.interval(survivor.bound, codes.error(row));
                prop_assert!(lower <= score && score <= upper, "{}: {lower} {score} {upper}", kernel.name());
                prop_assert!(survivor.bound > coded.limit(score));
            }
            }
        }
    }
}

#[test]
fn rows_with_a_large_coordinate_are_rotated_and_others_are_not() {
    let (dim, kernel) = (96, Kernel::detect());
    let mut state = 1u64;
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let plain: Vec<f32> = (0..200 * dim).map(|_| value()).collect();
    let large: Vec<f32> = plain.iter().enumerate().map(|(i, &v)| if i % dim == 3 { 40.0 * v } else { v }).collect();
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    let codes = |values: &[f32]| Codes::of(&matrix("passages", values, dim, kernel), &execution).expect("memory");
    assert!(!codes(&plain).is_rotated());
    assert!(codes(&large).is_rotated());
    // Without the rotation, this row's error would be ten times as large.
    assert!(codes(&large).error(0) < 0.03, "{}", codes(&large).error(0));
}

/// The interval is narrow on typical data. A larger error would only cost speed, so no other test would notice.
#[test]
fn the_bound_is_tight_enough_to_be_fast() {
    let (dim, kernel) = (384, Kernel::detect());
    let mut state = 1u64;
    let mut value = || {
        // The sum of twelve uniform numbers is close to normal.
        (0..12)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .sum::<f32>()
    };
    let all: Vec<f32> = (0..100 * dim).map(|_| value()).collect();
    let p = matrix("passages", &all, dim, kernel);
    let codes = Codes::of(&p, &Execution::new(kernel, Some(1)).expect("threads")).expect("memory");
    let mean = (0..100).map(|row| codes.error(row)).sum::<f32>() / 100.0;
    assert!(mean < 0.01, "codes miss {mean} of a row");
}
