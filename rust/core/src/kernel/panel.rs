//! Blocks of row codes, as the kernels read them, and the pairs that survive a scan.

/// Rows per block. A block stores the first four columns of its 16 rows, then the next four columns of the 16 rows, and
/// so on:
///
/// ```text
///              row 0       row 1               row 15
/// group 0   | 0 1 2 3 | 0 1 2 3 |  ...   | 0 1 2 3 |      64 bytes
/// group 1   | 4 5 6 7 | 4 5 6 7 |  ...   | 4 5 6 7 |      64 bytes
///   ...
/// group G-1 | columns 4G-4 .. 4G-1 of each row     |      64 bytes
/// ```
///
/// Numbers in the drawing are columns; each is one byte. A group of a block is one cache line: one AVX-512 register,
/// two AVX2 registers, or four NEON registers. Every 32-bit lane holds four columns of one row, which is the operand of
/// the integer dot-product instructions, so one layout serves all kernels. `G` = [`groups`]`(dim)` is even, because
/// kernels take two groups per step; codes of columns past `dim` are zero.
pub const BLOCK_ROWS: usize = 16;

/// Bytes of one group (four columns) of a block.
pub const GROUP_BYTES: usize = 4 * BLOCK_ROWS;

/// Number of column groups for `dim` columns, rounded up to even, since kernels take groups in pairs.
#[must_use]
pub const fn groups(dim: usize) -> usize {
    dim.div_ceil(8) * 2
}

/// Largest magnitude of a row's code; a code c is stored as the byte c + 128.
pub const ROW_LEVELS: i8 = 127;

/// Maximum number of columns for which a sum of products of codes fits into 32 bits.
pub const MAX_DIM: usize = 1 << 17;
const _: () = assert!(127 * 127 * MAX_DIM < 1 << 31);

/// A (query, row) pair whose bound is above the query's limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Survivor {
    /// Position of the query in its block.
    pub query: u32,
    /// Row of the passage.
    pub row: u32,
    /// scale of the query · scale of the row · (sum of products of codes) + slope of the query · error of the row,
    /// after at most four roundings.
    pub bound: f32,
}

/// The outcome of a scan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survivors {
    /// The surviving pairs.
    pub rows: Vec<Survivor>,
    /// For each query, the number of rows above its limit that were dropped because they score above its window
    /// ([`super::QueryBlock::set_window`]).
    pub above_window: Vec<u32>,
}

impl Survivors {
    /// Removes all pairs and counts.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.above_window.clear();
    }
}

/// Codes of consecutive rows, a whole number of blocks.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [f32],
    pub(super) errors: &'a [f32],
    pub(super) groups: usize,
    pub(super) first_row: u32,
}

impl<'a> Panel<'a> {
    /// Blocks of codes, with the rows' scales and errors. `first_row` is the row number of the first row.
    ///
    /// # Panics
    /// If the lengths are inconsistent.
    #[must_use]
    pub fn new(codes: &'a [u8], scales: &'a [f32], errors: &'a [f32], groups: usize, first_row: u32) -> Self {
        let rows = scales.len();
        assert_eq!(rows, errors.len(), "a scale and an error for each row");
        assert!(rows.is_multiple_of(BLOCK_ROWS), "whole blocks");
        assert_eq!(groups.checked_mul(4 * rows), Some(codes.len()), "a panel holds four codes of each row and group");
        assert!(u32::MAX as usize - first_row as usize >= rows, "row numbers fit into 32 bits");
        Self { codes, scales, errors, groups, first_row }
    }

    pub(super) fn rows(&self) -> usize {
        self.scales.len()
    }
}
