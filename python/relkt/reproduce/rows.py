"""The rows of an experiment: systems and how they are trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relkt.training.config import TrainConfig

E5 = "intfloat/multilingual-e5-small"
"""The transformer encoder of the rows on XQuAD."""

_MUSE = "muse"
# e5 was trained with these prompts, but its files on the Hub do not contain them.
_E5_PROMPTS = {"query": "query: ", "document": "passage: "}
_XQUAD: tuple[tuple[str, str | None, str | None], ...] = (
    ("bm25", None, None),
    ("muse", _MUSE, None),
    ("e5-small", E5, None),
    ("paper", _MUSE, "paper-xquad"),
    ("best-muse", _MUSE, "best-muse"),
    ("best-e5", E5, "best-transformer"),
)
XQUAD_ROWS = tuple(name for name, _, _ in _XQUAD)
"""Names of the rows of ``relkt reproduce xquad``, in order."""
XQUAD_TRAINED = ("ar", "de", "es", "ru", "th", "tr", "zh")
"""The training languages of the paper."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system of an experiment.

    Args:
        name: A short name, used in file names: letters, digits, ``.``, ``_`` and ``-``.
        encoder: As for :func:`relkt.load_encoder`; None for BM25, which answers English questions only.
        config: The training configuration. It is run once with each seed of the experiment; its own seed is ignored.
            None for an encoder that is not trained.
        description: A description for the tables; default: made of encoder and configuration.
        prompts: Prompts for an encoder without prompts of its own.

    Raises:
        TypeError: If ``config`` is not a TrainConfig.
        ValueError: If the name cannot be used in a file name, or a configuration has no encoder.
    """

    name: str
    encoder: str | None = None
    config: TrainConfig | None = None
    description: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name: expected letters, digits, '.', '_' and '-', got {self.name!r}")
        if re.search(r"-seed-\d+$", self.name):
            raise ValueError(f"name: expected no '-seed-NUMBER' at the end, which marks a run, got {self.name!r}")
        if self.config is not None and not isinstance(self.config, TrainConfig):
            raise TypeError(f"config: expected a TrainConfig or None, got {self.config!r}")
        if self.config is not None and self.encoder is None:
            raise ValueError(f"config: expected None in row {self.name!r}, since BM25 is not trained")
        if not self.description:
            text = "BM25, English questions" if self.encoder is None else self.encoder
            if self.encoder is not None:
                text += ", untrained" if self.config is None else ", trained"
            object.__setattr__(self, "description", text)


@dataclass(frozen=True)
class Run:
    """A row, with a seed if it is trained.

    Args:
        row: The row.
        seed: The seed; None if the row is not trained.
    """

    row: Row
    seed: int | None

    @property
    def name(self) -> str:
        """The run's name, used in file names."""
        return self.row.name if self.seed is None else f"{self.row.name}-seed-{self.seed}"


def xquad_rows(names: Iterable[str] | None = None, *, e5: str = E5) -> tuple[Row, ...]:
    """The systems compared on XQuAD.

    Args:
        names: Names from :data:`XQUAD_ROWS`; None for all.
        e5: The name of multilingual-e5-small on the Hub, or its folder.

    Returns:
        The rows, in the order of :data:`XQUAD_ROWS`.

    Raises:
        ValueError: If a name is unknown, or no name is given.
    """
    if isinstance(names, str):
        raise ValueError(f"rows: expected a list of names, got the text {names!r}")
    wanted = XQUAD_ROWS if names is None else tuple(names)
    unknown = [name for name in wanted if name not in XQUAD_ROWS]
    if unknown or not wanted:
        raise ValueError(f"rows: expected some of {', '.join(XQUAD_ROWS)}, got {', '.join(unknown) or 'none'}")
    return tuple(
        Row(
            name=name,
            encoder=e5 if encoder == E5 else encoder,
            config=None if preset is None else TrainConfig.preset(preset),
            description="" if preset is None else f"{e5 if encoder == E5 else encoder}, preset {preset}",
            prompts=_E5_PROMPTS if encoder == E5 else {},
        )
        for name, encoder, preset in _XQUAD
        if name in wanted
    )
