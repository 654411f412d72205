"""Collect the licences of the crates in the extension module into one text file, which the wheel includes.

python tools/third_party_licenses.py          writes THIRD_PARTY_LICENSES
python tools/third_party_licenses.py --check  fails if that file is out of date

Needs Cargo, which lists the crates of Cargo.lock. Crates with macros are included, since the module contains the code
that they generate; crates for tests, benches and build scripts are not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "THIRD_PARTY_LICENSES"
PACKAGE = "relkt-python"
PLATFORMS = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
]
"""Platforms that wheels are built for."""

LICENCE_FILES = ("licen", "copying", "copyright", "notice", "unlicense")
RULE = "=" * 120

HEADER = """\
relkt is licensed under the Apache License 2.0; see LICENSE.

Its extension module, relkt._relkt, contains compiled code of the Rust crates below, and of the Rust standard library
(Copyright The Rust Project Developers, Apache-2.0 OR MIT; of its tables of Unicode properties: Copyright 1991-2024
Unicode, Inc., Unicode-3.0), whose licences are among the texts that follow.
"""


class MissingLicence(Exception):
    """A crate does not include the text of its licence."""


def linked_crates() -> list[dict[str, Any]]:
    """Cargo's records of all crates in the extension module on any platform, sorted by name and version."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    for platform in PLATFORMS:
        command += ["--filter-platform", platform]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip())
    metadata = json.loads(answer.stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [id for id, package in packages.items() if package["name"] == PACKAGE]
    linked: set[str] = set()
    while waiting:
        id = waiting.pop()
        if id not in linked:
            linked.add(id)
            # Only dependencies of build scripts and tests have a kind.
            normal = (d["pkg"] for d in nodes[id]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"]))
            waiting.extend(normal)
    others = (packages[id] for id in linked if packages[id]["source"] is not None)
    return sorted(others, key=lambda package: (package["name"], package["version"]))


def title(crate: dict[str, Any]) -> str:
    """Name, version and licence, as a line of the list."""
    return f"{crate['name']} {crate['version']} ({crate['license'] or crate['license_file']})"


def licence_texts(crate: dict[str, Any]) -> list[str]:
    """The licences and notices in the crate's sources."""
    folder = Path(crate["manifest_path"]).parent
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().startswith(LICENCE_FILES))
    if not files:
        raise MissingLicence(f"{title(crate)}: no licence file in {folder}")
    return [file.read_text(encoding="utf-8").replace("\r\n", "\n").strip("\n") for file in files]


def render(crates: list[dict[str, Any]]) -> str:
    """The whole file: the list of crates, then each text once, with the crates that share it."""
    users: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for crate in crates:
        for text in licence_texts(crate):
            key = " ".join(text.split())
            first.setdefault(key, text)
            users.setdefault(key, []).append(f"{crate['name']} {crate['version']}")
    parts = [HEADER, "\n".join(title(crate) for crate in crates) + "\n"]
    for key, names in users.items():
        parts.append(f"{RULE}\n{chr(10).join(names)}\n{RULE}\n\n{first[key]}\n")
    return "\n".join(parts)


def main() -> None:
    """Write the file, or compare it."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    text = render(linked_crates())
    if sys.argv[1:] == ["--check"]:
        if not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != text:
            sys.exit(f"{OUTPUT.name} does not match Cargo.lock: run python tools/third_party_licenses.py")
    else:
        OUTPUT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
