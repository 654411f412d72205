"""The command line: arguments and pages; the work is done elsewhere."""

from relkt.cli.app import app

__all__ = ["app"]
