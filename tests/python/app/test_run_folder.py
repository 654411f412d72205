"""Folders of training runs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.run_folder import RunFolder


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run: .* is not a run folder: it contains none of results\.md"):
        RunFolder(tmp_path)
    with pytest.raises(ValueError, match=r"run: .* is not a folder"):
        RunFolder(tmp_path / "missing")
