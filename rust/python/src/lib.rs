//! The extension module `relkt._relkt`: the FFI boundary around relkt-core. It checks and copies arguments and maps
//! errors; the algorithms are in the core.

mod arrays;
mod errors;
mod passages;
mod run;
mod writer;

use std::collections::HashMap;

use pyo3::prelude::*;
use relkt_core::roofline::machine_peaks;
use relkt_core::{Execution, Kernel};

use crate::arrays::{Embeddings, borrowed};
use crate::errors::to_python;
use crate::run::interruptible;

/// Names of the kernels this processor can run, fastest first.
#[pyfunction]
fn available_kernels() -> Vec<&'static str> {
    Kernel::available().into_iter().map(Kernel::name).collect()
}

/// The execution of one call: on `threads` threads, with the kernel that the environment variable RELKT_KERNEL names,
/// or the fastest kernel.
fn execution(threads: Option<usize>) -> PyResult<Execution> {
    let kernel = match std::env::var("RELKT_KERNEL") {
        Ok(name) if !name.is_empty() => Kernel::by_name(&name),
        Err(std::env::VarError::NotUnicode(name)) => Kernel::by_name(&name.to_string_lossy()),
        _ => Ok(Kernel::detect()),
    };
    kernel.and_then(|kernel| Execution::new(kernel, threads)).map_err(to_python)
}

/// Machine peaks with this number of threads: gigabytes read and billions of operations on codes per second.
#[pyfunction]
fn limits(py: Python<'_>, threads: Option<usize>) -> PyResult<HashMap<&'static str, f64>> {
    let execution = execution(threads)?;
    let peaks = interruptible(py, &execution, usize::MAX, || machine_peaks(&execution))?;
    Ok(HashMap::from([
        ("read_gb_per_s", peaks.read_bytes_per_second / 1e9),
        ("int8_gop_per_s", peaks.operations_per_second / 1e9),
    ]))
}

/// Validates queries; errors name the row.
#[pyfunction]
fn check_queries(py: Python<'_>, queries: Embeddings<'_>, threads: Option<usize>) -> PyResult<()> {
    borrowed(py, "queries", queries, &execution(threads)?).map(|_| ())
}

#[pymodule]
mod _relkt {
    #[pymodule_export]
    use super::available_kernels;
    #[pymodule_export]
    use super::check_queries;
    #[pymodule_export]
    use super::errors::IndexFileError;
    #[pymodule_export]
    use super::limits;
    #[pymodule_export]
    use super::passages::Passages;
    #[pymodule_export]
    use super::writer::IndexWriter;
}
