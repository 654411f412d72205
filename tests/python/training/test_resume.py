"""A killed run is continued to the result of a run that was left alone, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import runpy
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import RetrievalData
from relkt.training import Progress, Stage, TrainConfig, train

CHILD = Path(__file__).parent / "resume_child.py"


def files(run: Path) -> dict[str, bytes]:
    """Everything a run leaves, but for drawings."""
    kept = (p for p in run.rglob("*") if p.is_file() and p.suffix not in (".png", ".svg"))
    return {str(p.relative_to(run)): p.read_bytes() for p in kept}


@dataclass(frozen=True)
class Undisturbed:
    """What a run starts from, on disk, and what it leaves when nothing happens to it."""

    model: Path
    data: Path
    config: Path
    files: dict[str, bytes]

    def child(self, output_dir: Path, **how: Any) -> int:
        """Resume (or start) the run in another process; its exit code."""
        arguments = {"model": self.model, "data": self.data, "config": self.config, "output_dir": output_dir}
        arguments = {name: str(path) for name, path in arguments.items()} | how
        # The fork server imports what takes seconds once, and has no threads when it forks.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["relkt.training.run"])
        process = context.Process(target=runpy.run_path, args=(str(CHILD), {"ARGUMENTS": arguments}, "__main__"))
        process.start()
        process.join(timeout=120)
        assert process.exitcode is not None
        return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    import sys

    shared = sys.modules["conftest"] if "conftest" in sys.modules else None
    raise NotImplementedError(shared)
