//! Row-major float32 embeddings, checked once, with the norms that make their dot products cosines.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::parallel::{self, Execution};

/// Rows per task when a matrix is checked.
const CHUNK: usize = 1024;

/// Alignment of the first row, in bytes: one cache line, one AVX-512 register.
const ALIGN: usize = 64;

/// A checked matrix of embeddings.
///
/// Rows keep the caller's values, bit for bit, when their norm lies in [0.5, 2]; any other row is multiplied by the
/// power of two that brings its norm into [1, 2), which changes no cosine and keeps float32 arithmetic on it clear of
/// overflow and underflow. (Coordinates more than 2^126 times smaller than their row's norm may round; they are below
/// double-precision resolution of any score.)
#[derive(Debug)]
pub struct Matrix {
    buffer: Vec<f32>,
    start: usize,
    rows: usize,
    dim: usize,
    norms: Vec<f64>,
    inverse_norms: Vec<f32>,
}

impl Matrix {
    /// Checks and copies `values`, which hold `rows` rows of `dim` values each.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], [`Error::TooManyRows`], [`Error::NotFinite`] with the first offending row
    /// and column, [`Error::ZeroRow`], [`Error::Interrupted`]; `name` is the argument that the messages speak of.
    pub fn new(
        name: &'static str,
        values: &[f32],
        rows: usize,
        dim: usize,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<Self> {
        if rows == 0 || dim == 0 {
            return Err(Error::Empty { name, rows, dim });
        }
        if rows > u32::MAX as usize {
            return Err(Error::TooManyRows { name, rows, max: u32::MAX as usize });
        }
        if rows.checked_mul(dim) != Some(values.len()) {
            return Err(Error::Length { name, expected: rows.saturating_mul(dim), got: values.len() });
        }
        let mut buffer: Vec<f32> = vec![0.0; values.len() + ALIGN / size_of::<f32>()];
        let start = buffer.as_ptr().align_offset(ALIGN).min(ALIGN / size_of::<f32>());
        let mut norms = vec![0.0f64; rows];
        let mut inverse_norms = vec![0.0f32; rows];
        let tasks = buffer[start..start + values.len()]
            .chunks_mut(CHUNK * dim)
            .zip(values.chunks(CHUNK * dim))
            .zip(norms.chunks_mut(CHUNK).zip(inverse_norms.chunks_mut(CHUNK)))
            .enumerate();
        let outcomes = parallel::for_each(execution, tasks, |(chunk, ((target, source), (norms, inverse)))| {
            execution.check()?;
            let rows = target.chunks_exact_mut(dim).zip(source.chunks_exact(dim));
            for (i, (target, source)) in rows.enumerate() {
                norms[i] = copy_row(name, chunk * CHUNK + i, source, target, kernel)?;
                inverse[i] = (1.0 / norms[i]) as f32;
            }
            Ok(())
        })?;
        // Outcomes stand in row order, so the first error is the first offending row whatever the threads did.
        outcomes.into_iter().collect::<Result<()>>()?;
        Ok(Self { buffer, start, rows, dim, norms, inverse_norms })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        size_of_val(self.buffer.as_slice())
            + size_of_val(self.norms.as_slice())
            + size_of_val(self.inverse_norms.as_slice())
    }

    /// One row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values()[row * self.dim..(row + 1) * self.dim]
    }

    /// All values of consecutive rows.
    pub(crate) fn slab(&self, rows: std::ops::Range<usize>) -> &[f32] {
        &self.values()[rows.start * self.dim..rows.end * self.dim]
    }

    /// Float32 reciprocals of the norms of consecutive rows.
    pub(crate) fn inverse_norms(&self, rows: std::ops::Range<usize>) -> &[f32] {
        &self.inverse_norms[rows]
    }

    /// Euclidean norm of a stored row, accumulated in double precision.
    pub(crate) fn norm(&self, row: usize) -> f64 {
        self.norms[row]
    }

    fn values(&self) -> &[f32] {
        &self.buffer[self.start..self.start + self.rows * self.dim]
    }
}

/// The cosine of two rows: double-precision products and sums in one fixed order, divided by both norms, rounded to
/// float32 once. This is the only score that relkt ever returns.
pub(crate) fn cosine(kernel: Kernel, queries: &Matrix, query: usize, passages: &Matrix, row: usize) -> f32 {
    let dot = kernel.dot_f64(queries.row(query), passages.row(row));
    (dot / (queries.norm(query) * passages.norm(row))) as f32
}

fn copy_row(name: &'static str, row: usize, source: &[f32], target: &mut [f32], kernel: Kernel) -> Result<f64> {
    let squared = kernel.dot_f64(source, source);
    if !squared.is_finite() {
        let column = source.iter().position(|v| !v.is_finite()).unwrap_or(0);
        return Err(Error::NotFinite { name, row, column, value: source[column] });
    }
    if squared == 0.0 {
        return Err(Error::ZeroRow { name, row });
    }
    let norm = squared.sqrt();
    if (0.5..=2.0).contains(&norm) {
        target.copy_from_slice(source);
        return Ok(norm);
    }
    let factor = (-norm.log2().floor()).exp2();
    for (t, &s) in target.iter_mut().zip(source) {
        *t = (f64::from(s) * factor) as f32;
    }
    Ok(kernel.dot_f64(target, target).sqrt())
}
