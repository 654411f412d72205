"""Tables and plots of the results of a training run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relkt.evaluation import Average, Estimate, Report
from relkt.figures import BLUE, GREY, LANGUAGE_NAMES, LIGHT, VERMILION, new_figure, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STAGES = {
    "vocabulary": "Vocabulary",
    "warmup": "Warm-up",
    "teacher": "Teacher",
    "contrastive": "Contrastive",
    "distillation": "Distillation",
    "transfer": "Transfer",
}
RESULT_NAMES = {"before": "before"} | {stage: f"after {name.lower()}" for stage, name in _STAGES.items()}
"""Names that tables give to the results before the first stage and after each stage."""
_AVERAGES = {
    Average.TRAINED: "Mean, trained on",
    Average.UNTRAINED: "Mean, not trained on",
    Average.ALL: "Mean, all languages",
}


def results_table(reports: Mapping[str, Report], *, metric: str = "P@1") -> str:
    """Makes a Markdown table of one metric, with a row per model and a column per language and average.

    Args:
        reports: Name of the model (``"before"``, ``"warm-up"``, ``"teacher"``, ``"transfer"``) -> its report, in the
            order of the rows. All reports have the same data set, split, level and languages.
        metric: The metric.

    Returns:
        A line that describes the metric and the data, then the table. The best value of each column is bold, and the
        averages have intervals.

    Raises:
        ValueError: If there is no report, the reports are not comparable, or the metric was not evaluated.
    """
    first = _common(reports)
    for name, report in reports.items():
        if report.trained_languages != first.trained_languages:
            raise ValueError(
                f"reports: trained_languages is {report.trained_languages} in {name!r}, but "
                f"{first.trained_languages} in {next(iter(reports))!r}, so their averages are not comparable"
            )
    averages = [average for average in Average if average in first.averages.get(metric, {})]
    rows = {
        name: [
            *(report.estimate(metric, language) for language in first.languages),
            *(report.average(metric, average) for average in averages),
        ]
        for name, report in reports.items()
    }
    # Values are compared as printed, so that equal numbers in a column are equally bold.
    best = [max(round(e.value, 3) for e in column) for column in zip(*rows.values(), strict=True)]
    trained = set(first.trained_languages or ())
    heads = [f"{language}\\*" if language in trained else language for language in first.languages]
    split = "all" if first.split is None else first.split.value
    mark = "; \\* trained on" if trained else ""
    lines = [
        f"{metric}, {first.data}, {split} queries, level {first.level.value}, {first.num_candidates:,} candidates; "
        f"[95 % bootstrap interval over questions]{mark}",
        "",
        f"| model | {' | '.join([*heads, *(average.value for average in averages)])} |",
        f"|---|{'---:|' * len(heads)}{'---|' * len(averages)}",
    ]
    for name, estimates in rows.items():
        cells = []
        for number, (estimate, top) in enumerate(zip(estimates, best, strict=True)):
            text = estimate.format(with_interval=number >= len(heads))
            is_best = len(rows) > 1 and round(estimate.value, 3) == top
            cells.append(f"**{text}**" if is_best else text)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot_learning_curve(metrics: str | Path, out: str | Path) -> tuple[Path, Path]:
    """Plots dev P@1 and the training loss of each stage.

    Args:
        metrics: The run's ``metrics.jsonl``.
        out: Path of the plots, without suffix (``.png`` or ``.svg`` is ignored); existing files are replaced.

    Returns:
        The paths of the PNG and the SVG file.

    Raises:
        ValueError: If the file has no dev evaluation or a malformed line; the message names the line.
        FileNotFoundError: If the file does not exist.
    """
    stages = _read_metrics(Path(metrics))
    figure = new_figure(width=3.2 * len(stages) + 0.8, height=4.6)
    grid = figure.subplots(2, len(stages), squeeze=False, sharex="col", height_ratios=(3, 2))
    for score_axes in grid[0, 1:]:  # shared before drawing, so that the limits of the axes fit every stage
        score_axes.sharey(grid[0, 0])
        score_axes.tick_params(labelleft=False)
    for column, (stage, lines) in enumerate(stages.items()):
        score_axes, loss_axes = grid[0, column], grid[1, column]
        _draw_scores(score_axes, [line for line in lines if "dev_p1" in line])
        losses = [(line["epoch"], line["loss"]) for line in lines if "loss" in line]
        if losses:  # with markers, because a short stage may log only one point
            loss_axes.plot(*zip(*losses, strict=True), color=VERMILION, linewidth=1.4, marker=".", markersize=4)
        score_axes.set_title(_STAGES.get(stage, stage), fontweight="bold", fontsize=11)
        loss_axes.set_xlabel("epoch")
        loss_axes.set_ylim(bottom=0)
        for axes in (score_axes, loss_axes):
            style(axes)
    grid[0, 0].set_ylabel("P@1 on dev")
    grid[1, 0].set_ylabel("training loss")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return save(figure, out)


def plot_languages(
    before: Report,
    after: Report,
    out: str | Path,
    *,
    metric: str = "P@1",
    labels: tuple[str, str] = ("before", "after"),
) -> tuple[Path, Path]:
    """Plots a metric per language before and after training, with 95 % intervals, grouped by trained languages.

    Args:
        before: Report of the model before training.
        after: Report of the model after training, on the same data set, split, level and languages; its
            ``trained_languages`` define the groups.
        out: Path of the plots, without suffix (``.png`` or ``.svg`` is ignored); existing files are replaced.
        metric: The metric.
        labels: Names of the two models in the legend.

    Returns:
        The paths of the PNG and the SVG file.

    Raises:
        ValueError: If the reports are not comparable, or the metric was not evaluated.
    """
    _common({labels[0]: before, labels[1]: after})
    rows: list[tuple[str, Estimate, Estimate, bool] | None] = []
    for group, average in _groups(after):
        if rows:
            rows.append(None)
        for language in sorted(group, key=lambda x: -after.value(metric, x)):
            name = f"{LANGUAGE_NAMES[language]} ({language})" if language in LANGUAGE_NAMES else language
            rows.append((name, before.estimate(metric, language), after.estimate(metric, language), False))
        pair = _mean(before, metric, average, group), _mean(after, metric, average, group)
        rows.append((_AVERAGES[average], *pair, True))
    figure = new_figure(width=7.2, height=0.9 + 0.34 * len(rows))
    axes = figure.subplots()
    for y, row in enumerate(rows):
        if row is not None:
            _draw_pair(axes, y, row[1], row[2], is_mean=row[3], labels=labels if y == 0 else None)
    positions = [y for y, row in enumerate(rows) if row is not None]
    axes.set_yticks(positions, [row[0] for row in rows if row is not None])
    for tick, row in zip(axes.get_yticklabels(), [row for row in rows if row is not None], strict=True):
        tick.set_fontweight("bold" if row[3] else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    split = "all" if after.split is None else after.split.value
    axes.set_xlabel(f"{metric} on {after.data}, {split} questions, level {after.level.value}")
    style(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return save(figure, out)


def _common(reports: Mapping[str, Report]) -> Report:
    """Checks that all reports are comparable, and returns the first one."""
    if not reports:
        raise ValueError("reports: expected at least one report, got none")
    first_name, first = next(iter(reports.items()))
    for name, report in reports.items():
        for attribute in ("data", "split", "level", "num_candidates"):
            expected, got = getattr(first, attribute), getattr(report, attribute)
            if expected != got:
                raise ValueError(f"reports: {attribute} is {expected!r} in {first_name!r}, but {got!r} in {name!r}")
        if dict(first.num_queries) != dict(report.num_queries):
            raise ValueError(f"reports: {first_name!r} and {name!r} have different languages or numbers of queries")
    return first


def _groups(report: Report) -> list[tuple[list[str], Average]]:
    if report.trained_languages is None:
        return [(list(report.languages), Average.ALL)]
    trained = set(report.trained_languages)
    groups = [
        ([x for x in report.languages if x in trained], Average.TRAINED),
        ([x for x in report.languages if x not in trained], Average.UNTRAINED),
    ]
    return [(group, average) for group, average in groups if group]


def _mean(report: Report, metric: str, average: Average, languages: Sequence[str]) -> Estimate:
    """Average over a group of languages. It has no interval if the report has no average over this group."""
    same = report.trained_languages is not None and average in report.averages[metric]
    if average is Average.ALL or (same and set(report.languages_of(average)) == set(languages)):
        return report.average(metric, average)
    return Estimate(sum(report.value(metric, language) for language in languages) / len(languages))


def _read_metrics(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads the lines of each stage, in order."""
    stages: dict[str, list[dict[str, Any]]] = {}
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            try:
                line = json.loads(text)
                stages.setdefault(line["stage"], []).append({**line, "epoch": float(line["epoch"])})
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected an object with stage and epoch, got {text!r}"
                ) from error
    if not any("dev_p1" in line for lines in stages.values() for line in lines):
        raise ValueError(f"{path}: expected at least one dev evaluation, got none")
    return stages


def _draw_scores(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    epochs = [line["epoch"] for line in lines]
    per_language = [line.get("dev", {}).get("P@1", {}) for line in lines]
    languages = sorted(set().union(*per_language)) if per_language else []
    for number, language in enumerate(languages):
        values = [scores.get(language, float("nan")) for scores in per_language]
        axes.plot(epochs, values, color=LIGHT, linewidth=1, label=None if number else "each language")
    means = [line["dev_p1"] for line in lines]
    axes.plot(epochs, means, color=BLUE, linewidth=2, marker="o", markersize=3.5, label="mean")
    if lines:
        best = max(range(len(means)), key=lambda i: (means[i], -i))
        axes.plot(
            epochs[best],
            means[best],
            "o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=VERMILION,
            markeredgewidth=1.6,
            label="best",
        )


def _draw_pair(
    axes: Axes, y: int, before: Estimate, after: Estimate, *, is_mean: bool, labels: tuple[str, str] | None
) -> None:
    for estimate, colour, fill, shift, label in (
        (before, GREY, "white", -0.15, labels and labels[0]),
        (after, BLUE, BLUE, 0.15, labels and labels[1]),
    ):
        if estimate.interval is not None:
            axes.plot(estimate.interval, [y + shift] * 2, color=colour, linewidth=2.4 if is_mean else 1.4)
        axes.plot(
            estimate.value,
            y + shift,
            "D" if is_mean else "o",
            markersize=6,
            markeredgecolor=colour,
            markerfacecolor=fill,
            markeredgewidth=1.5,
            label=label,
        )
    weight = "bold" if is_mean else "normal"
    text = f"{before.value:.2f} → {after.value:.2f}"
    axes.text(1.015, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, fontweight=weight)
