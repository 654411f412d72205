//! Sketches: codes of the rows' projections on a few directions in which the data varies most, which rule out most rows
//! at a fraction of the cost of all codes, where data has such directions.
//!
//! # The bound
//! Let P be m directions (rows of a matrix) with P Pᵀ = I + E, ‖E‖ ≤ ε ≤ 1/2. With the polar decomposition
//! P = (I + E)^½ U, where U has orthonormal rows, write u = U x̂ for the part of a unit vector x̂ inside their span and
//! x⊥ for the rest. Then, for a row and a query,
//!
//! > q̂ · x̂ = u_q · uₓ + q⊥ · x⊥, and |q⊥ · x⊥| ≤ |q⊥| |x⊥| by Cauchy-Schwarz.
//!
//! What is stored is a code ŷ = s c of y, the projection P x̂ as computed. Since |P x̂ - u| ≤ ‖(I + E)^½ - I‖ ≤ ε,
//!
//! > |ŷ - u| ≤ |ŷ - y| + |y - P x̂| + ε =: a and |x⊥| = √(1 - |u|²) ≤ √(1 - (|y| - |y - P x̂| - ε)²) =: b,
//!
//! of which |ŷ - y| is measured (`kernel::codes`) and |y - P x̂| ≤ `rounding`. As in [`crate::quantize`],
//! u_q · uₓ ≤ ŷ_q · ŷₓ + aₓ + a_q (1 + aₓ), so that the cosine is at most
//!
//! > t s D + (1 + a_q) aₓ + b_q bₓ + a_q ≤ t s D + slope · (bₓ + aₓ / τ) + a_q, slope = max(b_q, τ (1 + a_q)),
//!
//! for any τ > 0, but for rounding: with τ = 1/4, slope · (bₓ + aₓ / τ) ≤ 10 and |t s D| ≤ 4.1, so that a kernel's bound is
//! off by less than 3 · 4.1 u + 10 u + 14.1 u, which `SLACK` covers. So a sketch has the form of [`crate::quantize`]'s
//! bound, with bₓ + aₓ / τ as the row's error, and the same kernels scan it. Nothing depends on the directions being good: that only decides how many rows are ruled out.

use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, Kernel, QueryCodes, ROW_LEVELS, Row, groups};
use crate::matrix::Matrix;
use crate::parallel::{self, Execution};
use crate::quantize::{CodedQuery, Codes, Frame, SLACK, put_codes};

/// τ: errors of codes count 1/τ times, tails of queries below τ as if they were τ.
const TAU: f64 = 0.25;
/// Fewer rows or columns than this are scanned so fast that a sketch does not pay.
const MIN_ROWS: usize = 16_384;
const MIN_DIM: usize = 128;
/// Rows that directions are found from, rows that a sketch is judged by, and how many of them play the queries.
const SAMPLE: usize = 3072;
const JUDGED: usize = 4096;
const JUDGES: usize = 48;
/// The rank, among all rows, of what a search typically knows of its results while it scans.
const WANTED: usize = 30;
/// Numbers of directions that are tried.
const WIDTHS: [usize; 6] = [32, 64, 96, 128, 192, 256];
/// Rounds of subspace iteration.
const ROUNDS: usize = 4;
/// What looking at all codes of a block costs for one query alone, in units of what it costs among many; and what a sketch
/// costs beyond its width. Measured; they decide only whether a sketch is made.
const REFINE_COST: f64 = 3.0;
const OVERHEAD: f64 = 0.1;
/// What codes miss, roughly.
const MARGIN: f32 = 0.02;
/// A sketch must promise to take less than this share of the time.
const WORTH: f64 = 0.8;
/// The same, of the directions after [`FEW_ROUNDS`]: if they promise less, better ones are not worth looking for.
const HOPELESS: f64 = 2.0;
const FEW_ROUNDS: usize = 1;

/// Directions and the codes of all rows' projections on them.
#[derive(Debug)]
pub struct Sketch {
    basis: Basis,
    codes: Codes,
}

impl Sketch {
    /// A sketch of a matrix's rows, if the data is such that it promises to save time.
    ///
    /// # Errors
    /// [`crate::Error::Memory`], [`crate::Error::Interrupted`], [`crate::Error::ThreadPool`].
    pub fn of(name: &'static str, matrix: &Matrix, kernel: Kernel, execution: &Execution) -> Result<Option<Self>> {
        if matrix.rows() < MIN_ROWS {
            return Ok(None);
        }
        match Basis::of(matrix, kernel, execution)? {
            Some(basis) => Self::with(name, basis, matrix, kernel, execution).map(Some),
            None => Ok(None),
        }
    }

    /// Sketches rows on given directions.
    pub(crate) fn with(
        name: &'static str,
        basis: Basis,
        matrix: &Matrix,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<Self> {
        let codes = Codes::new(basis.width, Frame::default());
        let mut sketch = Self { basis, codes };
        sketch.extend(name, matrix, kernel, execution)?;
        Ok(sketch)
    }

    /// What was computed when it was written.
    pub(crate) fn trusted(basis: Basis, codes: Codes) -> Self {
        Self { basis, codes }
    }

    /// Sketches the rows of `matrix` that have no sketch yet. On an error nothing has changed.
    pub(crate) fn extend(
        &mut self,
        name: &'static str,
        matrix: &Matrix,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<()> {
        let basis = &self.basis;
        self.codes.extend_with(name, matrix.rows(), execution, |first_row, codes, scales, errors| {
            basis.encode(matrix, first_row, kernel, codes, scales, errors);
        })
    }

    /// The codes of the projections.
    pub(crate) fn codes(&self) -> &Codes {
        &self.codes
    }

    pub(crate) fn basis(&self) -> &Basis {
        &self.basis
    }

    /// Number of directions.
    #[must_use]
    pub fn width(&self) -> usize {
        self.basis.width
    }

    /// Bytes of directions and codes.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.basis.values.nbytes() + self.codes.nbytes()
    }

    pub(crate) fn duplicate(&self, name: &'static str) -> Result<Self> {
        Ok(Self { basis: self.basis.duplicate(name)?, codes: self.codes.duplicate(name)? })
    }
}

/// Directions, as unit vectors that are orthogonal but for rounding.
#[derive(Debug)]
pub(crate) struct Basis {
    width: usize,
    dim: usize,
    values: Buffer<f32>,
    /// ε + the bound of |y - P x̂|: how far y is from u at most.
    slack: f64,
}

impl Basis {
    /// Directions as they were written; none if they are not nearly orthonormal.
    pub(crate) fn new(values: Buffer<f32>, width: usize, dim: usize, kernel: Kernel) -> Option<Self> {
        if width == 0 || dim == 0 || values.len() != width * dim || values.as_slice().iter().any(|v| !v.is_finite()) {
            return None;
        }
        let row = |i: usize| Row::Single(&values.as_slice()[i * dim..(i + 1) * dim]);
        // The Frobenius norm of P Pᵀ - I is at least its spectral norm.
        let mut squares = 0.0;
        for i in 0..width {
            squares += (kernel.dot_f64(row(i), row(i)) - 1.0).powi(2);
            squares += 2.0 * (0..i).map(|j| kernel.dot_f64(row(i), row(j)).powi(2)).sum::<f64>();
        }
        let epsilon = squares.sqrt() + 1e-9;
        (epsilon <= 1e-3).then(|| Self { width, dim, values, slack: epsilon + rounding(width, dim) })
    }

    /// The directions in which rows vary most, as many as pay.
    pub(crate) fn of(matrix: &Matrix, kernel: Kernel, execution: &Execution) -> Result<Option<Self>> {
        let dim = matrix.dim();
        let Some(&most) = WIDTHS.iter().rfind(|&&width| width <= dim / 2) else { return Ok(None) };
        if dim < MIN_DIM || matrix.rows() < 2 * most {
            return Ok(None);
        }
        let sample = |most: usize| -> Vec<f32> {
            let count = matrix.rows().min(most);
            matrix.unit_rows((0..count).map(|i| i * matrix.rows() / count))
        };
        let judged = sample(JUDGED);
        // The best of the sample that correspond to the best of all rows, and one at least.
        let wanted = (WANTED * (judged.len() / dim)).div_ceil(matrix.rows());
        let judgement = Judgement::new(&judged, dim, wanted, kernel);
        let promising =
            |basis: &[f32]| judgement.costs(basis, &[basis.len() / dim]).iter().all(|&(cost, _)| cost < HOPELESS);
        let Some(values) = principal_directions(&sample(SAMPLE), dim, most, promising, kernel, execution)? else {
            return Ok(None);
        };
        execution.check()?;
        let widths: Vec<usize> = WIDTHS.into_iter().filter(|&width| width * dim <= values.len()).collect();
        let best = judgement.costs(&values, &widths).into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, width)) = best.filter(|&(cost, _)| cost < WORTH) else { return Ok(None) };
        Ok(Self::new(Buffer::copy_of("sketch", &values[..width * dim])?, width, dim, kernel))
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    pub(crate) fn duplicate(&self, name: &'static str) -> Result<Self> {
        Ok(Self { values: self.values.duplicate(name)?, ..*self })
    }

    /// Codes the projections of the rows from `first_row` on, into whole blocks.
    fn encode(
        &self,
        matrix: &Matrix,
        first_row: usize,
        kernel: Kernel,
        codes: &mut [u8],
        scales: &mut [f32],
        errors: &mut [f32],
    ) {
        let rows = first_row..matrix.rows().min(first_row + scales.len());
        let units = matrix.unit_rows(rows.clone());
        let mut projections = vec![0.0f32; rows.len() * self.width];
        kernel.products(&units, self.values(), self.dim, &mut projections);
        put_codes(self.width, rows.len(), codes, scales, errors, |at, row_codes| {
            let y = &projections[at * self.width..(at + 1) * self.width];
            let part = self.project(y, kernel, ROW_LEVELS, row_codes);
            // Rounded up: an error may be too large, never too small.
            (part.scale, ((part.tail + part.error / TAU) as f32).next_up())
        });
    }

    /// Codes a projection.
    fn project(&self, y: &[f32], kernel: Kernel, levels: i8, codes: &mut [i8]) -> Projection {
        let norm = kernel.dot_f64(Row::Single(y), Row::Single(y)).sqrt();
        let inside = (norm * (1.0 - 1e-9) - self.slack).max(0.0);
        let tail = (1.0 - inside * inside).max(0.0).sqrt() * (1.0 + 1e-9);
        // A projection of next to nothing has codes of zero.
        if norm < 1e-20 {
            codes.fill(0);
            return Projection { scale: 0.0, error: 1e-9 + self.slack, tail };
        }
        let (scale, error) = kernel.quantize(Row::Single(y), 1.0, levels, codes);
        Projection { scale, error: f64::from(error) + self.slack, tail }
    }

    /// Codes the projections of queries.
    pub(crate) fn encode_queries(&self, matrix: &Matrix, queries: &[usize], kernel: Kernel) -> Vec<CodedQuery> {
        let units = matrix.unit_rows(queries.iter().copied());
        let mut projections = vec![0.0f32; queries.len() * self.width];
        kernel.products(&units, self.values(), self.dim, &mut projections);
        let encode = |y: &[f32]| {
            let mut codes = vec![0i8; groups(self.width) * 4];
            let part = self.project(y, kernel, kernel.query_levels(), &mut codes[..self.width]);
            let slope = part.tail.max(TAU * (1.0 + part.error));
            let codes = QueryCodes::new(codes, part.scale, (slope as f32).next_up());
            CodedQuery { codes, shift: 0.0, rest: part.error + SLACK }
        };
        projections.chunks_exact(self.width).map(encode).collect()
    }
}

/// A coded projection: a and b of the module's documentation.
struct Projection {
    scale: f32,
    error: f64,
    tail: f64,
}

/// |y - P x̂| at most: each of the `width` coordinates is off by at most (dim / 4 + 24) 2^-24 Σ |p x| for the sum
/// (`Kernel::products`) and 2^-24 Σ |p x| for the rounding of x̂ to float32, and Σ |p x| ≤ |p| |x̂|, about 1.
fn rounding(width: usize, dim: usize) -> f64 {
    (width as f64).sqrt() * (dim as f64 / 4.0 + 25.0) * 0.5f64.powi(24) * 1.01
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let mut turned = vec![0.0; values.len()];
    for (r, row) in values.chunks_exact(columns).enumerate() {
        for (c, &value) in row.iter().enumerate() {
            turned[c * rows + r] = value;
        }
    }
    turned
}

/// The principal directions of a sample, without centring, by subspace iteration; fewer if the sample spans fewer, none if
/// a first idea of them is not promising.
fn principal_directions(
    sample: &[f32],
    dim: usize,
    width: usize,
    promising: impl Fn(&[f32]) -> bool,
    kernel: Kernel,
    execution: &Execution,
) -> Result<Option<Vec<f32>>> {
    let rows = sample.len() / dim;
    let columns = transposed(sample, dim);
    // Rows of the sample itself are a better start than random directions.
    let mut basis: Vec<f32> = (0..width).flat_map(|i| sample[i * rows / width * dim..][..dim].to_vec()).collect();
    for round in 0..ROUNDS {
        orthonormalize(&mut basis, dim, kernel);
        if round + 1 == ROUNDS || basis.is_empty() {
            break;
        }
        if round == FEW_ROUNDS && !promising(&basis) {
            return Ok(None);
        }
        execution.check()?;
        let scores = products(&basis, sample, dim, kernel, execution)?;
        basis = products(&scores, &columns, rows, kernel, execution)?;
    }
    Ok(Some(basis))
}

/// All dot products of rows of `a` with rows of `b`, over threads.
fn products(a: &[f32], b: &[f32], dim: usize, kernel: Kernel, execution: &Execution) -> Result<Vec<f32>> {
    let columns = b.len() / dim;
    let mut all = vec![0.0f32; a.len() / dim * columns];
    const STEP: usize = 16;
    let tasks = a.chunks(STEP * dim).zip(all.chunks_mut(STEP * columns));
    parallel::for_each(execution, tasks, |(a, out)| kernel.products(a, b, dim, out))?;
    Ok(all)
}

/// Gram-Schmidt in double precision, twice, for each row in turn; rows that depend on those before them are dropped.
fn orthonormalize(basis: &mut Vec<f32>, dim: usize, kernel: Kernel) {
    let mut kept = 0;
    for i in 0..basis.len() / dim {
        basis.copy_within(i * dim..(i + 1) * dim, kept * dim);
        let (done, rest) = basis.split_at_mut(kept * dim);
        let row = &mut rest[..dim];
        let before = kernel.dot_f64(Row::Single(row), Row::Single(row)).sqrt();
        if before == 0.0 || !before.is_finite() {
            continue;
        }
        let mut exact: Vec<f64> = row.iter().map(|&v| f64::from(v) / before).collect();
        for _ in 0..2 {
            for other in done.chunks_exact(dim) {
                for (value, &e) in row.iter_mut().zip(&exact) {
                    *value = e as f32;
                }
                let dot = kernel.dot_f64(Row::Single(row), Row::Single(other));
                for (e, &o) in exact.iter_mut().zip(other) {
                    *e -= dot * f64::from(o);
                }
            }
        }
        let norm = exact.iter().map(|e| e * e).sum::<f64>().sqrt();
        if norm < 1e-4 {
            continue;
        }
        for (value, e) in row.iter_mut().zip(exact) {
            *value = (e / norm) as f32;
        }
        kept += 1;
    }
    basis.truncate(kept * dim);
}

/// Judges directions: some rows of a sample play the queries, and what the directions would rule out of the others, for a
/// query that wants the best `wanted` of them, is counted.
struct Judgement<'a> {
    sample: &'a [f32],
    dim: usize,
    kernel: Kernel,
    judges: Vec<usize>,
    floors: Vec<f32>,
}

impl<'a> Judgement<'a> {
    fn new(sample: &'a [f32], dim: usize, wanted: usize, kernel: Kernel) -> Self {
        let rows = sample.len() / dim;
        let judges = (0..rows).step_by(rows.div_ceil(JUDGES)).collect();
        let mut judgement = Self { sample, dim, kernel, judges, floors: Vec::new() };
        let mut scores = judgement.products(sample, dim);
        let floor = |(scores, &judge): (&mut [f32], &usize)| {
            scores[judge] = f32::NEG_INFINITY;
            *scores.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a)).1
        };
        judgement.floors = scores.chunks_exact_mut(rows).zip(&judgement.judges).map(floor).collect();
        judgement
    }

    /// Dot products of what the judges have among `values`, `columns` of each row of the sample, with what all have.
    fn products(&self, values: &[f32], columns: usize) -> Vec<f32> {
        let of_judge = |&judge: &usize| values[judge * columns..(judge + 1) * columns].iter().copied();
        let of_judges: Vec<f32> = self.judges.iter().flat_map(of_judge).collect();
        let mut products = vec![0.0f32; self.judges.len() * (values.len() / columns)];
        self.kernel.products(&of_judges, values, columns, &mut products);
        products
    }

    /// The time that a search takes with the first directions, for some ascending numbers of them, in units of what it
    /// takes without; with the numbers.
    fn costs(&self, basis: &[f32], widths: &[usize]) -> Vec<(f64, usize)> {
        let (dim, rows) = (self.dim, self.sample.len() / self.dim);
        // Products of the projections, and what is left of the rows, grow and shrink with the width.
        let mut inside = vec![0.0f32; self.judges.len() * rows];
        let mut left = vec![1.0f32; rows];
        let mut from = 0;
        let mut costs = Vec::with_capacity(widths.len());
        for &width in widths {
            let more = width - from;
            let mut parts = vec![0.0f32; rows * more];
            self.kernel.products(self.sample, &basis[from * dim..width * dim], dim, &mut parts);
            inside.iter_mut().zip(self.products(&parts, more)).for_each(|(sum, product)| *sum += product);
            let squares = parts.chunks_exact(more).map(|part| part.iter().map(|v| v * v).sum::<f32>());
            left.iter_mut().zip(squares).for_each(|(left, square)| *left = (*left - square).max(0.0));
            let tails: Vec<f32> = left.iter().map(|left| left.sqrt()).collect();
            let judged = self.judges.iter().zip(inside.chunks_exact(rows)).zip(&self.floors);
            let blocks = judged.map(|((&judge, inside), &floor)| {
                let bounds = inside.iter().zip(&tails).map(|(product, tail)| product + tail * tails[judge] + MARGIN);
                let share = bounds.filter(|&bound| bound >= floor).count() as f64 / rows as f64;
                // A block is looked at if one of its rows is left.
                1.0 - (1.0 - share).powi(BLOCK_ROWS as i32)
            });
            let blocks = blocks.sum::<f64>() / self.judges.len() as f64;
            costs.push((width as f64 / dim as f64 + OVERHEAD + blocks * REFINE_COST, width));
            from = width;
        }
        costs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{QueryBlock, Survivors};
    use crate::matrix::{Values, cosine};

    fn execution() -> Execution {
        Execution::new(Some(1)).expect("threads")
    }

    fn matrix(values: &[f32], dim: usize, kernel: Kernel) -> Matrix {
        let rows = values.len() / dim;
        let values = Values::Single(Buffer::copy_of("rows", values).expect("memory"));
        Matrix::new("rows", values, rows, dim, kernel, &execution()).expect("valid rows")
    }

    /// Numbers that repeat from a seed.
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
        /// Whatever the directions are, the score is not above the bound: rows inside their span, outside it, equal and
        /// opposite to the query, of any magnitude.
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
                let values = Buffer::copy_of("basis", &directions).expect("memory");
                let basis = Basis::new(values, width, dim, kernel).expect("orthonormal");
                let sketch = Sketch::with("rows", basis, &p, kernel, &execution()).expect("memory");
                let coded = sketch.basis().encode_queries(&q, &[0], kernel).remove(0);
                let codes = sketch.codes();
                let mut block = QueryBlock::new(kernel, codes.groups(), &[&coded.codes]);
                block.set_limit(0, f32::NEG_INFINITY);
                let mut found = Survivors::default();
                kernel.scan(&block, &codes.panel(0..codes.blocks()), &mut found);
                prop_assert_eq!(found.rows.len(), p.rows());
                for survivor in found.rows {
                    let score = cosine(kernel, &q, 0, &p, survivor.row as usize);
                    let upper = f64::from(survivor.bound) + coded.rest;
                    prop_assert!(f64::from(score) <= upper, "{}: {score} above {upper}", kernel.name());
                    prop_assert!(survivor.bound > coded.limit(score));
                }
            }
        }
    }

    /// Rows around centres, far from those around others.
    fn clustered(rows: usize, dim: usize) -> Vec<f32> {
        let centres = reals(5, 250 * dim);
        let noise = reals(6, rows * dim);
        noise.iter().enumerate().map(|(i, v)| centres[(i / dim * 7) % 250 * dim + i % dim] + 0.3 * v).collect()
    }

    #[test]
    fn data_with_structure_gets_a_sketch_and_other_data_does_not() {
        let (dim, kernel) = (128, Kernel::detect());
        let some = Sketch::of("rows", &matrix(&clustered(MIN_ROWS, dim), dim, kernel), kernel, &execution());
        assert_eq!(some.expect("memory").map(|sketch| sketch.width()), Some(32));
        let none = Sketch::of("rows", &matrix(&reals(9, MIN_ROWS * dim), dim, kernel), kernel, &execution());
        assert!(none.expect("memory").is_none());
        let few = Sketch::of("rows", &matrix(&clustered(MIN_ROWS - 1, dim), dim, kernel), kernel, &execution());
        assert!(few.expect("memory").is_none());
        // Rows of which some are equal still get one; rows that span next to nothing do not, and nothing breaks.
        let mut some_equal = clustered(MIN_ROWS, dim);
        let first = some_equal[..dim].to_vec();
        some_equal.chunks_exact_mut(dim).step_by(100).for_each(|row| row.copy_from_slice(&first));
        let some = Sketch::of("rows", &matrix(&some_equal, dim, kernel), kernel, &execution());
        assert!(some.expect("memory").is_some());
        let flat: Vec<f32> = (0..MIN_ROWS * dim).map(|i| if i % dim == 0 { 1.0 } else { 0.0 }).collect();
        assert!(Sketch::of("rows", &matrix(&flat, dim, kernel), kernel, &execution()).expect("memory").is_none());
    }

    #[test]
    fn directions_that_are_not_orthonormal_are_refused() {
        let kernel = Kernel::detect();
        let basis = |values: &[f32]| Basis::new(Buffer::copy_of("basis", values).expect("memory"), 2, 2, kernel);
        assert!(basis(&[1.0, 0.0, 0.0, 1.0]).is_some());
        assert!(basis(&[1.0, 0.0, 0.1, 1.0]).is_none());
        assert!(basis(&[1.0, 0.0, 0.0, f32::NAN]).is_none());
        assert!(basis(&[1.0, 0.0, 0.0]).is_none());
    }
}
