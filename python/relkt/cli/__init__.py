"""The command line: options, progress and output; the work is done by the library."""

from relkt.cli.app import app

__all__ = ["app"]
