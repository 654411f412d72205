"""``relkt reproduce``: its options; :mod:`relkt.reproduce` does the work."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.checks import check_device
from relkt.cli.console import one_line_errors, print_note, print_result
from relkt.cli.options import DeviceOption, PathOption
from relkt.data import load_data
from relkt.reproduce.rows import E5, XQUAD_ROWS, XQUAD_TRAINED, xquad_rows


class Experiment(str, Enum):
    """An experiment that can be reproduced."""

    XQUAD = "xquad"


def reproduce(
    experiment: Annotated[Experiment, typer.Argument(help="The experiment, named after its data set.")],
    output: Annotated[
        Path, typer.Option(help="Folder for the results: new, empty, or with results of the same experiment.")
    ],
    path: PathOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs per trained system, with seeds 1, 2, ...")] = 5,
    rows: Annotated[
        str | None,
        typer.Option(help=f"Comma-separated systems to compare: {', '.join(XQUAD_ROWS)}. Default: all."),
    ] = None,
    e5: Annotated[str, typer.Option(help="Hub name or folder of multilingual-e5-small.")] = E5,
    device: DeviceOption = None,
) -> None:
    """Train and evaluate every system of the comparison in the documentation, and write its tables and plots.

    The systems are BM25 on English text, mUSE and multilingual-e5-small without training, mUSE trained as in the paper,
    and both trained with relkt's best presets. A trained system runs once per seed. The output folder receives
    `results.md`, `plots/` and `results.json`, which includes paired bootstrap tests between all systems.

    Finished runs are kept. If the command is interrupted or killed, run it again to continue. You can add systems and
    seeds later.

    Example: `relkt reproduce xquad --path xquad/ --output runs/xquad --seeds 3`
    """
    with one_line_errors(
        f"to continue, run the same command (finished runs are in {output})",
        options={"output_dir": "--output"},
    ):
        from relkt.cli.reproduction_bar import ReproductionBar
        from relkt.reproduce import reproduce as run_experiment

        chosen = xquad_rows(None if rows is None else [name.strip() for name in rows.split(",")], e5=e5)
        check_device(device)
        data = load_data(experiment.value, path=path)
        command = ["relkt", "reproduce", experiment.value]
        command += [] if path is None else ["--path", str(path)]
        command += ["--output", str(output), "--seeds", str(seeds)]
        command += [] if rows is None else ["--rows", rows]
        command += [] if e5 == E5 else ["--e5", e5]
        command += [] if device is None else ["--device", device]
        with ReproductionBar.bars() as bars:
            run_experiment(
                data,
                output_dir=output,
                rows=chosen,
                seeds=range(1, seeds + 1),
                trained_languages=XQUAD_TRAINED,
                device=device,
                command=shlex.join(command),
                progress=ReproductionBar(bars),
            )
        print_result((output / "results.md").read_text(encoding="utf-8"), end="")
        print_note(f"The table is in {output / 'results.md'}, with results.json and plots/ in the same folder.")
