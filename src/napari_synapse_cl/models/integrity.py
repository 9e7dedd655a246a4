"""Whether the tensors of a checkpoint are those that were written, as far as the file says it."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import check_unpacked

_READ_AT_ONCE = 2**24


def check_archive(path: Path) -> None:
    """Compare what PyTorch has written into an archive with its check sums.

    PyTorch itself does not look at them when it reads.

    Raises
    ------
    InputError
        If one differs, or it unpacks to many times its size.
    """
    try:
        check_unpacked(path)
    except ValueError as error:
        raise InputError(f"{path} is no checkpoint that is read: {error}") from None
    with zipfile.ZipFile(path) as archive:
        # torch.save can be told to leave check sums out, and they are 0 then.
        summed = [entry for entry in archive.infolist() if entry.CRC]
        for entry in summed:
            try:
                with archive.open(entry) as file:
                    while file.read(_READ_AT_ONCE):
                        pass
            except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
                raise InputError(
                    f"{path} is damaged: {entry.filename} in it does not match its check sum. "
                    "Take a copy of it, or train again"
                ) from None


def check_finite(tensors: Mapping[str, Any], what: str, path: Path) -> None:
    """Refuse tensors with values that are no numbers.

    Parameters
    ----------
    tensors
        By their names; others than tensors are passed over.
    what
        They are, as in "weights".
    path
        The file they are from.

    Raises
    ------
    InputError
        If one of them is NaN or infinite.
    """
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            n_bad = int((~torch.isfinite(tensor)).sum())
            if n_bad:
                raise InputError(
                    f"{path} is of no use: {n_bad:,} of {tensor.numel():,} {what} in {name} are "
                    "NaN or infinite"
                )


def digest(tensors: Mapping[str, Tensor], description: Mapping[str, str]) -> str:
    """Return a hash of tensors and of what is said of them, whatever their order."""
    found = hashlib.sha256()
    for key, text in sorted(description.items()):
        found.update(f"{key}={text}\n".encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
