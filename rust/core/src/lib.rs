//! Exact top-k search and hard-negative mining over passage embeddings.
//!
//! A scan of 8-bit codes, whose error is bounded ([`quantize`]), decides which (query, passage) pairs can matter. Only
//! those are scored again, with double-precision accumulation in one fixed order. So the result is the true top-k by
//! cosine and does not depend on the kernel, the number of threads or the batch of queries.
//!
//! Layers, from top to bottom; a module only uses those of its own layer and below:
//!
//! - [`index_file`]: files that are memory-mapped and searched in place
//! - [`mining`]: negatives under conditions; [`roofline`]: machine peaks
//! - [`mod@search`]: top-k search
//! - `shortlist`: candidates of a query, found from bounds
//! - `scan`: one pass of queries over rows, split over threads
//! - [`selection`]: allowed rows; [`passages`]: rows with their codes
//! - [`sketch`]: shorter codes that rule out most rows
//! - [`quantize`]: 8-bit codes and their error bound
//! - `rotation`: a fixed rotation before coding
//! - [`matrix`]: validated rows
//! - [`parallel`]: execution and threads; [`kernel`]: SIMD kernels; [`top_k`]; [`buffer`]; `row_lists`
//! - `mapping`: mapped files and borrowed memory
//! - [`error`]

#![deny(unsafe_code)]

pub mod buffer;
pub mod error;
pub mod index_file;
pub mod kernel;
mod mapping;
pub mod matrix;
pub mod mining;
pub mod parallel;
pub mod passages;
pub mod quantize;
pub mod roofline;
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
pub use mapping::Borrowed;
pub use matrix::{Matrix, Values};
pub use mining::{MiningOptions, Negatives, Wanted, lowest_positive, mine};
pub use parallel::Execution;
pub use passages::Passages;
pub use row_lists::RowLists;
pub use search::{Hits, search};
pub use selection::Allow;
