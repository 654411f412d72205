//! Everything that can go wrong, as one enum.

/// Result of a core operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An empty vector with room for `len` values, or [`Error::Memory`].
pub(crate) fn with_capacity<T>(what: &'static str, len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    match values.try_reserve_exact(len) {
        Ok(()) => Ok(values),
        Err(_) => Err(Error::Memory { what, bytes: len.saturating_mul(size_of::<T>()) }),
    }
}

impl Error {
    /// The same error, of a batch that starts at row `first` of its matrix.
    #[must_use]
    pub fn in_batch(self, first: usize) -> Self {
        match self {
            Self::NotFinite { name, row, column, value } => Self::NotFinite { name, row: first + row, column, value },
            Self::ZeroRow { name, row } => Self::ZeroRow { name, row: first + row },
            other => other,
        }
    }
}

/// Why an operation was refused; the message names the argument, what was expected and what came.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A matrix without rows or columns.
    #[error("{name}: expected at least one row and one column, got shape ({rows}, {dim})")]
    Empty {
        /// The argument.
        name: &'static str,
        /// Rows that came.
        rows: usize,
        /// Columns that came.
        dim: usize,
    },
    /// More rows than a row number can hold.
    #[error("{name}: expected at most {max} rows, got {rows}")]
    TooManyRows {
        /// The argument.
        name: &'static str,
        /// Rows that came.
        rows: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// More columns than codes can be summed over.
    #[error("{name}: expected at most {max} columns, got {dim}")]
    TooWide {
        /// The argument.
        name: &'static str,
        /// Columns that came.
        dim: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A buffer whose length is not rows times columns.
    #[error("{name}: expected {expected} values for its shape, got {got}")]
    Length {
        /// The argument.
        name: &'static str,
        /// rows * dim.
        expected: usize,
        /// Values that came.
        got: usize,
    },
    /// A NaN or an infinity.
    #[error("{name}: expected finite values, got {value} at row {row}, column {column}")]
    NotFinite {
        /// The argument.
        name: &'static str,
        /// Where.
        row: usize,
        /// Where.
        column: usize,
        /// What stood there.
        value: f32,
    },
    /// A row of zeros, which has no direction and therefore no cosine.
    #[error("{name}: row {row} is all zeros, which has no cosine with anything")]
    ZeroRow {
        /// The argument.
        name: &'static str,
        /// Which row.
        row: usize,
    },
    /// Rows of another width than the passages.
    #[error("{name}: expected dimension {expected} like the passages, got {got}")]
    DimMismatch {
        /// The argument.
        name: &'static str,
        /// Columns of the passages.
        expected: usize,
        /// Columns that came.
        got: usize,
    },
    /// A k that no result can have.
    #[error("k: expected a number from 1 to {rows}, the number of passages, got {k}")]
    K {
        /// What came.
        k: usize,
        /// Rows that there are.
        rows: usize,
    },
    /// No thread, or more than anybody can want.
    #[error("threads: expected a number from 1 to {max}, got {threads}")]
    Threads {
        /// What came.
        threads: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// More memory than there is.
    #[error("{what}: could not allocate {bytes} bytes")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// How much was wanted.
        bytes: usize,
    },
    /// The operating system would not start the threads.
    #[error("threads: could not start {threads} threads: {reason}")]
    ThreadPool {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A kernel name that is not known.
    #[error("RELKT_KERNEL: expected one of {known}, got {name:?}")]
    UnknownKernel {
        /// What came.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A kernel that this processor cannot run.
    #[error("RELKT_KERNEL: the kernel {name:?} cannot run on this processor; it can run {available}")]
    KernelUnavailable {
        /// What was asked for.
        name: String,
        /// What there is.
        available: String,
    },
    /// A list of more negatives for each query than there are passages, or of none.
    #[error("num: expected a number from 1 to {rows}, the number of passages, got {num}")]
    Count {
        /// What came.
        num: usize,
        /// Rows that there are.
        rows: usize,
    },
    /// No list of negatives asked for.
    #[error("lists: expected at least one list of negatives, got none")]
    NothingToMine,
    /// Another number of windows than queries.
    #[error("windows: expected {expected}, one for each query, got {got}")]
    Windows {
        /// Number of queries.
        expected: usize,
        /// Windows that came.
        got: usize,
    },
    /// A limit that is no number.
    #[error("windows: expected numbers as limits, got NaN for query {query}")]
    NoWindow {
        /// Which query.
        query: usize,
    },
    /// Per-query lists whose number is not that of the queries.
    #[error("{name}: expected {expected} lists, one for each query, got {got}")]
    Lists {
        /// The argument.
        name: &'static str,
        /// Number of queries.
        expected: usize,
        /// Lists that came.
        got: usize,
    },
    /// A row number outside the passages.
    #[error("{name}: query {query} names the row {row}, expected a row from 0 to {max}")]
    RowOutOfRange {
        /// The argument.
        name: &'static str,
        /// Which query.
        query: usize,
        /// What came.
        row: i64,
        /// The last row there is.
        max: usize,
    },
    /// A filter names a row that there is not.
    #[error("allow: entry {position} is the row {row}, expected a row from 0 to {}", rows - 1)]
    AllowOutOfRange {
        /// Which entry.
        position: usize,
        /// What came.
        row: i64,
        /// Rows that there are.
        rows: usize,
    },
    /// A mask of another length than the passages.
    #[error("allow: expected {expected} values, one for each passage, got {got}")]
    AllowLength {
        /// Number of passages.
        expected: usize,
        /// Values that came.
        got: usize,
    },
    /// One group number for each passage was expected.
    #[error("groups: expected {expected} values, one for each passage, got {got}")]
    Groups {
        /// Number of passages.
        expected: usize,
        /// Values that came.
        got: usize,
    },
    /// More or fewer rows than were announced.
    #[error("passages: expected {expected} rows as announced, got {got}")]
    RowCount {
        /// Rows announced.
        expected: usize,
        /// Rows that came.
        got: usize,
    },
    /// float16 and float32 rows together.
    #[error("{name}: expected all rows to be of one type, got float16 and float32")]
    Mixed {
        /// The argument.
        name: &'static str,
    },
    /// An index whose codes contradict its rows, as only a damaged file's can.
    #[error("passages: codes and rows contradict each other: the index file is damaged (open it with verify=True)")]
    Damaged,
    /// Another number of ids than rows, or ids of another kind than announced.
    #[error("ids: expected {expected} values, one for each passage, got {got}")]
    IdCount {
        /// Rows.
        expected: usize,
        /// Ids that came.
        got: usize,
    },
    /// The operating system refused something.
    #[error("could not {action} {path:?}: {reason}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        reason: String,
        /// Its error number.
        code: Option<i32>,
    },
    /// A file that is no index, damaged, or too new.
    #[error("{path}: {problem}")]
    IndexFile {
        /// Which file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}
