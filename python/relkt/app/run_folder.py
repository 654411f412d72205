"""Plots and tables in the folder of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from relkt.errors import ArgumentError

_KNOWN = ("results.md", "plots", "config.toml", "experiment.json")

_TABLE_OPEN = '<div class="relkt-table" tabindex="0" role="region" aria-label="Table of results"><table>'


@dataclass(frozen=True)
class Plot:
    """A plot of a run.

    Args:
        name: Its file name.
        title: Its title.
    """

    name: str
    title: str


class RunFolder:
    """The folder of ``relkt train`` or ``relkt reproduce``; read on every call, because the run may be in progress.

    Args:
        path: The folder.

    Raises:
        ArgumentError: If it is not the folder of a run.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ArgumentError("run", problem=f"{path} is not a folder")
        if not any((path / name).exists() for name in _KNOWN):
            raise ArgumentError("run", problem=f"{path} is not a run folder: it contains none of {', '.join(_KNOWN)}")
        self.path = path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def plots(self) -> list[Plot]:
        """The plots, sorted by name."""
        files = sorted(file for file in (self.path / "plots").glob("*.png") if file.is_file())
        return [Plot(file.name, file.stem.replace("_", " ").replace("-", " ").capitalize()) for file in files]

    def plot_file(self, name: str) -> Path | None:
        """The file of a plot, or None if the name is unknown.

        Args:
            name: A name from :meth:`plots`; anything else, such as a path, is unknown.
        """
        return next((self.path / "plots" / plot.name for plot in self.plots() if plot.name == name), None)

    def tables(self) -> str | None:
        """The results as HTML, or None if the run has no results yet; HTML in the file is escaped."""
        try:
            text = (self.path / "results.md").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
        # Wide tables scroll separately from the page, also with the keyboard.
        markdown.add_render_rule("table_open", lambda *_: _TABLE_OPEN)
        markdown.add_render_rule("table_close", lambda *_: "</table></div>")
        return str(markdown.render(text))
