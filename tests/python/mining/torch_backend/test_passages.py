"""Mining on torch tensors equals its definition on the full matrix of scores, and the core."""

import contextlib
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_cases import cosines, csr, on_devices

import relkt
from relkt._relkt import Passages
from relkt.arrays import to_core
from relkt.mining.torch_backend import TorchPassages, chunks


def definition(queries, passages, lists, positives, exclude, groups, limit):
    """The result of `mine`, computed query by query from all scores."""
    # In float64, because NumPy would round a limit to float32 before comparing it with a float32 score.
    scores, mutual = cosines(queries, passages), cosines(passages, passages).astype(np.float64)
    results = []
    for num, above, below in lists:
        rows = np.full((len(queries), num), -1, dtype=np.int64)
        found = np.full((len(queries), num), np.nan, dtype=np.float32)
        too_similar, near_positive = np.zeros((2, len(queries)), dtype=np.int64)
        for query, own in enumerate(scores):
            mine = set(positives[query])
            banned = mine | set(exclude[query] if exclude is not None else ())
            if groups is not None:
                banned |= {row for row in range(len(passages)) if groups[row] in {groups[p] for p in mine}}
            too_similar[query] = sum(own[row] >= below[query] for row in range(len(passages)) if row not in mine)
            order = [row for row in np.argsort(-own, kind="stable") if row not in banned]
            order = [row for row in order if above[query] < own[row] < below[query]]
            near = [limit is not None and any(mutual[p, row] > limit for p in mine) for row in order]
            free = [at for at in range(len(order)) if not near[at]]
            end = free[num - 1] if num <= len(free) else len(order)
            near_positive[query] = sum(near[:end])
            best = [order[at] for at in free[:num]]
            rows[query, : len(best)] = best
            found[query, : len(best)] = own[best]
        results.append((rows, found, too_similar, near_positive))
    return results


@contextlib.contextmanager
def budgets(chunk, pairs):
    """Bytes for chunks, and for pairs scored at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "budget", lambda _: chunk)
        patch.setattr("relkt.mining.torch_backend.rows.PAIR_BUDGET", pairs)
        yield


def assert_equal(results, expected):
    assert len(results) == len(expected)
    names = ("rows", "scores", "too_similar", "near_positive")
    for got, want in zip(results, expected, strict=True):
        for name, a, b in zip(names, got, want, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


def embeddings(rng, kind, rows, dim):
    if kind == "whole":  # many ties
        values = rng.integers(-2, 3, (rows, dim))
        values[:, 0] += 5
    elif kind == "near":  # scores that float32 cannot tell apart
        values = rng.standard_normal(dim) + rng.standard_normal((rows, dim)) * rng.choice([0, 1e-4, 1e-7], (rows, 1))
    elif kind == "cancel":  # sums in another order differ
        values = rng.choice([-(2.0**28), -1, 1, 2.0**28], (rows, dim))
    elif kind == "long":  # norms of very different size
        values = rng.standard_normal((rows, dim)) * 10.0 ** rng.integers(-30, 30, (rows, 1))
    else:
        values = rng.standard_normal((rows, dim))
    return values.astype(np.float32)


@pytest.mark.slow
@on_devices
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_equals_the_definition(device, data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32), label="seed"))
    kind = draw(st.sampled_from(["whole", "real", "near", "cancel", "long", "half"]), label="kind")
    size, rows, dim = (
        draw(st.integers(1, most), label=name) for name, most in (("queries", 9), ("rows", 60), ("dim", 37))
    )
    q, p = embeddings(rng, kind, size, dim), embeddings(rng, kind, rows, dim)
    if kind == "half":
        # float16 passages, with float16 or float32 queries.
        p, q = p.astype(np.float16), q.astype(draw(st.sampled_from([np.float16, np.float32]), label="dtype"))
    scores = cosines(q, p)

    def limits(low):
        """Limits: infinite, random, or equal to a score."""
        kinds = rng.integers(0, 4, size)
        hit = scores[np.arange(size), rng.integers(0, rows, size)].astype(np.float64)
        return np.choose(kinds, [np.full(size, low), rng.uniform(-1, 1, size), hit, hit])

    lists = [
        (
            draw(st.sampled_from([1, 3, 7, rows]).map(lambda num: min(num, rows)), label="num"),
            limits(-np.inf),
            limits(np.inf),
        )
        for _ in range(draw(st.integers(1, 3), label="lists"))
    ]
    positives = [rng.integers(0, rows, rng.integers(0, 4)).tolist() for _ in range(size)]
    exclude = [rng.integers(0, rows, rng.integers(0, 6)).tolist() for _ in range(size)]
    exclude = draw(st.sampled_from([None, exclude]), label="exclude")
    groups = draw(st.sampled_from([None, rng.integers(-3, 12, rows) * 2**60]), label="groups")
    near = cosines(p, p)[rng.integers(0, rows), rng.integers(0, rows)]
    limit = draw(st.sampled_from([None, 0.3, float(near), float(near) - 1e-9, 1.0, -1.0]), label="limit")
    arguments = lists, csr(positives), None if exclude is None else csr(exclude), groups, limit, None
    passages = TorchPassages(torch.from_numpy(p).to(device))
    with budgets(draw(st.sampled_from([1, 20_000, 1 << 24])), draw(st.sampled_from([1, 4_000, 1 << 24]))):
        results = passages.mine(torch.from_numpy(q), *arguments)
        lowest = passages.lowest_positive(torch.from_numpy(q), csr(positives), None)
    assert_equal(results, definition(q, p, lists, positives, exclude, groups, limit))
    assert_equal(results, Passages.borrow(to_core(p), 1).mine(to_core(q), *arguments))
    expected = [min((own[row] for row in rows), default=np.nan) for own, rows in zip(scores, positives, strict=True)]
    np.testing.assert_array_equal(lowest, np.array(expected, dtype=np.float32))


@pytest.mark.slow
@on_devices
@pytest.mark.parametrize("half", [False, True])
def test_equals_the_core(device, half):
    rng = np.random.default_rng(1)
    p = rng.standard_normal((40, 100))[rng.integers(0, 40, 3_000)] + 0.5 * rng.standard_normal((3_000, 100))
    q = p[:300] + 0.5 * rng.standard_normal((300, 100))
    p[1::7] = p[::7][: len(p[1::7])]  # repeated rows
    q, p = (rows.astype(np.float16 if half else np.float32) for rows in (q, p))
    positives = csr([[row, 2 * row] for row in range(300)])
    exclude = csr([rng.integers(0, 3_000, 30) for _ in range(300)])
    groups = np.arange(3_000) // 4
    core, passages = Passages.borrow(to_core(p), 1), TorchPassages(torch.from_numpy(p).to(device))
    with budgets(1 << 21, 1 << 20):
        lowest = passages.lowest_positive(torch.from_numpy(q), positives, None)
        np.testing.assert_array_equal(lowest, core.lowest_positive(to_core(q), positives, 1))
        everything, score = np.full(300, np.inf), lowest.astype(np.float64)
        lists = [(20, -everything, score - 0.01), (5, score, everything), (3_000, score - 0.02, score)]
        for limit in (None, 0.8):
            arguments = lists, positives, exclude, groups, limit, None
            results = passages.mine(torch.from_numpy(q), *arguments)
            assert_equal(results, core.mine(to_core(q), *arguments))
    # Every count is above 0 for some query.
    assert all(too_similar.any() for _, _, too_similar, _ in results[::2])
    assert all(near_positive.any() for *_, near_positive in results)


@on_devices
def test_mine_takes_tensors(device):
    rng = np.random.default_rng(6)
    q, p = (rng.standard_normal((n, 20)).astype(np.float32) for n in (50, 900))
    options = {
        "positives": rng.integers(0, 900, (50, 2)),
        "num_negatives": 4,
        "absolute_margin": 0.05,
        "num_hard": 2,
        "groups": np.arange(900) // 3,
        "max_positive_similarity": 0.6,
        "block_size": 16,
    }
    for strategy in ("top", "random"):
        options["strategy"] = strategy
        on_device = relkt.mine(torch.from_numpy(q).to(device), torch.from_numpy(p).to(device), **options)
        for name, expected in vars(relkt.mine(q, p, **options)).items():
            if name == "skipped":
                for reason, counts in vars(expected).items():
                    np.testing.assert_array_equal(vars(on_device.skipped)[reason], counts, err_msg=reason)
            else:
                np.testing.assert_array_equal(getattr(on_device, name), expected, err_msg=name)


@on_devices
def test_by_hand(device):
    # Cosines with the query (1, 0): 1, 0.8, 0.8, 0.6, 0, -1.
    p = torch.tensor([[3, 0], [4, 3], [4, -3], [3, 4], [0, 2], [-1, 0]], dtype=torch.float32, device=device)
    q = torch.tensor([[2.0, 0]])
    minus, plus = np.array([-np.inf]), np.array([np.inf])
    passages = TorchPassages(p)
    assert (passages.rows, passages.dim) == (6, 2)
    eight = np.array([np.float64(np.float32(0.8))])
    semi, hard = passages.mine(q, [(2, minus, eight), (3, eight, plus)], csr([[1]]))
    assert semi[0].tolist() == [[3, 4]]  # a score of exactly 0.8 is in neither list
    assert semi[2].tolist() == [2]  # rows 0 and 2; row 1 is the positive
    assert hard[0].tolist() == [[0, -1, -1]]
    assert hard[1][0, 0] == 1
    assert np.isnan(hard[1][0, 1:]).all()
    # Row 3 is at 0.96 of the positive, row 0 at 0.8, row 2 at 0.28: rows 0 and 3 rank before the third result.
    ((rows, _, _, near),) = passages.mine(q, [(3, minus, plus)], csr([[1]]), max_positive_similarity=0.7)
    assert (rows.tolist(), near.tolist()) == ([[2, 4, 5]], [2])
    ((rows, _, _, near),) = passages.mine(q, [(1, minus, plus)], csr([[1]]), max_positive_similarity=0.7)
    assert (rows.tolist(), near.tolist()) == ([[2]], [1])
    at = float(np.float32(0.96))
    for limit, best in ((at, [0, 2, 3]), (np.nextafter(at, 0), [0, 2, 4])):
        ((rows, _, _, _),) = passages.mine(q, [(3, minus, plus)], csr([[1]]), max_positive_similarity=limit)
        assert rows.tolist() == [best]
    ((rows, _, _, _),) = passages.mine(
        q, [(3, minus, plus)], csr([[1]]), csr([[0]]), groups=np.array([7, 5, 6, 6, 5, 7])
    )
    assert rows.tolist() == [[2, 3, 5]]


@on_devices
def test_scores_that_float32_cannot_distinguish_are_ordered(device):
    rng = np.random.default_rng(5)
    q = rng.standard_normal((20, 64)).astype(np.float32)
    p = (rng.standard_normal(64) + 1e-7 * rng.standard_normal((3_000, 64))).astype(np.float32)
    hits = relkt.search(q, p, 8)
    window = (8, np.full(20, -np.inf), np.full(20, np.inf))
    ((rows, scores, _, _),) = TorchPassages(torch.from_numpy(p).to(device)).mine(
        torch.from_numpy(q), [window], csr([[]] * 20)
    )
    assert np.array_equal(rows, hits.indices)
    assert np.array_equal(scores, hits.scores)


@on_devices
def test_near_positives_that_rank_before_the_last_result(device):
    # All scores are 1 / sqrt(2). Rows 1 and 3 are rejected; rows 0 and 2 remain.
    p = torch.tensor([[1, -1], [1, 1], [1, -1], [1, 1], [1, 1]], dtype=torch.float32, device=device)
    for num, refused in ((1, 0), (2, 1), (3, 2)):
        ((_, _, _, near),) = TorchPassages(p).mine(
            torch.tensor([[1.0, 0]]), [(num, np.array([-1.0]), np.array([1.0]))], csr([[4]]), None, None, 0.5
        )
        assert near.tolist() == [refused]


@on_devices
def test_zeros_are_one_score(device):
    # The first cosine is -2^-269, which float32 rounds to -0.0, the second is 0.0.
    p = torch.tensor([[-(2.0**-149), 2.0**120], [0, 1]], device=device)
    ((rows, scores, _, _),) = TorchPassages(p).mine(
        torch.tensor([[2.0**120, 0]]), [(2, np.array([-1.0]), np.array([1.0]))], csr([[]])
    )
    assert rows.tolist() == [[0, 1]]
    assert not np.signbit(scores).any()


@on_devices
def test_all_rows_tie(device):
    p = torch.ones((5_000, 3), device=device)
    with budgets(1 << 18, 1 << 18):
        ((rows, scores, _, _),) = TorchPassages(p).mine(
            torch.ones((4, 3)), [(3, np.full(4, -np.inf), np.full(4, np.inf))], csr([[], [0], [1, 2], [0, 1, 2, 4]])
        )
    assert rows.tolist() == [[0, 1, 2], [1, 2, 3], [0, 3, 4], [3, 5, 6]]
    assert (scores == 1).all()


@on_devices
def test_arguments_are_not_changed(device):
    rng = np.random.default_rng(2)
    q, p = (torch.from_numpy(rng.standard_normal((n, 6)).astype(np.float32)).to(device) for n in (4, 30))
    window = (2, np.full(4, -0.5), np.full(4, 0.9))
    positives, exclude, groups = csr([[1], [], [2, 3], [4]]), csr([[5], [6], [], [7]]), np.arange(30) // 3
    arrays = [*window[1:], *positives, *exclude, groups]
    for array in arrays:
        array.flags.writeable = False
    first = q.clone(), p.clone()
    # Strided tensors, and tensors that require gradients.
    strided = p.t().contiguous().t().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = TorchPassages(p).mine(q, [window], positives, exclude, groups, 0.8)
        other = TorchPassages(strided).mine(q.requires_grad_(), [window], positives, exclude, groups, 0.8)
        TorchPassages(p).lowest_positive(q, positives)
    assert_equal(other, one)
    assert torch.equal(q, first[0])
    assert torch.equal(p, first[1])


EVERYTHING = (1, np.full(2, -np.inf), np.full(2, np.inf))


BAD = torch.ones((2000, 3))
BAD[1500, 2], BAD[1700] = float("nan"), 0


@pytest.mark.parametrize(
    ("passages", "error", "message"),
    [
        (np.ones((2, 3)), TypeError, "passages: expected a 2-D torch tensor of float32 or float16, got ndarray"),
        (torch.ones(2, 3).double(), TypeError, "passages: expected dtype float32 or float16, got float64"),
        (torch.ones(2, 3).bfloat16(), TypeError, "passages: expected dtype float32 or float16, got bfloat16"),
        (torch.ones(2), TypeError, r"passages: expected 2 dimensions \(rows, columns\), got shape \(2,\)"),
        (
            torch.eye(2).to_sparse(),
            TypeError,
            "passages: expected a dense tensor, got one with layout torch.sparse_coo",
        ),
        (torch.ones(0, 3), ValueError, r"passages: expected at least one row and one column, got shape \(0, 3\)"),
        (torch.ones(1, 2**17 + 1), ValueError, "passages: expected at most 131072 columns, got 131073"),
        (BAD, ValueError, "passages: expected finite values, got NaN at row 1500, column 2"),
        (BAD[1600:], ValueError, "passages: row 100 is all zeros, which has no cosine with anything"),
        (-1 / torch.zeros(1, 1), ValueError, "passages: expected finite values, got -inf at row 0, column 0"),
    ],
)
def test_bad_passages(passages, error, message):
    with pytest.raises(error, match=message):
        TorchPassages(passages)
    if isinstance(passages, torch.Tensor) and error is ValueError:  # the core raises the same error
        with pytest.raises(error, match=message):
            relkt.search(np.ones((1, passages.shape[1]), np.float32), passages.numpy(), 1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"queries": torch.ones(2, 4)}, ValueError, "queries: expected dimension 3 like the passages, got 4"),
        ({"queries": np.ones((2, 3))}, TypeError, "queries: expected a 2-D torch tensor"),
        ({"queries": torch.zeros(2, 3)}, ValueError, "queries: row 0 is all zeros"),
        ({"positives": csr([[0]])}, ValueError, "positives: expected 2 lists, one for each query, got 1"),
        ({"positives": csr([[0], [5]])}, ValueError, "positives: query 1 names the row 5, expected a row from 0 to 4"),
        ({"exclude": csr([[-1], []])}, ValueError, "exclude: query 0 names the row -1, expected a row from 0 to 4"),
        ({"exclude": (np.array([0, 2, 1]), np.array([0]))}, ValueError, "exclude: expected starts that rise from 0"),
        ({"groups": np.arange(4)}, ValueError, "groups: expected 5 values, one for each passage, got 4"),
        ({"lists": []}, ValueError, "lists: expected at least one list of negatives, got none"),
        ({"lists": [(0, *EVERYTHING[1:])]}, ValueError, "num: expected a number from 1 to 5, the number of passages"),
        ({"lists": [(6, *EVERYTHING[1:])]}, ValueError, "num: expected a number from 1 to 5, .*, got 6"),
        ({"lists": [(1, np.zeros(3), np.zeros(3))]}, ValueError, "windows: expected 2, one for each query, got 3"),
        ({"lists": [(1, np.zeros(2), np.array([1, np.nan]))]}, ValueError, "windows: expected .*, got NaN for query 1"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"queries": torch.eye(3)[:2], "lists": [EVERYTHING], "positives": csr([[0], [1]])} | change
    passages = TorchPassages(torch.ones(5, 3))
    with pytest.raises(error, match=message):
        passages.mine(**arguments)
    if isinstance(arguments["queries"], torch.Tensor) and "starts" not in message:  # the core raises the same error
        arguments = {"exclude": None, "groups": None, "max_positive_similarity": None, "threads": 1} | arguments
        arguments["queries"] = arguments["queries"].numpy()
        with pytest.raises(error, match=message):
            Passages.borrow(np.ones((5, 3), np.float32), 1).mine(**arguments)


@on_devices
def test_queries_are_checked_as_a_whole(device):
    passages = TorchPassages(torch.eye(3, device=device))
    for rows in (BAD[:5], BAD[:5].half(), BAD[:5].numpy()):
        checked = passages.queries(rows)
        assert checked.device.type == device
        assert torch.equal(checked.cpu(), torch.as_tensor(rows))
    for rows in (BAD, BAD.numpy()):
        with pytest.raises(ValueError, match="queries: expected finite values, got NaN at row 1500, column 2"):
            passages.queries(rows)
    with pytest.raises(TypeError, match="queries: expected dtype float32 or float16, got float64"):
        passages.queries(np.eye(3))
    with pytest.raises(ValueError, match="queries: expected dimension 3 like the passages, got 2"):
        passages.queries(np.ones((1, 2), np.float32))
