"""The progress bar: count, rate and description."""

import io

import pytest
from rich.console import Console

from relkt.cli.progress import progress_bar


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def last_line(terminal, display):
    display.refresh()
    return [line for line in terminal.file.getvalue().splitlines() if line.strip()][-1]


@pytest.mark.parametrize("rate", [None, "passages"])
def test_the_bar_counts(terminal, rate):
    with progress_bar("encoding [x]", 10, done=4, rate=rate, console=terminal) as bar:
        bar(3)
        bar(1)
        line = last_line(terminal, bar._display)
    assert "encoding [x]" in line
    assert "8/10" in line.replace(" ", "")
    assert ("passages/s" in line) is bool(rate)


def test_restart_shows_other_work(terminal):
    with progress_bar("loading the encoder", rate="passages", console=terminal) as bar:
        assert "passages/s" not in last_line(terminal, bar._display)
        bar.restart("encoding", 7, 2)
        bar(1)
        line = last_line(terminal, bar._display)
    assert "encoding" in line
    assert "loading" not in line
    assert "3/7" in line.replace(" ", "")
