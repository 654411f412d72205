"""The options of the mining conditions, derived from :class:`relkt.mining.MiningConditions`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from relkt.mining import MiningConditions
from relkt.mining.conditions import DEFAULT_NUM_NEGATIVES

CommandT = TypeVar("CommandT", bound=Callable[..., None])

CONDITIONS_PANEL = "Conditions"
EXCLUSIONS_PANEL = "Excluded passages"

_HELP = {
    "num_negatives": "Maximum number of negatives per query.",
    "strategy": "top: the highest-scoring candidates of the range. random: a random sample of the range.",
    "range_min": "Number of top-ranked candidates to skip.",
    "range_max": "Rank of the last candidate to consider. Default: no limit for top, range-min + 10 num-negatives for "
    "random.",
    "min_score": "Minimum cosine of a negative with the query.",
    "max_score": "Maximum cosine of a negative with the query.",
    "absolute_margin": "Minimum difference between the lowest positive's score and a negative's.",
    "relative_margin": "The same, as a share of the positive's score, e.g. 0.05.",
    "max_positive_similarity": "Maximum cosine of a negative with a positive; excludes near-duplicates of positives.",
    "seed": "Seed of strategy random.",
}
_MIN = {"num_negatives": 1, "range_min": 0, "seed": 0}


def with_condition_options(command: CommandT) -> CommandT:
    """Decorator: gives a command one option per condition in place of ``**conditions``."""
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += _options() if parameter.kind is inspect.Parameter.VAR_KEYWORD else [parameter]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _options() -> list[inspect.Parameter]:
    types = get_type_hints(MiningConditions)
    defaults: dict[str, Any] = {field.name: field.default for field in fields(MiningConditions)}
    defaults["num_negatives"] = DEFAULT_NUM_NEGATIVES
    options = []
    for name, text in _HELP.items():
        panel = EXCLUSIONS_PANEL if name == "max_positive_similarity" else CONDITIONS_PANEL
        option = typer.Option(min=_MIN.get(name), help=text, rich_help_panel=panel)
        options.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults[name],
                annotation=Annotated[types[name], option],
            )
        )
    return options
