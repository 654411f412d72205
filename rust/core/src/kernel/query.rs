//! Codes of queries, arranged for a kernel.

use super::{Kernel, MAX_DIM};

/// The codes of one query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryCodes {
    codes: Vec<i8>,
    sum: i32,
    scale: f32,
    slope: f32,
}

impl QueryCodes {
    /// `codes` holds four codes for each group; those past the last column are zero. `scale` multiplies the codes,
    /// `slope` the errors of the rows.
    ///
    /// # Panics
    /// If there are more than [`MAX_DIM`] codes, or an odd number of groups.
    #[must_use]
    pub fn new(codes: Vec<i8>, scale: f32, slope: f32) -> Self {
        assert!(codes.len() <= MAX_DIM, "sums fit into 32 bits");
        assert!(codes.len().is_multiple_of(8), "groups come in pairs");
        let sum = codes.iter().map(|&code| i32::from(code)).sum();
        Self { codes, sum, scale, slope }
    }

    /// The factor that multiplies the rows' errors.
    #[must_use]
    pub fn slope(&self) -> f32 {
        self.slope
    }

    pub(super) fn groups(&self) -> usize {
        self.codes.len() / 4
    }

    pub(super) fn fits(&self, kernel: Kernel) -> bool {
        let levels = kernel.query_levels();
        self.codes.iter().all(|code| (-levels..=levels).contains(code))
    }

    /// The query alone, for one block of rows.
    pub(super) fn single(&self, kernel: Kernel, limit: f32) -> SingleQuery<'_> {
        SingleQuery { codes: &self.codes, bias: self.bias(kernel), thresholds: self.thresholds(limit) }
    }

    fn thresholds(&self, limit: f32) -> Thresholds {
        Thresholds { scale: self.scale, slope: self.slope, limit, always: limit, below: f32::INFINITY }
    }

    fn bias(&self, kernel: Kernel) -> i32 {
        -self.sum * kernel.row_zero()
    }
}

/// Per-query constants of the tile epilogue, which turns integer sums into bounds and compares them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    pub(super) scale: f32,
    pub(super) slope: f32,
    /// Rows with a bound at or below `limit` are dropped.
    pub(super) limit: f32,
    /// Rows with a bound above `always` survive. Rows between `limit` and `always` survive only if their lower bound is
    /// below `below`; the others score above the query's window.
    pub(super) always: f32,
    pub(super) below: f32,
}

/// One query, to be scored against one block of rows.
#[derive(Clone, Copy)]
pub(super) struct SingleQuery<'a> {
    pub(super) codes: &'a [i8],
    pub(super) bias: i32,
    pub(super) thresholds: Thresholds,
}

/// Queries that are scored together, arranged for one kernel.
#[derive(Debug)]
pub struct QueryBlock {
    pub(super) kernel: Kernel,
    pub(super) groups: usize,
    /// For each tile, two groups at a time, eight codes of each of its queries.
    pub(super) codes: Vec<i8>,
    /// First query and number of queries of each tile.
    pub(super) tiles: Vec<(usize, usize)>,
    /// Initial value of each query's sums; it cancels the +128 bias of stored codes.
    pub(super) biases: Vec<i32>,
    pub(super) thresholds: Vec<Thresholds>,
}

impl QueryBlock {
    /// Arranges queries. Their limits are infinite until they are set.
    ///
    /// # Panics
    /// If a query does not have four codes for each group, or has codes beyond the kernel's [`Kernel::query_levels`].
    #[must_use]
    pub fn new(kernel: Kernel, groups: usize, queries: &[&QueryCodes]) -> Self {
        let mut block = Self {
            kernel,
            groups,
            codes: Vec::with_capacity(queries.len() * groups * 4),
            tiles: Vec::new(),
            biases: Vec::with_capacity(queries.len()),
            thresholds: Vec::with_capacity(queries.len()),
        };
        for query in queries {
            assert_eq!(query.groups(), groups, "four codes for each group");
            assert!(query.fits(kernel), "codes within the kernel's levels");
            block.biases.push(query.bias(kernel));
            block.thresholds.push(query.thresholds(f32::INFINITY));
        }
        let mut first = 0;
        for &len in kernel.tiles() {
            while queries.len() - first >= len {
                for pair in 0..groups / 2 {
                    for query in &queries[first..first + len] {
                        block.codes.extend_from_slice(&query.codes[pair * 8..pair * 8 + 8]);
                    }
                }
                block.tiles.push((first, len));
                first += len;
            }
        }
        block
    }

    /// Number of queries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.thresholds.len()
    }

    /// True if the block has no queries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.thresholds.is_empty()
    }

    /// Lets only bounds above `limit` survive.
    pub fn set_limit(&mut self, query: usize, limit: f32) {
        self.set_window(query, limit, limit, f32::INFINITY);
    }

    /// Lets bounds above `always` survive, and bounds above `limit` for which bound - 2 · slope · error is below
    /// `below`.
    pub fn set_window(&mut self, query: usize, limit: f32, always: f32, below: f32) {
        let thresholds = &mut self.thresholds[query];
        (thresholds.limit, thresholds.always, thresholds.below) = (limit, always, below);
    }
}
