//! Execution of operations: their kernel, their threads, and their cancellation. The only module that uses rayon.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::ThreadPool;

use crate::error::{Error, Result};
use crate::kernel::Kernel;

/// Largest number of threads of an operation.
pub const MAX_THREADS: usize = 1024;

/// The execution of one operation: its kernel, its number of threads, and its cancellation. Made once per call at
/// the FFI boundary and passed down by reference.
#[derive(Debug, Clone)]
pub struct Execution {
    kernel: Kernel,
    threads: usize,
    cancelled: Arc<AtomicBool>,
}

impl Execution {
    /// Runs `kernel` on `threads` threads; `None` means all threads that the process may use.
    ///
    /// # Errors
    /// [`Error::Threads`] if `threads` is 0 or above [`MAX_THREADS`].
    pub fn new(kernel: Kernel, threads: Option<usize>) -> Result<Self> {
        let threads = match threads {
            Some(threads) if !(1..=MAX_THREADS).contains(&threads) => {
                return Err(Error::Threads { threads, max: MAX_THREADS });
            }
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS),
        };
        Ok(Self { kernel, threads, cancelled: Arc::new(AtomicBool::new(false)) })
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The same execution on one thread, with the same cancellation: for work too small to distribute.
    #[must_use]
    pub fn single_threaded(&self) -> Self {
        Self { threads: 1, cancelled: Arc::clone(&self.cancelled), ..*self }
    }

    /// Asks the operation to stop soon with [`Error::Interrupted`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Checks for cancellation.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after [`Execution::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Applies `task` to every item in parallel and returns the results in the order of the items. The calling thread takes
/// items too, so that the work starts without waiting for a sleeping thread to wake up.
///
/// # Errors
/// [`Error::ThreadPool`] if the threads cannot be started.
pub(crate) fn for_each<I, T>(
    execution: &Execution,
    items: I,
    task: impl Fn(I::Item) -> T + Send + Sync,
) -> Result<Vec<T>>
where
    I: Iterator,
    I::Item: Send,
    T: Send,
{
    let items: Vec<I::Item> = items.collect();
    let helpers = (execution.threads - 1).min(items.len().saturating_sub(1));
    if helpers == 0 {
        return Ok(items.into_iter().map(task).collect());
    }
    let count = items.len();
    // Threads take items one by one, since items are few and large.
    let queue = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(count));
    let work = || {
        loop {
            let next = lock(&queue).next();
            let Some((position, item)) = next else { break };
            let result = task(item);
            lock(&done).push((position, result));
        }
    };
    pool(execution.threads - 1)?.in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| work());
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|&(position, _)| position);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Locks a mutex even after a panic in another thread, because no update under these locks can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of idle pools to keep. The most recently used pools are kept; others are dropped, so that idle threads do not
/// pile up.
const KEPT: usize = 2;

/// The idle thread pools of one process. Each operation takes a pool for itself, so that operations never wait for each
/// other.
///
/// A forked child inherits the parent's memory, perhaps with a locked mutex, but not its threads. So the child never
/// touches the parent's pools: it chains its own table to the parent's.
struct Pools {
    process: u32,
    idle: Mutex<Vec<ThreadPool>>,
    child: OnceLock<Box<Pools>>,
}

impl Pools {
    fn of(process: u32) -> Self {
        Self { process, idle: Mutex::default(), child: OnceLock::new() }
    }

    fn of_this_process() -> &'static Self {
        static POOLS: OnceLock<Pools> = OnceLock::new();
        let process = std::process::id();
        let mut pools = POOLS.get_or_init(|| Pools::of(process));
        while pools.process != process {
            pools = pools.child.get_or_init(|| Box::new(Pools::of(process)));
        }
        pools
    }
}

/// Returns its pool to the idle pools when dropped.
struct PoolGuard(Option<ThreadPool>);

impl Drop for PoolGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            let mut idle = lock(&Pools::of_this_process().idle);
            idle.push(pool);
            let surplus = idle.len().saturating_sub(KEPT);
            let surplus: Vec<ThreadPool> = idle.drain(..surplus).collect();
            // Joining the threads of surplus pools takes time, so it happens after unlocking.
            drop(idle);
            drop(surplus);
        }
    }
}

impl std::ops::Deref for PoolGuard {
    type Target = ThreadPool;

    fn deref(&self) -> &ThreadPool {
        match &self.0 {
            Some(pool) => pool,
            None => unreachable!("the pool is only taken out in drop"),
        }
    }
}

fn pool(threads: usize) -> Result<PoolGuard> {
    let mut idle = lock(&Pools::of_this_process().idle);
    if let Some(at) = idle.iter().rposition(|pool| pool.current_num_threads() == threads) {
        return Ok(PoolGuard(Some(idle.remove(at))));
    }
    drop(idle);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("relkt-{i}"))
        .build()
        .map_err(|e| Error::ThreadPool { threads, reason: e.to_string() })?;
    Ok(PoolGuard(Some(pool)))
}
