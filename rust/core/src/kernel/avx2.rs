//! AVX2 with FMA: 8 values in a vector, 16 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::{self, Lanes};
use super::{Panel, Survivor};

#[derive(Clone, Copy)]
struct Avx2;

// SAFETY: each method is its intrinsics; pointers are used as the trait promises.
unsafe impl Lanes for Avx2 {
    const N: usize = 8;
    type V = __m256;
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: AVX is there, as the trait requires.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m256 {
        // SAFETY: AVX is there and 8 values are readable, as the trait requires.
        unsafe { _mm256_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn load_partial(at: *const f32, len: usize) -> __m256 {
        // SAFETY: AVX2 is there; lane i of the mask is set where i < len, so only those values are read.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_maskload_ps(at, _mm256_cmpgt_epi32(_mm256_set1_epi32(len as i32), lane))
        }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX is there, as the trait requires.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX is there, as the trait requires.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: FMA is there, as the trait requires.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m256, b: __m256) -> u32 {
        // SAFETY: AVX is there, as the trait requires.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) as u32 }
    }
    #[inline(always)]
    unsafe fn store(v: __m256, at: *mut f32) {
        // SAFETY: AVX is there and 8 values are writable, as the trait requires.
        unsafe { _mm256_storeu_ps(at, v) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn sums(vectors: &[__m256]) -> __m256 {
        // Two rounds of horizontal additions leave each half of `low` and `high` with a part of the sums of four vectors.
        // SAFETY: AVX is there, as the trait requires.
        unsafe {
            let pairs = |i: usize| _mm256_hadd_ps(vectors[i], vectors[i + 1]);
            let low = _mm256_hadd_ps(pairs(0), pairs(2));
            let high = _mm256_hadd_ps(pairs(4), pairs(6));
            _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
        }
    }
}

/// Widths of packed blocks, ascending.
pub(super) const WIDTHS: &[usize] = &[8, 16];
/// Queries in a group of direct ones.
pub(super) const GROUP: usize = 2;

#[target_feature(enable = "avx2,fma")]
pub(super) fn packed(packed: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the features are enabled here; `Kernel::packed` checked the lengths for this width.
    unsafe {
        match thresholds.len() {
            8 => lanes::packed::<Avx2, 1, 6, 2>(packed, panel, thresholds, survivors),
            _ => lanes::packed::<Avx2, 2, 6, 1>(packed, panel, thresholds, survivors),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn direct(queries: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the features are enabled here, 2 * 4 == 8 lanes; `Kernel::direct` checked the lengths.
    unsafe { lanes::direct::<Avx2, GROUP, 4>(queries, panel, thresholds, survivors) }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    lanes::dot_f64(a, b)
}
