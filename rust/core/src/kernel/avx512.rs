//! AVX-512F: 16 values in a vector, 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::{self, Lanes};
use super::{Panel, Survivor};

#[derive(Clone, Copy)]
struct Avx512;

// SAFETY: each method is its intrinsic; pointers are used as the trait promises.
unsafe impl Lanes for Avx512 {
    const N: usize = 16;
    type V = __m512;
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: AVX-512F is there, as the trait requires.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m512 {
        // SAFETY: AVX-512F is there and 16 values are readable, as the trait requires.
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn load_partial(at: *const f32, len: usize) -> __m512 {
        // SAFETY: AVX-512F is there; the mask admits only the first len < 16 values, which are readable.
        unsafe { _mm512_maskz_loadu_ps((1u16 << len) - 1, at) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there, as the trait requires.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512F is there, as the trait requires.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m512, b: __m512) -> u32 {
        // SAFETY: AVX-512F is there, as the trait requires.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b)) }
    }
    #[inline(always)]
    unsafe fn store(v: __m512, at: *mut f32) {
        // SAFETY: AVX-512F is there and 16 values are writable, as the trait requires.
        unsafe { _mm512_storeu_ps(at, v) }
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        // SAFETY: AVX-512F is there, as the trait requires.
        unsafe { _mm512_reduce_add_ps(v) }
    }
}

/// Queries in a packed block.
pub(super) const WIDTHS: &[usize] = &[32, 64];

#[target_feature(enable = "avx512f,fma")]
pub(super) fn packed(packed: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the feature is enabled here; `Kernel::packed` checked the lengths for this width.
    unsafe {
        if thresholds.len() == 32 {
            lanes::packed::<Avx512, 2, 12>(packed, panel, thresholds, survivors);
        } else {
            lanes::packed::<Avx512, 4, 6>(packed, panel, thresholds, survivors);
        }
    }
}

#[target_feature(enable = "avx512f,fma")]
pub(super) fn direct(queries: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the feature is enabled here; `Kernel::direct` checked the lengths.
    unsafe { lanes::direct::<Avx512, 4, 4>(queries, panel, thresholds, survivors) }
}

#[target_feature(enable = "avx512f")]
pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    lanes::dot_f64(a, b)
}
