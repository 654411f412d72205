//! NumPy arrays in and out.

use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use relkt_core::{Execution, Kernel, Matrix, Values};

use crate::errors::to_python;
use crate::run::interruptible;

/// Copies an aligned, C-contiguous array while the GIL keeps Python code from changing it, then checks the copy.
pub(crate) fn matrix(
    py: Python<'_>,
    name: &'static str,
    array: &PyReadonlyArray2<'_, f32>,
    kernel: Kernel,
    execution: &Execution,
) -> PyResult<Matrix> {
    let (rows, dim) = array.as_array().dim();
    let address = array.data().addr();
    if !array.is_c_contiguous() || !address.is_multiple_of(align_of::<f32>()) {
        return Err(PyValueError::new_err(format!("{name}: expected an aligned, C-contiguous array at this border")));
    }
    let values = Values::copy_of(name, array.as_slice()?).map_err(to_python)?;
    interruptible(py, execution, || Matrix::new(name, values, rows, dim, kernel, execution))
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
