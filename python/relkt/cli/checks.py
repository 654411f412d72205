"""Checks of options, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def check_device(device: str | None) -> None:
    """Checks that PyTorch can use a device.

    Raises:
        ValueError: If PyTorch does not know the device, or this machine does not have it.
    """
    if device is None:
        return
    import torch

    try:
        # Creates a number on the device and reads it back: the only test that works for every kind of device.
        torch.zeros(1, device=torch.device(device)).item()
    # The type of error depends on the device: AssertionError if PyTorch was built without support for the device.
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ValueError(
            f"--device: expected cpu, or a GPU that this machine has (cuda, cuda:1, mps), got {device!r} ({reason})"
        ) from error


def check_outputs(outputs: Mapping[str, Path | None], *, overwrite: bool) -> None:
    """Checks that files can be written without losing another file.

    Args:
        outputs: Option -> its file, or None if the option is not given.
        overwrite: True if existing files may be replaced.

    Raises:
        ValueError: If two options have the same file.
        FileNotFoundError: If the folder of a file does not exist.
        FileExistsError: If a file exists and may not be replaced, or is a folder.
    """
    option_of: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if (other := option_of.setdefault(path.resolve(), option)) != option:
            raise ValueError(f"{option}: expected a file other than {other}'s, got {path} for both")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{option}: the folder of {path} does not exist")
        if path.is_dir():
            raise FileExistsError(f"{option}: expected a file, got the folder {path}")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{option}: {path} exists; use --overwrite to replace it")
