"""``relkt export``: its options and note; :mod:`relkt.encoders.onnx_export` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.console import err, one_line_errors


def export(
    model: Annotated[str, typer.Argument(help="muse, or a model's folder or Hub name.")],
    onnx: Annotated[Path, typer.Option("--onnx", help="Folder for the ONNX graph and the tokenizer; new or empty.")],
    tolerance: Annotated[
        float, typer.Option(help="The largest difference allowed in a component of a unit row.")
    ] = 1e-5,
) -> None:
    """Write an encoder as an ONNX graph, with pooling inside and its tokenizer beside it.

    What is written is run by ONNX Runtime on texts in many scripts and compared with the encoder; if it differs,
    nothing is left and the exit code is 1. Needs `pip install 'relkt[onnx]'`.

    Example: `relkt export muse --onnx muse-onnx`
    """
    from relkt.encoders.onnx_export import ExportDiffersError

    with one_line_errors(failures=(ExportDiffersError,), worded=_worded):
        from relkt.encoders import load_encoder
        from relkt.encoders.onnx_export import export_onnx

        written = export_onnx(load_encoder(model, device="cpu"), onnx, tolerance=tolerance)
        note = (
            f"wrote {onnx}: {written.dimension} dimensions, compared on {written.num_texts} texts, off by at most "
            f"{written.max_difference:.1e} in a component"
        )
        err.print(note, markup=False, highlight=False, soft_wrap=True)


def _worded(message: str) -> str:
    """The library's message in the words of the command."""
    return message.replace("folder: ", "--onnx: ").replace("tolerance: ", "--tolerance: ")
