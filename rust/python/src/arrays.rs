//! NumPy arrays in and out.

use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use relkt_core::kernel::{F16, Row};
use relkt_core::{Borrowed, Buffer, Execution, Matrix, Values};

use crate::errors::to_python;
use crate::run::interruptible;

/// A 2-D array of float32, or of the bits of float16.
#[derive(FromPyObject)]
pub(crate) enum Embeddings<'py> {
    F32(PyReadonlyArray2<'py, f32>),
    F16(PyReadonlyArray2<'py, u16>),
}

impl Embeddings<'_> {
    /// Rows and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self {
            Self::F32(array) => array.as_array().dim(),
            Self::F16(array) => array.as_array().dim(),
        }
    }

    pub(crate) fn is_f16(&self) -> bool {
        matches!(self, Self::F16(_))
    }

    fn copy(&self, name: &'static str) -> PyResult<Values> {
        match self {
            Self::F32(array) => Buffer::copy_of(contiguous(name, array)?).map(Values::F32),
            Self::F16(array) => Buffer::copy_of(bits_of_f16(contiguous(name, array)?)).map(Values::F16),
        }
        .map_err(|error| to_python(error.of(name)))
    }
}

/// Copies an array while the GIL prevents Python code from changing it, then validates the copy.
pub(crate) fn matrix(
    py: Python<'_>,
    name: &'static str,
    array: &Embeddings<'_>,
    execution: &Execution,
) -> PyResult<Matrix> {
    batch(py, name, array, 0, execution)
}

/// A batch of a matrix, whose first row is row `first` in messages.
pub(crate) fn batch(
    py: Python<'_>,
    name: &'static str,
    array: &Embeddings<'_>,
    first: usize,
    execution: &Execution,
) -> PyResult<Matrix> {
    let (rows, dim) = array.shape();
    let values = array.copy(name)?;
    interruptible(py, execution, rows.saturating_mul(dim), || {
        Matrix::new(name, values, rows, dim, execution).map_err(|error| error.in_batch(first))
    })
}

/// Validates an array without copying it; the matrix keeps a reference to it.
pub(crate) fn borrowed(
    py: Python<'_>,
    name: &'static str,
    array: Embeddings<'_>,
    execution: &Execution,
) -> PyResult<Matrix> {
    let (rows, dim) = array.shape();
    let values = match array {
        Embeddings::F32(array) => Values::F32(Buffer::borrowed(borrow(name, array)?)),
        Embeddings::F16(array) => Values::F16(Buffer::borrowed(borrow(name, array)?)),
    };
    interruptible(py, execution, rows.saturating_mul(dim), || Matrix::new(name, values, rows, dim, execution))
}

fn borrow<T: numpy::Element + bytemuck::Pod + Sync>(name: &str, array: PyReadonlyArray2<'_, T>) -> PyResult<Borrowed> {
    let bytes: *const [u8] = bytemuck::cast_slice(contiguous(name, &array)?);
    let owner: Py<PyArray2<T>> = array.as_unbound().clone_ref(array.py());
    // SAFETY: NumPy neither moves nor frees the memory of an array while another reference to it exists, such as
    // `owner`. Python code can break this with `resize(refcheck=False)`, and can write to the array during the call.
    // The documentation of `relkt.mine` forbids both, as usual for libraries that read arrays without the GIL.
    Ok(unsafe { Borrowed::new(&*bytes, Box::new(owner)) })
}

fn contiguous<'a, T: numpy::Element>(name: &str, array: &'a PyReadonlyArray2<'_, T>) -> PyResult<&'a [T]> {
    if !array.is_c_contiguous() || !array.data().addr().is_multiple_of(align_of::<T>()) {
        return Err(PyValueError::new_err(format!("{name}: expected an aligned, C-contiguous array")));
    }
    Ok(array.as_slice()?)
}

/// Copies the bytes of a mask. A NumPy array of dtype bool may hold any byte (`(flags & 4).view(bool)`), whereas a Rust
/// `bool` other than 0 or 1 is undefined behaviour, so the values must not be read as `bool`: compare the bytes with 0.
pub(crate) fn mask_bytes(mask: &PyReadonlyArray1<'_, bool>) -> PyResult<Vec<u8>> {
    let bytes: PyReadonlyArray1<'_, u8> = mask.call_method1("view", ("uint8",))?.extract()?;
    Ok(bytes.as_array().to_vec())
}

fn bits_of_f16(bits: &[u16]) -> &[F16] {
    bytemuck::cast_slice(bits)
}

/// A row-major vector as a 2-D array.
pub(crate) fn two_dimensional<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
    rows: usize,
    columns: usize,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    values.into_pyarray(py).reshape([rows, columns])
}

/// Appends a stored row to float32 values or the bits of float16 values.
pub(crate) fn push_row(row: Row<'_>, f32s: &mut Vec<f32>, f16s: &mut Vec<u16>) {
    match row {
        Row::F32(row) => f32s.extend_from_slice(row),
        Row::F16(row) => f16s.extend_from_slice(bytemuck::cast_slice(row)),
    }
}
