//! A fixed rotation that spreads single large coordinates over many, for data on which plain codes have large errors.
//!
//! It consists of two rounds of random signs and Walsh-Hadamard transforms. A transform works on blocks whose lengths
//! are powers of two; the second round reverses the order of the blocks, so that every coordinate mixes with many
//! others for any width. The rotation is orthogonal, so it preserves dot products, and it is the same for all indexes
//! of one width.
//!
//! # Rounding
//! A stage of a transform adds and subtracts pairs, which rounds each value by at most u = 2^-24 of itself, so the
//! error of a vector grows by at most u times its norm. Each of the two rounds has at most 17 stages and one scaling,
//! whose factor is rounded at most twice. With the rounding of the input to float32, the total error is below 41 u,
//! which [`SLACK`] covers.

/// Maximum distance between the rotation of a unit vector and its computed value.
pub(crate) const SLACK: f64 = 48.0 / (1 << 24) as f64;

/// Number of values that run through their last stages together.
const LANES: usize = 16;

/// A rotation of vectors of one width.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    signs: [Vec<f32>; 2],
    /// Lengths of the blocks of the first round: powers of two, descending.
    blocks: Vec<usize>,
}

impl Rotation {
    pub(crate) fn new(dim: usize) -> Self {
        let blocks = (0..usize::BITS).rev().map(|bit| dim & 1 << bit).filter(|&block| block > 0).collect();
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut sign = || {
            // One bit of SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            if (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 63 == 0 { 1.0 } else { -1.0 }
        };
        Self { signs: std::array::from_fn(|_| (0..dim).map(|_| sign()).collect()), blocks }
    }

    /// Rotates a vector in place.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        flip(values, &self.signs[0]);
        transform(values, self.blocks.iter());
        flip(values, &self.signs[1]);
        transform(values, self.blocks.iter().rev());
    }
}

fn flip(values: &mut [f32], signs: &[f32]) {
    for (value, sign) in values.iter_mut().zip(signs) {
        *value *= sign;
    }
}

/// Orthonormal Walsh-Hadamard transforms of consecutive blocks.
fn transform<'a>(mut values: &mut [f32], blocks: impl Iterator<Item = &'a usize>) {
    for &len in blocks {
        let (block, rest) = values.split_at_mut(len);
        let mut half = len / 2;
        while half >= LANES {
            for pair in block.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half /= 2;
        }
        let scale = 1.0 / (len as f32).sqrt();
        for lanes in block.chunks_mut(LANES) {
            let mut half = lanes.len() / 2;
            while half > 0 {
                for pair in lanes.chunks_exact_mut(2 * half) {
                    let (low, high) = pair.split_at_mut(half);
                    for (a, b) in low.iter_mut().zip(high) {
                        (*a, *b) = (*a + *b, *a - *b);
                    }
                }
                half /= 2;
            }
            lanes.iter_mut().for_each(|value| *value *= scale);
        }
        values = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_orthogonal_and_spreads() {
        for dim in [1, 2, 3, 15, 16, 17, 33, 100, 384, 768, 1000, 1023, 4096] {
            let rotation = Rotation::new(dim);
            let rotated = |at: usize| {
                let mut unit = vec![0.0f32; dim];
                unit[at] = 1.0;
                rotation.apply(&mut unit);
                unit
            };
            // The images of a few unit vectors are orthogonal unit vectors.
            let images: Vec<Vec<f32>> = [0, dim / 3, dim / 2, dim - 1].into_iter().map(rotated).collect();
            for (i, a) in [0, dim / 3, dim / 2, dim - 1].into_iter().zip(&images) {
                for (j, b) in [0, dim / 3, dim / 2, dim - 1].into_iter().zip(&images) {
                    let dot: f64 = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((dot - expected).abs() < 2.0 * SLACK, "dim {dim}: {i} and {j} have the product {dot}");
                }
            }
            let largest = images.iter().flatten().fold(0.0f32, |most, v| most.max(v.abs()));
            // Evenly spread coordinates would all be 1 / sqrt(dim).
            assert!(dim < 16 || f64::from(largest) < 16.0 / (dim as f64).sqrt(), "dim {dim}: {largest}");
        }
    }

    /// Compares with the same operations in double precision. All values have the same sign, which makes sums largest.
    #[test]
    fn rounding_stays_within_the_slack() {
        for dim in [768, 1000, 4096, 131_072] {
            let rotation = Rotation::new(dim);
            let value = 1.0 / (dim as f64).sqrt();
            let mut single: Vec<f32> = (0..dim).map(|i| (value * (1.0 + 1e-3 * (i % 7) as f64)) as f32).collect();
            let norm = single.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let mut double: Vec<f64> = single.iter().map(|&v| f64::from(v)).collect();
            rotation.apply(&mut single);
            for (signs, reversed) in [(&rotation.signs[0], false), (&rotation.signs[1], true)] {
                double.iter_mut().zip(signs).for_each(|(v, &sign)| *v *= f64::from(sign));
                let mut blocks = rotation.blocks.clone();
                if reversed {
                    blocks.reverse();
                }
                let mut start = 0;
                for len in blocks {
                    let block = &mut double[start..start + len];
                    let mut half = len / 2;
                    while half > 0 {
                        for pair in block.chunks_exact_mut(2 * half) {
                            for i in 0..half {
                                (pair[i], pair[i + half]) = (pair[i] + pair[i + half], pair[i] - pair[i + half]);
                            }
                        }
                        half /= 2;
                    }
                    block.iter_mut().for_each(|v| *v /= (len as f64).sqrt());
                    start += len;
                }
            }
            let off = single.iter().zip(&double).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum::<f64>().sqrt() / norm;
            assert!(off < SLACK, "dim {dim}: off by {off}");
        }
    }
}
