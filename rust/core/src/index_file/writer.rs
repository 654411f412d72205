//! Writing: whole indexes, and indexes that arrive in batches.

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use xxhash_rust::xxh3::Xxh3;

use super::atomic::{AtomicFile, file_error};
use super::layout::{
    CHECKSUM, FORMAT, IdLayout, Layout, RADIUS, ROTATED, Section, USER, VERSION, header_checksum, hex,
};
use super::{Ids, STEP};
use crate::buffer::ALIGN;
use crate::error::{Error, Result};
use crate::kernel::BLOCK_ROWS;
use crate::matrix::{Matrix, Values, check_shape};
use crate::parallel::Execution;
use crate::passages::Passages;
use crate::quantize::{Codes, Frame};
use crate::sketch::Sketch;

/// Writes passages with their codes to a file, which appears under its name only when it is complete.
///
/// # Errors
/// [`Error::File`], [`Error::IdCount`], [`Error::Interrupted`]; an existing file is left unchanged.
pub fn save(
    path: &Path,
    passages: &Passages,
    ids: &Ids,
    metadata: &HashMap<String, String>,
    execution: &Execution,
) -> Result<()> {
    let matrix = passages.matrix();
    let layout = Layout {
        rows: passages.rows(),
        dim: passages.dim(),
        is_f16: passages.is_f16(),
        sketch: passages.sketch().map(Sketch::width),
        ids: id_layout(ids),
    };
    let mut writer = Writer::create(path, layout, metadata)?;
    writer.set_frame(passages.codes().is_rotated(), passages.codes().radius());
    writer.put_mean(passages.codes().frame(), execution)?;
    writer.put_codes(Section::CODES, passages.codes(), passages.codes().blocks(), execution)?;
    writer.put(Section::Norms, bytemuck::cast_slice(matrix.norms()), execution)?;
    if let Some(sketch) = passages.sketch() {
        writer.put_codes(Section::SKETCH, sketch.codes(), sketch.codes().blocks(), execution)?;
        writer.put(Section::SketchBasis, bytemuck::cast_slice(sketch.basis().values()), execution)?;
    }
    matrix.read_in_order(|| writer.put(Section::Rows, matrix.values().as_bytes(), execution))?;
    writer.finish(ids, execution)
}

/// Writes an index file batch by batch, with one batch in memory at a time.
pub struct IndexWriter {
    writer: Writer,
    written: usize,
    /// Rows that do not fill a block yet.
    remainder: Option<Matrix>,
    /// Chosen from the first batch.
    frame: Option<Frame>,
    radius: f32,
    /// An earlier write failed, so the file cannot be completed.
    failed: bool,
}

impl IndexWriter {
    /// Starts a file for `rows` rows of `dim` values. `ids` determines the kind of the ids.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooManyRows`], [`Error::TooWide`], [`Error::File`].
    pub fn create(
        path: &Path,
        rows: usize,
        dim: usize,
        is_f16: bool,
        ids: &Ids,
        metadata: &HashMap<String, String>,
    ) -> Result<Self> {
        check_shape("passages", rows, dim)?;
        let layout = Layout { rows, dim, is_f16, sketch: None, ids: id_layout(ids) };
        let writer = Writer::create(path, layout, metadata)?;
        Ok(Self { writer, written: 0, remainder: None, frame: None, radius: 0.0, failed: false })
    }

    /// Number of rows written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Appends rows of the announced width and type.
    ///
    /// # Errors
    /// [`Error::DimMismatch`], [`Error::RowCount`] if there are more rows than announced, [`Error::Memory`],
    /// [`Error::File`], [`Error::Interrupted`], [`Error::ThreadPool`].
    pub fn append(&mut self, batch: Matrix, execution: &Execution) -> Result<()> {
        const NAME: &str = "passages";
        let Layout { rows, dim, is_f16, .. } = self.writer.layout;
        if batch.dim() != dim {
            return Err(Error::DimMismatch { name: NAME, expected: dim, got: batch.dim() });
        }
        if matches!(batch.values(), Values::F16(_)) != is_f16 {
            return Err(Error::Mixed { name: NAME });
        }
        let total = self.written + batch.rows();
        if total > rows {
            return Err(Error::RowCount { expected: rows, got: total });
        }
        // Cleared at the end, so that an error on the way leaves it set.
        self.failed = true;
        self.writer.put(Section::Norms, bytemuck::cast_slice(batch.norms()), execution)?;
        self.writer.put(Section::Rows, batch.values().as_bytes(), execution)?;
        self.written = total;
        self.append_codes(batch, execution).map_err(|error| error.of(NAME))?;
        self.failed = false;
        Ok(())
    }

    /// Codes whole blocks of rows; rows that do not fill a block wait for the next batch, except after the last row.
    fn append_codes(&mut self, batch: Matrix, execution: &Execution) -> Result<()> {
        let frame = match &self.frame {
            Some(frame) => frame.clone(),
            None => {
                let frame = Frame::of(&batch, execution.kernel());
                self.writer.put_mean(&frame, execution)?;
                self.frame.insert(frame).clone()
            }
        };
        let joined = match self.remainder.take() {
            Some(mut remainder) => {
                remainder.append("passages", &batch)?;
                remainder
            }
            None => batch,
        };
        let last = self.written == self.writer.layout.rows;
        let whole = if last { joined.rows() } else { joined.rows() / BLOCK_ROWS * BLOCK_ROWS };
        if whole > 0 {
            let codes = Codes::with(&joined, frame, execution)?;
            self.radius = self.radius.max(codes.radius());
            self.writer.put_codes(Section::CODES, &codes, whole.div_ceil(BLOCK_ROWS), execution)?;
        }
        if whole < joined.rows() {
            let keep: Vec<bool> = (0..joined.rows()).map(|row| row >= whole).collect();
            self.remainder = Some(joined.select(&keep)?);
        }
        Ok(())
    }

    /// Completes the file, which then appears under its name.
    ///
    /// # Errors
    /// [`Error::RowCount`] if there are fewer rows than announced, [`Error::IdCount`], [`Error::File`],
    /// [`Error::Interrupted`].
    pub fn finish(self, ids: &Ids, execution: &Execution) -> Result<()> {
        let rows = self.writer.layout.rows;
        if self.written < rows || self.failed {
            return Err(Error::RowCount { expected: rows, got: self.written });
        }
        let mut writer = self.writer;
        writer.set_frame(self.frame.as_ref().is_some_and(Frame::is_rotated), self.radius);
        writer.finish(ids, execution)
    }
}

fn id_layout(ids: &Ids) -> IdLayout {
    match ids {
        Ids::Rows => IdLayout::Rows,
        Ids::Integers(_) => IdLayout::Integers,
        Ids::Texts { texts, .. } => IdLayout::Texts { bytes: texts.len() },
    }
}

/// A section being written.
struct Part {
    section: Section,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Start (counted from the end of the header) and length, in bytes.
    start: usize,
    len: usize,
    written: usize,
    hash: Box<Xxh3>,
}

/// An index file being written.
struct Writer {
    output: AtomicFile,
    layout: Layout,
    header_len: usize,
    parts: Vec<Part>,
    metadata: HashMap<String, String>,
}

impl Writer {
    fn create(path: &Path, layout: Layout, metadata: &HashMap<String, String>) -> Result<Self> {
        let mut start = 0;
        let mut parts = Vec::new();
        for (section, dtype, shape) in layout.sections() {
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            parts.push(Part { section, dtype, shape, start, len, written: 0, hash: Box::new(Xxh3::new()) });
            start += len;
        }
        let mut entries: HashMap<String, String> =
            metadata.iter().map(|(key, value)| (format!("{USER}{key}"), value.clone())).collect();
        for (key, value) in [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_string()),
            ("rows", layout.rows.to_string()),
            ("dim", layout.dim.to_string()),
            // Filled in at the end. Their lengths are fixed, and so is the length of the header.
            (ROTATED, "0".to_owned()),
            (RADIUS, format!("{:08x}", 0)),
            ("checksum", hex(0)),
        ] {
            entries.insert(key.into(), value);
        }
        for part in &parts {
            entries.insert(format!("{CHECKSUM}{}", part.section.name()), hex(0));
        }
        let header_len = (8 + header_text(&parts, &entries)?.len()).next_multiple_of(ALIGN) - 8;
        Ok(Self { output: AtomicFile::create(path)?, layout, header_len, parts, metadata: entries })
    }

    /// Records the frame of the codes.
    fn set_frame(&mut self, rotated: bool, radius: f32) {
        self.metadata.insert(ROTATED.into(), u8::from(rotated).to_string());
        self.metadata.insert(RADIUS.into(), format!("{:08x}", radius.to_bits()));
    }

    /// Writes the first `blocks` blocks of codes, with their scales and errors.
    fn put_codes(&mut self, to: [Section; 3], codes: &Codes, blocks: usize, execution: &Execution) -> Result<()> {
        let (bytes, scales, errors) = codes.parts();
        let rows = blocks * BLOCK_ROWS;
        self.put(to[0], &bytes[..rows * codes.groups() * 4], execution)?;
        self.put(to[1], bytemuck::cast_slice(&scales[..rows]), execution)?;
        self.put(to[2], bytemuck::cast_slice(&errors[..rows]), execution)
    }

    /// Writes the mean of the frame.
    fn put_mean(&mut self, frame: &Frame, execution: &Execution) -> Result<()> {
        match frame.mean() {
            Some(mean) => self.put(Section::Mean, bytemuck::cast_slice(mean), execution),
            None => self.put(Section::Mean, &vec![0; self.layout.dim * size_of::<f32>()], execution),
        }
    }

    /// Appends bytes to a section; does nothing if the layout does not have the section.
    fn put(&mut self, section: Section, bytes: &[u8], execution: &Execution) -> Result<()> {
        let Some(part) = self.parts.iter_mut().find(|part| part.section == section) else { return Ok(()) };
        debug_assert!(part.written + bytes.len() <= part.len);
        let path = self.output.path().to_owned();
        let failed = |e: io::Error| file_error("write", &path, &e);
        let start = 8 + self.header_len + part.start + part.written;
        self.output.file().seek(SeekFrom::Start(start as u64)).map_err(failed)?;
        for step in bytes.chunks(STEP) {
            execution.check()?;
            self.output.file().write_all(step).map_err(failed)?;
            part.hash.update(step);
            part.written += step.len();
        }
        Ok(())
    }

    /// Writes the ids, paddings and header, and commits the file.
    fn finish(mut self, ids: &Ids, execution: &Execution) -> Result<()> {
        match ids {
            Ids::Rows => {}
            Ids::Integers(ids) => self.put_ids(Section::Ids, bytemuck::cast_slice(ids.as_slice()), execution)?,
            Ids::Texts { ends, texts } => {
                self.put_ids(Section::IdEnds, bytemuck::cast_slice(ends.as_slice()), execution)?;
                self.put_ids(Section::IdTexts, texts.as_slice(), execution)?;
            }
        }
        // Zeros: norms of the padding rows, the end of the mean, and the alignment of the rows.
        for section in [Section::Norms, Section::Mean, Section::Padding] {
            let part = self.parts.iter().find(|part| part.section == section);
            let missing = part.map_or(0, |part| part.len - part.written);
            self.put(section, &vec![0; missing], execution)?;
        }
        debug_assert!(self.parts.iter().all(|part| part.written == part.len));
        for part in &self.parts {
            self.metadata.insert(format!("{CHECKSUM}{}", part.section.name()), hex(part.hash.digest()));
        }
        let header = header(&self.parts, &self.metadata)?;
        self.metadata.insert("checksum".into(), hex(header_checksum(&header, &self.metadata)));
        let mut text = header_text(&self.parts, &self.metadata)?;
        text.resize(self.header_len, b' ');
        let path = self.output.path().to_owned();
        let failed = |e: io::Error| file_error("write", &path, &e);
        let file = self.output.file();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(&(self.header_len as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        self.output.commit(|| execution.check())
    }

    fn put_ids(&mut self, section: Section, bytes: &[u8], execution: &Execution) -> Result<()> {
        match self.parts.iter().find(|part| part.section == section) {
            Some(part) if part.len == bytes.len() => self.put(section, bytes, execution),
            part => Err(Error::IdCount { expected: part.map_or(0, |part| part.len / 8), got: bytes.len() / 8 }),
        }
    }
}

fn header(parts: &[Part], entries: &HashMap<String, String>) -> Result<Metadata> {
    let tensors = parts
        .iter()
        .map(|part| {
            let data_offsets = (part.start, part.start + part.len);
            (part.section.name().to_owned(), TensorInfo { dtype: part.dtype, shape: part.shape.clone(), data_offsets })
        })
        .collect();
    Metadata::new(Some(entries.clone()), tensors).map_err(|e| internal_error(&e.to_string()))
}

/// The header as JSON. A JSON value sorts its keys, so that the same index always makes the same file.
fn header_text(parts: &[Part], entries: &HashMap<String, String>) -> Result<Vec<u8>> {
    serde_json::to_value(header(parts, entries)?)
        .and_then(|header| serde_json::to_vec(&header))
        .map_err(|e| internal_error(&e.to_string()))
}

fn internal_error(reason: &str) -> Error {
    Error::File { action: "write", path: String::new(), reason: reason.to_owned(), code: None }
}
