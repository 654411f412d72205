//! Row-major float32 embeddings, checked once, with the norms that make their dot products cosines.

use crate::error::{Error, Result, with_capacity};
use crate::kernel::Kernel;
use crate::parallel::{self, Execution};

/// Rows per task when a matrix is checked.
const CHUNK: usize = 1024;

/// Alignment of the first row, in bytes: one cache line, one AVX-512 register.
const ALIGN: usize = 64;

/// A copy of somebody's values, aligned for the kernels, that nobody has checked yet.
#[derive(Debug)]
pub struct Values {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

impl Values {
    /// Copies.
    ///
    /// # Errors
    /// [`Error::Memory`]; `name` is the argument that the message speaks of.
    pub fn copy_of(name: &'static str, values: &[f32]) -> Result<Self> {
        let slack = ALIGN / size_of::<f32>();
        let mut buffer: Vec<f32> = with_capacity(name, values.len() + slack)?;
        let start = buffer.as_ptr().align_offset(ALIGN).min(slack);
        buffer.resize(start, 0.0);
        buffer.extend_from_slice(values);
        Ok(Self { buffer, start, len: values.len() })
    }

    fn get(&self) -> &[f32] {
        &self.buffer[self.start..self.start + self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

/// A checked matrix of embeddings.
///
/// Rows keep the caller's values, bit for bit, when their norm lies in [0.5, 2]; any other row is multiplied by the
/// power of two that brings its norm into [1, 2), which changes no cosine and keeps float32 arithmetic on it clear of
/// overflow and underflow. (Coordinates more than 2^126 times smaller than their row's norm may round; they are below
/// double-precision resolution of any score.)
#[derive(Debug)]
pub struct Matrix {
    values: Values,
    rows: usize,
    dim: usize,
    norms: Vec<f64>,
    inverse_norms: Vec<f32>,
}

impl Matrix {
    /// Checks `values`, which hold `rows` rows of `dim` values each.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], [`Error::TooManyRows`], [`Error::NotFinite`] with the first offending row
    /// and column, [`Error::ZeroRow`], [`Error::Memory`], [`Error::Interrupted`]; `name` is the argument that the
    /// messages speak of.
    pub fn new(
        name: &'static str,
        mut values: Values,
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
        if rows.checked_mul(dim) != Some(values.len) {
            return Err(Error::Length { name, expected: rows.saturating_mul(dim), got: values.len });
        }
        let mut norms: Vec<f64> = with_capacity(name, rows)?;
        norms.resize(rows, 0.0);
        let mut inverse_norms: Vec<f32> = with_capacity(name, rows)?;
        inverse_norms.resize(rows, 0.0);
        let tasks = values
            .get_mut()
            .chunks_mut(CHUNK.saturating_mul(dim))
            .zip(norms.chunks_mut(CHUNK).zip(inverse_norms.chunks_mut(CHUNK)))
            .enumerate();
        let outcomes = parallel::for_each(execution, tasks, |(chunk, (rows, (norms, inverse)))| {
            execution.check()?;
            for (i, row) in rows.chunks_exact_mut(dim).enumerate() {
                norms[i] = check_row(name, chunk * CHUNK + i, row, kernel)?;
                inverse[i] = (1.0 / norms[i]) as f32;
            }
            Ok(())
        })?;
        // Outcomes stand in row order, so the first error is the first offending row whatever the threads did.
        outcomes.into_iter().collect::<Result<()>>()?;
        Ok(Self { values, rows, dim, norms, inverse_norms })
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
        size_of_val(self.values.buffer.as_slice())
            + size_of_val(self.norms.as_slice())
            + size_of_val(self.inverse_norms.as_slice())
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values.get()[row * self.dim..(row + 1) * self.dim]
    }

    /// All values of consecutive rows.
    pub(crate) fn slab(&self, rows: std::ops::Range<usize>) -> &[f32] {
        &self.values.get()[rows.start * self.dim..rows.end * self.dim]
    }

    /// Float32 reciprocals of the norms of consecutive rows.
    pub(crate) fn inverse_norms(&self, rows: std::ops::Range<usize>) -> &[f32] {
        &self.inverse_norms[rows]
    }

    /// Euclidean norm of a stored row, accumulated in double precision.
    pub(crate) fn norm(&self, row: usize) -> f64 {
        self.norms[row]
    }
}

/// The cosine of two rows: double-precision products and sums in one fixed order, divided by both norms, rounded to
/// float32 once. This is the only score that relkt ever returns.
pub(crate) fn cosine(kernel: Kernel, queries: &Matrix, query: usize, passages: &Matrix, row: usize) -> f32 {
    let dot = kernel.dot_f64(queries.row(query), passages.row(row));
    // Adding zero makes -0.0, which an underflow leaves, the 0.0 that it equals: scores are ordered by their bits.
    (dot / (queries.norm(query) * passages.norm(row))) as f32 + 0.0
}

/// The row's norm; the row is scaled if need be.
fn check_row(name: &'static str, row: usize, values: &mut [f32], kernel: Kernel) -> Result<f64> {
    let squared = kernel.dot_f64(values, values);
    if !squared.is_finite() {
        let column = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        return Err(Error::NotFinite { name, row, column, value: values[column] });
    }
    if squared == 0.0 {
        return Err(Error::ZeroRow { name, row });
    }
    let norm = squared.sqrt();
    if (0.5..=2.0).contains(&norm) {
        return Ok(norm);
    }
    let factor = (-norm.log2().floor()).exp2();
    for value in values.iter_mut() {
        *value = (f64::from(*value) * factor) as f32;
    }
    Ok(kernel.dot_f64(values, values).sqrt())
}
