//! Opens 20,000 damaged index files. Each must open or give an index-file error, without a panic, within bounds of
//! time and memory.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Random, half, matrix};
use relkt_core::index_file::{open, save};
use relkt_core::{Buffer, Error, Execution, Ids, Kernel, Matrix, Passages, Values, search};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

/// Number of damaged files.
const FILES: u64 = 20_000;
/// Bounds for one file. Undamaged files of this size open in less than a millisecond.
const MAX_TIME: Duration = Duration::from_secs(5);
const MAX_MEMORY: usize = 4 << 20;
const ROWS: usize = 37;
const DIM: usize = 40;
/// Directions of the sketch.
const WIDTH: usize = 32;

/// Counts the memory in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code)]
// SAFETY: forwards to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A parsed index file: the header, and everything after it.
#[derive(Clone)]
struct Parsed {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Parsed {
    fn of(bytes: &[u8]) -> Self {
        let len = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + len]).expect("a header");
        Self { header, data: bytes[8 + len..].to_vec() }
    }

    fn entries(&mut self) -> &mut Map<String, Value> {
        self.header["__metadata__"].as_object_mut().expect("an object")
    }

    fn sections(&self) -> Vec<String> {
        self.header.keys().filter(|name| *name != "__metadata__").cloned().collect()
    }

    /// Recomputes the header's checksum, so that damage to the header reaches the code behind it.
    fn sign(&mut self) {
        let metadata = self.entries().clone();
        let pairs = metadata.iter().filter(|(key, _)| *key != "checksum");
        let mut lines: Vec<String> =
            pairs.map(|(key, value)| format!("{key}\0{}", value.as_str().unwrap_or_default())).collect();
        for name in self.sections() {
            let section = &self.header[&name];
            let numbers = |key: &str| -> Vec<u64> {
                section[key].as_array().map_or_else(Vec::new, |all| all.iter().filter_map(Value::as_u64).collect())
            };
            let (dtype, offsets) = (section["dtype"].as_str().unwrap_or_default(), numbers("data_offsets"));
            let (start, end) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
            lines.push(format!("{name}\0{dtype}\0{:?}\0({start}, {end})", numbers("shape")));
        }
        lines.sort_unstable();
        let mut hash = Xxh3::new();
        for line in lines {
            hash.update(line.as_bytes());
            hash.update(b"\n");
        }
        self.entries().insert("checksum".into(), json!(format!("{:016x}", hash.digest())));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(&self.header).expect("JSON");
        text.resize((8 + text.len()).next_multiple_of(64) - 8, b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text, &self.data].concat()
    }

    /// Appends a section.
    fn push(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        let section = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, self.data.len()]});
        self.header.insert(name.into(), section);
    }
}

/// Undamaged files: float32 and float16 rows, all kinds of ids, with and without a sketch.
fn originals(path: &Path) -> Vec<Parsed> {
    let kernel = Kernel::detect();
    let execution = Execution::new(kernel, Some(1)).expect("threads");
    let values = Random::new(1).reals(ROWS * DIM);
    let f16 = values.iter().map(|&v| half(v)).collect::<Vec<_>>();
    let f16 = Values::F16(Buffer::copy_of(&f16).expect("memory"));
    let f16 = Matrix::new("passages", f16, ROWS, DIM, &execution).expect("valid rows");
    let f16 = Passages::new(f16, &execution).expect("memory");
    let integers: Vec<i64> = (0..ROWS as i64).map(|i| 7 * i - 3).collect();
    let ends: Vec<i64> = (1..=ROWS as i64).map(|i| 3 * i).collect();
    let texts = "aé".repeat(ROWS);
    let buffer = |values: &[i64]| Buffer::copy_of(values).expect("memory");
    let texts = || Ids::Texts { ends: buffer(&ends), texts: Buffer::copy_of(texts.as_bytes()).expect("memory") };
    let mut all = Vec::new();
    for passages in [common::passages(&values, DIM, kernel), f16] {
        for ids in [Ids::Rows, Ids::Integers(buffer(&integers)), texts()] {
            let notes = HashMap::from([("texts".to_owned(), "passages.jsonl".to_owned())]);
            save(path, &passages, &ids, &notes, &execution).expect("saved");
            let plain = Parsed::of(&fs::read(path).expect("readable"));
            all.extend([plain.clone(), sketched(plain)]);
        }
    }
    for parsed in &all {
        fs::write(path, parsed.bytes()).expect("written");
        open(path, false, &execution).expect("undamaged");
    }
    all
}

/// Adds a sketch, which the library only makes for many more rows. Its directions are unit vectors.
fn sketched(mut parsed: Parsed) -> Parsed {
    let padded = ROWS.next_multiple_of(16);
    // Inserted before the last section, whose end may not be aligned.
    let last = parsed.sections().into_iter().max_by_key(|name| parsed.header[name]["data_offsets"][1].as_u64());
    let last = last.expect("a section");
    let (start, end) = offsets(&parsed, &last);
    let (dtype, shape) = (parsed.header[&last]["dtype"].clone(), parsed.header[&last]["shape"].clone());
    let bytes = parsed.data[start..end].to_vec();
    parsed.data.truncate(start);
    let floats = |value: f32, count: usize| value.to_le_bytes().repeat(count);
    parsed.push("sketch_codes", "U8", &[padded / 16, WIDTH / 4, 16, 4], &vec![128; padded * WIDTH]);
    parsed.push("sketch_scales", "F32", &[padded], &floats(0.0, padded));
    let errors = [floats(9.0, ROWS), floats(f32::NEG_INFINITY, padded - ROWS)].concat();
    parsed.push("sketch_errors", "F32", &[padded], &errors);
    let basis = (0..WIDTH * DIM).flat_map(|i| f32::from(u8::from(i / DIM == i % DIM)).to_le_bytes());
    parsed.push("sketch_basis", "F32", &[WIDTH, DIM], &basis.collect::<Vec<_>>());
    let shape: Vec<usize> = serde_json::from_value(shape).expect("a shape");
    parsed.push(&last, dtype.as_str().expect("a type"), &shape, &bytes);
    parsed.sign();
    parsed
}

fn offsets(parsed: &Parsed, section: &str) -> (usize, usize) {
    let offset = |at: usize| parsed.header[section]["data_offsets"][at].as_u64().expect("a number") as usize;
    (offset(0), offset(1))
}

fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> &'a T {
    &from[random.next() as usize % from.len()]
}

fn flip(random: &mut Random, bytes: &mut [u8], times: u64) {
    for _ in 0..times {
        let at = random.next() as usize % bytes.len();
        bytes[at] ^= 1 << (random.next() % 8);
    }
}

/// A number near `old`, near a power of two, or anything.
fn number(random: &mut Random, old: u64) -> u64 {
    match random.next() % 6 {
        0 => 0,
        1 => old.wrapping_add(random.next() % 33).wrapping_sub(16),
        2 => old.wrapping_mul(1 << (random.next() % 40)),
        3 => (1u64 << (random.next() % 64)).wrapping_sub(random.next() % 2),
        4 => u64::MAX - random.next() % 64,
        _ => random.next() >> (random.next() % 64),
    }
}

/// Changes a number, type or name in the header.
fn change_header(random: &mut Random, parsed: &mut Parsed) {
    let sections = parsed.sections();
    let section: String = pick(random, &sections).clone();
    match random.next() % 8 {
        0 => {
            let key = *pick(random, &["rows", "dim", "version"]);
            let old = parsed.entries()[key].as_str().and_then(|old| old.parse().ok()).unwrap_or(0);
            let new = number(random, old).to_string();
            parsed.entries().insert(key.into(), json!(new));
        }
        1 => {
            let reach = format!("{:08x}", random.next() as u32);
            parsed.entries().insert("reach".into(), json!(reach));
        }
        2 => {
            parsed.entries().insert("rotated".into(), json!("1"));
        }
        3 => {
            let dtype = *pick(random, &["U8", "I8", "F16", "BF16", "F32", "F64", "I64", "BOOL"]);
            parsed.header[&section]["dtype"] = json!(dtype);
        }
        4 => {
            let key = *pick(random, &["shape", "data_offsets"]);
            let numbers = parsed.header[&section][key].as_array_mut().expect("an array");
            let at = random.next() as usize % numbers.len();
            numbers[at] = json!(number(random, numbers[at].as_u64().unwrap_or(0)));
        }
        5 => {
            // Same number of values, other dimensions; zeros and huge numbers included.
            let len: u64 =
                parsed.header[&section]["shape"].as_array().expect("an array").iter().flat_map(Value::as_u64).product();
            let shapes =
                [json!([len]), json!([1, len]), json!([len, 1]), json!([]), json!([0, u64::MAX]), json!([len, 1, 1])];
            parsed.header[&section]["shape"] = pick(random, &shapes).clone();
        }
        6 => {
            parsed.header.remove(&section);
        }
        _ => {
            let other: String = pick(random, &sections).clone();
            let (a, b) = (parsed.header[&section].clone(), parsed.header[&other].clone());
            parsed.header.insert(section, b);
            parsed.header.insert(other, a);
        }
    }
}

/// Overwrites values of a section with special numbers.
fn change_values(random: &mut Random, parsed: &mut Parsed) {
    let sections = parsed.sections();
    let section: &String = pick(random, &sections);
    let (start, end) = offsets(parsed, section);
    if end - start < 8 {
        return;
    }
    for _ in 0..=random.next() % 8 {
        let at = start + random.next() as usize % (end - start - 7);
        let at = if random.next().is_multiple_of(2) { at / 8 * 8 } else { at };
        let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, -1e300, 1e-320];
        let value = *pick(random, &special);
        let bytes = match random.next() % 3 {
            0 => value.to_le_bytes(),
            1 => [(value as f32).to_le_bytes(); 2].concat().try_into().expect("eight bytes"),
            _ => number(random, 1).to_le_bytes(),
        };
        parsed.data[at..at + 8].copy_from_slice(&bytes);
    }
}

/// Changes the length of a header, or digits in it.
fn change_digits(random: &mut Random, header: &mut [u8]) {
    if random.next().is_multiple_of(4) {
        let len = number(random, header.len() as u64 - 8);
        header[..8].copy_from_slice(&len.to_le_bytes());
        return;
    }
    for byte in header[8..].iter_mut().filter(|byte| byte.is_ascii_digit()) {
        if random.next().is_multiple_of(40) {
            *byte = b'0' + (random.next() % 10) as u8;
        }
    }
}

/// A damaged file.
fn mutated(seed: u64, originals: &[Parsed]) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut parsed = pick(&mut random, originals).clone();
    match seed % 8 {
        0 => {
            for _ in 0..=random.next() % 3 {
                change_header(&mut random, &mut parsed);
            }
            parsed.sign();
            parsed.bytes()
        }
        1 => {
            change_values(&mut random, &mut parsed);
            parsed.bytes()
        }
        2 => {
            // The header of one file before the data of another.
            let other = pick(&mut random, originals);
            parsed.data.clone_from(&other.data);
            parsed.bytes()
        }
        3 => {
            let mut bytes = parsed.bytes();
            let times = 1 + random.next() % 8;
            flip(&mut random, &mut bytes, times);
            bytes
        }
        4 => {
            let mut bytes = parsed.bytes();
            let header = bytes.len() - parsed.data.len();
            let times = 1 + random.next() % 3;
            flip(&mut random, &mut bytes[..header], times);
            bytes
        }
        5 => {
            let mut bytes = parsed.bytes();
            let len = random.next() as usize % (bytes.len() + 100);
            bytes.resize(len, random.next() as u8);
            bytes
        }
        6 => {
            // A run of one byte, or of random bytes.
            let mut bytes = parsed.bytes();
            let start = random.next() as usize % bytes.len();
            let end = (start + random.next() as usize % 200).min(bytes.len());
            let (fill, constant) = (random.next() as u8, random.next().is_multiple_of(2));
            bytes[start..end].iter_mut().for_each(|byte| *byte = if constant { fill } else { random.next() as u8 });
            bytes
        }
        _ => {
            // Without a new checksum.
            let mut bytes = parsed.bytes();
            let header = bytes.len() - parsed.data.len();
            change_digits(&mut random, &mut bytes[..header]);
            bytes
        }
    }
}

/// Opens a file and searches it; returns whether it opened.
fn opens(path: &Path, verify: bool, execution: &Execution) -> bool {
    let opened = match open(path, verify, execution) {
        Ok(opened) => opened,
        Err(Error::IndexFile { .. }) => return false,
        Err(other) => panic!("expected an error of the index file, got {other}"),
    };
    let passages = opened.passages;
    let query = matrix("queries", &Random::new(2).reals(passages.dim()), passages.dim(), Kernel::detect());
    // Damaged values may make the results wrong, or an error.
    let _ = search(&query, &passages, passages.rows().min(5), None, execution);
    true
}

#[test]
#[allow(clippy::print_stdout)]
fn damaged_files_open_or_are_refused() {
    let folder: PathBuf = std::env::temp_dir().join(format!("relkt-mutations-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    let path = folder.join("index.relkt");
    let originals = originals(&path);
    let execution = Execution::new(Kernel::detect(), Some(1)).expect("threads");
    let (mut opened, mut slowest, mut largest) = (0, Duration::ZERO, 0);
    for seed in 0..FILES {
        // A new file: some file systems flush a file that is truncated and written again, which takes milliseconds.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, mutated(seed, &originals)).expect("written");
        let before = IN_USE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| opens(&path, seed % 3 == 0, &execution)));
        let (time, memory) = (start.elapsed(), PEAK.load(Ordering::Relaxed).saturating_sub(before));
        match outcome {
            Ok(did_open) => opened += u64::from(did_open),
            Err(_) => panic!("the file of seed {seed} made a panic; it is {}", path.display()),
        }
        assert!(time < MAX_TIME, "the file of seed {seed} took {time:?}");
        assert!(memory < MAX_MEMORY, "the file of seed {seed} took {memory} bytes of memory");
        (slowest, largest) = (slowest.max(time), largest.max(memory));
    }
    fs::remove_dir_all(&folder).expect("removed");
    println!(
        "{FILES} damaged index files: {opened} opened, {} were refused; at most {slowest:?} and {largest} bytes of memory",
        FILES - opened
    );
    // Both outcomes must be common, otherwise the damage misses what matters.
    assert!(opened > FILES / 20 && opened < FILES * 19 / 20, "{opened} of {FILES} opened");
}
