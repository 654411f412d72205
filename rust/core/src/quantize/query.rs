//! Coded queries, and the translation between scores and the kernels' bounds.

use super::{Codes, SLACK};
use crate::kernel::{Kernel, QueryCodes, Row, groups};
use crate::matrix::Matrix;

/// A query's codes, and the terms of its bound that are the same for every row.
#[derive(Debug, Clone)]
pub(crate) struct CodedQuery {
    pub(crate) codes: QueryCodes,
    /// q̂ · μ.
    pub(crate) offset: f64,
    /// The query's coding error times the radius of the rows, plus [`SLACK`].
    pub(crate) slack: f64,
}

/// Codes one query in the frame of the rows.
pub(crate) fn encode_query(matrix: &Matrix, query: usize, rows: &Codes, kernel: Kernel) -> CodedQuery {
    let dim = matrix.dim();
    let mut codes = vec![0i8; groups(dim) * 4];
    let coded = rows.frame.encode_query(matrix, query, kernel.query_levels(), kernel, &mut codes[..dim]);
    let offset =
        rows.frame.mean().map_or(0.0, |mean| kernel.dot_f64(matrix.row(query), Row::F32(mean)) / matrix.norm(query));
    let slack = f64::from(coded.error) * f64::from(rows.radius) + SLACK;
    CodedQuery { codes: QueryCodes::new(codes, coded.scale, (1.0 + coded.error).next_up()), offset, slack }
}

impl CodedQuery {
    /// The limit for a kernel: rows with a bound at or below it score less than `threshold`.
    pub(crate) fn limit(&self, threshold: f32) -> f32 {
        ((f64::from(threshold) - self.offset - self.slack) as f32).next_down()
    }

    /// The upper limit of a window for a kernel: rows whose bound - 2 · slope · error is at or above it score at least
    /// `below`.
    pub(crate) fn window_limit(&self, below: f64) -> f32 {
        // The kernel's subtraction of numbers below 16 in magnitude adds one more rounding.
        ((below - self.offset + self.slack + SLACK) as f32).next_up()
    }

    /// Lower and upper bound of the row's score.
    pub(crate) fn interval(&self, bound: f32, row_error: f32) -> (f32, f32) {
        let middle = f64::from(bound) + self.offset;
        let lower = middle - 2.0 * f64::from(self.codes.slope()) * f64::from(row_error) - self.slack;
        ((lower as f32).next_down(), ((middle + self.slack) as f32).next_up())
    }
}
