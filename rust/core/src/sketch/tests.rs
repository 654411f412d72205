//! The bound of sketches against exact scores, and the decision to make one.

use proptest::prelude::*;

use super::basis::orthonormalize;
use super::*;
use crate::buffer::Buffer;
use crate::kernel::{Kernel, QueryBlock, Survivors};
use crate::matrix::{Values, cosine};

fn execution(kernel: Kernel) -> Execution {
    Execution::new(kernel, Some(1)).expect("threads")
}

fn matrix(values: &[f32], dim: usize, kernel: Kernel) -> Matrix {
    let rows = values.len() / dim;
    let values = Values::F32(Buffer::copy_of(values).expect("memory"));
    Matrix::new("rows", values, rows, dim, &execution(kernel)).expect("valid rows")
}

/// Seeded random numbers.
fn reals(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// For any directions, no score is above its bound: rows inside and outside their span, equal and opposite to the
    /// query, of any magnitude.
    #[test]
    fn the_bound_holds(
        seed in any::<u64>(), dim in 2usize..60, share in 0.0f64..1.0, magnitude in prop::sample::select(vec![1.0f32, 1e-38, 1e30]),
    ) {
        let width = ((dim as f64 * share) as usize).clamp(1, dim - 1);
        for kernel in Kernel::available() {
            let mut directions = reals(seed, width * dim);
            orthonormalize(&mut directions, dim, kernel);
            let width = directions.len() / dim;
            prop_assume!(width > 0);
            let query = reals(seed ^ 1, dim);
            let mut rows = reals(seed ^ 2, 20 * dim);
            rows.extend_from_slice(&query);
            rows.extend(query.iter().map(|v| -v));
            rows.extend_from_slice(&directions[..dim]);
            rows.extend(query.iter().enumerate().map(|(i, v)| v * (1.0 + 1e-4 * i as f32)));
            rows.iter_mut().for_each(|v| *v *= magnitude);
            let (p, q) = (matrix(&rows, dim, kernel), matrix(&query, dim, kernel));
            let values = Buffer::copy_of(&directions).expect("memory");
            let basis = Basis::new(values, width, dim, kernel).expect("orthonormal");
            let sketch = Sketch::with(basis, &p, &execution(kernel)).expect("memory");
            let coded = sketch.basis().encode_queries(&q, &[0], kernel).remove(0);
            let codes = sketch.codes();
            let mut block = QueryBlock::new(kernel, codes.groups(), &[&coded.codes]);
            block.set_limit(0, f32::NEG_INFINITY);
            let mut found = Survivors::default();
            kernel.scan(&block, &codes.panel(0..codes.blocks()), &mut found);
            prop_assert_eq!(found.rows.len(), p.rows());
            for survivor in found.rows {
                let score = cosine(kernel, &q, 0, &p, survivor.row as usize);
                let upper = f64::from(survivor.bound) + coded.slack;
                prop_assert!(f64::from(score) <= upper, "{}: {score} above {upper}", kernel.name());
                prop_assert!(survivor.bound > coded.limit(score));
            }
        }
    }
}

/// Clusters of rows that are far from each other.
fn clustered(rows: usize, dim: usize) -> Vec<f32> {
    let centres = reals(5, 250 * dim);
    let noise = reals(6, rows * dim);
    noise.iter().enumerate().map(|(i, v)| centres[(i / dim * 7) % 250 * dim + i % dim] + 0.3 * v).collect()
}

#[test]
fn only_clustered_data_gets_a_sketch() {
    let (dim, kernel) = (128, Kernel::detect());
    let sketch = |values: &[f32]| Sketch::of(&matrix(values, dim, kernel), &execution(kernel));
    let some = sketch(&clustered(MIN_ROWS, dim));
    assert_eq!(some.expect("memory").map(|sketch| sketch.width()), Some(32));
    let none = sketch(&reals(9, MIN_ROWS * dim));
    assert!(none.expect("memory").is_none());
    let few = sketch(&clustered(MIN_ROWS - 1, dim));
    assert!(few.expect("memory").is_none());
    // Some equal rows do not prevent a sketch. Rows that span one direction get none, without an error.
    let mut some_equal = clustered(MIN_ROWS, dim);
    let first = some_equal[..dim].to_vec();
    some_equal.chunks_exact_mut(dim).step_by(100).for_each(|row| row.copy_from_slice(&first));
    let some = sketch(&some_equal);
    assert!(some.expect("memory").is_some());
    let flat: Vec<f32> = (0..MIN_ROWS * dim).map(|i| if i % dim == 0 { 1.0 } else { 0.0 }).collect();
    assert!(sketch(&flat).expect("memory").is_none());
}

#[test]
fn directions_that_are_not_orthonormal_are_refused() {
    let kernel = Kernel::detect();
    let basis = |values: &[f32]| Basis::new(Buffer::copy_of(values).expect("memory"), 2, 2, kernel);
    assert!(basis(&[1.0, 0.0, 0.0, 1.0]).is_some());
    assert!(basis(&[1.0, 0.0, 0.1, 1.0]).is_none());
    assert!(basis(&[1.0, 0.0, 0.0, f32::NAN]).is_none());
    assert!(basis(&[1.0, 0.0, 0.0]).is_none());
}
