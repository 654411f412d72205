"""The machine and the package versions of a measurement."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def machine(*packages: str) -> dict[str, Any]:
    """Returns the processor, the number of cores, and the versions of packages ("?" if one is not installed)."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].split(":", 1)[1].strip() if lines else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "versions": {name: _installed(name) for name in packages}}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        # E.g. in an uninstalled checkout.
        return str(getattr(sys.modules.get(name), "__version__", "?"))
