"""Run by test_run.py in a child process: resume an experiment, and kill the process at a given moment.

Not a test module. The caller puts the arguments into ``ARGUMENTS``.
"""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from relkt.reproduce import Progress, Run, reproduce

# The tests that compare with these results do the same.
torch.cpu._is_avx512_bf16_supported = lambda: False


class Killed(Progress):
    """Kills the process when an activity of a run begins for the n-th time."""

    def __init__(self, run: str, activity: str, times: int) -> None:
        self._run, self._activity, self._times = run, activity, times
        self._now = ""

    @override
    def run_started(self, run: Run) -> None:
        self._now = run.name

    @override
    def activity(self, name: str) -> None:
        self._times -= (self._now, name) == (self._run, self._activity)
        if self._times == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: str, kill: dict[str, Any] | None) -> None:
    torch.set_num_threads(1)
    with Path(arguments).open("rb") as file:
        given = pickle.load(file)
    reproduce(**given, progress=Killed(**kill) if kill else None)


if __name__ == "__main__":
    main(**globals()["ARGUMENTS"])
