"""The plots of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from relkt.data import Level
from relkt.figures import SERIES, new_figure, save, style
from relkt.reproduce.reproduction import Cell, Mean, Reproduction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEANS = {Mean.TRAINED: "trained on", Mean.OTHERS: "not trained on"}
_HATCHES = ("", "///", "...")  # tell rows of the same colour apart when there are more rows than colours


def plot_languages(reproduction: Reproduction, level: Level, out: str | Path) -> tuple[Path, Path]:
    """Bars of P@1 for each language and row, with 95 % bootstrap intervals over questions.

    Args:
        reproduction: The results.
        level: The kind of candidates.
        out: Path without extension; existing files are replaced.

    Returns:
        The PNG and the SVG written.
    """
    languages, rows = reproduction.languages, reproduction.rows
    figure = new_figure(width=1.6 + 0.14 * len(languages) * (len(rows) + 2), height=3.6)
    axes = figure.subplots()
    width = 1 / (len(rows) + 1.5)
    for number, row in enumerate(rows):
        cells = [reproduction.cell(row.name, level, language) for language in languages]
        at = [place + (number - (len(rows) - 1) / 2) * width for place in range(len(languages))]
        _bars(axes, at, cells, width, number, row.name)
    trained = reproduction.trained_languages
    axes.set_xticks(range(len(languages)), [f"{code}*" if code in trained else code for code in languages])
    note = "  (* trained on)" if trained else ""
    axes.set_xlabel(f"language of the question{note}")
    _finish(axes, reproduction, level)
    axes.margins(x=0.01)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(rows), frameon=False)
    return save(figure, out)


def plot_trained_untrained(reproduction: Reproduction, out: str | Path) -> tuple[Path, Path] | None:
    """Bars of the mean P@1 over the trained languages and over the others, at each level, with 95 % intervals.

    Args:
        reproduction: The results.
        out: Path without extension; existing files are replaced.

    Returns:
        The PNG and the SVG written. None if no row has these means, and then nothing is written.
    """
    shown = {mean: name for mean, name in _MEANS.items() if mean in reproduction.means} or {Mean.ALL: "all but English"}
    rows = [
        row for row in reproduction.rows if reproduction.cell(row.name, Level.PASSAGE, next(iter(shown))) is not None
    ]
    if not rows:
        return None
    figure = new_figure(width=1.2 + 2.9 * len(Level), height=3.6)
    grid = figure.subplots(1, len(Level), sharey=True, squeeze=False)[0]
    width = 1 / (len(rows) + 1)
    for axes, level in zip(grid, Level, strict=True):
        for number, row in enumerate(rows):
            cells = [reproduction.cell(row.name, level, mean) for mean in shown]
            at = [place + (number - (len(rows) - 1) / 2) * width for place in range(len(shown))]
            _bars(axes, at, cells, width, list(reproduction.rows).index(row), row.name)
        heads = [f"{name} ({len(reproduction.means[mean])})" for mean, name in shown.items()]
        axes.set_xticks(range(len(shown)), heads)
        axes.set_title(level.value, fontsize=10)
        _finish(axes, reproduction, level)
        axes.set_ylabel("P@1" if axes is grid[0] else "")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return save(figure, out)


def plot_learning_curves(reproduction: Reproduction, out: str | Path) -> tuple[Path, Path] | None:
    """P@1 on dev against optimizer steps. Each trained row has a line, the mean over its seeds, and a band around the
    line, from the lowest to the highest seed.

    If seeds were evaluated at different steps, their curves are interpolated linearly. A seed that stopped early counts
    up to its last step only.

    Args:
        reproduction: The results.
        out: Path without extension; existing files are replaced.

    Returns:
        The PNG and the SVG written. None if no row was trained, and then nothing is written.
    """
    trained = [(number, row) for number, row in enumerate(reproduction.rows) if row.config is not None]
    if not trained:
        return None
    figure = new_figure(width=7.2, height=4.0)
    axes = figure.subplots()
    for number, row in trained:
        assert row.config is not None
        curves = [measurement.curve for measurement in reproduction.measurements[row.name].values()]
        steps, mean, low, high = band(curves)
        colour = SERIES[number % len(SERIES)]
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
        label = f"{row.name} ({row.config.level.value})"
        axes.plot(steps, mean, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("P@1 on dev (the level in brackets)")
    style(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(trained), frameon=False)
    return save(figure, out)


def band(
    curves: Sequence[Sequence[tuple[int, float]]],
) -> tuple[list[int], list[float], list[float], list[float]]:
    """The mean of several curves, and the range of their values.

    Args:
        curves: Points (step, value) of each curve, in the order of steps.

    Returns:
        The steps of all points; then, for each step, the mean, the lowest and the highest value of the curves that
        reach this step.
    """
    steps = sorted({step for curve in curves for step, _ in curve})
    means, lows, highs = [], [], []
    for step in steps:
        values = [
            float(np.interp(step, [s for s, _ in curve], [v for _, v in curve]))
            for curve in curves
            if curve and curve[-1][0] >= step
        ]
        means.append(sum(values) / len(values))
        lows.append(min(values))
        highs.append(max(values))
    return steps, means, lows, highs


def _bars(axes: Axes, at: Sequence[float], cells: Sequence[Cell | None], width: float, number: int, label: str) -> None:
    """Draw bars for the cells that are not None."""
    shown = [(x, cell) for x, cell in zip(at, cells, strict=True) if cell is not None]
    hatch = _HATCHES[number // len(SERIES) % len(_HATCHES)]
    colour = SERIES[number % len(SERIES)]
    axes.bar(
        [x for x, _ in shown],
        [cell.value for _, cell in shown],
        width,
        color=colour,
        hatch=hatch,
        label=label,
        edgecolor="white",
        linewidth=0.6,
    )
    ends = [(x, cell.interval) for x, cell in shown if cell.interval is not None]
    axes.vlines([x for x, _ in ends], [e[0] for _, e in ends], [e[1] for _, e in ends], color="#333333", linewidth=0.9)


def _finish(axes: Axes, reproduction: Reproduction, level: Level) -> None:
    axes.set_ylim(0, 1)
    axes.set_ylabel(f"P@1 on {reproduction.data}, level {level.value}")
    style(axes)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
