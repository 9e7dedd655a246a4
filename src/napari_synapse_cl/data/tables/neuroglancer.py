"""Annotations of neuroglancer: those of a layer, or a whole state with its layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.tables.reading import VoxelSize
from napari_synapse_cl.data.tables.typed import from_cells
from napari_synapse_cl.errors import InputError

VOXEL_SIZE = "neuroglancer_voxel_size"
"""Under which the attributes of a table say what its positions count in, z, y, x in nm."""

_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "nm": 1e-9}
_ENDS = ("pointA", "pointB")
_CENTRES = {"point": ("point",), "ellipsoid": ("center",)} | dict.fromkeys(
    ("line", "axis_aligned_bounding_box"), _ENDS
)
"""Of which coordinates of an annotation its position is the mean, by its type."""


def read_annotations(path: Path, layer_name: str | None) -> pd.DataFrame:
    """Read annotations as a table.

    Parameters
    ----------
    path
        A JSON file: a list of annotations, a layer that has one, or a state with layers.
    layer_name
        Name of the layer; needed where several have annotations.

    Returns
    -------
    pandas.DataFrame
        A row each, with columns x, y, z, of lines also pointA_x to pointB_z, and a column for
        everything else that annotations hold, as JSON where that is no number or text. An
        annotation without one place, such as a polyline, has no position. What the positions
        count in is in ``attrs[VOXEL_SIZE]``, if the file says it.

    Raises
    ------
    InputError
        If there are no annotations, or it is not clear which layer is meant.
    """
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    state = content if isinstance(content, dict) else {}
    layer = {"annotations": content} if isinstance(content, list) else state
    if "layers" in state:
        layer = _choose(state["layers"], layer_name, path)
    annotations = layer.get("annotations")
    if not annotations or not all(isinstance(item, dict) for item in annotations):
        raise InputError(f"{path} holds no annotations of neuroglancer")
    dimensions = _dimensions(layer, path) or state.get("dimensions") or {}
    axes = _axes(dimensions, path)
    properties = [str(p.get("id")) for p in layer.get("annotationProperties", ())]
    table = from_cells(_row(item, axes, properties) for item in annotations)
    voxel_size = _voxel_size(list(dimensions.values()), axes)
    if voxel_size:
        table.attrs[VOXEL_SIZE] = voxel_size
    return table


def _choose(layers: Any, name: str | None, path: Path) -> dict[str, Any]:
    """Return the layer of that name, or the only one with annotations."""
    if isinstance(layers, dict):
        layers = [{"name": key, **layer} for key, layer in layers.items()]
    found = {str(layer.get("name")): layer for layer in layers if layer.get("annotations")}
    names = ", ".join(found)
    if not found:
        raise InputError(
            f"{path} has no layer that holds annotations itself; save those that lie elsewhere "
            "as a table"
        )
    if name is None and len(found) > 1:
        raise InputError(
            f"{path} has several layers of annotations: {names}; name one behind the file, as in "
            f"{path.name}#{next(iter(found))}"
        )
    if name is not None and name not in found:
        raise InputError(f"{path} has no layer of annotations {name}; it has {names}")
    return found[next(iter(found)) if name is None else name]


def _dimensions(layer: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """Return the dimensions that the source of a layer says its annotations have."""
    sources = layer.get("source")
    for source in sources if isinstance(sources, list) else [sources]:
        transform = source.get("transform") if isinstance(source, dict) else None
        if transform and transform.get("outputDimensions"):
            matrix = np.array(transform.get("matrix", np.eye(1, 2)), dtype=float)
            if not np.array_equal(matrix, np.eye(*matrix.shape)):
                raise InputError(
                    f"{path} moves or turns its annotations by a matrix, which is not followed: "
                    "save them as a table"
                )
            return transform["outputDimensions"]
    return None


def _axes(dimensions: dict[str, Any], path: Path) -> tuple[int, int, int]:
    """Return which of an annotation's coordinates are x, y and z."""
    names = list(dimensions)
    if set("xyz") <= set(names):
        return (names.index("x"), names.index("y"), names.index("z"))
    if len(names) not in (0, 3):
        raise InputError(
            f"the annotations in {path} have the dimensions {', '.join(names)}; x, y, z are needed"
        )
    return (0, 1, 2)


def _voxel_size(scales: Sequence[Any], axes: tuple[int, int, int]) -> VoxelSize | None:
    if not scales:
        return None
    lengths = [scales[axis] for axis in reversed(axes)]
    if not all(unit in _METRES for _, unit in lengths):
        return None
    # 8e-9 m are 8.000000000000002 nm.
    z, y, x = (float(f"{scale * _METRES[unit] * 1e9:.9g}") for scale, unit in lengths)
    return (z, y, x)


def _row(item: dict[str, Any], axes: tuple[int, int, int], properties: list[str]) -> dict[str, Any]:
    """Return an annotation as a row of the table."""
    kind = item.get("type", "point")
    names = _CENTRES.get(kind, ())
    points = [[float(item[name][axis]) for axis in axes] for name in names]
    centre = np.mean(points, axis=0) if points else np.full(3, np.nan)
    row: dict[str, Any] = {"id": item.get("id"), "type": kind, **_coordinates("{}", centre)}
    rest = {key: value for key, value in item.items() if key not in {"id", "type", "props"}}
    if kind == "line":
        for name, point in zip(_ENDS, points, strict=True):
            row |= _coordinates(f"{name}_{{}}", point)
    if kind != "axis_aligned_bounding_box":
        rest = {key: value for key, value in rest.items() if key not in names}
    for number, value in enumerate(item.get("props", ())):
        name = properties[number] if number < len(properties) else f"props_{number}"
        row[name if name not in row else f"props_{number}"] = value
    for key, value in rest.items():
        row.setdefault(key, json.dumps(value) if isinstance(value, list | dict) else value)
    return row


def _coordinates(template: str, point: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {template.format(axis): float(value) for axis, value in zip("xyz", point, strict=True)}
