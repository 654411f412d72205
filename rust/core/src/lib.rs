//! Exact top-k search and hard-negative mining over passage embeddings.
//!
//! A fast float32 pass, whose error is bounded, decides which (query, passage) pairs can matter; only those are scored
//! again with double-precision accumulation in one fixed order. The result is therefore the true top-k by cosine and
//! does not depend on the kernel, the number of threads or how queries are batched.
//!
//! Layers, each using only those after it: [`mod@search`] and [`mining`], `scan`, [`top_k`] and [`kernel`] and
//! [`parallel`] and [`matrix`], [`error`].

#![deny(unsafe_code)]

pub mod error;
pub mod kernel;
pub mod matrix;
pub mod mining;
pub mod parallel;
mod scan;
pub mod search;
pub mod top_k;

pub use error::{Error, Result};
pub use kernel::Kernel;
pub use matrix::{Matrix, Values};
pub use mining::{Mined, MiningOptions, mine};
pub use parallel::Execution;
pub use search::{Hits, search};
