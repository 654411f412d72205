//! Codes of one vector. Plain code, compiled once for each instruction set.

use super::lanes::Value;

/// Adding this to a float32 of magnitude below 2^22 rounds it to a whole number, whose low byte are the sum's low bits.
const ROUND: f32 = 12_582_912.0;
/// Sums that are kept side by side.
const LANES: usize = 16;
/// More than all roundings of the residual norm: of its double-precision sum, which is off by less than dim · 2^-52 of
/// itself, and of the norm that the values are divided by, which moves the row by as much of its length.
const RELATIVE_SLACK: f64 = 1.0 + 1e-8;
const ABSOLUTE_SLACK: f64 = 1e-12;

/// Fills `codes` with whole numbers from `-levels` to `levels` and returns (scale, error) such that for x = values / norm,
/// |x - scale · codes| <= error. The scale is the one of least squares, so that what is left is orthogonal to the codes.
#[inline(always)]
pub(super) fn quantize<T: Value>(values: &[T], norm: f64, levels: f32, codes: &mut [i8]) -> (f32, f32) {
    let mut largest = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(value.widen().abs());
        }
    }
    for (largest, value) in largest.iter_mut().zip(rest) {
        *largest = largest.max(value.widen().abs());
    }
    let largest = f64::from(largest.into_iter().fold(0.0, f32::max));
    let factor = f64::from(levels) / largest;

    // Scaled values x = factor · value, their codes c, and the sums x · c and c · c.
    let mut products = [0.0f32; LANES];
    let mut squares = [0.0f32; LANES];
    let (codes_chunks, codes_rest) = codes.as_chunks_mut::<LANES>();
    let mut encode = |values: &[T], codes: &mut [i8]| {
        for (((product, square), &value), code) in
            products.iter_mut().zip(&mut squares).zip(values).zip(codes.iter_mut())
        {
            let x = (f64::from(value.widen()) * factor) as f32;
            let rounded = x + ROUND;
            *code = rounded.to_bits() as i8;
            let c = rounded - ROUND;
            *product += x * c;
            *square += c * c;
        }
    };
    for (values, codes) in chunks.iter().zip(codes_chunks.iter_mut()) {
        encode(values, codes);
    }
    encode(rest, codes_rest);
    let least_squares = f64::from(products.iter().sum::<f32>()) / f64::from(squares.iter().sum::<f32>());
    let inverse = 1.0 / norm;
    let scale = (largest * inverse / f64::from(levels) * least_squares) as f32;

    // What is left is measured from the codes and the scale as they are stored.
    let mut left = [0.0f64; LANES];
    let exact_scale = f64::from(scale);
    let mut measure = |values: &[T], codes: &[i8]| {
        for ((left, &value), &code) in left.iter_mut().zip(values).zip(codes) {
            let difference = f64::from(value.widen()) * inverse - exact_scale * f64::from(code);
            *left += difference * difference;
        }
    };
    for (values, codes) in chunks.iter().zip(codes_chunks.iter()) {
        measure(values, codes);
    }
    measure(rest, codes_rest);
    let error = left.iter().sum::<f64>().sqrt() * RELATIVE_SLACK + ABSOLUTE_SLACK;
    (scale, (error as f32).next_up())
}
