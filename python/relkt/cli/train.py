"""``relkt train``: its options, configuration and table of results."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relkt.cli.checks import check_device
from relkt.cli.console import err, one_line_errors, out, print_note, print_result
from relkt.cli.options import (
    ENCODER_PANEL,
    DeviceOption,
    ModelOption,
    OptionalDataOption,
    PathOption,
    SplitByOption,
    SplitSeedOption,
    UnseenDocumentsOption,
    codes,
)
from relkt.cli.progress import progress_bar
from relkt.data import RetrievalData, SplitBy, load_data
from relkt.data.parallel import ParallelText, load_parallel

if TYPE_CHECKING:
    from relkt.training import TrainConfig

BEST = "best"
"""The preset that stands for ``best-muse`` or ``best-transformer``, depending on the model."""


# Long: one parameter per option.
def train(
    output: Annotated[Path, typer.Option(help="Folder for the run. Must be new or empty, except with --resume.")],
    data: OptionalDataOption = None,
    path: PathOption = None,
    parallel: Annotated[
        list[str] | None,
        typer.Option(
            help="English texts with translations, for the vocabulary and distillation stages: a TSV, JSON Lines, "
            "Moses, TMX, PO or MO file, a folder of such files, or hub:NAME. May be repeated. Without --data, training "
            "uses these texts alone."
        ),
    ] = None,
    model: ModelOption = "muse",
    preset: Annotated[
        str | None,
        typer.Option(
            help="best (best-muse or best-transformer, depending on the model), paper-xquad, paper-mlqa, paper-xorqa "
            "or demo."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the configuration, e.g. the config.toml of another run.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Name or folder of another model that serves as the teacher in the distillation and transfer stages. "
            "The trained model adopts its embedding space. Default: the model itself at the start of the stage.",
            rich_help_panel=ENCODER_PANEL,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run. Default: the configuration's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    languages: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated languages of the questions to load, e.g. en,th,de. The configuration selects the "
            "training languages; all loaded languages are tested. Include en, because stages align other languages "
            "with English questions. Default: all."
        ),
    ] = None,
    split_by: SplitByOption = SplitBy.AUTO,
    split_seed: SplitSeedOption = None,
    unseen_documents: UnseenDocumentsOption = False,
    device: DeviceOption = None,
) -> None:
    """Train an encoder on a data set, on parallel text, or on both.

    With `--data`, choose the stages and their parameters with `--preset` or `--config`. With `--parallel` alone, these
    are optional: the default is a distillation stage. If the model is mUSE and does not cover a language, a vocabulary
    stage comes first.

    The output folder receives the model (in sentence-transformers format), plots, training metrics, the configuration,
    and the results on the test questions before training and after each stage. To continue an interrupted run, add
    `--resume`.

    To train on several GPUs, start one process per GPU: `torchrun --nproc-per-node 2 -m relkt train ...`

    Example: `relkt train --data relkt-mini --preset demo --output runs/mini`
    """
    with one_line_errors(f"to continue, run the same command with --resume (the run is in {output})"):
        from relkt.training import Stage
        from relkt.training.distributed.processes import launched_rank

        if preset is None and config is None and resume and not (output / "config.toml").is_file():
            raise ValueError(f"--output: {output} is not the folder of a run to resume")
        if data is None and not parallel:
            raise ValueError("--data, --parallel: expected at least one of them, got neither")
        by_default = resume or data is None
        chosen = _configuration(preset, config, model, seed, by_default=by_default)
        with_teacher = {Stage.DISTILLATION, Stage.TRANSFER}
        if teacher is not None and chosen is not None and not with_teacher & set(chosen.stages):
            raise ValueError("--teacher: requires a configuration with a distillation or transfer stage")
        check_device(device)
        pairs = _load_parallel(parallel) if parallel else None
        loaded = None
        if data is not None:
            loaded = load_data(
                data,
                path=path,
                languages=codes(languages),
                split_by=split_by,
                split_seed=split_seed,
                unseen_documents=unseen_documents,
            )
        if loaded is not None and chosen is not None and (missing := set(chosen.languages) - set(loaded.languages)):
            raise ValueError(
                f"languages: the configuration trains {', '.join(sorted(missing))}, but the loaded data has only "
                f"{', '.join(loaded.languages)}"
            )
        _train(loaded, pairs, model, teacher, device, output, chosen, resume=resume)
        if launched_rank() == 0:
            _report(output)


def _load_parallel(paths: list[str]) -> ParallelText:
    with progress_bar("reading parallel text", rate="records") as advance:
        found = load_parallel(paths, progress=advance)
    print_note(f"parallel text: {found.summary()}")
    return found


def _configuration(
    preset: str | None, file: Path | None, model: str, seed: int | None, *, by_default: bool
) -> TrainConfig | None:
    """The configuration that the options choose; None means that of the resumed run or, in a new run, the default."""
    from relkt.encoders import is_muse
    from relkt.training import TrainConfig

    if preset is not None and file is not None:
        raise ValueError("--preset, --config: expected one of them, got both")
    if preset == BEST:
        preset = "best-muse" if is_muse(model) else "best-transformer"
    if preset is not None:
        config = TrainConfig.preset(preset)
    elif file is not None:
        config = TrainConfig.from_toml(file)
    elif not by_default:
        raise ValueError("--preset: expected a preset, or --config with a TOML file, got neither")
    elif seed is not None:
        raise ValueError("--seed: needs --preset or --config too (a resumed run keeps its seed)")
    else:
        return None
    return config if seed is None else replace(config, seed=seed)


def _train(
    data: RetrievalData | None,
    parallel: ParallelText | None,
    model: str,
    teacher: str | None,
    device: str | None,
    output: Path,
    config: TrainConfig | None,
    *,
    resume: bool,
) -> None:
    from relkt.encoders import load_encoder
    from relkt.training import Progress
    from relkt.training.distributed.processes import launched_rank, leave_job
    from relkt.training.progress.bars import TrainingBars
    from relkt.training.run import train as run_training

    with TrainingBars.bars(err) if launched_rank() == 0 else nullcontext() as bars:
        progress = TrainingBars(bars) if bars else Progress()
        progress.activity("loading the encoder")
        run_training(
            load_encoder(model, device=device),
            data,
            output_dir=output,
            config=config,
            teacher=None if teacher is None else load_encoder(teacher, device=device),
            parallel=parallel,
            resume=resume,
            progress=progress,
        )
        leave_job()


def _report(run: Path) -> None:
    """Prints the results of a finished run, and where its files are."""
    from relkt.cli.tables import stages_table
    from relkt.training import TrainConfig

    note = f"The model is in {run / 'model'}, the plots are in {run / 'plots'}"
    if (results := run / "results.md").exists():  # a data set without test questions has no results
        out.print(stages_table(run / "results.json", TrainConfig.from_toml(run / "config.toml").level))
        note += f", every level and metric in {results}"
    print_result(f"{note}.")
