//! Scoring kernels and the choice among them.
//!
//! A [`Kernel`] exists only for an instruction set that the processor has, so holding a `Kernel` proves that its
//! functions may be called.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod codes;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panel;
mod products;
mod query;
mod scalar;
mod tile;
mod values;

use crate::error::{Error, Result};
pub use panel::{BLOCK_ROWS, GROUP_BYTES, MAX_DIM, Panel, ROW_LEVELS, Survivor, Survivors, groups};
pub use query::{QueryBlock, QueryCodes};
pub use values::{F16, Row};

/// Instruction sets that have a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
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
pub const NAMES: [&str; 5] = ["avx512", "avxvnni", "avx2", "neon", "scalar"];

/// Evaluates an expression with `$isa` bound to the module of the kernel's instruction set. The modules have the same
/// items, so this is the only place that lists them.
macro_rules! dispatch {
    ($kernel:expr, $isa:ident => $expression:expr) => {
        match $kernel.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                use avx512 as $isa;
                // SAFETY: a Kernel of this kind exists only if the processor has the features.
                unsafe { $expression }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => {
                use avxvnni as $isa;
                // SAFETY: as above.
                unsafe { $expression }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                use avx2 as $isa;
                // SAFETY: as above.
                unsafe { $expression }
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                use neon as $isa;
                // SAFETY: as above.
                unsafe { $expression }
            }
            Isa::Scalar => {
                use scalar as $isa;
                $expression
            }
        }
    };
}

// `dispatch!` wraps every expression in `unsafe`; the constants do not need it.
#[allow(unused_unsafe)]
impl Kernel {
    /// The kernels this processor can run, fastest first; never empty.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if avx512 && is_x86_feature_detected!("avx512vnni") && fma {
                kernels.push(Self(Isa::Avx512));
            }
            if is_x86_feature_detected!("avx2") && fma {
                if is_x86_feature_detected!("avxvnni") {
                    kernels.push(Self(Isa::AvxVnni));
                }
                kernels.push(Self(Isa::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("dotprod") {
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

    /// The kernel with this name.
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

    /// Name of the instruction set, one of [`NAMES`].
    #[must_use]
    pub fn name(self) -> &'static str {
        dispatch!(self, isa => isa::NAME)
    }

    /// Tile sizes, in queries, descending to 1.
    #[must_use]
    pub fn tiles(self) -> &'static [usize] {
        dispatch!(self, isa => isa::TILES)
    }

    /// Largest magnitude of a query's code.
    #[must_use]
    pub fn query_levels(self) -> i8 {
        dispatch!(self, isa => isa::LEVELS)
    }

    /// The bias of stored codes that remains in the sums: 128, or 0 if the kernel removes it while loading.
    fn row_zero(self) -> i32 {
        dispatch!(self, isa => isa::ROW_ZERO)
    }

    /// Scores a panel against a block of queries and appends the pairs whose bound is above the query's limit; pairs of
    /// one query come in ascending order of rows. Pairs that score above the query's window are only counted.
    ///
    /// # Panics
    /// If queries and rows have different numbers of groups, or the queries are arranged for another kernel.
    pub fn scan(self, queries: &QueryBlock, panel: &Panel<'_>, survivors: &mut Survivors) {
        assert_eq!(queries.kernel, self, "queries arranged for this kernel");
        assert_eq!(queries.groups, panel.groups, "queries and rows of the same number of columns");
        survivors.above_window.resize(queries.len(), 0);
        dispatch!(self, isa => isa::scan(queries, panel, survivors));
    }

    /// Scores one block against one query: bit i of the result is set where `bounds[i]` is above `limit`.
    ///
    /// # Panics
    /// If the panel is not one block with the query's number of groups, or the codes are beyond the kernel's levels.
    pub fn score_block(self, query: &QueryCodes, limit: f32, panel: &Panel<'_>, bounds: &mut [f32; BLOCK_ROWS]) -> u32 {
        assert_eq!(panel.rows(), BLOCK_ROWS, "one block");
        assert_eq!(query.groups(), panel.groups, "query and rows of the same number of columns");
        debug_assert!(query.fits(self), "codes within the kernel's levels");
        let single = query.single(self, limit);
        dispatch!(self, isa => isa::score_block(single, panel, bounds))
    }

    /// All dot products of the rows of `a` with the rows of `b`, each of `dim` values, in float32. The product of row i
    /// with row j is `out[i * (rows of b) + j]`. Its error is at most (dim / 4 + 24) 2^-24 Σ |a b|: every kernel keeps
    /// 4 to 16 partial sums, and at most fifteen columns remain for the end.
    ///
    /// # Panics
    /// If the lengths are inconsistent.
    pub fn products(self, a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
        assert!(dim > 0 && a.len().is_multiple_of(dim) && b.len().is_multiple_of(dim), "whole rows");
        assert_eq!(a.len() / dim * (b.len() / dim), out.len(), "a place for each product");
        dispatch!(self, isa => isa::products(a, b, dim, out));
    }

    /// Fills `codes` with whole numbers from `-levels` to `levels` and returns (scale, error) such that the Euclidean
    /// distance of `values / norm` and `scale * codes` is at most `error`. The error is never much above 1.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn quantize(self, values: Row<'_>, norm: f64, levels: i8, codes: &mut [i8]) -> (f32, f32) {
        assert_eq!(values.len(), codes.len(), "a code for each value");
        match values {
            Row::F32(values) => dispatch!(self, isa => isa::quantize(values, norm, levels, codes)),
            Row::F16(values) => dispatch!(self, isa => isa::quantize(values, norm, levels, codes)),
        }
    }

    /// The dot product in double precision, bit-identical for every kernel: products are exact, column c is added to
    /// sum c mod 16 in order, and the sums are folded in halves.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn dot_f64(self, a: Row<'_>, b: Row<'_>) -> f64 {
        assert_eq!(a.len(), b.len(), "two rows of the same width");
        match (a, b) {
            (Row::F32(a), Row::F32(b)) => dispatch!(self, isa => isa::dot_f64(a, b)),
            (Row::F32(a), Row::F16(b)) | (Row::F16(b), Row::F32(a)) => dispatch!(self, isa => isa::dot_f64(a, b)),
            (Row::F16(a), Row::F16(b)) => dispatch!(self, isa => isa::dot_f64(a, b)),
        }
    }

    /// Prefetches the cache lines of a row.
    pub fn prefetch(self, row: Row<'_>) {
        match row {
            Row::F32(row) => values::prefetch(row),
            Row::F16(row) => values::prefetch(row),
        }
    }

    /// Prefetches the cache lines of a panel's codes.
    pub fn prefetch_panel(self, panel: &Panel<'_>) {
        values::prefetch(panel.codes);
    }
}
