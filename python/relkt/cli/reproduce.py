"""``relkt reproduce``: its options; :mod:`relkt.reproduce` does the work."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.checks import check_device
from relkt.cli.console import err, one_line_errors, out
from relkt.data import load_data
from relkt.reproduce.rows import E5, XQUAD_ROWS, XQUAD_TRAINED, xquad_rows


class Experiment(str, Enum):
    """An experiment that can be repeated."""

    XQUAD = "xquad"


def reproduce(
    experiment: Annotated[Experiment, typer.Argument(help="The experiment, by its data set.")],
    output: Annotated[Path, typer.Option(help="Folder for the results; new, empty, or that of the same experiment.")],
    path: Annotated[
        Path | None, typer.Option("--path", help="Folder with the data set's files; otherwise they come from the Hub.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the rows that are trained: 1, 2, ... up to this.")] = 5,
    rows: Annotated[
        str | None, typer.Option(help=f"Some of the rows, with commas: {', '.join(XQUAD_ROWS)}. Default: all.")
    ] = None,
    e5: Annotated[str, typer.Option(help="multilingual-e5-small: its name on the Hub, or a folder.")] = E5,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: a GPU if there is one.")] = None,
) -> None:
    """Train and measure every system of the docs' comparison, and write its tables and plots.

    BM25 over English, mUSE and multilingual-e5-small as they are, mUSE trained as in the paper, and our best presets
    for both. The trained ones run once for each seed. The output folder gets `results.md`, `results.json` (everything,
    with paired bootstrap tests between all rows) and `plots/`.

    Every finished run is kept: stopped by Ctrl-C or even by `kill -9`, the same command goes on where it was. More rows
    or more seeds may be asked for later.

    Example: `relkt reproduce xquad --path xquad/ --output runs/xquad --seeds 3`
    """
    with one_line_errors(f"go on with the same command (what is done is in {output})"):
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
        text = (output / "results.md").read_text(encoding="utf-8")
        out.print(text, markup=False, highlight=False, soft_wrap=True, end="")
        note = f"This table is in {output / 'results.md'}, all numbers in results.json beside it, plots in plots/."
        err.print(note, markup=False, highlight=False, soft_wrap=True)
