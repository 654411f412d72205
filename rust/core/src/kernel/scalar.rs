//! The portable reference: plain arithmetic on arrays of four values, no instruction set assumed.
#![allow(unsafe_code)]

use std::array::from_fn;

use super::lanes::{self, Lanes};
use super::{Panel, Survivor};

#[derive(Clone, Copy)]
struct Scalar;

// SAFETY: plain arithmetic; pointers are used as the trait promises.
unsafe impl Lanes for Scalar {
    const N: usize = 4;
    type V = [f32; 4];
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> [f32; 4] {
        // SAFETY: 4 values are readable, as the trait requires.
        unsafe { at.cast::<[f32; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn load_partial(at: *const f32, len: usize) -> [f32; 4] {
        // SAFETY: len values are readable, as the trait requires.
        from_fn(|i| if i < len { unsafe { *at.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(v: [f32; 4], at: *mut f32) {
        // SAFETY: 4 values are writable, as the trait requires.
        unsafe { at.cast::<[f32; 4]>().write(v) }
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn greater(a: [f32; 4], b: [f32; 4]) -> u32 {
        (0..4).map(|i| u32::from(a[i] > b[i]) << i).sum()
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}
    #[inline(always)]
    unsafe fn sums(vectors: &[[f32; 4]]) -> [f32; 4] {
        from_fn(|i| vectors[i].iter().sum())
    }
}

/// Widths of packed blocks, ascending.
pub(super) const WIDTHS: &[usize] = &[8];
/// Queries in a group of direct ones.
pub(super) const GROUP: usize = 2;

pub(super) fn packed(packed: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: no instruction set is needed; `Kernel::packed` checked the lengths.
    unsafe { lanes::packed::<Scalar, 2, 2, 1>(packed, panel, thresholds, survivors) }
}

pub(super) fn direct(queries: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    // SAFETY: no instruction set is needed, 2 * 2 == 4 lanes; `Kernel::direct` checked the lengths.
    unsafe { lanes::direct::<Scalar, GROUP, 2>(queries, panel, thresholds, survivors) }
}

pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    lanes::dot_f64(a, b)
}
