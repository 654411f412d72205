//! The class `Passages`: searches, mining, growth and files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use relkt_core::index_file;
use relkt_core::sketch::Sketch;
use relkt_core::top_k::Window;
use relkt_core::{Allow, Buffer, Ids, MiningOptions, Passages as Core, RowLists, Wanted};

use crate::arrays::{Embeddings, borrowed, mask_bytes, matrix, push_row, two_dimensional};
use crate::errors::to_python;
use crate::execution;
use crate::run::interruptible;

type Scores<'py> = Bound<'py, PyArray2<f32>>;
type Rows<'py> = Bound<'py, PyArray2<i64>>;
/// Rows and scores; and for each query, the numbers of rows above the window and of near-duplicates.
type Negatives<'py> = (Rows<'py>, Scores<'py>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);
/// Starts of the lists, and their concatenated rows.
type ListArrays<'py> = (PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, i64>);
/// Number of negatives, and the limits of each query's window.
type WantedArrays<'py> = (usize, PyReadonlyArray1<'py, f64>, PyReadonlyArray1<'py, f64>);
/// Passages, ids and the user's metadata.
type Opened<'py> = (Passages, Option<Bound<'py, PyAny>>, HashMap<String, String>);

/// The rows that a search considers: a mask or row numbers.
#[derive(FromPyObject)]
pub(crate) enum AllowArray<'py> {
    Mask(PyReadonlyArray1<'py, bool>),
    Rows(PyReadonlyArray1<'py, i64>),
}

impl AllowArray<'_> {
    fn copy(&self, rows: usize) -> PyResult<Allow> {
        match self {
            Self::Mask(mask) => Ok(Allow::mask(&mask_bytes(mask)?)),
            Self::Rows(allowed) => Allow::rows(rows, &allowed.as_array().to_vec()).map_err(to_python),
        }
    }
}

/// A copy of row lists.
struct Lists {
    name: &'static str,
    starts: Vec<i64>,
    rows: Vec<i64>,
}

impl Lists {
    fn of(name: &'static str, (starts, rows): ListArrays<'_>) -> Self {
        Self { name, starts: starts.as_array().to_vec(), rows: rows.as_array().to_vec() }
    }

    fn view(&self) -> RowLists<'_> {
        RowLists::new(self.name, &self.starts, &self.rows)
    }
}

fn windows((_, above, below): &WantedArrays<'_>) -> PyResult<Vec<Window>> {
    let (above, below) = (above.as_array(), below.as_array());
    if above.len() != below.len() {
        return Err(PyValueError::new_err("lists: expected as many lower as upper limits"));
    }
    Ok(above.iter().zip(below).map(|(&above, &below)| Window { above, below }).collect())
}

/// Ids from Python: integers, or the ends of texts and the concatenated texts.
#[derive(FromPyObject)]
pub(crate) enum IdArrays<'py> {
    Integers(PyReadonlyArray1<'py, i64>),
    Texts((PyReadonlyArray1<'py, i64>, Vec<u8>)),
}

pub(crate) fn ids_of(ids: Option<IdArrays<'_>>) -> PyResult<Ids> {
    let copy = |values: &PyReadonlyArray1<'_, i64>| Buffer::copy_of(&values.as_array().to_vec());
    match ids {
        None => Ok(Ids::Rows),
        Some(IdArrays::Integers(ids)) => copy(&ids).map(Ids::Integers),
        Some(IdArrays::Texts((ends, texts))) => {
            copy(&ends).and_then(|ends| Ok(Ids::Texts { ends, texts: Buffer::copy_of(&texts)? }))
        }
    }
    .map_err(|error| to_python(error.of("ids")))
}

fn ids_to_python<'py>(py: Python<'py>, ids: &Ids) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(match ids {
        Ids::Rows => None,
        Ids::Integers(ids) => Some(ids.as_slice().to_vec().into_pyarray(py).into_any()),
        Ids::Texts { ends, texts } => {
            let text = std::str::from_utf8(texts.as_slice()).unwrap_or_default();
            let mut start = 0;
            let mut names = Vec::with_capacity(ends.len());
            for &end in ends.as_slice() {
                names.push(text.get(start..end as usize).unwrap_or_default());
                start = end as usize;
            }
            Some(names.into_pyobject(py)?.into_any())
        }
    })
}

/// Validated passage embeddings with their codes, which searches and mining read.
///
/// The lock is only taken without the GIL, so that a thread that waits for it does not block other Python threads.
#[pyclass(frozen, module = "relkt._relkt")]
pub(crate) struct Passages {
    core: RwLock<Arc<Core>>,
}

impl Passages {
    fn of(core: Core) -> Self {
        Self { core: RwLock::new(Arc::new(core)) }
    }

    /// The current version; later appends are not visible.
    fn current(&self, py: Python<'_>) -> Arc<Core> {
        py.detach(|| Arc::clone(&self.core.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl Passages {
    #[new]
    fn new(py: Python<'_>, passages: Embeddings<'_>, sketch: bool, threads: Option<usize>) -> PyResult<Self> {
        let execution = execution(threads)?;
        let matrix = matrix(py, "passages", &passages, &execution)?;
        let work = matrix.rows().saturating_mul(matrix.dim()).saturating_mul(8);
        interruptible(py, &execution, work, || {
            let passages = Core::new(matrix, &execution)?;
            if sketch { passages.with_sketch(&execution) } else { Ok(passages) }
        })
        .map(Self::of)
    }

    /// Passages of an array that is not copied. The array must not be written to while this object exists.
    #[staticmethod]
    fn borrow(py: Python<'_>, passages: Embeddings<'_>, threads: Option<usize>) -> PyResult<Self> {
        let execution = execution(threads)?;
        let matrix = borrowed(py, "passages", passages, &execution)?;
        let work = matrix.rows().saturating_mul(matrix.dim()).saturating_mul(8);
        interruptible(py, &execution, work, || Core::new(matrix, &execution)).map(Self::of)
    }

    #[getter]
    fn rows(&self, py: Python<'_>) -> usize {
        self.current(py).rows()
    }

    #[getter]
    fn dim(&self, py: Python<'_>) -> usize {
        self.current(py).dim()
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> usize {
        self.current(py).nbytes()
    }

    #[getter]
    fn is_half(&self, py: Python<'_>) -> bool {
        self.current(py).is_f16()
    }

    /// The current version of the passages; later appends and selections are not visible.
    fn snapshot(&self, py: Python<'_>) -> Self {
        Self { core: RwLock::new(self.current(py)) }
    }

    /// Number of directions of the sketch, if the passages have one.
    #[getter]
    fn sketch(&self, py: Python<'_>) -> Option<usize> {
        self.current(py).sketch().map(Sketch::width)
    }

    /// Scores, rows, and the number of rows scored exactly for each query.
    fn search_counted<'py>(
        &self,
        py: Python<'py>,
        queries: Embeddings<'py>,
        k: usize,
        allow: Option<AllowArray<'py>>,
        threads: Option<usize>,
    ) -> PyResult<(Scores<'py>, Rows<'py>, Bound<'py, PyArray1<i64>>)> {
        let execution = execution(threads)?;
        let passages = self.current(py);
        let queries = matrix(py, "queries", &queries, &execution)?;
        let allow = allow.map(|allow| allow.copy(passages.rows())).transpose()?;
        let rows = allow.as_ref().map_or(passages.rows(), Allow::len);
        let work = queries.rows().saturating_mul(rows).saturating_mul(passages.dim());
        let hits = interruptible(py, &execution, work, || {
            relkt_core::search(&queries, &passages, k, allow.as_ref(), &execution)
        })?;
        let (rows, k) = (queries.rows(), hits.k);
        let scored = hits.scored.into_iter().map(|scored| scored as i64).collect::<Vec<_>>();
        Ok((
            two_dimensional(py, hits.scores, rows, k)?,
            two_dimensional(py, hits.rows, rows, k)?,
            scored.into_pyarray(py),
        ))
    }

    /// The lowest score among each query's positives; NaN for a query without positives.
    fn lowest_positive<'py>(
        &self,
        py: Python<'py>,
        queries: Embeddings<'py>,
        positives: ListArrays<'py>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let execution = execution(threads)?;
        let passages = self.current(py);
        let queries = matrix(py, "queries", &queries, &execution)?;
        let positives = Lists::of("positives", positives);
        let work = positives.rows.len().saturating_mul(passages.dim());
        let lowest = interruptible(py, &execution, work, || {
            relkt_core::lowest_positive(&queries, &passages, positives.view(), &execution)
        })?;
        Ok(lowest.into_pyarray(py))
    }

    /// For each of `lists` (number, above, below): rows, scores, and the numbers of rows above the window and of
    /// near-duplicates.
    #[allow(clippy::too_many_arguments)]
    fn mine<'py>(
        &self,
        py: Python<'py>,
        queries: Embeddings<'py>,
        lists: Vec<WantedArrays<'py>>,
        positives: ListArrays<'py>,
        exclude: Option<ListArrays<'py>>,
        groups: Option<PyReadonlyArray1<'py, i64>>,
        max_positive_similarity: Option<f64>,
        threads: Option<usize>,
    ) -> PyResult<Vec<Negatives<'py>>> {
        let execution = execution(threads)?;
        let passages = self.current(py);
        let queries = matrix(py, "queries", &queries, &execution)?;
        let groups = groups.map(|groups| groups.as_array().to_vec());
        let positives = Lists::of("positives", positives);
        let exclude = exclude.map(|exclude| Lists::of("exclude", exclude));
        let windows: Vec<Vec<Window>> = lists.iter().map(windows).collect::<PyResult<_>>()?;
        let lists: Vec<Wanted<'_>> =
            lists.iter().zip(&windows).map(|((num, ..), windows)| Wanted { num: *num, windows }).collect();
        let options = MiningOptions {
            lists: &lists,
            positives: positives.view(),
            exclude: exclude.as_ref().map(Lists::view),
            groups: groups.as_deref(),
            max_positive_similarity,
        };
        let work = queries.rows().saturating_mul(passages.rows()).saturating_mul(passages.dim());
        let mined =
            interruptible(py, &execution, work, || relkt_core::mine(&queries, &passages, &options, &execution))?;
        let to_python = |(negatives, list): (relkt_core::Negatives, &Wanted<'_>)| {
            Ok((
                two_dimensional(py, negatives.rows, queries.rows(), list.num)?,
                two_dimensional(py, negatives.scores, queries.rows(), list.num)?,
                negatives.above_window.into_pyarray(py),
                negatives.near_positive.into_pyarray(py),
            ))
        };
        mined.into_iter().zip(&lists).map(to_python).collect()
    }

    /// Appends rows of the same type. Searches that are running do not see them.
    fn append(&self, py: Python<'_>, passages: Embeddings<'_>, threads: Option<usize>) -> PyResult<()> {
        let execution = execution(threads)?;
        let more = matrix(py, "passages", &passages, &execution)?;
        // Always on a new thread, because rows of a mapped file may have to be copied first.
        interruptible(py, &execution, usize::MAX, || {
            let mut core = self.core.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(unshared) = Arc::get_mut(&mut core) {
                return unshared.append(&more, &execution);
            }
            let mut copy = core.duplicate()?;
            copy.append(&more, &execution)?;
            *core = Arc::new(copy);
            Ok(())
        })
    }

    /// Keeps the rows whose `keep` is true.
    fn select(&self, py: Python<'_>, keep: PyReadonlyArray1<'_, bool>, threads: Option<usize>) -> PyResult<()> {
        let execution = execution(threads)?;
        let keep: Vec<bool> = mask_bytes(&keep)?.into_iter().map(|byte| byte != 0).collect();
        interruptible(py, &execution, usize::MAX, || {
            let mut core = self.core.write().unwrap_or_else(PoisonError::into_inner);
            *core = Arc::new(core.select(&keep, &execution)?);
            Ok(())
        })
    }

    /// Stored rows, in the order of `rows`: float32, or the bits of float16.
    fn take<'py>(&self, py: Python<'py>, rows: PyReadonlyArray1<'py, i64>) -> PyResult<Bound<'py, PyAny>> {
        let passages = self.current(py);
        let rows = rows.as_array().to_vec();
        let (mut f32s, mut f16s): (Vec<f32>, Vec<u16>) = (Vec::new(), Vec::new());
        let values = rows.len().saturating_mul(passages.dim());
        let reserved = if passages.is_f16() { f16s.try_reserve_exact(values) } else { f32s.try_reserve_exact(values) };
        reserved.map_err(|_| PyMemoryError::new_err(format!("embeddings: could not allocate {values} values")))?;
        let mut copy = || {
            for &row in &rows {
                let row = usize::try_from(row).ok().filter(|&row| row < passages.rows()).ok_or(row)?;
                push_row(passages.matrix().row(row), &mut f32s, &mut f16s);
            }
            Ok(())
        };
        let in_order = rows.windows(2).all(|pair| pair[1] == pair[0] + 1);
        py.detach(|| if in_order { passages.matrix().read_in_order(copy) } else { copy() }).map_err(|row: i64| {
            let last = passages.rows() - 1;
            PyValueError::new_err(format!("rows: expected row numbers from 0 to {last}, got {row}"))
        })?;
        Ok(if passages.is_f16() {
            two_dimensional(py, f16s, rows.len(), passages.dim())?.into_any()
        } else {
            two_dimensional(py, f32s, rows.len(), passages.dim())?.into_any()
        })
    }

    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        ids: Option<IdArrays<'_>>,
        metadata: HashMap<String, String>,
    ) -> PyResult<()> {
        let execution = execution(Some(1))?;
        let ids = ids_of(ids)?;
        let passages = self.current(py);
        interruptible(py, &execution, usize::MAX, || index_file::save(&path, &passages, &ids, &metadata, &execution))
    }

    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, verify: bool) -> PyResult<Opened<'_>> {
        let execution = execution(Some(1))?;
        let work = if verify { usize::MAX } else { 0 };
        let file = interruptible(py, &execution, work, || index_file::open(&path, verify, &execution))?;
        Ok((Self::of(file.passages), ids_to_python(py, &file.ids)?, file.metadata))
    }
}
