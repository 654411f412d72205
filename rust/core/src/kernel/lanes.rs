//! Vector operations that all kernels are written in.
//!
//! The algorithms ([`super::tile`], [`super::products`]) are written once over [`Lanes`]; a module per instruction set
//! implements the trait and instantiates them. Methods are `#[inline(always)]` and have no `#[target_feature]` of their
//! own, because a function with `#[target_feature]` is never inlined into a caller without it, and a call per
//! instruction would cost more than the instruction. The instantiating function has the attribute instead: everything
//! inlined into it is compiled for the instruction set.

use super::BLOCK_ROWS;

/// The vector operations of one instruction set: bytes, 32-bit integers and float32, in `N` lanes of 32 bits each.
///
/// # Safety
/// Every method requires that the processor has the instruction set. `load_rows` reads `4 * N` bytes at the pointer,
/// `load_query` reads four, `load` reads and `store` writes `N` values.
pub(super) unsafe trait Lanes: Copy {
    /// Number of lanes in a vector, a divisor of [`BLOCK_ROWS`].
    const N: usize;
    /// Bias of stored codes that remains in `dot`: 128, or 0 if `load_rows` removes it.
    const ROW_ZERO: i32;
    /// Four codes per lane, of rows or of a query.
    type B: Copy;
    /// One integer sum per lane.
    type I: Copy;
    /// One float32 per lane.
    type F: Copy;
    unsafe fn load_rows(at: *const u8) -> Self::B;
    unsafe fn load_query(at: *const i8) -> Self::B;
    /// For two groups of columns, adds the products of each lane's four codes to its sum.
    unsafe fn dot(sums: Self::I, rows: [Self::B; 2], query: [Self::B; 2]) -> Self::I;
    unsafe fn splat_integer(x: i32) -> Self::I;
    unsafe fn add_integer(a: Self::I, b: Self::I) -> Self::I;
    /// Converts sums to float32, rounded to nearest.
    unsafe fn to_float(sums: Self::I) -> Self::F;
    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(at: *const f32) -> Self::F;
    unsafe fn store(v: Self::F, at: *mut f32);
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once or twice.
    unsafe fn mul_add(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Bit i is set where `a[i] > b[i]`.
    unsafe fn greater(a: Self::F, b: Self::F) -> u32;
}

/// Checks at compile time that `V` vectors hold one block.
pub(super) const fn is_block<L: Lanes, const V: usize>() -> bool {
    V * L::N == BLOCK_ROWS
}
