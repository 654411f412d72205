//! The extension module `relkt._relkt`: checks, copies and error mapping around relkt-core; no algorithm.

mod arrays;
mod errors;
mod run;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use relkt_core::{Execution, Kernel, Matrix, MiningOptions};

use crate::arrays::{matrix, two_dimensional};
use crate::errors::to_python;
use crate::run::interruptible;

type Scores<'py> = Bound<'py, PyArray2<f32>>;
type Rows<'py> = Bound<'py, PyArray2<i64>>;
/// Hard rows and scores, semi-hard rows and scores, scores of the positives.
type Negatives<'py> = (Rows<'py>, Scores<'py>, Rows<'py>, Scores<'py>, Bound<'py, PyArray1<f32>>);

/// Checked passage embeddings that searches and mining run against.
#[pyclass(frozen, module = "relkt._relkt")]
struct Passages {
    matrix: Matrix,
}

#[pymethods]
impl Passages {
    #[new]
    fn new(py: Python<'_>, passages: PyReadonlyArray2<'_, f32>, threads: Option<usize>) -> PyResult<Self> {
        let execution = Execution::new(threads).map_err(to_python)?;
        Ok(Self { matrix: matrix(py, "passages", &passages, kernel_of_environment()?, &execution)? })
    }

    #[getter]
    fn rows(&self) -> usize {
        self.matrix.rows()
    }

    #[getter]
    fn dim(&self) -> usize {
        self.matrix.dim()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.matrix.nbytes()
    }

    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArray2<'py, f32>,
        k: usize,
        threads: Option<usize>,
    ) -> PyResult<(Scores<'py>, Rows<'py>)> {
        let execution = Execution::new(threads).map_err(to_python)?;
        let kernel = kernel_of_environment()?;
        let queries = matrix(py, "queries", &queries, kernel, &execution)?;
        let passages = &self.matrix;
        let hits = interruptible(py, &execution, || relkt_core::search(kernel, &queries, passages, k, &execution))?;
        let rows = queries.rows();
        Ok((two_dimensional(py, hits.scores, rows, k)?, two_dimensional(py, hits.rows, rows, k)?))
    }

    #[allow(clippy::too_many_arguments)]
    fn mine<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArray2<'py, f32>,
        positives: Vec<Vec<i64>>,
        num_hard: usize,
        num_semi_hard: usize,
        margin: f64,
        groups: Option<PyReadonlyArray1<'py, i64>>,
        exclude: Option<Vec<Vec<i64>>>,
        threads: Option<usize>,
    ) -> PyResult<Negatives<'py>> {
        let execution = Execution::new(threads).map_err(to_python)?;
        let kernel = kernel_of_environment()?;
        let queries = matrix(py, "queries", &queries, kernel, &execution)?;
        let groups = groups.map(|groups| groups.as_array().to_vec());
        let options = MiningOptions {
            num_hard,
            num_semi_hard,
            margin,
            positives: &positives,
            exclude: exclude.as_deref(),
            groups: groups.as_deref(),
        };
        let passages = &self.matrix;
        let mined =
            interruptible(py, &execution, || relkt_core::mine(kernel, &queries, passages, &options, &execution))?;
        let rows = queries.rows();
        Ok((
            two_dimensional(py, mined.hard_rows, rows, num_hard)?,
            two_dimensional(py, mined.hard_scores, rows, num_hard)?,
            two_dimensional(py, mined.semi_hard_rows, rows, num_semi_hard)?,
            two_dimensional(py, mined.semi_hard_scores, rows, num_semi_hard)?,
            mined.positive_scores.into_pyarray(py),
        ))
    }
}

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
    use super::{Passages, available_kernels};
}
