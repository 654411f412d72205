//! Codes of rows and queries, and the bound that makes them proof.
//!
//! # The bound
//! Let x̂ = x / |x| and q̂ = q / |q| be a row and a query, and μ a vector that all rows of an index share: near the mean of
//! its rows where they have much in common, otherwise zero. What is coded of a row is y = x̂ - μ: let c and a be the codes
//! (whole numbers) of y and q̂, s and t their scales, and eₓ ≥ |y - s c|, e_q ≥ |q̂ - t a| what the codes miss. The sum of
//! products D = a · c is exact in 32 bits. Then q̂ · x̂ = q̂ · μ + q̂ · y, and
//!
//! > |q̂ · y - t s D| = |q̂ · (y - s c) + (q̂ - t a) · s c| ≤ |q̂| |y - s c| + |q̂ - t a| |s c| ≤ eₓ + e_q (r + eₓ)
//!
//! by Cauchy-Schwarz, since |q̂| = 1 and |s c| ≤ |y| + eₓ, where r is at least the largest |y| of the index (1 if μ is zero,
//! and never above 2). So the cosine is at most
//!
//! > q̂ · μ + t s D + (1 + e_q) eₓ + e_q r,
//!
//! of which a kernel computes `bound` = t s D + slope · eₓ with slope = 1 + e_q, and the rest is added once per query.
//! The scale is the one of least squares, so that codes never miss more than all: eₓ ≤ r and e_q ≤ 1, but for rounding.
//!
//! Where the rows have single coordinates so large that codes miss much of the others, y and q̂ are rotated before they are
//! coded (`crate::rotation`): for a rotation R, q̂ · y = R q̂ · R y.
//!
//! # Rounding
//! With u = 2^-24: D becomes a float32, is multiplied by s, then by t, and slope · eₓ is added: at most three roundings of
//! t s D, of magnitude |t a| |s c| ≤ (1 + e_q)(r + eₓ) ≤ 8, one of slope · eₓ ≤ 4, and one of their sum, ≤ 12 in magnitude:
//! together less than 3 · 8 u + 4 u + 12 u = 40 u, and 41 u with terms of second order. The slope and r are rounded up. The
//! score itself, which the bound is compared with, is the cosine after rounding by at most u, with a double-precision
//! error below 2 (d + 4) 2^-53 < 2^-34 for d ≤ 2^17, as has q̂ · μ. Underflow of a product in the kernel adds less than
//! 2^-124. `SLACK` = 64 u covers all of it; e is computed in double precision from the stored codes and scale and rounded
//! up (`kernel::codes`), with what computing y and R y rounds added (`CENTRING_SLACK`, `rotation::SLACK`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, GROUP_BYTES, Kernel, Panel, QueryCodes, ROW_LEVELS, Row, groups};
use crate::matrix::Matrix;
use crate::parallel::{self, Execution};
use crate::rotation::{self, Rotation};

/// Covers every rounding between a bound and the score; see the module's documentation.
pub(crate) const SLACK: f64 = 64.0 / (1 << 24) as f64;
/// How far x̂ - μ, computed in float32, can be from what it stands for: x̂ is rounded, of length 1, then the difference, of
/// length 2 at most.
const CENTRING_SLACK: f64 = 4.0 / (1 << 24) as f64;

/// Blocks per task when rows are coded.
const CHUNK: usize = 64;

/// Codes of the rows of a matrix.
#[derive(Debug)]
pub struct Codes {
    rows: usize,
    groups: usize,
    frame: Frame,
    reach: f32,
    /// Block by block, group by group; see [`BLOCK_ROWS`].
    codes: Buffer<u8>,
    scales: Buffer<f32>,
    errors: Buffer<f32>,
}

impl Codes {
    /// None yet, of rows of `dim` values.
    pub(crate) fn new(dim: usize, frame: Frame) -> Self {
        let (codes, scales, errors) = (Buffer::new(), Buffer::new(), Buffer::new());
        Self { rows: 0, groups: groups(dim), frame, reach: 0.0, codes, scales, errors }
    }

    /// Codes of all rows.
    ///
    /// # Errors
    /// [`crate::Error::Memory`], [`crate::Error::Interrupted`], [`crate::Error::ThreadPool`].
    pub fn of(name: &'static str, matrix: &Matrix, kernel: Kernel, execution: &Execution) -> Result<Self> {
        Self::with(name, matrix, Frame::of(matrix, kernel), kernel, execution)
    }

    /// The same, in a given frame.
    pub(crate) fn with(
        name: &'static str,
        matrix: &Matrix,
        frame: Frame,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<Self> {
        let mut codes = Self::new(matrix.dim(), frame);
        codes.extend(name, matrix, kernel, execution)?;
        Ok(codes)
    }

    /// What was computed when it was written.
    pub(crate) fn trusted(
        rows: usize,
        groups: usize,
        frame: Frame,
        reach: f32,
        codes: Buffer<u8>,
        scales: Buffer<f32>,
        errors: Buffer<f32>,
    ) -> Self {
        debug_assert!(scales.len() == rows.next_multiple_of(BLOCK_ROWS) && errors.len() == scales.len());
        debug_assert!(codes.len() == scales.len() * groups * 4);
        Self { rows, groups, frame, reach, codes, scales, errors }
    }

    /// Codes the rows of `matrix` that have none yet. On an error nothing has changed.
    pub(crate) fn extend(
        &mut self,
        name: &'static str,
        matrix: &Matrix,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<()> {
        let frame = self.frame.clone();
        let reach = AtomicU32::new(self.reach.to_bits());
        self.extend_with(name, matrix.rows(), execution, |first_row, codes, scales, errors| {
            let rows = scales.len().min(matrix.rows() - first_row);
            put_codes(matrix.dim(), rows, codes, scales, errors, |at, row_codes| {
                let coded = frame.encode(matrix, first_row + at, ROW_LEVELS, kernel, row_codes);
                // Positive numbers compare as their bits do.
                reach.fetch_max(coded.length.to_bits(), Ordering::Relaxed);
                (coded.scale, coded.error)
            });
        })?;
        self.reach = f32::from_bits(reach.into_inner());
        Ok(())
    }

    /// Codes rows up to `rows`, [`CHUNK`] blocks at a time: `encode` fills the blocks from a row on. On an error nothing has
    /// changed.
    pub(crate) fn extend_with(
        &mut self,
        name: &'static str,
        rows: usize,
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
                .chunks_mut(CHUNK * block_bytes)
                .zip(self.scales.as_mut_slice()[first * BLOCK_ROWS..].chunks_mut(CHUNK * BLOCK_ROWS))
                .zip(self.errors.as_mut_slice()[first * BLOCK_ROWS..].chunks_mut(CHUNK * BLOCK_ROWS))
                .enumerate();
            let outcomes = parallel::for_each(execution, tasks, |(at, ((codes, scales), errors))| {
                execution.check()?;
                encode((first + at * CHUNK) * BLOCK_ROWS, codes, scales, errors);
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
        self.frame.is_rotated()
    }

    /// Whether what rows have in common is taken away before they are coded.
    #[must_use]
    pub fn is_centred(&self) -> bool {
        self.frame.mean.is_some()
    }

    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// At least the length of every row in the frame.
    pub(crate) fn reach(&self) -> f32 {
        self.reach
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
            frame: self.frame.clone(),
            reach: self.reach,
            codes: self.codes.duplicate(name)?,
            scales: self.scales.duplicate(name)?,
            errors: self.errors.duplicate(name)?,
        })
    }
}

/// What rows are coded relative to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    /// μ; none is zero.
    mean: Option<Arc<[f32]>>,
    rotation: Option<Arc<Rotation>>,
}

/// A coded row.
struct Coded {
    scale: f32,
    error: f32,
    /// At least |y|.
    length: f32,
}

/// Rows that a frame is found from, and those of them that are coded to find out what it brings.
const SAMPLE: usize = 2048;
const JUDGED: usize = 128;
/// The share of the error that a mean, or a rotation, must at least take away.
const MEAN_WORTH: f32 = 0.1;
const ROTATION_WORTH: f32 = 0.3;

impl Frame {
    /// A mean, as it was written (zeros for none), and whether rows are rotated; none if the mean is no number or too long.
    pub(crate) fn new(mean: &[f32], rotated: bool) -> Option<Self> {
        let squared = mean.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        // As the mean of unit vectors it has a length of at most 1.
        if !(0.0..=1.0).contains(&squared) {
            return None;
        }
        let rotation = rotated.then(|| Arc::new(Rotation::new(mean.len())));
        Some(Self { mean: (squared > 0.0).then(|| Arc::from(mean)), rotation })
    }

    /// The frame in which codes of some of the rows miss least, unless that is little less than without.
    pub(crate) fn of(matrix: &Matrix, kernel: Kernel) -> Self {
        let dim = matrix.dim();
        let count = matrix.rows().min(SAMPLE);
        let mut sums = vec![0.0f64; dim];
        for i in 0..count {
            let unit = matrix.unit_row(i * matrix.rows() / count);
            sums.iter_mut().zip(unit).for_each(|(sum, value)| *sum += f64::from(value));
        }
        // A little shorter than the mean, so that rounding cannot make it longer than 1.
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / count as f64 * (1.0 - 1e-6)) as f32).collect();
        // As in the bound, with the rows as queries, too.
        let missed = |frame: &Self| -> f32 {
            let mut codes = vec![0i8; dim];
            let (mut of_rows, mut of_queries, mut reach) = (0.0, 0.0, 0.0f32);
            let judged = matrix.rows().min(JUDGED);
            for row in (0..judged).map(|i| i * matrix.rows() / judged) {
                let coded = frame.encode(matrix, row, ROW_LEVELS, kernel, &mut codes);
                of_rows += coded.error;
                reach = reach.max(coded.length);
                of_queries += frame.encode_query(matrix, row, ROW_LEVELS, kernel, &mut codes).error;
            }
            of_rows + of_queries * reach
        };
        let plain = Self::default();
        let centred = Self { mean: Some(mean.into()), rotation: None };
        let (without, with) = (missed(&plain), missed(&centred));
        let (best, least) = if with < (1.0 - MEAN_WORTH) * without { (centred, with) } else { (plain, without) };
        let rotated = Self { rotation: Some(Arc::new(Rotation::new(dim))), ..best.clone() };
        if missed(&rotated) < (1.0 - ROTATION_WORTH) * least { rotated } else { best }
    }

    pub(crate) fn mean(&self) -> Option<&[f32]> {
        self.mean.as_deref()
    }

    pub(crate) fn is_rotated(&self) -> bool {
        self.rotation.is_some()
    }

    /// Codes one row.
    fn encode(&self, matrix: &Matrix, row: usize, levels: i8, kernel: Kernel, codes: &mut [i8]) -> Coded {
        self.encode_from(self.mean(), matrix, row, levels, kernel, codes)
    }

    /// Codes one query: relative to zero, but rotated like the rows.
    fn encode_query(&self, matrix: &Matrix, query: usize, levels: i8, kernel: Kernel, codes: &mut [i8]) -> Coded {
        self.encode_from(None, matrix, query, levels, kernel, codes)
    }

    fn encode_from(
        &self,
        mean: Option<&[f32]>,
        matrix: &Matrix,
        row: usize,
        levels: i8,
        kernel: Kernel,
        codes: &mut [i8],
    ) -> Coded {
        if mean.is_none() && self.rotation.is_none() {
            let (scale, error) = kernel.quantize(matrix.row(row), matrix.norm(row), levels, codes);
            return Coded { scale, error, length: 1.0 };
        }
        let mut values = matrix.unit_row(row);
        if let Some(mean) = mean {
            values.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
        }
        self.encode_values(&mut values, levels, kernel, codes)
    }

    fn encode_values(&self, values: &mut [f32], levels: i8, kernel: Kernel, codes: &mut [i8]) -> Coded {
        let length = kernel.dot_f64(Row::Single(values), Row::Single(values)).sqrt();
        let mut slack = CENTRING_SLACK;
        if let Some(rotation) = &self.rotation {
            rotation.apply(values);
            // Of vectors up to twice as long as those of its documentation.
            slack += 2.0 * rotation::SLACK;
        }
        let up = |x: f64| (x as f32).next_up();
        // Next to nothing: a row that is the mean itself.
        if length < 1e-20 {
            codes.fill(0);
            return Coded { scale: 0.0, error: up(1e-19 + slack), length: up(1e-19 + slack) };
        }
        let (scale, error) = kernel.quantize(Row::Single(values), 1.0, levels, codes);
        Coded { scale, error: up(f64::from(error) + slack), length: up(length * (1.0 + 1e-9) + slack) }
    }
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
    if rows < scales.len() || !dim.is_multiple_of(8) {
        codes.fill(128);
    }
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

/// A query's codes, and what is the same for every row.
#[derive(Debug, Clone)]
pub(crate) struct CodedQuery {
    pub(crate) codes: QueryCodes,
    /// q̂ · μ.
    pub(crate) shift: f64,
    /// What the query's codes miss, times the reach of the rows, and [`SLACK`].
    pub(crate) rest: f64,
}

/// Codes one query as the rows are coded.
pub(crate) fn encode_query(matrix: &Matrix, query: usize, rows: &Codes, kernel: Kernel) -> CodedQuery {
    let dim = matrix.dim();
    let mut codes = vec![0i8; groups(dim) * 4];
    let coded = rows.frame.encode_query(matrix, query, kernel.query_levels(), kernel, &mut codes[..dim]);
    let shift =
        rows.frame.mean().map_or(0.0, |mean| kernel.dot_f64(matrix.row(query), Row::Single(mean)) / matrix.norm(query));
    let rest = f64::from(coded.error) * f64::from(rows.reach) + SLACK;
    CodedQuery { codes: QueryCodes::new(codes, coded.scale, (1.0 + coded.error).next_up()), shift, rest }
}

impl CodedQuery {
    /// No score of at least `floor` has a kernel's bound at or below this.
    pub(crate) fn limit(&self, floor: f32) -> f32 {
        ((f64::from(floor) - self.shift - self.rest) as f32).next_down()
    }

    /// No score below `below` has a kernel's bound - 2 · slope · error at or above this.
    pub(crate) fn ceiling(&self, below: f64) -> f32 {
        // The difference, of numbers of magnitude below 16, is rounded once more.
        ((below - self.shift + self.rest + SLACK) as f32).next_up()
    }

    /// The score of the row lies between these.
    pub(crate) fn interval(&self, bound: f32, row_error: f32) -> (f32, f32) {
        let middle = f64::from(bound) + self.shift;
        let lower = middle - 2.0 * f64::from(self.codes.slope()) * f64::from(row_error) - self.rest;
        ((lower as f32).next_down(), ((middle + self.rest) as f32).next_up())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{QueryBlock, Survivors};
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
                let mean: Vec<f32> = p.unit_row(0).iter().map(|v| 0.9 * v).collect();
                let zeros = vec![0.0; dim];
                for (mean, rotated) in [(&zeros, false), (&zeros, true), (&mean, false), (&mean, true)] {
                let rotation = Frame::new(mean, rotated).expect("a short mean");
                let codes = Codes::with("passages", &p, rotation, kernel, &execution).expect("memory");
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
        let execution = Execution::new(Some(1)).expect("threads");
        let codes = |values: &[f32]| {
            Codes::of("passages", &matrix("passages", values, dim, kernel), kernel, &execution).expect("memory")
        };
        assert!(!codes(&plain).is_rotated());
        assert!(codes(&large).is_rotated());
        // Among them a row that codes miss a tenth of as much.
        assert!(codes(&large).error(0) < 0.03, "{}", codes(&large).error(0));
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
