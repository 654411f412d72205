//! Top-k search.

use crate::error::{Error, Result, with_capacity};
use crate::kernel::{Kernel, error_bound};
use crate::matrix::Matrix;
use crate::parallel::Execution;
use crate::scan::{Collector, scan};
use crate::top_k::{Hit, TopK, Window, merge};

/// Results of a search: for query q, entries q * k to (q + 1) * k, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Hits {
    /// Number of results for each query.
    pub k: usize,
    /// Cosines.
    pub scores: Vec<f32>,
    /// Rows of the passages.
    pub rows: Vec<i64>,
}

/// The `k` passages of highest cosine for each query: higher score first, then lower row.
///
/// # Errors
/// [`Error::DimMismatch`], [`Error::K`], [`Error::Memory`], [`Error::Interrupted`], [`Error::ThreadPool`].
pub fn search(kernel: Kernel, queries: &Matrix, passages: &Matrix, k: usize, execution: &Execution) -> Result<Hits> {
    check_dims(queries, passages)?;
    if k == 0 || k > passages.rows() {
        return Err(Error::K { k, rows: passages.rows() });
    }
    let total = queries.rows().saturating_mul(k);
    let mut hits = Hits { k, scores: with_capacity("results", total)?, rows: with_capacity("results", total)? };
    let error = error_bound(passages.dim());
    let parts = scan(kernel, queries, passages, execution, |_| TopK::new(k, error, Window::ALL))?;
    for part in parts {
        let best = merge(part, k);
        debug_assert_eq!(best.len(), k);
        hits.scores.extend(best.iter().map(|hit| hit.score));
        hits.rows.extend(best.iter().map(|hit| i64::from(hit.row)));
    }
    Ok(hits)
}

pub(crate) fn check_dims(queries: &Matrix, passages: &Matrix) -> Result<()> {
    if queries.dim() == passages.dim() {
        Ok(())
    } else {
        Err(Error::DimMismatch { queries: queries.dim(), passages: passages.dim() })
    }
}

impl Collector for TopK {
    type Output = Vec<Hit>;

    fn threshold(&self) -> f32 {
        Self::threshold(self)
    }

    fn offer(&mut self, row: u32, score: f32, exact: &mut dyn FnMut(u32) -> f32) {
        Self::offer(self, row, score, exact);
    }

    fn finish(self, exact: &mut dyn FnMut(u32) -> f32) -> Vec<Hit> {
        Self::finish(self, exact)
    }
}
