"""The wheel includes the licences of all crates that it contains."""

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
        pytest.skip("the repository's tools are not in this checkout")
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


def test_file_matches_the_locked_crates(licences):
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    crates = licences.linked_crates()
    names = {crate["name"] for crate in crates}
    assert {"pyo3", "rayon", "memmap2", "thiserror-impl", "windows-sys"} <= names
    assert not names & {"criterion", "proptest", "gemm", "relkt-core", "relkt-python"}
    assert licences.OUTPUT.read_text(encoding="utf-8") == licences.render(crates)


def test_shared_texts_appear_once(licences, a_crate):
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


def test_crate_without_licence_file_is_an_error(licences, a_crate):
    with pytest.raises(licences.MissingLicence, match=r"bare 1\.0\.0 \(MIT\): no licence file"):
        licences.render([a_crate("bare", {"README.md": "MIT"})])


def test_installed_distribution_includes_licences():
    try:
        files = metadata.files("relkt")
    except metadata.PackageNotFoundError:
        pytest.skip("relkt is imported from its sources and not installed")
    held = {path.name for path in files if "licenses" in path.parts}
    assert {"LICENSE", "THIRD_PARTY_LICENSES"} <= held
