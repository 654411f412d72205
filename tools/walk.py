"""Repeat the first steps of a new user, and record the output of each.

Install the wheel, train the demo, write ten passages to a file, index them, search the index in a terminal, serve it,
and ask the page a Thai question in a browser.

    python tools/walk.py --wheel dist/relkt-*.whl --output walk

writes ``walk/walk.md``, with every command and its output, and ``walk/page.png``, a picture of the page. The last step
needs Chromium and its driver. ``--environment DIR`` uses a virtual environment with the wheel already installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import contextmanager
from pathlib import Path

PASSAGES = {
    "ice": "Water expands when it freezes, because its molecules form an open lattice. Ice is less dense, and floats.",
    "tides": "The Moon's gravity pulls at the ocean, and the turning Earth carries coasts through high and low water.",
    "salt": "Rivers dissolve minerals from rocks and carry them to the sea, salty after millions of years.",
    "bread": "Yeast turns sugar into gas, whose bubbles raise the dough before it is baked.",
    "honey": "Bees collect nectar from flowers, and dry it with their wings until it is honey.",
    "rainbow": "Raindrops bend sunlight and reflect it, each colour at a different angle, which makes a rainbow.",
    "nile": "The Nile flows north through Sudan and Egypt, and ends in the Mediterranean Sea.",
    "leaves": "In autumn trees take the green chlorophyll out of their leaves, and other colours come to light.",
    "thunder": "Lightning heats the air so fast that it expands like an explosion, which is heard as thunder.",
    "seasons": "The Earth's axis is tilted, so each half of it leans towards the Sun for a part of the year: summer.",
}
QUESTION = "ทำไมน้ำแข็งลอยน้ำ"
EXPECTED = "ice"
PATIENCE = 180


class Walk:
    """The record of all steps so far, in Markdown."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder = folder
        scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
        path = os.pathsep.join([str(scripts), os.environ["PATH"]])
        self.variables = {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "110"}
        self.lines = [
            "# First steps",
            "",
            "Written by `python tools/walk.py`: every command and its output.",
        ]

    def run(self, title: str, *command: str, shown: str | None = None) -> str:
        """Run a command and record its output; exit if it fails."""
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.keep(title, shown or " ".join(command), done.stdout, time.perf_counter() - started)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed with exit status {done.returncode}:\n{done.stdout}")
        return done.stdout

    def keep(self, title: str, command: str, output: str, seconds: float) -> None:
        # Drop the empty lines of progress bars, and blanks at the ends of lines.
        tidy = "\n".join(line.rstrip() for line in output.splitlines() if line.strip())
        self.lines += ["", f"## {title}", "", "```text", f"$ {command}", tidy, "```", "", f"{seconds:.1f} s"]
        sys.stderr.write(f"{title}: {seconds:.1f} s\n")


@contextmanager
def served(walk: Walk, index: str):
    """Serve an index; yields the address of its page and the output so far."""
    server = subprocess.Popen(
        ["relkt", "serve", index, "--port", "0"],
        cwd=walk.folder,
        env={**walk.variables, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = ""
    try:
        assert server.stdout is not None
        for line in server.stdout:
            printed += line
            if found := re.search(r"http://[\d.]+:\d+", line):
                yield found[0], printed
                break
        else:
            sys.exit(f"relkt serve ended: {printed}")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE)


def ask_the_page(address: str, picture: Path) -> list[str]:
    """Ask the question in a browser; returns the texts of the results shown."""
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(address)
        wait = WebDriverWait(driver, PATIENCE)
        wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#relkt-question textarea"))
        box = driver.find_element(By.CSS_SELECTOR, "#relkt-question textarea")
        box.send_keys(QUESTION, Keys.ENTER)
        marked = re.compile(r"best sentences [\d.,]+ ms")
        wait.until(lambda d: marked.search(d.find_element(By.CSS_SELECTOR, "#relkt-status").text))
        wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, ".relkt-results mark"))
        driver.save_screenshot(str(picture))
        return [element.text for element in driver.find_elements(By.CSS_SELECTOR, ".relkt-results article")]
    finally:
        driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="Wheel to install.")
    parser.add_argument("--environment", type=Path, help="Virtual environment with relkt[app], instead of a wheel.")
    parser.add_argument("--output", type=Path, required=True, help="Folder for walk.md and page.png.")
    args = parser.parse_args()
    if (args.wheel is None) == (args.environment is None):
        parser.error("expected --wheel or --environment")
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "home"
        folder.mkdir()
        environment = args.environment.resolve() if args.environment else Path(scratch) / "venv"
        if args.environment is None:
            venv.create(environment, with_pip=True)
        walk = Walk(folder, environment)
        if args.wheel is not None:
            wheel = str(args.wheel.resolve())
            walk.run(
                "Install relkt",
                "pip",
                "install",
                "-q",
                f"{wheel}[app]",
                shown=f"pip install -q '{args.wheel.name}[app]'",
            )
        walk.run("Train the demo", "relkt", "demo", "--ask", "¿Por qué flota el hielo?")
        lines = (json.dumps({"id": name, "text": text}, ensure_ascii=False) for name, text in PASSAGES.items())
        (folder / "passages.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        walk.keep("Write ten passages", "head -n 3 passages.jsonl", "\n".join(head_of(folder / "passages.jsonl")), 0)
        walk.run("Index them", "relkt", "index", "passages.jsonl", "--output", "everyday.relkt")
        walk.run("Describe the index", "relkt", "info", "everyday.relkt", "--verify")
        found = json.loads(
            walk.run(
                "Search it, as JSON", "relkt", "search", "everyday.relkt", QUESTION, "-k", "3", "--json"
            ).splitlines()[0]
        )
        if found["passages"][0]["id"] != EXPECTED:
            sys.exit(f"expected {EXPECTED} first, got {found}")
        walk.run("Search it, as a table", "relkt", "search", "everyday.relkt", QUESTION, "-k", "3")
        started = time.perf_counter()
        with served(walk, "everyday.relkt") as (address, printed):
            shown = ask_the_page(address, args.output / "page.png")
        walk.keep(
            "Serve the page, and open it in a browser",
            "relkt serve everyday.relkt",
            printed,
            time.perf_counter() - started,
        )
        if not shown or "Ice is less dense" not in shown[0]:
            sys.exit(f"expected the passage on ice first, got {shown}")
        walk.lines += ["", f"The page after the question {QUESTION}:", "", "![The page](page.png)"]
    (args.output / "walk.md").write_text("\n".join(walk.lines) + "\n", encoding="utf-8")


def head_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[:3]


if __name__ == "__main__":
    main()
