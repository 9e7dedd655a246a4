"""Annotations of neuroglancer: those of a layer, or a whole state with its layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.tables.neuroglancer_space import AnnotationSpace
from napari_synapse_cl.data.tables.typed import from_cells
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.documents import read_json

VOXEL_SIZE = "neuroglancer_voxel_size"
"""Under which the attributes of a table say what its positions count in, z, y, x in nm."""

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
        annotation without one place, such as a polyline, has no position. Positions are in voxels
        the first of which has its centre at 0, while in neuroglancer it is at 0.5. What they count
        in is in ``attrs[VOXEL_SIZE]``, if the file says it.

    Raises
    ------
    InputError
        If there are no annotations, it is not clear which layer is meant, or where they lie.
    """
    content = read_json(path)
    state = content if isinstance(content, dict) else {}
    layer = {"annotations": content} if isinstance(content, list) else state
    if "layers" in state:
        layer = _choose(state["layers"], layer_name, path)
    annotations = layer.get("annotations")
    if not annotations or not all(isinstance(item, dict) for item in annotations):
        raise InputError(f"{path} holds no annotations of neuroglancer")
    space = AnnotationSpace(layer, state.get("dimensions"), path)
    properties = [str(p.get("id")) for p in layer.get("annotationProperties", ())]
    table = from_cells(_row(item, space, properties) for item in annotations)
    if space.voxel_size:
        table.attrs[VOXEL_SIZE] = space.voxel_size
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


def _row(item: dict[str, Any], space: AnnotationSpace, properties: list[str]) -> dict[str, Any]:
    """Return an annotation as a row of the table."""
    kind = item.get("type", "point")
    names = _CENTRES.get(kind, ())
    points = [space.centred(item[name]) for name in names]
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
