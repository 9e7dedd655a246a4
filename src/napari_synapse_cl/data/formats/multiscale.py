"""Which level of a multiscale volume to open, and how its voxels lie in the finest one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_synapse_cl.data.formats.places import (
    NO_UNIT,
    UNIT_FACTOR,
    Voxel,
    rounded,
    size_in_nm,
    three_numbers,
)
from napari_synapse_cl.system.words import VoxelSize, triple

TOLERANCE = 1.01


@dataclass(frozen=True)
class Level:
    """A level of a multiscale volume."""

    path: str
    """Of its array in the group."""
    scale: VoxelSize | None = None
    """Voxel size along z, y, x in the unit of the file, or None where it is not known."""
    voxel_size: VoxelSize | None = None
    """The same in nm, or None where the unit is not known."""
    corner: Sequence[float] | None = None
    """Coordinates of its first voxel in its voxels, or None."""
    centre: Sequence[float] | None = None
    """The same of the first voxel's centre, where that is told in the place of the corner: the
    centre of a coarse voxel lies between those of the fine ones that it is made of."""
    note: str = ""
    """What to say of its voxel size, after the name of the volume."""


def chosen(levels: Sequence[Level], wanted: Sequence[float] | None) -> Level:
    """Return the coarsest level that is not coarser than what is wanted, else the finest.

    Parameters
    ----------
    levels
        At least one.
    wanted
        Voxel size along z, y, x in nm.
    """
    finest = _finest(levels)
    if wanted is None:
        return finest
    fine = [level for level in levels if _is_fine(level, wanted)]
    return max(fine, key=_volume) if fine else finest


def factor_of(level: Level, levels: Sequence[Level]) -> VoxelSize:
    """Return how many voxels of the finest level make one of a level along z, y, x."""
    finest = _finest(levels).scale
    if level.scale is None or finest is None:
        return UNIT_FACTOR
    return triple(have / fine for have, fine in zip(level.scale, finest, strict=True))


def offset_of(level: Level, factor: VoxelSize) -> Voxel:
    """Return the coordinates of the first voxel of a level in its voxels."""
    if level.corner is not None:
        return rounded(level.corner)
    if level.centre is None:
        return (0, 0, 0)
    shift = [(f - 1) / (2 * f) for f in factor]
    return rounded([place - half for place, half in zip(level.centre, shift, strict=True)])


def ome_multiscales(attributes: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first multiscale image in the attributes of a group, or None (OME-NGFF)."""
    # 0.5 keeps them in a part of its own.
    within = attributes.get("ome")
    found = (within if isinstance(within, dict) else attributes).get("multiscales")
    if isinstance(found, list) and found and isinstance(found[0], dict):
        datasets = found[0].get("datasets")
        if not isinstance(datasets, list) or not datasets:
            return None
        if all(isinstance(dataset, dict) and "path" in dataset for dataset in datasets):
            return found[0]
    return None


def axis_names(multiscales: dict[str, Any]) -> list[str | None]:
    """Return the names of axes; those of the spatial ones, in order, become z, y, x."""
    axes = _axes(multiscales)
    names: list[str | None] = [str(axis.get("name")).lower() for axis in axes]
    space = [i for i, axis in enumerate(axes) if axis.get("type") == "space"]
    if len(space) == 3 and {names[i] for i in space} != set("zyx"):
        for i, name in zip(space, "zyx", strict=True):
            names[i] = name
    return names


def _axes(multiscales: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the axes; version 0.3 has their names alone."""
    axes = multiscales.get("axes") or []
    return [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]


def ome_levels(multiscales: dict[str, Any]) -> list[Level]:
    """Return the levels of an OME-Zarr image of version 0.1 to 0.5."""
    names = axis_names(multiscales)
    if any(names.count(name) > 1 for name in names):
        names = []
    along = [names.index(name) for name in "zyx"] if set("zyx") <= set(names) else []
    units = [axis.get("unit") for axis in _axes(multiscales)]
    outer = multiscales.get("coordinateTransformations")
    levels = []
    for dataset in multiscales["datasets"]:
        path = level_path(dataset)
        told = transformed(path, dataset.get("transform"))
        if told is not None:
            levels.append(told)
            continue
        scale, shift = _composed(dataset.get("coordinateTransformations"), outer, len(names))
        if scale is None or not along:
            levels.append(Level(path))
            continue
        sizes = three_numbers([scale[axis] for axis in along])
        if sizes is None or min(sizes) <= 0:
            levels.append(Level(path))
            continue
        centre = [shift[axis] / scale[axis] for axis in along]
        size = size_in_nm(sizes, [units[axis] for axis in along])
        levels.append(Level(path, sizes, size, centre=centre, note="" if size else NO_UNIT))
    return levels


def level_path(dataset: dict[str, Any]) -> str:
    """Return the path of a level in its group.

    Raises
    ------
    ValueError
        If it leads out of the group.
    """
    path = str(dataset["path"]).strip("/")
    if ".." in path.replace("\\", "/").split("/"):
        raise ValueError(f"its metadata name a level {path}, which lies outside of it")
    return path


def transformed(path: str, transform: Any) -> Level | None:
    """Return a level by what OpenOrganelle writes of it, or None (xarray-multiscale).

    Parameters
    ----------
    path
        Of the level in its group.
    transform
        Scale, translation and units by axes that are named.
    """
    if not isinstance(transform, dict):
        return None
    axes = [str(axis).lower() for axis in transform.get("axes", "zyx")]
    if sorted(axes) != ["x", "y", "z"]:
        return None
    order = [axes.index(axis) for axis in "zyx"]
    parts = [three_numbers(transform.get(name)) for name in ("scale", "translate")]
    scale, shift = (None if part is None else [part[i] for i in order] for part in parts)
    if scale is None or min(scale) <= 0:
        return None
    units = transform.get("units")
    if isinstance(units, list) and len(units) == 3:
        units = [units[i] for i in order]
    z, y, x = scale
    centre = [a / b for a, b in zip(shift or (0.0, 0.0, 0.0), scale, strict=True)]
    size = size_in_nm(scale, units)
    return Level(path, (z, y, x), size, centre=centre, note="" if size else NO_UNIT)


def _composed(inner: Any, outer: Any, n_axes: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Return scale and translation of both lists of transformations, one after the other."""
    scale, shift, has_scale = np.ones(n_axes), np.zeros(n_axes), False
    for step in [*_steps(inner), *_steps(outer)]:
        kind = step.get("type")
        values = np.asarray(step.get(kind, ()), dtype=float) if kind in STEPS else None
        if kind == "identity":
            continue
        if values is None or values.shape != (n_axes,):
            return None, shift
        if kind == "scale":
            scale, shift, has_scale = scale * values, shift * values, True
        else:
            shift = shift + values
    return (scale if has_scale else None), shift


STEPS = ("scale", "translation")


def _steps(transformations: Any) -> list[dict[str, Any]]:
    steps = transformations if isinstance(transformations, list) else []
    return [step for step in steps if isinstance(step, dict)]


def _finest(levels: Sequence[Level]) -> Level:
    known = [level for level in levels if level.scale is not None]
    return min(known, key=_volume) if known else levels[0]


def _is_fine(level: Level, wanted: Sequence[float]) -> bool:
    sizes = level.voxel_size
    return sizes is not None and bool((np.array(sizes) <= TOLERANCE * np.asarray(wanted)).all())


def _volume(level: Level) -> float:
    return float(np.prod(level.scale)) if level.scale is not None else 0.0
