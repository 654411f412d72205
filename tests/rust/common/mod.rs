//! Seeded data and the definition of the score, shared by the integration tests.
#![allow(dead_code, missing_docs, clippy::should_implement_trait)]

use relkt_core::kernel::{F16, Row};
use relkt_core::{Buffer, Execution, Kernel, Matrix, Passages, Values};

/// A small generator (SplitMix64), so that a seed reproduces a failure.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    pub(crate) fn real(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// A whole number from -8 to 8.
    pub(crate) fn small(&mut self) -> f32 {
        (self.next() % 17) as f32 - 8.0
    }

    pub(crate) fn reals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.real()).collect()
    }

    pub(crate) fn smalls(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.small()).collect()
    }

    /// Rows of whole numbers. No row is zero; many are equal.
    pub(crate) fn small_rows(&mut self, rows: usize, dim: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..rows * dim).map(|_| (self.next() % 5) as f32 - 2.0).collect();
        for row in values.chunks_exact_mut(dim) {
            row[0] += 3.0;
        }
        values
    }
}

/// Cosines in double precision, summed in the order that defines a score. A test in `kernels.rs` compares them with a
/// plain loop.
pub(crate) fn cosines(queries: &[f32], passages: &[f32], dim: usize) -> Vec<Vec<f64>> {
    let scalar = Kernel::by_name("scalar").expect("always there");
    let dot = |a: &[f32], b: &[f32]| scalar.dot_f64(Row::F32(a), Row::F32(b));
    let norms: Vec<f64> = passages.chunks_exact(dim).map(|p| dot(p, p).sqrt()).collect();
    let score = |q: &[f32]| {
        let norm = dot(q, q).sqrt();
        passages.chunks_exact(dim).zip(&norms).map(|(p, n)| dot(q, p) / (norm * n)).collect()
    };
    queries.chunks_exact(dim).map(score).collect()
}

pub(crate) fn matrix(name: &'static str, values: &[f32], dim: usize, kernel: Kernel) -> Matrix {
    let execution = Execution::new(kernel, Some(1)).expect("one thread");
    let rows = values.len() / dim;
    let values = Values::F32(Buffer::copy_of(values).expect("memory"));
    Matrix::new(name, values, rows, dim, &execution).expect("valid rows")
}

pub(crate) fn passages(values: &[f32], dim: usize, kernel: Kernel) -> Passages {
    let execution = Execution::new(kernel, Some(1)).expect("one thread");
    Passages::new(matrix("passages", values, dim, kernel), &execution).expect("memory")
}

/// The float16 nearest to a float32 of moderate size, ties to even; independent of the library's conversion.
pub(crate) fn half(x: f32) -> F16 {
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = f64::from(x.abs());
    // Units of the last place: 2^-24 for the subnormal, otherwise 2^-10 of the power of two below.
    let exponent = (magnitude.log2().floor() as i32).max(-14);
    let steps = (magnitude / 2f64.powi(exponent - 10)).round_ties_even() as u32;
    let bits = steps + if steps >= 1024 || exponent > -14 { ((exponent + 14) as u32) << 10 } else { 0 };
    F16(sign | bits as u16)
}

/// The value of a float16, by the definition of the format.
pub(crate) fn value_of(half: F16) -> f32 {
    let (exponent, fraction) = (i32::from(half.0 >> 10 & 31), f64::from(half.0 & 1023));
    let magnitude =
        if exponent == 0 { fraction * 2f64.powi(-24) } else { (1024.0 + fraction) * 2f64.powi(exponent - 25) };
    (if half.0 & 0x8000 == 0 { magnitude } else { -magnitude }) as f32
}
