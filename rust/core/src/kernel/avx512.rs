//! AVX-512F: 16 values in a vector, 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::array::from_fn;

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
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there, as the trait requires.
        unsafe { _mm512_add_ps(a, b) }
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
    unsafe fn prefetch(at: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn sums(vectors: &[__m512]) -> __m512 {
        // Adds pairs of vectors so that each holds half of the lanes of both, until one holds a sum of each. Pairs are
        // taken in the order that leaves lane i with the sum of vector i.
        // SAFETY: AVX-512F is there, as the trait requires.
        unsafe {
            let halves: [__m512; 8] = from_fn(|i| {
                let (a, b) = (vectors[i], vectors[i + 8]);
                _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b))
            });
            let quarters: [__m512; 4] = from_fn(|i| {
                let (a, b) = (halves[i], halves[i + 4]);
                _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b))
            });
            let eighths: [__m512; 2] = from_fn(|i| {
                let (a, b) = (quarters[i], quarters[i + 2]);
                _mm512_add_ps(_mm512_shuffle_ps::<0x44>(a, b), _mm512_shuffle_ps::<0xEE>(a, b))
            });
            let [a, b] = eighths;
            let sums = _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xDD>(a, b));
            _mm512_permutexvar_ps(_mm512_loadu_si512(ORDER.as_ptr().cast()), sums)
        }
    }
}

/// Where `sums` leaves the sum of vector i.
const ORDER: [i32; 16] = [0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15];

/// Widths of packed blocks, ascending.
pub(super) const WIDTHS: &[usize] = &[16, 32, 64];
/// Queries in a group of direct ones.
pub(super) const GROUP: usize = 2;

#[target_feature(enable = "avx512f,fma")]
pub(super) fn packed(packed: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the feature is enabled here; `Kernel::packed` checked the lengths for this width.
    unsafe {
        match thresholds.len() {
            16 => lanes::packed::<Avx512, 1, 6, 4>(packed, panel, thresholds, survivors),
            32 => lanes::packed::<Avx512, 2, 6, 2>(packed, panel, thresholds, survivors),
            _ => lanes::packed::<Avx512, 4, 6, 1>(packed, panel, thresholds, survivors),
        }
    }
}

#[target_feature(enable = "avx512f,fma")]
pub(super) fn direct(queries: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: the feature is enabled here, 2 * 8 == 16 lanes; `Kernel::direct` checked the lengths.
    unsafe { lanes::direct::<Avx512, GROUP, 8>(queries, panel, thresholds, survivors) }
}

#[target_feature(enable = "avx512f")]
pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    lanes::dot_f64(a, b)
}
