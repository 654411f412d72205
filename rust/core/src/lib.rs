//! Exact top-k search and hard-negative mining over passage embeddings.
//!
//! A pass over 8-bit codes, whose error is bounded ([`quantize`]), decides which (query, passage) pairs can matter; only
//! those are scored again with double-precision accumulation in one fixed order. The result is therefore the true top-k by
//! cosine and does not depend on the kernel, the number of threads or how queries are batched.
//!
//! Layers, each using only those after it: [`index_file`], [`mining`] and [`limits`], [`mod@search`], `shortlist`, `scan`, [`selection`] and
//! [`passages`], [`sketch`], [`quantize`], `rotation`, [`matrix`], [`top_k`] and [`kernel`] and [`parallel`] and [`buffer`] and `row_lists`, [`error`].

#![deny(unsafe_code)]

pub mod buffer;
pub mod error;
pub mod index_file;
pub mod kernel;
pub mod limits;
mod mapping;
pub mod matrix;
pub mod mining;
pub mod parallel;
pub mod passages;
pub mod quantize;
mod rotation;
mod row_lists;
mod scan;
pub mod search;
pub mod selection;
mod shortlist;
pub mod sketch;
pub mod top_k;

pub use buffer::Buffer;
pub use error::{Error, Result};
pub use index_file::{Ids, IndexFile, IndexWriter};
pub use kernel::Kernel;
pub use mapping::Lent;
pub use matrix::{Matrix, Values};
pub use mining::{MiningOptions, Negatives, Wanted, lowest_positive, mine};
pub use parallel::Execution;
pub use passages::Passages;
pub use row_lists::RowLists;
pub use search::{Hits, search};
pub use selection::Allow;
