"""Writing the results of an experiment."""

from __future__ import annotations

import json
from pathlib import Path

from relkt.data import Level
from relkt.reproduce.plots import plot_languages, plot_learning_curves, plot_trained_untrained
from relkt.reproduce.reproduction import Reproduction
from relkt.reproduce.tables import to_markdown
from relkt.storage import atomic_write


def write_results(reproduction: Reproduction, path: Path) -> None:
    """Write ``plots/``, ``results.json`` and ``results.md`` into a folder; existing files are replaced.

    An earlier plot that would be empty now is deleted.
    """
    plots = path / "plots"
    for level in Level:
        plot_languages(reproduction, level, plots / f"languages-{level.value}")
    for name, plot in (("trained-untrained", plot_trained_untrained), ("learning-curves", plot_learning_curves)):
        if plot(reproduction, plots / name) is None:
            for suffix in ("png", "svg"):
                (plots / f"{name}.{suffix}").unlink(missing_ok=True)
    atomic_write(path / "results.json", json.dumps(reproduction.to_dict(), ensure_ascii=False, indent=1) + "\n")
    atomic_write(path / "results.md", to_markdown(reproduction))
