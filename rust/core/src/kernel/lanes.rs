//! The kernels, written once over a small trait of vector operations; the ISA modules only instantiate them.
//!
//! Two shapes:
//! - *packed*: many queries stand side by side on the lanes, and each value of a passage is broadcast to them. One pass
//!   over the columns leaves `QV * N` queries by `R` rows of scores in registers.
//! - *direct*: few queries, as they are; lanes run along the columns, and the sums of `N` (query, row) pairs are folded
//!   into one vector at the end.
//!
//! Both multiply finished scores by the rows' inverse norms, compare them with the queries' thresholds while they are
//! still in a register, and store only survivors.

use super::{Panel, Survivor};

/// One instruction set's vector of float32.
///
/// # Safety
/// Every method requires that the processor has the instruction set; `load` reads `N` values at the pointer,
/// `load_partial` the first `len < N` of them, with zeros for the rest, and `store` writes `N`.
pub(super) unsafe trait Lanes: Copy {
    /// Values in a vector, at most 16.
    const N: usize;
    /// The vector.
    type V: Copy;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(at: *const f32) -> Self::V;
    unsafe fn load_partial(at: *const f32, len: usize) -> Self::V;
    unsafe fn store(v: Self::V, at: *mut f32);
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Bit i is set where `a[i] > b[i]`.
    unsafe fn greater(a: Self::V, b: Self::V) -> u32;
    /// Asks for the cache line at an address, which need not be valid.
    unsafe fn prefetch(at: *const f32);
    /// Lane i is the sum of the lanes of `vectors[i]`, for `N` vectors.
    unsafe fn sums(vectors: &[Self::V]) -> Self::V;
}

/// How many rows ahead of those being scored the memory is asked for: rows are too short, and too many are read at once,
/// for the processor to see it coming.
const PREFETCH_ROWS: usize = 16;

/// Values in a cache line.
const LINE: usize = 16;

/// A vector in memory; the first `N` values count.
type Spilled = [f32; 16];

/// Scores a panel against one packed block of `QV * L::N` queries, `R` rows and `C` columns at a time. Columns have sums
/// of their own, so that narrow blocks, too, have work for all registers without keeping many rows in the cache at once.
///
/// # Safety
/// The processor has the instruction set of `L`; `packed` holds `dim * QV * L::N` values, `thresholds` `QV * L::N`, and
/// the panel is consistent (`Panel::new`).
#[inline(always)]
pub(super) unsafe fn packed<L: Lanes, const QV: usize, const R: usize, const C: usize>(
    packed: &[f32],
    panel: &Panel<'_>,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    let whole = panel.rows() / R * R;
    for row in (0..whole).step_by(R) {
        // SAFETY: the caller's promises; rows row..row + R lie in the panel.
        unsafe { packed_tile::<L, QV, R, C>(packed, panel, row, thresholds, survivors) };
    }
    for row in whole..panel.rows() {
        // SAFETY: as above, one row.
        unsafe { packed_tile::<L, QV, 1, C>(packed, panel, row, thresholds, survivors) };
    }
}

#[inline(always)]
unsafe fn packed_tile<L: Lanes, const QV: usize, const R: usize, const C: usize>(
    packed: &[f32],
    panel: &Panel<'_>,
    row: usize,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    let dim = panel.dim;
    let whole = dim / C * C;
    // SAFETY: row + R <= panel.rows(), so every pointer below stays inside the panel's dim values per row, the packed
    // block's dim * QV * N values, and the QV * N thresholds, as the caller promises.
    unsafe {
        let mut sums = [[[L::splat(0.0); QV]; R]; C];
        let rows = panel.values.as_ptr().add(row * dim);
        let queries = packed.as_ptr();
        for column in (0..whole).step_by(C) {
            // While these R rows are scored, the next R are fetched, evenly: R * C values at every step.
            for line in 0..(R * C).div_ceil(LINE) {
                L::prefetch(rows.wrapping_add(R * dim + R * column + line * LINE));
            }
            for (c, sums) in sums.iter_mut().enumerate() {
                add_column::<L, QV, R>(sums, queries, rows, dim, column + c);
            }
        }
        let mut scores = sums[0];
        for column in whole..dim {
            add_column::<L, QV, R>(&mut scores, queries, rows, dim, column);
        }
        for sums in &sums[1..] {
            for (scores, sums) in scores.iter_mut().zip(sums) {
                for (score, &sum) in scores.iter_mut().zip(sums) {
                    *score = L::add(*score, sum);
                }
            }
        }
        for (r, scores) in scores.iter().enumerate() {
            let inverse_norm = L::splat(panel.inverse_norms[row + r]);
            for (v, &score) in scores.iter().enumerate() {
                let threshold = L::load(thresholds.as_ptr().add(v * L::N));
                keep::<L>(L::mul(score, inverse_norm), threshold, survivors, |lane| (v * L::N + lane, row + r), panel);
            }
        }
    }
}

/// Adds one column's products to the sums of `QV * N` queries and `R` rows.
///
/// # Safety
/// As for [`packed_tile`]; `column < dim`.
#[inline(always)]
unsafe fn add_column<L: Lanes, const QV: usize, const R: usize>(
    sums: &mut [[L::V; QV]; R],
    queries: *const f32,
    rows: *const f32,
    dim: usize,
    column: usize,
) {
    // SAFETY: column < dim, R rows and QV * N queries exist, as the caller promises.
    unsafe {
        let q: [L::V; QV] = std::array::from_fn(|v| L::load(queries.add((column * QV + v) * L::N)));
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = L::splat(*rows.add(r * dim + column));
            for (sum, q) in sums.iter_mut().zip(q) {
                *sum = L::mul_add(q, x, *sum);
            }
        }
    }
}

/// Appends the lanes of `score` above `threshold`; `pair` names a lane's query and row of the panel.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[inline(always)]
unsafe fn keep<L: Lanes>(
    score: L::V,
    threshold: L::V,
    survivors: &mut Vec<Survivor>,
    pair: impl Fn(usize) -> (usize, usize),
    panel: &Panel<'_>,
) {
    // SAFETY: as the caller promises; `spilled` holds N values.
    let (mut above, spilled) = unsafe {
        let above = L::greater(score, threshold);
        if above == 0 {
            return;
        }
        let mut spilled: Spilled = [0.0; 16];
        L::store(score, spilled.as_mut_ptr());
        (above, spilled)
    };
    while above != 0 {
        let lane = above.trailing_zeros() as usize;
        above &= above - 1;
        let (query, row) = pair(lane);
        survivors.push(Survivor { query: query as u32, row: panel.first_row + row as u32, score: spilled[lane] });
    }
}

/// The most queries that are scored directly.
pub(super) const DIRECT_MAX: usize = 4;

/// Scores a panel against a few queries that lie one after the other in `queries`: one, or a multiple of `Q`.
///
/// # Safety
/// The processor has the instruction set of `L`, of which `N == Q * R`; `queries` holds `thresholds.len() * dim` values,
/// at most [`DIRECT_MAX`] queries; and the panel is consistent (`Panel::new`).
#[inline(always)]
pub(super) unsafe fn direct<L: Lanes, const Q: usize, const R: usize>(
    queries: &[f32],
    panel: &Panel<'_>,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    // SAFETY: the caller's promises.
    unsafe {
        if thresholds.len() == 1 {
            direct_groups::<L, 1, R>(queries, panel, thresholds, survivors);
        } else {
            direct_groups::<L, Q, R>(queries, panel, thresholds, survivors);
        }
    }
}

/// Groups of `Q` queries by `N / Q` rows, whose sums fill a vector.
#[inline(always)]
unsafe fn direct_groups<L: Lanes, const Q: usize, const R: usize>(
    queries: &[f32],
    panel: &Panel<'_>,
    thresholds: &[f32],
    survivors: &mut Vec<Survivor>,
) {
    let step = L::N / Q;
    let whole = panel.rows() / step * step;
    // Lane q * step + r of a group belongs to query q and row r.
    let mut limits = [0.0f32; DIRECT_MAX * 16];
    for (limits, &threshold) in limits.chunks_exact_mut(step).zip(thresholds) {
        limits.fill(threshold);
    }
    for row in (0..whole).step_by(step) {
        let mut inverse_norms: Spilled = [0.0; 16];
        for lanes in inverse_norms[..L::N].chunks_exact_mut(step) {
            lanes.copy_from_slice(&panel.inverse_norms[row..row + step]);
        }
        for query in (0..thresholds.len()).step_by(Q) {
            // SAFETY: the caller's promises; Q queries from `query` and `step` rows from `row` exist, a multiple of R;
            // `limits` holds N values for every group of at most DIRECT_MAX / Q.
            unsafe {
                let at = queries.as_ptr().add(query * panel.dim);
                let mut sums = [L::splat(0.0); 16];
                for r in (0..step).step_by(R) {
                    // Only the first group waits for memory; the others find the rows in the cache.
                    let dots = if query == 0 {
                        dots::<L, Q, R, true>(at, panel, row + r)
                    } else {
                        dots::<L, Q, R, false>(at, panel, row + r)
                    };
                    for (q, dots) in dots.iter().enumerate() {
                        sums[q * step + r..q * step + r + R].copy_from_slice(dots);
                    }
                }
                let score = L::mul(L::sums(&sums[..L::N]), L::load(inverse_norms.as_ptr()));
                let limit = L::load(limits.as_ptr().add(query * step));
                keep::<L>(score, limit, survivors, |lane| (query + lane / step, row + lane % step), panel);
            }
        }
    }
    for row in whole..panel.rows() {
        for (query, &threshold) in thresholds.iter().enumerate() {
            // SAFETY: the caller's promises: this query and this row exist.
            unsafe {
                let [[dot]] = dots::<L, 1, 1, false>(queries.as_ptr().add(query * panel.dim), panel, row);
                let mut sums = [L::splat(0.0); 16];
                sums[0] = dot;
                let mut limits: Spilled = [f32::INFINITY; 16];
                limits[0] = threshold;
                let score = L::mul(L::sums(&sums[..L::N]), L::splat(panel.inverse_norms[row]));
                keep::<L>(score, L::load(limits.as_ptr()), survivors, |_| (query, row), panel);
            }
        }
    }
}

/// Lane-wise partial dot products of `Q` queries with `R` rows.
#[inline(always)]
unsafe fn dots<L: Lanes, const Q: usize, const R: usize, const FIRST: bool>(
    queries: *const f32,
    panel: &Panel<'_>,
    row: usize,
) -> [[L::V; R]; Q] {
    let dim = panel.dim;
    let whole = dim / L::N * L::N;
    // SAFETY: Q queries and R rows of dim values exist, as the caller promises; the partial loads end where a row ends.
    unsafe {
        let rows = panel.values.as_ptr().add(row * dim);
        let mut sums = [[L::splat(0.0); R]; Q];
        for column in (0..whole).step_by(L::N) {
            let x: [L::V; R] = std::array::from_fn(|r| {
                if FIRST {
                    L::prefetch(rows.wrapping_add((r + PREFETCH_ROWS) * dim + column));
                }
                L::load(rows.add(r * dim + column))
            });
            for (q, sums) in sums.iter_mut().enumerate() {
                let y = L::load(queries.add(q * dim + column));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = L::mul_add(y, x, *sum);
                }
            }
        }
        if whole < dim {
            let len = dim - whole;
            let x: [L::V; R] = std::array::from_fn(|r| L::load_partial(rows.add(r * dim + whole), len));
            for (q, sums) in sums.iter_mut().enumerate() {
                let y = L::load_partial(queries.add(q * dim + whole), len);
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = L::mul_add(y, x, *sum);
                }
            }
        }
        sums
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
