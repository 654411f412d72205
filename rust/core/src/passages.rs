//! Everything that searches and mining run against: the rows and their codes.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::matrix::{Matrix, Values};
use crate::parallel::Execution;
use crate::quantize::Codes;
use crate::sketch::Sketch;

const NAME: &str = "passages";

/// Passage embeddings with their codes.
#[derive(Debug)]
pub struct Passages {
    matrix: Matrix,
    codes: Codes,
    sketch: Option<Sketch>,
}

impl Passages {
    /// Codes the rows of a checked matrix.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
    pub fn new(matrix: Matrix, kernel: Kernel, execution: &Execution) -> Result<Self> {
        let codes = Codes::of(NAME, &matrix, kernel, execution)?;
        Ok(Self { matrix, codes, sketch: None })
    }

    /// Adds a sketch of the rows, if the data is such that one promises to save time: worth it for many searches.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
    pub fn with_sketch(self, kernel: Kernel, execution: &Execution) -> Result<Self> {
        let sketch = Sketch::of(NAME, &self.matrix, kernel, execution)?;
        Ok(Self { sketch, ..self })
    }

    pub(crate) fn trusted(matrix: Matrix, codes: Codes, sketch: Option<Sketch>) -> Self {
        Self { matrix, codes, sketch }
    }

    /// The rows.
    #[must_use]
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// The codes.
    #[must_use]
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// The sketch, if there is one.
    #[must_use]
    pub fn sketch(&self) -> Option<&Sketch> {
        self.sketch.as_ref()
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.matrix.rows()
    }

    /// Number of columns.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.matrix.dim()
    }

    /// Bytes of rows and codes, in memory or in a mapped file.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.matrix.nbytes() + self.codes.nbytes() + self.sketch.as_ref().map_or(0, Sketch::nbytes)
    }

    /// Whether rows are kept as float16.
    #[must_use]
    pub fn is_half(&self) -> bool {
        matches!(self.matrix.values(), Values::Half(_))
    }

    /// Appends rows of the same width and type; on an error nothing has changed.
    ///
    /// # Errors
    /// [`Error::DimMismatch`], [`Error::TooManyRows`], [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
    pub fn append(&mut self, more: &Matrix, kernel: Kernel, execution: &Execution) -> Result<()> {
        if more.dim() != self.dim() {
            return Err(Error::DimMismatch { name: NAME, expected: self.dim(), got: more.dim() });
        }
        let before = self.rows();
        self.matrix.append(NAME, more)?;
        let mut outcome = self.codes.extend(NAME, &self.matrix, kernel, execution);
        if outcome.is_ok()
            && let Some(sketch) = &mut self.sketch
        {
            outcome = sketch.extend(NAME, &self.matrix, kernel, execution);
            if outcome.is_err() {
                self.codes.truncate(NAME, before)?;
            }
        }
        if outcome.is_err() {
            self.matrix.truncate(NAME, before)?;
        }
        outcome
    }

    /// The rows whose `keep` is set, in memory.
    ///
    /// # Errors
    /// [`Error::Empty`] if that leaves none, [`Error::Length`], [`Error::Memory`], [`Error::Interrupted`],
    /// [`Error::ThreadPool`].
    pub fn select(&self, keep: &[bool], kernel: Kernel, execution: &Execution) -> Result<Self> {
        if keep.len() != self.rows() {
            return Err(Error::Length { name: "keep", expected: self.rows(), got: keep.len() });
        }
        if !keep.contains(&true) {
            return Err(Error::Empty { name: NAME, rows: 0, dim: self.dim() });
        }
        let selected = self.matrix.read_in_order(|| self.matrix.select(NAME, keep))?;
        let selected = Self::new(selected, kernel, execution)?;
        let sketch = match &self.sketch {
            Some(sketch) => {
                let basis = sketch.basis().duplicate(NAME)?;
                Some(Sketch::with(NAME, basis, &selected.matrix, kernel, execution)?)
            }
            None => None,
        };
        Ok(Self { sketch, ..selected })
    }

    /// A copy, in memory.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn duplicate(&self) -> Result<Self> {
        let sketch = self.sketch.as_ref().map(|sketch| sketch.duplicate(NAME)).transpose()?;
        let matrix = self.matrix.read_in_order(|| self.matrix.duplicate(NAME))?;
        Ok(Self { matrix, codes: self.codes.duplicate(NAME)?, sketch })
    }
}
