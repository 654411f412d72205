"""Losses against values worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from relkt.losses import Reduction, contrastive_loss, transfer_loss, triplet_loss

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
WEIGHTS = {"query_query": 0.001, "passage_passage": 1.0, "query_passage": 0.01}


def rows(*vectors: list[float]) -> Tensor:
    return torch.tensor(vectors)


# distance(east, north) = 1, distance(east, [0.6, 0.8]) = 0.4
@pytest.mark.parametrize(
    ("positive", "negative", "margin", "expected"),
    [
        (EAST, NORTH, 0.25, 0.0),  # 0 - 1 + 0.25 < 0
        (EAST, [0.6, 0.8], 0.5, 0.1),  # 0 - 0.4 + 0.5
        ([0.6, 0.8], EAST, 0.25, 0.65),  # 0.4 - 0 + 0.25: a hard negative
        (NORTH, NORTH, 0.25, 0.25),  # equal distances: the margin
        (WEST, EAST, 0.25, 2.25),
    ],
)
def test_triplet_loss_of_one_triplet(
    positive: list[float], negative: list[float], margin: float, expected: float
) -> None:
    loss = triplet_loss(rows(EAST), rows(positive), rows(negative), margin)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_triplet_loss_sums_over_the_batch_by_default() -> None:
    anchor, positive, negative = rows(EAST, EAST), rows([0.6, 0.8], NORTH), rows(EAST, NORTH)
    assert triplet_loss(anchor, positive, negative, 0.25).item() == pytest.approx(0.65 + 0.25)
    mean = triplet_loss(anchor, positive, negative, 0.25, Reduction.MEAN)
    assert mean.item() == pytest.approx((0.65 + 0.25) / 2)


def test_triplet_loss_does_not_depend_on_norms() -> None:
    loss = triplet_loss(rows([5.0, 0.0]), rows([0.06, 0.08]), rows([2.0, 0.0]), 0.25)
    assert loss.item() == pytest.approx(0.65)


def test_triplet_loss_pulls_the_anchor_towards_the_positive() -> None:
    anchor = rows(EAST).requires_grad_()
    triplet_loss(anchor, rows(NORTH), rows([0.8, -0.6]), 0.25).backward()
    assert anchor.grad is not None
    # d/da of (cos(a, n) - cos(a, p)) at a = east: the part of n - p orthogonal to a.
    assert anchor.grad.tolist()[0] == pytest.approx([0.0, -1.6])


def test_gradient_is_zero_for_a_triplet_beyond_the_margin() -> None:
    anchor = rows(EAST).requires_grad_()
    triplet_loss(anchor, rows(EAST), rows(WEST), 0.25).backward()
    assert anchor.grad is not None
    assert anchor.grad.abs().sum() == 0


def test_transfer_loss_averages_over_the_dimension_as_keras_does() -> None:
    # |north - east|^2 = 2, over 2 dimensions: 1. All other terms are 0.
    loss = transfer_loss(
        rows(NORTH), rows(EAST), rows(EAST), rows(EAST), query_query=0.5, passage_passage=1.0, query_passage=0.0
    )
    assert loss.item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("student_query", "student_passage", "expected"),
    [
        (EAST, NORTH, 0.0 * 2 + 0.0 * 3 + 1.0 * 5),  # each on its own target
        (NORTH, NORTH, 1.0 * 2 + 0.0 * 3 + 0.0 * 5),
        (EAST, EAST, 0.0 * 2 + 1.0 * 3 + 1.0 * 5),
        (WEST, NORTH, 2.0 * 2 + 0.0 * 3 + 1.0 * 5),
    ],
)
def test_transfer_loss_has_three_weighted_terms(
    student_query: list[float], student_passage: list[float], expected: float
) -> None:
    loss = transfer_loss(
        rows(student_query),
        rows(student_passage),
        rows(EAST),
        rows(NORTH),
        query_query=2.0,
        passage_passage=3.0,
        query_passage=5.0,
        scale=10.0,
    )
    assert loss.item() == pytest.approx(10 * expected)


def test_transfer_loss_of_a_batch() -> None:
    batch = (rows(EAST, WEST), rows(NORTH, NORTH), rows(EAST, EAST), rows(NORTH, NORTH))
    weights = {"query_query": 1.0, "passage_passage": 1.0, "query_passage": 0.0}
    assert transfer_loss(*batch, **weights).item() == pytest.approx(1.0)
    assert transfer_loss(*batch, **weights, reduction=Reduction.SUM).item() == pytest.approx(2.0)


def test_transfer_loss_is_zero_where_student_and_teacher_agree_and_questions_lie_on_passages() -> None:
    same = rows([0.3, 0.4], [1.0, -2.0])
    assert transfer_loss(same, same, 2 * same, 3 * same, **WEIGHTS, scale=1000.0).item() == pytest.approx(0.0, abs=1e-9)


def test_a_zero_vector_gives_a_finite_gradient() -> None:
    anchor = torch.zeros(1, 2, requires_grad=True)
    triplet_loss(anchor, rows(EAST), rows(NORTH), 0.25).backward()
    assert anchor.grad is not None
    assert torch.isfinite(anchor.grad).all()


@pytest.mark.parametrize("margin", [0.0, -0.1, 2.5, math.nan])
def test_margin_out_of_range(margin: float) -> None:
    with pytest.raises(ValueError, match=r"margin: expected a number in \(0, 2\]"):
        triplet_loss(rows(EAST), rows(EAST), rows(EAST), margin)


def test_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match=r"negative: expected the shape of anchor, \(1, 2\), got \(2, 2\)"):
        triplet_loss(rows(EAST), rows(EAST), rows(EAST, EAST), 0.1)
    with pytest.raises(ValueError, match=r"anchor: expected a non-empty matrix \(b, d\), got the shape \(2,\)"):
        triplet_loss(torch.ones(2), torch.ones(2), torch.ones(2), 0.1)


def test_negative_weight() -> None:
    with pytest.raises(ValueError, match="query_query: expected a number of at least 0, got -1"):
        transfer_loss(*[rows(EAST)] * 4, query_query=-1.0, passage_passage=1.0, query_passage=1.0)


def test_importing_losses_and_configuration_loads_no_torch() -> None:
    code = "import sys, relkt.losses, relkt.training; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Cosines of east with east, north and west: 1, 0 and -1; at temperature 0.5: 2, 0 and -2.
@pytest.mark.parametrize(
    ("positive", "excluded", "expected"),
    [
        (0, [False, False, False], math.log(1 + math.exp(-2) + math.exp(-4))),
        (1, [False, False, False], math.log(math.exp(2) + 1 + math.exp(-2))),
        (0, [False, True, False], math.log(1 + math.exp(-4))),
        (2, [True, False, False], math.log(math.exp(2) + 1)),
        (2, [True, True, False], 0.0),
    ],
)
def test_contrastive_loss_of_one_question(positive: int, excluded: list[bool], expected: float) -> None:
    passages = rows([3.0, 0.0], NORTH, WEST)
    loss = contrastive_loss(
        rows([0.2, 0.0]), passages, torch.tensor([positive]), temperature=0.5, excluded=torch.tensor([excluded])
    )
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_contrastive_loss_averages_by_default() -> None:
    passages, positive = rows(EAST, NORTH), torch.tensor([0, 0])
    one, other = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    loss = contrastive_loss(rows(EAST, NORTH), passages, positive, temperature=1.0)
    assert loss.item() == pytest.approx((one + other) / 2)
    loss = contrastive_loss(rows(EAST, NORTH), passages, positive, temperature=1.0, reduction=Reduction.SUM)
    assert loss.item() == pytest.approx(one + other)


def test_an_excluded_passage_has_no_gradient() -> None:
    passages = rows([0.6, 0.8], NORTH, WEST).requires_grad_()
    excluded = torch.tensor([[False, True, False]])
    contrastive_loss(rows(EAST), passages, torch.tensor([0]), temperature=1.0, excluded=excluded).backward()
    assert passages.grad is not None
    assert passages.grad[1].tolist() == [0.0, 0.0]
    assert passages.grad[0, 0] < 0  # towards the question


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": torch.ones(2)}, r"query: expected a non-empty matrix \(rows, d\), got the shape \(2,\)"),
        ({"passage": torch.ones(3, 1)}, "passage: expected 2 columns as in query, got 1"),
        ({"positive": torch.tensor([0])}, r"positive: expected the shape \(2,\), got \(1,\)"),
        ({"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        ({"excluded": torch.zeros(3, 2, dtype=torch.bool)}, r"excluded: expected the shape \(2, 3\), got \(3, 2\)"),
        ({"excluded": torch.eye(2, 3, dtype=torch.bool)}, "excluded: expected no question's positive"),
    ],
)
def test_contrastive_loss_refuses_invalid_arguments(changes: dict[str, object], message: str) -> None:
    values = {"query": torch.eye(2), "passage": torch.ones(3, 2), "positive": torch.tensor([0, 2]), "temperature": 0.1}
    with pytest.raises(ValueError, match=message):
        contrastive_loss(**(values | changes))  # type: ignore[arg-type]
