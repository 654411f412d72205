//! The directions of a sketch: their choice, and the coding of projections on them.

use super::{MIN_DIM, SLACK, TAU};
use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, Kernel, QueryCodes, ROW_LEVELS, Row, groups};
use crate::matrix::Matrix;
use crate::parallel::{self, Execution};
use crate::quantize::{CodedQuery, put_codes};

/// Number of rows from which directions are computed; number of rows on which directions are tried; and number of tried
/// rows that act as probe queries.
const SAMPLE: usize = 3072;
const TRIAL: usize = 4096;
const PROBES: usize = 48;
/// Typical rank, among all rows, of a search's threshold in the middle of a scan.
const TYPICAL_RANK: usize = 30;
/// Numbers of directions to try.
const WIDTHS: [usize; 6] = [32, 64, 96, 128, 192, 256];
/// Largest number of directions in an index file.
const MAX_WIDTH: usize = WIDTHS[WIDTHS.len() - 1];
/// Rounds of subspace iteration.
const ROUNDS: usize = 4;
/// Cost of scoring the full codes of one block for a single query, relative to the cost per query of a scan for many
/// queries; and the fixed cost of a sketch. Both are measured, and only decide whether a sketch is made.
const REFINE_COST: f64 = 3.0;
const OVERHEAD: f64 = 0.1;
/// Typical coding error.
const MARGIN: f32 = 0.02;
/// A sketch is made if it promises to take less than this share of the time.
const MAX_COST: f64 = 0.8;
/// The search for directions stops if the directions after [`FIRST_ROUNDS`] promise a cost above this.
const MAX_FIRST_COST: f64 = 2.0;
const FIRST_ROUNDS: usize = 1;

/// Directions: unit vectors that are orthogonal up to rounding.
#[derive(Debug)]
pub(crate) struct Basis {
    width: usize,
    dim: usize,
    values: Buffer<f32>,
    /// ε + the bound of |y - P x̂|: the maximum distance between y and u.
    slack: f64,
}

impl Basis {
    /// Directions read from an index file; `None` unless they are nearly orthonormal and at most [`MAX_WIDTH`]. The
    /// limit bounds the time that checking a file takes, which is quadratic in the width.
    pub(crate) fn new(values: Buffer<f32>, width: usize, dim: usize, kernel: Kernel) -> Option<Self> {
        let fits = (1..=MAX_WIDTH).contains(&width) && dim > 0 && width.checked_mul(dim) == Some(values.len());
        if !fits || values.as_slice().iter().any(|v| !v.is_finite()) {
            return None;
        }
        let row = |i: usize| Row::F32(&values.as_slice()[i * dim..(i + 1) * dim]);
        // The Frobenius norm of P Pᵀ - I is at least its spectral norm.
        let mut squares = 0.0;
        for i in 0..width {
            squares += (kernel.dot_f64(row(i), row(i)) - 1.0).powi(2);
            squares += 2.0 * (0..i).map(|j| kernel.dot_f64(row(i), row(j)).powi(2)).sum::<f64>();
        }
        let epsilon = squares.sqrt() + 1e-9;
        (epsilon <= 1e-3).then(|| Self { width, dim, values, slack: epsilon + rounding(width, dim) })
    }

    /// The directions in which the rows vary most, and the width that promises the fastest searches; `None` if no width
    /// promises to save time.
    pub(crate) fn of(matrix: &Matrix, execution: &Execution) -> Result<Option<Self>> {
        let (dim, kernel) = (matrix.dim(), execution.kernel());
        let Some(&most) = WIDTHS.iter().rfind(|&&width| width <= dim / 2) else { return Ok(None) };
        if dim < MIN_DIM || matrix.rows() < 2 * most {
            return Ok(None);
        }
        let sample = |most: usize| -> Vec<f32> {
            let count = matrix.rows().min(most);
            matrix.unit_rows((0..count).map(|i| i * matrix.rows() / count))
        };
        let tried = sample(TRIAL);
        // The rank in the sample that corresponds to the rank among all rows, at least 1.
        let rank = (TYPICAL_RANK * (tried.len() / dim)).div_ceil(matrix.rows());
        let trial = SketchTrial::new(&tried, dim, rank, kernel);
        let promising =
            |basis: &[f32]| trial.costs(basis, &[basis.len() / dim]).iter().all(|&(cost, _)| cost < MAX_FIRST_COST);
        let Some(values) = principal_directions(&sample(SAMPLE), dim, most, promising, execution)? else {
            return Ok(None);
        };
        execution.check()?;
        let widths: Vec<usize> = WIDTHS.into_iter().filter(|&width| width * dim <= values.len()).collect();
        let best = trial.costs(&values, &widths).into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, width)) = best.filter(|&(cost, _)| cost < MAX_COST) else { return Ok(None) };
        Ok(Self::new(Buffer::copy_of(&values[..width * dim])?, width, dim, kernel))
    }

    /// Number of directions.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The directions, concatenated.
    pub(crate) fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    pub(crate) fn duplicate(&self) -> Result<Self> {
        Ok(Self { values: self.values.duplicate()?, ..*self })
    }

    /// Fills whole blocks with codes of the rows' projections, starting at `first_row`.
    pub(super) fn encode(
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
            // Rounded up, because the bound needs an upper limit of the error.
            (part.scale, ((part.tail + part.error / TAU) as f32).next_up())
        });
    }

    /// Codes a projection.
    fn project(&self, y: &[f32], kernel: Kernel, levels: i8, codes: &mut [i8]) -> Projection {
        let norm = kernel.dot_f64(Row::F32(y), Row::F32(y)).sqrt();
        let inside = (norm * (1.0 - 1e-9) - self.slack).max(0.0);
        let tail = (1.0 - inside * inside).max(0.0).sqrt() * (1.0 + 1e-9);
        // A near-zero projection is coded as zeros.
        if norm < 1e-20 {
            codes.fill(0);
            return Projection { scale: 0.0, error: 1e-9 + self.slack, tail };
        }
        let (scale, error) = kernel.quantize(Row::F32(y), 1.0, levels, codes);
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
            CodedQuery { codes, offset: 0.0, slack: part.error + SLACK }
        };
        projections.chunks_exact(self.width).map(encode).collect()
    }
}

/// A coded projection. `error` and `tail` are a and b in the module's documentation.
struct Projection {
    scale: f32,
    error: f64,
    tail: f64,
}

/// Upper bound of |y - P x̂|. The error of each of the `width` coordinates is at most (dim / 4 + 24) 2^-24 Σ |p x| for
/// the sum (`Kernel::products`) plus 2^-24 Σ |p x| for the rounding of x̂ to float32, and Σ |p x| ≤ |p| |x̂|, about 1.
fn rounding(width: usize, dim: usize) -> f64 {
    (width as f64).sqrt() * (dim as f64 / 4.0 + 25.0) * 0.5f64.powi(24) * 1.01
}

/// The transposed matrix.
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

/// The principal directions of a sample, without centring, by subspace iteration. Returns fewer than `width` directions
/// if the sample spans fewer, and `None` if the directions after [`FIRST_ROUNDS`] do not look promising.
fn principal_directions(
    sample: &[f32],
    dim: usize,
    width: usize,
    promising: impl Fn(&[f32]) -> bool,
    execution: &Execution,
) -> Result<Option<Vec<f32>>> {
    let rows = sample.len() / dim;
    let columns = transposed(sample, dim);
    // Rows of the sample are better initial directions than random vectors.
    let mut basis: Vec<f32> = (0..width).flat_map(|i| sample[i * rows / width * dim..][..dim].to_vec()).collect();
    for round in 0..ROUNDS {
        orthonormalize(&mut basis, dim, execution.kernel());
        if round + 1 == ROUNDS || basis.is_empty() {
            break;
        }
        if round == FIRST_ROUNDS && !promising(&basis) {
            return Ok(None);
        }
        execution.check()?;
        let scores = products(&basis, sample, dim, execution)?;
        basis = products(&scores, &columns, rows, execution)?;
    }
    Ok(Some(basis))
}

/// All dot products of rows of `a` with rows of `b`, in parallel.
fn products(a: &[f32], b: &[f32], dim: usize, execution: &Execution) -> Result<Vec<f32>> {
    let columns = b.len() / dim;
    let mut all = vec![0.0f32; a.len() / dim * columns];
    const STEP: usize = 16;
    let tasks = a.chunks(STEP * dim).zip(all.chunks_mut(STEP * columns));
    parallel::for_each(execution, tasks, |(a, out)| execution.kernel().products(a, b, dim, out))?;
    Ok(all)
}

/// Gram-Schmidt in double precision, applied twice to each row. Rows that depend on previous rows are dropped.
pub(super) fn orthonormalize(basis: &mut Vec<f32>, dim: usize, kernel: Kernel) {
    let mut kept = 0;
    for i in 0..basis.len() / dim {
        basis.copy_within(i * dim..(i + 1) * dim, kept * dim);
        let (done, rest) = basis.split_at_mut(kept * dim);
        let row = &mut rest[..dim];
        let before = kernel.dot_f64(Row::F32(row), Row::F32(row)).sqrt();
        if before == 0.0 || !before.is_finite() {
            continue;
        }
        let mut exact: Vec<f64> = row.iter().map(|&v| f64::from(v) / before).collect();
        for _ in 0..2 {
            for other in done.chunks_exact(dim) {
                for (value, &e) in row.iter_mut().zip(&exact) {
                    *value = e as f32;
                }
                let dot = kernel.dot_f64(Row::F32(row), Row::F32(other));
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

/// A trial of directions: some rows of a sample act as probe queries, and the trial counts the rows that the directions
/// would rule out for them.
struct SketchTrial<'a> {
    sample: &'a [f32],
    dim: usize,
    kernel: Kernel,
    probes: Vec<usize>,
    /// For each probe, the score of the row at `rank`.
    thresholds: Vec<f32>,
}

impl<'a> SketchTrial<'a> {
    fn new(sample: &'a [f32], dim: usize, rank: usize, kernel: Kernel) -> Self {
        let rows = sample.len() / dim;
        let probes = (0..rows).step_by(rows.div_ceil(PROBES)).collect();
        let mut trial = Self { sample, dim, kernel, probes, thresholds: Vec::new() };
        let mut scores = trial.products(sample, dim);
        let threshold = |(scores, &probe): (&mut [f32], &usize)| {
            scores[probe] = f32::NEG_INFINITY;
            *scores.select_nth_unstable_by(rank - 1, |a, b| b.total_cmp(a)).1
        };
        trial.thresholds = scores.chunks_exact_mut(rows).zip(&trial.probes).map(threshold).collect();
        trial
    }

    /// Dot products of the probes' rows of `values` with all rows of `values`, which has `columns` columns.
    fn products(&self, values: &[f32], columns: usize) -> Vec<f32> {
        let of_probe = |&probe: &usize| values[probe * columns..(probe + 1) * columns].iter().copied();
        let of_probes: Vec<f32> = self.probes.iter().flat_map(of_probe).collect();
        let mut products = vec![0.0f32; self.probes.len() * (values.len() / columns)];
        self.kernel.products(&of_probes, values, columns, &mut products);
        products
    }

    /// For ascending numbers of directions: the estimated time of a search relative to a search without a sketch, and
    /// the number of directions.
    fn costs(&self, basis: &[f32], widths: &[usize]) -> Vec<(f64, usize)> {
        let (dim, rows) = (self.dim, self.sample.len() / self.dim);
        // Each wider sketch adds its further directions to the products, and subtracts them from the squared tails.
        let mut inside = vec![0.0f32; self.probes.len() * rows];
        let mut squared_tails = vec![1.0f32; rows];
        let mut from = 0;
        let mut costs = Vec::with_capacity(widths.len());
        for &width in widths {
            let more = width - from;
            let mut parts = vec![0.0f32; rows * more];
            self.kernel.products(self.sample, &basis[from * dim..width * dim], dim, &mut parts);
            inside.iter_mut().zip(self.products(&parts, more)).for_each(|(sum, product)| *sum += product);
            let squares = parts.chunks_exact(more).map(|part| part.iter().map(|v| v * v).sum::<f32>());
            squared_tails.iter_mut().zip(squares).for_each(|(tail, square)| *tail = (*tail - square).max(0.0));
            let tails: Vec<f32> = squared_tails.iter().map(|tail| tail.sqrt()).collect();
            let tried = self.probes.iter().zip(inside.chunks_exact(rows)).zip(&self.thresholds);
            let blocks = tried.map(|((&probe, inside), &threshold)| {
                let bounds = inside.iter().zip(&tails).map(|(product, tail)| product + tail * tails[probe] + MARGIN);
                let share = bounds.filter(|&bound| bound >= threshold).count() as f64 / rows as f64;
                // The probability that at least one row of a block survives.
                1.0 - (1.0 - share).powi(BLOCK_ROWS as i32)
            });
            let blocks = blocks.sum::<f64>() / self.probes.len() as f64;
            costs.push((width as f64 / dim as f64 + OVERHEAD + blocks * REFINE_COST, width));
            from = width;
        }
        costs
    }
}
