//! NumPy arrays in and out.

use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use relkt_core::{Execution, Matrix};

use crate::errors::to_python;
use crate::kernel_of_environment;

/// Checks and copies a C-contiguous array. The GIL is held, so that Python code cannot change the array meanwhile.
pub(crate) fn matrix(
    _py: Python<'_>,
    name: &'static str,
    array: &PyReadonlyArray2<'_, f32>,
    threads: Option<usize>,
) -> PyResult<Matrix> {
    let execution = Execution::new(threads).map_err(to_python)?;
    let view = array.as_array();
    let (rows, dim) = view.dim();
    let values = view
        .as_slice()
        .ok_or_else(|| PyValueError::new_err(format!("{name}: expected a C-contiguous array at this border")))?;
    Matrix::new(name, values, rows, dim, kernel_of_environment()?, &execution).map_err(to_python)
}

/// A row-major vector as an array of this shape.
pub(crate) fn two_dimensional<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
    rows: usize,
    columns: usize,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    values.into_pyarray(py).reshape([rows, columns])
}
