"""Commands and their arguments."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from relkt import __version__
from relkt.cli.bench import bench
from relkt.cli.checks import check_device, check_outputs
from relkt.cli.console import err, one_line_errors, out, settings
from relkt.cli.export import export
from relkt.cli.hub import download, upload
from relkt.cli.index import index
from relkt.cli.info import info
from relkt.cli.mine import mine
from relkt.cli.reproduce import reproduce
from relkt.cli.search import search
from relkt.cli.serve import serve
from relkt.data import DatasetName, Level, RetrievalData, Split, SplitBy, load_data

METRICS_DEPTH = 10
"""The cutoff of the deepest metric: so many ranks are needed at least."""

app = typer.Typer(
    name="relkt",
    help="Cross-lingual retrieval question answering: a question in any language finds its answer among English "
    "passages.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class TextKind(str, Enum):
    """What a text is, which decides its prompt."""

    QUERY = "query"
    PASSAGE = "passage"


DataOption = Annotated[DatasetName, typer.Option("--data", help="The data set.")]
PathOption = Annotated[
    Path | None,
    typer.Option("--path", help="Folder with the data set's files; xquad and mlqa otherwise come from the Hub."),
]
SplitByOption = Annotated[SplitBy, typer.Option(help="Unit of the split into train, dev and test.")]
SplitSeedOption = Annotated[
    int | None, typer.Option(help="Seed of the split, where there is no official one to keep. Default: 42.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: a GPU if there is one.")]
LanguagesOption = Annotated[
    str | None, typer.Option(help="Languages of the questions, with commas: en,th,de. Default: all.")
]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole traceback of an error.")] = False,
) -> None:
    """Cross-lingual retrieval question answering."""
    settings.traceback = traceback
    if version:
        out.print(f"relkt {__version__}", highlight=False)
        raise typer.Exit


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the run; a number is added if it exists.")] = Path(
        "relkt-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the training run.")] = 42,
    ask: Annotated[
        list[str] | None, typer.Option(help="A question of your own, in any language; may be repeated.")
    ] = None,
) -> None:
    """Train a retriever, see what it gained, ask it questions: offline, in a minute or two.

    The three stages of the recipe run on **relkt-mini**, a small parallel set that comes with the package, from the
    multilingual universal sentence encoder, which comes with another. P@1 is measured on questions held out.

    Example: `relkt demo --ask "¿Por qué flota el hielo?"`
    """
    from relkt.cli.demo import run_demo

    with one_line_errors():
        if any(not question.strip() for question in ask or ()):
            raise ValueError("--ask: expected a question, got an empty text")
        run_demo(output, seed, tuple(ask or ()))


@app.command()
def train(
    data: DataOption,
    output: Annotated[Path, typer.Option(help="Folder for the run; must be new or empty, unless with --resume.")],
    path: PathOption = None,
    model: Annotated[str, typer.Option(help="muse, or a model's folder or Hub name.")] = "muse",
    preset: Annotated[
        str | None,
        typer.Option(
            help="best (best-muse or best-transformer, as the model is), paper-xquad, paper-mlqa, paper-xorqa or demo."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file instead of a preset (a run's config.toml is one).")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Another model, a folder or Hub name, as the teacher of the transfer stage: the trained model ends up "
            "in its space. Default: the model itself as it is then."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training run instead of the configuration's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off.")] = False,
    languages: Annotated[
        str | None,
        typer.Option(
            help="Languages of the questions to load, with commas: en,th,de. The configuration says which of them are "
            "trained; all are tested. Without en there are no English questions to follow. Default: all."
        ),
    ] = None,
    split_by: SplitByOption = SplitBy.AUTO,
    split_seed: SplitSeedOption = None,
    device: DeviceOption = None,
) -> None:
    """Train an encoder by the three-stage recipe: warm-up, teacher, transfer.

    The output folder holds the model (any program that takes a sentence-transformers model takes it), the results
    before and after each stage on the test questions, plots, the metrics and the configuration. A run that was
    interrupted or killed goes on with `--resume`.

    Several processes train together when `torchrun` or `accelerate launch` starts them, one for each GPU:
    `torchrun --nproc-per-node 2 -m relkt train ...`

    Example: `relkt train --data relkt-mini --preset demo --output runs/mini`
    """
    resumption = f"go on with the same command and --resume (the run is in {output})"
    with one_line_errors(interrupted=resumption):
        from relkt.training.config import Stage, TrainConfig
        from relkt.training.distributed.processes import launched_rank

        if preset is not None and config is not None:
            raise ValueError("--preset, --config: expected one of them, got both")
        if preset is None and config is None and not resume:
            raise ValueError("--preset: expected a preset, or --config with a TOML file, got neither")
        if preset is None and config is None and not (output / "config.toml").is_file():
            raise ValueError(f"--output: expected the folder of a run to go on with, got {output}, which is none")
        if preset == "best":
            from relkt.encoders import is_muse

            preset = "best-muse" if is_muse(model) else "best-transformer"
        chosen = TrainConfig.preset(preset) if preset is not None else TrainConfig.from_toml(config) if config else None
        if seed is not None:
            if chosen is None:
                raise ValueError("--seed: a resumed run keeps its seed; leave it out, or name the preset as well")
            chosen = replace(chosen, seed=seed)
        if teacher is not None and chosen is not None and Stage.TRANSFER not in chosen.stages:
            raise ValueError("--teacher: the configuration has no transfer stage, which is the one that it teaches")
        check_device(device)
        loaded = load_data(data, path=path, languages=_codes(languages), split_by=split_by, split_seed=split_seed)
        if chosen is not None and (missing := set(chosen.languages) - set(loaded.languages)):
            raise ValueError(
                f"languages: the configuration trains {', '.join(sorted(missing))}, which the data set does not have; "
                f"it has {', '.join(loaded.languages)}"
            )
        _train(loaded, model, teacher, device, output, chosen, resume=resume)
        if launched_rank() > 0:
            return  # rank 0 speaks for its job
        note = f"The model is in {output / 'model'}, the plots are in {output / 'plots'}"
        if (output / "results.md").exists():  # a data set without test questions has none
            from relkt.cli.tables import stages_table

            level = TrainConfig.from_toml(output / "config.toml").level
            out.print(stages_table(output / "results.json", level))
            note += f", every level and metric in {output / 'results.md'}"
        out.print(f"{note}.", markup=False, highlight=False, soft_wrap=True)


def _train(
    data: RetrievalData,
    model: str,
    teacher: str | None,
    device: str | None,
    output: Path,
    config: object,
    *,
    resume: bool,
) -> None:
    from contextlib import nullcontext

    from relkt.encoders import load_encoder
    from relkt.training.distributed.processes import launched_rank, leave_job
    from relkt.training.progress import Progress
    from relkt.training.progress.bars import TrainingBars
    from relkt.training.run import train as run_training

    with TrainingBars.bars(err) if launched_rank() == 0 else nullcontext() as bars:
        progress = TrainingBars(bars) if bars else Progress()
        progress.activity("loading the encoder")
        encoder = load_encoder(model, device=device)
        another = None if teacher is None else load_encoder(teacher, device=device)
        run_training(
            encoder,
            data,
            output_dir=output,
            config=config,  # type: ignore[arg-type]
            teacher=another,
            resume=resume,
            progress=progress,
        )
        leave_job()


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="muse, or a model's folder or Hub name.")],
    data: DataOption,
    path: PathOption = None,
    split: Annotated[Split, typer.Option(help="Which questions.")] = Split.TEST,
    level: Annotated[
        list[Level] | None,
        typer.Option(
            help="What is found: passages, whole documents, or documents by their best passage. May be repeated; "
            "default: all three, but for lareqa, whose passages are sentences: passages."
        ),
    ] = None,
    languages: LanguagesOption = None,
    trained_languages: Annotated[
        str | None,
        typer.Option(
            help="Languages the model was trained in, with commas, for averages of their own; all must be among those "
            "evaluated. Default: what the config.toml of the model's run says, if it is a run's."
        ),
    ] = None,
    split_by: SplitByOption = SplitBy.AUTO,
    split_seed: SplitSeedOption = None,
    full_ranking: Annotated[
        bool,
        typer.Option(
            "--full-ranking", help="Measure mean average precision (mAP) over all candidates too; always with lareqa."
        ),
    ] = False,
    k: Annotated[
        int, typer.Option("--k", min=METRICS_DEPTH, help="Ranks a question in the file of --run; the measures need 10.")
    ] = METRICS_DEPTH,
    json: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Write the first --k ranks of each question in TREC format; with one --level."),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="Write the judgements in TREC format; with one --level.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files to write if they exist.")] = False,
    device: DeviceOption = None,
) -> None:
    """Measure P@1, P@5, P@10, MRR@10 and nDCG@10 in every language, with 95 % bootstrap intervals.

    With `--data lareqa` it is LAReQA's task: among the sentences of all 11 languages, find the answer in each of them;
    measured by mean average precision. Its questions are XQuAD's: measure a model trained on XQuAD with
    `--split-by question`, which leaves its test questions.

    Example: `relkt evaluate muse --data relkt-mini --level passage`
    """
    with one_line_errors():
        from relkt.cli.evaluate import run_evaluation, trained_in

        is_lareqa = data is DatasetName.LAREQA
        levels = tuple(level or ((Level.PASSAGE,) if is_lareqa else Level))
        if (run or qrels) and len(levels) != 1:
            raise ValueError(
                "--run, --qrels: expected one --level to go with them, since each level has its own ranking"
            )
        check_outputs({"--json": json, "--run": run, "--qrels": qrels}, overwrite=overwrite)
        trained = _codes(trained_languages)
        if trained == ():
            raise ValueError("--trained-languages: expected at least one language code, got an empty value")
        check_device(device)
        loaded = load_data(data, path=path, languages=_codes(languages), split_by=split_by, split_seed=split_seed)
        if trained is None:
            trained = trained_in(model)
        elif unknown := [code for code in trained if code not in loaded.languages]:
            raise ValueError(
                f"--trained-languages: no question evaluated is in {', '.join(unknown)}; expected languages among "
                f"{', '.join(loaded.languages)}"
            )
        loaded = loaded.select(split=split)
        if not loaded.queries:
            raise ValueError(f"--split: data set {loaded.name!r} has no question in its {split.value} split")
        reports = run_evaluation(
            model, loaded, levels, split, trained, k, device, full_ranking=full_ranking or is_lareqa
        )
        for report in reports:
            out.print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
        if json:
            json.write_text(
                "[\n" + ",\n".join(report.to_json().strip() for report in reports) + "\n]\n", encoding="utf-8"
            )
        if run:
            reports[0].write_run(run)
        if qrels:
            reports[0].write_qrels(qrels)


@app.command()
def encode(
    texts: Annotated[Path, typer.Argument(help="JSON lines, or plain text with one text a line.")],
    output: Annotated[
        Path, typer.Option(help="The .npy file to write: float32, unit rows, in the order of the lines.")
    ],
    model: Annotated[str, typer.Option(help="muse, or a model's folder or Hub name.")] = "muse",
    kind: Annotated[
        TextKind, typer.Option(help="What the texts are, which decides the model's prompt.")
    ] = TextKind.PASSAGE,
    field: Annotated[str, typer.Option(help="The key of the text, in JSON lines.")] = "text",
    batch_size: Annotated[int, typer.Option(help="Texts encoded at once.")] = 32,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    device: DeviceOption = None,
) -> None:
    """Embed texts into a NumPy file, for `relkt.search` or any other program.

    Example: `relkt encode corpus.jsonl --output corpus.npy`
    """
    with one_line_errors():
        from relkt.cli.encode import run_encoding

        shape = run_encoding(
            texts, output, model, kind is TextKind.QUERY, field, batch_size, device, overwrite=overwrite
        )
        note = f"wrote {output}: {shape[0]} rows of {shape[1]} float32 values"
        err.print(note, markup=False, highlight=False, soft_wrap=True)


app.command()(index)
app.command()(search)
app.command()(info)
app.command()(mine)
app.command()(reproduce)
app.command()(serve)
app.command()(bench)
app.command()(export)
app.command()(upload)
app.command()(download)


def _codes(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(code.strip() for code in text.split(",") if code.strip())
