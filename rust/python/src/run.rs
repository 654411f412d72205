//! Long work without the GIL, that Ctrl-C can stop and whose panics stay in Rust.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use relkt_core::{Error, Execution, Result};

use crate::errors::to_python;

/// How often the waiting thread looks for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Operations that take a fraction of a second on any machine, for which starting a thread would be a good part of the
/// time.
const SHORT: usize = 1 << 30;

/// Runs `work`, of roughly `operations` multiply-adds: on a thread of its own while this one waits for its end or for a
/// signal, or on this one if it is short.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    execution: &Execution,
    operations: usize,
    work: impl FnOnce() -> Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| if operations < SHORT { here(work) } else { on_a_thread(execution, work) })
}

fn here<T>(work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(to_python),
        Err(_) => Err(broken()),
    }
}

fn on_a_thread<T: Send>(execution: &Execution, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // The receiver is there until this thread has ended, or nobody wants the outcome any more.
            let _ = sender.send(outcome);
        };
        std::thread::Builder::new()
            .name("relkt".into())
            .spawn_scoped(scope, work)
            .map_err(|e| to_python(Error::ThreadPool { threads: 1, reason: e.to_string() }))?;
        loop {
            match receiver.recv_timeout(SIGNAL_INTERVAL) {
                Ok(Ok(outcome)) => return outcome.map_err(to_python),
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(broken()),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(signal) = Python::attach(|py| py.check_signals()) {
                        execution.cancel();
                        return Err(signal);
                    }
                }
            }
        }
    })
}

fn broken() -> PyErr {
    PyRuntimeError::new_err("a broken invariant inside relkt; please report it")
}
