//! The kernels, written once over a small trait of vector operations; the ISA modules only instantiate them.
//!
//! Two shapes:
//! - *packed*: many queries stand side by side on the lanes, and each value of a passage is broadcast to them. One pass
//!   over the columns leaves `QV * N` queries by `R` rows of scores in registers.
//! - *direct*: few queries, as they are; lanes run along the columns and are summed at the end.
//!
//! Both multiply a finished score by the row's inverse norm, compare it with the query's threshold while it is still in
//! a register, and store only survivors.

use super::{Panel, Survivor};

/// One instruction set's vector of float32.
///
/// # Safety
/// Every method requires that the processor has the instruction set; `load` reads `N` values at the pointer,
/// `load_partial` the first `len < N` of them and zeros for the rest.
pub(super) unsafe trait Lanes: Copy {
    /// Values in a vector.
    const N: usize;
    /// The vector.
    type V: Copy;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(at: *const f32) -> Self::V;
    unsafe fn load_partial(at: *const f32, len: usize) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Bit i is set where `a[i] > b[i]`.
    unsafe fn greater(a: Self::V, b: Self::V) -> u32;
    unsafe fn store(v: Self::V, at: *mut f32);
    unsafe fn sum(v: Self::V) -> f32;
}

/// Scores a panel against one packed block of `QV * L::N` queries.
///
/// # Safety
/// The processor has the instruction set of `L`; `packed` holds `dim * QV * L::N` values, `thresholds` `QV * L::N`, and
/// the panel is consistent (`Panel::new`).
#[inline(always)]
pub(super) unsafe fn packed<L: Lanes, const QV: usize, const R: usize>(
    packed: &[f32],
    panel: &Panel<'_>,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    let whole = panel.rows() / R * R;
    let mut row = 0;
    while row < whole {
        // SAFETY: the caller's promises; rows row..row + R lie in the panel.
        unsafe { tile::<L, QV, R>(packed, panel, row, thresholds, survivors) };
        row += R;
    }
    while row < panel.rows() {
        // SAFETY: as above, one row.
        unsafe { tile::<L, QV, 1>(packed, panel, row, thresholds, survivors) };
        row += 1;
    }
}

#[inline(always)]
unsafe fn tile<L: Lanes, const QV: usize, const R: usize>(
    packed: &[f32],
    panel: &Panel<'_>,
    row: usize,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    let dim = panel.dim;
    // SAFETY: row + R <= panel.rows(), so every pointer below stays inside the panel's dim values per row, the packed
    // block's dim * QV * N values, and the QV * N thresholds, as the caller promises.
    unsafe {
        let mut scores = [[L::splat(0.0); QV]; R];
        let rows = panel.values.as_ptr().add(row * dim);
        let mut queries = packed.as_ptr();
        for column in 0..dim {
            let mut q = [L::splat(0.0); QV];
            for (v, q) in q.iter_mut().enumerate() {
                *q = L::load(queries.add(v * L::N));
            }
            queries = queries.add(QV * L::N);
            for (r, scores) in scores.iter_mut().enumerate() {
                let x = L::splat(*rows.add(r * dim + column));
                for (score, q) in scores.iter_mut().zip(q) {
                    *score = L::mul_add(q, x, *score);
                }
            }
        }
        for (r, scores) in scores.iter().enumerate() {
            let inverse_norm = L::splat(panel.inverse_norms[row + r]);
            for (v, &score) in scores.iter().enumerate() {
                let score = L::mul(score, inverse_norm);
                let mut above = L::greater(score, L::load(thresholds.as_ptr().add(v * L::N)));
                if above != 0 {
                    let mut spilled = [0.0f32; 16];
                    L::store(score, spilled.as_mut_ptr());
                    while above != 0 {
                        let lane = above.trailing_zeros() as usize;
                        above &= above - 1;
                        survivors.push(Survivor {
                            query: (v * L::N + lane) as u32,
                            row: panel.first_row + (row + r) as u32,
                            score: spilled[lane],
                        });
                    }
                }
            }
        }
    }
}

/// Scores a panel against a few queries that lie one after the other in `queries`.
///
/// # Safety
/// The processor has the instruction set of `L`; `queries` holds `thresholds.len() * dim` values, and the panel is
/// consistent (`Panel::new`).
#[inline(always)]
pub(super) unsafe fn direct<L: Lanes, const Q: usize, const R: usize>(
    queries: &[f32],
    panel: &Panel<'_>,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    let whole_rows = panel.rows() / R * R;
    let whole_queries = thresholds.len() / Q * Q;
    let mut row = 0;
    while row < whole_rows {
        let mut query = 0;
        while query < whole_queries {
            // SAFETY: the caller's promises; Q queries from `query` and R rows from `row` exist.
            unsafe { dots::<L, Q, R>(queries, query, panel, row, thresholds, survivors) };
            query += Q;
        }
        while query < thresholds.len() {
            // SAFETY: as above, one query.
            unsafe { dots::<L, 1, R>(queries, query, panel, row, thresholds, survivors) };
            query += 1;
        }
        row += R;
    }
    while row < panel.rows() {
        for query in 0..thresholds.len() {
            // SAFETY: as above, one query and one row.
            unsafe { dots::<L, 1, 1>(queries, query, panel, row, thresholds, survivors) };
        }
        row += 1;
    }
}

#[inline(always)]
unsafe fn dots<L: Lanes, const Q: usize, const R: usize>(
    queries: &[f32],
    query: usize,
    panel: &Panel<'_>,
    row: usize,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    let dim = panel.dim;
    let whole = dim / L::N * L::N;
    // SAFETY: query + Q <= thresholds.len() and row + R <= panel.rows(), so every pointer stays inside `queries` and the
    // panel, as the caller promises; the partial loads read dim - whole values, which end where the row ends.
    unsafe {
        let a = queries.as_ptr().add(query * dim);
        let b = panel.values.as_ptr().add(row * dim);
        let mut sums = [[L::splat(0.0); R]; Q];
        let mut column = 0;
        while column < whole {
            let mut x = [L::splat(0.0); R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = L::load(b.add(r * dim + column));
            }
            for (q, sums) in sums.iter_mut().enumerate() {
                let y = L::load(a.add(q * dim + column));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = L::mul_add(y, x, *sum);
                }
            }
            column += L::N;
        }
        if whole < dim {
            for (q, sums) in sums.iter_mut().enumerate() {
                let y = L::load_partial(a.add(q * dim + whole), dim - whole);
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = L::mul_add(y, L::load_partial(b.add(r * dim + whole), dim - whole), *sum);
                }
            }
        }
        for (q, sums) in sums.iter().enumerate() {
            let threshold = thresholds[query + q];
            for (r, &sum) in sums.iter().enumerate() {
                let score = L::sum(sum) * panel.inverse_norms[row + r];
                if score > threshold {
                    survivors.push(Survivor {
                        query: (query + q) as u32,
                        row: panel.first_row + (row + r) as u32,
                        score,
                    });
                }
            }
        }
    }
}

/// Lanes of the double-precision dot product: part of its definition, so that every kernel adds in the same order.
const LANES_F64: usize = 16;

/// The dot product with exact products and double-precision sums in one fixed order: column c goes to sum c mod 16, in
/// order of the columns, and the sums are folded in halves. Plain code, compiled once for each instruction set; the
/// product of two float32 is exact in double precision, so fusing it with the addition changes nothing.
#[inline(always)]
pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES_F64];
    let (a_chunks, a_rest) = a.as_chunks::<LANES_F64>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES_F64>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(x) * f64::from(y);
        }
    }
    for ((sum, &x), &y) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += f64::from(x) * f64::from(y);
    }
    let mut width = LANES_F64 / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}
