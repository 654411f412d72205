//! Sketches: codes of the rows' projections on a few directions in which the data varies most. On data with such
//! directions they rule out most rows at a fraction of the cost of the full codes.
//!
//! # The bound
//! Let P be m directions (rows of a matrix) with P Pᵀ = I + E, ‖E‖ ≤ ε ≤ 1/2. With the polar decomposition
//! P = (I + E)^½ U, where U has orthonormal rows, write u = U x̂ for the part of a unit vector x̂ inside their span and
//! x⊥ for the rest. Then, for a row and a query,
//!
//! > q̂ · x̂ = u_q · uₓ + q⊥ · x⊥, and |q⊥ · x⊥| ≤ |q⊥| |x⊥| by Cauchy-Schwarz.
//!
//! Let y be the computed projection P x̂, and ŷ = s c its decoded code. Since |P x̂ - u| ≤ ‖(I + E)^½ - I‖ ≤ ε,
//!
//! > |ŷ - u| ≤ |ŷ - y| + |y - P x̂| + ε =: a and |x⊥| = √(1 - |u|²) ≤ √(1 - (|y| - |y - P x̂| - ε)²) =: b,
//!
//! where |ŷ - y| is measured (`kernel::codes`) and |y - P x̂| ≤ `rounding`. As in [`crate::quantize`],
//! u_q · uₓ ≤ ŷ_q · ŷₓ + aₓ + a_q (1 + aₓ), so the cosine is at most
//!
//! > t s D + (1 + a_q) aₓ + b_q bₓ + a_q ≤ t s D + slope · (bₓ + aₓ / τ) + a_q, slope = max(b_q, τ (1 + a_q)),
//!
//! for any τ > 0, up to rounding. With τ = 1/4, slope · (bₓ + aₓ / τ) ≤ 10 and |t s D| ≤ 4.1, so the rounding error of
//! a kernel's bound is below (3 · 4.1 + 10 + 14.1) 2^-24, which `SLACK` covers. So this bound has the form of the bound
//! in [`crate::quantize`], with bₓ + aₓ / τ as the row's error, and the same kernels scan a sketch. The bound holds for
//! any directions; good directions only rule out more rows.

mod basis;
#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::matrix::Matrix;
use crate::parallel::Execution;
use crate::quantize::{Codes, Frame, SLACK};

pub(crate) use basis::Basis;

/// τ: coding errors are weighted with 1/τ, and tails of queries below τ count as τ.
const TAU: f64 = 0.25;
/// Smallest numbers of rows and columns for which a sketch can save time.
const MIN_ROWS: usize = 16_384;
const MIN_DIM: usize = 128;

/// Directions and the codes of all rows' projections on them.
#[derive(Debug)]
pub struct Sketch {
    basis: Basis,
    codes: Codes,
}

impl Sketch {
    /// A sketch of a matrix's rows; `None` if it does not promise to save time on this data.
    ///
    /// # Errors
    /// [`crate::Error::Memory`], [`crate::Error::Interrupted`], [`crate::Error::ThreadPool`].
    pub fn of(matrix: &Matrix, execution: &Execution) -> Result<Option<Self>> {
        if matrix.rows() < MIN_ROWS {
            return Ok(None);
        }
        match Basis::of(matrix, execution)? {
            Some(basis) => Self::with(basis, matrix, execution).map(Some),
            None => Ok(None),
        }
    }

    /// Sketches rows on given directions.
    pub(crate) fn with(basis: Basis, matrix: &Matrix, execution: &Execution) -> Result<Self> {
        let codes = Codes::new(basis.width(), Frame::default());
        let mut sketch = Self { basis, codes };
        sketch.extend(matrix, execution)?;
        Ok(sketch)
    }

    /// A sketch read from an index file.
    pub(crate) fn trusted(basis: Basis, codes: Codes) -> Self {
        Self { basis, codes }
    }

    /// Sketches the rows of `matrix` that do not have a sketch yet. On an error nothing has changed.
    pub(crate) fn extend(&mut self, matrix: &Matrix, execution: &Execution) -> Result<()> {
        let (basis, kernel) = (&self.basis, execution.kernel());
        self.codes.extend_with(matrix.rows(), execution, |first_row, codes, scales, errors| {
            basis.encode(matrix, first_row, kernel, codes, scales, errors);
        })
    }

    /// The codes of the projections.
    pub(crate) fn codes(&self) -> &Codes {
        &self.codes
    }

    pub(crate) fn basis(&self) -> &Basis {
        &self.basis
    }

    /// Number of directions.
    #[must_use]
    pub fn width(&self) -> usize {
        self.basis.width()
    }

    /// Size of directions and codes in bytes.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        size_of_val(self.basis.values()) + self.codes.nbytes()
    }

    pub(crate) fn duplicate(&self) -> Result<Self> {
        Ok(Self { basis: self.basis.duplicate()?, codes: self.codes.duplicate()? })
    }
}
