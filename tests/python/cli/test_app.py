"""The program: its version, its help, and how it starts and fails."""

import subprocess
import sys

import pytest

import relkt
from relkt.data import DataError

COMMANDS = ["demo", "train", "evaluate", "encode", "mine", "reproduce", "export", "upload", "download"]


def test_version_and_help(run):
    assert run("--version").stdout == f"relkt {relkt.__version__}\n"
    overview = run("--help").stdout
    for command in COMMANDS:
        assert command in overview
        page = run(command, "--help")
        assert page.exit_code == 0
        assert "Example:" in page.stdout


@pytest.mark.slow
def test_the_program_and_the_module_start():
    out = subprocess.run([sys.executable, "-m", "relkt", "--version"], capture_output=True, text=True, check=True)
    assert out.stdout == f"relkt {relkt.__version__}\n"


def test_starting_loads_no_torch():
    script = "import sys; from relkt.cli import app; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_usage_errors_have_the_same_exit_code(run):
    assert run("train").exit_code == 2
    assert run("encode", "good.txt", "--output", "x.npy", "--batch-size", "0").exit_code == 2
    assert run("evaluate", "muse", "--data", "nothing").exit_code == 2


def test_traceback_option_shows_the_error(run, tmp_path):
    result = run("--traceback", "encode", tmp_path / "missing.txt", "--output", tmp_path / "x.npy")
    assert isinstance(result.exception, DataError)
