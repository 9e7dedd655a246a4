"""Checkpoint files: read those people already have, and write our own.

Files are opened so that they cannot run code. A file that does not fit is refused with what was
expected and what was found.
"""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.files import replacing
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.downsampling import Triple, downsampling_factors
from napari_synapse_cl.models.vgg3d import Vgg3D

FORMAT = "napari-synapse-cl/1"

_PREFIXES = re.compile(r"^((module|backbone|model)\.)+")
_CONVOLUTION = re.compile(r"^features\.(\d+)\.weight$")
_KNOWN_INPUTS: tuple[tuple[str, Triple], ...] = (
    ("isotropic", (80, 80, 80)),
    ("anisotropic", (16, 160, 160)),
)


@dataclass(frozen=True)
class Backbone:
    """A VGG3D that was read from a file, without its classifier."""

    network: Vgg3D
    architecture: Architecture
    sha256: str
    """Hash of the file."""
    crop_size: Triple | None
    """Size of the crops it was trained on, where the file says so."""
    voxel_size: tuple[float, float, float] | None
    """Voxel size along z, y, x in nm that it was trained on, where the file says so."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values onto the CPU, running none of its code.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, is no checkpoint, or would run code.
    """
    damaged = f"{path} is not a PyTorch checkpoint, or it is damaged or cut off"
    try:
        with warnings.catch_warnings():
            # It warns of foreign pickles before it refuses them.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no checkpoint {path}") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is refused: it holds more than tensors and plain values, and opening it "
            "could run code. Save its state dict alone, with torch.save(model.state_dict(), …)"
        ) from None
    except PermissionError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError):
        raise InputError(damaged) from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return dict(content)


def load_backbone(path: Path) -> Backbone:
    """Read a VGG3D from a checkpoint of ours, or from a state dict as synister and funlib write.

    The state dict may be bare or under ``model_state_dict``, its names with a prefix ``module.``,
    ``backbone.`` or ``model.`` or without.

    Raises
    ------
    InputError
        As :func:`load_checkpoint`, or if the tensors are not those of a VGG3D.
    """
    content = load_checkpoint(path)
    state = _state_dict(content, path)
    if "architecture" in content:
        try:
            architecture = Architecture.from_dict(content["architecture"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} describes no architecture: {error!r}") from None
    else:
        architecture = infer_architecture(state, path)
    if architecture.input_fmaps != 1:
        raise InputError(
            f"{path} holds a network for images of {architecture.input_fmaps} channels; one for "
            "grey values, with 1 channel, is needed"
        )
    network = Vgg3D.from_architecture(architecture)
    expected = network.state_dict()
    wrong = [
        f"{name} should be {tuple(tensor.shape)} and is "
        + (str(tuple(state[name].shape)) if name in state else "missing")
        for name, tensor in expected.items()
        # Old PyTorch versions wrote no counter, and it changes no output.
        if not name.endswith("num_batches_tracked")
        and (name not in state or state[name].shape != tensor.shape)
    ]
    if wrong:
        raise InputError(f"{path} does not hold a whole VGG3D: {wrong[0]}" + _and_more(wrong))
    extra = [name for name in state if name.startswith("features.") and name not in expected]
    if extra:
        raise InputError(
            f"{path} holds a network that is not a VGG3D: unexpected {extra[0]}" + _and_more(extra)
        )
    bad = [name for name in expected if name in state and not torch.isfinite(state[name]).all()]
    if bad:
        raise InputError(f"{path} holds values that are not finite, in {bad[0]}" + _and_more(bad))
    network.load_state_dict({n: t for n, t in state.items() if n in expected}, strict=False)
    settings = content.get("config", {}) if "architecture" in content else {}
    size, voxel_size = settings.get("crop_size"), settings.get("voxel_size")
    return Backbone(
        network,
        architecture,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        crop_size=(size[0], size[1], size[2]) if size else None,
        voxel_size=(voxel_size[0], voxel_size[1], voxel_size[2]) if voxel_size else None,
    )


def save_checkpoint(path: Path, network: Vgg3D, architecture: Architecture, **more: Any) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path
        The file to write.
    network
        Its ``features`` are kept under ``model_state_dict``, as the original networks' users
        expect.
    architecture
        That of the network.
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
    with replacing(path) as temporary:
        torch.save(content, temporary)


def infer_architecture(state: Mapping[str, Tensor], path: Path) -> Architecture:
    """Tell a VGG3D's architecture from its tensors.

    Stages follow from the gaps in the numbering of the convolutions. The pooling leaves no tensor;
    it is told by the number of the classifier's inputs, and is 2×2×2 where there is no classifier.

    Parameters
    ----------
    state
        Tensors by name, without prefix.
    path
        The file they come from, for messages.

    Raises
    ------
    InputError
        If these are not the tensors of a VGG3D, or of one whose input size is not known.
    """
    shapes = {
        int(match[1]): tuple(tensor.shape)
        for name, tensor in state.items()
        if (match := _CONVOLUTION.match(name)) and tensor.ndim == 5
    }
    indices = sorted(shapes)
    # Convolution, batch norm, ReLU: 3 modules to the next one, and 4 with a pooling between.
    gaps = {after - before for before, after in pairwise(indices)}
    if not indices or indices[0] != 0 or not gaps <= {3, 4}:
        raise InputError(
            f"{path} holds no VGG3D: 3D convolutions were expected at features.0.weight, "
            f"features.3.weight and so on, found {_some_names(state)}"
        )
    firsts = [0, *(a for b, a in pairwise(indices) if a - b == 4)]
    bounds = [indices.index(first) for first in firsts] + [len(indices)]
    n_convolutions = tuple(b - a for a, b in pairwise(bounds))
    fmaps = tuple(shapes[first][0] for first in firsts)
    if any(after % before for before, after in pairwise(fmaps)):
        raise InputError(f"{path} holds no VGG3D: its stages have {fmaps} channels")
    factors = _pooling(state, fmaps[-1], len(fmaps), path)
    return Architecture(fmaps, n_convolutions, factors, input_fmaps=shapes[0][1])


def _pooling(
    state: Mapping[str, Tensor], channels: int, n_stages: int, path: Path
) -> tuple[Triple, ...]:
    classifier = state.get("classifier.0.weight")
    if classifier is None:
        return downsampling_factors("isotropic", n_stages)
    n_voxels = classifier.shape[1] / channels
    for kind, input_size in _KNOWN_INPUTS:
        factors = downsampling_factors(kind, n_stages)
        total = Architecture((1,) * n_stages, (1,) * n_stages, factors).total_downsampling
        pooled = [size / factor for size, factor in zip(input_size, total, strict=True)]
        if pooled[0] * pooled[1] * pooled[2] == n_voxels:
            return factors
    side = round(n_voxels ** (1 / 3))
    if side**3 == n_voxels:
        return downsampling_factors("isotropic", n_stages)
    raise InputError(
        f"{path}: its classifier takes {classifier.shape[1]} features, which fits neither a cube "
        "nor the 16 × 160 × 160 of the anisotropic VGG3D, so its pooling cannot be told"
    )


def _state_dict(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Find the state dict in a checkpoint and strip the prefixes from its names."""
    found = content.get("model_state_dict", content.get("state_dict", content))
    if not isinstance(found, Mapping):
        raise InputError(f"{path} holds no state dict")
    return {
        _PREFIXES.sub("", name): tensor
        for name, tensor in found.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }


def _some_names(state: Mapping[str, Tensor]) -> str:
    names = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(state.items())[:3]]
    return ", ".join(names) + (" …" if len(state) > 3 else "") if names else "no tensors"


def _and_more(problems: list[str]) -> str:
    return f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
