"""``python -m relkt``: the command line."""

from relkt.cli import app

app(prog_name="relkt")
