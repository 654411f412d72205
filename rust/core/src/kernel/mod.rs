//! Scoring kernels and the choice among them.
//!
//! A [`Kernel`] is a value that can only be had for an instruction set that the processor has; holding one is the proof
//! that its functions may be called.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use crate::error::{Error, Result};

/// A (query, row) pair whose float32 score passed the query's threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Survivor {
    /// Position of the query in its block.
    pub query: u32,
    /// Row of the passage in its matrix.
    pub row: u32,
    /// The float32 score, within [`error_bound`] of the true one.
    pub score: f32,
}

/// Consecutive rows of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    values: &'a [f32],
    inverse_norms: &'a [f32],
    dim: usize,
    first_row: u32,
}

impl<'a> Panel<'a> {
    /// Rows of `dim` values each, with the reciprocals of their norms; `first_row` numbers the first of them.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    #[must_use]
    pub fn new(values: &'a [f32], inverse_norms: &'a [f32], dim: usize, first_row: u32) -> Self {
        let rows = inverse_norms.len();
        assert_eq!(rows.checked_mul(dim), Some(values.len()), "a panel holds dim values for each row");
        assert!(u32::MAX as usize - first_row as usize >= rows, "row numbers fit into 32 bits");
        Self { values, inverse_norms, dim, first_row }
    }

    fn rows(&self) -> usize {
        self.inverse_norms.len()
    }
}

/// The most queries that are scored directly.
pub const DIRECT_MAX: usize = lanes::DIRECT_MAX;

/// How far a kernel's float32 score of unit-norm vectors can be from the cosine rounded to float32.
///
/// With u = 2^-24: each of the `dim` fused or separate multiply-adds rounds at most twice by a factor 1 ± u whatever the
/// order of summation, which adds up to 2·dim·u·Σ|qᵢxᵢ| to first order, and Σ|qᵢxᵢ| ≤ |q||x| (Cauchy-Schwarz). Rounding
/// the normalised query, the row's inverse norm, the product with it and the exact score adds less than 6u; 10u more
/// cover second-order terms and the rounding of thresholds. Underflow adds at most dim·2^-126.
#[must_use]
pub fn error_bound(dim: usize) -> f32 {
    ((2.0 * dim as f64 + 16.0) * (0.5f64).powi(24) * 1.001) as f32
}

/// The instruction sets there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

/// The kernels of one instruction set that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Isa);

/// Names of all kernels, on any processor.
pub const NAMES: [&str; 4] = ["avx512", "avx2", "neon", "scalar"];

impl Kernel {
    /// The kernels this processor can run, fastest first; never empty.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("fma");
            if is_x86_feature_detected!("avx512f") && fma {
                kernels.push(Self(Isa::Avx512));
            }
            if is_x86_feature_detected!("avx2") && fma {
                kernels.push(Self(Isa::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            kernels.push(Self(Isa::Neon));
        }
        kernels.push(Self(Isa::Scalar));
        kernels
    }

    /// The fastest kernel of this processor.
    #[must_use]
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// The kernel of this name.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`]; [`Error::KernelUnavailable`] if the processor lacks the instruction set.
    pub fn by_name(name: &str) -> Result<Self> {
        if !NAMES.contains(&name) {
            return Err(Error::UnknownKernel { name: name.to_owned(), known: NAMES.join(", ") });
        }
        let available = Self::available();
        available.iter().copied().find(|k| k.name() == name).ok_or_else(|| Error::KernelUnavailable {
            name: name.to_owned(),
            available: available.iter().map(|k| k.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The name of the instruction set.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
            Isa::Scalar => "scalar",
        }
    }

    /// Widths of packed query blocks, ascending.
    #[must_use]
    pub fn widths(self) -> &'static [usize] {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::WIDTHS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::WIDTHS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::WIDTHS,
            Isa::Scalar => scalar::WIDTHS,
        }
    }

    /// Direct scoring takes one query, or a multiple of this many.
    #[must_use]
    pub fn group(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::GROUP,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::GROUP,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::GROUP,
            Isa::Scalar => scalar::GROUP,
        }
    }

    /// Scores a panel against a packed block of queries: value c of query q stands at `packed[c * width + q]`, where
    /// `width`, the number of thresholds, is one of [`Kernel::widths`]. Appends the pairs with score > threshold.
    ///
    /// # Panics
    /// If the width is not one of this kernel's or `packed` has not `dim * width` values.
    pub fn packed(self, packed: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
        assert!(self.widths().contains(&thresholds.len()), "a packed block has one of the kernel's widths");
        assert_eq!(thresholds.len().checked_mul(panel.dim), Some(packed.len()), "dim values for each query");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::packed(packed, panel, thresholds, survivors) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::packed(packed, panel, thresholds, survivors) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::packed(packed, panel, thresholds, survivors) },
            Isa::Scalar => scalar::packed(packed, panel, thresholds, survivors),
        }
    }

    /// Scores a panel against a few queries, one after the other in `queries`. Appends the pairs with
    /// score > threshold.
    ///
    /// # Panics
    /// If `queries` has not `dim` values for each threshold, or their number is neither 1 nor a multiple of
    /// [`Kernel::group`] up to [`DIRECT_MAX`].
    pub fn direct(self, queries: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
        assert_eq!(thresholds.len().checked_mul(panel.dim), Some(queries.len()), "dim values for each query");
        let groups = thresholds.len().is_multiple_of(self.group()) && thresholds.len() <= DIRECT_MAX;
        assert!(thresholds.len() == 1 || groups, "one query, or whole groups, and not too many");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::direct(queries, panel, thresholds, survivors) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::direct(queries, panel, thresholds, survivors) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::direct(queries, panel, thresholds, survivors) },
            Isa::Scalar => scalar::direct(queries, panel, thresholds, survivors),
        }
    }

    /// The dot product in double precision, bit-identical for every kernel: products are exact, column c is added to
    /// sum c mod 16 in order, and the sums are folded in halves.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn dot_f64(self, a: &[f32], b: &[f32]) -> f64 {
        assert_eq!(a.len(), b.len(), "two rows of the same width");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::dot_f64(a, b) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::dot_f64(a, b) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::dot_f64(a, b) },
            Isa::Scalar => scalar::dot_f64(a, b),
        }
    }
}
