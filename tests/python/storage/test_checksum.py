"""SHA-256 of files and of parts."""

import hashlib
from pathlib import Path

import pytest

from relkt.storage import sha256_file, sha256_of


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file(tmp_path: Path, size: int) -> None:
    content = bytes(i % 251 for i in range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_parts_are_concatenated() -> None:
    assert sha256_of(["é", b"\xff", memoryview(b"ab")]) == hashlib.sha256("é".encode() + b"\xffab").hexdigest()
    assert sha256_of([]) == hashlib.sha256().hexdigest()


def test_unpaired_surrogates_have_a_checksum() -> None:
    assert sha256_of(["\ud800"]) != sha256_of(["\ud801"])
