//! Index files: round trips, damage, and interrupted saves.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use common::{Random, half, matrix, passages};
use relkt_core::index_file::{IndexFile, open, save};
use relkt_core::{Buffer, Error, Execution, Hits, Ids, IndexWriter, Kernel, Matrix, Passages, Values, search};

/// A temporary folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("relkt-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names of all files in the folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn execution() -> Execution {
    Execution::new(Kernel::detect(), Some(2)).expect("threads")
}

fn hits(passages: &Passages, queries: &[f32]) -> Hits {
    let kernel = Kernel::detect();
    let queries = matrix("queries", queries, passages.dim(), kernel);
    let hits = search(&queries, passages, passages.rows().min(20), None, &execution()).expect("valid search");
    // The number of scored rows depends on which pass was faster.
    Hits { scored: Vec::new(), ..hits }
}

fn texts(count: usize) -> Ids {
    let names: Vec<String> = (0..count).map(|i| format!("passage-{i}-é")).collect();
    let ends: Vec<i64> = names
        .iter()
        .scan(0, |end, name| {
            *end += name.len() as i64;
            Some(*end)
        })
        .collect();
    let texts = Buffer::copy_of(names.concat().as_bytes()).expect("memory");
    Ids::Texts { ends: Buffer::copy_of(&ends).expect("memory"), texts }
}

fn same_ids(a: &Ids, b: &Ids) -> bool {
    match (a, b) {
        (Ids::Rows, Ids::Rows) => true,
        (Ids::Integers(a), Ids::Integers(b)) => a.as_slice() == b.as_slice(),
        (Ids::Texts { ends: a, texts: x }, Ids::Texts { ends: b, texts: y }) => {
            a.as_slice() == b.as_slice() && x.as_slice() == y.as_slice()
        }
        _ => false,
    }
}

fn half_passages(values: &[f32], dim: usize) -> Passages {
    let halves: Vec<_> = values.iter().map(|&v| half(v)).collect();
    let execution = execution();
    let values = Values::F16(Buffer::copy_of(&halves).expect("memory"));
    let matrix = Matrix::new("passages", values, halves.len() / dim, dim, &execution).expect("valid rows");
    Passages::new(matrix, &execution).expect("memory")
}

#[test]
fn a_saved_index_opens_unchanged() {
    let folder = Folder::new("roundtrip");
    let mut random = Random::new(1);
    for (rows, dim) in [(1, 1), (15, 3), (16, 8), (17, 9), (1000, 33)] {
        let (values, q) = (random.reals(rows * dim), random.reals(3 * dim));
        for stored in [passages(&values, dim, Kernel::detect()), half_passages(&values, dim)] {
            let numbers: Vec<i64> = (0..rows as i64).map(|i| i * 7 - 3).collect();
            for ids in [Ids::Rows, Ids::Integers(Buffer::copy_of(&numbers).expect("memory")), texts(rows)] {
                let path = folder.file("index.relkt");
                let metadata = HashMap::from([("texts".to_owned(), "päth/to.jsonl".to_owned())]);
                save(&path, &stored, &ids, &metadata, &execution()).expect("saved");
                let first = fs::read(&path).expect("readable");
                for verify in [false, true] {
                    let opened = open(&path, verify, &execution()).expect("opened");
                    assert_eq!(hits(&opened.passages, &q), hits(&stored, &q));
                    assert_eq!((opened.passages.rows(), opened.passages.dim()), (rows, dim));
                    assert_eq!(opened.passages.is_f16(), stored.is_f16());
                    assert_eq!(opened.metadata, metadata);
                    assert!(same_ids(&opened.ids, &ids));
                    // Saved over itself while it is mapped; the same index makes the same file.
                    save(&path, &opened.passages, &opened.ids, &opened.metadata, &execution()).expect("saved");
                    assert_eq!(fs::read(&path).expect("readable"), first);
                }
            }
        }
    }
    assert_eq!(folder.names(), ["index.relkt"]);
}

#[test]
fn a_sketch_is_kept() {
    let folder = Folder::new("sketch");
    let path = folder.file("index.relkt");
    let (rows, dim, kernel) = (17_008, 128, Kernel::detect());
    let mut random = Random::new(2);
    let centres = random.reals(250 * dim);
    let values: Vec<f32> =
        (0..rows * dim).map(|i| centres[i / dim % 250 * dim + i % dim] + 0.3 * random.real()).collect();
    let stored = passages(&values, dim, kernel).with_sketch(&execution()).expect("memory");
    let width = stored.sketch().map(relkt_core::sketch::Sketch::width).expect("a sketch");
    save(&path, &stored, &Ids::Rows, &HashMap::new(), &execution()).expect("saved");
    let opened = open(&path, true, &execution()).expect("opened").passages;
    assert_eq!(opened.sketch().map(relkt_core::sketch::Sketch::width), Some(width));
    assert_eq!(opened.nbytes(), stored.nbytes());
    assert_eq!(hits(&opened, &values[..5 * dim]), hits(&stored, &values[..5 * dim]));
}

#[test]
fn batches_make_the_same_index() {
    let folder = Folder::new("batches");
    let (dim, kernel) = (10, Kernel::detect());
    let mut random = Random::new(4);
    for batches in [vec![1], vec![77], vec![5, 5, 5, 5], vec![16, 16], vec![100, 3, 1, 40, 17], vec![15, 1, 1]] {
        let rows: usize = batches.iter().sum();
        let single = batches.len() == 1;
        let values = random.reals(rows * dim);
        let ids = texts(rows);
        save(&folder.file("a"), &passages(&values, dim, kernel), &ids, &HashMap::new(), &execution()).expect("saved");
        let mut writer =
            IndexWriter::create(&folder.file("b"), rows, dim, false, &ids, &HashMap::new()).expect("created");
        let mut start = 0;
        for batch in batches {
            let batch_values = &values[start * dim..(start + batch) * dim];
            writer.append(matrix("passages", batch_values, dim, kernel), &execution()).expect("written");
            start += batch;
            assert_eq!(writer.written(), start);
        }
        writer.finish(&ids, &execution()).expect("finished");
        if single {
            assert!(fs::read(folder.file("a")).expect("a") == fs::read(folder.file("b")).expect("b"));
        }
        // The first batch determines the frame of the codes; results do not depend on it.
        let opened = open(&folder.file("b"), true, &execution()).expect("opened");
        assert!(same_ids(&opened.ids, &ids));
        assert_eq!(hits(&opened.passages, &values[..dim]), hits(&passages(&values, dim, kernel), &values[..dim]));
    }
    assert_eq!(folder.names(), ["a", "b"]);
}

#[test]
fn an_abandoned_writer_leaves_no_file() {
    let folder = Folder::new("given-up");
    let path = folder.file("index.relkt");
    let (dim, kernel) = (4, Kernel::detect());
    let batch = || matrix("passages", &[1.0; 20], dim, kernel);
    let create = || IndexWriter::create(&path, 7, dim, false, &Ids::Rows, &HashMap::new()).expect("created");
    fs::write(&path, "an earlier file").expect("written");

    let mut short = create();
    short.append(batch(), &execution()).expect("written");
    assert_eq!(short.finish(&Ids::Rows, &execution()), Err(Error::RowCount { expected: 7, got: 5 }));

    let mut long = create();
    long.append(batch(), &execution()).expect("written");
    let too_many = long.append(batch(), &execution());
    assert_eq!(too_many, Err(Error::RowCount { expected: 7, got: 10 }));
    let narrow = long.append(matrix("passages", &[1.0; 3], 3, kernel), &execution());
    assert_eq!(narrow, Err(Error::DimMismatch { name: "passages", expected: 4, got: 3 }));
    drop(long);

    let cancelled = execution();
    cancelled.cancel();
    let stored = passages(&[1.0; 20], dim, kernel);
    assert_eq!(save(&path, &stored, &Ids::Rows, &HashMap::new(), &cancelled), Err(Error::Interrupted));
    let wrong = Ids::Integers(Buffer::copy_of(&[1, 2]).expect("memory"));
    let refused = save(&path, &stored, &wrong, &HashMap::new(), &execution());
    assert_eq!(refused, Err(Error::IdCount { expected: 5, got: 2 }));

    assert_eq!(fs::read(&path).expect("readable"), b"an earlier file");
    assert_eq!(folder.names(), ["index.relkt"]);
}

fn problem(outcome: relkt_core::Result<IndexFile>) -> String {
    match outcome.map(|_| ()) {
        Err(Error::IndexFile { problem, .. }) => problem,
        other => panic!("expected a broken index file, got {other:?}"),
    }
}

#[test]
fn damage_is_an_error() {
    let folder = Folder::new("damage");
    let path = folder.file("index.relkt");
    let (rows, dim) = (300, 17);
    let stored = passages(&Random::new(8).reals(rows * dim), dim, Kernel::detect());
    save(&path, &stored, &texts(rows), &HashMap::new(), &execution()).expect("saved");
    let good = fs::read(&path).expect("readable");

    for length in (0..good.len()).step_by(4096).chain([1, 7, 8, 9, 100, good.len() - 1]) {
        fs::write(&path, &good[..length]).expect("written");
        let problem = problem(open(&path, false, &execution()));
        assert!(problem.contains("cut short") || problem.contains("too few"), "{length}: {problem}");
    }
    fs::write(&path, [&good[..], b"more"].concat()).expect("written");
    assert!(problem(open(&path, false, &execution())).contains("do not fit together"));

    // A bit of every part of the header, and of every section.
    let header_end = 8 + u64::from_le_bytes(good[..8].try_into().expect("eight bytes")) as usize;
    assert!(header_end.is_multiple_of(64));
    let text = std::str::from_utf8(&good[8..header_end]).expect("a text").trim_end().len();
    for byte in (0..8 + text).step_by(5) {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        fs::write(&path, &bad).expect("written");
        problem(open(&path, false, &execution()));
    }
    for byte in (header_end..good.len()).step_by(97).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[byte] ^= 0x40;
        fs::write(&path, &bad).expect("written");
        let problem = problem(open(&path, true, &execution()));
        assert!(problem.contains("was altered") || problem.contains("do not fit"), "{byte}: {problem}");
    }

    fs::write(&path, "this is some other file, longer than eight bytes").expect("written");
    assert!(problem(open(&path, false, &execution())).contains("not an index file"));
    assert!(problem(open(&folder.0, false, &execution())).contains("not a file"));
    let missing = open(&folder.file("missing"), false, &execution()).map(|_| ()).expect_err("missing");
    assert!(matches!(missing, Error::File { action: "open", code: Some(2), .. }), "{missing:?}");
}

#[test]
fn a_newer_version_and_other_files_are_errors() {
    let folder = Folder::new("version");
    let path = folder.file("index.relkt");
    let stored = passages(&[1.0; 20], 4, Kernel::detect());
    save(&path, &stored, &Ids::Rows, &HashMap::new(), &execution()).expect("saved");
    let good = fs::read(&path).expect("readable");
    let change = |from: &str, to: &str| {
        let text = String::from_utf8_lossy(&good[8..]).into_owned();
        let at = 8 + text.find(from).expect("is there");
        let mut bad = good.clone();
        bad[at..at + from.len()].copy_from_slice(to.as_bytes());
        fs::write(&path, bad).expect("written");
        problem(open(&path, false, &execution()))
    };
    let newer = change(r#""version":"1""#, r#""version":"9""#);
    assert!(newer.contains("version 9, newer than 1"), "{newer}");
    let stranger = change(r#""format":"relkt""#, r#""format":"other""#);
    assert!(stranger.contains("not an index written by relkt"), "{stranger}");
}

/// Padding rows that a search would find, and values that are NaN.
#[test]
fn damaged_numbers_are_errors() {
    let folder = Folder::new("numbers");
    let path = folder.file("index.relkt");
    let (rows, dim, kernel) = (20, 5, Kernel::detect());
    let stored = passages(&Random::new(8).reals(rows * dim), dim, kernel);
    save(&path, &stored, &Ids::Rows, &HashMap::new(), &execution()).expect("saved");
    let good = fs::read(&path).expect("readable");
    let data = 8 + u64::from_le_bytes(good[..8].try_into().expect("eight bytes")) as usize;
    let (scales, errors) = (data + 32 * 8, data + 32 * 8 + 32 * 4);
    let change = |at: usize, to: f32| {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&to.to_le_bytes());
        fs::write(&path, bad).expect("written");
        open(&path, false, &execution())
    };
    // Padding rows.
    assert!(problem(change(scales + 25 * 4, 1.0)).contains("do not fit"));
    assert!(problem(change(errors + 31 * 4, 1.0)).contains("do not fit"));
    // A row whose bound never passes: the search finds too few rows, and reports damage.
    for row in 0..rows {
        let broken = change(errors + row * 4, f32::NAN).expect("not looked at without verify").passages;
        let queries = matrix("queries", &[1.0; 5], dim, kernel);
        let outcome = search(&queries, &broken, rows, None, &execution());
        assert_eq!(outcome.map(|_| ()), Err(Error::Damaged));
    }
}

#[cfg(unix)]
#[test]
fn a_replaced_file_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("mode");
    let path = folder.file("index.relkt");
    let stored = passages(&[1.0; 20], 4, Kernel::detect());
    let save_to = |path: &std::path::Path| save(path, &stored, &Ids::Rows, &HashMap::new(), &execution());
    save_to(&path).expect("saved");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    save_to(&path).expect("saved");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let link = folder.file("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    save_to(&link).expect("saved");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    let refused = save_to(std::path::Path::new("/dev/null"));
    assert!(matches!(refused, Err(Error::File { action: "write", .. })), "{refused:?}");
}

#[test]
fn files_that_cannot_be_written_are_errors() {
    let folder = Folder::new("refused");
    let stored = passages(&[1.0; 20], 4, Kernel::detect());
    let save_to = |path: &std::path::Path| save(path, &stored, &Ids::Rows, &HashMap::new(), &execution());
    let refused = save_to(&folder.file("no/such/folder/index.relkt"));
    assert!(matches!(refused, Err(Error::File { action: "write", code: Some(2), .. })), "{refused:?}");
    assert!(matches!(save_to(&folder.0), Err(Error::File { action: "write", .. })));
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn an_opened_index_can_grow() {
    let folder = Folder::new("grow");
    let path = folder.file("index.relkt");
    let (dim, kernel) = (6, Kernel::detect());
    let mut random = Random::new(3);
    let (p, more, q) = (random.reals(37 * dim), random.reals(50 * dim), random.reals(2 * dim));
    save(&path, &passages(&p, dim, kernel), &Ids::Rows, &HashMap::new(), &execution()).expect("saved");
    let mut opened = open(&path, true, &execution()).expect("opened").passages;
    opened.append(&matrix("passages", &more, dim, kernel), &execution()).expect("memory");
    assert_eq!(hits(&opened, &q), hits(&passages(&[p, more].concat(), dim, kernel), &q));
}
