//! NEON with the dot product extension: 4 lanes, 32 registers.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::lanes::Lanes;
use super::query::SingleQuery;
use super::values::{self, Value};
use super::{BLOCK_ROWS, Panel, QueryBlock, Survivors, codes, products as dot_products, tile};

#[derive(Clone, Copy)]
struct Neon;

// SAFETY: each method is its intrinsics; pointers are used as the trait documents.
unsafe impl Lanes for Neon {
    const N: usize = 4;
    const ROW_ZERO: i32 = 0;
    type B = int8x16_t;
    type I = int32x4_t;
    type F = float32x4_t;
    #[inline(always)]
    unsafe fn load_rows(at: *const u8) -> int8x16_t {
        // SAFETY: the trait requires NEON, and that 16 bytes are readable. Flipping the top bit subtracts 128.
        unsafe { vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at), vdupq_n_u8(0x80))) }
    }
    #[inline(always)]
    unsafe fn load_query(at: *const i8) -> int8x16_t {
        // SAFETY: the trait requires NEON, and that 4 bytes are readable.
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(at.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot(mut sums: int32x4_t, rows: [int8x16_t; 2], query: [int8x16_t; 2]) -> int32x4_t {
        // The intrinsic, vdotq_s32, is stable only from Rust 1.98 on.
        // SAFETY: the trait requires the dot product extension; only registers are touched.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {rows0:v}.16b, {query0:v}.16b",
                "sdot {sums:v}.4s, {rows1:v}.16b, {query1:v}.16b",
                sums = inout(vreg) sums,
                rows0 = in(vreg) rows[0], query0 = in(vreg) query[0],
                rows1 = in(vreg) rows[1], query1 = in(vreg) query[1],
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
    #[inline(always)]
    unsafe fn splat_integer(x: i32) -> int32x4_t {
        // SAFETY: the trait requires NEON.
        unsafe { vdupq_n_s32(x) }
    }
    #[inline(always)]
    unsafe fn add_integer(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: the trait requires NEON.
        unsafe { vaddq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn to_float(sums: int32x4_t) -> float32x4_t {
        // SAFETY: the trait requires NEON.
        unsafe { vcvtq_f32_s32(sums) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: the trait requires NEON.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> float32x4_t {
        // SAFETY: the trait requires NEON, and that 4 values are readable.
        unsafe { vld1q_f32(at) }
    }
    #[inline(always)]
    unsafe fn store(v: float32x4_t, at: *mut f32) {
        // SAFETY: the trait requires NEON, and that 4 values are writable.
        unsafe { vst1q_f32(at, v) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the trait requires NEON.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the trait requires NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: float32x4_t, b: float32x4_t) -> u32 {
        const BITS: [u32; 4] = [1, 2, 4, 8];
        // SAFETY: the trait requires NEON; the array holds 4 values.
        unsafe { vaddvq_u32(vandq_u32(vcgtq_f32(a, b), vld1q_u32(BITS.as_ptr()))) }
    }
}

pub(super) const NAME: &str = "neon";
/// Tile sizes, in queries, largest first.
pub(super) const TILES: &[usize] = &[6, 4, 2, 1];
/// Largest code of a query.
pub(super) const LEVELS: i8 = 127;
/// Bias of stored codes that remains in the sums (`Lanes::ROW_ZERO`).
pub(super) const ROW_ZERO: i32 = Neon::ROW_ZERO;

#[target_feature(enable = "neon,dotprod")]
pub(super) fn scan(queries: &QueryBlock, panel: &Panel<'_>, survivors: &mut Survivors) {
    // SAFETY: the features are enabled here, 4 * 4 rows are a block; `Kernel::scan` checks the lengths.
    unsafe { tile::scan::<Neon, 4, 4, 6, 4>(queries, panel, survivors) }
}

#[target_feature(enable = "neon")]
pub(super) fn quantize<T: Value>(values: &[T], norm: f64, levels: i8, codes: &mut [i8]) -> (f32, f32) {
    codes::quantize(values, norm, f32::from(levels), codes)
}

#[target_feature(enable = "neon")]
pub(super) fn dot_f64<A: Value, B: Value>(a: &[A], b: &[B]) -> f64 {
    values::dot_f64(a, b)
}

#[target_feature(enable = "neon,dotprod")]
pub(super) fn score_block(query: SingleQuery<'_>, panel: &Panel<'_>, bounds: &mut [f32; BLOCK_ROWS]) -> u32 {
    // SAFETY: the features are enabled here; `Kernel::score_block` checks the lengths.
    unsafe { tile::score_block::<Neon, 4>(query, panel, bounds) }
}

#[target_feature(enable = "neon")]
pub(super) fn products(a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    // SAFETY: the features are enabled here; `Kernel::products` checks the lengths.
    unsafe { dot_products::products::<Neon, 4, 4>(a, b, dim, out) }
}
