//! Files that appear under their name only when they are complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// POSIX error number EISDIR, which Python turns into `IsADirectoryError`.
const IS_A_DIRECTORY: i32 = 21;

/// A file that is written under a temporary name in the same folder, and removed unless it is committed.
pub(super) struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    committed: bool,
}

impl AtomicFile {
    /// Starts a file that will appear at `path`. If `path` is a symbolic link, the file that it points to is replaced.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (temporary, file) = temporary_file(&path)?;
        Ok(Self { path, temporary, file, committed: false })
    }

    /// The path at which the file will appear.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Renames the file once its contents are on the disk. `check` may still cancel before the rename.
    pub(super) fn commit(mut self, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let failed = |e: io::Error| file_error("write", &self.path, &e);
        self.file.sync_all().map_err(failed)?;
        check()?;
        fs::rename(&self.temporary, &self.path).map_err(failed)?;
        self.committed = true;
        sync_folder(&self.path);
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // The error that prevented the commit is reported elsewhere; a leftover temporary file is harmless.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A new file next to `path`.
fn temporary_file(path: &Path) -> Result<(PathBuf, File)> {
    let name = path.file_name().ok_or_else(|| {
        file_error("write", path, &io::Error::new(io::ErrorKind::InvalidInput, "the path does not name a file"))
    })?;
    if path.is_dir() {
        return Err(file_error("write", path, &io::Error::from_raw_os_error(IS_A_DIRECTORY)));
    }
    let existing = fs::metadata(path).ok();
    if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file");
        return Err(file_error("write", path, &reason));
    }
    for attempt in 0..1000u32 {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => {
                // Keep the permissions of the replaced file.
                if let Some(existing) = existing {
                    let _ = file.set_permissions(existing.permissions());
                }
                return Ok((temporary, file));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(file_error("write", path, &e)),
        }
    }
    Err(file_error("write", path, &io::Error::from(io::ErrorKind::AlreadyExists)))
}

/// Makes a rename survive a power failure, on systems that can sync folders. The file itself is complete either way, so
/// errors are ignored.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// An [`Error::File`] for an error of the operating system.
pub(super) fn file_error(action: &'static str, path: &Path, error: &io::Error) -> Error {
    Error::File { action, path: path.display().to_string(), reason: error.to_string(), code: error.raw_os_error() }
}
