"""Output of a measurement, with the machine and the package versions."""

from __future__ import annotations

import argparse
import json
from typing import Any

from relkt.machine import machine

__all__ = ["machine", "write_report"]


def write_report(report: dict[str, Any], markdown: str, args: argparse.Namespace) -> None:
    """Prints the machine, and writes the files of ``--json`` and ``--markdown``."""
    print(f"{report['cpu']}, {report['cores']} cores, {report['versions']}")
    if args.markdown:
        args.markdown.write_text(markdown)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
