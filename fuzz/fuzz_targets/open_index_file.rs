//! Opens any bytes as an index file: they open, or give an error.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use relkt_core::{Execution, Kernel, index_file};

static PATH: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("relkt-fuzz-{}.relkt", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*PATH, bytes).expect("a temporary file");
    let execution = Execution::new(Kernel::detect(), Some(1)).expect("one thread");
    let _ = index_file::open(&PATH, true, &execution);
});
