"""Common parts of all plots: colours, style, names of languages, and writing of figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette can be distinguished with every kind of colour vision; shapes and fills differ as well.
BLUE, VERMILION, GREY, LIGHT = "#0072B2", "#D55E00", "#6B6B6B", "#D9D9D9"
SERIES = (GREY, "#56B4E9", "#E69F00", BLUE, "#009E73", VERMILION, "#CC79A7", "#000000")
"""Colours of the series of a plot, in their order."""
LANGUAGE_NAMES = {
    "ar": "Arabic",
    "bn": "Bengali",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "hi": "Hindi",
    "ja": "Japanese",
    "ko": "Korean",
    "ro": "Romanian",
    "ru": "Russian",
    "te": "Telugu",
    "th": "Thai",
    "tr": "Turkish",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


def new_figure(width: float, height: float) -> Figure:
    """Makes an empty figure, with its size in inches."""
    # Figure instead of pyplot: no global state, no window, no figure to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def style(axes: Axes) -> None:
    """Applies the style of all plots."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#EDEDED", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def save(figure: Figure, out: str | Path) -> tuple[Path, Path]:
    """Writes a figure as PNG and SVG.

    Args:
        figure: The figure.
        out: Path without suffix (``.png`` or ``.svg`` is ignored); existing files are replaced.

    Returns:
        The paths of the PNG and the SVG file. Equal figures give equal files.
    """
    from matplotlib import rc_context

    base = Path(out)
    if base.suffix in (".png", ".svg"):
        base = base.with_suffix("")
    png, svg = base.with_name(f"{base.name}.png"), base.with_name(f"{base.name}.svg")
    base.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=160)
    # No date, and a fixed salt for ids in the SVG: the same run gives the same file.
    with rc_context({"svg.hashsalt": "relkt"}):
        figure.savefig(svg, metadata={"Date": None})
    return png, svg
