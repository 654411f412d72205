"""What to mine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from relkt.arrays import as_count
from relkt.mining import Strategy
from relkt.mining.conditions import Conditions
from relkt.mining_files.work_folder import CONDITIONS

_OF_EMBEDDING = ("query_prompt", "passage_prompt", "batch_size")


@dataclass(frozen=True, kw_only=True)
class MiningOptions:
    """How to mine; conditions are those of :func:`relkt.mine`.

    Attributes:
        num_negatives: Negatives of each query, at most.
        strategy: "top" or "random".
        range_min: Ranks passed over.
        range_max: The last rank that counts.
        min_score: The lowest cosine.
        max_score: The highest cosine.
        absolute_margin: Distance from the lowest positive's score.
        relative_margin: The same as a share of that score.
        max_positive_similarity: Near-duplicates of a positive, above this cosine, are no negatives.
        seed: Of strategy "random".
        exclude_same_document: Whether passages of a positive's document are no negatives, where documents are known.
        query_prompt: Put before queries; default: the model's.
        passage_prompt: Put before passages; default: the model's.
        batch_size: Texts embedded at once.
    """

    num_negatives: int = 3
    strategy: Strategy = Strategy.TOP
    range_min: int = 0
    range_max: int | None = None
    min_score: float | None = None
    max_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_positive_similarity: float | None = None
    seed: int = 0
    exclude_same_document: bool = True
    query_prompt: str | None = None
    passage_prompt: str | None = None
    batch_size: int = 32

    def conditions(self) -> dict[str, Any]:
        """All conditions of :func:`relkt.mine`."""
        others = ("exclude_same_document", *_OF_EMBEDDING)
        given = {name: value for name, value in asdict(self).items() if name not in others}
        return given | {"num_hard": 0, "num_semi_hard": 0, "margin": None}

    def given(self) -> dict[str, Any]:
        """The conditions that are not the default, by name, as texts and numbers."""
        different = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in _OF_EMBEDDING and getattr(self, field.name) != field.default
        }
        return {name: value.value if isinstance(value, Strategy) else value for name, value in different.items()}

    def manifest(self) -> dict[str, dict[str, Any]]:
        """What embeddings depend on, and what negatives depend on beside them, as JSON can hold it."""
        values = asdict(self) | {"strategy": Strategy(self.strategy).value}
        embedding = {name: values.pop(name) for name in _OF_EMBEDDING}
        return {"embedding": embedding, CONDITIONS: values}

    def check(self) -> None:
        """Checks all.

        Raises:
            TypeError: If an option has the wrong type.
            ValueError: If an option is out of its range, or contradicts another.
        """
        as_count("batch_size", self.batch_size, "of at least 1", least=1)
        as_count("num_negatives", self.num_negatives, "of at least 1", least=1)
        Conditions.checked(**self.conditions())
