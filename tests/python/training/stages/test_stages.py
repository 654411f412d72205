"""What each stage trains on, and that it learns it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import Level, RetrievalData, Split
from relkt.encoders import encode_passages, encode_queries
from relkt.losses import Reduction, triplet_loss
from relkt.training import Progress, Stage, TrainConfig, TransferConfig
from relkt.training.examples import TrainingSet
from relkt.training.loop.dev_evaluator import DevEvaluator
from relkt.training.loop.stage_runner import run_stage
from relkt.training.records.run_directory import RunDirectory
from relkt.training.stages import Contrastive, Teacher, Transfer, Warmup, make_stage
from relkt.training.stages.distillation import Distillation

LANGUAGES = ("en", "de", "th")


def examples_of(data: RetrievalData, level: Level = Level.PASSAGE) -> TrainingSet:
    return TrainingSet(data, languages=LANGUAGES, level=level)


class Recorder(Progress):
    """Losses step by step, and the weights after the last step, whether or not dev makes the stage keep them."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self.values: list[float] = []
        self.planned: list[int] = []
        self.weights: dict[str, torch.Tensor] = {}

    def step(self, loss: float) -> None:
        self.values.append(loss)
        self.weights = {k: v.detach().clone() for k, v in self._model.state_dict().items()}

    def steps_planned(self, total_steps: int) -> None:
        self.planned.append(total_steps)


def run(
    stage: Stage,
    table: dict[str, object],
    model: SentenceTransformer,
    data: RetrievalData,
    folder: Path,
    **settings: object,
) -> Recorder:
    """Run one stage by itself with a stage table, and return what was recorded."""
    common = {"patience": 0, "evaluations_per_epoch": 1, "halve_lr_every": 0}
    config = TrainConfig.from_dict({"stages": [stage.value], **settings, stage.value: common | table})
    directory = RunDirectory.create(folder, config, {})
    progress = Recorder(model)
    evaluator = DevEvaluator(data, languages=LANGUAGES, level=config.level)
    run_stage(stage, model, data, examples_of(data, config.level), evaluator, directory, progress, 0)
    return progress


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        (Stage.WARMUP, {"batch_size": 72, "epochs": 7}),
        (Stage.TEACHER, {"batch_size": 1000, "epochs": 20, "margin": 1.0}),  # mined anew for every step
        (Stage.CONTRASTIVE, {"batch_size": 4, "epochs": 5, "document_weight": 0.5}),
        (Stage.TRANSFER, {"batch_size": 36, "epochs": 10, "query_query": 1.0}),
    ],
)
def test_a_stage_lowers_its_loss_in_20_steps(
    stage: Stage, table: dict[str, object], tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    plan = make_stage(
        stage, tiny_model, examples_of(tiny_data), TrainConfig.from_dict({stage.value: table}), Progress()
    )
    piece = plan.piece(plan.rows(0)[: plan.rows_per_step])

    def loss() -> float:
        tiny_model.eval()
        with torch.no_grad():
            features = [tiny_model.preprocess(texts) for texts in (piece.queries, piece.passages)]
            return float(plan.loss(features, piece.labels))

    before = loss()
    progress = run(stage, table | {"learning_rate": 3e-3}, tiny_model, tiny_data, tmp_path)
    assert 20 <= len(progress.values) <= 21
    tiny_model.load_state_dict(progress.weights)
    assert loss() < 0.8 * before


def test_warmup_turns_to_random_negatives(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    config = TrainConfig.from_dict({"warmup": {"bm25_epochs": 2}})
    warmup = Warmup(tiny_model, examples_of(tiny_data), config)
    epochs = [warmup.rows(epoch) for epoch in range(4)]
    assert all(rows.shape == (warmup.most_rows, 3) for rows in epochs)
    assert np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])
    assert not np.array_equal(epochs[2], epochs[3])
    assert np.array_equal(epochs[0][:, :2], epochs[3][:, :2])


def test_warmup_without_any_possible_negative(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    one_document = RetrievalData(
        "one",
        tuple(p for p in tiny_data.passages if p.document == "d0"),
        tuple(q for q in tiny_data.queries if q.id.startswith("q0")),
        {k: v for k, v in tiny_data.qrels.items() if k.startswith("q0")},
    )
    with pytest.raises(ValueError, match="expected candidates of other documents as negatives at level passage"):
        Warmup(tiny_model, examples_of(one_document), TrainConfig())


@pytest.mark.parametrize("level", [Level.PASSAGE, Level.DOCUMENT])
def test_mined_triplets_are_hard_or_semi_hard_and_allowed(
    level: Level, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    config = TrainConfig.from_dict(
        {"level": level.value, "teacher": {"num_hard": 2, "num_semi_hard": 3, "margin": 0.05}}
    )
    examples = examples_of(tiny_data, level)
    rows = Teacher(tiny_model, examples, config, Progress()).rows(epoch=0)
    queries = encode_queries(tiny_model, [q.text for q in examples.queries])
    passages = encode_passages(tiny_model, list(examples.candidates.texts))
    scores = queries.astype(np.float64) @ passages.T.astype(np.float64)

    expected = []
    for query, positive in examples.pairs.tolist():
        s_p = scores[query, positive]
        allowed = [n for n in range(len(passages)) if n not in examples.blocked(query)]
        best_first = sorted(allowed, key=lambda n: -scores[query, n])
        hard = [n for n in best_first if scores[query, n] > s_p][:2]
        semi = [n for n in best_first if s_p - 0.05 < scores[query, n] < s_p][:3]
        expected += [(query, positive, n) for n in hard + semi]
    assert {tuple(row) for row in rows.tolist()} == set(expected)
    assert len(rows) == len(expected) > 0


def test_the_teacher_mines_with_the_model_of_the_moment(
    tiny_model: SentenceTransformer, model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData
) -> None:
    teacher = Teacher(tiny_model, examples_of(tiny_data), TrainConfig(), Progress())
    before = teacher.rows(epoch=0)
    tiny_model.load_state_dict(model_of(seed=1).state_dict())
    assert not np.array_equal(before, teacher.rows(epoch=1))


def test_the_teacher_ends_when_nothing_is_left_to_mine(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined = Teacher.rows
    monkeypatch.setattr(Teacher, "rows", lambda self, epoch: mined(self, epoch)[: 0 if epoch == 2 else 32])
    table = {"epochs": 9, "learning_rate": 1e-3}
    losses = run(Stage.TEACHER, table, tiny_model, tiny_data, tmp_path)
    assert len(losses.values) == 4  # two epochs of two batches
    assert losses.planned[0] > 4
    assert (tmp_path / "stages" / "teacher" / "model" / "modules.json").is_file()


def test_a_teacher_with_nothing_to_mine_at_all_keeps_its_start(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    monkeypatch.setattr(Teacher, "rows", lambda *_: np.empty((0, 3), dtype=np.int64))
    assert run(Stage.TEACHER, {}, tiny_model, tiny_data, tmp_path).values == []
    assert all(torch.equal(v, start[k]) for k, v in tiny_model.state_dict().items())


@pytest.mark.parametrize("parallel", [True, False])
def test_transfer_targets_are_the_teachers_english_questions(
    parallel: bool, tiny_model: SentenceTransformer, data_of: Callable[..., RetrievalData]
) -> None:
    data = data_of(parallel=parallel)
    examples = examples_of(data)
    transfer = Transfer(tiny_model, examples, TrainConfig(), Progress())
    piece = transfer.piece(transfer.rows(0)[[5, 1, 4, 0]])
    questions = [examples.queries[q] for q in (5, 1, 4, 0)]
    assert piece.queries == [q.text for q in questions]

    english = {q.parallel: q.text for q in data.queries if q.language == "en"}
    targets = [english[q.parallel] if parallel else q.text for q in questions]
    loss = transfer.loss
    got = loss.teacher_queries[piece.labels[:, 1]].numpy()
    assert np.allclose(got, encode_queries(tiny_model, targets), atol=1e-6)

    positives = [examples.candidates.texts[examples.positives(q)[0]] for q in (5, 1, 4, 0)]
    assert [piece.passages[row] for row in piece.labels[:, 0].tolist()] == positives
    got = loss.teacher_passages[piece.labels[:, 2]].numpy()
    assert np.allclose(got, encode_passages(tiny_model, positives), atol=1e-6)


def test_the_teacher_of_the_transfer_stays_as_it_was(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    transfer = Transfer(tiny_model, examples_of(tiny_data), TrainConfig(), Progress())
    before = transfer.loss.teacher_queries.clone()
    with torch.no_grad():
        for weights in tiny_model.parameters():
            weights.mul_(1.5)
    assert torch.equal(transfer.loss.teacher_queries, before)
    assert not transfer.loss.teacher_queries.requires_grad


def test_passages_of_a_batch_are_encoded_once(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    warmup = Warmup(tiny_model, examples_of(tiny_data), TrainConfig())
    rows = warmup.rows(0)[:9]
    piece = warmup.piece(rows)
    assert len(set(piece.passages)) == len(piece.passages) < 18
    texts = [[piece.passages[row] for row in pair] for pair in piece.labels.tolist()]
    candidates = examples_of(tiny_data).candidates.texts
    assert texts == [[candidates[p], candidates[n]] for _, p, n in rows.tolist()]


@pytest.mark.parametrize("reduction", list(Reduction))
def test_the_loss_module_calls_the_pure_function(
    reduction: Reduction, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    config = TrainConfig.from_dict({"warmup": {"reduction": reduction.value, "margin": 0.5}})
    warmup = Warmup(tiny_model, examples_of(tiny_data), config)
    piece = warmup.piece(warmup.rows(0)[::7])
    tiny_model.eval()
    features = [tiny_model.preprocess(texts) for texts in (piece.queries, piece.passages)]
    with torch.no_grad():
        loss = warmup.loss(features, piece.labels)
    queries = torch.from_numpy(encode_queries(tiny_model, piece.queries))
    passages = torch.from_numpy(encode_passages(tiny_model, piece.passages))
    positive, negative = (passages[piece.labels[:, column]] for column in (0, 1))
    assert loss.item() == pytest.approx(triplet_loss(queries, positive, negative, 0.5, reduction).item(), rel=1e-5)


@pytest.mark.parametrize("stage", [Stage.WARMUP, Stage.TRANSFER])
@pytest.mark.parametrize("reduction", list(Reduction))
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(
    stage: Stage,
    reduction: Reduction,
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    tmp_path: Path,
) -> None:
    results = []
    for pieces in (1, 5):
        model = model_of(dropout=0.0)  # it would draw differently in one pass and in five
        table = {"epochs": 1, "batch_size": 48, "accumulation": pieces, "reduction": reduction.value}
        config = TrainConfig.from_dict({"stages": [stage.value], stage.value: table | {"learning_rate": 1e-3}})
        progress = Recorder(model)
        run_stage(
            stage,
            model,
            tiny_data,
            examples_of(tiny_data),
            DevEvaluator(tiny_data, languages=LANGUAGES, level=Level.PASSAGE),
            RunDirectory.create(tmp_path / str(pieces), config, {}),
            progress,
            0,
        )
        results.append((progress.values, progress.weights))
    (losses, whole), (piece_losses, pieced) = results
    assert piece_losses == pytest.approx(losses, rel=1e-3)
    assert all(torch.allclose(whole[name], pieced[name], atol=2e-4) for name in whole)


def test_make_stage_makes_each_stage(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    stages = [stage for stage in Stage if stage is not Stage.VOCABULARY]
    kinds = [make_stage(s, tiny_model, examples_of(tiny_data), TrainConfig(), Progress()) for s in stages]
    assert [type(plan) for plan in kinds] == [Warmup, Teacher, Contrastive, Distillation, Transfer]


@pytest.mark.parametrize("include_english", [True, False])
def test_transfer_may_include_english(
    include_english: bool, tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    config = TrainConfig(
        languages=("de",),
        stages=(Stage.TRANSFER,),
        transfer=TransferConfig(epochs=1, batch_size=1, include_english=include_english),
    )
    progress = Recorder(tiny_model)
    german = TrainingSet(tiny_data, languages=("de",), level=Level.PASSAGE)
    evaluator = DevEvaluator(tiny_data, languages=("de",), level=Level.PASSAGE)
    run_stage(
        Stage.TRANSFER, tiny_model, tiny_data, german, evaluator, RunDirectory.create(tmp_path, config, {}), progress, 0
    )
    num_train = sum(q.split is Split.TRAIN and q.language == "de" for q in tiny_data.queries)
    assert len(progress.values) == num_train * (2 if include_english else 1)
