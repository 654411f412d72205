//! The class `IndexWriter`: an index file written batch by batch.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use relkt_core::{Ids, IndexWriter as Core};

use crate::arrays::{self, Embeddings};
use crate::errors::to_python;
use crate::execution;
use crate::passages::{IdArrays, ids_of};
use crate::run::interruptible;

/// An index file that appears under its name once it is finished.
#[pyclass(frozen, module = "relkt._relkt")]
pub(crate) struct IndexWriter {
    writer: Mutex<Option<Core>>,
    ids: Ids,
    is_f16: bool,
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
        Ok(Self { writer: Mutex::new(Some(writer)), ids, is_f16: half })
    }

    fn append(&self, py: Python<'_>, batch: Embeddings<'_>, threads: Option<usize>) -> PyResult<()> {
        let execution = execution(threads)?;
        if batch.is_f16() != self.is_f16 {
            return Err(PyValueError::new_err("passages: expected every batch to have the same dtype"));
        }
        let written = py.detach(|| self.lock().as_ref().map_or(0, Core::written));
        let batch = arrays::batch(py, "passages", &batch, written, &execution)?;
        interruptible(py, &execution, usize::MAX, || {
            let mut writer = self.lock();
            writer.as_mut().map_or(Ok(()), |writer| writer.append(batch, &execution))
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let execution = execution(Some(1))?;
        interruptible(py, &execution, usize::MAX, || {
            let writer = self.lock().take();
            writer.map_or(Ok(()), |writer| writer.finish(&self.ids, &execution))
        })
    }

    /// Discards the unfinished file.
    fn abandon(&self) {
        drop(self.lock().take());
    }
}
