//! Panels of blocks that are not consecutive, or not fully allowed.

use std::ops::Range;

use super::group::Level;
use crate::kernel::{BLOCK_ROWS, GROUP_BYTES, Kernel, Panel, Survivors};
use crate::quantize::Codes;
use crate::selection::Selection;

/// A panel gathered from scattered or partly masked blocks.
#[derive(Default)]
pub(super) struct Gathered {
    blocks: Vec<u32>,
    codes: Vec<u8>,
    scales: Vec<f32>,
    errors: Vec<f32>,
}

impl Gathered {
    /// Scans the blocks at these positions of the selection, without copying codes if the blocks are consecutive.
    pub(super) fn scan(
        &mut self,
        kernel: Kernel,
        level: &Level,
        codes: &Codes,
        selection: Selection<'_>,
        positions: Range<usize>,
        survivors: &mut Survivors,
    ) {
        let (first, blocks) = (selection.block(positions.start), positions.len());
        let consecutive = selection.block(positions.end - 1) - first == blocks - 1;
        if consecutive && !selection.is_masked() {
            kernel.scan(&level.block, &codes.panel(first..first + blocks), survivors);
        } else {
            kernel.scan(&level.block, &self.panel(codes, selection, positions, consecutive), survivors);
            for survivor in &mut survivors.rows {
                survivor.row = self.row(survivor.row);
            }
        }
    }

    /// Masked rows get an error of minus infinity, so their bound is never above a limit.
    fn panel<'a>(
        &'a mut self,
        codes: &'a Codes,
        selection: Selection<'_>,
        positions: Range<usize>,
        consecutive: bool,
    ) -> Panel<'a> {
        self.blocks.clear();
        self.blocks.extend(positions.map(|position| selection.block(position) as u32));
        let (all, scales, errors) = codes.parts();
        self.scales.clear();
        self.errors.clear();
        for &block in &self.blocks {
            let block = block as usize;
            let rows = block * BLOCK_ROWS..(block + 1) * BLOCK_ROWS;
            let mask = selection.mask(block);
            self.scales.extend_from_slice(&scales[rows.clone()]);
            let error = |(lane, &error): (usize, &f32)| if mask >> lane & 1 == 1 { error } else { f32::NEG_INFINITY };
            self.errors.extend(errors[rows].iter().enumerate().map(error));
        }
        let bytes = codes.groups() * GROUP_BYTES;
        let codes_of = |block: u32| &all[block as usize * bytes..(block as usize + 1) * bytes];
        let gathered = if consecutive {
            let first = self.blocks[0] as usize;
            &all[first * bytes..(first + self.blocks.len()) * bytes]
        } else {
            self.codes.clear();
            for &block in &self.blocks {
                self.codes.extend_from_slice(codes_of(block));
            }
            &self.codes[..]
        };
        Panel::new(gathered, &self.scales, &self.errors, codes.groups(), 0)
    }

    /// The row number of a row of the panel.
    fn row(&self, at: u32) -> u32 {
        let block = self.blocks[at as usize / BLOCK_ROWS];
        block * BLOCK_ROWS as u32 + at % BLOCK_ROWS as u32
    }
}
