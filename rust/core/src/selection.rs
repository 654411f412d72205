//! The rows that a scan considers.

use crate::error::{Error, Result};
use crate::kernel::BLOCK_ROWS;

/// A set of rows.
#[derive(Debug, Clone)]
pub struct Allow {
    /// Total number of rows.
    rows: usize,
    /// Number of rows in the set.
    allowed: usize,
    /// For each block, a mask whose bit i stands for row i of the block.
    masks: Vec<u16>,
    /// Blocks with at least one row in the set.
    blocks: Vec<u32>,
}

const _: () = assert!(BLOCK_ROWS == u16::BITS as usize);

impl Allow {
    /// The rows whose byte is not zero. Bytes rather than `bool`s, because a mask from another language may hold any
    /// byte.
    #[must_use]
    pub fn mask(allowed: &[u8]) -> Self {
        let bits = |block: &[u8]| block.iter().rev().fold(0, |mask, &row| mask << 1 | u16::from(row != 0));
        Self::of(allowed.len(), allowed.chunks(BLOCK_ROWS).map(bits).collect())
    }

    /// The given rows of `rows`, in any order, possibly with repeats.
    ///
    /// # Errors
    /// [`Error::AllowOutOfRange`].
    pub fn rows(rows: usize, allowed: &[i64]) -> Result<Self> {
        let mut masks = vec![0u16; rows.div_ceil(BLOCK_ROWS)];
        for (position, &row) in allowed.iter().enumerate() {
            match usize::try_from(row) {
                Ok(row) if row < rows => masks[row / BLOCK_ROWS] |= 1 << (row % BLOCK_ROWS),
                _ => return Err(Error::AllowOutOfRange { position, row, rows }),
            }
        }
        Ok(Self::of(rows, masks))
    }

    fn of(rows: usize, masks: Vec<u16>) -> Self {
        let allowed = masks.iter().map(|mask| mask.count_ones() as usize).sum();
        let blocks = masks.iter().zip(0u32..).filter(|(mask, _)| **mask != 0).map(|(_, block)| block).collect();
        Self { rows, allowed, masks, blocks }
    }

    /// Total number of rows, in the set or not.
    #[must_use]
    pub fn total(&self) -> usize {
        self.rows
    }

    /// Number of rows in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.allowed
    }

    /// True if the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed == 0
    }
}

/// The blocks that a scan visits, in ascending order, and their allowed rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    blocks: usize,
    allow: Option<&'a Allow>,
    stride: usize,
}

impl<'a> Selection<'a> {
    /// All of `blocks` blocks, or those with an allowed row.
    pub(crate) fn new(blocks: usize, allow: Option<&'a Allow>) -> Self {
        // A set of all rows needs no mask.
        let allow = allow.filter(|allow| allow.allowed < allow.rows);
        Self { blocks: allow.map_or(blocks, |allow| allow.blocks.len()), allow, stride: 1 }
    }

    /// Every `stride`-th block of the selection.
    pub(crate) fn sample(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.blocks.div_ceil(self.stride)
    }

    /// The block at a position of the selection.
    pub(crate) fn block(&self, position: usize) -> usize {
        let position = position * self.stride;
        self.allow.map_or(position, |allow| allow.blocks[position] as usize)
    }

    /// True if rows of the blocks have to be masked.
    pub(crate) fn is_masked(&self) -> bool {
        self.allow.is_some()
    }

    /// The allowed rows of a block, as bits.
    pub(crate) fn mask(&self, block: usize) -> u16 {
        self.allow.map_or(u16::MAX, |allow| allow.masks[block])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_rows_select_alike() {
        let rows = 53;
        let wanted = [0i64, 15, 16, 52, 40, 40];
        let mask: Vec<u8> = (0..rows).map(|row| u8::from(wanted.contains(&(row as i64)))).collect();
        let (a, b) = (Allow::mask(&mask), Allow::rows(rows, &wanted).expect("in range"));
        assert_eq!((a.len(), a.total(), a.is_empty()), (5, 53, false));
        assert_eq!((&a.masks, &a.blocks, a.len()), (&b.masks, &b.blocks, b.len()));
        assert_eq!(a.blocks, [0, 1, 2, 3]);
        assert_eq!(a.masks, [1 | 1 << 15, 1, 1 << 8, 1 << 4]);
        let selection = Selection::new(4, Some(&a));
        assert_eq!((0..selection.len()).map(|at| selection.block(at)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((selection.sample(3).len(), selection.sample(3).block(1)), (2, 3));
    }

    #[test]
    fn any_byte_but_zero_allows_its_own_row_only() {
        for byte in 0..=u8::MAX {
            for row in 0..40 {
                let mut mask = [0u8; 40];
                mask[row] = byte;
                let allow = Allow::mask(&mask);
                let mut expected = [0u16; 3];
                expected[row / BLOCK_ROWS] = u16::from(byte != 0) << (row % BLOCK_ROWS);
                assert_eq!(
                    (allow.masks.as_slice(), allow.len()),
                    (&expected[..], usize::from(byte != 0)),
                    "{byte} at {row}"
                );
            }
        }
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let allow = Allow::mask(&all);
        assert_eq!((allow.len(), allow.masks[0], allow.masks[15]), (255, !1, u16::MAX));
    }

    #[test]
    fn all_rows_need_no_mask() {
        let all = Allow::mask(&[1; 20]);
        assert!(!Selection::new(2, Some(&all)).is_masked());
    }

    #[test]
    fn rows_out_of_range_are_errors() {
        for row in [-1, 5, i64::MAX] {
            let refused = Allow::rows(5, &[0, row]).map(|_| ()).expect_err("out of range");
            assert_eq!(refused, Error::AllowOutOfRange { position: 1, row, rows: 5 });
        }
    }
}
