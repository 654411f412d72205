"""Import and export of embeddings: faiss indexes, NumPy files, Arrow tables and Parquet files.

Rows are processed in batches of :data:`BATCH_BYTES`, so an import with ``output`` and an export to a file need memory
for a few batches and the ids only. Rows are stored bit for bit, without casts or normalisation.
"""

from relkt.formats.arrow import from_arrow, from_parquet, to_arrow, to_parquet
from relkt.formats.batches import BATCH_BYTES
from relkt.formats.faiss import NORM_TOLERANCE, from_faiss, to_faiss
from relkt.formats.npy import from_npy, to_npy

__all__ = [
    "BATCH_BYTES",
    "NORM_TOLERANCE",
    "from_arrow",
    "from_faiss",
    "from_npy",
    "from_parquet",
    "to_arrow",
    "to_faiss",
    "to_npy",
    "to_parquet",
]
