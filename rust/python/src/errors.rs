//! One core error enum, one mapping.

use pyo3::PyErr;
use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use relkt_core::Error;

create_exception!(relkt, IndexFileError, PyValueError, "A file that is no index, damaged, or of a newer version.");

pub(crate) fn to_python(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Empty { .. }
        | Error::TooManyRows { .. }
        | Error::TooWide { .. }
        | Error::Length { .. }
        | Error::NotFinite { .. }
        | Error::ZeroRow { .. }
        | Error::DimMismatch { .. }
        | Error::K { .. }
        | Error::Threads { .. }
        | Error::Count { .. }
        | Error::UnknownKernel { .. }
        | Error::KernelUnavailable { .. }
        | Error::NothingToMine
        | Error::Lists { .. }
        | Error::Windows { .. }
        | Error::NoWindow { .. }
        | Error::RowOutOfRange { .. }
        | Error::AllowOutOfRange { .. }
        | Error::AllowLength { .. }
        | Error::RowCount { .. }
        | Error::IdCount { .. }
        | Error::Mixed { .. }
        | Error::Groups { .. } => PyValueError::new_err(message),
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::ThreadPool { .. } => PyRuntimeError::new_err(message),
        // With an error number, Python makes it a FileNotFoundError, a PermissionError, ...
        Error::File { path, code: Some(code), .. } => PyOSError::new_err((code, message, path)),
        Error::File { .. } => PyOSError::new_err(message),
        Error::IndexFile { .. } | Error::Damaged => IndexFileError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}
