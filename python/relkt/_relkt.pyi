import numpy as np
from numpy.typing import NDArray

class Passages:
    def __new__(cls, passages: NDArray[np.float32], threads: int | None) -> Passages: ...
    @property
    def rows(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def search(
        self, queries: NDArray[np.float32], k: int, threads: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
    def mine(
        self,
        queries: NDArray[np.float32],
        positives: list[list[int]],
        num_hard: int,
        num_semi_hard: int,
        margin: float,
        groups: NDArray[np.int64] | None,
        exclude: list[list[int]] | None,
        threads: int | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]: ...

def available_kernels() -> list[str]: ...
