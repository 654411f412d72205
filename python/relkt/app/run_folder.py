"""The folder of a training run, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

_KNOWN = ("results.md", "plots", "config.toml", "experiment.json")

_TABLE_OPEN = '<div class="relkt-table" tabindex="0" role="region" aria-label="Table of results"><table>'


@dataclass(frozen=True)
class Plot:
    """A picture of a run.

    Args:
        name: Its file's name.
        title: What it shows.
    """

    name: str
    title: str


class RunFolder:
    """What ``relkt train`` or ``relkt reproduce`` wrote; read anew each time, since a run may be under way.

    Args:
        path: The folder.

    Raises:
        ValueError: If it is not one of a run.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ValueError(f"run: expected the folder of a run, got {path}, which is none")
        if not any((path / name).exists() for name in _KNOWN):
            raise ValueError(f"run: expected the folder of a run, got {path}, which has none of {', '.join(_KNOWN)}")
        self.path = path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def plots(self) -> list[Plot]:
        """The pictures, by name."""
        files = sorted(file for file in (self.path / "plots").glob("*.png") if file.is_file())
        return [Plot(file.name, file.stem.replace("_", " ").replace("-", " ").capitalize()) for file in files]

    def plot_file(self, name: str) -> Path | None:
        """The file of a picture, or None if there is none of that name.

        Args:
            name: As in :meth:`plots`: a path to elsewhere is none of them.
        """
        return next((self.path / "plots" / plot.name for plot in self.plots() if plot.name == name), None)

    def tables(self) -> str | None:
        """The results as HTML, or None if there are none yet; HTML in the file is shown as text."""
        try:
            text = (self.path / "results.md").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
        # Wide tables scroll by themselves, with the keyboard, too.
        markdown.add_render_rule("table_open", lambda *_: _TABLE_OPEN)
        markdown.add_render_rule("table_close", lambda *_: "</table></div>")
        return str(markdown.render(text))
