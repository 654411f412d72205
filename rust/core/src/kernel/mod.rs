//! Scoring kernels and the choice among them.
//!
//! A [`Kernel`] is a value that can only be had for an instruction set that the processor has; holding one is the proof
//! that its functions may be called.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod codes;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use crate::error::{Error, Result};
pub use lanes::Half;

/// Rows whose codes are stored together: four columns of the first row, the same four of the second, and so on. One
/// layout for every instruction set, whose vectors hold four columns of all of a block's rows, or of an equal part of them.
pub const BLOCK_ROWS: usize = 16;

/// Columns are coded in groups of four; a group of a block has this many bytes.
pub const GROUP_BYTES: usize = 4 * BLOCK_ROWS;

/// Groups of so many columns; kernels take them in pairs, so that there is an even number of them.
#[must_use]
pub const fn groups(dim: usize) -> usize {
    dim.div_ceil(8) * 2
}

/// Largest code of a row, in magnitude; a code c is stored as c + 128.
pub const ROW_LEVELS: i8 = 127;

/// The most columns for which a sum of products of codes fits into 32 bits.
pub const MAX_DIM: usize = 1 << 17;
const _: () = assert!(127 * 127 * MAX_DIM < 1 << 31);

/// A (query, row) pair whose bound passed the query's limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Survivor {
    /// Position of the query in its block.
    pub query: u32,
    /// Row of the passage.
    pub row: u32,
    /// scale of the query · scale of the row · (sum of products of codes) + slope of the query · error of the row, after
    /// at most four roundings.
    pub bound: f32,
}

/// What a scan of panels leaves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survivors {
    /// The pairs.
    pub rows: Vec<Survivor>,
    /// For each query, how many rows passed its limit but not its window ([`QueryBlock::set_window`]).
    pub dropped: Vec<u32>,
}

impl Survivors {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.dropped.clear();
    }
}

/// Codes of consecutive rows, a whole number of blocks.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    codes: &'a [u8],
    scales: &'a [f32],
    errors: &'a [f32],
    groups: usize,
    first_row: u32,
}

impl<'a> Panel<'a> {
    /// Blocks of codes with the rows' scales and errors; `first_row` numbers the first of them.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    #[must_use]
    pub fn new(codes: &'a [u8], scales: &'a [f32], errors: &'a [f32], groups: usize, first_row: u32) -> Self {
        let rows = scales.len();
        assert_eq!(rows, errors.len(), "a scale and an error for each row");
        assert!(rows.is_multiple_of(BLOCK_ROWS), "whole blocks");
        assert_eq!(groups.checked_mul(4 * rows), Some(codes.len()), "a panel holds four codes of each row and group");
        assert!(u32::MAX as usize - first_row as usize >= rows, "row numbers fit into 32 bits");
        Self { codes, scales, errors, groups, first_row }
    }

    fn rows(&self) -> usize {
        self.scales.len()
    }
}

/// One query's codes.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryCodes {
    codes: Vec<i8>,
    sum: i32,
    scale: f32,
    slope: f32,
}

impl QueryCodes {
    /// `codes`: four for each group, those past the last column zero. `scale` is what they are multiplied by, `slope` what
    /// the rows' errors are multiplied by.
    ///
    /// # Panics
    /// If there are more than [`MAX_DIM`] codes, or no pairs of groups.
    #[must_use]
    pub fn new(codes: Vec<i8>, scale: f32, slope: f32) -> Self {
        assert!(codes.len() <= MAX_DIM, "sums fit into 32 bits");
        assert!(codes.len().is_multiple_of(8), "groups come in pairs");
        let sum = codes.iter().map(|&code| i32::from(code)).sum();
        Self { codes, sum, scale, slope }
    }

    /// What the rows' errors are multiplied by.
    #[must_use]
    pub fn slope(&self) -> f32 {
        self.slope
    }

    fn groups(&self) -> usize {
        self.codes.len() / 4
    }

    fn fits(&self, kernel: Kernel) -> bool {
        let levels = kernel.query_levels();
        self.codes.iter().all(|code| (-levels..=levels).contains(code))
    }

    fn numbers(&self, limit: f32) -> Numbers {
        Numbers { scale: self.scale, slope: self.slope, limit, sure: limit, ceiling: f32::INFINITY }
    }
}

/// A query's numbers for the end of a tile.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    scale: f32,
    slope: f32,
    limit: f32,
    /// Rows between the limit and `sure` survive only if their lower bound is below `ceiling`.
    sure: f32,
    ceiling: f32,
}

/// One query, for one block.
#[derive(Clone, Copy)]
struct Single<'a> {
    codes: &'a [i8],
    offset: i32,
    numbers: Numbers,
}

/// Queries that are scored together, arranged for one kernel.
#[derive(Debug)]
pub struct QueryBlock {
    kernel: Kernel,
    groups: usize,
    /// For each tile, two groups at a time, eight codes of each of its queries.
    codes: Vec<i8>,
    /// First query and number of queries.
    tiles: Vec<(usize, usize)>,
    /// What the sums start from: it takes away what stored codes exceed the codes by.
    offsets: Vec<i32>,
    numbers: Vec<Numbers>,
}

impl QueryBlock {
    /// Arranges queries, whose limits are infinite at first.
    ///
    /// # Panics
    /// If a query has not four codes for each group, or codes beyond the kernel's [`Kernel::query_levels`].
    #[must_use]
    pub fn new(kernel: Kernel, groups: usize, queries: &[&QueryCodes]) -> Self {
        let mut block = Self {
            kernel,
            groups,
            codes: Vec::with_capacity(queries.len() * groups * 4),
            tiles: Vec::new(),
            offsets: Vec::with_capacity(queries.len()),
            numbers: Vec::with_capacity(queries.len()),
        };
        for query in queries {
            assert_eq!(query.groups(), groups, "four codes for each group");
            assert!(query.fits(kernel), "codes within the kernel's levels");
            block.offsets.push(-query.sum * kernel.row_zero());
            block.numbers.push(query.numbers(f32::INFINITY));
        }
        let mut first = 0;
        for &len in kernel.tiles() {
            while queries.len() - first >= len {
                for pair in 0..groups / 2 {
                    for query in &queries[first..first + len] {
                        block.codes.extend_from_slice(&query.codes[pair * 8..pair * 8 + 8]);
                    }
                }
                block.tiles.push((first, len));
                first += len;
            }
        }
        block
    }

    /// Number of queries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Only bounds above this survive.
    pub fn set_limit(&mut self, query: usize, limit: f32) {
        self.set_window(query, limit, limit, f32::INFINITY);
    }

    /// Bounds above `sure` survive, and those above `limit` for which bound - 2 · slope · error is below `ceiling`.
    pub fn set_window(&mut self, query: usize, limit: f32, sure: f32, ceiling: f32) {
        let numbers = &mut self.numbers[query];
        (numbers.limit, numbers.sure, numbers.ceiling) = (limit, sure, ceiling);
    }
}

/// The instruction sets there are kernels for.
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
            Isa::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
            Isa::Scalar => "scalar",
        }
    }

    /// Numbers of queries that are scored at a time, descending to 1.
    #[must_use]
    pub fn tiles(self) -> &'static [usize] {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::TILES,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => avx2::TILES_VNNI,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::TILES,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::TILES,
            Isa::Scalar => scalar::TILES,
        }
    }

    /// Largest code of a query, in magnitude.
    #[must_use]
    pub fn query_levels(self) -> i8 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::LEVELS,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => avx2::LEVELS_VNNI,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::LEVELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::LEVELS,
            Isa::Scalar => scalar::LEVELS,
        }
    }

    fn row_zero(self) -> i32 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::ROW_ZERO,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx2 => avx2::ROW_ZERO,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::ROW_ZERO,
            Isa::Scalar => scalar::ROW_ZERO,
        }
    }

    /// Scores a panel against a block of queries and appends the pairs whose bound is above the query's limit, those of
    /// one query in ascending order of rows; pairs that a window leaves out are counted.
    ///
    /// # Panics
    /// If the block was arranged for another kernel or number of groups.
    pub fn scan(self, queries: &QueryBlock, panel: &Panel<'_>, survivors: &mut Survivors) {
        assert_eq!(queries.kernel, self, "queries arranged for this kernel");
        assert_eq!(queries.groups, panel.groups, "queries and rows of the same number of columns");
        survivors.dropped.resize(queries.len(), 0);
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::scan(queries, panel, survivors) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::AvxVnni => unsafe { avx2::scan_vnni(queries, panel, survivors) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::scan(queries, panel, survivors) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::scan(queries, panel, survivors) },
            Isa::Scalar => scalar::scan(queries, panel, survivors),
        }
    }

    /// Scores one block of rows against one query; bit i of the result is set where `bounds[i]` is above `limit`.
    ///
    /// # Panics
    /// If the panel is not one block, or the query is for another number of groups or has codes beyond the kernel's.
    pub fn score_block(self, query: &QueryCodes, limit: f32, panel: &Panel<'_>, bounds: &mut [f32; BLOCK_ROWS]) -> u32 {
        assert_eq!(panel.rows(), BLOCK_ROWS, "one block");
        assert_eq!(query.groups(), panel.groups, "query and rows of the same number of columns");
        debug_assert!(query.fits(self), "codes within the kernel's levels");
        let offset = -query.sum * self.row_zero();
        let single = Single { codes: &query.codes, offset, numbers: query.numbers(limit) };
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::score_block(single, panel, bounds) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::AvxVnni => unsafe { avx2::score_block_vnni(single, panel, bounds) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::score_block(single, panel, bounds) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::score_block(single, panel, bounds) },
            Isa::Scalar => scalar::score_block(single, panel, bounds),
        }
    }

    /// All dot products of the rows of `a` with those of `b`, each of `dim` values, in float32: `out[i * (rows of b) + j]`
    /// is that of row i with row j. Each is off by at most (dim / 4 + 24) 2^-24 Σ |a b|: every kernel has at
    /// least four sums side by side, at most sixteen, and at most fifteen columns beyond them.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn products(self, a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
        assert!(dim > 0 && a.len().is_multiple_of(dim) && b.len().is_multiple_of(dim), "whole rows");
        assert_eq!(a.len() / dim * (b.len() / dim), out.len(), "a place for each product");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::products(a, b, dim, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::AvxVnni | Isa::Avx2 => unsafe { avx2::products(a, b, dim, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::products(a, b, dim, out) },
            Isa::Scalar => scalar::products(a, b, dim, out),
        }
    }

    /// Fills `codes` with whole numbers from `-levels` to `levels` and returns (scale, error) such that the Euclidean
    /// distance of `values / norm` and `scale * codes` is at most `error`. The error is at most a little above 1.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn quantize(self, values: Row<'_>, norm: f64, levels: i8, codes: &mut [i8]) -> (f32, f32) {
        assert_eq!(values.len(), codes.len(), "a code for each value");
        match values {
            Row::Single(values) => self.quantize_values(values, norm, levels, codes),
            Row::Half(values) => self.quantize_values(values, norm, levels, codes),
        }
    }

    fn quantize_values<T: lanes::Value>(self, values: &[T], norm: f64, levels: i8, codes: &mut [i8]) -> (f32, f32) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::quantize(values, norm, levels, codes) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::AvxVnni | Isa::Avx2 => unsafe { avx2::quantize(values, norm, levels, codes) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::quantize(values, norm, levels, codes) },
            Isa::Scalar => scalar::quantize(values, norm, levels, codes),
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
            (Row::Single(a), Row::Single(b)) => self.dot_values(a, b),
            (Row::Single(a), Row::Half(b)) | (Row::Half(b), Row::Single(a)) => self.dot_values(a, b),
            (Row::Half(a), Row::Half(b)) => self.dot_values(a, b),
        }
    }

    /// Asks for a row's cache lines, which will be read soon.
    pub fn prefetch(self, row: Row<'_>) {
        match row {
            Row::Single(row) => lanes::prefetch(row),
            Row::Half(row) => lanes::prefetch(row),
        }
    }

    /// Asks for the cache lines of a panel's codes, which will be read soon.
    pub fn prefetch_panel(self, panel: &Panel<'_>) {
        lanes::prefetch(panel.codes);
    }

    fn dot_values<A: lanes::Value, B: lanes::Value>(self, a: &[A], b: &[B]) -> f64 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the features do.
            Isa::Avx512 => unsafe { avx512::dot_f64(a, b) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::AvxVnni | Isa::Avx2 => unsafe { avx2::dot_f64(a, b) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::dot_f64(a, b) },
            Isa::Scalar => scalar::dot_f64(a, b),
        }
    }
}

/// A stored row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// Of float32.
    Single(&'a [f32]),
    /// Of float16.
    Half(&'a [Half]),
}

impl Row<'_> {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Half(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first value that is not finite, with its column.
    #[must_use]
    pub fn not_finite(&self) -> Option<(usize, f32)> {
        match self {
            Self::Single(values) => values.iter().position(|v| !v.is_finite()).map(|at| (at, values[at])),
            Self::Half(values) => values.iter().position(|v| v.0 & 0x7c00 == 0x7c00).map(|at| {
                let bits = values[at].0;
                let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
                (at, if bits & 0x3ff == 0 { sign * f32::INFINITY } else { f32::NAN })
            }),
        }
    }
}
