//! The portable reference: plain arithmetic on arrays with one lane for each row of a block, on any processor.
#![allow(unsafe_code)]

use std::array::from_fn;

use super::lanes::Lanes;
use super::query::SingleQuery;
use super::values::{self, Value};
use super::{BLOCK_ROWS, Panel, QueryBlock, Survivors, codes, products as dot_products, tile};

#[derive(Clone, Copy)]
struct Scalar;

const N: usize = BLOCK_ROWS;

// SAFETY: plain arithmetic; pointers are used as the trait documents.
unsafe impl Lanes for Scalar {
    const N: usize = N;
    const ROW_ZERO: i32 = 0;
    type B = [[i8; 4]; N];
    type I = [i32; N];
    type F = [f32; N];
    #[inline(always)]
    unsafe fn load_rows(at: *const u8) -> [[i8; 4]; N] {
        // SAFETY: 4 * N bytes are readable, as the trait requires.
        let stored = unsafe { at.cast::<[[u8; 4]; N]>().read() };
        stored.map(|codes| codes.map(|code| (code ^ 0x80) as i8))
    }
    #[inline(always)]
    unsafe fn load_query(at: *const i8) -> [[i8; 4]; N] {
        // SAFETY: 4 bytes are readable, as the trait requires.
        [unsafe { at.cast::<[i8; 4]>().read() }; N]
    }
    #[inline(always)]
    unsafe fn dot(sums: [i32; N], rows: [[[i8; 4]; N]; 2], query: [[[i8; 4]; N]; 2]) -> [i32; N] {
        let product = |group: usize, i: usize, c: usize| i32::from(rows[group][i][c]) * i32::from(query[group][i][c]);
        from_fn(|i| (0..4).fold(sums[i], |sum, c| sum + product(0, i, c) + product(1, i, c)))
    }
    #[inline(always)]
    unsafe fn splat_integer(x: i32) -> [i32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn add_integer(a: [i32; N], b: [i32; N]) -> [i32; N] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn to_float(sums: [i32; N]) -> [f32; N] {
        sums.map(|sum| sum as f32)
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> [f32; N] {
        // SAFETY: N values are readable, as the trait requires.
        unsafe { at.cast::<[f32; N]>().read() }
    }
    #[inline(always)]
    unsafe fn store(v: [f32; N], at: *mut f32) {
        // SAFETY: N values are writable, as the trait requires.
        unsafe { at.cast::<[f32; N]>().write(v) }
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn greater(a: [f32; N], b: [f32; N]) -> u32 {
        (0..N).map(|i| u32::from(a[i] > b[i]) << i).sum()
    }
}

pub(super) const NAME: &str = "scalar";
/// Tile sizes, in queries, largest first.
pub(super) const TILES: &[usize] = &[2, 1];
/// Largest code of a query.
pub(super) const LEVELS: i8 = 127;
/// Bias of stored codes that remains in the sums (`Lanes::ROW_ZERO`).
pub(super) const ROW_ZERO: i32 = Scalar::ROW_ZERO;

pub(super) fn scan(queries: &QueryBlock, panel: &Panel<'_>, survivors: &mut Survivors) {
    // SAFETY: no instruction set is needed, 16 rows are a block; `Kernel::scan` checks the lengths.
    unsafe { tile::scan::<Scalar, 1, 1, 2, 2>(queries, panel, survivors) }
}

pub(super) fn quantize<T: Value>(values: &[T], norm: f64, levels: i8, codes: &mut [i8]) -> (f32, f32) {
    codes::quantize(values, norm, f32::from(levels), codes)
}

pub(super) fn dot_f64<A: Value, B: Value>(a: &[A], b: &[B]) -> f64 {
    values::dot_f64(a, b)
}

pub(super) fn score_block(query: SingleQuery<'_>, panel: &Panel<'_>, bounds: &mut [f32; BLOCK_ROWS]) -> u32 {
    // SAFETY: no instruction set is needed; `Kernel::score_block` checks the lengths.
    unsafe { tile::score_block::<Scalar, 1>(query, panel, bounds) }
}

pub(super) fn products(a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    // SAFETY: no instruction set is needed; `Kernel::products` checks the lengths.
    unsafe { dot_products::products::<Scalar, 1, 2>(a, b, dim, out) }
}
