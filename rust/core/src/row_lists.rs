//! Lists of rows, one for each query.

use crate::error::{Error, Result};

/// For each query, a list of rows of the passages, in any order, possibly with repeats.
#[derive(Debug, Clone, Copy)]
pub struct RowLists<'a> {
    name: &'static str,
    starts: &'a [i64],
    rows: &'a [i64],
}

impl<'a> RowLists<'a> {
    /// Concatenated lists (CSR): list q is `rows[starts[q]..starts[q + 1]]`. Error messages name the argument `name`.
    #[must_use]
    pub fn new(name: &'static str, starts: &'a [i64], rows: &'a [i64]) -> Self {
        Self { name, starts, rows }
    }

    /// Checks that there is one list for each query, and that every entry is a row of the passages.
    pub(crate) fn check(&self, queries: usize, passages: usize) -> Result<()> {
        let Self { name, starts, rows } = *self;
        let ends = (starts.first(), starts.last()) == (Some(&0), Some(&(rows.len() as i64)));
        if !ends || !starts.is_sorted() || starts.len() != queries + 1 {
            return Err(Error::ListCountMismatch { name, expected: queries, got: starts.len().saturating_sub(1) });
        }
        let outside = |&row: &i64| usize::try_from(row).map_or(true, |row| row >= passages);
        match rows.iter().position(outside) {
            Some(at) => {
                let query = starts.partition_point(|&start| start <= at as i64) - 1;
                Err(Error::RowOutOfRange { name, query, row: rows[at], max: passages - 1 })
            }
            None => Ok(()),
        }
    }

    /// The list of a query.
    pub(crate) fn of(&self, query: usize) -> &'a [i64] {
        &self.rows[self.starts[query] as usize..self.starts[query + 1] as usize]
    }
}
