//! Long work without the GIL, which Ctrl-C can interrupt and whose panics become Python errors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use relkt_core::{Error, Execution, Result};

use crate::errors::to_python;

/// Interval at which the waiting thread checks for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Work with fewer operations than this takes a fraction of a second on any machine. Starting a thread could be a large
/// part of that time.
const SHORT: usize = 1 << 30;

/// Stack size of the working thread, Rust's default.
const STACK: usize = 2 << 20;

/// Runs `work`, of roughly `operations` multiply-adds, without the GIL. Short work runs on this thread; long work runs
/// on a new thread, while this one waits for its end or for a signal.
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

/// If the system refuses to start a thread, the work runs on this thread, and signals wait for its end. If there is no
/// memory for the thread's stack, the result is a memory error, because the work itself needs more memory.
fn on_a_thread<T: Send>(execution: &Execution, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    // Taken by the new thread, or by this one if there is none.
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("relkt".into()).stack_size(STACK);
        let started = thread.spawn_scoped(scope, move || {
            let Some(work) = take() else { return };
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // Sending fails only if the receiver has left after a signal, and then the outcome is not needed.
            let _ = sender.send(outcome);
        });
        if started.is_err() {
            if Vec::<u8>::new().try_reserve_exact(STACK).is_err() {
                return Err(to_python(Error::Memory { what: "a thread's stack", bytes: STACK }));
            }
            return take().map_or_else(|| Err(broken()), here);
        }
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
    PyRuntimeError::new_err("internal error in relkt (a bug): please report it")
}
