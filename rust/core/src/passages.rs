//! The rows of an index and their codes, which searches and mining read.

use crate::error::{Error, Result};
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
    /// Codes the rows of a validated matrix.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
    pub fn new(matrix: Matrix, execution: &Execution) -> Result<Self> {
        let codes = Codes::of(&matrix, execution).map_err(labelled)?;
        Ok(Self { matrix, codes, sketch: None })
    }

    /// Adds a sketch of the rows if it is expected to make searches faster. Building it pays off only over many
    /// searches.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
    pub fn with_sketch(self, execution: &Execution) -> Result<Self> {
        let sketch = Sketch::of(&self.matrix, execution).map_err(labelled)?;
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

    /// The sketch, if the index has one.
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

    /// Size of rows and codes in bytes, in memory or in a mapped file.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.matrix.nbytes() + self.codes.nbytes() + self.sketch.as_ref().map_or(0, Sketch::nbytes)
    }

    /// True if rows are stored as float16.
    #[must_use]
    pub fn is_f16(&self) -> bool {
        matches!(self.matrix.values(), Values::F16(_))
    }

    /// Appends rows of the same width and type; on an error nothing has changed.
    ///
    /// # Errors
    /// [`Error::DimMismatch`], [`Error::TooManyRows`], [`Error::Memory`], [`Error::Interrupted`],
    /// [`Error::ThreadPool`].
    pub fn append(&mut self, more: &Matrix, execution: &Execution) -> Result<()> {
        if more.dim() != self.dim() {
            return Err(Error::DimMismatch { name: NAME, expected: self.dim(), got: more.dim() });
        }
        self.append_all(more, execution).map_err(labelled)
    }

    fn append_all(&mut self, more: &Matrix, execution: &Execution) -> Result<()> {
        let before = self.rows();
        self.matrix.append(NAME, more)?;
        let mut outcome = self.codes.extend(&self.matrix, execution);
        if outcome.is_ok()
            && let Some(sketch) = &mut self.sketch
        {
            outcome = sketch.extend(&self.matrix, execution);
            if outcome.is_err() {
                self.codes.truncate(before)?;
            }
        }
        if outcome.is_err() {
            self.matrix.truncate(before)?;
        }
        outcome
    }

    /// A copy in memory of the rows whose `keep` is true.
    ///
    /// # Errors
    /// [`Error::Empty`] if no row is kept, [`Error::Length`], [`Error::Memory`], [`Error::Interrupted`],
    /// [`Error::ThreadPool`].
    pub fn select(&self, keep: &[bool], execution: &Execution) -> Result<Self> {
        if keep.len() != self.rows() {
            return Err(Error::Length { name: "keep", expected: self.rows(), got: keep.len() });
        }
        if !keep.contains(&true) {
            return Err(Error::Empty { name: NAME, rows: 0, dim: self.dim() });
        }
        let selected = self.matrix.read_in_order(|| self.matrix.select(keep)).map_err(labelled)?;
        let selected = Self::new(selected, execution)?;
        let sketch = match &self.sketch {
            Some(sketch) => {
                let basis = sketch.basis().duplicate().map_err(labelled)?;
                Some(Sketch::with(basis, &selected.matrix, execution).map_err(labelled)?)
            }
            None => None,
        };
        Ok(Self { sketch, ..selected })
    }

    /// A copy in memory.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn duplicate(&self) -> Result<Self> {
        let sketch = self.sketch.as_ref().map(Sketch::duplicate).transpose().map_err(labelled)?;
        let matrix = self.matrix.read_in_order(|| self.matrix.duplicate()).map_err(labelled)?;
        Ok(Self { matrix, codes: self.codes.duplicate().map_err(labelled)?, sketch })
    }
}

fn labelled(error: Error) -> Error {
    error.of(NAME)
}
