"""benches/compare.py mine: the smoke preset from end to end, and the checks of the results."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHES = Path(__file__).parents[2] / "benches"

pytestmark = pytest.mark.skipif(not BENCHES.exists(), reason="the benches are not part of this source")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """The modules mine_data and mine_check."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return pytest.importorskip("mine_data"), pytest.importorskip("mine_check")


def best(check: ModuleType, case: Any, files: Any) -> tuple[Any, Any]:
    """The judge of these files, and the correct results, computed from all scores."""
    judge = check.Judge(files)
    scores = check.double(judge.queries) @ check.double(judge.passages).T
    own = scores[np.arange(len(scores)), judge.positives]
    scores[scores > case.limits(own)[:, None]] = -np.inf
    scores[np.arange(len(scores)), judge.positives] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, : case.ranked]
    of_rows = np.take_along_axis(scores, rows, axis=1)
    rows[np.isinf(of_rows)] = -1
    of_rows[np.isinf(of_rows)] = np.nan
    return judge, check.Found(rows, of_rows.astype(np.float32))


@pytest.mark.slow
def test_smoke_preset(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    report_file, table_file = tmp_path / "all.json", tmp_path / "table.md"
    peers = ["relkt", "relkt-dataset", "st-faiss", "flag-faiss"]
    command = [sys.executable, str(BENCHES / "compare.py"), "mine", "--preset", "smoke", "--peers", *peers]
    subprocess.run([*command, "--json", str(report_file), "--markdown", str(table_file)], check=True, timeout=300)
    report = json.loads(report_file.read_text())
    cells = {(cell["peer"], cell["case"]): cell for cell in report["cells"]}
    assert set(cells) == {(peer, case) for peer in peers[:3] for case in ("margin", "range")} | {
        ("flag-faiss", "range")
    }
    assert (report["queries"], report["rows"], report["killed"]) == (500, 5000, [])
    assert all(0 < cell["selecting"] <= cell["whole"] and cell["same"] == 1 for cell in cells.values())
    # With a margin, sentence-transformers runs out of candidates for some queries; relkt does not.
    assert cells["st-faiss", "margin"]["served"] < cells["relkt", "margin"]["served"] == 1
    assert cells["relkt-dataset", "margin"]["served"] == 1
    assert "| margin, 1 thread |" in table_file.read_text()


@pytest.mark.parametrize("name", ["top", "margin", "wide margin", "ceiling"])
def test_judge_tells_right_from_wrong(name: str, tmp_path: Path, modules: tuple[ModuleType, ModuleType]) -> None:
    data, check = modules
    case = data.CASES[name]
    judge, found = best(check, case, data.prepare(100, 2000, 32, tmp_path))
    judge.exact(case, found)
    assert judge.same("peer", case, found, found.rows) == 1
    query = int(judge.sample[0])
    assert (found.rows[query] >= 0).all()
    last_left_out = np.where(np.arange(5) < 4, found.rows, -1)
    # A library that ran out of candidates must have the first of the correct results.
    assert judge.same("peer", case, found, last_left_out) == 1
    for rows in (
        found.rows[query][[1, 0, 2, 3, 4]],
        np.append(found.rows[query][1:], -1),
        np.append(found.rows[query][:4], found.rows[query][0]),
        np.append(found.rows[query][:4], judge.positives[query]),
        np.append(found.rows[query][:3], [np.argmin(judge.sampled[0]), -1]),
    ):
        wrong = found.rows.copy()
        wrong[query] = rows
        with pytest.raises(SystemExit, match=f"query {query}"):
            judge.same("peer", case, found, wrong)
        with pytest.raises(SystemExit, match=f"query {query}"):
            judge.exact(case, replace(found, rows=wrong))
    with pytest.raises(SystemExit, match="rows of 5"):
        judge.exact(case, replace(found, rows=last_left_out))


def test_judge_of_draws(tmp_path: Path, modules: tuple[ModuleType, ModuleType]) -> None:
    data, check = modules
    case = data.CASES["range"]
    judge, ranked = best(check, case.all_ranked(), data.prepare(100, 2000, 32, tmp_path))
    drawn = check.Found(ranked.rows[:, 10:90:16], ranked.scores[:, 10:90:16], (ranked.rows, ranked.scores))
    judge.exact(case, drawn)
    assert judge.same("peer", case, drawn, drawn.rows[:, ::-1]) == 1
    query = int(judge.sample[0])
    for rank in (0, 8):
        wrong = drawn.rows.copy()
        wrong[query, 0] = ranked.rows[query, rank]
        with pytest.raises(SystemExit, match="not in its range"):
            judge.same("peer", case, drawn, wrong)
    with pytest.raises(SystemExit, match="more than once"):
        judge.same("peer", case, drawn, drawn.rows[:, [0, 1, 2, 3, 3]])


def test_positives_have_mixed_ranks(tmp_path: Path, modules: tuple[ModuleType, ModuleType]) -> None:
    data, check = modules
    ranks = check.Judge(data.prepare(500, 5000, 64, tmp_path)).ranks()
    assert sum(rank == 1 for rank in ranks) >= len(ranks) // 4
    assert sum(1 < rank <= 100 for rank in ranks) >= len(ranks) // 4
    assert max(ranks) > 50
