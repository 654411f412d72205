//! NEON: 4 values in a vector, 32 registers; part of every aarch64 processor.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::lanes::{self, Lanes};
use super::{Panel, Survivor};

#[derive(Clone, Copy)]
struct Neon;

// SAFETY: each method is its intrinsics; pointers are used as the trait promises.
unsafe impl Lanes for Neon {
    const N: usize = 4;
    type V = float32x4_t;
    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: NEON is there, as the trait requires.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> float32x4_t {
        // SAFETY: NEON is there and 4 values are readable, as the trait requires.
        unsafe { vld1q_f32(at) }
    }
    #[inline(always)]
    unsafe fn load_partial(at: *const f32, len: usize) -> float32x4_t {
        let mut values = [0.0f32; 4];
        for (i, value) in values.iter_mut().enumerate().take(len) {
            // SAFETY: i < len values are readable, as the trait requires.
            *value = unsafe { *at.add(i) };
        }
        // SAFETY: NEON is there and the array holds 4 values.
        unsafe { vld1q_f32(values.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is there, as the trait requires.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is there, as the trait requires.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is there, as the trait requires.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: float32x4_t, b: float32x4_t) -> u32 {
        const BITS: [u32; 4] = [1, 2, 4, 8];
        // SAFETY: NEON is there and the array holds 4 values.
        unsafe { vaddvq_u32(vandq_u32(vcgtq_f32(a, b), vld1q_u32(BITS.as_ptr()))) }
    }
    #[inline(always)]
    unsafe fn store(v: float32x4_t, at: *mut f32) {
        // SAFETY: NEON is there and 4 values are writable, as the trait requires.
        unsafe { vst1q_f32(at, v) }
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}
    #[inline(always)]
    unsafe fn sums(vectors: &[float32x4_t]) -> float32x4_t {
        // SAFETY: NEON is there, as the trait requires.
        unsafe { vpaddq_f32(vpaddq_f32(vectors[0], vectors[1]), vpaddq_f32(vectors[2], vectors[3])) }
    }
}

/// Widths of packed blocks, ascending.
pub(super) const WIDTHS: &[usize] = &[16];
/// Queries in a group of direct ones.
pub(super) const GROUP: usize = 2;

#[target_feature(enable = "neon")]
pub(super) fn packed(packed: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the feature is enabled here; `Kernel::packed` checked the lengths for this width.
    unsafe { lanes::packed::<Neon, 4, 6, 1>(packed, panel, thresholds, survivors) }
}

#[target_feature(enable = "neon")]
pub(super) fn direct(queries: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the feature is enabled here, 2 * 2 == 4 lanes; `Kernel::direct` checked the lengths.
    unsafe { lanes::direct::<Neon, GROUP, 2>(queries, panel, thresholds, survivors) }
}

#[target_feature(enable = "neon")]
pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    lanes::dot_f64(a, b)
}
