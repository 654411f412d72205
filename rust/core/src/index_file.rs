//! Index files: passages with their codes, in the safetensors layout, written atomically and searched where they lie.
//!
//! Sections, in this order, each on a multiple of 64 bytes:
//!
//! | section | type | shape | |
//! |---|---|---|---|
//! | `codes` | U8 | (blocks, groups, 16, 4) | code + 128 of rows in blocks of 16, columns in groups of 4 |
//! | `scales`, `errors` | F32 | (blocks * 16,) | see [`crate::quantize`]; errors of rows that fill up the last block: -inf |
//! | `norms` | F64 | (blocks * 16,) | Euclidean norms of the rows |
//! | `mean` | F32 | (dim up to a multiple of 16,) | what codes are relative to, zeros if nothing; see [`crate::quantize`] |
//! | `ids` | I64 | (rows,) | only if ids are whole numbers |
//! | `id_ends` | I64 | (rows,) | only if ids are texts: where each ends in `id_texts` |
//! | `padding` | U8 | (0 to 63,) | |
//! | `rows` | F32 or F16 | (rows, dim) | the embeddings, bit for bit as they came |
//! | `id_texts` | U8 | (bytes,) | UTF-8, one after the other |
//!
//! and, between `mean` and `ids`, where there is a sketch ([`crate::sketch`]) of some width:
//!
//! | section | type | shape | |
//! |---|---|---|---|
//! | `sketch_codes` | U8 | (blocks, groups of the width, 16, 4) | as `codes` |
//! | `sketch_scales`, `sketch_errors` | F32 | (blocks * 16,) | as `scales` and `errors` |
//! | `sketch_basis` | F32 | (width, dim) | the directions; width a multiple of 32 |
//!
//! The metadata hold `format` ("relkt"), `version`, `rows`, `dim`, whether rows are `rotated` before they are coded (0
//! or 1) and their `reach` (the bits of a float32; see [`crate::quantize`] for both), an XXH3 checksum of each section, one of the header
//! itself, and what the user added under names that start with `user.`.

#[cfg(target_endian = "big")]
compile_error!("index files are little-endian, and are searched where they lie");

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors, TensorInfo};
use xxhash_rust::xxh3::Xxh3;

use crate::buffer::{ALIGN, Buffer};
use crate::error::{Error, Result};
use crate::kernel::{BLOCK_ROWS, Kernel, groups};
use crate::mapping::Mapping;
use crate::matrix::{Matrix, Values, check_shape};
use crate::parallel::Execution;
use crate::passages::Passages;
use crate::quantize::{Codes, Frame};
use crate::sketch::{Basis, Sketch};

/// What the metadata call this format, and the newest version of it that is known here.
const FORMAT: &str = "relkt";
const VERSION: u32 = 1;
const USER: &str = "user.";
const CHECKSUM: &str = "checksum.";
const ROTATED: &str = "rotated";
const REACH: &str = "reach";
/// The error number of POSIX, which Python knows by name.
const IS_A_DIRECTORY: i32 = 21;
/// Bytes that are written, checked, or hashed between two looks at whether somebody wants to stop.
const STEP: usize = 8 << 20;

/// What passages are called by.
#[derive(Debug, Default)]
pub enum Ids {
    /// Their rows.
    #[default]
    Rows,
    /// Whole numbers.
    Integers(Buffer<i64>),
    /// Texts: where each ends, and all of them in UTF-8, one after the other.
    Texts {
        /// Ascending; the last is the length of `texts`.
        ends: Buffer<i64>,
        /// UTF-8.
        texts: Buffer<u8>,
    },
}

/// What an index file holds.
#[derive(Debug)]
pub struct IndexFile {
    /// Rows and codes, mapped.
    pub passages: Passages,
    /// What the passages are called by.
    pub ids: Ids,
    /// What the user added.
    pub metadata: HashMap<String, String>,
}

/// Writes passages with their codes to a file, which appears under its name only when it is complete.
///
/// # Errors
/// [`Error::File`], [`Error::IdCount`], [`Error::Interrupted`]; the file that was there before is left as it was.
pub fn save(
    path: &Path,
    passages: &Passages,
    ids: &Ids,
    metadata: &HashMap<String, String>,
    execution: &Execution,
) -> Result<()> {
    let matrix = passages.matrix();
    let shape = Shape {
        rows: passages.rows(),
        dim: passages.dim(),
        half: passages.is_half(),
        sketch: passages.sketch().map(Sketch::width),
    };
    let mut writer = Writer::create(path, shape, ids, metadata)?;
    writer.set_frame(passages.codes().is_rotated(), passages.codes().reach());
    writer.put_mean(passages.codes().frame(), passages.dim(), execution)?;
    writer.put_codes(Section::CODES, passages.codes(), passages.codes().blocks(), execution)?;
    writer.put(Section::Norms, bytemuck::cast_slice(matrix.norms()), execution)?;
    if let Some(sketch) = passages.sketch() {
        writer.put_codes(Section::SKETCH, sketch.codes(), sketch.codes().blocks(), execution)?;
        writer.put(Section::SketchBasis, bytemuck::cast_slice(sketch.basis().values()), execution)?;
    }
    matrix.read_in_order(|| writer.put(Section::Rows, matrix.values().as_bytes(), execution))?;
    writer.finish(ids, execution)
}

/// Writes an index file batch by batch, with no more than a batch in memory.
pub struct IndexWriter {
    writer: Writer,
    rows: usize,
    written: usize,
    dim: usize,
    half: bool,
    /// Rows that do not fill a block yet.
    rest: Option<Matrix>,
    /// Decided by the first rows.
    frame: Option<Frame>,
    reach: f32,
    /// Something went wrong half way: what was written cannot be completed.
    failed: bool,
}

impl IndexWriter {
    /// Starts a file for `rows` rows of `dim` values; `ids` says of what kind the ids will be.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooManyRows`], [`Error::TooWide`], [`Error::File`].
    pub fn create(
        path: &Path,
        rows: usize,
        dim: usize,
        half: bool,
        ids: &Ids,
        metadata: &HashMap<String, String>,
    ) -> Result<Self> {
        check_shape("passages", rows, dim)?;
        let writer = Writer::create(path, Shape { rows, dim, half, sketch: None }, ids, metadata)?;
        Ok(Self { writer, rows, written: 0, dim, half, rest: None, frame: None, reach: 0.0, failed: false })
    }

    /// Rows written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Appends rows, of the width and type announced.
    ///
    /// # Errors
    /// [`Error::DimMismatch`], [`Error::RowCount`] if there are more rows than announced, [`Error::Memory`],
    /// [`Error::File`], [`Error::Interrupted`], [`Error::ThreadPool`].
    pub fn append(&mut self, batch: Matrix, kernel: Kernel, execution: &Execution) -> Result<()> {
        const NAME: &str = "passages";
        if batch.dim() != self.dim {
            return Err(Error::DimMismatch { name: NAME, expected: self.dim, got: batch.dim() });
        }
        if matches!(batch.values(), Values::Half(_)) != self.half {
            return Err(Error::Mixed { name: NAME });
        }
        let total = self.written + batch.rows();
        if total > self.rows {
            return Err(Error::RowCount { expected: self.rows, got: total });
        }
        // Until all of it is written; after an error nothing more is.
        self.failed = true;
        self.writer.put(Section::Norms, bytemuck::cast_slice(batch.norms()), execution)?;
        self.writer.put(Section::Rows, batch.values().as_bytes(), execution)?;
        self.written = total;
        let frame = match &self.frame {
            Some(frame) => frame.clone(),
            None => {
                let frame = Frame::of(&batch, kernel);
                self.writer.put_mean(&frame, self.dim, execution)?;
                self.frame.insert(frame).clone()
            }
        };
        let joined = match self.rest.take() {
            Some(mut rest) => {
                rest.append(NAME, &batch)?;
                rest
            }
            None => batch,
        };
        let whole = if total == self.rows { joined.rows() } else { joined.rows() / BLOCK_ROWS * BLOCK_ROWS };
        if whole > 0 {
            let codes = Codes::with(NAME, &joined, frame, kernel, execution)?;
            self.reach = self.reach.max(codes.reach());
            self.writer.put_codes(Section::CODES, &codes, whole.div_ceil(BLOCK_ROWS), execution)?;
        }
        if whole < joined.rows() {
            let keep: Vec<bool> = (0..joined.rows()).map(|row| row >= whole).collect();
            self.rest = Some(joined.select(NAME, &keep)?);
        }
        self.failed = false;
        Ok(())
    }

    /// Completes the file, which now appears under its name.
    ///
    /// # Errors
    /// [`Error::RowCount`] if there were fewer rows than announced, [`Error::IdCount`], [`Error::File`],
    /// [`Error::Interrupted`].
    pub fn finish(self, ids: &Ids, execution: &Execution) -> Result<()> {
        if self.written < self.rows || self.failed {
            return Err(Error::RowCount { expected: self.rows, got: self.written });
        }
        let mut writer = self.writer;
        writer.set_frame(self.frame.as_ref().is_some_and(Frame::is_rotated), self.reach);
        writer.finish(ids, execution)
    }
}

/// Opens an index file: its header is checked, its sections are mapped and read when they are touched. With `verify`, every
/// byte is read and compared with the checksums.
///
/// # Errors
/// [`Error::File`]; [`Error::IndexFile`] if it is no index file, damaged, or of a newer version.
pub fn open(path: &Path, verify: bool, kernel: Kernel, execution: &Execution) -> Result<IndexFile> {
    let broken = |problem: String| Error::IndexFile { path: path.display().to_string(), problem };
    // Before it is opened: a named pipe would wait for somebody to write into it.
    if !fs::metadata(path).map_err(|e| file_error("open", path, &e))?.is_file() {
        return Err(broken("it is not a file".into()));
    }
    let file = File::open(path).map_err(|e| file_error("open", path, &e))?;
    let length = file.metadata().map_err(|e| file_error("open", path, &e))?;
    if length.len() < 8 {
        return Err(broken(format!("it has {} bytes, too few for any index", length.len())));
    }
    let map = Arc::new(Mapping::of(&file).map_err(|e| file_error("map", path, &e))?);
    let (header_len, header) = SafeTensors::read_metadata(map.bytes()).map_err(|e| match e {
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            broken("its header and its size do not fit together: it was cut short, or is no index file".into())
        }
        e => broken(format!("its header cannot be read ({e}): it is damaged, or no index file")),
    })?;
    let none = HashMap::new();
    let entries = header.metadata().as_ref().unwrap_or(&none);
    if entries.get("format").map(String::as_str) != Some(FORMAT) {
        return Err(broken("it is a safetensors file, but not an index written by relkt".into()));
    }
    let version = number(entries, "version").ok_or_else(|| broken("its version cannot be read".into()))?;
    if version > VERSION as usize {
        return Err(broken(format!("its format has version {version}, newer than {VERSION}, the newest known here")));
    }
    if entries.get("checksum").map(String::as_str) != Some(&hex(header_checksum(&header, entries))) {
        return Err(broken("its header was altered".into()));
    }
    let read = Reader { map: &map, header: &header, entries, data: 8 + header_len };
    let (passages, ids) = read.contents(kernel).ok_or_else(|| broken("its sections do not fit its shape".into()))?;
    if verify && let Some(section) = read.altered(execution)? {
        return Err(broken(format!("the section {:?} was altered: its checksum differs", section.name())));
    }
    // Rows are touched here and there; what lies around them is not needed.
    passages.matrix().expect_reads(false);
    let user = entries.iter().filter_map(|(key, value)| Some((key.strip_prefix(USER)?.to_owned(), value.clone())));
    Ok(IndexFile { passages, ids, metadata: user.collect() })
}

/// A whole number among a header's entries.
fn number(entries: &HashMap<String, String>, key: &str) -> Option<usize> {
    entries.get(key)?.parse().ok()
}

/// Whether nothing can be found in the places of the last block that have no row.
fn padding_is_inert(scales: &[f32], errors: &[f32], rows: usize) -> bool {
    scales[rows..].iter().all(|&scale| scale == 0.0) && errors[rows..].iter().all(|&error| error == f32::NEG_INFINITY)
}

/// Whether ends of texts ascend, and cut valid UTF-8 where characters begin.
fn ids_fit(ends: &[i64], texts: &[u8]) -> bool {
    let Ok(texts) = std::str::from_utf8(texts) else { return false };
    let boundary = |&end: &i64| usize::try_from(end).is_ok_and(|end| texts.is_char_boundary(end));
    ends.is_sorted() && ends.iter().all(boundary) && ends.last().is_some_and(|&end| end as usize == texts.len())
}

/// Parts of a file, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Codes,
    Scales,
    Errors,
    Norms,
    Mean,
    SketchCodes,
    SketchScales,
    SketchErrors,
    SketchBasis,
    Ids,
    IdEnds,
    Padding,
    Rows,
    IdTexts,
}

impl Section {
    /// Where codes stand with their scales and errors: those of the rows, and those of the sketch.
    const CODES: [Self; 3] = [Self::Codes, Self::Scales, Self::Errors];
    const SKETCH: [Self; 3] = [Self::SketchCodes, Self::SketchScales, Self::SketchErrors];

    const ALL: [Self; 14] = [
        Self::Codes,
        Self::Scales,
        Self::Errors,
        Self::Norms,
        Self::Mean,
        Self::SketchCodes,
        Self::SketchScales,
        Self::SketchErrors,
        Self::SketchBasis,
        Self::Ids,
        Self::IdEnds,
        Self::Padding,
        Self::Rows,
        Self::IdTexts,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Codes => "codes",
            Self::Scales => "scales",
            Self::Errors => "errors",
            Self::Norms => "norms",
            Self::Mean => "mean",
            Self::SketchCodes => "sketch_codes",
            Self::SketchScales => "sketch_scales",
            Self::SketchErrors => "sketch_errors",
            Self::SketchBasis => "sketch_basis",
            Self::Ids => "ids",
            Self::IdEnds => "id_ends",
            Self::Padding => "padding",
            Self::Rows => "rows",
            Self::IdTexts => "id_texts",
        }
    }
}

/// Finds sections of a mapped file.
struct Reader<'a> {
    map: &'a Arc<Mapping>,
    header: &'a Metadata,
    entries: &'a HashMap<String, String>,
    data: usize,
}

impl Reader<'_> {
    fn info(&self, section: Section) -> Option<&TensorInfo> {
        self.header.info(section.name())
    }

    fn dtype(&self, section: Section) -> Option<Dtype> {
        self.info(section).map(|info| info.dtype)
    }

    fn len(&self, section: Section) -> Option<usize> {
        self.info(section).map(|info| info.shape.iter().product())
    }

    /// Start and length in bytes.
    fn range(&self, section: Section) -> Option<(usize, usize)> {
        let (start, end) = self.info(section)?.data_offsets;
        Some((self.data + start, end - start))
    }

    fn bytes(&self, section: Section) -> Option<&[u8]> {
        let (start, len) = self.range(section)?;
        self.map.bytes().get(start..start + len)
    }

    fn section<T: bytemuck::Pod>(&self, section: Section, dtype: Dtype, len: usize) -> Option<Buffer<T>> {
        if self.dtype(section)? != dtype || self.len(section)? != len {
            return None;
        }
        Buffer::mapped(self.map, self.range(section)?.0, len)
    }

    /// Everything but what the user added; none if something does not fit the shape, or the rest.
    fn contents(&self, kernel: Kernel) -> Option<(Passages, Ids)> {
        let (rows, dim) = (number(self.entries, "rows")?, number(self.entries, "dim")?);
        check_shape("passages", rows, dim).ok()?;
        let norms = self.section(Section::Norms, Dtype::F64, rows.checked_next_multiple_of(BLOCK_ROWS)?)?;
        let values = rows.checked_mul(dim)?;
        let values = match self.dtype(Section::Rows)? {
            Dtype::F32 => Values::Single(self.section(Section::Rows, Dtype::F32, values)?),
            _ => Values::Half(self.section(Section::Rows, Dtype::F16, values)?),
        };
        let mean = dim.next_multiple_of(ALIGN / size_of::<f32>());
        let mean = self.section::<f32>(Section::Mean, Dtype::F32, mean)?;
        let frame = Frame::new(&mean.as_slice()[..dim], self.entries.get(ROTATED)? == "1")?;
        let reach = u32::from_str_radix(self.entries.get(REACH)?, 16).ok().map(f32::from_bits)?;
        if !(0.0..=2.1).contains(&reach) {
            return None;
        }
        let codes = self.codes(Section::CODES, rows, dim, frame, reach)?;
        let sketch = match self.info(Section::SketchBasis) {
            Some(_) => Some(self.sketch(rows, dim, kernel)?),
            None => None,
        };
        let ids = self.ids(rows)?;
        Some((Passages::trusted(Matrix::trusted(values, rows, dim, norms), codes, sketch), ids))
    }

    fn codes(&self, from: [Section; 3], rows: usize, width: usize, frame: Frame, reach: f32) -> Option<Codes> {
        let padded = rows.checked_next_multiple_of(BLOCK_ROWS)?;
        let codes = self.section(from[0], Dtype::U8, padded.checked_mul(groups(width) * 4)?)?;
        let scales = self.section::<f32>(from[1], Dtype::F32, padded)?;
        let errors = self.section::<f32>(from[2], Dtype::F32, padded)?;
        padding_is_inert(scales.as_slice(), errors.as_slice(), rows)
            .then(|| Codes::trusted(rows, groups(width), frame, reach, codes, scales, errors))
    }

    fn sketch(&self, rows: usize, dim: usize, kernel: Kernel) -> Option<Sketch> {
        let &[width, columns] = self.info(Section::SketchBasis)?.shape.as_slice() else { return None };
        let basis = self.section(Section::SketchBasis, Dtype::F32, width.checked_mul(columns)?)?;
        let basis = Basis::new(basis, width, dim, kernel)?;
        Some(Sketch::trusted(basis, self.codes(Section::SKETCH, rows, width, Frame::default(), 1.0)?))
    }

    fn ids(&self, rows: usize) -> Option<Ids> {
        if self.info(Section::Ids).is_some() {
            return Some(Ids::Integers(self.section(Section::Ids, Dtype::I64, rows)?));
        }
        if self.info(Section::IdEnds).is_none() {
            return Some(Ids::Rows);
        }
        let ends = self.section::<i64>(Section::IdEnds, Dtype::I64, rows)?;
        let texts = self.section(Section::IdTexts, Dtype::U8, self.len(Section::IdTexts)?)?;
        ids_fit(ends.as_slice(), texts.as_slice()).then_some(Ids::Texts { ends, texts })
    }

    /// The first section whose bytes do not have their checksum.
    fn altered(&self, execution: &Execution) -> Result<Option<Section>> {
        for section in Section::ALL {
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

/// What decides a file's sections, beside its ids.
#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    dim: usize,
    half: bool,
    /// Directions of the sketch, if there is one.
    sketch: Option<usize>,
}

/// A section being written.
struct Part {
    section: Section,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where it starts, after the header, and how long it will be.
    start: usize,
    len: usize,
    written: usize,
    hash: Box<Xxh3>,
}

/// A file that is being written under another name.
struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    header_len: usize,
    parts: Vec<Part>,
    metadata: HashMap<String, String>,
    done: bool,
}

impl Writer {
    fn create(path: &Path, shape: Shape, ids: &Ids, metadata: &HashMap<String, String>) -> Result<Self> {
        let Shape { rows, dim, half, sketch } = shape;
        let padded = rows.next_multiple_of(BLOCK_ROWS);
        let mut sections = vec![
            (Section::Codes, Dtype::U8, vec![padded / BLOCK_ROWS, groups(dim), BLOCK_ROWS, 4]),
            (Section::Scales, Dtype::F32, vec![padded]),
            (Section::Errors, Dtype::F32, vec![padded]),
            (Section::Norms, Dtype::F64, vec![padded]),
            (Section::Mean, Dtype::F32, vec![dim.next_multiple_of(ALIGN / size_of::<f32>())]),
        ];
        if let Some(width) = sketch {
            sections.extend([
                (Section::SketchCodes, Dtype::U8, vec![padded / BLOCK_ROWS, groups(width), BLOCK_ROWS, 4]),
                (Section::SketchScales, Dtype::F32, vec![padded]),
                (Section::SketchErrors, Dtype::F32, vec![padded]),
                (Section::SketchBasis, Dtype::F32, vec![width, dim]),
            ]);
        }
        let id_bytes = match ids {
            Ids::Rows => 0,
            Ids::Integers(_) | Ids::Texts { .. } => rows * size_of::<i64>(),
        };
        match ids {
            Ids::Rows => {}
            Ids::Integers(_) => sections.push((Section::Ids, Dtype::I64, vec![rows])),
            Ids::Texts { .. } => sections.push((Section::IdEnds, Dtype::I64, vec![rows])),
        }
        if !id_bytes.is_multiple_of(ALIGN) {
            sections.push((Section::Padding, Dtype::U8, vec![ALIGN - id_bytes % ALIGN]));
        }
        sections.push((Section::Rows, if half { Dtype::F16 } else { Dtype::F32 }, vec![rows, dim]));
        if let Ids::Texts { texts, .. } = ids {
            sections.push((Section::IdTexts, Dtype::U8, vec![texts.len()]));
        }
        let mut start = 0;
        let mut parts = Vec::new();
        for (section, dtype, shape) in sections {
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            parts.push(Part { section, dtype, shape, start, len, written: 0, hash: Box::new(Xxh3::new()) });
            start += len;
        }
        let mut entries: HashMap<String, String> =
            metadata.iter().map(|(key, value)| (format!("{USER}{key}"), value.clone())).collect();
        for (key, value) in [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_string()),
            ("rows", rows.to_string()),
            ("dim", dim.to_string()),
        ] {
            entries.insert(key.into(), value);
        }
        for part in &parts {
            entries.insert(format!("{CHECKSUM}{}", part.section.name()), hex(0));
        }
        // Of a length that does not depend on what is filled in at the end.
        entries.insert(ROTATED.into(), "0".into());
        entries.insert(REACH.into(), format!("{:08x}", 0));
        entries.insert("checksum".into(), hex(0));
        // The header's length does not depend on the checksums; they are filled in at the end.
        let header_len = (8 + header_text(&parts, &entries)?.len()).next_multiple_of(ALIGN) - 8;
        // Through a link, what it points to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (temporary, file) = temporary_file(&path)?;
        Ok(Self { path, temporary, file, header_len, parts, metadata: entries, done: false })
    }

    /// Notes what rows were coded relative to.
    fn set_frame(&mut self, rotated: bool, reach: f32) {
        self.metadata.insert(ROTATED.into(), u8::from(rotated).to_string());
        self.metadata.insert(REACH.into(), format!("{:08x}", reach.to_bits()));
    }

    /// Writes the first blocks of codes, with their scales and errors.
    fn put_codes(&mut self, to: [Section; 3], codes: &Codes, blocks: usize, execution: &Execution) -> Result<()> {
        let (bytes, scales, errors) = codes.parts();
        let rows = blocks * BLOCK_ROWS;
        self.put(to[0], &bytes[..rows * codes.groups() * 4], execution)?;
        self.put(to[1], bytemuck::cast_slice(&scales[..rows]), execution)?;
        self.put(to[2], bytemuck::cast_slice(&errors[..rows]), execution)
    }

    /// Writes what rows are coded relative to.
    fn put_mean(&mut self, frame: &Frame, dim: usize, execution: &Execution) -> Result<()> {
        match frame.mean() {
            Some(mean) => self.put(Section::Mean, bytemuck::cast_slice(mean), execution),
            None => self.put(Section::Mean, &vec![0; dim * size_of::<f32>()], execution),
        }
    }

    /// Writes the next bytes of a section.
    fn put(&mut self, section: Section, bytes: &[u8], execution: &Execution) -> Result<()> {
        let Some(part) = self.parts.iter_mut().find(|part| part.section == section) else { return Ok(()) };
        debug_assert!(part.written + bytes.len() <= part.len);
        let failed = |e: io::Error| file_error("write", &self.path, &e);
        let start = 8 + self.header_len + part.start + part.written;
        self.file.seek(SeekFrom::Start(start as u64)).map_err(failed)?;
        for step in bytes.chunks(STEP) {
            execution.check()?;
            self.file.write_all(step).map_err(failed)?;
            part.hash.update(step);
            part.written += step.len();
        }
        Ok(())
    }

    /// Writes what is left, then the header, and renames the file once all of it is on the disk.
    fn finish(mut self, ids: &Ids, execution: &Execution) -> Result<()> {
        match ids {
            Ids::Rows => {}
            Ids::Integers(ids) => self.put_ids(Section::Ids, bytemuck::cast_slice(ids.as_slice()), execution)?,
            Ids::Texts { ends, texts } => {
                self.put_ids(Section::IdEnds, bytemuck::cast_slice(ends.as_slice()), execution)?;
                self.put_ids(Section::IdTexts, texts.as_slice(), execution)?;
            }
        }
        for section in [Section::Norms, Section::Mean, Section::Padding] {
            // Norms of rows that fill up the last block, what fills up the mean, and what brings the rows to a multiple of 64 bytes.
            let missing =
                self.parts.iter().find(|part| part.section == section).map_or(0, |part| part.len - part.written);
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
        let failed = |e: io::Error| file_error("write", &self.path, &e);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.file.write_all(&(self.header_len as u64).to_le_bytes()).map_err(failed)?;
        self.file.write_all(&text).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        execution.check()?;
        fs::rename(&self.temporary, &self.path).map_err(failed)?;
        self.done = true;
        sync_folder(&self.path);
        Ok(())
    }

    fn put_ids(&mut self, section: Section, bytes: &[u8], execution: &Execution) -> Result<()> {
        match self.parts.iter().find(|part| part.section == section) {
            Some(part) if part.len == bytes.len() => self.put(section, bytes, execution),
            part => Err(Error::IdCount { expected: part.map_or(0, |part| part.len / 8), got: bytes.len() / 8 }),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            // Whatever went wrong has been reported; a file that cannot be removed does no harm.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A new file beside the one that it will become.
fn temporary_file(path: &Path) -> Result<(PathBuf, File)> {
    let name = path.file_name().ok_or_else(|| {
        file_error("write", path, &io::Error::new(io::ErrorKind::InvalidInput, "the path does not name a file"))
    })?;
    if path.is_dir() {
        return Err(file_error("write", path, &io::Error::from_raw_os_error(IS_A_DIRECTORY)));
    }
    let existing = fs::metadata(path).ok();
    if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "it is there, and not a regular file");
        return Err(file_error("write", path, &reason));
    }
    for attempt in 0..1000u32 {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => {
                // Who may read the file that is replaced may read the new one, and nobody else.
                if let Some(existing) = existing {
                    let _ = file.set_permissions(existing.permissions());
                }
                return Ok((temporary, file));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(file_error("write", path, &e)),
        }
    }
    Err(file_error("write", path, &io::Error::from(io::ErrorKind::AlreadyExists)))
}

/// Makes a rename last through a power failure, where folders can be opened and synced. The file itself is complete either
/// way, so that a refusal is no failure.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    #[cfg(not(unix))]
    let _ = path;
}

fn header(parts: &[Part], entries: &HashMap<String, String>) -> Result<Metadata> {
    let tensors = parts
        .iter()
        .map(|part| {
            let data_offsets = (part.start, part.start + part.len);
            (part.section.name().to_owned(), TensorInfo { dtype: part.dtype, shape: part.shape.clone(), data_offsets })
        })
        .collect();
    Metadata::new(Some(entries.clone()), tensors).map_err(|e| broken_invariant(&e.to_string()))
}

fn header_text(parts: &[Part], entries: &HashMap<String, String>) -> Result<Vec<u8>> {
    // By way of a value, whose keys are sorted: the same index makes the same file.
    serde_json::to_value(header(parts, entries)?)
        .and_then(|header| serde_json::to_vec(&header))
        .map_err(|e| broken_invariant(&e.to_string()))
}

fn broken_invariant(reason: &str) -> Error {
    Error::File { action: "write", path: String::new(), reason: reason.to_owned(), code: None }
}

/// Of everything that the header says, in one fixed order.
fn header_checksum(header: &Metadata, entries: &HashMap<String, String>) -> u64 {
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

fn hex(checksum: u64) -> String {
    format!("{checksum:016x}")
}

fn file_error(action: &'static str, path: &Path, error: &io::Error) -> Error {
    Error::File { action, path: path.display().to_string(), reason: error.to_string(), code: error.raw_os_error() }
}
