"""Makes parallel text from the message catalogues of Debian packages.

    python benches/catalogues.py OUT.tsv --languages ar,el,hi,ro,ru,th,tr,vi,zh

Downloads packages with ``apt-get download`` (about 250 MB by default, into a folder that is removed at the end), reads
their ``.mo`` files with ``relkt.load_parallel`` and writes English, translation and language as columns for
``relkt train --parallel OUT.tsv``. Texts keep their packages' licences: make the file, do not publish it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from relkt.data.parallel import load_parallel
from relkt.storage.atomic import atomic_file

# Packages whose catalogues hold sentences on many subjects in many languages.
PACKAGES = (
    "wesnoth-1.16-data",
    "freeciv-data",
    "gnucash-common",
    "gramps",
    "evolution-common",
    "gimp-data",
    "iso-codes",
    "gnome-control-center-data",
    "libgtk-3-common",
    "homebank",
    "nautilus-data",
    "aisleriot",
    "gnome-software-common",
    "synaptic",
    "tuxpaint-data",
)
MIN_CHARACTERS = 3
"""Shortest text kept on either side: shorter ones are keys and units."""


def catalogues_of(package: str, folder: Path) -> Path:
    """Download a package and unpack its catalogues; returns the folder that holds them."""
    before = set(folder.glob("*.deb"))
    # The download runs as another user, who may write here.
    folder.chmod(0o777)
    subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = set(folder.glob("*.deb")) - before
    unpacked = folder / package
    unpacked.mkdir()
    files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
    subprocess.run(
        ["tar", "-x", "-C", str(unpacked), "--wildcards", "*/LC_MESSAGES/*.mo"], stdin=files.stdout, check=False
    )
    files.communicate()
    archive.unlink()
    return unpacked


def main() -> None:
    """Write the pairs, and print how many there are by language."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--languages", help="language codes, separated by commas; default: all")
    parser.add_argument("--packages", nargs="+", default=PACKAGES)
    arguments = parser.parse_args()
    languages = arguments.languages.split(",") if arguments.languages else None
    with tempfile.TemporaryDirectory() as folder:
        for package in arguments.packages:
            print(package, file=sys.stderr)
            catalogues_of(package, Path(folder))
        found = load_parallel(folder, languages=languages)
    pairs = [pair for pair in found.pairs if min(len(pair.english), len(pair.text)) >= MIN_CHARACTERS]
    with atomic_file(arguments.output) as file:
        file.write(b"english\ttext\tlanguage\n")
        file.writelines(f"{pair.english}\t{pair.text}\t{pair.language}\n".encode() for pair in pairs)
    print(found.summary())
    print(f"wrote {arguments.output}: {len(pairs):,} pairs of at least {MIN_CHARACTERS} characters")


if __name__ == "__main__":
    main()
