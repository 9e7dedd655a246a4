"""What network a state dict holds, told by the names and shapes of its tensors."""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import (
    Architecture,
    downsampling_factors,
    total_downsampling,
)
from napari_synapse_cl.system.words import Triple

_WRAPPINGS = ("model_state_dict", "state_dict")
_PREFIXES = re.compile(r"^((module|backbone|model)\.)+")
_CONVOLUTION = re.compile(r"^features\.(\d+)\.weight$")
_ANISOTROPIC_INPUT: Triple = (16, 160, 160)


def find_state_dict(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without wrapping and prefixes."""
    # One may hold the other; a file made to mislead may hold itself.
    for _ in _WRAPPINGS:
        found = [content[name] for name in _WRAPPINGS if isinstance(content.get(name), Mapping)]
        content = found[0] if found else content
    return {
        _PREFIXES.sub("", name): tensor
        for name, tensor in content.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }


def infer_architecture(
    state: Mapping[str, Tensor], path: Path
) -> tuple[Architecture, Triple | None]:
    """Tell a VGG3D's architecture and the size of its input from its tensors.

    Stages follow from the gaps in the numbering of the convolutions. The pooling leaves no tensor;
    it is told, with the size of the input, by the number of the classifier's inputs, and is 2×2×2
    where there is no classifier.

    Parameters
    ----------
    state
        Tensors by name, without prefix.
    path
        The file they come from, for messages.

    Returns
    -------
    architecture
        That of ``features``.
    input_size
        Size along z, y, x in voxels of the crops that the network was trained on; None where there
        is no classifier.

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
            f"features.3.weight and so on, found {_what_it_is(state)}{_some_names(state)}"
        )
    firsts = [0, *(a for b, a in pairwise(indices) if a - b == 4)]
    bounds = [indices.index(first) for first in firsts] + [len(indices)]
    n_convolutions = tuple(b - a for a, b in pairwise(bounds))
    fmaps = tuple(shapes[first][0] for first in firsts)
    if min(fmaps) < 1 or any(after % before for before, after in pairwise(fmaps)):
        raise InputError(f"{path} holds no VGG3D: its stages have {fmaps} channels")
    factors, input_size = _pooling(state, fmaps[-1], len(fmaps), path)
    return Architecture(fmaps, n_convolutions, factors, input_fmaps=shapes[0][1]), input_size


def check_fits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors are those of a network, whole and finite.

    Parameters
    ----------
    state, expected
        Tensors by name: those of the file, and those of the network that it is said to hold.
    path
        The file they come from, for messages.

    Raises
    ------
    InputError
        If they are not.
    """
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


def _pooling(
    state: Mapping[str, Tensor], channels: int, n_stages: int, path: Path
) -> tuple[tuple[Triple, ...], Triple | None]:
    """Tell pooling and input size by how many voxels are left of the input."""
    isotropic = downsampling_factors("isotropic", n_stages)
    anisotropic = downsampling_factors("anisotropic", n_stages)
    classifier = state.get("classifier.0.weight")
    if classifier is None:
        return isotropic, None
    n_inputs = classifier.shape[-1] if classifier.ndim == 2 else 0
    z, y, x = (
        size / factor
        for size, factor in zip(_ANISOTROPIC_INPUT, total_downsampling(anisotropic), strict=True)
    )
    if n_inputs == z * y * x * channels:
        return anisotropic, _ANISOTROPIC_INPUT
    side = round((n_inputs / channels) ** (1 / 3))
    if side and side**3 * channels == n_inputs:
        length = side * total_downsampling(isotropic)[0]
        return isotropic, (length, length, length)
    raise InputError(
        f"{path}: its classifier takes {n_inputs} features, which fits neither a cube nor the "
        "16 × 160 × 160 of the anisotropic VGG3D, so its pooling cannot be told"
    )


def _what_it_is(state: Mapping[str, Tensor]) -> str:
    """Name what a state dict without 3D convolutions in place may be."""
    dimensions = {tensor.ndim for tensor in state.values()}
    if 4 in dimensions and 5 not in dimensions:
        return "a network for 2D images: "
    if 2 in dimensions and max(dimensions) == 2:
        return "linear layers alone, as of a projection head: "
    return ""


def _some_names(state: Mapping[str, Tensor]) -> str:
    names = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(state.items())[:3]]
    return ", ".join(names) + (" …" if len(state) > 3 else "") if names else "no tensors"


def _and_more(problems: list[str]) -> str:
    return f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
