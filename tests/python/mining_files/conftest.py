"""Fixtures of the tests of mining files."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for mining_runs

from mining_runs import encoder, small_parts  # noqa: F401
