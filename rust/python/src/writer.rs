//! The pyclass `IndexWriter`: an index file written batch by batch.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use relkt_core::{Execution, Ids, IndexWriter as Core};

use crate::arrays::{self, Embeddings};
use crate::errors::to_python;
use crate::kernel_of_environment;
use crate::passages::{IdArrays, ids_of};
use crate::run::interruptible;

/// An index file that appears under its name once it is finished.
#[pyclass(frozen, module = "relkt._relkt")]
pub(crate) struct IndexWriter {
    writer: Mutex<Option<Core>>,
    ids: Ids,
    half: bool,
}

impl IndexWriter {
    fn lock(&self) -> MutexGuard<'_, Option<Core>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl IndexWriter {
    #[new]
    fn new(
        path: PathBuf,
        rows: usize,
        dim: usize,
        half: bool,
        ids: Option<IdArrays<'_>>,
        metadata: HashMap<String, String>,
    ) -> PyResult<Self> {
        let ids = ids_of(ids)?;
        let writer = Core::create(&path, rows, dim, half, &ids, &metadata).map_err(to_python)?;
        Ok(Self { writer: Mutex::new(Some(writer)), ids, half })
    }

    fn append(&self, py: Python<'_>, batch: Embeddings<'_>, threads: Option<usize>) -> PyResult<()> {
        let execution = Execution::new(threads).map_err(to_python)?;
        let kernel = kernel_of_environment()?;
        if batch.is_half() != self.half {
            return Err(PyValueError::new_err("passages: expected every batch to have the same dtype"));
        }
        let written = py.detach(|| self.lock().as_ref().map_or(0, Core::written));
        let batch = arrays::batch(py, "passages", &batch, written, kernel, &execution)?;
        interruptible(py, &execution, usize::MAX, || {
            let mut writer = self.lock();
            writer.as_mut().map_or(Ok(()), |writer| writer.append(batch, kernel, &execution))
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let execution = Execution::new(Some(1)).map_err(to_python)?;
        interruptible(py, &execution, usize::MAX, || {
            let writer = self.lock().take();
            writer.map_or(Ok(()), |writer| writer.finish(&self.ids, &execution))
        })
    }

    /// Gives up: nothing is left of the file.
    fn abandon(&self) {
        drop(self.lock().take());
    }
}
