"""Errors of the library in the words of the command line."""

import io

import pytest
import typer
from rich.console import Console

from relkt.cli import console
from relkt.cli.console import one_line_errors, option_of
from relkt.errors import ArgumentError, ArgumentExistsError, ArgumentTypeError, Parameter


@pytest.fixture
def printed(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, width=40))
    return text


@pytest.mark.parametrize(
    ("parameter", "option"),
    [
        (Parameter("num_negatives"), "--num-negatives"),
        (Parameter("num_negatives", "5"), "--num-negatives 5"),
        (Parameter("conditions.max_score"), "--max-score"),
        (Parameter("overwrite", "True"), "--overwrite"),
        (Parameter("scores", "False"), "--no-scores"),
        (Parameter("output_format"), "--format"),
        (Parameter("output_format", "triplet"), "--format triplet"),
        (Parameter("columns.query"), "--query-column"),
        (Parameter("exclude_same_document", "False"), "--no-exclude-same-document"),
        (Parameter("path"), "INDEX"),
    ],
)
def test_options_of_parameters(parameter, option):
    options = {
        "output_format": "--format",
        "columns.query": "--query-column",
        "exclude_same_document": "--no-exclude-same-document",
        "path": "INDEX",
    }
    assert option_of(parameter, options) == option


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ArgumentError("conditions.range_max", ("more than ", Parameter("range_min")), 3),
            "--range-max: expected more than --range-min, got 3",
        ),
        (
            ArgumentExistsError("path", problem="[x] exists", hint=("pass ", Parameter("overwrite", "True"))),
            "--output: [x] exists; pass --overwrite",
        ),
        (ArgumentTypeError("seed", "an integer", "a\ntext"), "--seed: expected an integer, got a text"),
        (ValueError("path: expected a file, got a folder"), "path: expected a file, got a folder"),
    ],
)
def test_one_line_and_exit_code_2(printed, error, line):
    with pytest.raises(typer.Exit) as exited, one_line_errors(options={"path": "--output"}):
        raise error
    assert exited.value.exit_code == 2
    assert printed.getvalue() == f"error: {line}\n"


def test_failures_have_exit_code_1(printed):
    with pytest.raises(typer.Exit) as exited, one_line_errors(failures=(RuntimeError,)):
        raise RuntimeError("differs")
    assert exited.value.exit_code == 1
    assert printed.getvalue() == "error: differs\n"


def test_other_errors_pass():
    with pytest.raises(RuntimeError), one_line_errors():
        raise RuntimeError


def test_ctrl_c_says_how_to_resume(printed):
    with pytest.raises(typer.Exit) as exited, one_line_errors("run the same command to resume"):
        raise KeyboardInterrupt
    assert exited.value.exit_code == 130
    assert printed.getvalue() == "interrupted; run the same command to resume\n"
