//! The mapping of core errors to Python exceptions.

use pyo3::PyErr;
use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use relkt_core::Error;

create_exception!(
    relkt,
    IndexFileError,
    PyValueError,
    "A file that is not an index, is damaged, or has a newer version."
);

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
        | Error::KOutOfRange { .. }
        | Error::Threads { .. }
        | Error::CountOutOfRange { .. }
        | Error::UnknownKernel { .. }
        | Error::KernelUnavailable { .. }
        | Error::NothingToMine
        | Error::ListCountMismatch { .. }
        | Error::WindowCountMismatch { .. }
        | Error::NanLimit { .. }
        | Error::RowOutOfRange { .. }
        | Error::AllowOutOfRange { .. }
        | Error::AllowLength { .. }
        | Error::RowCount { .. }
        | Error::IdCount { .. }
        | Error::Mixed { .. }
        | Error::GroupCountMismatch { .. } => PyValueError::new_err(message),
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::ThreadPool { .. } => PyRuntimeError::new_err(message),
        // With an error number, Python picks the subclass: FileNotFoundError, PermissionError, ...
        Error::File { path, code: Some(code), .. } => PyOSError::new_err((code, message, path)),
        Error::File { .. } => PyOSError::new_err(message),
        Error::IndexFile { .. } | Error::Damaged => IndexFileError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}
