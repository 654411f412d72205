//! The portable reference: one value at a time, no instruction set assumed.

use super::lanes::{self, Lanes};
use super::{Panel, Survivor};

#[derive(Clone, Copy)]
struct Scalar;

#[allow(unsafe_code)]
// SAFETY: plain arithmetic; loads read the one value that the trait promises.
unsafe impl Lanes for Scalar {
    const N: usize = 1;
    type V = f32;
    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> f32 {
        // SAFETY: the caller promises one readable value.
        unsafe { *at }
    }
    #[inline(always)]
    unsafe fn load_partial(_at: *const f32, _len: usize) -> f32 {
        0.0 // len < 1
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    unsafe fn greater(a: f32, b: f32) -> u32 {
        u32::from(a > b)
    }
    #[inline(always)]
    unsafe fn store(v: f32, at: *mut f32) {
        // SAFETY: the caller promises one writable value.
        unsafe { *at = v }
    }
    #[inline(always)]
    unsafe fn sum(v: f32) -> f32 {
        v
    }
}

/// Queries in a packed block.
pub(super) const WIDTHS: &[usize] = &[8];

pub(super) fn packed(packed: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    #[allow(unsafe_code)]
    // SAFETY: no instruction set is needed; `Kernel::packed` checked the lengths.
    unsafe {
        lanes::packed::<Scalar, 8, 1>(packed, panel, thresholds, survivors);
    }
}

pub(super) fn direct(queries: &[f32], panel: &Panel<'_>, thresholds: &[f32], survivors: &mut Vec<Survivor>) {
    #[allow(unsafe_code)]
    // SAFETY: no instruction set is needed; `Kernel::direct` checked the lengths.
    unsafe {
        lanes::direct::<Scalar, 2, 4>(queries, panel, thresholds, survivors);
    }
}

pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    lanes::dot_f64(a, b)
}
