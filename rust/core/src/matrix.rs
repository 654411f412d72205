//! Row-major embeddings, checked once, with the norms that make their dot products cosines.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernel::{Half, Kernel, MAX_DIM, Row};
use crate::parallel::{self, Execution};

/// Rows per task when a matrix is checked.
const CHUNK: usize = 1024;

/// The most rows there can be: row numbers have 32 bits, and the last block of codes may be filled up.
pub const MAX_ROWS: usize = u32::MAX as usize - 64;

/// Values as somebody gave them, float32 or float16.
#[derive(Debug)]
pub enum Values {
    /// float32.
    Single(Buffer<f32>),
    /// float16.
    Half(Buffer<Half>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Half(values) => values.len(),
        }
    }

    fn nbytes(&self) -> usize {
        match self {
            Self::Single(values) => values.nbytes(),
            Self::Half(values) => values.nbytes(),
        }
    }

    fn slice(&self, range: Range<usize>) -> Row<'_> {
        match self {
            Self::Single(values) => Row::Single(&values.as_slice()[range]),
            Self::Half(values) => Row::Half(&values.as_slice()[range]),
        }
    }

    /// The bytes of all values.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Single(values) => bytemuck::cast_slice(values.as_slice()),
            Self::Half(values) => bytemuck::cast_slice(values.as_slice()),
        }
    }
}

/// A checked matrix of embeddings. Rows keep the caller's values, bit for bit.
#[derive(Debug)]
pub struct Matrix {
    values: Values,
    rows: usize,
    dim: usize,
    norms: Buffer<f64>,
}

impl Matrix {
    /// Checks `values`, which hold `rows` rows of `dim` values each.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], [`Error::TooManyRows`], [`Error::TooWide`], [`Error::NotFinite`] with the
    /// first offending row and column, [`Error::ZeroRow`], [`Error::Memory`], [`Error::Interrupted`]; `name` is the
    /// argument that the messages speak of.
    pub fn new(
        name: &'static str,
        values: Values,
        rows: usize,
        dim: usize,
        kernel: Kernel,
        execution: &Execution,
    ) -> Result<Self> {
        check_shape(name, rows, dim)?;
        if rows.checked_mul(dim) != Some(values.len()) {
            return Err(Error::Length { name, expected: rows.saturating_mul(dim), got: values.len() });
        }
        let mut norms = Buffer::zeros(name, rows)?;
        let tasks = norms.as_mut_slice().chunks_mut(CHUNK).enumerate();
        let outcomes = parallel::for_each(execution, tasks, |(chunk, norms)| {
            execution.check()?;
            for (row, norm) in (chunk * CHUNK..).zip(norms) {
                *norm = check_row(name, row, values.slice(row * dim..(row + 1) * dim), kernel)?;
            }
            Ok(())
        })?;
        // Outcomes stand in row order, so the first error is the first offending row whatever the threads did.
        outcomes.into_iter().collect::<Result<()>>()?;
        Ok(Self { values, rows, dim, norms })
    }

    /// What was checked when it was written.
    pub(crate) fn trusted(values: Values, rows: usize, dim: usize, norms: Buffer<f64>) -> Self {
        debug_assert!(values.len() == rows * dim && norms.len() >= rows);
        Self { values, rows, dim, norms }
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

    /// Bytes of values and norms.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.values.nbytes() + self.norms.nbytes()
    }

    /// The values of all rows.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Runs `work`, which reads rows one after the other; otherwise rows are read here and there.
    pub fn read_in_order<T>(&self, work: impl FnOnce() -> T) -> T {
        self.expect_reads(true);
        let outcome = work();
        self.expect_reads(false);
        outcome
    }

    pub(crate) fn expect_reads(&self, in_order: bool) {
        match &self.values {
            Values::Single(values) => values.expect_reads(in_order),
            Values::Half(values) => values.expect_reads(in_order),
        }
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> Row<'_> {
        self.values.slice(row * self.dim..(row + 1) * self.dim)
    }

    /// A row divided by its norm, rounded to float32.
    pub(crate) fn unit_row(&self, row: usize) -> Vec<f32> {
        self.unit_rows(std::iter::once(row))
    }

    /// Rows divided by their norms, rounded to float32, one after the other.
    pub(crate) fn unit_rows(&self, rows: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
        let mut units = Vec::with_capacity(rows.len() * self.dim);
        for row in rows {
            let inverse = 1.0 / self.norm(row);
            let unit = |value: f32| (f64::from(value) * inverse) as f32;
            match self.row(row) {
                Row::Single(values) => units.extend(values.iter().map(|&value| unit(value))),
                Row::Half(values) => units.extend(values.iter().map(|&value| unit(value.widened()))),
            }
        }
        units
    }

    /// The values of consecutive rows.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn slab(&self, rows: Range<usize>) -> Row<'_> {
        self.values.slice(rows.start * self.dim..rows.end * self.dim)
    }

    /// Euclidean norm of a row, accumulated in double precision.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn norm(&self, row: usize) -> f64 {
        self.norms.as_slice()[row]
    }

    /// Norms of all rows.
    pub(crate) fn norms(&self) -> &[f64] {
        &self.norms.as_slice()[..self.rows]
    }

    /// Appends the rows of `other`, of the same width and type.
    pub(crate) fn append(&mut self, name: &'static str, other: &Self) -> Result<()> {
        let total = self.rows + other.rows;
        check_shape(name, total, self.dim)?;
        let rows = self.rows;
        self.norms.resize(name, rows)?;
        self.norms.extend(name, other.norms())?;
        let outcome = match (&mut self.values, &other.values) {
            (Values::Single(values), Values::Single(more)) => values.extend(name, more.as_slice()),
            (Values::Half(values), Values::Half(more)) => values.extend(name, more.as_slice()),
            _ => Err(Error::Mixed { name }),
        };
        if outcome.is_err() {
            self.norms.resize(name, rows)?;
            return outcome;
        }
        self.rows = total;
        Ok(())
    }

    /// Drops the rows from `rows` on.
    pub(crate) fn truncate(&mut self, name: &'static str, rows: usize) -> Result<()> {
        self.norms.resize(name, rows)?;
        match &mut self.values {
            Values::Single(values) => values.resize(name, rows * self.dim)?,
            Values::Half(values) => values.resize(name, rows * self.dim)?,
        }
        self.rows = rows;
        Ok(())
    }

    /// The rows whose `keep` is set, in memory.
    pub(crate) fn select(&self, name: &'static str, keep: &[bool]) -> Result<Self> {
        let rows = keep.iter().filter(|&&keep| keep).count();
        let mut norms = Buffer::zeros(name, rows)?;
        let kept = || keep.iter().enumerate().filter_map(|(row, &keep)| keep.then_some(row));
        for (to, from) in kept().enumerate() {
            norms.as_mut_slice()[to] = self.norm(from);
        }
        let values = match &self.values {
            Values::Single(values) => Values::Single(select(name, values, self.dim, rows, kept())?),
            Values::Half(values) => Values::Half(select(name, values, self.dim, rows, kept())?),
        };
        Ok(Self { values, rows, dim: self.dim, norms })
    }

    /// A copy, in memory.
    pub(crate) fn duplicate(&self, name: &'static str) -> Result<Self> {
        let values = match &self.values {
            Values::Single(values) => Values::Single(values.duplicate(name)?),
            Values::Half(values) => Values::Half(values.duplicate(name)?),
        };
        Ok(Self { values, rows: self.rows, dim: self.dim, norms: self.norms.duplicate(name)? })
    }
}

fn select<T: bytemuck::Pod>(
    name: &'static str,
    values: &Buffer<T>,
    dim: usize,
    rows: usize,
    kept: impl Iterator<Item = usize>,
) -> Result<Buffer<T>> {
    let mut selected = Buffer::zeros(name, rows * dim)?;
    for (to, from) in selected.as_mut_slice().chunks_exact_mut(dim).zip(kept) {
        to.copy_from_slice(&values.as_slice()[from * dim..(from + 1) * dim]);
    }
    Ok(selected)
}

/// Refuses shapes that no matrix can have.
pub(crate) fn check_shape(name: &'static str, rows: usize, dim: usize) -> Result<()> {
    if rows == 0 || dim == 0 {
        return Err(Error::Empty { name, rows, dim });
    }
    if rows > MAX_ROWS {
        return Err(Error::TooManyRows { name, rows, max: MAX_ROWS });
    }
    if dim > MAX_DIM {
        return Err(Error::TooWide { name, dim, max: MAX_DIM });
    }
    Ok(())
}

/// The cosine of two rows: double-precision products and sums in one fixed order, divided by both norms, rounded to
/// float32 once. This is the only score that relkt ever returns.
pub(crate) fn cosine(kernel: Kernel, queries: &Matrix, query: usize, passages: &Matrix, row: usize) -> f32 {
    let dot = kernel.dot_f64(queries.row(query), passages.row(row));
    // Adding zero makes -0.0, which an underflow leaves, the 0.0 that it equals: scores are ordered by their bits.
    (dot / (queries.norm(query) * passages.norm(row))) as f32 + 0.0
}

/// The row's norm.
fn check_row(name: &'static str, row: usize, values: Row<'_>, kernel: Kernel) -> Result<f64> {
    let squared = kernel.dot_f64(values, values);
    // Sums of float16 are finite whatever the values are.
    let doubtful = matches!(values, Row::Half(_)) || !squared.is_finite();
    if doubtful && let Some((column, value)) = values.not_finite() {
        return Err(Error::NotFinite { name, row, column, value });
    }
    if squared == 0.0 {
        return Err(Error::ZeroRow { name, row });
    }
    Ok(squared.sqrt())
}
