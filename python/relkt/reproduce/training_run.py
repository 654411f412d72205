"""Reading the learning curve and the results of each stage from a finished training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relkt.reproduce.measurement import StageResult
from relkt.training.config import Stage


def read_training(path: Path) -> tuple[list[tuple[int, float]], list[StageResult]]:
    """The learning curve and the results of each stage of a training run.

    Args:
        path: The run's folder.

    Returns:
        The learning curve, i.e. the dev evaluations as (optimizer steps since the start of the run, P@1); and the
        results before the first stage and after each stage. The curve leaves out the evaluations of averaged weights.
        It also leaves out the evaluation at the start of each later stage, because the previous stage evaluated the
        same weights. If the first stage is the vocabulary, no dev evaluation precedes it.
    """
    stages: dict[str, list[dict[str, Any]]] = {}
    for text in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        stages.setdefault(line["stage"], []).append(line)
    curve: list[tuple[int, float]] = []
    kept: dict[str, float] = {}
    before = 0
    for stage, lines in stages.items():
        evaluations = [line for line in lines if "dev_p1" in line]
        if not kept and stage != Stage.VOCABULARY.value:
            kept["before"] = evaluations[0]["dev_p1"]
        kept[stage] = max(line["dev_p1"] for line in evaluations)
        for line in evaluations:
            if "tuned_share" not in line and (line["step"] > 0 or not curve):
                curve.append((before + line["step"], line["dev_p1"]))
        before += max(line["step"] for line in lines)
    results = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return curve, [
        StageResult(name, kept.get(name), {level: _p1(report) for level, report in levels.items()})
        for name, levels in results.items()
    ]


def _p1(report: dict[str, Any]) -> dict[str, float]:
    return {language: estimate["value"] for language, estimate in report["estimates"]["P@1"].items()}
