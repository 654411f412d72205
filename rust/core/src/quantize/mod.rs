//! Codes of rows and queries, and the proof of their error bound.
//!
//! # The bound
//! Let x̂ = x / |x| and q̂ = q / |q| be a row and a query. Let μ be a vector shared by all rows of an index: close to
//! their mean if the rows have much in common, otherwise zero. A row is coded as y = x̂ - μ. Let c and a be the codes
//! (whole numbers) of y and q̂, s and t their scales, and eₓ ≥ |y - s c|, e_q ≥ |q̂ - t a| their errors. The sum of
//! products D = a · c is exact in 32 bits. Then q̂ · x̂ = q̂ · μ + q̂ · y, and
//!
//! > |q̂ · y - t s D| = |q̂ · (y - s c) + (q̂ - t a) · s c| ≤ |q̂| |y - s c| + |q̂ - t a| |s c| ≤ eₓ + e_q (r + eₓ)
//!
//! by Cauchy-Schwarz, since |q̂| = 1 and |s c| ≤ |y| + eₓ. The radius r is at least the largest |y| of the index (1 if
//! μ is zero, and never above 2). So the cosine is at most
//!
//! > q̂ · μ + t s D + (1 + e_q) eₓ + e_q r.
//!
//! A kernel computes `bound` = t s D + slope · eₓ with slope = 1 + e_q; the remaining terms are added once per query.
//! The scale minimizes the residual, which is therefore never longer than the vector: eₓ ≤ r and e_q ≤ 1, up to
//! rounding.
//!
//! If single coordinates of the rows are so large that the codes of the others become coarse, y and q̂ are rotated
//! before they are coded (`crate::rotation`). For a rotation R, q̂ · y = R q̂ · R y.
//!
//! # Rounding
//! Let u = 2^-24. The term t s D has a magnitude of at most |t a| |s c| ≤ (1 + e_q)(r + eₓ) ≤ 8 and is rounded at most
//! three times: when D is converted to float32, and in the multiplications by s and t. The term slope · eₓ ≤ 4 is
//! rounded once, and so is the sum, of magnitude ≤ 12. The total is less than 3 · 8 u + 4 u + 12 u = 40 u, and 41 u
//! with terms of second order. The slope and r are rounded up. The bound is compared with a score: a cosine with a
//! double-precision error below 2 (d + 4) 2^-53 < 2^-34 for d ≤ 2^17, rounded by at most u. The error of q̂ · μ has the
//! same limit. Underflow of a product in the kernel adds less than 2^-124. `SLACK` = 64 u covers all of this. An error
//! e is computed in double precision from the stored codes and scale, and rounded up (`kernel::codes`); it includes the
//! rounding of y and R y (`CENTRING_SLACK`, `rotation::SLACK`).

mod frame;
mod query;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, GROUP_BYTES, Panel, ROW_LEVELS, groups};
use crate::matrix::Matrix;
use crate::parallel::{self, Execution};

pub(crate) use frame::Frame;
pub(crate) use query::{CodedQuery, encode_query};

/// Covers every rounding between a bound and the score; see the module's documentation.
pub(crate) const SLACK: f64 = 64.0 / (1 << 24) as f64;

/// Number of blocks per task when rows are coded.
const CHUNK: usize = 64;

/// Codes of the rows of a matrix.
#[derive(Debug)]
pub struct Codes {
    rows: usize,
    groups: usize,
    frame: Frame,
    radius: f32,
    /// Block by block, group by group; see [`BLOCK_ROWS`].
    codes: Buffer<u8>,
    scales: Buffer<f32>,
    errors: Buffer<f32>,
}

impl Codes {
    /// An empty set of codes for rows of `dim` values.
    pub(crate) fn new(dim: usize, frame: Frame) -> Self {
        let (codes, scales, errors) = (Buffer::new(), Buffer::new(), Buffer::new());
        Self { rows: 0, groups: groups(dim), frame, radius: 0.0, codes, scales, errors }
    }

    /// Codes of all rows.
    ///
    /// # Errors
    /// [`crate::Error::Memory`], [`crate::Error::Interrupted`], [`crate::Error::ThreadPool`].
    pub fn of(matrix: &Matrix, execution: &Execution) -> Result<Self> {
        Self::with(matrix, Frame::of(matrix, execution.kernel()), execution)
    }

    /// Codes of all rows in a given frame.
    pub(crate) fn with(matrix: &Matrix, frame: Frame, execution: &Execution) -> Result<Self> {
        let mut codes = Self::new(matrix.dim(), frame);
        codes.extend(matrix, execution)?;
        Ok(codes)
    }

    /// Codes read from an index file, for rows of `width` values.
    pub(crate) fn trusted(rows: usize, width: usize, frame: Frame, radius: f32, stored: StoredCodes) -> Self {
        let StoredCodes { codes, scales, errors } = stored;
        let groups = groups(width);
        debug_assert!(scales.len() == rows.next_multiple_of(BLOCK_ROWS) && errors.len() == scales.len());
        debug_assert!(codes.len() == scales.len() * groups * 4);
        Self { rows, groups, frame, radius, codes, scales, errors }
    }

    /// Codes the rows of `matrix` that do not have codes yet. On an error nothing has changed.
    pub(crate) fn extend(&mut self, matrix: &Matrix, execution: &Execution) -> Result<()> {
        let (frame, kernel) = (self.frame.clone(), execution.kernel());
        let radius = AtomicU32::new(self.radius.to_bits());
        self.extend_with(matrix.rows(), execution, |first_row, codes, scales, errors| {
            let rows = scales.len().min(matrix.rows() - first_row);
            put_codes(matrix.dim(), rows, codes, scales, errors, |at, row_codes| {
                let coded = frame.encode(matrix, first_row + at, ROW_LEVELS, kernel, row_codes);
                // Positive numbers have the same order as their bits.
                radius.fetch_max(coded.length.to_bits(), Ordering::Relaxed);
                (coded.scale, coded.error)
            });
        })?;
        self.radius = f32::from_bits(radius.into_inner());
        Ok(())
    }

    /// Codes rows up to row `rows`, in tasks of [`CHUNK`] blocks. `encode` receives the first row of a task and the
    /// places for its codes, scales and errors. On an error nothing has changed.
    pub(crate) fn extend_with(
        &mut self,
        rows: usize,
        execution: &Execution,
        encode: impl Fn(usize, &mut [u8], &mut [f32], &mut [f32]) + Sync + Send,
    ) -> Result<()> {
        // The last block is coded again, because it may have been incomplete.
        let first = self.rows / BLOCK_ROWS;
        let blocks = rows.div_ceil(BLOCK_ROWS);
        let block_bytes = self.groups * GROUP_BYTES;
        let old = self.rows;
        let outcome = self.resize(blocks).and_then(|()| {
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
            self.truncate(old)?;
            return outcome;
        }
        self.rows = rows;
        Ok(())
    }

    /// Keeps only the codes of the first `rows` rows.
    pub(crate) fn truncate(&mut self, rows: usize) -> Result<()> {
        self.resize(rows.div_ceil(BLOCK_ROWS))?;
        let from = rows.min(self.scales.len());
        self.scales.as_mut_slice()[from..].fill(0.0);
        self.errors.as_mut_slice()[from..].fill(f32::NEG_INFINITY);
        self.rows = rows;
        Ok(())
    }

    fn resize(&mut self, blocks: usize) -> Result<()> {
        self.codes.resize(blocks * self.groups * GROUP_BYTES)?;
        self.scales.resize(blocks * BLOCK_ROWS)?;
        self.errors.resize(blocks * BLOCK_ROWS)
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.scales.len() / BLOCK_ROWS
    }

    /// True if rows are rotated before they are coded.
    #[must_use]
    pub fn is_rotated(&self) -> bool {
        self.frame.is_rotated()
    }

    /// True if rows are centred before they are coded.
    #[must_use]
    pub fn is_centred(&self) -> bool {
        self.frame.mean().is_some()
    }

    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Upper bound of the lengths of all rows in the frame.
    pub(crate) fn radius(&self) -> f32 {
        self.radius
    }

    /// Number of column groups.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Size of codes, scales and errors in bytes.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.codes.nbytes() + self.scales.nbytes() + self.errors.nbytes()
    }

    /// Error of a row's codes.
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

    /// Codes, scales and errors, in their stored layout.
    pub(crate) fn parts(&self) -> (&[u8], &[f32], &[f32]) {
        (self.codes.as_slice(), self.scales.as_slice(), self.errors.as_slice())
    }

    pub(crate) fn duplicate(&self) -> Result<Self> {
        Ok(Self {
            rows: self.rows,
            groups: self.groups,
            frame: self.frame.clone(),
            radius: self.radius,
            codes: self.codes.duplicate()?,
            scales: self.scales.duplicate()?,
            errors: self.errors.duplicate()?,
        })
    }
}

/// Codes, scales and errors of rows in their stored layout.
pub(crate) struct StoredCodes {
    pub(crate) codes: Buffer<u8>,
    pub(crate) scales: Buffer<f32>,
    pub(crate) errors: Buffer<f32>,
}

/// Fills whole blocks with the codes, scales and errors of `rows` rows. Padding rows get zero codes, a zero scale, and
/// an error of minus infinity, so their bound is never above a limit.
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
