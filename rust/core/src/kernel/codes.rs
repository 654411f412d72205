//! Quantization of one vector. Plain code, compiled once for each instruction set.

use super::values::Value;

/// Adding this to a float32 of magnitude below 2^22 rounds it to a whole number, which is then in the low bits of the
/// sum.
const ROUND: f32 = 12_582_912.0;
/// Number of partial sums.
const LANES: usize = 16;
/// Values are scaled in single precision if the largest lies in this range, where the factor is a normal float32.
const SMALLEST: f64 = 1e-30;
const LARGEST: f64 = 1e30;
/// These cover the last roundings of the error, and the rounding of the norm that the values are divided by.
const RELATIVE_SLACK: f64 = 1.0 + 1e-9;
const ABSOLUTE_SLACK: f64 = 1e-11;

/// Fills `codes` with whole numbers from `-levels` to `levels` and returns (scale, error) such that for x = values /
/// norm, |x - scale · codes| <= error. The scale minimizes |x - scale · codes|, so the residual is orthogonal to the
/// codes.
///
/// Let s be the scale and c the codes: |x - s c|² = x · x - s (2 x · c - s c · c). The sums are accumulated in double
/// precision. Products of a value with a value or a code are exact, and so is c · c. A sum of n = ⌈dim / 16⌉ terms in
/// each of 16 lanes has an error of at most (n + 16) ε times the sum of magnitudes (ε = 2^-53), and dividing by the
/// norm adds at most 4 ε. Since |s c| <= |x|, the errors of the sums are at most (n + 20) ε |x|² and 2 (n + 21) ε |x|²,
/// and the remaining operations add at most 20 ε |x|²: together less than (4 n + 128) ε |x|².
#[inline(always)]
pub(super) fn quantize<T: Value>(values: &[T], norm: f64, levels: f32, codes: &mut [i8]) -> (f32, f32) {
    // One instruction, unlike `f32::max`, which handles NaN.
    let max = |a: f32, b: f32| if a > b { a } else { b };
    let mut largest = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            *largest = max(value.widen().abs(), *largest);
        }
    }
    for (largest, value) in largest.iter_mut().zip(rest) {
        *largest = max(value.widen().abs(), *largest);
    }
    let largest = f64::from(largest.into_iter().fold(0.0, max));
    let factor = f64::from(levels) / largest;
    let sums = if (SMALLEST..LARGEST).contains(&largest) {
        let factor = factor as f32;
        encode(values, codes, |value| value * factor)
    } else {
        encode(values, codes, |value| (f64::from(value) * factor) as f32)
    };
    let inverse = 1.0 / norm;
    let length = sums.values * inverse * inverse;
    let product = sums.products * inverse;
    let scale = (product / sums.codes) as f32;
    let s = f64::from(scale);
    let rounding = (4 * values.len().div_ceil(LANES) + 128) as f64 * (0.5 * f64::EPSILON) * length;
    let squared = (length - s * (2.0 * product - s * sums.codes)).max(0.0);
    let error = (squared + rounding).sqrt() * RELATIVE_SLACK + ABSOLUTE_SLACK;
    if !scale.is_finite() {
        // All values look like zeros to this thread: it may flush subnormal values that the validating thread did not
        // flush. Zero codes with the largest error make every bound hold.
        codes.fill(0);
        return (0.0, 1.0f32.next_up());
    }
    (scale, (error as f32).next_up())
}

/// Sums of squared values, of values times codes, and of squared codes.
struct Sums {
    values: f64,
    products: f64,
    codes: f64,
}

/// Rounds scaled values to codes.
#[inline(always)]
fn encode<T: Value>(values: &[T], codes: &mut [i8], scaled: impl Fn(f32) -> f32) -> Sums {
    let (mut of_values, mut of_products, mut of_codes) = ([0.0f64; LANES], [0.0f64; LANES], [0.0f64; LANES]);
    let mut encode = |values: &[T], codes: &mut [i8]| {
        let sums = of_values.iter_mut().zip(&mut of_products).zip(&mut of_codes);
        for ((((of_values, of_products), of_codes), &value), code) in sums.zip(values).zip(codes) {
            let value = value.widen();
            let rounded = scaled(value) + ROUND;
            *code = rounded.to_bits() as i8;
            let (v, c) = (f64::from(value), f64::from(rounded - ROUND));
            *of_values += v * v;
            *of_products += v * c;
            *of_codes += c * c;
        }
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (codes_chunks, codes_rest) = codes.as_chunks_mut::<LANES>();
    for (values, codes) in chunks.iter().zip(codes_chunks) {
        encode(values, codes);
    }
    encode(rest, codes_rest);
    let sum = |sums: [f64; LANES]| sums.iter().sum::<f64>();
    Sums { values: sum(of_values), products: sum(of_products), codes: sum(of_codes) }
}
