"""File ▸ Open Sample: the synthetic EM volume and its synapses as layers, drawn once and kept."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl import __version__
from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.synapses import AXES
from napari_synapse_cl.system.environment import cache_folder
from napari_synapse_cl.system.files import replacing

if TYPE_CHECKING:
    from napari_synapse_cl.data.sample.volume import Sample

CLASS_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Told apart by people who are colour-blind too (Okabe and Ito)."""
POINT_STYLE = {
    "border_color": "white",
    # In voxels, about that of a synapse; in a thick slice it is as wide as it is there.
    "size": 14,
    "projection_mode": "rescale_spherical",
    "opacity": 0.6,
}
"""How synapses are drawn."""

LayerTuple = tuple[Any, dict[str, Any], str]

CACHE = cache_folder()
"""Where it is kept; None where there is no place for it."""


def open_sample() -> list[LayerTuple]:
    """Return the sample as an Image layer and a Points layer, both in nanometres."""
    sample = cached_sample()
    return sample_layers(sample.image, sample.synapses, sample.voxel_size)


def sample_layers(
    image: Any, synapses: pd.DataFrame, voxel_size: tuple[float, float, float]
) -> list[LayerTuple]:
    """Return a volume and its synapses as layer data for napari.

    Parameters
    ----------
    image
        ``(Z, Y, X)`` grey values.
    synapses
        Columns z, y, x in voxels, and class.
    voxel_size
        Voxel size along z, y, x in nm.
    """
    geometry = {"scale": voxel_size, "units": ("nm",) * 3, "axis_labels": AXES}
    classes = synapses["class"].astype("category")
    points = {
        "name": "Synapses",
        "features": pd.DataFrame({"class": classes}),
        "face_color": "class",
        "face_color_cycle": list(CLASS_COLORS),
        **POINT_STYLE,
        **geometry,
    }
    return [
        (image, {"name": "EM sample", **geometry}, "image"),
        (synapses[list(AXES)].to_numpy(float), points, "points"),
    ]


def cached_sample(seed: int = 0) -> Sample:
    """Return the sample volume, read from the cache where it was drawn before.

    A file that is damaged is drawn anew. Where the cache cannot be written, nothing is kept.

    Parameters
    ----------
    seed
        Determines the sample, with the version of this package.
    """
    # Drawing it takes SciPy's slower parts, which nobody needs before.
    from napari_synapse_cl.data.sample.volume import make_sample

    if CACHE is None:
        return make_sample(seed)
    file = CACHE / f"sample-{__version__}-{seed}.npz"
    # np.load raises a wide range of types on a damaged file.
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _read(file)
    sample = make_sample(seed)
    with suppress(OSError):
        CACHE.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            _write(temporary, sample)
    return sample


def _read(file: Path) -> Sample:
    from napari_synapse_cl.data.sample.volume import VOXEL_SIZE, Sample

    # Opened here, since np.load leaves a damaged file open.
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
        table = pd.DataFrame(content["positions"], columns=AXES)
        table = table.assign(**{"class": content["classes"].tolist()})
        return Sample(content["image"], table, VOXEL_SIZE)


def _write(file: Path, sample: Sample) -> None:
    np.savez(
        file,
        image=sample.image,
        positions=sample.synapses[list(AXES)].to_numpy(),
        classes=sample.synapses["class"].to_numpy(str),
    )
