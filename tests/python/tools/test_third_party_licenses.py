"""The licences that the wheel carries are those of what it contains."""

import importlib.util
import shutil
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tools" / "third_party_licenses.py"


@pytest.fixture(scope="module")
def licences():
    if not SCRIPT.exists():
        pytest.skip("the repository's tools are not beside the tests")
    spec = importlib.util.spec_from_file_location("third_party_licenses", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def a_crate(tmp_path):
    def make(name, files):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        manifest = str(folder / "Cargo.toml")
        return {"name": name, "version": "1.0.0", "license": "MIT", "license_file": None, "manifest_path": manifest}

    return make


def test_the_file_is_that_of_the_locked_crates(licences):
    if shutil.which("cargo") is None:
        pytest.skip("cargo, which knows the crates, is not installed")
    crates = licences.linked_crates()
    names = {crate["name"] for crate in crates}
    assert {"pyo3", "rayon", "memmap2", "thiserror-impl", "windows-sys"} <= names
    assert not names & {"criterion", "proptest", "gemm", "relkt-core", "relkt-python"}
    assert licences.OUTPUT.read_text(encoding="utf-8") == licences.render(crates)


def test_a_text_stands_once_with_all_that_come_with_it(licences, a_crate):
    crates = [
        a_crate("one", {"LICENSE-MIT": "Copyright A\n", "LICENSE-APACHE": "Apache text"}),
        a_crate("two", {"license": "Apache\n  text\n", "notes": "no licence"}),
    ]
    text = licences.render(crates)
    assert text.count("Apache") == 1 + licences.HEADER.count("Apache")
    assert "one 1.0.0\ntwo 1.0.0\n" in text
    assert "one 1.0.0 (MIT)\ntwo 1.0.0 (MIT)\n" in text
    assert "Copyright A" in text
    assert "no licence" not in text


def test_a_crate_without_a_text_is_refused(licences, a_crate):
    with pytest.raises(licences.MissingLicence, match=r"bare 1\.0\.0 \(MIT\): no file with its licence"):
        licences.render([a_crate("bare", {"README.md": "MIT"})])


def test_the_installed_distribution_has_its_licences():
    try:
        files = metadata.files("relkt")
    except metadata.PackageNotFoundError:
        pytest.skip("relkt is imported from its sources, not installed")
    held = {path.name for path in files if "licenses" in path.parts}
    assert {"LICENSE", "THIRD_PARTY_LICENSES"} <= held
