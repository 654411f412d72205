//! Index files: passages with their codes in the safetensors layout, written atomically and searched in place,
//! memory-mapped.
//!
//! The sections and their order are declared in `layout`; each starts at a multiple of 64 bytes. Files without a sketch
//! ([`crate::sketch`]) or without ids lack the corresponding sections. The metadata holds `format` ("relkt"),
//! `version`, `rows`, `dim`, `rotated` (0 or 1) and `reach` (the radius of the rows, as the bits of a float32) for the
//! frame of the codes ([`crate::quantize`]), an XXH3 checksum of each section and of the header, and the user's
//! entries, prefixed with `user.`.
//!
//! A damaged file gives an error when it is opened, or wrong results, but never undefined behaviour: every section is
//! checked against the layout, and its values are read as plain numbers.

#[cfg(target_endian = "big")]
compile_error!("index files are little-endian and searched in place");

mod atomic;
mod layout;
mod reader;
mod writer;

use std::collections::HashMap;

use crate::buffer::Buffer;
use crate::passages::Passages;

pub use reader::open;
pub use writer::{IndexWriter, save};

/// Bytes that are written or hashed between cancellation checks.
const STEP: usize = 8 << 20;

/// Passage ids.
#[derive(Debug, Default)]
pub enum Ids {
    /// The rows themselves.
    #[default]
    Rows,
    /// Integers.
    Integers(Buffer<i64>),
    /// Texts, concatenated in UTF-8, with the end of each.
    Texts {
        /// Ascending; the last is the length of `texts`.
        ends: Buffer<i64>,
        /// UTF-8.
        texts: Buffer<u8>,
    },
}

/// The contents of an index file.
#[derive(Debug)]
pub struct IndexFile {
    /// Rows and codes, mapped.
    pub passages: Passages,
    /// Ids of the passages.
    pub ids: Ids,
    /// The user's metadata.
    pub metadata: HashMap<String, String>,
}
