"""Selection of the peers that are installed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib.util import find_spec


def drop_missing(args: argparse.Namespace, modules: Mapping[str, Sequence[str]]) -> None:
    """Adds relkt to ``args.peers``, and removes peers that are not installed, with a note.

    Args:
        args: Arguments with ``peers``; changed in place.
        modules: Peer -> modules that it requires.
    """
    if "relkt" not in args.peers:
        args.peers.insert(0, "relkt")
    for peer in list(args.peers):
        if missing := [module for module in modules[peer] if find_spec(module) is None]:
            if peer == "relkt":
                raise SystemExit("relkt is not installed")
            print(f"{peer}: skipped, {', '.join(missing)} not installed")
            args.peers.remove(peer)
