"""Checkpoint files: read those people already have, and write our own.

Files are opened so that they cannot run code. A file that does not fit is refused with what was
expected and what was found, and so is one whose tensors are not those that were written.
"""

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from napari_synapse_cl.config import CropConfig, possible_value
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.inference import check_fits, find_state_dict, infer_architecture
from napari_synapse_cl.models.packages import POOLING, is_package, weights_of
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.system.downloads import is_web_page
from napari_synapse_cl.system.files import check_unpacked, replacing, sha256_of
from napari_synapse_cl.system.words import Triple, triple

FORMAT = "napari-synapse-cl/1"
DESCRIPTION = "napari-synapse-cl"
"""Under this name a state dict that was exported here is described, as
:attr:`napari_synapse_cl.models.export_formats.Export.description` does it."""

DIGEST = "sha256"
"""Under this name such a description in safetensors keeps a hash of the rest and of all tensors."""

_CROP_SETTINGS = set(CropConfig.model_fields) - {"crop_size", "network_voxel_size"}
_SAVE_STATE_DICT = "Save its state dict alone, with torch.save(model.state_dict(), …)"
_DAMAGED = "not a PyTorch checkpoint, or it is damaged or cut off"
_BEGINNING_BYTES = 512

_READ_AT_ONCE = 2**24


@dataclass(frozen=True)
class Backbone:
    """A VGG3D without its classifier, as it was read from a file."""

    network: Vgg3D
    architecture: Architecture
    sha256: str | None
    """Hash of the file; None where it is from none."""
    crop_size: Triple | None
    """Size of the crops it was trained on, where the file says so or its classifier tells it."""
    voxel_size: tuple[float, float, float] | None
    """Voxel size along z, y, x in nm that it was trained on, where the file says so."""
    crop_settings: dict[str, Any]
    """Other settings of the crops that it was trained on, by name, where the file says them."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values onto the CPU, running none of its code.

    Of a package of the BioImage Model Zoo, or the description of an unpacked one, this is its state
    dict. One that was exported here is returned as a checkpoint of ours holds it, with what it says
    of its network.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, is no checkpoint, or would run code.
    """
    try:
        if is_package(path):
            with weights_of(path) as (weights, said):
                return {**said, **load_checkpoint(weights)}
        other = _what_else(path)
        if other:
            raise InputError(f"{path} is {other}")
        content = _read_safetensors(path) if _is_safetensors(path) else _read(path)
    except FileNotFoundError:
        raise InputError(f"there is no checkpoint {path}") from None
    except PermissionError as error:
        raise InputError(f"cannot read the checkpoint {path}: {reason(error)}") from None
    except pickle.UnpicklingError as error:
        culprit = re.search(r"GLOBAL ([\w.]+)", str(error))
        more = f" ({culprit[1]})" if culprit else ""
        raise InputError(
            f"{path} is refused: it holds more than tensors and plain values{more}, and opening it "
            f"could run code. {_SAVE_STATE_DICT}"
        ) from None
    except InputError:
        raise
    # What is damaged makes a pickle raise anything.
    except Exception:
        raise InputError(f"{path} is {_DAMAGED}") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return dict(content)


def load_backbone(path: Path) -> Backbone:
    """Read a VGG3D from a checkpoint of ours, or from a state dict as synister and funlib write.

    The state dict may be bare or under ``model_state_dict`` or ``state_dict``, its names with a
    prefix ``module.``, ``backbone.`` or ``model.`` or without, in a file of PyTorch or safetensors.

    Raises
    ------
    InputError
        As :func:`load_checkpoint`, or if the tensors are not those of a VGG3D.
    """
    content = load_checkpoint(path)
    settings: Mapping[str, Any] = {}
    try:
        state = find_state_dict(content)
        described = content.get("architecture")
        if isinstance(described, dict):
            architecture = Architecture.from_dict(described)
            settings = content.get("config", {})
            size = settings.get("crop_size")
        else:
            architecture, size = infer_architecture(state, path)
            inferred, architecture = architecture, _pooled(architecture, content.get(POOLING))
            # A size that follows from another pooling is none.
            size = size if architecture == inferred else None
        network = Vgg3D.from_architecture(architecture)
        crop_size = _possible("crop_size", size)
        voxel_size = _possible(
            "voxel_size", settings.get("network_voxel_size") or settings.get("voxel_size")
        )
        crop_settings = {n: possible_value(n, settings[n]) for n in _CROP_SETTINGS if n in settings}
    except InputError as error:
        told = str(error)
        raise InputError(told if str(path) in told else f"{path} is damaged: {told}") from None
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path} describes no architecture of a VGG3D: {error!r}") from None
    if architecture.input_fmaps != 1:
        raise InputError(
            f"{path} holds a network for images of {architecture.input_fmaps} channels; one for "
            "grey values, with 1 channel, is needed"
        )
    check_fits(state, network.state_dict(), path)
    network.load_state_dict({n: state[n] for n in network.state_dict() if n in state}, strict=False)
    return Backbone(
        network,
        architecture,
        sha256_of(path),
        crop_size=crop_size,
        voxel_size=voxel_size,
        crop_settings=crop_settings,
    )


def save_checkpoint(path: Path, network: Vgg3D, architecture: Architecture, **more: Any) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    network
        Its ``features`` are kept under ``model_state_dict``, as the original networks' users
        expect.
    **more
        Further entries, of tensors and plain types.
    """
    state = {f"features.{name}": t for name, t in network.features.state_dict().items()}
    content = {
        "format": FORMAT,
        "architecture": architecture.as_dict(),
        "model_state_dict": state,
        **more,
    }
    # Given a name, it would keep that of the temporary file, and not say why a disk takes nothing.
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def _what_else(path: Path) -> str | None:
    """Say what a file is that is no checkpoint by its first bytes or, an archive, by its content.

    PyTorch says of such a file that it could run code.
    """
    if path.is_dir():
        return "a folder; name the checkpoint in it"
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
        if "constants.pkl" in names:
            return f"a TorchScript archive, which holds code. {_SAVE_STATE_DICT}"
        if "data.pkl" not in names:
            return "a zip archive and no checkpoint; if there is one in it, unpack it first"
        check_archive(path)
    elif is_web_page(beginning):
        return "a web page and no checkpoint: download the file that the page offers"
    elif beginning and all(byte >= 32 or byte in b"\t\n\r" for byte in beginning):
        return "a text file and no checkpoint"
    elif not beginning.startswith((b"PK", b"\x80")) and not _is_safetensors(path):
        return _DAMAGED
    return None


def _pooled(architecture: Architecture, factors: Any) -> Architecture:
    """Return an architecture with the pooling that a package tells, if it does."""
    if factors is None:
        return architecture
    told = tuple(triple(along) for along in factors)
    if any(factor < 1 for along in told for factor in along):
        raise ValueError(f"pooling by {told}")
    return replace(architecture, downsample_factors=told)


def _possible(name: str, value: Any) -> Any:
    """Return a value that a file gives for a setting, in plain types; None for none."""
    return possible_value(name, value) if value else None


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: with the length of a JSON object, then that."""
    with path.open("rb") as file:
        return file.read(10)[8:] == b'{"'


def _read_safetensors(path: Path) -> Any:
    # The library itself opens no file whose name is not UTF-8.
    content = path.read_bytes()
    try:
        state = safetensors.torch.load(content)
        end_of_header = 8 + int.from_bytes(content[:8], "little")
        description = dict(json.loads(content[8:end_of_header]).get("__metadata__", {}))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    # The format has no check sums. Exports of older versions have none either.
    written = description.pop(DIGEST, None)
    if DESCRIPTION in description and written not in (None, digest(state, description)):
        raise InputError(f"{path} is damaged: its tensors do not match their hash. Export it again")
    return _described(state, description)


def _read(path: Path) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_numbers()):
        # It warns of foreign pickles before it refuses them.
        warnings.simplefilter("ignore", UserWarning)
        content = torch.load(path, map_location="cpu", weights_only=True)
    # State dicts carry the versions of modules so.
    metadata = getattr(content, "_metadata", None)
    description = metadata.get(DESCRIPTION) if isinstance(metadata, dict) else None
    return _described(content, description) if isinstance(description, dict) else content


def _described(state: Any, description: Mapping[str, str]) -> Any:
    """Return a state dict with what it says of its network; one of others as it is."""
    if DESCRIPTION not in description:
        return state
    crop_size, voxel_size, architecture, crop_settings = (
        json.loads(description[name])
        for name in ("crop_size", "voxel_size", "architecture", "crop_settings")
    )
    settings = {**crop_settings, "crop_size": crop_size, "network_voxel_size": voxel_size}
    return {"architecture": architecture, "config": settings, "model_state_dict": state}


def _numpy_numbers() -> list[Any]:
    """Return what a pickle calls to make NumPy's numbers, as iterations and losses are kept.

    No types with a size of their own, such as texts and records, are among them.
    """
    scalar = np.float64(0).__reduce__()[0]
    types = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    # NumPy 1 and 2 keep it in modules of different names.
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    return [*((scalar, name) for name in names), np.dtype, *types]


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
