"""``relkt export``: its options; :mod:`relkt.encoders.onnx_export` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.console import one_line_errors, print_note
from relkt.cli.options import ModelArgument


def export(
    model: ModelArgument,
    onnx: Annotated[
        Path, typer.Option("--onnx", help="Folder for the ONNX graph and the tokenizer. Must be new or empty.")
    ],
    tolerance: Annotated[
        float, typer.Option(help="Largest difference allowed in any component of a unit-length embedding.")
    ] = 1e-5,
) -> None:
    """Export an encoder as an ONNX graph that includes pooling, together with its tokenizer.

    ONNX Runtime runs the exported graph on texts in many scripts, and the embeddings are compared with the encoder's.
    If they differ, the folder is removed and the exit code is 1. Needs `pip install 'relkt[onnx]'`.

    Example: `relkt export muse --onnx muse-onnx`
    """
    from relkt.encoders.onnx_export import ExportDiffersError

    with one_line_errors(failures=(ExportDiffersError,), options={"folder": "--onnx"}):
        from relkt.encoders import load_encoder
        from relkt.encoders.onnx_export import export_onnx

        written = export_onnx(load_encoder(model, device="cpu"), onnx, tolerance=tolerance)
        print_note(
            f"wrote {onnx}: {written.dimension} dimensions; embeddings of {written.num_texts} texts differ by at most "
            f"{written.max_difference:.1e} per component"
        )
