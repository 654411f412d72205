//! Float32 dot products of many rows with many rows, for sketches.

use super::lanes::Lanes;

/// Sets `out[i * (rows of b) + j]` to the dot product of row i of `a` and row j of `b`, in tiles of `A` by `B`
/// products. Each product has `N` partial sums, each over every `N`-th column, which are added at the end.
///
/// # Safety
/// The processor has the instruction set of `L`; `a` and `b` are whole rows of `dim` values, and `out` has a place for
/// each product (`Kernel::products` checks).
#[inline(always)]
pub(super) unsafe fn products<L: Lanes, const A: usize, const B: usize>(
    a: &[f32],
    b: &[f32],
    dim: usize,
    out: &mut [f32],
) {
    let (rows, columns) = (a.len() / dim, b.len() / dim);
    let (whole_rows, whole_columns) = (rows / A * A, columns / B * B);
    // SAFETY: guaranteed by the caller; rows i.. and j.. exist.
    unsafe {
        for i in (0..whole_rows).step_by(A) {
            let (a, out) = (&a[i * dim..], &mut out[i * columns..]);
            for j in (0..whole_columns).step_by(B) {
                product_tile::<L, A, B>(a, &b[j * dim..], dim, &mut out[j..], columns);
            }
            for j in whole_columns..columns {
                product_tile::<L, A, 1>(a, &b[j * dim..], dim, &mut out[j..], columns);
            }
        }
        for i in whole_rows..rows {
            for j in 0..columns {
                product_tile::<L, 1, 1>(&a[i * dim..], &b[j * dim..], dim, &mut out[i * columns + j..], columns);
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set of `L`; `a` holds `A` rows, `b` holds `B`.
#[inline(always)]
unsafe fn product_tile<L: Lanes, const A: usize, const B: usize>(
    a: &[f32],
    b: &[f32],
    dim: usize,
    out: &mut [f32],
    columns: usize,
) {
    let whole = dim / L::N * L::N;
    let mut sums = [[[0.0f32; 16]; B]; A];
    // SAFETY: A and B rows of dim values exist, as the caller guarantees, and each sum has place for N values.
    unsafe {
        let mut vectors = [[L::splat(0.0); B]; A];
        let (x, y) = (a.as_ptr(), b.as_ptr());
        for column in (0..whole).step_by(L::N) {
            let y: [L::F; B] = std::array::from_fn(|j| L::load(y.add(j * dim + column)));
            for (i, vectors) in vectors.iter_mut().enumerate() {
                let x = L::load(x.add(i * dim + column));
                for (vector, y) in vectors.iter_mut().zip(y) {
                    *vector = L::mul_add(x, y, *vector);
                }
            }
        }
        for (sums, vectors) in sums.iter_mut().zip(vectors) {
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                L::store(vector, sum.as_mut_ptr());
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, sums) in sums.iter().enumerate() {
            let rest: f32 = (whole..dim).map(|column| a[i * dim + column] * b[j * dim + column]).sum();
            out[i * columns + j] = sums[..L::N].iter().sum::<f32>() + rest;
        }
    }
}
