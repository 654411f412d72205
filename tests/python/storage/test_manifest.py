"""Manifests: what differs, which files are relkt's, and what is refused."""

import json
from pathlib import Path

import pytest

from relkt.storage import FolderError, Manifest, differences, list_names

MARK = {"relkt": "mining", "version": 3}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(tmp_path / "work", "manifest.json", MARK, (r"mined-\d{6,}\.npz", r"passages\.relkt"))


def test_each_difference_is_listed_with_its_keys() -> None:
    was = {"a": 1, "b": {"c": [1], "d": "x", "gone": True}, "same": {"deep": None}, "sum": "0" * 64}
    now = {"a": 2, "b": {"c": [1], "d": "y"}, "same": {"deep": None}, "sum": "1" * 64, "new": {"e": 1}}
    assert [str(found) for found in differences(was, now)] == [
        "a was 1, is now 2",
        "b.d was 'x', is now 'y'",
        "b.gone was True, is now not set",
        "sum differs",
        "new was not set, is now {'e': 1}",
    ]
    assert differences(was, was) == []


def test_a_value_that_replaces_a_mapping_differs() -> None:
    assert [str(d) for d in differences({"a": {"b": 1}}, {"a": 1})] == ["a was {'b': 1}, is now 1"]


def test_values_are_read_as_they_were_written(manifest: Manifest) -> None:
    assert manifest.read() is None
    manifest.write({"inputs": {"pairs": "é"}})
    assert manifest.read() == MARK | {"inputs": {"pairs": "é"}}
    assert manifest.differences({"inputs": {"pairs": "é"}}) == []
    assert [d.name for d in manifest.differences({"inputs": {"pairs": "e"}})] == ["inputs.pairs"]


def test_another_version_is_a_difference(manifest: Manifest) -> None:
    manifest.write({})
    manifest.path.write_text(json.dumps(MARK | {"version": 2}))
    assert [str(d) for d in manifest.differences({})] == ["version was 2, is now 3"]


@pytest.mark.parametrize("content", ["{", "[]", '{"relkt": "index"}', "{}", "\udcff"])
def test_a_manifest_of_another_program_is_refused(manifest: Manifest, content: str) -> None:
    manifest.folder.mkdir()
    manifest.path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(FolderError, match=r"manifest\.json: (expected JSON, got an error|not a manifest written by)"):
        manifest.read()


@pytest.mark.parametrize(
    ("name", "owned"),
    [
        ("manifest.json", True),
        ("manifest.json.partial", True),
        (".manifest.json.7-0.tmp", True),
        ("mined-000001.npz", True),
        ("mined-000001.npz.partial", True),
        (".passages.relkt.7-0.tmp", True),
        ("mined-notes.txt", False),
        ("mined-000001.npz.bak", False),
        (".notes.7-0.tmp", False),
    ],
)
def test_names_that_relkt_owns(manifest: Manifest, name: str, owned: bool) -> None:
    assert manifest.owns(name) is owned


def test_only_owned_files_are_removed(manifest: Manifest) -> None:
    manifest.write({})
    for name in ("mined-000001.npz", "notes.txt", ".passages.relkt.7-0.tmp"):
        (manifest.folder / name).touch()
    (manifest.folder / "passages.relkt").mkdir()
    assert manifest.others() == ["notes.txt", "passages.relkt"]
    manifest.remove_owned()
    assert sorted(path.name for path in manifest.folder.iterdir()) == ["notes.txt", "passages.relkt"]


def test_a_folder_that_does_not_exist_holds_nothing(manifest: Manifest) -> None:
    assert not manifest.exists()
    assert manifest.others() == []
    manifest.remove_owned()


def test_long_lists_of_names_are_cut() -> None:
    assert list_names("abcde") == "a, b, c, d, e"
    assert list_names("abcdef") == "a, b, c, d, e, ..."
