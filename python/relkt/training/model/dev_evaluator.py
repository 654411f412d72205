"""The dev evaluation, as a sentence-transformers evaluator."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import SentenceEvaluator
from typing_extensions import override

from relkt import encoders
from relkt.data.types import Level, RetrievalData, Split
from relkt.evaluation import evaluate_embeddings
from relkt.training.distributed import encoding
from relkt.training.distributed.processes import from_rank_0
from relkt.training.model.precision import original_forward

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

METRICS = ("P@1", "MRR@10")
"""Metrics of each dev evaluation."""


class DevEvaluator(SentenceEvaluator):
    """P@1 (the primary metric) and MRR@10 of the development questions, per language and averaged over languages.

    Args:
        data: The data set; the queries of its dev split are used.
        languages: The languages evaluated and averaged.
        level: Level of the candidates: passages or documents.
        batch_size: Texts encoded at once.
        together: True if every process of a job calls the evaluator, so that they share the work. Default: the process
            that calls it does all of the work.

    Attributes:
        metrics: Result of the last call: metric name -> language -> value in [0, 1].
        p1: Result of the last call: the mean P@1 over the languages.

    Raises:
        ValueError: If a language has no query in the dev split.
    """

    def __init__(
        self,
        data: RetrievalData,
        *,
        languages: tuple[str, ...],
        level: Level,
        batch_size: int = 64,
        together: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        dev = data.select(split=Split.DEV)
        if missing := sorted(set(languages) - set(dev.languages)):
            raise ValueError(
                f"data: data set {data.name!r} has no query in {', '.join(missing)} in the dev split; expected at "
                "least one in each training language"
            )
        self._data = dev.select(languages=languages)
        self._languages = languages
        self._level = level
        self._batch_size = batch_size
        self._together = together
        self.primary_metric = "dev_p1"
        self.metrics: dict[str, dict[str, float]] = {}
        self.p1 = 0.0

    @override
    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Evaluate a model.

        Args:
            model: The model.
            output_path: Ignored; nothing is written.
            epoch: Ignored.
            steps: Ignored.

        Returns:
            ``{"dev_p1": mean, "P@1_en": ..., ...}``.
        """
        encoder, source = cast(SentenceTransformer, model), encoding if self._together else encoders
        candidates = self._data.candidates(self._level)
        with original_forward(model):
            queries = source.encode_queries(encoder, [q.text for q in self._data.queries], batch_size=self._batch_size)
            passages = source.encode_passages(encoder, list(candidates.texts), batch_size=self._batch_size)

        def measure() -> dict[str, dict[str, float]]:
            report = evaluate_embeddings(
                queries, passages, self._data, split=Split.DEV, level=self._level, num_resamples=0
            )
            return {
                metric: {language: report.value(metric, language) for language in self._languages} for metric in METRICS
            }

        self.metrics = from_rank_0(measure) if self._together else measure()
        self.p1 = sum(self.metrics["P@1"].values()) / len(self._languages)
        return {"dev_p1": self.p1} | {
            f"{metric}_{language}": value for metric, row in self.metrics.items() for language, value in row.items()
        }
