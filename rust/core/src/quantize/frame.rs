//! The choice of the coordinates in which rows are coded, and the coding of single vectors.

use std::sync::Arc;

use crate::kernel::{Kernel, ROW_LEVELS, Row};
use crate::matrix::Matrix;
use crate::rotation::{self, Rotation};

/// Maximum distance between x̂ - μ and its value computed in float32: the rounding of x̂, of length 1, plus the
/// rounding of the difference, of length at most 2.
const CENTRING_SLACK: f64 = 4.0 / (1 << 24) as f64;

/// The coordinates in which rows are coded: relative to a mean, and rotated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    /// μ; `None` means zero.
    mean: Option<Arc<[f32]>>,
    rotation: Option<Arc<Rotation>>,
}

/// The scale and error of a coded vector.
pub(super) struct Coded {
    pub(super) scale: f32,
    pub(super) error: f32,
    /// Upper bound of |y|.
    pub(super) length: f32,
}

/// Number of rows that give the mean, and number of rows that are coded to compare frames.
const SAMPLE: usize = 2048;
const TRIAL: usize = 128;
/// Smallest share of the error that a mean, or a rotation, must remove to be used.
const MEAN_MIN_GAIN: f32 = 0.1;
const ROTATION_MIN_GAIN: f32 = 0.3;

impl Frame {
    /// A frame read from an index file; a mean of zeros means that rows are not centred. `None` if the mean is invalid.
    pub(crate) fn new(mean: &[f32], rotated: bool) -> Option<Self> {
        let squared = mean.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        // The mean of unit vectors has a length of at most 1. NaN is not in the range.
        if !(0.0..=1.0).contains(&squared) {
            return None;
        }
        let rotation = rotated.then(|| Arc::new(Rotation::new(mean.len())));
        Some(Self { mean: (squared > 0.0).then(|| Arc::from(mean)), rotation })
    }

    /// The frame with the smallest coding error on a sample of the rows; the identity, if the others are hardly better.
    pub(crate) fn of(matrix: &Matrix, kernel: Kernel) -> Self {
        let dim = matrix.dim();
        let count = matrix.rows().min(SAMPLE);
        let mut sums = vec![0.0f64; dim];
        for i in 0..count {
            let unit = matrix.unit_row(i * matrix.rows() / count);
            sums.iter_mut().zip(unit).for_each(|(sum, value)| *sum += f64::from(value));
        }
        // Slightly shorter than the mean, so that rounding cannot make it longer than 1.
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / count as f64 * (1.0 - 1e-6)) as f32).collect();
        // The error term of the bound, with the sampled rows also acting as queries.
        let error = |frame: &Self| -> f32 {
            let mut codes = vec![0i8; dim];
            let (mut of_rows, mut of_queries, mut radius) = (0.0, 0.0, 0.0f32);
            let count = matrix.rows().min(TRIAL);
            for row in (0..count).map(|i| i * matrix.rows() / count) {
                let coded = frame.encode(matrix, row, ROW_LEVELS, kernel, &mut codes);
                of_rows += coded.error;
                radius = radius.max(coded.length);
                of_queries += frame.encode_query(matrix, row, ROW_LEVELS, kernel, &mut codes).error;
            }
            of_rows + of_queries * radius
        };
        let plain = Self::default();
        let centred = Self { mean: Some(mean.into()), rotation: None };
        let (without, with) = (error(&plain), error(&centred));
        let (best, least) = if with < (1.0 - MEAN_MIN_GAIN) * without { (centred, with) } else { (plain, without) };
        let rotated = Self { rotation: Some(Arc::new(Rotation::new(dim))), ..best.clone() };
        if error(&rotated) < (1.0 - ROTATION_MIN_GAIN) * least { rotated } else { best }
    }

    pub(crate) fn mean(&self) -> Option<&[f32]> {
        self.mean.as_deref()
    }

    pub(crate) fn is_rotated(&self) -> bool {
        self.rotation.is_some()
    }

    /// Codes one row.
    pub(super) fn encode(&self, matrix: &Matrix, row: usize, levels: i8, kernel: Kernel, codes: &mut [i8]) -> Coded {
        self.encode_from(self.mean(), matrix, row, levels, kernel, codes)
    }

    /// Codes one query: not centred, but rotated like the rows.
    pub(super) fn encode_query(
        &self,
        matrix: &Matrix,
        query: usize,
        levels: i8,
        kernel: Kernel,
        codes: &mut [i8],
    ) -> Coded {
        self.encode_from(None, matrix, query, levels, kernel, codes)
    }

    fn encode_from(
        &self,
        mean: Option<&[f32]>,
        matrix: &Matrix,
        row: usize,
        levels: i8,
        kernel: Kernel,
        codes: &mut [i8],
    ) -> Coded {
        if mean.is_none() && self.rotation.is_none() {
            let (scale, error) = kernel.quantize(matrix.row(row), matrix.norm(row), levels, codes);
            return Coded { scale, error, length: 1.0 };
        }
        let mut values = matrix.unit_row(row);
        if let Some(mean) = mean {
            values.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
        }
        self.encode_values(&mut values, levels, kernel, codes)
    }

    fn encode_values(&self, values: &mut [f32], levels: i8, kernel: Kernel, codes: &mut [i8]) -> Coded {
        let length = kernel.dot_f64(Row::F32(values), Row::F32(values)).sqrt();
        let mut slack = CENTRING_SLACK;
        if let Some(rotation) = &self.rotation {
            rotation.apply(values);
            // The rotation's slack is for unit vectors; these vectors are up to twice as long.
            slack += 2.0 * rotation::SLACK;
        }
        let up = |x: f64| (x as f32).next_up();
        // A row that equals the mean.
        if length < 1e-20 {
            codes.fill(0);
            return Coded { scale: 0.0, error: up(1e-19 + slack), length: up(1e-19 + slack) };
        }
        let (scale, error) = kernel.quantize(Row::F32(values), 1.0, levels, codes);
        Coded { scale, error: up(f64::from(error) + slack), length: up(length * (1.0 + 1e-9) + slack) }
    }
}
