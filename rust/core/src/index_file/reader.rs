//! Reading: the header is checked, sections are mapped and read on demand.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors, TensorInfo};
use xxhash_rust::xxh3::Xxh3;

use super::atomic::file_error;
use super::layout::{
    CHECKSUM, FORMAT, IdLayout, Layout, RADIUS, ROTATED, Section, USER, VERSION, header_checksum, hex,
};
use super::{Ids, IndexFile, STEP};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::mapping::Mapping;
use crate::matrix::{Matrix, Values, check_shape};
use crate::parallel::Execution;
use crate::passages::Passages;
use crate::quantize::{Codes, Frame, StoredCodes};
use crate::sketch::{Basis, Sketch};

/// Largest valid radius of rows in their frame: 2, with some room for rounding.
const MAX_RADIUS: f32 = 2.1;

/// Opens an index file: checks its header and maps its sections, which are read on demand. With `verify`, reads every
/// byte and compares it with the checksums.
///
/// # Errors
/// [`Error::File`]; [`Error::IndexFile`] if the file is not an index, is damaged, or has a newer version.
pub fn open(path: &Path, verify: bool, execution: &Execution) -> Result<IndexFile> {
    let broken = |problem: String| Error::IndexFile { path: path.display().to_string(), problem };
    // Checked before opening, because opening a named pipe would block.
    if !fs::metadata(path).map_err(|e| file_error("open", path, &e))?.is_file() {
        return Err(broken("it is not a file".into()));
    }
    let file = File::open(path).map_err(|e| file_error("open", path, &e))?;
    let length = file.metadata().map_err(|e| file_error("open", path, &e))?;
    if length.len() < 8 {
        return Err(broken(format!("it has {} bytes, too few for any index", length.len())));
    }
    let map = Arc::new(Mapping::of(&file).map_err(|e| file_error("map", path, &e))?);
    let (header_len, header) = SafeTensors::read_metadata(map.bytes()).map_err(|e| broken(unreadable(&e)))?;
    let empty = HashMap::new();
    let entries = header.metadata().as_ref().unwrap_or(&empty);
    check_header(&header, entries).map_err(broken)?;
    let reader = Reader { map: &map, header: &header, entries, data: 8 + header_len };
    let (passages, ids) =
        reader.contents(execution.kernel()).ok_or_else(|| broken("its sections do not fit its shape".into()))?;
    if verify && let Some(section) = reader.altered(execution)? {
        return Err(broken(format!("the section {:?} was altered: its checksum differs", section.name())));
    }
    // A search reads scattered rows, so reading ahead would waste memory bandwidth.
    passages.matrix().advise_reads(false);
    let user = entries.iter().filter_map(|(key, value)| Some((key.strip_prefix(USER)?.to_owned(), value.clone())));
    Ok(IndexFile { passages, ids, metadata: user.collect() })
}

/// Says why a header cannot be parsed.
fn unreadable(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            "its header and its size do not fit together: it was cut short, or is not an index file".into()
        }
        error => format!("its header cannot be read ({error}): it is damaged, or not an index file"),
    }
}

/// Checks format, version and checksum; the error describes the problem.
fn check_header(header: &Metadata, entries: &HashMap<String, String>) -> std::result::Result<(), String> {
    if entries.get("format").map(String::as_str) != Some(FORMAT) {
        return Err("it is a safetensors file, but not an index written by relkt".into());
    }
    let version = number(entries, "version").ok_or("its version cannot be read")?;
    if version > VERSION as usize {
        return Err(format!("its format has version {version}, newer than {VERSION}, the newest known here"));
    }
    if entries.get("checksum").map(String::as_str) != Some(&hex(header_checksum(header, entries))) {
        return Err("its header was altered".into());
    }
    Ok(())
}

/// A metadata entry that is a whole number.
fn number(entries: &HashMap<String, String>, key: &str) -> Option<usize> {
    entries.get(key)?.parse().ok()
}

/// True if no search can find the padding rows of the last block.
fn padding_is_inert(scales: &[f32], errors: &[f32], rows: usize) -> bool {
    scales[rows..].iter().all(|&scale| scale == 0.0) && errors[rows..].iter().all(|&error| error == f32::NEG_INFINITY)
}

/// True if the ends of ids ascend and cut valid UTF-8 at character boundaries.
fn ids_are_valid(ends: &[i64], texts: &[u8]) -> bool {
    let Ok(texts) = std::str::from_utf8(texts) else { return false };
    let boundary = |&end: &i64| usize::try_from(end).is_ok_and(|end| texts.is_char_boundary(end));
    ends.is_sorted() && ends.iter().all(boundary) && ends.last().is_some_and(|&end| end as usize == texts.len())
}

/// Finds the sections of a mapped file. Methods return `None` if a section is missing, or does not have the type and
/// shape of the layout.
struct Reader<'a> {
    map: &'a Arc<Mapping>,
    header: &'a Metadata,
    entries: &'a HashMap<String, String>,
    /// Start of the sections, in bytes.
    data: usize,
}

impl Reader<'_> {
    fn info(&self, section: Section) -> Option<&TensorInfo> {
        self.header.info(section.name())
    }

    fn bytes(&self, section: Section) -> Option<&[u8]> {
        let (start, end) = self.info(section)?.data_offsets;
        self.map.bytes().get(self.data + start..self.data + end)
    }

    /// The layout that the header describes; `None` if its numbers exceed the limits of a matrix.
    fn layout(&self) -> Option<Layout> {
        let (rows, dim) = (number(self.entries, "rows")?, number(self.entries, "dim")?);
        check_shape("passages", rows, dim).ok()?;
        let first = |section: Section| self.info(section).and_then(|info| info.shape.first().copied());
        let ids = if self.info(Section::Ids).is_some() {
            IdLayout::Integers
        } else if self.info(Section::IdEnds).is_some() {
            IdLayout::Texts { bytes: first(Section::IdTexts)? }
        } else {
            IdLayout::Rows
        };
        let is_f16 = self.info(Section::Rows)?.dtype == Dtype::F16;
        Some(Layout { rows, dim, is_f16, sketch: first(Section::SketchBasis), ids })
    }

    fn section<T: bytemuck::Pod>(&self, layout: &Layout, section: Section) -> Option<Buffer<T>> {
        let (dtype, shape) = section.spec(layout)?;
        let info = self.info(section)?;
        if info.dtype != dtype || info.shape != shape {
            return None;
        }
        // The product does not overflow: safetensors checked it against the size of the file.
        Buffer::mapped(self.map, self.data + info.data_offsets.0, shape.iter().product())
    }

    /// Passages and ids; `None` if anything does not match the layout, or is invalid.
    fn contents(&self, kernel: Kernel) -> Option<(Passages, Ids)> {
        let layout = self.layout()?;
        let Layout { rows, dim, is_f16, sketch, .. } = layout;
        let values = if is_f16 {
            Values::F16(self.section(&layout, Section::Rows)?)
        } else {
            Values::F32(self.section(&layout, Section::Rows)?)
        };
        let matrix = Matrix::trusted(values, rows, dim, self.section(&layout, Section::Norms)?);
        let mean = self.section::<f32>(&layout, Section::Mean)?;
        let frame = Frame::new(&mean.as_slice()[..dim], self.entries.get(ROTATED)? == "1")?;
        let radius = u32::from_str_radix(self.entries.get(RADIUS)?, 16).ok().map(f32::from_bits)?;
        if !(0.0..=MAX_RADIUS).contains(&radius) {
            return None;
        }
        let codes = Codes::trusted(rows, dim, frame, radius, self.codes(&layout, Section::CODES)?);
        let sketch = match sketch {
            Some(width) => Some(self.sketch(&layout, width, kernel)?),
            None => None,
        };
        Some((Passages::trusted(matrix, codes, sketch), self.ids(&layout)?))
    }

    fn codes(&self, layout: &Layout, from: [Section; 3]) -> Option<StoredCodes> {
        let codes = self.section(layout, from[0])?;
        let scales = self.section::<f32>(layout, from[1])?;
        let errors = self.section::<f32>(layout, from[2])?;
        padding_is_inert(scales.as_slice(), errors.as_slice(), layout.rows).then_some(StoredCodes {
            codes,
            scales,
            errors,
        })
    }

    fn sketch(&self, layout: &Layout, width: usize, kernel: Kernel) -> Option<Sketch> {
        let basis = Basis::new(self.section(layout, Section::SketchBasis)?, width, layout.dim, kernel)?;
        let codes = self.codes(layout, Section::SKETCH)?;
        Some(Sketch::trusted(basis, Codes::trusted(layout.rows, width, Frame::default(), 1.0, codes)))
    }

    fn ids(&self, layout: &Layout) -> Option<Ids> {
        match layout.ids {
            IdLayout::Rows => Some(Ids::Rows),
            IdLayout::Integers => Some(Ids::Integers(self.section(layout, Section::Ids)?)),
            IdLayout::Texts { .. } => {
                let ends = self.section::<i64>(layout, Section::IdEnds)?;
                let texts = self.section(layout, Section::IdTexts)?;
                ids_are_valid(ends.as_slice(), texts.as_slice()).then_some(Ids::Texts { ends, texts })
            }
        }
    }

    /// The first section whose bytes do not match their checksum.
    fn altered(&self, execution: &Execution) -> Result<Option<Section>> {
        for &section in Section::ALL {
            let Some(bytes) = self.bytes(section) else { continue };
            let mut hash = Xxh3::new();
            for step in bytes.chunks(STEP) {
                execution.check()?;
                hash.update(step);
            }
            if self.entries.get(&format!("{CHECKSUM}{}", section.name())) != Some(&hex(hash.digest())) {
                return Ok(Some(section));
            }
        }
        Ok(None)
    }
}
