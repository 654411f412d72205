//! AVX2 with its own VNNI instructions: the kernels of `avx2` with a faster integer dot product.
#![allow(unsafe_code)]

use super::avx2::AvxVnni;
pub(super) use super::avx2::{ROW_ZERO, dot_f64, products, quantize};
use super::query::SingleQuery;
use super::{BLOCK_ROWS, Panel, QueryBlock, Survivors, tile};

pub(super) const NAME: &str = "avxvnni";
/// Tile sizes, in queries, largest first.
pub(super) const TILES: &[usize] = &[6, 4, 2, 1];
/// Largest code of a query.
pub(super) const LEVELS: i8 = 127;

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn scan(queries: &QueryBlock, panel: &Panel<'_>, survivors: &mut Survivors) {
    // SAFETY: the features are enabled here, 2 * 8 rows are a block; `Kernel::scan` checks the lengths.
    unsafe { tile::scan::<AvxVnni, 2, 2, 6, 4>(queries, panel, survivors) }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn score_block(query: SingleQuery<'_>, panel: &Panel<'_>, bounds: &mut [f32; BLOCK_ROWS]) -> u32 {
    // SAFETY: the features are enabled here; `Kernel::score_block` checks the lengths.
    unsafe { tile::score_block::<AvxVnni, 2>(query, panel, bounds) }
}
