"""Mining equals its definition on the full matrix of scores."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from negatives_cases import REASONS, ROWS, assert_same

import relkt
from relkt._relkt import available_kernels
from relkt.mining.sampling import draw


def score_matrix(queries, passages):
    hits = relkt.search(queries, passages, len(passages))
    scores = np.empty(hits.scores.shape, dtype=np.float32)
    np.put_along_axis(scores, hits.indices, hits.scores, axis=1)
    return scores


# Long: every condition in order, in one place to compare with.
def definition(
    queries,
    passages,
    positives,
    *,
    num_negatives=0,
    strategy="top",
    range_min=0,
    range_max=None,
    min_score=None,
    max_score=None,
    absolute_margin=None,
    relative_margin=None,
    num_hard=0,
    num_semi_hard=0,
    margin=0.1,
    groups=None,
    exclude=None,
    max_positive_similarity=None,
    seed=0,
):
    """Every condition in order, on Python lists; a dict of results for each query."""
    matrix, among = score_matrix(queries, passages), score_matrix(passages, passages)
    outcomes = []
    for query in range(len(queries)):
        own = set(positives[query])
        score = [float(s) for s in matrix[query]]
        lowest = min((score[row] for row in own), default=math.nan)
        banned = set(exclude[query]) if exclude is not None else set()
        if groups is not None:
            banned |= {row for row in range(len(passages)) if groups[row] in {groups[p] for p in own}}
        banned -= own
        near = {
            row
            for row in range(len(passages))
            if max_positive_similarity is not None and any(among[p][row] > max_positive_similarity for p in own)
        }
        order = sorted(set(range(len(passages))) - own - banned, key=lambda row: (-score[row], row))
        low = -math.inf if min_score is None else min_score
        high = math.inf if max_score is None else max_score
        limits = [high]
        if absolute_margin is not None:
            limits.append(lowest - absolute_margin)
        if relative_margin is not None:
            limits.append(lowest - abs(lowest) * relative_margin)
        limit = min(limits)
        valid = [row for row in order if low <= score[row] <= limit]
        last = range_min + num_negatives
        if strategy == "random":
            last = range_max if range_max is not None else range_min + 10 * num_negatives
        ranked = [row for row in valid if row not in near][:last]
        full = 0 < len(ranked) == min(last, len(passages))
        near_before = [row for row in valid if row in near and (not full or valid.index(row) < valid.index(ranked[-1]))]
        taken = ranked[range_min:]
        if strategy == "random":
            columns = draw(np.array([len(taken)]), max(len(taken), 1), num_negatives, seed=seed, first_query=query)[0]
            taken = [taken[column] for column in columns if column >= 0]
        taken = taken[:num_negatives] if num_negatives else []
        free = [row for row in order if row not in near and low <= score[row] <= high]
        outcomes.append(
            {
                "indices": taken,
                "hard_indices": [row for row in free if score[row] > lowest][:num_hard],
                "semi_hard_indices": [row for row in free if lowest - margin < score[row] < lowest][:num_semi_hard],
                "positive_scores": lowest,
                "score": score,
                "excluded": len(banned) if num_negatives else 0,
                "too_similar": sum(score[row] > limit for row in set(range(len(passages))) - own)
                if num_negatives
                else 0,
                "near_positive": len(near_before) if num_negatives else 0,
                "range_min": min(range_min, len(ranked)) if num_negatives else 0,
            }
        )
    return outcomes


def check(mined, outcomes):
    for query, expected in enumerate(outcomes):
        for name in ("indices", "hard_indices", "semi_hard_indices"):
            rows = getattr(mined, name)[query]
            wanted = expected[name] + [-1] * (len(rows) - len(expected[name]))
            assert rows.tolist() == wanted, (query, name)
            scores = getattr(mined, name.replace("indices", "scores"))[query]
            for row, score in zip(rows, scores, strict=True):
                assert np.isnan(score) if row == -1 else score == np.float32(expected["score"][row])
        assert mined.counts[query] == len(expected["indices"])
        assert np.array_equal(mined.positive_scores[query], np.float32(expected["positive_scores"]), equal_nan=True)
        for reason in REASONS:
            assert getattr(mined.skipped, reason)[query] == expected[reason], (query, reason)


@st.composite
def conditions(draw_from, rows):
    """Options of a call; most are omitted."""
    maybe = lambda values: draw_from(st.one_of(st.none(), st.none(), st.sampled_from(values)))  # noqa: E731
    count = st.integers(0, min(4, rows))
    options = {
        "num_negatives": draw_from(count),
        "num_hard": draw_from(count),
        "num_semi_hard": draw_from(count),
        "margin": draw_from(st.sampled_from([0.0, 0.05, 0.3, 2.0])),
        "strategy": draw_from(st.sampled_from(["top", "random"])),
        "range_min": draw_from(st.sampled_from([0, 0, 1, 3, 100])),
        "min_score": maybe([-0.5, 0.0, 0.4]),
        "max_score": maybe([0.5, 0.9]),
        "absolute_margin": maybe([0.0, 0.1, -0.2]),
        "relative_margin": maybe([0.0, 0.05, 0.5]),
        "max_positive_similarity": maybe([0.5, 0.9]),
        "seed": draw_from(st.integers(0, 9)),
    }
    if sum(options[name] for name in ("num_negatives", "num_hard", "num_semi_hard")) == 0:
        options["num_negatives"] = 1
    if options["num_semi_hard"] == 0:
        del options["margin"]
    if options["num_negatives"] == 0:
        for name in ("strategy", "range_min", "absolute_margin", "relative_margin"):
            del options[name]
    elif draw_from(st.booleans()):
        options["range_max"] = options["range_min"] + options["num_negatives"] + draw_from(st.integers(0, 6))
    return {name: value for name, value in options.items() if value is not None}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 60), st.data())
def test_equals_the_definition(seed, queries, rows, data):
    rng = np.random.default_rng(seed)
    # Whole numbers tie, reals do not.
    make = rng.standard_normal if data.draw(st.booleans()) else lambda shape: rng.integers(1, 4, shape)
    dtype = data.draw(st.sampled_from([np.float32, np.float16]))
    q, p = make((queries, 4)).astype(dtype), make((rows, 4)).astype(dtype)
    positives = [rng.integers(0, rows, rng.integers(1, 4)).tolist() for _ in range(queries)]
    groups = rng.integers(-3, 9, rows) if data.draw(st.booleans()) else None
    exclude = [rng.integers(0, rows, rng.integers(0, 5)).tolist() for _ in range(queries)]
    exclude = exclude if data.draw(st.booleans()) else None
    options = data.draw(conditions(rows))
    if not (options["num_hard"] or options["num_semi_hard"] or options.keys() & {"absolute_margin", "relative_margin"}):
        positives[0] = []
    block_size = data.draw(st.sampled_from([1, 7, 4096]))
    mined = relkt.mine(q, p, positives, groups=groups, exclude=exclude, block_size=block_size, **options)
    check(mined, definition(q, p, positives, groups=groups, exclude=exclude, **options))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"num_negatives": 50},
        {"num_negatives": 5, "range_min": 10, "range_max": 100, "strategy": "random"},
        {"num_negatives": 60, "relative_margin": 0.05},
        {"num_negatives": 40, "num_hard": 40, "num_semi_hard": 40, "margin": 0.4, "max_positive_similarity": 0.8},
    ],
)
def test_long_lists_of_many_passages(options):
    rng = np.random.default_rng(11)
    p = rng.standard_normal((4_000, 16)).astype(np.float32)
    q = (p[:60] + 0.7 * rng.standard_normal((60, 16))).astype(np.float32)
    positives = [[i, i + 60] for i in range(60)]
    mined = relkt.mine(q, p, positives, groups=np.arange(4_000) // 5, **options)
    check(mined, definition(q, p, positives, groups=np.arange(4_000) // 5, **options))


def test_no_query_runs_out_where_fetching_first_does():
    rng = np.random.default_rng(5)
    p = rng.standard_normal((3_000, 8)).astype(np.float32)
    q = rng.standard_normal((50, 8)).astype(np.float32)
    positives = rng.integers(0, 3_000, 50)
    mined = relkt.mine(q, p, positives, num_negatives=5, absolute_margin=0.1)
    scores = score_matrix(q, p)
    valid = (scores <= scores[np.arange(50), positives][:, None].astype(np.float64) - 0.1).sum(axis=1)
    assert np.array_equal(mined.counts, np.minimum(valid, 5))
    fetched = relkt.search(q, p, 60).scores <= mined.positive_scores[:, None].astype(np.float64) - 0.1
    assert (fetched.sum(axis=1) < 5).sum() > 20, "fetching 60 first does not serve many queries here"
    assert (mined.counts == 5).sum() > 40


def test_without_positives():
    rng = np.random.default_rng(6)
    q, p = (rng.standard_normal((n, 4)).astype(np.float32) for n in (3, 20))
    mined = relkt.mine(q, p, num_negatives=4, exclude=[[0], [], [1, 2]])
    hits = relkt.search(q, p, 20)
    for query, banned in enumerate([{0}, set(), {1, 2}]):
        assert mined.indices[query].tolist() == [row for row in hits.indices[query] if row not in banned][:4]
    assert np.isnan(mined.positive_scores).all()
    assert relkt.mine(q, p).indices.shape == (3, 3), "three negatives by default"
    assert relkt.mine(q, p, [0, 1, 2], num_hard=1).indices.shape == (3, 0)
    few = relkt.mine(q, p[:2], [0, 1, 0], num_negatives=5, num_hard=4, num_semi_hard=3, margin=2)
    assert [few.indices.shape, few.hard_indices.shape, few.semi_hard_indices.shape] == [(3, 5), (3, 4), (3, 3)]
    assert few.counts.tolist() == [1, 1, 1]


def test_an_index_gives_the_results_of_its_rows(tmp_path):
    rng = np.random.default_rng(7)
    q, p = (rng.standard_normal((n, 24)).astype(np.float32) for n in (9, 300))
    expected = relkt.mine(q, p, np.arange(9), num_negatives=5, absolute_margin=0.05)
    index = relkt.Index(p, ids=[f"p{row}" for row in range(300)])
    index.save(tmp_path / "index.relkt")
    for passages in (index, relkt.Index.open(tmp_path / "index.relkt")):
        assert_same(relkt.mine(q, passages, np.arange(9), num_negatives=5, absolute_margin=0.05), expected)


def test_tensors_give_the_results_of_arrays():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    q, p = (rng.standard_normal((n, 24)).astype(np.float32) for n in (9, 300))
    expected = relkt.mine(q, p, np.arange(9))
    assert_same(relkt.mine(torch.from_numpy(q).requires_grad_(), torch.from_numpy(p), np.arange(9)), expected)
    assert_same(relkt.mine(q, torch.from_numpy(p), np.arange(9)), expected)
    with pytest.raises(TypeError, match=r"queries: expected dtype float32 or float16, got torch\.bfloat16"):
        relkt.mine(torch.from_numpy(q).bfloat16(), p)
    with pytest.raises(TypeError, match=r"passages: expected 2 dimensions \(rows, columns\), got shape \(24,\)"):
        relkt.mine(q, torch.ones(24))


def test_arguments_are_not_changed():
    rng = np.random.default_rng(9)
    q, p = (rng.standard_normal((n, 8)).astype(np.float32) for n in (5, 50))
    before = q.copy(), p.copy()
    expected = relkt.mine(q, p, np.arange(5))
    assert np.array_equal(q, before[0])
    assert np.array_equal(p, before[1])
    read_only = p.copy()
    read_only.flags.writeable = False
    wide = np.zeros((50, 16), dtype=np.float32)
    wide[:, ::2] = p
    for passages in (read_only, np.asfortranarray(p), wide[:, ::2]):
        assert_same(relkt.mine(q, passages, np.arange(5)), expected)


def test_kernels_and_threads_and_blocks_agree(monkeypatch):
    rng = np.random.default_rng(4)
    q, p = (rng.standard_normal((n, 40)).astype(np.float32) for n in (100, 20_000))
    options = {"num_negatives": 40, "num_hard": 7, "num_semi_hard": 7, "margin": 0.3, "max_score": 0.5}
    options |= {"groups": np.arange(20_000) // 5, "strategy": "random", "seed": 3}
    reference = relkt.mine(q, p, np.arange(100), threads=1, **options)
    for kernel in available_kernels():
        monkeypatch.setenv("RELKT_KERNEL", kernel)
        for threads, block_size in ((1, 33), (2, 4096)):
            assert_same(relkt.mine(q, p, np.arange(100), threads=threads, block_size=block_size, **options), reference)


def test_progress_counts_all_queries():
    rng = np.random.default_rng(4)
    q, p = (rng.standard_normal((n, 8)).astype(np.float32) for n in (10, 30))
    seen = []
    relkt.mine(q, p, block_size=4, progress=seen.append)
    assert seen == [4, 4, 2]


def test_results_can_be_excluded():
    first = relkt.mine(ROWS, ROWS, range(4), num_negatives=2, max_score=-0.1)
    assert (first.indices == -1).any()
    again = relkt.mine(ROWS, ROWS, range(4), num_negatives=4, exclude=first.indices)
    for query in range(4):
        assert not set(again.indices[query]) & set(first.indices[query]) - {-1}
        assert again.skipped.excluded[query] == first.counts[query]
