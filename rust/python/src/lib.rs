//! The extension module `relkt._relkt`: checks, copies and error mapping around relkt-core; no algorithm.

mod arrays;
mod errors;
mod passages;
mod run;
mod writer;

use pyo3::prelude::*;
use relkt_core::Kernel;

use crate::errors::to_python;

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

#[pymodule]
mod _relkt {
    #[pymodule_export]
    use super::available_kernels;
    #[pymodule_export]
    use super::errors::IndexFileError;
    #[pymodule_export]
    use super::passages::Passages;
    #[pymodule_export]
    use super::writer::IndexWriter;
}
