//! AVX2 with FMA: 8 lanes, 16 registers. The module `avxvnni` shares everything but the integer dot product.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::Lanes;
use super::query::SingleQuery;
use super::values::{self, Value};
use super::{BLOCK_ROWS, Panel, QueryBlock, Survivors, codes, products as dot_products, tile};

/// Implements [`Lanes`] on AVX2 registers with a given integer dot product.
macro_rules! lanes {
    ($name:ident, $dot:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        // SAFETY: each method is its intrinsics; pointers are used as the trait documents.
        unsafe impl Lanes for $name {
            const N: usize = 8;
            const ROW_ZERO: i32 = 128;
            type B = __m256i;
            type I = __m256i;
            type F = __m256;
            #[inline(always)]
            unsafe fn load_rows(at: *const u8) -> __m256i {
                // SAFETY: the trait requires AVX, and that 32 bytes are readable.
                unsafe { _mm256_loadu_si256(at.cast()) }
            }
            #[inline(always)]
            unsafe fn load_query(at: *const i8) -> __m256i {
                // SAFETY: the trait requires AVX, and that 4 bytes are readable.
                unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
            }
            #[inline(always)]
            unsafe fn dot(sums: __m256i, rows: [__m256i; 2], query: [__m256i; 2]) -> __m256i {
                let dot: unsafe fn(__m256i, [__m256i; 2], [__m256i; 2]) -> __m256i = $dot;
                // SAFETY: the trait requires the instruction set.
                unsafe { dot(sums, rows, query) }
            }
            #[inline(always)]
            unsafe fn splat_integer(x: i32) -> __m256i {
                // SAFETY: the trait requires AVX.
                unsafe { _mm256_set1_epi32(x) }
            }
            #[inline(always)]
            unsafe fn add_integer(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: the trait requires AVX2.
                unsafe { _mm256_add_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn to_float(sums: __m256i) -> __m256 {
                // SAFETY: the trait requires AVX.
                unsafe { _mm256_cvtepi32_ps(sums) }
            }
            #[inline(always)]
            unsafe fn splat(x: f32) -> __m256 {
                // SAFETY: the trait requires AVX.
                unsafe { _mm256_set1_ps(x) }
            }
            #[inline(always)]
            unsafe fn load(at: *const f32) -> __m256 {
                // SAFETY: the trait requires AVX, and that 8 values are readable.
                unsafe { _mm256_loadu_ps(at) }
            }
            #[inline(always)]
            unsafe fn store(v: __m256, at: *mut f32) {
                // SAFETY: the trait requires AVX, and that 8 values are writable.
                unsafe { _mm256_storeu_ps(at, v) }
            }
            #[inline(always)]
            unsafe fn mul(a: __m256, b: __m256) -> __m256 {
                // SAFETY: the trait requires AVX.
                unsafe { _mm256_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: the trait requires FMA.
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            unsafe fn greater(a: __m256, b: __m256) -> u32 {
                // SAFETY: the trait requires AVX.
                unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) as u32 }
            }
        }
    };
}

lanes!(Avx2, multiply_and_add_pairs);
lanes!(AvxVnni, dpbusd);

/// The integer dot product without VNNI.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn multiply_and_add_pairs(sums: __m256i, rows: [__m256i; 2], query: [__m256i; 2]) -> __m256i {
    // SAFETY: the caller guarantees AVX2. Sums of four products fit into 16 bits: 4 * 255 * LEVELS < 2^15.
    unsafe {
        let fours = _mm256_add_epi16(_mm256_maddubs_epi16(rows[0], query[0]), _mm256_maddubs_epi16(rows[1], query[1]));
        _mm256_add_epi32(sums, _mm256_madd_epi16(fours, _mm256_set1_epi16(1)))
    }
}

/// The integer dot product with VNNI.
///
/// # Safety
/// The processor has AVX-VNNI.
#[inline(always)]
unsafe fn dpbusd(sums: __m256i, rows: [__m256i; 2], query: [__m256i; 2]) -> __m256i {
    // SAFETY: the caller guarantees AVX-VNNI.
    unsafe { _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(sums, rows[0], query[0]), rows[1], query[1]) }
}

pub(super) const NAME: &str = "avx2";
/// Tile sizes, in queries, largest first.
pub(super) const TILES: &[usize] = &[4, 2, 1];
/// Largest code of a query. Six bits keep the sum of four products within 16 bits. Coarser codes have larger errors and
/// let more rows survive, which costs less than widening the products twice as often.
pub(super) const LEVELS: i8 = 31;
const _: () = assert!(4 * 255 * (LEVELS as i32) < 1 << 15);
/// Bias of stored codes that remains in the sums (`Lanes::ROW_ZERO`).
pub(super) const ROW_ZERO: i32 = Avx2::ROW_ZERO;

#[target_feature(enable = "avx2,fma")]
pub(super) fn scan(queries: &QueryBlock, panel: &Panel<'_>, survivors: &mut Survivors) {
    // SAFETY: the features are enabled here, 2 * 8 rows are a block; `Kernel::scan` checks the lengths.
    unsafe { tile::scan::<Avx2, 2, 2, 4, 4>(queries, panel, survivors) }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn quantize<T: Value>(values: &[T], norm: f64, levels: i8, codes: &mut [i8]) -> (f32, f32) {
    codes::quantize(values, norm, f32::from(levels), codes)
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn dot_f64<A: Value, B: Value>(a: &[A], b: &[B]) -> f64 {
    values::dot_f64(a, b)
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn score_block(query: SingleQuery<'_>, panel: &Panel<'_>, bounds: &mut [f32; BLOCK_ROWS]) -> u32 {
    // SAFETY: the features are enabled here; `Kernel::score_block` checks the lengths.
    unsafe { tile::score_block::<Avx2, 2>(query, panel, bounds) }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn products(a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    // SAFETY: the features are enabled here; `Kernel::products` checks the lengths.
    unsafe { dot_products::products::<Avx2, 3, 3>(a, b, dim, out) }
}
