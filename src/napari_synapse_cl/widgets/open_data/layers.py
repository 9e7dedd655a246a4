"""Volumes, labels and synapses as layers of napari, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from napari_synapse_cl.config import absolute
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.arrays import Array3D, whole_key
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.placing import Placed
from napari_synapse_cl.data.volumes import AlignedLabels, Volume
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.words import VoxelSize, counted, size, triple
from napari_synapse_cl.widgets.layers.features import (
    METADATA_KEY,
    VOLUME_KEY,
    plain,
    with_partners,
)
from napari_synapse_cl.widgets.layers.voxels import (
    LOCATION,
    OPENED_AS,
    ROLES,
    in_world,
)
from napari_synapse_cl.widgets.open_data.jobs import IN_SIGHT, Opened

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

LABEL_OPACITY = 0.3
"""The tissue shows through."""
LAYER_NAMES = {"labels": "structures", "segmentation": "cells"}

LayerTuple = tuple[Any, dict[str, Any], str]


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
        **_whence(part.volume, opened.asked["image"]),
        **geometry,
    }
    layers: dict[str, LayerTuple] = {"image": (*layer_data(opened.levels, image), "image")}
    for kind, aligned in (("labels", part.labels), ("segmentation", part.segmentation)):
        if aligned is not None:
            keywords: dict[str, Any] = {
                "name": f"{name} · {LAYER_NAMES[kind]}",
                "opacity": LABEL_OPACITY,
                **_whence(aligned.volume, opened.asked[kind]),
                **_over(aligned, geometry),
            }
            if kind == "labels" and opened.roles:
                keywords["metadata"][METADATA_KEY][ROLES] = list(opened.roles)
            layers[kind] = (*layer_data(opened.label_levels[kind], keywords), "labels")
    if opened.placed is not None:
        layers["synapses"] = _points(opened.placed, name, geometry)
        layers["synapses"][1]["metadata"] = _opened_with(name, part.volume.location)
    return layers


def with_size(opened: Opened, voxel_size: VoxelSize) -> Opened:
    """Return what was opened as if its file had said this voxel size of its finest level."""
    sized = triple(np.array(voxel_size) * np.array(opened.part.volume.factor))
    return replace(opened, part=replace(opened.part, voxel_size=sized), is_size_given=True)


def place_anew(layers: Mapping[str, Any], opened: Opened) -> None:
    """Put layers where they lie now that the voxel size is known.

    Parameters
    ----------
    layers
        Those of :func:`layers_of`, by the same names.
    """
    for name, (_, keywords, _) in layers_of(opened).items():
        for attribute in ("scale", "translate", "units"):
            setattr(layers[name], attribute, keywords[attribute])


def show_place(viewer: Any, image: Any, voxel: Sequence[float], *, closely: bool) -> None:
    """Look at a place in a volume.

    Parameters
    ----------
    image
        A 3D layer.
    voxel
        z, y, x in it.
    closely
        Whether to look at what lies around the place alone, where the volume is larger than that.
    """
    world = in_world(image, voxel, viewer.dims.units)
    ndim = viewer.dims.ndim
    viewer.dims.set_point(range(ndim - 3, ndim), world)
    viewer.fit_to_view(layers=[image])
    shown = [axis - ndim for axis in viewer.dims.displayed]
    shape = (image.data[0] if image.multiscale else image.data).shape
    closer = min(shape[axis] for axis in shown) / IN_SIGHT
    if closely and closer > 1 and viewer.dims.ndisplay == 2:
        camera = viewer.scene.camera
        camera.zoom *= closer
        camera.center = (camera.center[0], *(world[axis] for axis in shown))


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


def _whence(volume: Volume, asked: str | None) -> dict[str, Any]:
    assert volume.location is not None
    told = {LOCATION: absolute(volume.location)}
    if asked is not None and absolute(asked) != told[LOCATION]:
        told[OPENED_AS] = absolute(asked)
    return {"metadata": {METADATA_KEY: told}}


def _opened_with(name: str, location: str | None) -> dict[str, Any]:
    """Return the metadata of points that know their volume."""
    return {VOLUME_KEY: {"name": name, LOCATION: None if location is None else absolute(location)}}


def layer_data(levels: Sequence[Volume], keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the data of a layer of some levels, the finest first, and its keywords."""
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
