//! All errors of the core, as one enum.

/// Result of a core operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An empty vector with capacity for `len` values, or [`Error::Memory`].
pub(crate) fn with_capacity<T>(what: &'static str, len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    match values.try_reserve_exact(len) {
        Ok(()) => Ok(values),
        Err(_) => Err(Error::Memory { what, bytes: len.saturating_mul(size_of::<T>()) }),
    }
}

impl Error {
    /// The error with row numbers shifted by `first`, the row at which a batch starts.
    #[must_use]
    pub fn in_batch(self, first: usize) -> Self {
        match self {
            Self::NotFinite { name, row, column, value } => Self::NotFinite { name, row: first + row, column, value },
            Self::ZeroRow { name, row } => Self::ZeroRow { name, row: first + row },
            other => other,
        }
    }

    /// Labels a memory error with `what`, the argument that needed the memory. A buffer does not know whose values it
    /// holds, so its caller adds the label.
    #[must_use]
    pub fn of(self, what: &'static str) -> Self {
        match self {
            Self::Memory { bytes, .. } => Self::Memory { what, bytes },
            other => other,
        }
    }
}

/// Why an operation failed. Messages name the argument, the expected value and the value given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A matrix without rows or columns.
    #[error("{name}: expected at least one row and one column, got shape ({rows}, {dim})")]
    Empty {
        /// The argument.
        name: &'static str,
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        dim: usize,
    },
    /// More rows than row numbers can address.
    #[error("{name}: expected at most {max} rows, got {rows}")]
    TooManyRows {
        /// The argument.
        name: &'static str,
        /// Number of rows.
        rows: usize,
        /// The maximum.
        max: usize,
    },
    /// More columns than an integer sum of codes can hold.
    #[error("{name}: expected at most {max} columns, got {dim}")]
    TooWide {
        /// The argument.
        name: &'static str,
        /// Number of columns.
        dim: usize,
        /// The maximum.
        max: usize,
    },
    /// A buffer whose length is not rows times columns.
    #[error("{name}: expected {expected} values for its shape, got {got}")]
    Length {
        /// The argument.
        name: &'static str,
        /// rows * dim.
        expected: usize,
        /// Number of values given.
        got: usize,
    },
    /// A NaN or an infinity.
    #[error("{name}: expected finite values, got {value} at row {row}, column {column}")]
    NotFinite {
        /// The argument.
        name: &'static str,
        /// Row of the value.
        row: usize,
        /// Column of the value.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A row of zeros, whose cosine is undefined.
    #[error("{name}: row {row} is all zeros, which has no cosine with anything")]
    ZeroRow {
        /// The argument.
        name: &'static str,
        /// The row.
        row: usize,
    },
    /// A different number of columns than the passages.
    #[error("{name}: expected dimension {expected} like the passages, got {got}")]
    DimMismatch {
        /// The argument.
        name: &'static str,
        /// Columns of the passages.
        expected: usize,
        /// Columns given.
        got: usize,
    },
    /// k is 0 or above the number of passages.
    #[error("k: expected a number from 1 to {rows}, the number of passages, got {k}")]
    KOutOfRange {
        /// The value given.
        k: usize,
        /// Number of passages.
        rows: usize,
    },
    /// Zero threads, or more than `MAX_THREADS`.
    #[error("threads: expected a number from 1 to {max}, got {threads}")]
    Threads {
        /// The value given.
        threads: usize,
        /// The maximum.
        max: usize,
    },
    /// A failed allocation.
    #[error("{what}: could not allocate {bytes} bytes")]
    Memory {
        /// The purpose of the memory; see [`Error::of`].
        what: &'static str,
        /// Size of the allocation.
        bytes: usize,
    },
    /// The operating system refused to start threads.
    #[error("threads: could not start {threads} threads: {reason}")]
    ThreadPool {
        /// Number of threads.
        threads: usize,
        /// The system's message.
        reason: String,
    },
    /// An unknown kernel name.
    #[error("RELKT_KERNEL: expected one of {known}, got {name:?}")]
    UnknownKernel {
        /// The name given.
        name: String,
        /// All names.
        known: String,
    },
    /// A kernel that this processor cannot run.
    #[error("RELKT_KERNEL: the kernel {name:?} cannot run on this processor; it can run {available}")]
    KernelUnavailable {
        /// The name given.
        name: String,
        /// Names of the kernels that can run.
        available: String,
    },
    /// Zero negatives per query, or more than there are passages.
    #[error("num: expected a number from 1 to {rows}, the number of passages, got {num}")]
    CountOutOfRange {
        /// The value given.
        num: usize,
        /// Number of passages.
        rows: usize,
    },
    /// Mining without a list of negatives.
    #[error("lists: expected at least one list of negatives, got none")]
    NothingToMine,
    /// The number of score windows differs from the number of queries.
    #[error("windows: expected {expected}, one for each query, got {got}")]
    WindowCountMismatch {
        /// Number of queries.
        expected: usize,
        /// Number of windows.
        got: usize,
    },
    /// A score window with a NaN limit.
    #[error("windows: expected numbers as limits, got NaN for query {query}")]
    NanLimit {
        /// The query.
        query: usize,
    },
    /// The number of row lists differs from the number of queries.
    #[error("{name}: expected {expected} lists, one for each query, got {got}")]
    ListCountMismatch {
        /// The argument.
        name: &'static str,
        /// Number of queries.
        expected: usize,
        /// Number of lists.
        got: usize,
    },
    /// A list names a row out of range.
    #[error("{name}: query {query} names the row {row}, expected a row from 0 to {max}")]
    RowOutOfRange {
        /// The argument.
        name: &'static str,
        /// The query.
        query: usize,
        /// The row given.
        row: i64,
        /// The last row.
        max: usize,
    },
    /// A filter names a row out of range.
    #[error("allow: entry {position} is the row {row}, expected a row from 0 to {}", rows - 1)]
    AllowOutOfRange {
        /// Position of the entry.
        position: usize,
        /// The row given.
        row: i64,
        /// Number of passages.
        rows: usize,
    },
    /// The length of a mask differs from the number of passages.
    #[error("allow: expected {expected} values, one for each passage, got {got}")]
    AllowLength {
        /// Number of passages.
        expected: usize,
        /// Length of the mask.
        got: usize,
    },
    /// The number of group numbers differs from the number of passages.
    #[error("groups: expected {expected} values, one for each passage, got {got}")]
    GroupCountMismatch {
        /// Number of passages.
        expected: usize,
        /// Number of values.
        got: usize,
    },
    /// More or fewer rows than announced.
    #[error("passages: expected {expected} rows as announced, got {got}")]
    RowCount {
        /// Number of rows announced.
        expected: usize,
        /// Number of rows given.
        got: usize,
    },
    /// float16 and float32 rows in one matrix.
    #[error("{name}: expected all rows to be of one type, got float16 and float32")]
    Mixed {
        /// The argument.
        name: &'static str,
    },
    /// Codes that contradict the rows, which only happens in a damaged file.
    #[error("passages: codes and rows contradict each other: the index file is damaged (open it with verify=True)")]
    Damaged,
    /// The number or the kind of ids is not as announced.
    #[error("ids: expected {expected} values, one for each passage, got {got}")]
    IdCount {
        /// Number of rows.
        expected: usize,
        /// Number of ids.
        got: usize,
    },
    /// A file operation that the operating system refused.
    #[error("could not {action} {path:?}: {reason}")]
    File {
        /// The operation.
        action: &'static str,
        /// The file.
        path: String,
        /// The system's message.
        reason: String,
        /// The system's error number.
        code: Option<i32>,
    },
    /// A file that is not an index, is damaged, or has a newer format.
    #[error("{path}: {problem}")]
    IndexFile {
        /// The file.
        path: String,
        /// The problem.
        problem: String,
    },
    /// The caller cancelled the operation.
    #[error("interrupted")]
    Interrupted,
}
