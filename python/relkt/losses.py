"""Losses of the training stages: pure functions from embeddings to a scalar.

They use tensor methods only, so importing this module or the training configuration does not load torch.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Keeps the gradient finite when a zero vector is normalized. It is far below the norm of any real embedding.
_SMALLEST_NORM = 1e-12


class Reduction(str, Enum):
    """Reduction of the losses of a batch; sum and mean need different learning rates."""

    SUM = "sum"
    """The sum, as in the CL-ReLKT authors' triplet loss."""
    MEAN = "mean"
    """The mean, as in sentence-transformers."""


def triplet_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float, reduction: Reduction = Reduction.SUM
) -> Tensor:
    """Triplet loss on cosine distance.

    ``reduce_i max(0, distance(a_i, p_i) - distance(a_i, n_i) + margin)`` with ``distance = 1 - cosine``.

    Args:
        anchor: Embeddings of the questions, shape ``(b, d)``, floating point, of any norm above 0.
        positive: Embeddings of the passages that answer them, shape ``(b, d)``.
        negative: Embeddings of passages that do not answer them, shape ``(b, d)``.
        margin: Minimum difference between the distances of the negative and the positive, in (0, 2].
        reduction: Sum or mean over the batch.

    Returns:
        A scalar; 0 if every negative is at least ``margin`` farther away than its positive.

    Raises:
        ValueError: If the shapes differ or are not ``(b, d)``, or the margin is out of range.

    Reference:
        Limkonchotiwat et al., Findings of NAACL 2022, section 2.1; the authors' ``1_use_finetune_warmup.py`` and
        ``2_use_finetune_teacher.py``, which sum over the batch. They multiply rows of unit norm; here rows are
        normalized first, so that encoders without a normalizing last layer get the same loss.
    """
    _check_shapes(anchor=anchor, positive=positive, negative=negative)
    if not 0 < margin <= 2:
        raise ValueError(f"margin: expected a number in (0, 2], got {margin}")
    a, p, n = _unit(anchor), _unit(positive), _unit(negative)
    # distance(a, p) - distance(a, n): the ones cancel.
    losses = ((a * n).sum(dim=-1) - (a * p).sum(dim=-1) + margin).clamp(min=0)
    return _reduce(losses, reduction)


def transfer_loss(
    student_query: Tensor,
    student_passage: Tensor,
    teacher_query: Tensor,
    teacher_passage: Tensor,
    *,
    query_query: float,
    passage_passage: float,
    query_passage: float,
    scale: float = 1.0,
    reduction: Reduction = Reduction.MEAN,
) -> Tensor:
    """The three-term loss of the language knowledge transfer.

    ``scale * (query_query * MSE(student_query, teacher_query) + passage_passage * MSE(student_passage,
    teacher_passage) + query_passage * MSE(student_query, teacher_passage))``

    The MSE of a row is the mean of the squared differences over its *d* components, as in Keras; the squared Euclidean
    distance is *d* times as large. The reduction is over the rows of the batch.

    Args:
        student_query: The student's embeddings of the questions in any language, shape ``(b, d)``, any norm above 0.
        student_passage: The student's embeddings of the passages, shape ``(b, d)``.
        teacher_query: The frozen teacher's embeddings of the same questions in English, shape ``(b, d)``.
        teacher_passage: The frozen teacher's embeddings of the passages, shape ``(b, d)``.
        query_query: Weight of question against English question (XQuAD: 0.001).
        passage_passage: Weight of passage against passage (XQuAD: 1.0).
        query_passage: Weight of question against passage (XQuAD: 0.01).
        scale: Factor of all three terms (the authors: 1000).
        reduction: Mean or sum over the batch.

    Returns:
        A scalar of at least 0.

    Raises:
        ValueError: If the shapes differ or are not ``(b, d)``, or a weight is negative.

    Reference:
        Limkonchotiwat et al., Findings of NAACL 2022, section 2.2; the authors' ``3_use_finetune_distillation.py``.
        Rows are normalized first; the authors' encoder returns unit rows.
    """
    _check_shapes(
        student_query=student_query,
        student_passage=student_passage,
        teacher_query=teacher_query,
        teacher_passage=teacher_passage,
    )
    weights = {
        "query_query": query_query,
        "passage_passage": passage_passage,
        "query_passage": query_passage,
        "scale": scale,
    }
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name}: expected a number of at least 0, got {weight}")
    student_q, student_p = _unit(student_query), _unit(student_passage)
    teacher_q, teacher_p = _unit(teacher_query), _unit(teacher_passage)
    losses = (
        query_query * _squared_error(student_q, teacher_q)
        + passage_passage * _squared_error(student_p, teacher_p)
        + query_passage * _squared_error(student_q, teacher_p)
    )
    return scale * _reduce(losses, reduction)


def alignment_loss(student: Tensor, teacher: Tensor, reduction: Reduction = Reduction.MEAN) -> Tensor:
    """Squared distance of unit embeddings, ``reduce_i |u_i - v_i|**2 = reduce_i (2 - 2 cosine)``.

    Args:
        student: Embeddings, shape ``(b, d)``, floating point, of any norm above 0.
        teacher: Target embeddings, shape ``(b, d)``; they get no gradient.
        reduction: Mean or sum over the batch.

    Returns:
        A scalar in [0, 4] for the mean, in [0, 4 b] for the sum.

    Raises:
        ValueError: If the shapes differ or are not ``(b, d)``.

    Reference:
        The query-query term of the transfer in Limkonchotiwat et al., Findings of NAACL 2022, section 2.2, summed over
        the components instead of averaged.
    """
    _check_shapes(student=student, teacher=teacher)
    return _reduce((_unit(student) - _unit(teacher).detach()).square().sum(dim=-1), reduction)


def score_distillation_loss(
    student: Tensor, teacher: Tensor, passage: Tensor, *, temperature: float, reduction: Reduction = Reduction.MEAN
) -> Tensor:
    """Kullback-Leibler divergence KL(p || q) of the teacher's distribution p over passages and the student's q.

    ``reduce_i sum_j p_ij log(p_ij / q_ij)`` with ``p_i = softmax_j(cosine(teacher_i, passage_j) / t)`` and ``q_i``
    likewise for the student.

    Args:
        student: Embeddings, shape ``(b, d)``, floating point, of any norm above 0.
        teacher: Embeddings whose ranking the student learns, shape ``(b, d)``; they get no gradient.
        passage: The teacher's embeddings of the passages, shape ``(n, d)``; they get no gradient.
        temperature: Temperature that divides cosines, above 0.
        reduction: Mean or sum over the batch.

    Returns:
        A scalar of at least 0.

    Raises:
        ValueError: If the shapes do not fit, or the temperature is not above 0.

    Reference:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2, with the passages as classes.
    """
    _check_shapes(student=student, teacher=teacher)
    if passage.ndim != 2 or 0 in passage.shape or passage.shape[1] != student.shape[1]:
        raise ValueError(
            f"passage: expected a non-empty matrix (n, {student.shape[1]}), got the shape {tuple(passage.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")
    passages = _unit(passage).detach()
    wanted = (_unit(teacher).detach() @ passages.T / temperature).log_softmax(dim=1)
    found = (_unit(student) @ passages.T / temperature).log_softmax(dim=1)
    return _reduce((wanted.exp() * (wanted - found)).sum(dim=1), reduction)


def contrastive_loss(
    query: Tensor,
    passage: Tensor,
    positive: Tensor,
    *,
    temperature: float,
    excluded: Tensor | None = None,
    reduction: Reduction = Reduction.MEAN,
) -> Tensor:
    """InfoNCE over the passages of a batch.

    ``reduce_i -log(exp(s_i,p(i) / t) / sum_j exp(s_i,j / t))`` with the cosine ``s``, the temperature ``t``, and j over
    all passages that are not excluded for question i.

    Args:
        query: Embeddings of the questions, shape ``(b, d)``, floating point, of any norm above 0.
        passage: Embeddings of the passages, shape ``(u, d)``.
        positive: The row in ``passage`` of each question's positive, shape ``(b,)``, int64.
        temperature: Temperature that divides cosines, above 0.
        excluded: True for passages to leave out of a question's sum, shape ``(b, u)``, bool. Default: none.
        reduction: Mean or sum over the batch.

    Returns:
        A scalar of at least 0.

    Raises:
        ValueError: If the shapes do not fit, the temperature is not above 0, or a positive is excluded.

    Reference:
        van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, equation 4; with the
        other passages of a batch as negatives, Henderson et al., "Efficient Natural Language Response Suggestion for
        Smart Reply", 2017, section 4.2.
    """
    for name, rows in (("query", query), ("passage", passage)):
        if rows.ndim != 2 or 0 in rows.shape:
            raise ValueError(f"{name}: expected a non-empty matrix (rows, d), got the shape {tuple(rows.shape)}")
    num_queries, num_passages = query.shape[0], passage.shape[0]
    if query.shape[1] != passage.shape[1]:
        raise ValueError(f"passage: expected {query.shape[1]} columns as in query, got {passage.shape[1]}")
    if tuple(positive.shape) != (num_queries,):
        raise ValueError(f"positive: expected the shape ({num_queries},), got {tuple(positive.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")
    scores = _unit(query) @ _unit(passage).T / temperature  # (b, u)
    if excluded is not None:
        if tuple(excluded.shape) != (num_queries, num_passages):
            raise ValueError(
                f"excluded: expected the shape ({num_queries}, {num_passages}), got {tuple(excluded.shape)}"
            )
        if bool(excluded.gather(1, positive.unsqueeze(1)).any()):
            raise ValueError("excluded: expected no question's positive among its excluded passages, got one")
        scores = scores.masked_fill(excluded, -math.inf)
    losses = scores.logsumexp(dim=1) - scores.gather(1, positive.unsqueeze(1)).squeeze(1)
    return _reduce(losses, reduction)


def _unit(rows: Tensor) -> Tensor:
    norms: Tensor = rows.norm(dim=-1, keepdim=True)
    return rows / norms.clamp(min=_SMALLEST_NORM)


def _squared_error(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).square().mean(dim=-1)


def _reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    return losses.sum() if Reduction(reduction) is Reduction.SUM else losses.mean()


def _check_shapes(**rows: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in rows.items()}
    first_name, first = next(iter(shapes.items()))
    for name, shape in shapes.items():
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{name}: expected a non-empty matrix (b, d), got the shape {shape}")
        if shape != first:
            raise ValueError(f"{name}: expected the shape of {first_name}, {first}, got {shape}")
