//! Stored rows and their values: float32 and float16.

/// A stored value of a row.
pub(super) trait Value: Copy {
    /// The value as float32; exact.
    fn widen(self) -> f32;
}

impl Value for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

/// A float16, by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct F16(pub u16);

impl F16 {
    /// The value as float32; exact.
    pub(crate) fn to_f32(self) -> f32 {
        self.widen()
    }
}

impl Value for F16 {
    /// Uses only arithmetic that every instruction set has vectors for. No subnormal float32 occurs on the way, because
    /// a process may flush subnormal values to zero. Infinities and NaN have been rejected before.
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.0);
        let (exponent, fraction) = (bits >> 10 & 31, bits & 0x3ff);
        let normal = f32::from_bits((exponent + 112) << 23 | fraction << 13);
        // Float32 values between 2^-14 and 2^-13 have the same spacing as subnormal float16 values.
        let subnormal = f32::from_bits(113 << 23 | fraction << 13) - f32::from_bits(113 << 23);
        let magnitude = if exponent == 0 { subnormal } else { normal };
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }
}

/// A stored row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// float32.
    F32(&'a [f32]),
    /// float16.
    F16(&'a [F16]),
}

impl Row<'_> {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// True if the row has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first value that is not finite, with its column.
    #[must_use]
    pub fn not_finite(&self) -> Option<(usize, f32)> {
        match self {
            Self::F32(values) => values.iter().position(|v| !v.is_finite()).map(|at| (at, values[at])),
            Self::F16(values) => values.iter().position(|v| v.0 & 0x7c00 == 0x7c00).map(|at| {
                let bits = values[at].0;
                let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
                (at, if bits & 0x3ff == 0 { sign * f32::INFINITY } else { f32::NAN })
            }),
        }
    }
}

/// Lanes of the double-precision dot product. They are part of its definition, so that every kernel adds in the same
/// order.
const LANES_F64: usize = 16;

/// The dot product with exact products and double-precision sums in one fixed order: column c is added to sum c mod 16,
/// in order of the columns, and the sums are folded in halves. Plain code, compiled once for each instruction set. The
/// product of two float32 is exact in double precision, so fusing it with the addition does not change the result.
#[inline(always)]
pub(super) fn dot_f64<A: Value, B: Value>(a: &[A], b: &[B]) -> f64 {
    let mut sums = [0.0f64; LANES_F64];
    let (a_chunks, a_rest) = a.as_chunks::<LANES_F64>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES_F64>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(x.widen()) * f64::from(y.widen());
        }
    }
    for ((sum, &x), &y) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += f64::from(x.widen()) * f64::from(y.widen());
    }
    let mut width = LANES_F64 / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Prefetches the cache line at an address, which may be invalid.
#[inline(always)]
pub(super) fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch of an invalid address has no effect.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Prefetches the cache lines of a slice.
pub(super) fn prefetch<T>(values: &[T]) {
    for at in (0..size_of_val(values)).step_by(64) {
        prefetch_line(values.as_ptr().cast::<u8>().wrapping_add(at));
    }
}
