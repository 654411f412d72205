"""The inputs that all stages of a run share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from sentence_transformers import SentenceTransformer

from relkt.data.parallel import ParallelText
from relkt.data.types import Level, RetrievalData, Split, sort_languages
from relkt.training.config import Stage, TrainConfig
from relkt.training.examples import TrainingSet
from relkt.training.model.dev_evaluator import DevEvaluator


@dataclass(frozen=True)
class Prepared:
    """Inputs of a run. :func:`relkt.training.preflight.prepare` makes and checks them once per run.

    Args:
        data: The data set, for evaluation on the test questions. Stages use :attr:`training_data`.
        config: Configuration of the run.
        languages: The training languages. Unlike the languages in the configuration, they are never empty.
        teacher: Another model as the teacher of the distillation and transfer stages. If None, the student at the start
            of the stage is the teacher.
        parallel: Parallel text for the vocabulary and distillation stages, or None.
    """

    data: RetrievalData
    config: TrainConfig
    languages: tuple[str, ...]
    teacher: SentenceTransformer | None = None
    parallel: ParallelText | None = None
    _training_sets: dict[tuple[tuple[str, ...], Level], TrainingSet] = field(default_factory=dict, repr=False)

    @cached_property
    def training_data(self) -> RetrievalData:
        """The part of the data set that the stages see, without the documents that are held out for dev and test."""
        return self.data.seen_by(Split.TRAIN)

    @cached_property
    def has_questions(self) -> bool:
        """True if there are training questions; False in a run on parallel text alone."""
        return any(query.split is Split.TRAIN for query in self.training_data.queries)

    @cached_property
    def evaluator(self) -> DevEvaluator:
        """The dev evaluation; if documents are held out, its candidates come from train and dev.

        Raises:
            ValueError: If a language has no query in the dev split.
        """
        return DevEvaluator(
            self.data.seen_by(Split.DEV),
            languages=self.languages,
            level=self.config.level,
            batch_size=self.config.encode_batch_size,
            together=True,
        )

    def training_set(self, languages: tuple[str, ...] | None = None, level: Level | None = None) -> TrainingSet:
        """Training questions in some languages with candidates of a level; cached.

        Args:
            languages: Default: the training languages.
            level: Default: the level of the configuration.

        Raises:
            ValueError: If a language has no training question.
        """
        key = languages or self.languages, level or self.config.level
        if key not in self._training_sets:
            self._training_sets[key] = TrainingSet(self.training_data, languages=key[0], level=key[1])
        return self._training_sets[key]

    def languages_of(self, stage: Stage) -> tuple[str, ...]:
        """The languages of a stage's questions: the training languages, and English if the stage includes it."""
        config = self.config
        with_english = {
            Stage.CONTRASTIVE: config.contrastive.include_english,
            Stage.DISTILLATION: True,
            Stage.TRANSFER: config.transfer.include_english,
        }
        if with_english.get(stage, False) and "en" in self.training_data.select(split=Split.TRAIN).languages:
            return sort_languages({*self.languages, "en"})
        return self.languages

    @property
    def vocabulary_languages(self) -> tuple[str, ...]:
        """The languages for which the vocabulary stage learns pieces."""
        named = self.config.vocabulary.languages or (*self.languages, *self.config.parallel_languages)
        return sort_languages({language for language in named if language != "en"})
