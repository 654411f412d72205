"""load_data: its arguments, and relkt-mini."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relkt.data import DataError, Split, load_data


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "squad"}, "name: expected one of 'relkt-mini', 'xquad'.*got 'squad'"),
        ({"name": "relkt-mini", "split_by": "random"}, "split_by: expected one of 'auto'.*got 'random'"),
        ({"name": "relkt-mini", "split_fractions": (1, 1, 1)}, "split_fractions"),
        ({"name": "relkt-mini", "path": "x"}, "part of the package"),
        ({"name": "relkt-mini", "passage_language": "de"}, "passage_language"),
        ({"name": "relkt-mini", "languages": "de"}, "expected a list of language codes, got the string 'de'"),
        ({"name": "relkt-mini", "languages": []}, "at least one language"),
        ({"name": "relkt-mini", "languages": ["xx"]}, "no query in xx; it has en, ar"),
        ({"name": "relkt-mini", "split_by": "paper"}, "the paper does not use data set 'relkt-mini'"),
        ({"name": "beir"}, "path: expected the folder with the files .* or set hub to"),
        ({"name": "beir", "path": "x", "hub": "y"}, "hub: excludes path, got both"),
        ({"name": "xquad", "hub": "y"}, "hub: applies only to 'beir' and 'xorqa'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(**arguments)


def test_a_file_where_a_folder_is_expected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"expected a folder, got .*which is a file"):
        load_data("xquad", path=tmp_path / "file")


def test_relkt_mini_is_parallel_in_12_languages() -> None:
    data = load_data("relkt-mini")
    assert len(data.languages) == 12
    assert len(data.passages) >= 60
    assert len({p.document for p in data.passages}) >= 20
    languages: dict[str, list[str]] = {}
    for query in data.queries:
        languages.setdefault(query.parallel, []).append(query.language)
    assert all(sorted(found) == sorted(data.languages) for found in languages.values())
    questions = Counter(data.positives(q.id) for q in data.queries if q.language == "en")
    assert all(questions[(p.id,)] >= 2 for p in data.passages)


def test_relkt_mini_is_split_by_question() -> None:
    data = load_data("relkt-mini", languages=["th"])
    sizes = Counter(q.split for q in data.queries)
    assert sizes[Split.TRAIN] == 3 * sizes[Split.TEST] == 3 * sizes[Split.DEV]


def test_relkt_data_imports_neither_torch_nor_datasets() -> None:
    code = "import sys, relkt.data; relkt.data.load_data('relkt-mini'); print({'torch', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_repr_is_a_summary() -> None:
    data = load_data("relkt-mini", languages=["en", "th"])
    assert repr(data) == "RetrievalData('relkt-mini': 120 passages, 480 queries in en, th)"
