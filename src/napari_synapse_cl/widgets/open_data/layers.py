"""File ▸ Open Sample: the synthetic EM volume and its synapses as layers, drawn once and kept."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_synapse_cl import __version__
from napari_synapse_cl.config import absolute
from napari_synapse_cl.data.arrays import Array3D, whole_key
from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.placing import Placed
from napari_synapse_cl.data.volumes import AlignedLabels, Volume
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.environment import cache_folder
from napari_synapse_cl.system.files import replacing
from napari_synapse_cl.system.words import counted, size, triple
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, RECIPE, plain, with_partners
from napari_synapse_cl.widgets.layers.voxels import LOCATION, ROLES, VOLUME_KEY
from napari_synapse_cl.widgets.open_data.jobs import Opened

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
    """Return the sample as an Image layer and a Points layer, both in nanometres.

    It says that a quick look suits it.
    """
    sample = cached_sample()
    image, points = sample_layers(sample.image, sample.synapses, sample.voxel_size)
    image[1]["metadata"] = {METADATA_KEY: {RECIPE: "quick"}}
    return [image, points]


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
        "metadata": _opened_with("EM sample", None),
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


LABEL_OPACITY = 0.3
"""The tissue shows through."""
LAYER_NAMES = {"labels": "structures", "segmentation": "cells"}


class LevelArray:
    """An array of which a box, taken with slices alone, is read when it is asked for its values.

    napari cuts what is in sight out of a level along two axes, and then takes a slice of that. Read
    at once, the first would be all slices of the volume.

    Parameters
    ----------
    array
        ``(Z, Y, X)``.
    along
        The box in it, as the indices along z, y, x; without it the whole array.
    """

    ndim = 3

    def __init__(self, array: Array3D, along: Sequence[range] | None = None) -> None:
        self._array = array
        self._along = tuple(along or (range(n) for n in array.shape))
        self.dtype = array.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size along z, y, x."""
        return triple(len(indices) for indices in self._along)

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    def __getitem__(self, key: Any) -> Self | np.ndarray:
        """Return a box, unread, or read the slice, row or voxel that integers name."""
        keys = whole_key(key, self.ndim)
        chosen = [indices[k] for indices, k in zip(self._along, keys, strict=True)]
        if all(isinstance(indices, range) for indices in chosen):
            return type(self)(self._array, chosen)
        return np.asarray(self._array[tuple(map(_key, chosen))])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._array[tuple(map(_key, self._along))], dtype)


def _key(chosen: range | int) -> slice | int:
    if isinstance(chosen, int):
        return chosen
    if chosen.step < 0:
        raise IndexError("a volume can be read forwards alone")
    return slice(chosen.start, max(chosen.start, chosen.stop), chosen.step)


def layers_of(opened: Opened) -> dict[str, LayerTuple]:
    """Return layer data by what they are: image, labels, segmentation, synapses, in this order.

    Voxels lie where the coordinates of their file say: voxel 0 of the finest level has its centre
    at 0, so that levels and volumes of one specimen lie over each other.
    """
    part = opened.part
    geometry = _geometry(opened)
    name = part.name
    image = {
        "name": name,
        "contrast_limits": opened.window,
        "rgb": False,
        **_whence(part.volume),
        **geometry,
    }
    layers: dict[str, LayerTuple] = {"image": (*_data(opened.levels, image), "image")}
    for kind, aligned in (("labels", part.labels), ("segmentation", part.segmentation)):
        if aligned is not None:
            keywords: dict[str, Any] = {
                "name": f"{name} · {LAYER_NAMES[kind]}",
                "opacity": LABEL_OPACITY,
                **_whence(aligned.volume),
                **_over(aligned, geometry),
            }
            if kind == "labels" and opened.roles:
                keywords["metadata"][METADATA_KEY][ROLES] = list(opened.roles)
            layers[kind] = (*_data(opened.label_levels[kind], keywords), "labels")
    if opened.placed is not None:
        layers["synapses"] = _points(opened.placed, name, geometry)
        layers["synapses"][1]["metadata"] = _opened_with(name, part.volume.location)
    return layers


def in_words(opened: Opened) -> list[tuple[str, Level]]:
    """Say what was read, and what of it needs attention."""
    part, volume = opened.part, opened.part.volume
    if part.voxel_size is None:
        sized = "voxel size not known"
    else:
        whence = "as given" if opened.is_size_given else "as its file says"
        sized = f"voxels of {size(part.voxel_size)} nm, {whence}"
    text = f"{part.name}: {size(volume.shape)} voxels of {volume.array.dtype}; {sized}"
    if any(volume.offset):
        text += f"; first voxel at z, y, x = {', '.join(map(str, volume.offset))}"
    if len(opened.levels) > 1:
        text += f"; {counted(len(opened.levels), 'level')}"
    said: list[tuple[str, Level]] = [(text, "info")]
    for kind, levels in opened.label_levels.items():
        labels = levels[0]
        held = f"{size(labels.shape)} voxels of {labels.array.dtype}"
        said.append((f"{LAYER_NAMES[kind].capitalize()} in {labels.name}: {held}", "info"))
    said += part.messages
    return [*said, *(opened.placed.messages if opened.placed is not None else ())]


def _geometry(opened: Opened) -> dict[str, Any]:
    volume, voxel_size = opened.part.volume, opened.part.voxel_size
    scale = np.array(volume.factor if voxel_size is None else voxel_size, dtype=float)
    first = np.array(volume.offset) + 0.5 - 0.5 / np.array(volume.factor)
    geometry: dict[str, Any] = {"scale": scale, "translate": first * scale, "axis_labels": AXES}
    return geometry if voxel_size is None else {**geometry, "units": ("nm",) * 3}


def _over(labels: AlignedLabels, geometry: dict[str, Any]) -> dict[str, Any]:
    """Return where labels lie over an image, as its voxels and theirs share their faces."""
    scale = geometry["scale"] / labels.scale
    first = (0.5 - labels.start) / labels.scale - 0.5
    return {
        **geometry,
        "scale": scale,
        "translate": geometry["translate"] + first * geometry["scale"],
    }


def _whence(volume: Volume) -> dict[str, Any]:
    assert volume.location is not None
    return {"metadata": {METADATA_KEY: {LOCATION: absolute(volume.location)}}}


def _opened_with(name: str, location: str | None) -> dict[str, Any]:
    """Return the metadata of points that know their volume."""
    return {VOLUME_KEY: {"name": name, LOCATION: None if location is None else absolute(location)}}


def _data(levels: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if len(levels) == 1:
        return levels[0].array, {**keywords, "multiscale": False}
    return [LevelArray(level.array) for level in levels], {**keywords, "multiscale": True}


def _points(placed: Placed, name: str, geometry: dict[str, Any]) -> LayerTuple:
    has_position = np.isfinite(placed.voxels).all(axis=1)
    features = with_partners(plain(placed.table.drop(columns=list(AXES))), placed.partners)
    keywords = {
        "name": f"{name} · synapses",
        "features": features[has_position].reset_index(drop=True),
        "face_color": "#e69f00",
        **POINT_STYLE,
        **geometry,
    }
    return placed.voxels[has_position], keywords, "points"
