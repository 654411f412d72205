//! NumPy arrays in and out.

use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use relkt_core::kernel::{Half, Row};
use relkt_core::{Buffer, Execution, Kernel, Lent, Matrix, Values};

use crate::errors::to_python;
use crate::run::interruptible;

/// An array of float32, or of the bits of float16.
#[derive(FromPyObject)]
pub(crate) enum Embeddings<'py> {
    Single(PyReadonlyArray2<'py, f32>),
    Half(PyReadonlyArray2<'py, u16>),
}

impl Embeddings<'_> {
    /// Rows and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self {
            Self::Single(array) => array.as_array().dim(),
            Self::Half(array) => array.as_array().dim(),
        }
    }

    pub(crate) fn is_half(&self) -> bool {
        matches!(self, Self::Half(_))
    }

    fn copy(&self, name: &'static str) -> PyResult<Values> {
        match self {
            Self::Single(array) => Buffer::copy_of(name, contiguous(name, array)?).map(Values::Single),
            Self::Half(array) => Buffer::copy_of(name, halves(contiguous(name, array)?)).map(Values::Half),
        }
        .map_err(to_python)
    }
}

/// Copies an array while the GIL keeps Python code from changing it, then checks the copy.
pub(crate) fn matrix(
    py: Python<'_>,
    name: &'static str,
    array: &Embeddings<'_>,
    kernel: Kernel,
    execution: &Execution,
) -> PyResult<Matrix> {
    batch(py, name, array, 0, kernel, execution)
}

/// The same, of a batch whose first row has the number `first` in messages.
pub(crate) fn batch(
    py: Python<'_>,
    name: &'static str,
    array: &Embeddings<'_>,
    first: usize,
    kernel: Kernel,
    execution: &Execution,
) -> PyResult<Matrix> {
    let (rows, dim) = array.shape();
    let values = array.copy(name)?;
    interruptible(py, execution, rows.saturating_mul(dim), || {
        Matrix::new(name, values, rows, dim, kernel, execution).map_err(|error| error.in_batch(first))
    })
}

/// Checks an array that is not copied; the matrix keeps it.
pub(crate) fn borrowed(
    py: Python<'_>,
    name: &'static str,
    array: Embeddings<'_>,
    kernel: Kernel,
    execution: &Execution,
) -> PyResult<Matrix> {
    let (rows, dim) = array.shape();
    let values = match array {
        Embeddings::Single(array) => Values::Single(Buffer::lent(lent(name, array)?)),
        Embeddings::Half(array) => Values::Half(Buffer::lent(lent(name, array)?)),
    };
    interruptible(py, execution, rows.saturating_mul(dim), || Matrix::new(name, values, rows, dim, kernel, execution))
}

fn lent<T: numpy::Element + bytemuck::Pod + Sync>(name: &str, array: PyReadonlyArray2<'_, T>) -> PyResult<Lent> {
    let bytes: *const [u8] = bytemuck::cast_slice(contiguous(name, &array)?);
    let owner: Py<PyArray2<T>> = array.as_unbound().clone_ref(array.py());
    // SAFETY: NumPy neither moves nor frees the memory of an array that somebody else refers to, and the owner is such a
    // reference. `resize(refcheck=False)` does, and Python code may write to the array meanwhile: both are forbidden to the
    // caller by the documentation of `relkt.mine`, as by any library that reads arrays without the GIL.
    Ok(unsafe { Lent::new(&*bytes, Box::new(owner)) })
}

fn contiguous<'a, T: numpy::Element>(name: &str, array: &'a PyReadonlyArray2<'_, T>) -> PyResult<&'a [T]> {
    if !array.is_c_contiguous() || !array.data().addr().is_multiple_of(align_of::<T>()) {
        return Err(PyValueError::new_err(format!("{name}: expected an aligned, C-contiguous array at this border")));
    }
    Ok(array.as_slice()?)
}

/// Copies the bytes of a mask. A NumPy array of dtype bool may hold any byte (`(flags & 4).view(bool)`), whereas a Rust `bool`
/// other than 0 or 1 is undefined behaviour, so the values must not be read as `bool`: compare the bytes with 0.
pub(crate) fn mask_bytes(mask: &PyReadonlyArray1<'_, bool>) -> PyResult<Vec<u8>> {
    let bytes: PyReadonlyArray1<'_, u8> = mask.call_method1("view", ("uint8",))?.extract()?;
    Ok(bytes.as_array().to_vec())
}

fn halves(bits: &[u16]) -> &[Half] {
    bytemuck::cast_slice(bits)
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

/// Appends a stored row to float32 values or the bits of float16 values.
pub(crate) fn push_row(row: Row<'_>, single: &mut Vec<f32>, half: &mut Vec<u16>) {
    match row {
        Row::Single(row) => single.extend_from_slice(row),
        Row::Half(row) => half.extend_from_slice(bytemuck::cast_slice(row)),
    }
}
