//! One core error enum, one mapping.

use pyo3::PyErr;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PyValueError};
use relkt_core::Error;

pub(crate) fn to_python(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Empty { .. }
        | Error::TooManyRows { .. }
        | Error::Length { .. }
        | Error::NotFinite { .. }
        | Error::ZeroRow { .. }
        | Error::DimMismatch { .. }
        | Error::K { .. }
        | Error::Threads { .. }
        | Error::Count { .. }
        | Error::UnknownKernel { .. }
        | Error::KernelUnavailable { .. }
        | Error::Margin(_)
        | Error::NothingToMine
        | Error::Lists { .. }
        | Error::NoPositive { .. }
        | Error::RowOutOfRange { .. }
        | Error::Groups { .. } => PyValueError::new_err(message),
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::ThreadPool { .. } => PyRuntimeError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}
