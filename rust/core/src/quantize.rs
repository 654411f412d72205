//! Codes of rows and queries, and the bound that makes them proof.
//!
//! # The bound
//! Let x̂ = x / |x| and q̂ = q / |q| be a row and a query, c and a their codes (whole numbers), s and t the scales, and
//! eₓ ≥ |x̂ - s c|, e_q ≥ |q̂ - t a| what the codes miss. The sum of products D = a · c is exact in 32 bits. Then
//!
//! > |q̂ · x̂ - t s D| = |q̂ · (x̂ - s c) + (q̂ - t a) · s c| ≤ |q̂| |x̂ - s c| + |q̂ - t a| |s c| ≤ eₓ + e_q (1 + eₓ)
//!
//! by Cauchy-Schwarz, since |q̂| = 1 and |s c| ≤ |x̂| + eₓ. So the cosine is at most
//!
//! > t s D + (1 + e_q) eₓ + e_q,
//!
//! of which a kernel computes `bound` = t s D + slope · eₓ with slope = 1 + e_q, and the rest is added once per query.
//! The scale is the one of least squares, so that e ≤ 1 for every row: eₓ and e_q lie between 0 and a little above 1.
//!
//! Where the rows of an index have single coordinates so large that codes miss much of the others, rows and queries are
//! rotated first ([`crate::rotation`]): for a rotation R, q̂ · x̂ = R q̂ · R x̂, and e is that of R x̂ as computed, with what its
//! computation rounds added.
//!
//! # Rounding
//! With u = 2^-24: D becomes a float32, is multiplied by s, then by t, and slope · eₓ is added: at most three roundings of
//! t s D, of magnitude |t a| |s c| ≤ (1 + e_q)(1 + eₓ) ≤ 4.1, one of slope · eₓ ≤ 2.1, and one of their sum, ≤ 6.2 in
//! magnitude: together less than 3 · 4.1 u + 2.1 u + 6.2 u < 21 u (1 + 2u). The slope is rounded up. The score itself, which the
//! bound is compared with, is the cosine after rounding by at most u, with a double-precision error below
//! 2 (d + 4) 2^-53 < 2^-34 for d ≤ 2^17. Underflow of a product in the kernel adds less than 2^-125. [`SLACK`] = 32 u covers all of it,
//! and e itself is measured in double precision from the stored codes and scale and rounded up (`kernel::codes`).

use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, GROUP_BYTES, Kernel, Panel, QueryCodes, ROW_LEVELS, Row, groups};
use crate::matrix::Matrix;
use crate::parallel::{self, Execution};
use crate::rotation::{self, Rotation};

/// Covers every rounding between a bound and the score; see the module's documentation.
pub(crate) const SLACK: f64 = 32.0 / (1 << 24) as f64;

/// Blocks per task when rows are coded.
const CHUNK: usize = 64;

/// Codes of the rows of a matrix.
#[derive(Debug)]
pub struct Codes {
    rows: usize,
    groups: usize,
    rotation: Option<Rotation>,
    /// Block by block, group by group; see [`BLOCK_ROWS`].
    codes: Buffer<u8>,
    scales: Buffer<f32>,
    errors: Buffer<f32>,
}

impl Codes {
    /// None yet, of rows of `dim` values.
    pub(crate) fn new(dim: usize, rotation: Option<Rotation>) -> Self {
        let (codes, scales, errors) = (Buffer::new(), Buffer::new(), Buffer::new());
        Self { rows: 0, groups: groups(dim), rotation, codes, scales, errors }
    }

    /// Codes of all rows.
    ///
    /// # Errors
    /// [`crate::Error::Memory`], [`crate::Error::Interrupted`], [`crate::Error::ThreadPool`].
    pub fn of(name: &'static str, matrix: &Matrix, kernel: Kernel, execution: &Execution) -> Result<Self> {
        Self::with(name, matrix, rotation_that_pays(matrix, kernel), kernel, execution)
    }

    /// The same, rotated or not.
    pub(crate) fn with(
        name: &'static str,
        matrix: &Matrix,
        rotation: Option<Rotation>,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<Self> {
        let mut codes = Self::new(matrix.dim(), rotation);
        codes.extend(name, matrix, kernel, execution)?;
        Ok(codes)
    }

    /// What was computed when it was written.
    pub(crate) fn trusted(
        rows: usize,
        groups: usize,
        rotation: Option<Rotation>,
        codes: Buffer<u8>,
        scales: Buffer<f32>,
        errors: Buffer<f32>,
    ) -> Self {
        debug_assert!(scales.len() == rows.next_multiple_of(BLOCK_ROWS) && errors.len() == scales.len());
        debug_assert!(codes.len() == scales.len() * groups * 4);
        Self { rows, groups, rotation, codes, scales, errors }
    }

    /// Codes the rows of `matrix` that have none yet. On an error nothing has changed.
    pub(crate) fn extend(
        &mut self,
        name: &'static str,
        matrix: &Matrix,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<()> {
        let rotation = self.rotation.clone();
        self.extend_with(name, matrix.rows(), CHUNK, execution, |first_row, codes, scales, errors| {
            let rows = scales.len().min(matrix.rows() - first_row);
            put_codes(matrix.dim(), rows, codes, scales, errors, |at, row_codes| {
                encode(matrix, first_row + at, rotation.as_ref(), ROW_LEVELS, kernel, row_codes)
            });
        })
    }

    /// Codes rows up to `rows`, `chunk` blocks at a time: `encode` fills the blocks from a row on. On an error nothing has
    /// changed.
    pub(crate) fn extend_with(
        &mut self,
        name: &'static str,
        rows: usize,
        chunk: usize,
        execution: &Execution,
        encode: impl Fn(usize, &mut [u8], &mut [f32], &mut [f32]) + Sync + Send,
    ) -> Result<()> {
        // The last block may have had room for more rows.
        let first = self.rows / BLOCK_ROWS;
        let blocks = rows.div_ceil(BLOCK_ROWS);
        let block_bytes = self.groups * GROUP_BYTES;
        let old = self.rows;
        let outcome = self.resize(name, blocks).and_then(|()| {
            let tasks = self.codes.as_mut_slice()[first * block_bytes..]
                .chunks_mut(chunk * block_bytes)
                .zip(self.scales.as_mut_slice()[first * BLOCK_ROWS..].chunks_mut(chunk * BLOCK_ROWS))
                .zip(self.errors.as_mut_slice()[first * BLOCK_ROWS..].chunks_mut(chunk * BLOCK_ROWS))
                .enumerate();
            let outcomes = parallel::for_each(execution, tasks, |(at, ((codes, scales), errors))| {
                execution.check()?;
                encode((first + at * chunk) * BLOCK_ROWS, codes, scales, errors);
                Ok(())
            })?;
            outcomes.into_iter().collect()
        });
        if outcome.is_err() {
            self.truncate(name, old)?;
            return outcome;
        }
        self.rows = rows;
        Ok(())
    }

    /// Drops the rows from `rows` on.
    pub(crate) fn truncate(&mut self, name: &'static str, rows: usize) -> Result<()> {
        self.resize(name, rows.div_ceil(BLOCK_ROWS))?;
        let from = rows.min(self.scales.len());
        self.scales.as_mut_slice()[from..].fill(0.0);
        self.errors.as_mut_slice()[from..].fill(f32::NEG_INFINITY);
        self.rows = rows;
        Ok(())
    }

    fn resize(&mut self, name: &'static str, blocks: usize) -> Result<()> {
        self.codes.resize(name, blocks * self.groups * GROUP_BYTES)?;
        self.scales.resize(name, blocks * BLOCK_ROWS)?;
        self.errors.resize(name, blocks * BLOCK_ROWS)
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.scales.len() / BLOCK_ROWS
    }

    /// Whether rows are rotated before they are coded.
    #[must_use]
    pub fn is_rotated(&self) -> bool {
        self.rotation.is_some()
    }

    /// Groups of four columns.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Bytes of codes, scales and errors.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.codes.nbytes() + self.scales.nbytes() + self.errors.nbytes()
    }

    /// What a row's codes miss.
    pub(crate) fn error(&self, row: usize) -> f32 {
        self.errors.as_slice()[row]
    }

    /// Consecutive blocks, for a kernel.
    pub(crate) fn panel(&self, blocks: std::ops::Range<usize>) -> Panel<'_> {
        let bytes = self.groups * GROUP_BYTES;
        let rows = blocks.start * BLOCK_ROWS..blocks.end * BLOCK_ROWS;
        Panel::new(
            &self.codes.as_slice()[blocks.start * bytes..blocks.end * bytes],
            &self.scales.as_slice()[rows.clone()],
            &self.errors.as_slice()[rows.clone()],
            self.groups,
            rows.start as u32,
        )
    }

    /// Codes, scales and errors, as they are stored.
    pub(crate) fn parts(&self) -> (&[u8], &[f32], &[f32]) {
        (self.codes.as_slice(), self.scales.as_slice(), self.errors.as_slice())
    }

    pub(crate) fn duplicate(&self, name: &'static str) -> Result<Self> {
        Ok(Self {
            rows: self.rows,
            groups: self.groups,
            rotation: self.rotation.clone(),
            codes: self.codes.duplicate(name)?,
            scales: self.scales.duplicate(name)?,
            errors: self.errors.duplicate(name)?,
        })
    }
}

/// Codes one row, rotated or not, and returns its scale and its error.
fn encode(
    matrix: &Matrix,
    row: usize,
    rotation: Option<&Rotation>,
    levels: i8,
    kernel: Kernel,
    codes: &mut [i8],
) -> (f32, f32) {
    let Some(rotation) = rotation else {
        return kernel.quantize(matrix.row(row), matrix.norm(row), levels, codes);
    };
    let mut rotated = matrix.unit_row(row);
    rotation.apply(&mut rotated);
    let (scale, error) = kernel.quantize(Row::Single(&rotated), 1.0, levels, codes);
    (scale, ((f64::from(error) + rotation::SLACK) as f32).next_up())
}

/// Rows that are coded both ways, and the share of the error that a rotation must at least take away.
const SAMPLE: usize = 128;
const WORTH: f32 = 0.3;

/// A rotation, if codes of some of the rows miss much less with it.
pub(crate) fn rotation_that_pays(matrix: &Matrix, kernel: Kernel) -> Option<Rotation> {
    let rotation = Rotation::new(matrix.dim());
    let count = matrix.rows().min(SAMPLE);
    let mut codes = vec![0i8; matrix.dim()];
    let mut missed = |rotation: Option<&Rotation>| -> f32 {
        let row = |i: usize| i * matrix.rows() / count;
        (0..count).map(|i| encode(matrix, row(i), rotation, ROW_LEVELS, kernel, &mut codes).1).sum()
    };
    let (plain, rotated) = (missed(None), missed(Some(&rotation)));
    (rotated < (1.0 - WORTH) * plain).then_some(rotation)
}

/// Puts the codes of `rows` rows, with their scales and errors, where a kernel expects them in whole blocks. Where a block
/// has no row, codes are zero, and so is the scale; the error, minus infinity, makes a bound that nothing is above.
pub(crate) fn put_codes(
    dim: usize,
    rows: usize,
    codes: &mut [u8],
    scales: &mut [f32],
    errors: &mut [f32],
    mut row: impl FnMut(usize, &mut [i8]) -> (f32, f32),
) {
    let mut row_codes = vec![0i8; dim];
    let block_bytes = groups(dim) * GROUP_BYTES;
    codes.fill(128);
    for (at, (scale, error)) in scales.iter_mut().zip(errors).enumerate() {
        if at >= rows {
            (*scale, *error) = (0.0, f32::NEG_INFINITY);
            continue;
        }
        (*scale, *error) = row(at, &mut row_codes);
        let block = &mut codes[at / BLOCK_ROWS * block_bytes..][..block_bytes];
        let lane = at % BLOCK_ROWS * 4;
        let (whole, rest) = row_codes.as_chunks::<4>();
        for (group, four) in block.chunks_exact_mut(GROUP_BYTES).zip(whole) {
            group[lane..lane + 4].copy_from_slice(&four.map(|code| code as u8 ^ 0x80));
        }
        for (byte, &code) in block[whole.len() * GROUP_BYTES..].iter_mut().skip(lane).zip(rest) {
            *byte = code as u8 ^ 0x80;
        }
    }
}

/// A query's codes with what its codes miss: the part of the bound that is the same for every row, [`SLACK`] included.
#[derive(Debug, Clone)]
pub(crate) struct CodedQuery {
    pub(crate) codes: QueryCodes,
    pub(crate) rest: f64,
}

/// Codes one query as the rows are coded.
pub(crate) fn encode_query(matrix: &Matrix, query: usize, rows: &Codes, kernel: Kernel) -> CodedQuery {
    let dim = matrix.dim();
    let mut codes = vec![0i8; groups(dim) * 4];
    let (scale, error) =
        encode(matrix, query, rows.rotation.as_ref(), kernel.query_levels(), kernel, &mut codes[..dim]);
    CodedQuery { codes: QueryCodes::new(codes, scale, (1.0 + error).next_up()), rest: f64::from(error) + SLACK }
}

impl CodedQuery {
    /// No score of at least `floor` has a kernel's bound at or below this.
    pub(crate) fn limit(&self, floor: f32) -> f32 {
        ((f64::from(floor) - self.rest) as f32).next_down()
    }

    /// The score of the row lies between these.
    pub(crate) fn interval(&self, bound: f32, row_error: f32) -> (f32, f32) {
        let upper = f64::from(bound) + self.rest;
        let lower = f64::from(bound) - 2.0 * f64::from(self.codes.slope()) * f64::from(row_error) - self.rest;
        ((lower as f32).next_down(), (upper as f32).next_up())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{QueryBlock, Survivor};
    use crate::matrix::{Values, cosine};

    fn matrix(name: &'static str, values: &[f32], dim: usize, kernel: Kernel) -> Matrix {
        let execution = Execution::new(Some(1)).expect("threads");
        let rows = values.len() / dim;
        let values = Values::Single(Buffer::copy_of(name, values).expect("memory"));
        Matrix::new(name, values, rows, dim, kernel, &execution).expect("valid rows")
    }

    /// Values whose codes miss little or much, of any magnitude.
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
        /// The score lies in the interval, for every kernel; rows equal and opposite to the query among them.
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
                let execution = Execution::new(Some(1)).expect("threads");
                for rotation in [None, Some(Rotation::new(dim))] {
                let codes = Codes::with("passages", &p, rotation, kernel, &execution).expect("memory");
                let coded = encode_query(&q, 0, &codes, kernel);
                let mut block = QueryBlock::new(kernel, codes.groups(), &[&coded.codes]);
                block.set_limit(0, f32::NEG_INFINITY);
                let mut found: Vec<Survivor> = Vec::new();
                kernel.scan(&block, &codes.panel(0..codes.blocks()), &mut found);
                prop_assert_eq!(found.len(), p.rows());
                for survivor in found {
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
        let large: Vec<f32> = plain.iter().enumerate().map(|(i, &v)| if i % dim == 3 { 20.0 } else { v }).collect();
        let execution = Execution::new(Some(1)).expect("threads");
        let codes = |values: &[f32]| {
            Codes::of("passages", &matrix("passages", values, dim, kernel), kernel, &execution).expect("memory")
        };
        assert!(!codes(&plain).is_rotated());
        assert!(codes(&large).is_rotated());
        // Among them a row that codes miss a tenth of as much.
        assert!(codes(&large).error(0) < 0.02, "{}", codes(&large).error(0));
    }

    /// On data as it usually is, the interval is narrow: an error that grew would cost speed, and nothing else would tell.
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
        let codes = Codes::of("passages", &p, kernel, &Execution::new(Some(1)).expect("threads")).expect("memory");
        let mean = (0..100).map(|row| codes.error(row)).sum::<f32>() / 100.0;
        assert!(mean < 0.01, "codes miss {mean} of a row");
    }
}
