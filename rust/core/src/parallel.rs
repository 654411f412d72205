//! The only entry to rayon: thread pools that survive a fork, and tasks whose results keep their order.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::ThreadPool;

use crate::error::{Error, Result};

/// The most threads that can be asked for.
pub const MAX_THREADS: usize = 1024;

/// How an operation runs: on how many threads, and whether it should stop.
#[derive(Debug, Clone)]
pub struct Execution {
    threads: usize,
    cancelled: Arc<AtomicBool>,
}

impl Execution {
    /// Runs on `threads` threads, or on as many as the process may use.
    ///
    /// # Errors
    /// [`Error::Threads`] if `threads` is 0 or above [`MAX_THREADS`].
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let threads = match threads {
            Some(threads) if !(1..=MAX_THREADS).contains(&threads) => {
                return Err(Error::Threads { threads, max: MAX_THREADS });
            }
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS),
        };
        Ok(Self { threads, cancelled: Arc::new(AtomicBool::new(false)) })
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The same request to stop, on one thread: for work too small to be worth handing out.
    #[must_use]
    pub fn single_threaded(&self) -> Self {
        Self { threads: 1, cancelled: Arc::clone(&self.cancelled) }
    }

    /// Asks the operation to stop soon with [`Error::Interrupted`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`Error::Interrupted`] once [`Execution::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Applies `task` to every item, in parallel, and returns the results in the order of the items. The calling thread is
/// one of those that work, so that nothing waits for a sleeping thread to wake up.
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
    // Items are handed out one by one: they are few and large.
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

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Idle pools that are kept, at most: those of the last numbers of threads used, so that idle threads do not pile up.
const KEPT: usize = 2;

/// The idle thread pools of one process. Each operation has a pool to itself, so that none waits for another's work.
///
/// A forked child inherits the parent's memory but none of its threads, and perhaps a locked mutex, so it never looks
/// into what the parent made: it hangs a table of its own behind the parent's.
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

/// A pool that is given back when it is dropped.
struct Borrowed(Option<ThreadPool>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            let mut idle = lock(&Pools::of_this_process().idle);
            idle.push(pool);
            let surplus = idle.len().saturating_sub(KEPT);
            let surplus: Vec<ThreadPool> = idle.drain(..surplus).collect();
            // Their threads end without the lock.
            drop(idle);
            drop(surplus);
        }
    }
}

impl std::ops::Deref for Borrowed {
    type Target = ThreadPool;

    fn deref(&self) -> &ThreadPool {
        match &self.0 {
            Some(pool) => pool,
            None => unreachable!("a pool is taken only when it is given back"),
        }
    }
}

fn pool(threads: usize) -> Result<Borrowed> {
    let mut idle = lock(&Pools::of_this_process().idle);
    if let Some(at) = idle.iter().rposition(|pool| pool.current_num_threads() == threads) {
        return Ok(Borrowed(Some(idle.remove(at))));
    }
    drop(idle);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("relkt-{i}"))
        .build()
        .map_err(|e| Error::ThreadPool { threads, reason: e.to_string() })?;
    Ok(Borrowed(Some(pool)))
}
