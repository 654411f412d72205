//! Row-major embeddings, validated once, with the norms that turn their dot products into cosines.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernel::{F16, Kernel, MAX_DIM, Row};
use crate::parallel::{self, Execution};

/// Rows per task when a matrix is checked.
const CHUNK: usize = 1024;

/// Maximum number of rows: row numbers have 32 bits, and padding may fill the last block of codes.
pub const MAX_ROWS: usize = u32::MAX as usize - 64;

/// The caller's values, float32 or float16.
#[derive(Debug)]
pub enum Values {
    /// float32.
    F32(Buffer<f32>),
    /// float16.
    F16(Buffer<F16>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    fn nbytes(&self) -> usize {
        match self {
            Self::F32(values) => values.nbytes(),
            Self::F16(values) => values.nbytes(),
        }
    }

    fn slice(&self, range: Range<usize>) -> Row<'_> {
        match self {
            Self::F32(values) => Row::F32(&values.as_slice()[range]),
            Self::F16(values) => Row::F16(&values.as_slice()[range]),
        }
    }

    /// The bytes of all values.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values.as_slice()),
            Self::F16(values) => bytemuck::cast_slice(values.as_slice()),
        }
    }
}

/// A validated matrix of embeddings. Rows keep the caller's values, bit for bit.
#[derive(Debug)]
pub struct Matrix {
    values: Values,
    rows: usize,
    dim: usize,
    norms: Buffer<f64>,
}

impl Matrix {
    /// Validates `values`: `rows` rows of `dim` values each.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], [`Error::TooManyRows`], [`Error::TooWide`], [`Error::NotFinite`] with the
    /// first offending row and column, [`Error::ZeroRow`], [`Error::Memory`], [`Error::Interrupted`]. Messages name the
    /// argument `name`.
    pub fn new(name: &'static str, values: Values, rows: usize, dim: usize, execution: &Execution) -> Result<Self> {
        check_shape(name, rows, dim)?;
        if rows.checked_mul(dim) != Some(values.len()) {
            return Err(Error::Length { name, expected: rows.saturating_mul(dim), got: values.len() });
        }
        let mut norms = Buffer::zeros(rows).map_err(|error| error.of(name))?;
        let tasks = norms.as_mut_slice().chunks_mut(CHUNK).enumerate();
        let outcomes = parallel::for_each(execution, tasks, |(chunk, norms)| {
            execution.check()?;
            for (row, norm) in (chunk * CHUNK..).zip(norms) {
                *norm = check_row(name, row, values.slice(row * dim..(row + 1) * dim), execution.kernel())?;
            }
            Ok(())
        })?;
        // Outcomes are in row order, so the first error names the first offending row for any number of threads.
        outcomes.into_iter().collect::<Result<()>>()?;
        Ok(Self { values, rows, dim, norms })
    }

    /// A matrix read from an index file, which was validated before it was written.
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

    /// Runs `work`, which reads rows sequentially; the system otherwise expects random reads of a mapped file.
    pub fn read_in_order<T>(&self, work: impl FnOnce() -> T) -> T {
        self.advise_reads(true);
        let outcome = work();
        self.advise_reads(false);
        outcome
    }

    pub(crate) fn advise_reads(&self, in_order: bool) {
        match &self.values {
            Values::F32(values) => values.advise_reads(in_order),
            Values::F16(values) => values.advise_reads(in_order),
        }
    }

    /// One row.
    ///
    /// # Panics
    /// If the row is out of range.
    #[must_use]
    pub fn row(&self, row: usize) -> Row<'_> {
        self.values.slice(row * self.dim..(row + 1) * self.dim)
    }

    /// A row divided by its norm, rounded to float32.
    pub(crate) fn unit_row(&self, row: usize) -> Vec<f32> {
        self.unit_rows(std::iter::once(row))
    }

    /// Rows divided by their norms, rounded to float32, concatenated.
    pub(crate) fn unit_rows(&self, rows: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
        let mut units = Vec::with_capacity(rows.len() * self.dim);
        for row in rows {
            let inverse = 1.0 / self.norm(row);
            let unit = |value: f32| (f64::from(value) * inverse) as f32;
            match self.row(row) {
                Row::F32(values) => units.extend(values.iter().map(|&value| unit(value))),
                Row::F16(values) => units.extend(values.iter().map(|&value| unit(value.to_f32()))),
            }
        }
        units
    }

    /// The values of consecutive rows.
    ///
    /// # Panics
    /// If a row is out of range.
    #[must_use]
    pub fn slab(&self, rows: Range<usize>) -> Row<'_> {
        self.values.slice(rows.start * self.dim..rows.end * self.dim)
    }

    /// Euclidean norm of a row, accumulated in double precision.
    ///
    /// # Panics
    /// If the row is out of range.
    #[must_use]
    pub fn norm(&self, row: usize) -> f64 {
        self.norms.as_slice()[row]
    }

    /// Norms of all rows.
    pub(crate) fn norms(&self) -> &[f64] {
        &self.norms.as_slice()[..self.rows]
    }

    /// Appends the rows of `other`, which must have the same width and type.
    pub(crate) fn append(&mut self, name: &'static str, other: &Self) -> Result<()> {
        let total = self.rows + other.rows;
        check_shape(name, total, self.dim)?;
        let rows = self.rows;
        self.norms.resize(rows)?;
        self.norms.extend(other.norms())?;
        let outcome = match (&mut self.values, &other.values) {
            (Values::F32(values), Values::F32(more)) => values.extend(more.as_slice()),
            (Values::F16(values), Values::F16(more)) => values.extend(more.as_slice()),
            _ => Err(Error::Mixed { name }),
        };
        if outcome.is_err() {
            self.norms.resize(rows)?;
            return outcome;
        }
        self.rows = total;
        Ok(())
    }

    /// Keeps only the first `rows` rows.
    pub(crate) fn truncate(&mut self, rows: usize) -> Result<()> {
        self.norms.resize(rows)?;
        match &mut self.values {
            Values::F32(values) => values.resize(rows * self.dim)?,
            Values::F16(values) => values.resize(rows * self.dim)?,
        }
        self.rows = rows;
        Ok(())
    }

    /// A copy in memory of the rows whose `keep` is true.
    pub(crate) fn select(&self, keep: &[bool]) -> Result<Self> {
        let rows = keep.iter().filter(|&&keep| keep).count();
        let mut norms = Buffer::zeros(rows)?;
        let kept = || keep.iter().enumerate().filter_map(|(row, &keep)| keep.then_some(row));
        for (to, from) in kept().enumerate() {
            norms.as_mut_slice()[to] = self.norm(from);
        }
        let values = match &self.values {
            Values::F32(values) => Values::F32(select(values, self.dim, rows, kept())?),
            Values::F16(values) => Values::F16(select(values, self.dim, rows, kept())?),
        };
        Ok(Self { values, rows, dim: self.dim, norms })
    }

    /// A copy in memory.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        let values = match &self.values {
            Values::F32(values) => Values::F32(values.duplicate()?),
            Values::F16(values) => Values::F16(values.duplicate()?),
        };
        Ok(Self { values, rows: self.rows, dim: self.dim, norms: self.norms.duplicate()? })
    }
}

fn select<T: bytemuck::Pod>(
    values: &Buffer<T>,
    dim: usize,
    rows: usize,
    kept: impl Iterator<Item = usize>,
) -> Result<Buffer<T>> {
    let mut selected = Buffer::zeros(rows * dim)?;
    for (to, from) in selected.as_mut_slice().chunks_exact_mut(dim).zip(kept) {
        to.copy_from_slice(&values.as_slice()[from * dim..(from + 1) * dim]);
    }
    Ok(selected)
}

/// Checks a shape against the limits of a matrix.
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

/// The cosine of two rows: products and sums in double precision and in one fixed order, divided by both norms, rounded
/// once to float32. All scores that relkt returns are computed here.
pub(crate) fn cosine(kernel: Kernel, queries: &Matrix, query: usize, passages: &Matrix, row: usize) -> f32 {
    let dot = kernel.dot_f64(queries.row(query), passages.row(row));
    // Scores are ordered by their bits. Adding zero turns -0.0, which an underflow can produce, into 0.0.
    (dot / (queries.norm(query) * passages.norm(row))) as f32 + 0.0
}

/// Validates a row and returns its norm.
fn check_row(name: &'static str, row: usize, values: Row<'_>, kernel: Kernel) -> Result<f64> {
    let squared = kernel.dot_f64(values, values);
    // A float16 infinity is not visible in the sum, because widening it gives a finite float32.
    let doubtful = matches!(values, Row::F16(_)) || !squared.is_finite();
    if doubtful && let Some((column, value)) = values.not_finite() {
        return Err(Error::NotFinite { name, row, column, value });
    }
    if squared == 0.0 {
        return Err(Error::ZeroRow { name, row });
    }
    Ok(squared.sqrt())
}
