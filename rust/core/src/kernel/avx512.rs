//! AVX-512 with VNNI: 16 lanes, 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::query::SingleQuery;
use super::values::{self, Value};
use super::{BLOCK_ROWS, Panel, QueryBlock, Survivors, codes, products as dot_products, tile};

#[derive(Clone, Copy)]
struct Avx512;

// SAFETY: each method is its intrinsic; pointers are used as the trait documents.
unsafe impl Lanes for Avx512 {
    const N: usize = 16;
    const ROW_ZERO: i32 = 128;
    type B = __m512i;
    type I = __m512i;
    type F = __m512;
    #[inline(always)]
    unsafe fn load_rows(at: *const u8) -> __m512i {
        // SAFETY: the trait requires AVX-512F, and that 64 bytes are readable.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_query(at: *const i8) -> __m512i {
        // SAFETY: the trait requires AVX-512F, and that 4 bytes are readable.
        unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, rows: [__m512i; 2], query: [__m512i; 2]) -> __m512i {
        // SAFETY: the trait requires AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sums, rows[0], query[0]), rows[1], query[1]) }
    }
    #[inline(always)]
    unsafe fn splat_integer(x: i32) -> __m512i {
        // SAFETY: the trait requires AVX-512F.
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn add_integer(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the trait requires AVX-512F.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn to_float(sums: __m512i) -> __m512 {
        // SAFETY: the trait requires AVX-512F.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the trait requires AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m512 {
        // SAFETY: the trait requires AVX-512F, and that 16 values are readable.
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn store(v: __m512, at: *mut f32) {
        // SAFETY: the trait requires AVX-512F, and that 16 values are writable.
        unsafe { _mm512_storeu_ps(at, v) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait requires AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the trait requires AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m512, b: __m512) -> u32 {
        // SAFETY: the trait requires AVX-512F.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b)) }
    }
}

pub(super) const NAME: &str = "avx512";
/// Tile sizes, in queries, largest first.
pub(super) const TILES: &[usize] = &[6, 4, 2, 1];
/// Largest code of a query.
pub(super) const LEVELS: i8 = 127;
/// Bias of stored codes that remains in the sums (`Lanes::ROW_ZERO`).
pub(super) const ROW_ZERO: i32 = Avx512::ROW_ZERO;

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,fma")]
pub(super) fn scan(queries: &QueryBlock, panel: &Panel<'_>, survivors: &mut Survivors) {
    // SAFETY: the features are enabled here, 4 * 16 rows are whole blocks; `Kernel::scan` checks the lengths.
    unsafe { tile::scan::<Avx512, 4, 1, 6, 4>(queries, panel, survivors) }
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn quantize<T: Value>(values: &[T], norm: f64, levels: i8, codes: &mut [i8]) -> (f32, f32) {
    codes::quantize(values, norm, f32::from(levels), codes)
}

#[target_feature(enable = "avx512f")]
pub(super) fn dot_f64<A: Value, B: Value>(a: &[A], b: &[B]) -> f64 {
    values::dot_f64(a, b)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,fma")]
pub(super) fn score_block(query: SingleQuery<'_>, panel: &Panel<'_>, bounds: &mut [f32; BLOCK_ROWS]) -> u32 {
    // SAFETY: the features are enabled here; `Kernel::score_block` checks the lengths.
    unsafe { tile::score_block::<Avx512, 1>(query, panel, bounds) }
}

#[target_feature(enable = "avx512f,fma")]
pub(super) fn products(a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    // SAFETY: the features are enabled here; `Kernel::products` checks the lengths.
    unsafe { dot_products::products::<Avx512, 4, 4>(a, b, dim, out) }
}
