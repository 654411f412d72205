"""Options of a mining run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from relkt.arrays import as_count
from relkt.errors import ArgumentError
from relkt.mining import MiningConditions

CONDITIONS = "conditions"
"""Manifest key of the options that affect the negatives, but not the embeddings."""

_RESTRICTIONS = (
    *("range_min", "range_max", "min_score", "max_score", "absolute_margin", "relative_margin"),
    "max_positive_similarity",
)


@dataclass(frozen=True, kw_only=True)
class MiningOptions:
    """Options of a mining run.

    Attributes:
        conditions: Conditions on negatives, without ``num_hard`` and ``num_semi_hard``.
        exclude_same_document: Exclude the passages of the positives' documents, if documents are known.
        query_prompt: Text to put before each query. Default: the model's prompt.
        passage_prompt: Text to put before each passage. Default: the model's prompt.
        batch_size: Number of texts to embed at a time.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is out of range.
    """

    conditions: MiningConditions = field(default_factory=MiningConditions)
    exclude_same_document: bool = True
    query_prompt: str | None = None
    passage_prompt: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        as_count("batch_size", self.batch_size, "of at least 1", least=1)
        for name in ("num_hard", "num_semi_hard"):
            if number := getattr(self.conditions, name):
                raise ArgumentError(f"{CONDITIONS}.{name}", "0, because a row has one kind of negatives", number)

    def restrictions(self) -> dict[str, int | float]:
        """The conditions that exclude candidates and differ from their defaults, except exclusion by document."""
        values = {name: getattr(self.conditions, name) for name in _RESTRICTIONS}
        return {name: value for name, value in values.items() if value != getattr(MiningConditions, name)}

    def manifest(self) -> dict[str, dict[str, Any]]:
        """The options as JSON values: those that affect the embeddings, and those that affect only the negatives."""
        conditions = asdict(self.conditions) | {"strategy": self.conditions.strategy.value}
        return {
            "embedding": {
                "query_prompt": self.query_prompt,
                "passage_prompt": self.passage_prompt,
                "batch_size": self.batch_size,
            },
            CONDITIONS: conditions | {"exclude_same_document": self.exclude_same_document},
        }
