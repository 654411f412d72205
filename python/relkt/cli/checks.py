"""Checks of options, made before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def check_device(device: str | None) -> None:
    """Checks that PyTorch can use a device.

    Raises:
        ValueError: If it is no device, or this machine does not have it.
    """
    if device is None:
        return
    import torch

    try:
        # Makes a number there and reads it back: the one test that fits every kind of device.
        torch.zeros(1, device=torch.device(device)).item()
    # What is raised depends on the kind: also AssertionError where PyTorch was built without it.
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ValueError(
            f"--device: expected cpu, or a GPU that this machine has (cuda, cuda:1, mps), got {device!r} ({reason})"
        ) from error


def check_outputs(outputs: Mapping[str, Path | None], *, overwrite: bool) -> None:
    """Checks that files can be written without losing another.

    Args:
        outputs: Option -> the file it names, or None if it was not given.
        overwrite: Whether files that exist may be replaced.

    Raises:
        ValueError: If two options name one file.
        FileNotFoundError: If the folder of a file does not exist.
        FileExistsError: If there is such a file and it may not be replaced, or a folder in its place.
    """
    option_of: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if (other := option_of.setdefault(path.resolve(), option)) != option:
            raise ValueError(f"{option}: expected another file than {other}'s, got {path} for both")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{option}: the folder of {path} does not exist")
        if path.is_dir():
            raise FileExistsError(f"{option}: expected a file, got the folder {path}")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{option}: {path} exists; give --overwrite to replace it")
