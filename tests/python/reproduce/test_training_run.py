"""Learning curves and stage results, from files written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relkt.reproduce.measurement import StageResult
from relkt.reproduce.training_run import read_training


def write_run(path: Path, lines: list[tuple[str, int, float | None, dict[str, Any]]]) -> None:
    """Write metrics of a run (stage, step, dev P@1 or None for a loss, other values) and its test results."""
    rows = [
        {"stage": stage, "epoch": 0.0, "step": step, **({"loss": 1.0} if p1 is None else {"dev_p1": p1}), **more}
        for stage, step, p1, more in lines
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = ["before", *dict.fromkeys(stage for stage, *_ in lines)]
    results = {
        name: {"passage": {"estimates": {"P@1": {"de": {"value": number / 8, "interval": None}}}}}
        for number, name in enumerate(names)
    }
    (path / "results.json").write_text(json.dumps(results))


def test_steps_are_counted_over_all_stages(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        [
            ("warmup", 0, 0.25, {}),
            ("warmup", 4, 0.5, {}),
            ("warmup", 8, 0.375, {}),
            ("warmup", 9, None, {}),
            ("transfer", 0, 0.5, {}),  # the first stage's final weights: not drawn again
            ("transfer", 3, 0.125, {}),
        ],
    )
    curve, stages = read_training(tmp_path)
    assert curve == [(0, 0.25), (4, 0.5), (8, 0.375), (12, 0.125)]
    # The second stage did not improve, and kept its initial weights.
    assert stages == [
        StageResult("before", 0.25, {"passage": {"de": 0.0}}),
        StageResult("warmup", 0.5, {"passage": {"de": 0.125}}),
        StageResult("transfer", 0.5, {"passage": {"de": 0.25}}),
    ]


def test_a_stage_without_steps_and_averaged_weights(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        [
            ("vocabulary", 0, 0.25, {}),
            ("contrastive", 0, 0.25, {}),
            ("contrastive", 5, 0.5, {}),
            ("contrastive", 5, 0.75, {"tuned_share": 0.5}),
        ],
    )
    curve, stages = read_training(tmp_path)
    assert curve == [(0, 0.25), (5, 0.5)]
    # Nothing was evaluated on dev before the vocabulary; the average was kept.
    assert [(stage.name, stage.dev_p1) for stage in stages] == [
        ("before", None),
        ("vocabulary", 0.25),
        ("contrastive", 0.75),
    ]
