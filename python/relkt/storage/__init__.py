"""Files and folders on disk: atomic writes, locks, checksums, and manifests of resumable work."""

from relkt.storage.atomic import PARTIAL, atomic_file, atomic_folder, atomic_write, is_temporary, remove_temporaries
from relkt.storage.checksum import sha256_file, sha256_of
from relkt.storage.errors import FolderError, LockedError, NotWritableError
from relkt.storage.lock import locked
from relkt.storage.manifest import Difference, Manifest, differences, list_names

__all__ = [
    "PARTIAL",
    "Difference",
    "FolderError",
    "LockedError",
    "Manifest",
    "NotWritableError",
    "atomic_file",
    "atomic_folder",
    "atomic_write",
    "differences",
    "is_temporary",
    "list_names",
    "locked",
    "remove_temporaries",
    "sha256_file",
    "sha256_of",
]
