"""``relkt bench``: its table, its JSON, and the options that it refuses."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("shared_muse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "--queries", "1,x"], "--queries: expected comma-separated numbers"),
        (["bench", "--queries", "4,4"], "--queries: expected different numbers"),
        (["bench", "--rows", "5", "--k", "6"], "k: expected a number from 1 to 5"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    refused(arguments, message)


def test_json_and_table(run, index, monkeypatch):
    monkeypatch.setattr("relkt.speed.SECONDS", 0)
    result = run("bench", "--rows", 300, "--dim", 16, "--queries", "1,3", "-k", 2, "--threads", 1, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["rows"], report["dim"], report["k"], report["threads"]) == (300, 16, 2, 1)
    assert {(t["system"], t["queries"]) for t in report["timings"]} >= {("relkt", 1), ("NumPy", 1), ("NumPy", 3)}
    assert all(t["seconds"] > 0 and t["agreement"] == 1 for t in report["timings"])
    shown = run("bench", index, "--queries", "1", "-k", 1)
    assert shown.exit_code == 0, shown.stderr
    assert "3 rows of 512, k = 1" in shown.stdout
