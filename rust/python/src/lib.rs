//! The extension module `relkt._relkt`: checks, copies and error mapping around relkt-core; no algorithm.

mod arrays;
mod errors;
mod passages;
mod run;
mod writer;

use std::collections::HashMap;

use pyo3::prelude::*;
use relkt_core::{Execution, Kernel};

use crate::arrays::{Embeddings, borrowed};
use crate::errors::to_python;
use crate::run::interruptible;

/// Names of the kernels this processor can run, fastest first.
#[pyfunction]
fn available_kernels() -> Vec<&'static str> {
    Kernel::available().into_iter().map(Kernel::name).collect()
}

/// The kernel in use: that of the environment variable RELKT_KERNEL, or the fastest.
fn kernel_of_environment() -> PyResult<Kernel> {
    match std::env::var("RELKT_KERNEL") {
        Ok(name) if !name.is_empty() => Kernel::by_name(&name).map_err(to_python),
        Err(std::env::VarError::NotUnicode(name)) => Kernel::by_name(&name.to_string_lossy()).map_err(to_python),
        _ => Ok(Kernel::detect()),
    }
}

/// What this machine can do at most with this number of threads: bytes read and operations on codes, in a second, both
/// times 1e-9.
#[pyfunction]
fn limits(py: Python<'_>, threads: Option<usize>) -> PyResult<HashMap<&'static str, f64>> {
    let execution = Execution::new(threads).map_err(to_python)?;
    let kernel = kernel_of_environment()?;
    let limits = interruptible(py, &execution, usize::MAX, || relkt_core::limits::limits(kernel, &execution))?;
    Ok(HashMap::from([
        ("read_gb_per_s", limits.read_bytes_per_second / 1e9),
        ("int8_gop_per_s", limits.operations_per_second / 1e9),
    ]))
}

/// Refuses queries that cannot be searched with, naming the row.
#[pyfunction]
fn check_queries(py: Python<'_>, queries: Embeddings<'_>, threads: Option<usize>) -> PyResult<()> {
    let execution = Execution::new(threads).map_err(to_python)?;
    borrowed(py, "queries", queries, kernel_of_environment()?, &execution).map(|_| ())
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
