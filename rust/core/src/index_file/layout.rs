//! The sections of an index file and its metadata.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, Metadata};
use xxhash_rust::xxh3::Xxh3;

use crate::buffer::ALIGN;
use crate::kernel::{BLOCK_ROWS, groups};

/// Value of the metadata entry `format`, and the newest version of the format that this code reads.
pub(super) const FORMAT: &str = "relkt";
pub(super) const VERSION: u32 = 1;
/// Prefixes of the user's metadata entries, and of checksum entries for sections.
pub(super) const USER: &str = "user.";
pub(super) const CHECKSUM: &str = "checksum.";
/// Metadata entries that describe the frame of the codes. The radius of the rows is called `reach` in the file.
pub(super) const ROTATED: &str = "rotated";
pub(super) const RADIUS: &str = "reach";

/// The numbers that determine the sections of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) dim: usize,
    pub(super) is_f16: bool,
    /// Number of directions of the sketch, if the file has one.
    pub(super) sketch: Option<usize>,
    pub(super) ids: IdLayout,
}

/// The kind of ids in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdLayout {
    Rows,
    Integers,
    Texts {
        /// Number of bytes of all texts.
        bytes: usize,
    },
}

impl Layout {
    /// Number of rows including padding rows.
    fn padded(&self) -> usize {
        self.rows.next_multiple_of(BLOCK_ROWS)
    }

    fn codes(&self, width: usize) -> Vec<usize> {
        vec![self.padded() / BLOCK_ROWS, groups(width), BLOCK_ROWS, 4]
    }

    /// Bytes between the ids and the next multiple of 64.
    fn padding(&self) -> usize {
        let ids = if self.ids == IdLayout::Rows { 0 } else { self.rows * size_of::<i64>() };
        ids.next_multiple_of(ALIGN) - ids
    }

    /// The sections of the file, in their order, with their types and shapes.
    pub(super) fn sections(&self) -> impl Iterator<Item = (Section, Dtype, Vec<usize>)> + '_ {
        Section::ALL.iter().filter_map(|&section| {
            let (dtype, shape) = section.spec(self)?;
            Some((section, dtype, shape))
        })
    }
}

/// Declares the sections of a file: the name, and the type and shape for a layout (`None` if the file has no such
/// section).
macro_rules! sections {
    ($($(#[$doc:meta])* $section:ident = $name:literal, $layout:pat => $spec:expr;)*) => {
        /// A section of a file. The order of the variants is the order in the file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Section {
            $($(#[$doc])* $section,)*
        }

        impl Section {
            pub(super) const ALL: &'static [Self] = &[$(Self::$section),*];

            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$section => $name,)*
                }
            }

            /// Type and shape of the section.
            pub(super) fn spec(self, layout: &Layout) -> Option<(Dtype, Vec<usize>)> {
                match self {
                    $(Self::$section => {
                        let $layout = layout;
                        $spec
                    })*
                }
            }
        }
    };
}

sections! {
    /// Code + 128 of the rows, in blocks of 16 rows and groups of 4 columns; see [`BLOCK_ROWS`].
    Codes = "codes", l => Some((Dtype::U8, l.codes(l.dim)));
    /// Scales of the codes; see [`crate::quantize`].
    Scales = "scales", l => Some((Dtype::F32, vec![l.padded()]));
    /// Errors of the codes; -inf for padding rows.
    Errors = "errors", l => Some((Dtype::F32, vec![l.padded()]));
    /// Euclidean norms of the rows.
    Norms = "norms", l => Some((Dtype::F64, vec![l.padded()]));
    /// The mean that is subtracted from rows before coding, or zeros; padded to a multiple of 16 values.
    Mean = "mean", l => Some((Dtype::F32, vec![l.dim.next_multiple_of(ALIGN / size_of::<f32>())]));
    /// Like `codes`, for the projections on the directions of the sketch.
    SketchCodes = "sketch_codes", l => l.sketch.map(|width| (Dtype::U8, l.codes(width)));
    /// Scales of the projections' codes.
    SketchScales = "sketch_scales", l => l.sketch.map(|_| (Dtype::F32, vec![l.padded()]));
    /// Errors of the projections' codes.
    SketchErrors = "sketch_errors", l => l.sketch.map(|_| (Dtype::F32, vec![l.padded()]));
    /// The directions of the sketch; their number is a multiple of 32.
    SketchBasis = "sketch_basis", l => l.sketch.map(|width| (Dtype::F32, vec![width, l.dim]));
    /// Ids that are integers.
    Ids = "ids", l => (l.ids == IdLayout::Integers).then(|| (Dtype::I64, vec![l.rows]));
    /// Ids that are texts: the end of each in `id_texts`.
    IdEnds = "id_ends", l => matches!(l.ids, IdLayout::Texts { .. }).then(|| (Dtype::I64, vec![l.rows]));
    /// Up to 63 bytes that align the rows.
    Padding = "padding", l => (l.padding() > 0).then(|| (Dtype::U8, vec![l.padding()]));
    /// The embeddings, bit for bit as given.
    Rows = "rows", l => Some((if l.is_f16 { Dtype::F16 } else { Dtype::F32 }, vec![l.rows, l.dim]));
    /// All ids that are texts, concatenated, in UTF-8.
    IdTexts = "id_texts", l => match l.ids {
        IdLayout::Texts { bytes } => Some((Dtype::U8, vec![bytes])),
        _ => None,
    };
}

impl Section {
    /// Codes with their scales and errors: of the rows, and of the sketch.
    pub(super) const CODES: [Self; 3] = [Self::Codes, Self::Scales, Self::Errors];
    pub(super) const SKETCH: [Self; 3] = [Self::SketchCodes, Self::SketchScales, Self::SketchErrors];
}

/// Checksum of all metadata and section descriptions, in one fixed order.
pub(super) fn header_checksum(header: &Metadata, entries: &HashMap<String, String>) -> u64 {
    let mut lines: Vec<String> =
        entries.iter().filter(|(key, _)| *key != "checksum").map(|(key, value)| format!("{key}\0{value}")).collect();
    lines.extend(
        header
            .tensors()
            .into_iter()
            .map(|(name, info)| format!("{name}\0{:?}\0{:?}\0{:?}", info.dtype, info.shape, info.data_offsets)),
    );
    lines.sort_unstable();
    let mut hash = Xxh3::new();
    for line in lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    hash.digest()
}

/// The text of a checksum in the metadata.
pub(super) fn hex(checksum: u64) -> String {
    format!("{checksum:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_start_at_a_multiple_of_64_bytes() {
        for rows in [1, 15, 16, 17, 300] {
            for ids in [IdLayout::Rows, IdLayout::Integers, IdLayout::Texts { bytes: 7 }] {
                for sketch in [None, Some(32)] {
                    let layout = Layout { rows, dim: 70, is_f16: false, sketch, ids };
                    let before = layout.sections().take_while(|(section, ..)| *section != Section::Rows);
                    let bytes = before.map(|(_, dtype, shape)| shape.iter().product::<usize>() * dtype.bitsize() / 8);
                    assert!(bytes.sum::<usize>().is_multiple_of(ALIGN), "{layout:?}");
                }
            }
        }
    }
}
